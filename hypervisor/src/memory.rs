//! The machine's memory: what is free, and how it is given out.

use core::alloc::Layout;
use core::ptr::NonNull;

use buddy_system_allocator::Heap;
use handover_core::Pa;
use handover_core::frames::{ChunkRecord, Chunks, Frames};

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
    /// guests can look past the caches; keeps a little for its own records.
    ///
    /// # Safety
    /// The ranges are memory, mapped writable at EL2, and nobody uses what is not in `taken`.
    pub unsafe fn add(&mut self, ranges: &[Range], taken: &[Range], clean: bool) {
        let lowest = ranges.iter().map(|r| r.start).min().unwrap_or(0) & !(CHUNK - 1);
        let highest = ranges.iter().map(|r| r.end).max().unwrap_or(0);
        let chunk_count = (highest - lowest).div_ceil(CHUNK) as usize;
        let records_size = (chunk_count * size_of::<ChunkRecord>()) as u64;
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
        self.frames = Frames::new(Pa::new(lowest), records);
    }

    /// Zeroed memory of `1 << order` bytes: a frame, or from 2 MiB on.
    pub fn allocate(&mut self, order: u8) -> Option<Pa> {
        if order < CHUNK_ORDER { self.frames.allocate(&mut self.coarse) } else { self.coarse.take(order) }
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
