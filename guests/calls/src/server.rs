//! Who is called.

use core::time::Duration;

use handover_guest::{
    Boot, Channel, Error, Port, Region, Short, Status, calls, events, interrupts, println, signals, timer,
};

use crate::order;

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
        if let Err(error) = answer(&mut behind, call.region, &mut short) {
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
                let until = timer::after(Duration::from_millis(20));
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
