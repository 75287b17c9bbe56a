//! The side that measures.

use core::mem;

use handover_guest::{
    Boot, Channel, Error, Region, Service, ServiceId, Short, Status, abi::layout::WINDOW_BASE,
    abi::layout::WINDOW_SIZE, abi::layout::WINDOW_SLOT, events, hvc, interrupts, println, signals, timer,
};

use crate::{
    bystanders, event, fault, interrupt,
    sample::{measure, measure_pair, report, sampled},
    shared, switch,
};

/// What makes a tick an instruction.
const FREQUENCY: u64 = 1_000_000_000;

pub(crate) fn run(boot: &Boot) -> Result<Status, Error> {
    if timer::frequency() != FREQUENCY {
        println!("warning: the counter runs at {} Hz; its ticks are not instructions", timer::frequency());
    }
    let Some(service) = boot.service("bench") else {
        println!("error: the device tree lists no service \"bench\"; add it to the manifest");
        return Ok(Status::FAILURE);
    };
    let alone = match boot.argument("measure") {
        None => true,
        Some("pair") => false,
        Some(other) => {
            println!("error: measure={other} is not pair");
            return Ok(Status::FAILURE);
        }
    };
    for _ in 0..bystanders(boot) {
        // Open until this partition ends.
        mem::forget(Channel::connect(service)?);
    }
    if alone {
        measure("null_call", (), |()| hvc::version().map(|_| ()))?;
    }
    let moved = messages(service, boot.argument("large").is_some())?;
    direct(service)?;
    // Half of two waits is a switch only if there is one processor.
    if alone {
        switch::run(Channel::connect(service)?)?;
        to_itself()?;
        create_and_destroy(["region_create_4k", "region_destroy_4k"], 4 << 10)?;
    }
    let ports = event::Ports::connect(service)?;
    shared::run(service, &ports, moved)?;
    event::run(ports)?;
    if alone {
        create_and_destroy(["region_create_2m", "region_destroy_2m"], 2 << 20)?;
        report("stage2_fault", fault::sample);
        interrupt::timer()?;
    }
    Ok(Status::SUCCESS)
}

/// Messages there and back; what that costs for a region of 4 KiB.
#[inline(never)]
fn messages(service: Service, large: bool) -> Result<u64, Error> {
    let mut channel = Channel::connect(service)?;
    while events::next()?.is_some() {}
    let mut short = Short::from_words(core::array::from_fn(|index| index as u64));
    measure("short_round_trip", (), |()| exchange(&mut channel, None, &mut short).map(|_| ()))?;
    let mut short = Short::EMPTY;
    let (_, moved) = sampled(Region::create(4 << 10)?, |region| echo(&mut channel, region, &mut short))?;
    for (name, size) in [("echo_4k", 4 << 10), ("echo_64k", 64 << 10), ("echo_2m", 2 << 20)] {
        measure(name, Region::create(size)?, |region| echo(&mut channel, region, &mut short))?;
    }
    measure("fresh_echo_2m", (), |()| {
        drop(echo(&mut channel, Region::create(2 << 20)?, &mut short)?);
        Ok(())
    })?;
    if large {
        measure("echo_64m", Region::create(64 << 20)?, |region| {
            channel.make_room(64 << 20)?;
            echo(&mut channel, region, &mut short)
        })?;
    }
    Ok(moved)
}

/// Sends a message and waits for the answer by WFI: its bytes in `short`, its region returned. Always inlined, as a program's only one would be.
#[inline(always)]
fn exchange(
    channel: &mut Channel,
    region: Option<Region>,
    short: &mut Short,
) -> Result<Option<Region>, Error> {
    channel.send_from(region, short)?;
    loop {
        interrupts::wait();
        match channel.receive_into(short) {
            Err(Error::WouldBlock) => {}
            answer => return answer,
        }
    }
}

/// Sends a region there and back, touching a word on each way.
#[inline(always)]
fn echo(channel: &mut Channel, mut region: Region, short: &mut Short) -> Result<Region, Error> {
    let sent = region.first_word().wrapping_add(1);
    *region.first_word_mut() = sent;
    let region = exchange(channel, Some(region), short)?.ok_or(Error::BadHandle)?;
    // A server that did not have the region could not have flipped the word.
    if region.first_word() == !sent { Ok(region) } else { Err(Error::BadAddress) }
}

/// The same by direct calls.
#[inline(never)]
fn direct(service: Service) -> Result<(), Error> {
    let mut channel = Channel::connect(service)?;
    let mut short = Short::from_words(core::array::from_fn(|index| index as u64));
    measure("direct_call", (), |()| {
        channel.call(None, &mut short)?;
        Ok(())
    })?;
    let mut short = Short::from(b"region");
    for (name, size) in [("direct_echo_4k", 4 << 10), ("direct_echo_2m", 2 << 20)] {
        measure(name, Region::create(size)?, |mut region| {
            let sent = region.first_word().wrapping_add(1);
            *region.first_word_mut() = sent;
            let region = channel.call(Some(region), &mut short)?.ok_or(Error::BadHandle)?;
            if region.first_word() == !sent { Ok(region) } else { Err(Error::BadAddress) }
        })?;
    }
    channel.call(None, &mut Short::EMPTY.clone())?;
    Ok(())
}

/// Sends a region through a channel to this partition itself, and receives it.
fn to_itself() -> Result<(), Error> {
    let service = ServiceId::new(u32::MAX);
    let connecting = Channel::request(hvc::identify()?.partition, service)?;
    let mut receiver = loop {
        match signals::next()? {
            Some(signals::Signal::Connect(request)) if request.service == service => {
                break request.accept()?;
            }
            Some(_) => {}
            None => return Err(Error::WouldBlock),
        }
    };
    let sender = connecting.wait()?;
    let mut short = Short::EMPTY;
    measure("send_receive", Region::create(2 << 20)?, |region| {
        sender.send(region)?;
        receiver.receive_into(&mut short)?.ok_or(Error::BadHandle)
    })?;
    Ok(())
}

/// Measures the calls alone, at a slot that the SDK leaves alone.
fn create_and_destroy(names: [&str; 2], size: u64) -> Result<(), Error> {
    let address = WINDOW_BASE + WINDOW_SIZE / 2 - WINDOW_SLOT;
    measure_pair(
        names,
        || hvc::region_create(size, address),
        |region| {
            // SAFETY: nothing refers into it.
            unsafe { hvc::region_destroy(region) }
        },
    )
}
