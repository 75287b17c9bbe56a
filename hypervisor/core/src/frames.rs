//! Frames of 4 KiB out of chunks of 2 MiB.
//!
//! Each chunk has a record with a bitmap of its free frames; the records of chunks with free frames form a list. Allocating
//! looks at the list's head and at most eight words of its bitmap, freeing at the frame's own chunk, so that both cost the same
//! with one fragment or a hundred thousand.

use crate::Pa;
use crate::addr::{BLOCK, PAGE};
use crate::list::{List, Node, Nodes};

const ORDER: u8 = 21;
const FRAMES: u16 = (BLOCK / PAGE) as u16;
const WORDS: usize = FRAMES as usize / 64;

/// Where chunks come from: naturally aligned blocks of `1 << order` bytes, all zeroes.
pub trait Chunks {
    /// Takes one, if there is one.
    fn take(&mut self, order: u8) -> Option<Pa>;
    /// Gives one back.
    fn give(&mut self, pa: Pa, order: u8);
}

/// What is known of one 2 MiB chunk of the machine's memory. `Default` is a chunk that is not split.
#[derive(Clone, Debug, Default)]
pub struct ChunkRecord {
    free: [u64; WORDS],
    node: Node,
    count: u16,
    split: bool,
}

/// A frame was given back that is not allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAllocated(pub Pa);

/// The allocator.
pub struct Frames {
    base: Pa,
    records: Records,
    partly_free: List,
    /// A chunk whose frames are all free, kept so that one frame going to and fro does not fetch and return a chunk each time.
    spare: Option<u32>,
    free: u64,
}

struct Records {
    records: &'static mut [ChunkRecord],
    #[cfg(test)]
    looks: u64,
}

impl Records {
    #[inline]
    fn get(&mut self, index: u32) -> Option<&mut ChunkRecord> {
        #[cfg(test)]
        {
            self.looks += 1;
        }
        self.records.get_mut(index as usize)
    }
}

impl Nodes for Records {
    fn node(&mut self, at: u32) -> Option<&mut Node> {
        self.get(at).map(|record| &mut record.node)
    }
}

impl Frames {
    /// Nothing is split yet. `records` has one for each 2 MiB from `base` (2 MiB aligned) on.
    #[must_use]
    pub const fn new(base: Pa, records: &'static mut [ChunkRecord]) -> Frames {
        let records = Records {
            records,
            #[cfg(test)]
            looks: 0,
        };
        Frames { base, records, partly_free: List::new(), spare: None, free: 0 }
    }

    /// A frame of zeroes.
    pub fn allocate(&mut self, chunks: &mut impl Chunks) -> Option<Pa> {
        let index = match self.partly_free.head() {
            Some(index) => index,
            None => self.split(chunks)?,
        };
        if self.spare == Some(index) {
            self.spare = None;
        }
        let record = self.records.get(index)?;
        let (at, word) = record.free.iter_mut().enumerate().find(|(_, word)| **word != 0)?;
        let bit = word.trailing_zeros();
        *word &= word.wrapping_sub(1);
        record.count = record.count.saturating_sub(1);
        if record.count == 0 {
            self.partly_free.remove(&mut self.records, index);
        }
        self.free = self.free.saturating_sub(1);
        let frame = (at as u64) << 6 | u64::from(bit);
        Some(self.base.plus(u64::from(index) * BLOCK + frame * PAGE))
    }

    fn split(&mut self, chunks: &mut impl Chunks) -> Option<u32> {
        let chunk = chunks.take(ORDER)?;
        let index = self.index(chunk);
        let Some((index, record)) = index.and_then(|index| Some((index, self.records.get(index)?))) else {
            chunks.give(chunk, ORDER);
            return None;
        };
        *record = ChunkRecord { free: [u64::MAX; WORDS], node: Node::new(), count: FRAMES, split: true };
        self.partly_free.push_back(&mut self.records, index);
        self.free = self.free.saturating_add(u64::from(FRAMES));
        Some(index)
    }

    fn index(&self, pa: Pa) -> Option<u32> {
        u32::try_from(pa.get().checked_sub(self.base.get())? / BLOCK).ok()
    }

    /// Takes back a frame, zeroed by the caller. A chunk whose frames are all back goes back to `chunks`, but for one that is kept.
    pub fn free(&mut self, chunks: &mut impl Chunks, pa: Pa) -> Result<(), NotAllocated> {
        let error = NotAllocated(pa);
        let index = self.index(pa).filter(|_| pa.is_aligned(PAGE)).ok_or(error)?;
        let frame = pa.get() % BLOCK / PAGE;
        let record = self.records.get(index).filter(|record| record.split).ok_or(error)?;
        let word = record.free.get_mut((frame >> 6) as usize).ok_or(error)?;
        let bit = 1 << (frame & 63);
        if *word & bit != 0 {
            return Err(error);
        }
        *word |= bit;
        record.count = record.count.saturating_add(1);
        let count = record.count;
        self.free = self.free.saturating_add(1);
        if count == 1 {
            self.partly_free.push_back(&mut self.records, index);
        } else if count == FRAMES {
            match self.spare {
                None => self.spare = Some(index),
                Some(_) => self.join(chunks, index),
            }
        }
        Ok(())
    }

