//! Who is called.

use core::{ops::ControlFlow, sync::atomic::Ordering, time::Duration};

use handover_guest::{
    Boot, Channel, Error, Lent, Port, Region, Short, Status,
    calls::{self, Answer},
    events, interrupts, println, signals, timer,
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
        let served = calls::serve(&mut channels, &mut short, |call, short| match call.lent {
            Some(lent) => read(&mut behind, &lent, short),
            None => answer(&mut behind, call.region, short),
        });
        match served {
            Ok(ControlFlow::Break(Ok(()))) => {}
            Ok(ControlFlow::Break(Err(error))) => println!("calls: a reply comes to nothing: {error}"),
            Ok(ControlFlow::Continue(())) => {
                while interrupts::take() {}
                while events::next()?.is_some() {}
            }
            Err(error) => println!("calls: a reply comes to nothing: {}", error.error),
        }
    }
}

/// Goes on with an answer, or has given one, or failed to.
type Flow = ControlFlow<Result<(), Error>, Answer>;

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
fn read(behind: &mut Option<Channel>, lent: &Lent<'_>, short: &mut Short) -> Flow {
    match (short.first().copied(), behind) {
        (Some(order::FORWARD_SUM), Some(behind)) => Flow::Break(calls::forward_lent(behind, lent, short)),
        (Some(order::END), _) => handover_guest::end(Status(5)),
        (Some(order::OUTLIVE), _) => {
            // No load of it may fault, whenever it goes.
            let words = lent.words();
            let ends = [&words[0], &words[words.len() - 1]];
            while ends.iter().any(|word| word.load(Ordering::Relaxed) != 0) {
                core::hint::spin_loop();
            }
            println!("calls: zeroes have taken its place, at both ends of {} bytes", lent.size());
            Flow::Break(calls::reply(None, short).map_err(Error::from))
        }
        _ => {
            *short = Short::from(&lending::sum(lent).to_le_bytes());
            Flow::Continue(Answer::Reply(None))
        }
    }
}

fn answer(behind: &mut Option<Channel>, mut region: Option<Region>, short: &mut Short) -> Flow {
    match (short.first().copied(), behind) {
        (Some(order::FORWARD), Some(behind)) => Flow::Continue(Answer::Forward(behind.port(), region)),
        (Some(order::ASK), Some(behind)) => match behind.call(region, short) {
            Ok(region) => Flow::Continue(Answer::Reply(region)),
            Err(error) => Flow::Break(Err(error.error)),
        },
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
            Flow::Continue(Answer::Reply(region))
        }
    }
}
