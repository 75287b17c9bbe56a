//! The machine's memory: what is free, and how it is given out.

use core::alloc::Layout;
use core::ptr::NonNull;

use buddy_system_allocator::Heap;
use handover_core::frames::{ChunkRecord, Chunks, ColourRecord, Frames};
use handover_core::{Colours, Pa, Palette};

use crate::arch;

/// Orders up to 1 GiB and more; the coarse allocator's blocks are 2 MiB at least.
type Buddy = Heap<40>;
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

/// Coarse blocks: all zeroes but for what the free list keeps in the first words of each free block.
struct Coarse {
    buddy: Buddy,
    free: u64,
}

impl Chunks for Coarse {
    fn take(&mut self, order: u8) -> Option<Pa> {
        let size = 1usize << order;
        let layout = Layout::from_size_align(size, size).ok()?;
        let block = self.buddy.alloc(layout).ok()?.as_ptr() as u64;
        for chunk in (block..block + size as u64).step_by(CHUNK as usize) {
            // SAFETY: the block is free memory, mapped at EL2 at its physical address. Blocks are never smaller than a chunk, so the
            // free list has left its links (one word, `linked_list.rs`) at multiples of CHUNK and nowhere else.
            unsafe { (chunk as *mut u64).write(0) };
        }
        self.free -= size as u64;
        Some(Pa::new(block))
    }

    fn give(&mut self, pa: Pa, order: u8) {
        let size = 1usize << order;
        if let (Ok(layout), Some(block)) =
            (Layout::from_size_align(size, size), NonNull::new(pa.get() as *mut u8))
        {
            // SAFETY: `take` handed this block out with the same layout, and whoever gives it back no longer uses it.
            unsafe { self.buddy.dealloc(block, layout) };
            self.free += size as u64;
        }
    }
}

/// All of it.
pub struct Memory {
    coarse: Coarse,
    frames: Frames,
}

impl Memory {
    /// None at all.
    pub const fn empty() -> Memory {
        Memory { coarse: Coarse { buddy: Buddy::empty(), free: 0 }, frames: Frames::new(Pa::new(0), &mut []) }
    }

    /// Takes over the machine's memory: `ranges` less `taken`, in whole chunks. Zeroes it, and cleans it to the point of coherency if
    /// guests can look past the caches; keeps a little for its own records. The pages have these colours.
    ///
    /// # Safety
    /// The ranges are memory, mapped writable at EL2, and nobody uses what is not in `taken`.
    pub unsafe fn add(&mut self, ranges: &[Range], taken: &[Range], clean: bool, palette: Palette) {
        let lowest = ranges.iter().map(|r| r.start).min().unwrap_or(0) & !(CHUNK - 1);
        let highest = ranges.iter().map(|r| r.end).max().unwrap_or(0);
        let chunk_count = (highest - lowest).div_ceil(CHUNK) as usize;
        let coloured_count = if palette == Palette::NONE { 0 } else { chunk_count };
        let coloured_at =
            (chunk_count * size_of::<ChunkRecord>()).next_multiple_of(align_of::<ColourRecord>());
        let records_size = (coloured_at + coloured_count * size_of::<ColourRecord>()) as u64;
        let mut records_at = None;
        for range in ranges {
            let mut at = range.start.next_multiple_of(CHUNK);
            while at + CHUNK <= range.end {
                let start = at;
                // As many free chunks as follow one another.
                while at + CHUNK <= range.end && !taken.iter().any(|t| t.start < at + CHUNK && at < t.end) {
                    at += CHUNK;
                }
                let mut start = start;
                if records_at.is_none() && at - start >= records_size {
                    records_at = Some(start);
                    start = (start + records_size).next_multiple_of(CHUNK);
                }
                if start < at {
                    // SAFETY: free memory by the caller's word; whole pages.
                    unsafe {
                        arch::zero(start, at - start);
                        if clean {
                            arch::clean(start, at - start);
                        }
                        self.coarse.buddy.add_to_heap(start as usize, at as usize);
                    }
                    self.coarse.free += at - start;
                }
                at += CHUNK;
                at &= !(CHUNK - 1);
            }
        }
        let Some(records_at) = records_at else { panic!("no memory for the control OS's own records") };
        let records = records_at as *mut ChunkRecord;
        for n in 0..chunk_count {
            // SAFETY: `records_at` starts a free range of `records_size` bytes that was kept out of the heap, aligned to a chunk.
            unsafe { records.add(n).write(ChunkRecord::default()) };
        }
        // SAFETY: just initialised, and nobody else's.
        let records = unsafe { core::slice::from_raw_parts_mut(records, chunk_count) };
        let coloured = (records_at + coloured_at as u64) as *mut ColourRecord;
        for n in 0..coloured_count {
            // SAFETY: `records_size` has room for these too, from `coloured_at` on, which is aligned for them.
            unsafe { coloured.add(n).write(ColourRecord::default()) };
        }
        // SAFETY: just initialised, and nobody else's.
        let coloured = unsafe { core::slice::from_raw_parts_mut(coloured, coloured_count) };
        self.frames = Frames::with_colours(Pa::new(lowest), records, palette, coloured);
    }

    /// Zeroed memory of `1 << order` bytes: a frame, or from 2 MiB on.
    pub fn allocate(&mut self, order: u8) -> Option<Pa> {
        if order < CHUNK_ORDER { self.frames.allocate(&mut self.coarse) } else { self.coarse.take(order) }
    }

    /// A zeroed frame of some colours.
    pub fn allocate_coloured(&mut self, colours: Colours) -> Option<Pa> {
        self.frames.allocate_coloured(&mut self.coarse, colours)
    }

    /// Takes it back, zeroed.
    pub fn free(&mut self, pa: Pa, order: u8) {
        if order >= CHUNK_ORDER {
            self.coarse.give(pa, order);
        } else if let Err(error) = self.frames.free(&mut self.coarse, pa) {
            panic!("{error:?}: a frame given back twice");
        }
    }

    /// Bytes nobody has.
    pub fn free_bytes(&self) -> u64 {
        self.coarse.free + 4096 * self.frames.free_frames()
    }
}
