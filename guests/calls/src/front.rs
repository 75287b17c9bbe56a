//! Who calls.

use handover_guest::{
    Boot, Channel, Error, PartitionId, Region, ServiceId, Short, Status,
    abi::{Call, CounterNumber},
    hvc, println, signals,
};

use crate::{lending, order};

/// Calls of each kind.
const ROUNDS: u64 = 300;
/// Nanoseconds that a call may take where it is to take too long. A busy host must have got the call to the server by then.
const PATIENCE: u64 = 50_000_000;

pub(crate) fn run(boot: &Boot) -> Result<Status, Error> {
    let (Some(middle), Some(back)) = (boot.service("middle"), boot.service("second")) else {
        println!(
            "calls: the device tree lists no services \"middle\" and \"second\"; add them to the manifest"
        );
        return Ok(Status::FAILURE);
    };
    let mut middle = Channel::connect(middle)?;
    let mut back = Channel::connect(back)?;
    let mut well = true;
    let mut tell = |name: &str, result: Result<(), Error>| {
        well &= result.is_ok();
        println!("calls: {name} {result:?}");
    };
    tell("turned", exchange(&mut back, order::TURN));
    tell("forwarded", exchange(&mut middle, order::FORWARD));
    tell("asked for", exchange(&mut middle, order::ASK));
    tell("bounced", bounced([&mut back, &mut middle]));
    tell("to itself", to_itself());
    tell("late", late(&mut back));
    tell("lent", lending::lend(&mut back, order::SUM));
    tell("lent on", lending::lend(&mut middle, order::FORWARD_SUM));
    tell("lent too long", lending::lend_too_long(&mut back, PATIENCE));
    tell("turned again", exchange(&mut back, order::TURN));
    tell("lent to one that ends", lending::lend_to_one_that_ends(&mut back));
    tell("ended", ended(&mut back));
    tell("forwarded after that", exchange(&mut middle, order::FORWARD));
    println!("calls: {}", if well { "all ok" } else { "FAILED" });
    Ok(if well { Status::SUCCESS } else { Status::FAILURE })
}

/// Messages of all lengths, every third with a region, of 4 KiB and 2 MiB by turns; what comes back must be what was sent, turned over.
fn exchange(channel: &mut Channel, what: u8) -> Result<(), Error> {
    for round in 0..ROUNDS {
        let mut bytes = [0; 128];
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = (round as u8).wrapping_mul(7).wrapping_add(at as u8);
        }
        bytes[0] = what;
        let length = 1 + round as usize % 128;
        let mut short = Short::new(&bytes[..length])?;
        let region = match round % 3 {
            0 => {
                let mut region = Region::create(if round % 2 == 0 { 4 << 10 } else { 2 << 20 })?;
                *region.first_word_mut() = round;
                Some(region)
            }
            _ => None,
        };
        let size = region.as_ref().map(Region::size);
        let answer = channel.call(region, &mut short)?;
        let same = short.len() == length && short.iter().zip(bytes).all(|(got, sent)| *got == !sent);
        let turned = answer.as_ref().is_none_or(|region| region.first_word() == !round);
        if !same || !turned || answer.as_ref().map(Region::size) != size {
            println!("calls: round {round} of {what}: {short:?}, {answer:?}");
            return Err(Error::BadAddress);
        }
    }
    Ok(())
}

/// Two regions go round and round, by one channel and crosswise by both: each comes back whole, and neither where the other is. The place of one that goes is
/// the next one's, of which the control OS need not be told each time.
fn bounced(mut channels: [&mut Channel; 2]) -> Result<(), Error> {
    let told =
        || hvc::counters_read(None, None, CounterNumber::Calls(Call::CallSetup)).map(|[count, ..]| count);
    let mut bounce = |channel: usize, mut region: Region, seed: u64| {
        let end = region.len() - 8;
        region[end..].copy_from_slice(&seed.to_le_bytes());
        *region.first_word_mut() = seed;
        let region = channels[channel].call(Some(region), &mut Short::from(&[order::TURN]))?;
        let region = region.ok_or(Error::BadHandle)?;
        let whole = region.first_word() == !seed && region[end..] == seed.to_le_bytes();
        if whole { Ok(region) } else { Err(Error::BadAddress) }
    };
    let mut first = bounce(0, Region::create(4 << 10)?, 1)?;
    let before = told()?;
    for round in 0..ROUNDS {
        first = bounce(0, first, round)?;
    }
    if told()? != before {
        return Err(Error::InUse);
    }
    let mut second = Region::create(2 << 20)?;
    for round in 0..ROUNDS {
        let channel = round as usize;
        first = bounce(channel & 1, first, round << 1)?;
        second = bounce(channel >> 1 & 1, second, round << 1 | 1)?;
        if first.address() == second.address() || first.first_word() != !(round << 1) {
            return Err(Error::BadAddress);
        }
    }
    Ok(())
}

/// This partition has one processor, so nobody could answer: it must be told, and not wait.
fn to_itself() -> Result<(), Error> {
    let own: PartitionId = hvc::identify()?.partition;
    let connecting = Channel::request(own, ServiceId::new(9))?;
    let mut there = loop {
        if let Some(signals::Signal::Connect(request)) = signals::next()? {
            break request.accept()?;
        }
    };
    let mut here = connecting.wait()?;
    let region = Region::create(4 << 10)?;
    for channel in [&mut here, &mut there] {
        match channel.call(None, &mut Short::from(b"anybody?")) {
            Err(error) if error.error == Error::Deadlock => {}
            other => return Err(other.map_or_else(|error| error.error, |_| Error::InUse)),
        }
    }
    match here.call(Some(region), &mut Short::EMPTY.clone()) {
        Err(error) if error.error == Error::Deadlock && error.region.is_some() => Ok(()),
        _ => Err(Error::Deadlock),
    }
}

/// The server is too slow for this caller's patience. What it has taken has no name here any more; what waited for it while it was busy comes back.
fn late(channel: &mut Channel) -> Result<(), Error> {
    channel.set_patience(PATIENCE)?;
    for round in 0..3 {
        let mut region = Region::create(4 << 10)?;
        *region.first_word_mut() = round;
        match channel.call(Some(region), &mut Short::from(&[order::LATE])) {
            Err(error) if error.error == Error::TimedOut => match error.region {
                None => {}
                // A busy host may have let the server take it after all, so that not each of these has to come back.
                Some(region) if round > 0 && region.first_word() == round => {}
                Some(_) => return Err(Error::WrongState),
            },
            other => return Err(other.map_or_else(|error| error.error, |_| Error::InUse)),
        }
    }
    channel.set_patience(0)
}

/// The server ends instead of answering.
fn ended(channel: &mut Channel) -> Result<(), Error> {
    for _ in 0..2 {
        match channel.call(None, &mut Short::from(&[order::END])) {
            Err(error) if error.error == Error::PeerClosed => {}
            other => return Err(other.map_or_else(|error| error.error, |_| Error::InUse)),
        }
    }
    Ok(())
}
