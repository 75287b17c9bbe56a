//! A world switch: from WFI in one partition to the first instruction behind WFI in the other. Each side reads its own count, so that only both
//! directions together can be told: the time that the client waits, without what the server spends between.

use handover_guest::{Channel, Error, Short, events, interrupts, timer};

use crate::sample::report;

/// Wakes the peer by a message, and waits until it has woken this side: nothing is taken until both are done. → the count before and after the wait.
fn exchange(channel: &mut Channel, spent: u64) -> Result<(u64, u64), Error> {
    let mut words = [0; 16];
    words[0] = spent;
    channel.send(Short::from_words(words))?;
    let before = timer::now();
    interrupts::wait_for_interrupt();
    Ok((before, timer::now()))
}

/// Takes the peer's message, and the interrupts that there are. → what the peer said it had spent.
fn take(channel: &mut Channel) -> Result<u64, Error> {
    let mut short = Short::EMPTY;
    loop {
        interrupts::take();
        while events::next()?.is_some() {}
        match channel.receive_into(&mut short) {
            Ok(_) => return Ok(short.words()[0]),
            // It was woken by something else, and the sample is none.
            Err(Error::WouldBlock) => interrupts::wait_for_interrupt(),
            Err(error) => return Err(error),
        }
    }
}

/// Measures, with a server that runs [`serve`].
pub(crate) fn run(mut channel: Channel) -> Result<(), Error> {
    let mut failure = None;
    let mut last = 0;
    let mut sample = || -> Result<u64, Error> {
        let (before, after) = exchange(&mut channel, 0)?;
        // The server tells what it spent in the round before, which is the same in every round.
        let spent = take(&mut channel)?;
        let waited = core::mem::replace(&mut last, after - before);
        Ok(waited.saturating_sub(spent) / 2)
    };
    report("world_switch", || {
        sample().unwrap_or_else(|error| {
            failure = Some(error);
            0
        })
    });
    failure.map_or(Ok(()), Err)
}

/// Wakes the client each time that it is woken, until the client closes.
pub(crate) fn serve(mut channel: Channel) -> Result<(), Error> {
    let mut spent = 0;
    let mut woken = None;
    loop {
        match take(&mut channel) {
            Ok(_) => {}
            Err(Error::PeerClosed) => return Ok(()),
            Err(error) => return Err(error),
        }
        let (before, after) = match exchange(&mut channel, spent) {
            Err(Error::PeerClosed) => return Ok(()),
            result => result?,
        };
        if let Some(woken) = woken.replace(after) {
            spent = before - woken;
        }
    }
}
