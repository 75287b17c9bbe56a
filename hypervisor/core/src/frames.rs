//! Frames of 4 KiB out of chunks of 2 MiB.
//!
//! Each chunk has a record with a bitmap of its free frames; the records of chunks with free frames form a list. Allocating
//! looks at the list's head and at most eight words of its bitmap, freeing at the frame's own chunk, so that both cost the same
//! with one fragment or a hundred thousand.
//!
//! Frames of some [colours](crate::colour) come out of chunks of their own, which are in one list for each colour that they have frames of, so
//! that they cost the same too. Frames of any colour come from there only when there are no other chunks.

mod coloured;

use crate::addr::{BLOCK, PAGE};
use crate::colour::COLOURS_MAX;
use crate::list::{List, Node, Noded, Records};
use crate::{Pa, Palette};

pub use coloured::ColourRecord;
use coloured::Coloured;

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
    split: Split,
}

/// What a chunk is split for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Split {
    #[default]
    Not,
    Any,
    Coloured,
}

impl ChunkRecord {
    const fn split(split: Split) -> ChunkRecord {
        ChunkRecord { free: [u64::MAX; WORDS], node: Node::new(), count: FRAMES, split }
    }

    /// Takes the first free frame that `every` word has a bit for.
    #[inline]
    fn take(&mut self, every: u64) -> Option<u64> {
        let (at, word) = self.free.iter_mut().enumerate().find(|(_, word)| **word & every != 0)?;
        let bit = (*word & every).trailing_zeros();
        *word &= !(1 << bit);
        self.count = self.count.saturating_sub(1);
        Some((at as u64) << 6 | u64::from(bit))
    }

    /// Takes a frame back. → how many are free; `None` if it was.
    #[inline]
    fn give(&mut self, frame: u64) -> Option<u16> {
        let word = self.free.get_mut((frame >> 6) as usize)?;
        let bit = 1 << (frame & 63);
        if *word & bit != 0 {
            return None;
        }
        *word |= bit;
        self.count = self.count.saturating_add(1);
        Some(self.count)
    }
}

/// A frame was given back that is not allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAllocated(pub Pa);

/// The allocator.
pub struct Frames {
    base: Pa,
    records: Records<ChunkRecord>,
    partly_free: List,
    /// A chunk whose frames are all free, kept so that one frame going to and fro does not fetch and return a chunk each time.
    spare: Option<u32>,
    free: u64,
    coloured: Coloured,
}

impl Noded for ChunkRecord {
    fn node(&mut self) -> &mut Node {
        &mut self.node
    }
}

impl Frames {
    /// Nothing is split yet. `records` has one for each 2 MiB from `base` (2 MiB aligned) on.
    #[must_use]
    pub const fn new(base: Pa, records: &'static mut [ChunkRecord]) -> Frames {
        Frames::with_colours(base, records, Palette::NONE, &mut [])
    }

    /// The same, and the frames have colours; there are as many of both records.
    #[must_use]
    pub const fn with_colours(
        base: Pa,
        records: &'static mut [ChunkRecord],
        palette: Palette,
        coloured: &'static mut [ColourRecord],
    ) -> Frames {
        let records = Records::new(records);
        let coloured = Coloured::new(palette, coloured);
        Frames { base, records, partly_free: List::new(), spare: None, free: 0, coloured }
    }

    /// A frame of zeroes.
    pub fn allocate(&mut self, chunks: &mut impl Chunks) -> Option<Pa> {
        let index = match self.partly_free.head() {
            Some(index) => index,
            None => match self.split(chunks, Split::Any) {
                Some(index) => index,
                None => return self.take_coloured(u64::MAX),
            },
        };
        if self.spare == Some(index) {
            self.spare = None;
        }
        let record = self.records.get(index)?;
        let frame = record.take(u64::MAX)?;
        if record.count == 0 {
            self.partly_free.remove(&mut self.records, index);
        }
        self.free = self.free.saturating_sub(1);
        Some(self.pa(index, frame))
    }

    fn pa(&self, index: u32, frame: u64) -> Pa {
        self.base.plus(u64::from(index) * BLOCK + frame * PAGE)
    }

    fn split(&mut self, chunks: &mut impl Chunks, split: Split) -> Option<u32> {
        let chunk = chunks.take(ORDER)?;
        let index = self.index(chunk);
        let Some((index, record)) = index.and_then(|index| Some((index, self.records.get(index)?))) else {
            chunks.give(chunk, ORDER);
            return None;
        };
        *record = ChunkRecord::split(split);
        if split == Split::Any {
            self.partly_free.push_back(&mut self.records, index);
        }
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
        let Some(record) = self.records.get(index).filter(|record| record.split == Split::Any) else {
            return self.free_coloured(chunks, index, frame).ok_or(error);
        };
        let count = record.give(frame).ok_or(error)?;
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
        self.forget(chunks, index);
    }

    /// Gives back a chunk whose frames are all free, and that is in no list any more.
    fn forget(&mut self, chunks: &mut impl Chunks, index: u32) {
        if let Some(record) = self.records.get(index) {
            *record = ChunkRecord::default();
        }
        self.free = self.free.saturating_sub(u64::from(FRAMES));
        chunks.give(self.base.plus(u64::from(index) * BLOCK), ORDER);
    }

    /// Gives the chunks that are kept back too.
    pub fn trim(&mut self, chunks: &mut impl Chunks) {
        if let Some(index) = self.spare.take() {
            self.join(chunks, index);
        }
        if let Some(index) = self.coloured.spare.take() {
            self.join_coloured(chunks, index);
        }
    }

    /// Frames in split chunks that are free.
    #[must_use]
    pub fn free_frames(&self) -> u64 {
        self.free
    }
}

const _: () = assert!(u64::BITS == COLOURS_MAX && WORDS * 64 == FRAMES as usize);

#[cfg(test)]
mod tests;
