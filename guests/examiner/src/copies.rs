//! The functions that copy and fill memory, which the SDK has in assembly: all small sizes, all alignments, all ways to overlap.

use alloc::{vec, vec::Vec};
use core::{hint::black_box, ptr};

use crate::stage::{Stage, Verdict, ensure};

/// Sizes are tried up to this: more than twice what one turn of a loop moves.
const SIZE_MAX: usize = 150;
/// Bytes around what may change.
const MARGIN: usize = 24;

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at as u8).wrapping_mul(37).wrapping_add(11)).collect()
}

/// Tries a size at all alignments of 16 bytes, against one byte after another.
fn size(length: usize) -> Verdict {
    for from in MARGIN..MARGIN + 16 {
        for to in MARGIN..MARGIN + 16 {
            let source = pattern(length + 2 * MARGIN + 16);
            let mut copied = vec![0xa5; source.len()];
            // SAFETY: two allocations, each larger than the offsets and the length together.
            unsafe {
                ptr::copy_nonoverlapping(
                    black_box(source.as_ptr().add(from)),
                    copied.as_mut_ptr().add(to),
                    black_box(length),
                )
            };
            let right = copied.iter().enumerate().all(|(at, &byte)| {
                let inside = (to..to + length).contains(&at);
                byte == if inside { source[at - to + from] } else { 0xa5 }
            });
            ensure!(right, "{length} bytes copied from alignment {from} to {to}");
            let mut moved = source.clone();
            // SAFETY: one allocation, larger than the offsets and the length together.
            unsafe {
                let start = moved.as_mut_ptr();
                ptr::copy(black_box(start.add(from)), start.add(to), black_box(length));
            }
            let right = moved.iter().enumerate().all(|(at, &byte)| {
                let inside = (to..to + length).contains(&at);
                byte == source[if inside { at - to + from } else { at }]
            });
            ensure!(right, "{length} bytes moved from {from} to {to}");
        }
        let mut filled = vec![0xa5_u8; length + 2 * MARGIN + 16];
        // SAFETY: one allocation, larger than the offset and the length together.
        unsafe { ptr::write_bytes(filled.as_mut_ptr().add(from), black_box(0x5a), black_box(length)) };
        let right = filled
            .iter()
            .enumerate()
            .all(|(at, &byte)| byte == if (from..from + length).contains(&at) { 0x5a } else { 0xa5 });
        ensure!(right, "{length} bytes filled at {from}");
    }
    Ok(())
}

pub(crate) fn run(_: &mut Stage) -> Verdict {
    (0..SIZE_MAX).try_for_each(size)
}
