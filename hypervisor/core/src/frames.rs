//! Frames of 4 KiB out of chunks of 2 MiB.

use crate::Pa;

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
    _private: (),
}

/// A frame was given back that is not allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAllocated(pub Pa);

/// The allocator. Both operations take a bounded number of steps, however much is allocated.
pub struct Frames {
    _base: Pa,
    _records: &'static mut [ChunkRecord],
}

impl Frames {
    /// Nothing is split yet. `records` has one for each 2 MiB from `base` (2 MiB aligned) on.
    #[must_use]
    pub const fn new(base: Pa, records: &'static mut [ChunkRecord]) -> Frames {
        Frames { _base: base, _records: records }
    }

    /// A frame of zeroes.
    pub fn allocate(&mut self, _chunks: &mut impl Chunks) -> Option<Pa> {
        None
    }

    /// Takes back a frame, zeroed by the caller. A chunk whose frames are all back goes back to `chunks`, but for one that is kept.
    pub fn free(&mut self, _chunks: &mut impl Chunks, pa: Pa) -> Result<(), NotAllocated> {
        Err(NotAllocated(pa))
    }

    /// Gives the chunk that is kept back too.
    pub fn trim(&mut self, _chunks: &mut impl Chunks) {}

    /// Frames in split chunks that are free.
    #[must_use]
    pub fn free_frames(&self) -> u64 {
        0
    }
}
