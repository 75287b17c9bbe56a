//! What is in messages and regions: numbers that can be checked without knowing who wrote them.

use core::ptr;

use handover_guest::{abi::SHORT_WORDS, fault};

use crate::{
    random::mix,
    stream::{Held, Stream},
};

/// A word whose upper half follows from its lower.
fn tag(number: u64) -> u64 {
    let low = number & 0xffff_ffff;
    mix(low) << 32 | low
}

/// A short message that follows from its first word.
pub(crate) fn message(first: u64) -> [u64; SHORT_WORDS] {
    core::array::from_fn(|index| {
        mix(first.wrapping_add(index as u64)).wrapping_sub(mix(first)).wrapping_add(first)
    })
}

/// Holds a received message against what was sent: all of it that its first word tells, and zeroes behind. One that is empty has no words.
pub(crate) fn check_message(stream: &Stream, length: u8, words: &[u64]) {
    if length == 0 {
        return;
    }
    let length = usize::from(length);
    let expected = message(words[0]);
    for (index, (&word, expected)) in words.iter().zip(expected).enumerate() {
        let bytes = length.saturating_sub(8 * index).min(8);
        let kept = if bytes == 8 { u64::MAX } else { (1 << (8 * bytes)) - 1 };
        // A first word that is cut off tells nothing about the rest, but there is no rest.
        let expected = if index == 0 { word } else { expected };
        if word != expected & kept || (index == 0 && word & !kept != 0) {
            stream.fail(format_args!("a message of {length} bytes came as {words:x?}"));
            return;
        }
    }
}

/// Where a region's two tags are: its first word and its last.
fn places(held: Held) -> [u64; 2] {
    [held.at, held.at + (1 << held.order) - 8]
}

fn read(stream: &mut Stream, address: u64) -> Option<u64> {
    // SAFETY: reads the message window, to which no reference points; a fault is caught.
    let result =
        fault::catch(|| unsafe { ptr::with_exposed_provenance::<u64>(address as usize).read_volatile() });
    if stream.exact() && result.is_err() {
        stream.fail(format_args!("its own region at {address:#x}: {result:x?}"));
    }
    stream.count(format_args!("content at {address:#x}"), result);
    result.ok()
}

/// That a fresh region is all zeroes, where it is looked at.
pub(crate) fn expect_zeroes(stream: &mut Stream, held: Held) {
    if held.at == 0 {
        return;
    }
    let [first, last] = places(held);
    let middle = first + (stream.random.below(1 << held.order) & !7);
    for address in [first, middle, last] {
        if let Some(value @ 1..) = read(stream, address) {
            stream.fail(format_args!("a fresh region shows {value:#x} at {address:#x}"));
        }
    }
}

/// That a region which somebody has written to holds what they wrote.
pub(crate) fn check(stream: &mut Stream, held: Held) {
    if held.at == 0 {
        return;
    }
    for address in places(held) {
        if let Some(value) = read(stream, address).filter(|&value| value != 0 && value != tag(value)) {
            stream.fail(format_args!("a region's content at {address:#x} is {value:#x}, which nobody wrote"));
        }
    }
}

/// Writes to a region.
pub(crate) fn write(stream: &mut Stream, held: Held) {
    if held.at == 0 || stream.random.one_in(2) {
        return;
    }
    for address in places(held) {
        let value = tag(stream.random.next());
        let pointer = ptr::with_exposed_provenance_mut::<u64>(address as usize);
        // SAFETY: writes the message window, to which no reference points; a fault is caught.
        let result = fault::catch(|| unsafe { pointer.write_volatile(value) });
        stream.count(format_args!("content written at {address:#x}"), result.map(|()| value));
    }
}

/// That nothing is where a region was that has been taken away. Nobody else maps anything there.
pub(crate) fn expect_gone(stream: &mut Stream, held: Held) {
    if held.at == 0 || stream.regions.iter().any(|other| other.at == held.at) {
        return;
    }
    for address in places(held) {
        let pointer = ptr::with_exposed_provenance::<u64>(address as usize);
        // SAFETY: as for `read`.
        let result = fault::catch(|| unsafe { pointer.read_volatile() });
        if result.is_ok() {
            stream.fail(format_args!("a region that is gone still shows {result:x?} at {address:#x}"));
        }
        stream.count(format_args!("gone from {address:#x}"), result);
    }
}