    fn join(&mut self, chunks: &mut impl Chunks, index: u32) {
        self.partly_free.remove(&mut self.records, index);
        if let Some(record) = self.records.get(index) {
            *record = ChunkRecord::default();
        }
        self.free = self.free.saturating_sub(u64::from(FRAMES));
        chunks.give(self.base.plus(u64::from(index) * BLOCK), ORDER);
    }

    /// Gives the chunk that is kept back too.
    pub fn trim(&mut self, chunks: &mut impl Chunks) {
        if let Some(index) = self.spare.take() {
            self.join(chunks, index);
        }
    }

    /// Frames in split chunks that are free.
    #[must_use]
    pub fn free_frames(&self) -> u64 {
        self.free
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::boxed::Box;
    use std::collections::BTreeSet;
    use std::vec::Vec;

    use super::*;

    struct Pool {
        chunks: BTreeSet<Pa>,
    }

    impl Chunks for Pool {
        fn take(&mut self, order: u8) -> Option<Pa> {
            assert_eq!(order, ORDER);
            self.chunks.pop_first()
        }
        fn give(&mut self, pa: Pa, order: u8) {
            assert_eq!(order, ORDER);
            assert!(pa.is_aligned(BLOCK));
            assert!(self.chunks.insert(pa), "given back twice");
        }
    }

    const BASE: u64 = 0x4000_0000;

    fn setup(chunks: u32) -> (Frames, Pool) {
        let records = Box::leak(std::vec![ChunkRecord::default(); chunks as usize].into_boxed_slice());
        let pool = Pool { chunks: (0..u64::from(chunks)).map(|n| Pa::new(BASE + n * BLOCK)).collect() };
        (Frames::new(Pa::new(BASE), records), pool)
    }

    #[test]
    fn every_frame_once_and_all_back() {
        let (mut frames, mut pool) = setup(3);
        let mut all: Vec<Pa> = std::iter::from_fn(|| frames.allocate(&mut pool)).collect();
        assert_eq!(all.len(), 3 * 512);
        assert_eq!(frames.free_frames(), 0);
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 3 * 512);
        assert!(all.iter().all(|pa| pa.is_aligned(PAGE) && pa.get() >= BASE && pa.get() < BASE + 3 * BLOCK));
        // Every second one first, so that all chunks are partly free at once.
        for &pa in all.iter().step_by(2).chain(all.iter().skip(1).step_by(2)) {
            frames.free(&mut pool, pa).unwrap();
        }
        assert_eq!(pool.chunks.len(), 2);
        assert_eq!(frames.free_frames(), 512);
        frames.trim(&mut pool);
        assert_eq!((pool.chunks.len(), frames.free_frames()), (3, 0));
    }

    #[test]
    fn what_is_not_allocated_cannot_be_freed() {
        let (mut frames, mut pool) = setup(2);
        let pa = frames.allocate(&mut pool).unwrap();
        for bad in [0, BASE - PAGE, BASE + 1, BASE + PAGE * 3, BASE + BLOCK, BASE + 2 * BLOCK, !0xfff] {
            assert_eq!(frames.free(&mut pool, Pa::new(bad)), Err(NotAllocated(Pa::new(bad))), "{bad:#x}");
        }
        frames.free(&mut pool, pa).unwrap();
        assert_eq!(frames.free(&mut pool, pa), Err(NotAllocated(pa)));
        frames.trim(&mut pool);
        assert_eq!(frames.free(&mut pool, pa), Err(NotAllocated(pa)));
    }

    #[test]
    fn one_frame_to_and_fro_takes_one_chunk() {
        let (mut frames, mut pool) = setup(2);
        for _ in 0..10 {
            let pa = frames.allocate(&mut pool).unwrap();
            frames.free(&mut pool, pa).unwrap();
            assert_eq!(pool.chunks.len(), 1);
        }
    }

    #[test]
    fn cost_does_not_grow_with_fragments() {
        let fragments = if cfg!(miri) { 2_000 } else { 100_000 };
        let (mut frames, mut pool) = setup(2 * fragments / 512 + 2);
        let all: Vec<Pa> = (0..2 * fragments).map(|_| frames.allocate(&mut pool).unwrap()).collect();
        // Free every second frame: as many fragments as there can be.
        for &pa in all.iter().step_by(2) {
            frames.free(&mut pool, pa).unwrap();
        }
        let mut most = 0;
        for _ in 0..fragments {
            let before = frames.records.looks;
            let pa = frames.allocate(&mut pool).unwrap();
            let allocated = frames.records.looks;
            frames.free(&mut pool, pa).unwrap();
            let freed = frames.records.looks;
            most = most.max(allocated - before).max(freed - allocated);
            // The next round meets another fragment.
            frames.allocate(&mut pool).unwrap();
        }
        assert!(most <= 5, "{most} records looked at");
    }
}
