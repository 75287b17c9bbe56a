//! Regions that are lent with calls.

use core::sync::atomic::{AtomicBool, Ordering};

use handover_guest::{
    Boot, Channel, Error, Lent, Region, Short, Status, calls::CallError, println, processor,
};

use crate::order;

const ROUNDS: u64 = 100;
/// A page, some, a block, and more than a slot.
const SIZES: [usize; 4] = [4 << 10, 1 << 20, 2 << 20, 4 << 20];

/// The sum of one word of each page.
pub(crate) fn sum(lent: &Lent<'_>) -> u64 {
    lent.words().iter().step_by(512).map(|word| word.load(Ordering::Relaxed)).fold(0, u64::wrapping_add)
}

/// A region whose words on each page add up to the number that comes with it.
fn filled(size: usize, seed: u64) -> Result<(Region, u64), Error> {
    let mut region = Region::create(size)?;
    let mut sum = 0u64;
    for (page, bytes) in region.chunks_exact_mut(4096).enumerate() {
        let word = seed.wrapping_add(page as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        sum = sum.wrapping_add(word);
        bytes.iter_mut().zip(word.to_le_bytes()).for_each(|(to, from)| *to = from);
    }
    Ok((region, sum))
}

fn is_as_it_was(region: &Region, sum: u64) -> bool {
    let words =
        region.chunks_exact(4096).filter_map(|page| page.first_chunk()).map(|word| u64::from_le_bytes(*word));
    words.fold(0, u64::wrapping_add) == sum
}

/// Lends regions of all shapes, again and again, alone or shown; the server reads what is there, and they are as they were.
pub(crate) fn lend(channel: &mut Channel, what: u8) -> Result<(), Error> {
    for size in SIZES {
        let (mut region, sum) = filled(size, size as u64)?;
        let address = region.address();
        for round in 0..ROUNDS {
            let mut short = Short::from(&[what]);
            let answer = match round % 2 {
                0 => channel.call_lending(&mut region, &mut short)?,
                _ => channel.call_showing(&region, &mut short)?,
            };
            if answer.is_some() || short[..] != sum.to_le_bytes() {
                println!("calls: {size} bytes, round {round}: {short:?} instead of the sum {sum:#x}");
                return Err(Error::BadAddress);
            }
        }
        if region.address() != address || !is_as_it_was(&region, sum) {
            return Err(Error::WrongState);
        }
        // It is still one to be changed and to be sent.
        *region.first_word_mut() = 1;
        let moved = channel.call(Some(region), &mut Short::from(&[order::TURN]))?.ok_or(Error::WrongState)?;
        if moved.first_word() != !1 {
            return Err(Error::WrongState);
        }
    }
    Ok(())
}

fn fails(result: Result<Option<Region>, CallError>, expected: Error) -> Result<(), Error> {
    match result {
        Err(error) if error.error == expected => Ok(()),
        other => Err(other.map_or_else(|error| error.error, |_| Error::InUse)),
    }
}

/// The server reads longer than this caller's patience lasts: it finds zeroes then, and here everything is as it was.
pub(crate) fn lend_too_long(channel: &mut Channel, patience: u64) -> Result<(), Error> {
    channel.set_patience(patience)?;
    for size in SIZES {
        let (mut region, sum) = filled(size, 3)?;
        // The last word is looked at, too.
        if let Some(word) = region.last_chunk_mut() {
            *word = 1u64.to_le_bytes();
        }
        fails(channel.call_lending(&mut region, &mut Short::from(&[order::OUTLIVE])), Error::TimedOut)?;
        if !is_as_it_was(&region, sum) {
            return Err(Error::WrongState);
        }
    }
    channel.set_patience(0)
}

/// The server ends with what it has been lent.
pub(crate) fn lend_to_one_that_ends(channel: &mut Channel) -> Result<(), Error> {
    let (mut region, sum) = filled(1 << 20, 4)?;
    for _ in 0..2 {
        fails(channel.call_lending(&mut region, &mut Short::from(&[order::END])), Error::PeerClosed)?;
        if !is_as_it_was(&region, sum) {
            return Err(Error::WrongState);
        }
    }
    Ok(())
}

static LENDS: AtomicBool = AtomicBool::new(false);

/// One processor lends, the other one ends the partition meanwhile.
pub(crate) fn end_while_lending(boot: &Boot) -> Result<Status, Error> {
    let mut channel = Channel::connect(boot.service("keeper").ok_or(Error::BadHandle)?)?;
    let (mut region, _) = filled(1 << 20, 5)?;
    if let Some(word) = region.last_chunk_mut() {
        *word = 1u64.to_le_bytes();
    }
    let mut short = Short::from(&[order::SUM]);
    channel.call_lending(&mut region, &mut short)?;
    processor::start(1, end_soon, 0).map_err(|_| Error::WrongState)?;
    LENDS.store(true, Ordering::Release);
    channel.call_lending(&mut region, &mut Short::from(&[order::OUTLIVE]))?;
    Ok(Status::FAILURE)
}

/// Ends the partition, with the other processor on its way into the call or in it.
fn end_soon(_: usize) {
    while !LENDS.load(Ordering::Acquire) {
        processor::yield_now();
    }
    let until = handover_guest::timer::after(core::time::Duration::from_millis(3));
    while handover_guest::timer::now() < until {
        core::hint::spin_loop();
    }
    handover_guest::end(Status(6))
}
