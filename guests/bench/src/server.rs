//! The side that answers.

use core::mem;

use handover_guest::{
    Boot, Channel, Error, RequestFlags, Short, Status, abi::layout::WINDOW_SLOT, calls, events, interrupts,
    println, signals,
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
fn answer_calls(channel: Channel) -> Result<(), Error> {
    let mut channels = [channel];
    let mut short = Short::EMPTY;
    let mut called = calls::wait(&mut channels, &mut short)?;
    loop {
        called = match called {
            Some(call) if short.is_empty() && call.region.is_none() => {
                calls::reply(None, &short)?;
                return Ok(());
            }
            Some(mut call) => {
                if let Some(region) = &mut call.region {
                    let word = region.first_word_mut();
                    *word = !*word;
                }
                let region = call.region;
                calls::reply_and_wait(&mut channels, region, &mut short)?
            }
            None => {
                while interrupts::take() {}
                events::next()?;
                calls::wait(&mut channels, &mut short)?
            }
        }
    }
}
