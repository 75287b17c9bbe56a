//! The machine's memory: what is free, and how it is given out.

use handover_core::blocks::{BlockRecord, Blocks};
use handover_core::frames::{ChunkRecord, Chunks, ColourRecord, Frames};
use handover_core::{Colours, Pa, Palette};

use crate::arch;

/// log2 of a chunk.
const CHUNK_ORDER: u8 = 21;
const CHUNK: u64 = 1 << CHUNK_ORDER;
/// Ranges of memory, or of what is taken already, at most.
pub const RANGES_MAX: usize = 16;

/// `[start, end)`, physical.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// First byte.
    pub start: u64,
    /// One past the last.
    pub end: u64,
}

/// The free runs of whole chunks in memory ranges less what is taken.
fn free_runs(ranges: &[Range], taken: &[Range], mut each: impl FnMut(Range)) {
    for range in ranges {
        let mut at = range.start.next_multiple_of(CHUNK);
        while at + CHUNK <= range.end {
            let start = at;
            // As many free chunks as follow one another.
            while at + CHUNK <= range.end && !taken.iter().any(|t| t.start < at + CHUNK && at < t.end) {
                at += CHUNK;
            }
            if start < at {
                each(Range { start, end: at });
            } else {
                at += CHUNK;
            }
        }
    }
}

/// `count` records at `at`.
///
/// # Safety
/// There is room for them, aligned, that nobody else uses.
unsafe fn records<T: Default>(at: u64, count: usize) -> &'static mut [T] {
    let first = at as *mut T;
    for n in 0..count {
        // SAFETY: by the caller.
        unsafe { first.add(n).write(T::default()) };
    }
    // SAFETY: just initialised, and nobody else's by the caller.
    unsafe { core::slice::from_raw_parts_mut(first, count) }
}

/// All of it.
pub struct Memory {
    blocks: Blocks,
    frames: Frames,
}

impl Memory {
    /// None at all.
    pub const fn empty() -> Memory {
        Memory { blocks: Blocks::new(Pa::new(0), &mut []), frames: Frames::new(Pa::new(0), &mut []) }
    }

    /// Takes over the machine's memory: `ranges` less `taken`, in whole chunks. Zeroes it, and cleans it to the point of coherency if
    /// guests can look past the caches; keeps a little for its own records. The pages have these colours.
    ///
    /// # Safety
    /// The ranges are memory, mapped writable at EL2, and nobody uses what is not in `taken`.
    pub unsafe fn add(&mut self, ranges: &[Range], taken: &[Range], clean: bool, palette: Palette) {
        let lowest = ranges.iter().map(|r| r.start).min().unwrap_or(0) & !(CHUNK - 1);
        let highest = ranges.iter().map(|r| r.end).max().unwrap_or(0);
        let count = (highest - lowest).div_ceil(CHUNK) as usize;
        let coloured_count = if palette == Palette::NONE { 0 } else { count };
        let blocks_at = (count * size_of::<ChunkRecord>()).next_multiple_of(align_of::<BlockRecord>());
        let coloured_at =
            (blocks_at + count * size_of::<BlockRecord>()).next_multiple_of(align_of::<ColourRecord>());
        let size = (coloured_at + coloured_count * size_of::<ColourRecord>()) as u64;
        let mut own = None;
        free_runs(ranges, taken, |run| {
            if own.is_none() && run.end - run.start >= size {
                own = Some(Range { start: run.start, end: run.start + size });
            }
        });
        let Some(own) = own else { panic!("no memory for the control OS's own records") };
        let base = Pa::new(lowest);
        // SAFETY: `own` is free memory of `size` bytes that no block is made of below; it starts at a chunk, and what comes behind the first records is
        // aligned for itself.
        unsafe {
            self.blocks = Blocks::new(base, records(own.start + blocks_at as u64, count));
            let coloured = records(own.start + coloured_at as u64, coloured_count);
            self.frames = Frames::with_colours(base, records(own.start, count), palette, coloured);
        }
        free_runs(ranges, taken, |run| {
            let start = if run.start == own.start { own.end.next_multiple_of(CHUNK) } else { run.start };
            if start >= run.end {
                return;
            }
            // SAFETY: free memory by the caller's word; whole pages.
            unsafe {
                arch::zero(start, run.end - start);
                if clean {
                    arch::clean(start, run.end - start);
                }
            }
            for chunk in (start..run.end).step_by(CHUNK as usize) {
                self.blocks.give(Pa::new(chunk), CHUNK_ORDER);
            }
        });
    }

    /// Zeroed memory of `1 << order` bytes: a frame, or from 2 MiB on.
    pub fn allocate(&mut self, order: u8) -> Option<Pa> {
        if order < CHUNK_ORDER { self.frames.allocate(&mut self.blocks) } else { self.blocks.take(order) }
    }

    /// A zeroed frame of some colours.
    pub fn allocate_coloured(&mut self, colours: Colours) -> Option<Pa> {
        self.frames.allocate_coloured(&mut self.blocks, colours)
    }

    /// Takes it back, zeroed.
    pub fn free(&mut self, pa: Pa, order: u8) {
        if order >= CHUNK_ORDER {
            self.blocks.give(pa, order);
        } else if let Err(error) = self.frames.free(&mut self.blocks, pa) {
            panic!("{error:?}: a frame given back twice");
        }
    }

    /// Bytes nobody has.
    pub fn free_bytes(&self) -> u64 {
        self.blocks.free_bytes() + 4096 * self.frames.free_frames()
    }
}
