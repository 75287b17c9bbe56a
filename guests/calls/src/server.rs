//! Who is called.

use core::{sync::atomic::Ordering, time::Duration};

use handover_guest::{
    Boot, Channel, Error, Lent, Port, Region, Short, Status, calls, events, interrupts, println, signals,
    timer,
};

use crate::{lending, order};

pub(crate) fn run(boot: &Boot) -> Result<Status, Error> {
    let mut behind = match boot.service("back") {
        Some(service) => Some(Channel::connect(service)?),
        None => None,
    };
    let mut channels = [accept()?];
    let mut short = Short::EMPTY;
    loop {
        let Some(call) = calls::wait(&mut channels, &mut short)? else {
            while interrupts::take() {}
            while events::next()?.is_some() {}
            continue;
        };
        let done = match call.lent {
            Some(lent) => read(&mut behind, &lent, &mut short),
            None => answer(&mut behind, call.region, &mut short),
        };
        if let Err(error) = done {
            println!("calls: a reply comes to nothing: {error}");
        }
    }
}

/// Waits for the one client.
fn accept() -> Result<Channel, Error> {
    loop {
        while let Some(signal) = signals::next()? {
            if let signals::Signal::Connect(request) = signal {
                return request.accept();
            }
        }
        events::wait_for(Port::CONTROL)?;
    }
}

/// Answers what is asked of a region that is lent.
fn read(behind: &mut Option<Channel>, lent: &Lent<'_>, short: &mut Short) -> Result<(), Error> {
    match (short.first().copied(), behind) {
        (Some(order::FORWARD_SUM), Some(behind)) => calls::forward_lent(behind, lent, short),
        (Some(order::END), _) => handover_guest::end(Status(5)),
        (Some(order::OUTLIVE), _) => {
            // No load of it may fault, whenever it goes.
            let words = lent.words();
            let ends = [&words[0], &words[words.len() - 1]];
            while ends.iter().any(|word| word.load(Ordering::Relaxed) != 0) {
                core::hint::spin_loop();
            }
            println!("calls: zeroes have taken its place, at both ends of {} bytes", lent.size());
            Ok(calls::reply(None, short)?)
        }
        _ => {
            *short = Short::new(&lending::sum(lent).to_le_bytes())?;
            Ok(calls::reply(None, short)?)
        }
    }
}

fn answer(behind: &mut Option<Channel>, mut region: Option<Region>, short: &mut Short) -> Result<(), Error> {
    match (short.first().copied(), behind) {
        (Some(order::FORWARD), Some(behind)) => Ok(calls::forward(behind, region, short)?),
        (Some(order::ASK), Some(behind)) => {
            let region = behind.call(region, short)?;
            Ok(calls::reply(region, short)?)
        }
        (Some(order::END), _) => handover_guest::end(Status(5)),
        (first, _) => {
            if first == Some(order::LATE) {
                // Longer than a busy host leaves its guests alone, or the reply could overtake the end of the caller's patience.
                let until = timer::after(Duration::from_millis(200));
                while timer::now() < until {
                    core::hint::spin_loop();
                }
            }
            for byte in short.as_mut_bytes() {
                *byte = !*byte;
            }
            if let Some(region) = &mut region {
                let word = region.first_word_mut();
                *word = !*word;
            }
            Ok(calls::reply(region, short)?)
        }
    }
}
