//! The side that answers.

use core::{mem, ops::ControlFlow};

use handover_guest::{
    Boot, Channel, Error, RequestFlags, Short, Status,
    abi::layout::WINDOW_SLOT,
    calls::{self, Answer},
    events, interrupts, println, signals,
};

use crate::event::Ports;

/// Serves one client: first its messages, then its direct calls, then switches, shared memory, events.
pub(crate) fn run(boot: &Boot) -> Result<Status, Error> {
    let Some(service) = boot.provided("bench") else {
        println!(
            "error: the device tree lists no service \"bench\" of this partition; add it to the manifest"
        );
        return Ok(Status::FAILURE);
    };
    let bystanders = crate::bystanders(boot);
    let mut channels = 0;
    loop {
        // Whatever else comes is of a channel that is not served now, and which is asked when it is.
        events::wait()?;
        while let Some(signal) = signals::next()? {
            match signal {
                signals::Signal::Connect(request) if request.service == service => {
                    if request.flags.contains(RequestFlags::EVENTS) {
                        let ports = Ports::accept(request)?;
                        crate::shared::serve(&ports)?;
                        crate::event::serve(&ports)?;
                        return Ok(Status::SUCCESS);
                    }
                    let channel = request.accept()?;
                    match channels - bystanders.min(channels) {
                        // Open until this partition ends.
                        _ if channels < bystanders => mem::forget(channel),
                        0 => answer(channel)?,
                        1 => answer_calls(channel)?,
                        _ => crate::switch::serve(channel)?,
                    }
                    channels += 1;
                }
                signals::Signal::Connect(request) => request.refuse(1)?,
                signals::Signal::PartitionEnded { .. } | signals::Signal::ShutdownRequest { .. } => {}
            }
        }
    }
}

/// Sends every message back, the first word of its region flipped, until the client closes.
#[inline(never)]
fn answer(mut channel: Channel) -> Result<(), Error> {
    let mut short = Short::EMPTY;
    // With nothing else latched each message interrupts, and needs no `EventNext`.
    while events::next()?.is_some() {}
    loop {
        match channel.receive_into(&mut short) {
            Ok(mut region) => {
                if let Some(region) = &mut region {
                    let word = region.first_word_mut();
                    *word = !*word;
                    if region.size() > WINDOW_SLOT as usize {
                        channel.make_room(region.size())?;
                    }
                }
                channel.send_from(region, &short)?;
            }
            Err(Error::WouldBlock) => {}
            Err(Error::PeerClosed) => return Ok(()),
            Err(error) => return Err(error),
        }
        interrupts::wait();
    }
}

/// Answers every direct call with its own message, the first word of its region flipped, until one without a message.
#[inline(never)]
fn answer_calls(channel: Channel) -> Result<(), Error> {
    let mut channels = [channel];
    let mut short = Short::EMPTY;
    loop {
        let served = calls::serve(&mut channels, &mut short, |call, short| {
            let mut region = call.region;
            match &mut region {
                Some(region) => {
                    let word = region.first_word_mut();
                    *word = !*word;
                }
                None if short.is_empty() => return ControlFlow::Break(()),
                None => {}
            }
            ControlFlow::Continue(Answer::Reply(region))
        })?;
        if served.is_break() {
            calls::reply(None, &short)?;
            return Ok(());
        }
        while interrupts::take() {}
        events::next()?;
    }
}
