//! From a guest's send to this program's first byte.
//!
//! Each partition's counter has a zero of its own. How far the two are apart is found out by sleeping: guest and program wait until a
//! time of their own, and nothing else runs, so whose time comes first wakes first. Halving the difference finds the tick.

use std::{
    error::Error,
    fs,
    io::{self, ErrorKind, Read},
};

use handover_control::{Channel, Delivery, Listener, Machine, Message, Region, Service, ServiceId, Setup};
use handover_mark as mark;

use crate::{now, print};

const SERVICE: u32 = 1;
/// What the guest is asked: see `guests/sender`.
const TELL: u64 = 0;
const SEND: u64 = 1;
/// Far enough ahead that both are asleep by then: ticks.
const AHEAD: u64 = 5_000_000;
/// Samples that count, after as many that do not.
const SAMPLES: usize = 50;

pub fn run() -> Result<(), Box<dyn Error>> {
    let machine = Machine::open()?;
    let listener = Listener::listen_on(ServiceId::new(SERVICE))?;
    let mut setup = Setup::new("sender", 1, 16 << 20);
    setup.command_line = Some("measure".into());
    setup.uses.push(Service {
        name: "cost".into(),
        id: ServiceId::new(SERVICE),
        partition: machine.own()?.id(),
    });
    let guest = machine.create(&setup, &fs::read("/kernel/sender")?, None)?;
    guest.start()?;
    let (mut channel, _) = listener.accept()?;
    let offset = offset(&channel)?;
    report("sc_read_file_4k", || from_send(&channel, offset, 4 << 10))?;
    channel.set_delivery(Delivery::Mapping)?;
    report("sc_read_map_4k", || from_send(&channel, offset, 4 << 10))?;
    report("sc_read_map_2m", || from_send(&channel, offset, 2 << 20))?;
    drop(channel);
    guest.wait()?;
    Ok(())
}

/// The median of what is measured.
fn report(name: &str, mut sample: impl FnMut() -> io::Result<u64>) -> io::Result<()> {
    let samples: io::Result<Vec<u64>> = (0..2 * SAMPLES).map(|_| sample()).collect();
    let mut samples = samples?.split_off(SAMPLES);
    samples.sort_unstable();
    print(name, samples[SAMPLES / 2]);
    Ok(())
}

fn ask(channel: &Channel, what: u64, argument: u64) -> io::Result<()> {
    let words = [what.to_le_bytes(), argument.to_le_bytes()].concat();
    channel.send(&words[..]).map_err(io::Error::from)
}

fn answer(channel: &Channel) -> io::Result<Message> {
    channel.receive()?.ok_or(ErrorKind::UnexpectedEof.into())
}

/// The count that a message tells.
fn count(message: &Message) -> io::Result<u64> {
    let told = message.short.first_chunk().map(|count| u64::from_le_bytes(*count));
    told.ok_or(ErrorKind::InvalidData.into())
}

fn sleep_until(time: u64) -> io::Result<()> {
    let time =
        libc::timespec { tv_sec: (time / 1_000_000_000) as i64, tv_nsec: (time % 1_000_000_000) as i64 };
    // SAFETY: reads a time that lives as long as the call.
    let result = unsafe {
        libc::clock_nanosleep(
            libc::CLOCK_MONOTONIC,
            libc::TIMER_ABSTIME,
            &raw const time,
            std::ptr::null_mut(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(result)) }
}

/// How far this counter is ahead of the guest's.
fn offset(channel: &Channel) -> io::Result<u64> {
    let before = now();
    ask(channel, TELL, 0)?;
    let mut told = count(&answer(channel)?)?;
    // It is at least `least`, and less than `most`.
    let (mut least, mut most) = (before - told, now() - told + 1);
    while most - least > 1 {
        let middle = least + (most - least) / 2;
        let time = told + AHEAD;
        ask(channel, TELL, time)?;
        sleep_until(time + middle)?;
        channel.set_nonblocking(true)?;
        let first = channel.receive();
        channel.set_nonblocking(false)?;
        let message = match first {
            // The guest's time has come before: that is earlier than was thought.
            Ok(message) => {
                most = middle;
                message.ok_or(ErrorKind::UnexpectedEof)?
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                least = middle;
                answer(channel)?
            }
            Err(error) => return Err(error),
        };
        told = count(&message)?;
    }
    Ok(least)
}

/// Ticks from the guest's send of a region until its first byte was read here.
fn from_send(channel: &Channel, offset: u64, bytes: u64) -> io::Result<u64> {
    ask(channel, SEND, bytes)?;
    let message = answer(channel)?;
    let mut first = [0; 1];
    match &message.region {
        Some(Region::File(file)) => (&**file).read_exact(&mut first)?,
        // SAFETY: a byte of the region, which is there; it is read now, and not later.
        Some(Region::Mapped(region)) => first[0] = unsafe { region.as_ptr().read_volatile() },
        None => return Err(ErrorKind::InvalidData.into()),
    }
    let end = now();
    mark::end();
    if first != [1] {
        return Err(ErrorKind::InvalidData.into());
    }
    Ok(end - (count(&message)? + offset))
}
