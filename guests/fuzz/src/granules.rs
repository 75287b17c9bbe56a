//! Memory taken and given back, in granules of 2 MiB: each processor has some of its own, whose content it knows, and all share a few.

use core::ptr;

use handover_guest::{
    abi::{
        Call,
        layout::{MEMORY_BASE, MEMORY_CALL_MAX, MEMORY_END, MEMORY_GRANULE},
    },
    fault,
};

use crate::{coverage::Outcome, stream::Stream, window::GIB};

/// Where granules go: behind the memory that a partition starts with, below what [`crate::memory`] takes for nobody's.
const BASE: u64 = MEMORY_BASE + (256 << 20);
/// Granules of a processor.
pub(crate) const OWN: u64 = 4;
/// Where all processors' granules are.
const SHARED: u64 = MEMORY_BASE + (320 << 20);
/// GiBs that no granule was ever in: taking one there takes a table.
const FRESH: u64 = MEMORY_END - 64 * GIB;

/// Adds memory, removes it, or asks for it.
pub(crate) fn step(stream: &mut Stream) {
    match stream.random.below(8) {
        0 => strange(stream),
        1 => ask(stream),
        2 => {
            let (at, size) = some(stream, SHARED);
            let call = stream.random.one_of(&[Call::MemoryAdd, Call::MemoryRemove]);
            stream.call(call, &[at, size]);
            // Somebody else may take it away meanwhile.
            let result = touch(at, 0);
            stream.count(format_args!("a shared granule at {at:#x}"), result);
        }
        3..6 => add(stream),
        _ => remove(stream),
    }
}

fn some(stream: &mut Stream, base: u64) -> (u64, u64) {
    let first = stream.random.below(OWN);
    (base + first * MEMORY_GRANULE, (1 + stream.random.below(OWN - first)) * MEMORY_GRANULE)
}

fn own(stream: &Stream) -> u64 {
    BASE + stream.processor as u64 * OWN * MEMORY_GRANULE
}

/// What this processor last wrote to a granule of its own, or 0.
fn content(stream: &mut Stream, at: u64) -> &mut u64 {
    let index = (at - own(stream)) / MEMORY_GRANULE;
    &mut stream.granules[index as usize]
}

fn granules(at: u64, size: u64) -> impl Iterator<Item = u64> {
    (at..at + size).step_by(MEMORY_GRANULE as usize)
}

/// Reads a word of a granule, and writes one unless it is 0. Which word depends on the address.
fn touch(at: u64, value: u64) -> Result<u64, fault::Fault> {
    let place = at + (at >> 9 & 0xff8);
    let pointer = ptr::with_exposed_provenance_mut::<u64>(place as usize);
    fault::catch(|| {
        // SAFETY: no reference points to granules; a fault is caught.
        let found = unsafe { pointer.read_volatile() };
        if value != 0 {
            // SAFETY: as above.
            unsafe { pointer.write_volatile(value) };
        }
        found
    })
}

fn add(stream: &mut Stream) {
    let (at, size) = some(stream, own(stream));
    let missing = granules(at, size).all(|at| *content(stream, at) == 0);
    let answer = stream.call(Call::MemoryAdd, &[at, size]);
    if answer.done() != missing
        && (answer.done() || answer.outcome == Outcome::Fails(handover_guest::Error::InUse))
    {
        stream.fail(format_args!("memory added at {at:#x}, {size:#x} bytes: {:?}", answer.outcome));
    }
    if answer.done() {
        for at in granules(at, size) {
            let value = stream.random.next() | 1;
            let found = touch(at, value);
            if found != Ok(0) {
                stream.fail(format_args!("fresh memory at {at:#x}: {found:x?}"));
            }
            stream.count(format_args!("a granule at {at:#x}"), found);
            *content(stream, at) = value;
        }
    }
}

