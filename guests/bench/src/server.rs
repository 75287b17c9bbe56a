//! The side that answers.

use handover_guest::{
    Boot, Channel, Error, Port, RequestFlags, Short, Status, events, interrupts, println, signals,
};

pub(crate) fn run(boot: &Boot) -> Result<Status, Error> {
    let Some(service) = boot.provided("bench") else {
        println!(
            "error: the device tree lists no service \"bench\" of this partition; add it to the manifest"
        );
        return Ok(Status::FAILURE);
    };
    loop {
        events::wait_for(Port::CONTROL)?;
        while let Some(signal) = signals::next()? {
            match signal {
                signals::Signal::Connect(request) if request.service == service => {
                    if request.flags.contains(RequestFlags::EVENTS) {
                        crate::event::serve(request)?;
                        return Ok(Status::SUCCESS);
                    }
                    answer(request.accept()?)?;
                }
                signals::Signal::Connect(request) => request.refuse(1)?,
                signals::Signal::PartitionEnded { .. } | signals::Signal::ShutdownRequest { .. } => {}
            }
        }
    }
}

/// Sends every message back, the first word of its region flipped, until the client closes.
fn answer(mut channel: Channel) -> Result<(), Error> {
    let mut short = Short::EMPTY;
    loop {
        match channel.receive_into(&mut short) {
            Ok(mut region) => {
                if let Some(region) = &mut region {
                    let word = region.first_word_mut();
                    *word = !*word;
                }
                channel.send_from(region, &short)?;
            }
            Err(Error::WouldBlock) => {}
            Err(Error::PeerClosed) => return Ok(()),
            Err(error) => return Err(error),
        }
        interrupts::wait();
        events::next()?;
    }
}