fn remove(stream: &mut Stream) {
    let (at, size) = some(stream, own(stream));
    let mut all = true;
    for at in granules(at, size) {
        let expected = *content(stream, at);
        all &= expected != 0;
        let found = touch(at, 0);
        if found.ok() != (expected != 0).then_some(expected) {
            stream.fail(format_args!("memory at {at:#x}: {found:x?} instead of {expected:#x}"));
        }
        stream.count(format_args!("a granule at {at:#x}"), found);
    }
    let answer = stream.call(Call::MemoryRemove, &[at, size]);
    if answer.done() != all {
        stream.fail(format_args!("memory removed at {at:#x}, {size:#x} bytes: {:?}", answer.outcome));
    }
    if answer.done() {
        for at in granules(at, size) {
            *content(stream, at) = 0;
            let found = touch(at, 0);
            if found.is_ok() {
                stream.fail(format_args!("memory that was removed at {at:#x} can be read"));
            }
            stream.count(format_args!("a granule that is gone at {at:#x}"), found);
        }
    }
}

fn ask(stream: &mut Stream) {
    let (at, _) = some(stream, own(stream));
    let expected = *content(stream, at) != 0;
    let answer = stream.call(Call::MemoryInfo, &[at]);
    if (answer.x[1] == 1) != expected || answer.x[2] <= at {
        stream.fail(format_args!("memory at {at:#x}: {:x?}, there: {expected}", &answer.x[1..3]));
    }
}

/// What cannot be.
fn strange(stream: &mut Stream) {
    let call = stream.random.one_of(&[Call::MemoryAdd, Call::MemoryRemove, Call::MemoryInfo]);
    let wild = stream.wild();
    let (at, size) = some(stream, SHARED);
    let (at, size) = match stream.random.below(7) {
        0 => (at + 4096, size),
        1 => (at, size + 4096),
        2 => (at, 0),
        3 => (at, MEMORY_CALL_MAX + MEMORY_GRANULE),
        4 => (MEMORY_END - MEMORY_GRANULE, 2 * MEMORY_GRANULE),
        5 => (MEMORY_BASE - MEMORY_GRANULE, MEMORY_GRANULE),
        _ => (wild, MEMORY_GRANULE),
    };
    stream.call(call, &[at, size]);
}

/// What chance alone would not make certain in a short run.
pub(crate) fn edges(stream: &mut Stream) {
    for call in [Call::MemoryAdd, Call::MemoryRemove, Call::MemoryInfo] {
        for (at, size) in [(SHARED, 0), (MEMORY_END, MEMORY_GRANULE)] {
            stream.call(call, &[at, size]);
        }
    }
    for call in [Call::MemoryAdd, Call::MemoryAdd, Call::MemoryRemove] {
        stream.call(call, &[SHARED, MEMORY_GRANULE]);
    }
}

/// Takes a granule where there is no table yet, and gives it back.
pub(crate) fn fresh(stream: &mut Stream) -> Outcome {
    let at = FRESH + stream.random.below(64) * GIB;
    let added = stream.call(Call::MemoryAdd, &[at, MEMORY_GRANULE]);
    if added.done() {
        stream.call(Call::MemoryRemove, &[at, MEMORY_GRANULE]);
    }
    added.outcome
}

/// Takes one more granule than the limit lets it, and what it takes it gives back.
pub(crate) fn one_more(stream: &mut Stream) {
    let at = SHARED + OWN * MEMORY_GRANULE;
    if stream.call(Call::MemoryAdd, &[at, MEMORY_GRANULE]).done() {
        stream.call(Call::MemoryRemove, &[at, MEMORY_GRANULE]);
    }
}

/// Gives back all that it owns.
pub(crate) fn clean_up(stream: &mut Stream) {
    let own = own(stream);
    for at in granules(own, OWN * MEMORY_GRANULE).chain(granules(SHARED, OWN * MEMORY_GRANULE)) {
        stream.call(Call::MemoryRemove, &[at, MEMORY_GRANULE]);
    }
    stream.granules = [0; OWN as usize];
}
