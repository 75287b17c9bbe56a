//! Chunks that are split by colours.

use super::{Chunks, FRAMES, Frames, Split};
use crate::colour::COLOURS_MAX;
use crate::list::{List, Node, Nodes};
use crate::{Colours, Pa, Palette};

/// What is known of a chunk that is split by colours, beside its `ChunkRecord`.
#[derive(Clone, Debug)]
pub struct ColourRecord {
    nodes: [Node; COLOURS_MAX as usize],
    /// Free frames of each colour.
    counts: [u16; COLOURS_MAX as usize],
}

impl Default for ColourRecord {
    fn default() -> ColourRecord {
        ColourRecord { nodes: [Node::new(); COLOURS_MAX as usize], counts: [0; COLOURS_MAX as usize] }
    }
}

/// The chunks that are split by colours.
pub(super) struct Coloured {
    palette: Palette,
    records: &'static mut [ColourRecord],
    lists: [List; COLOURS_MAX as usize],
    /// The colours whose lists are not empty.
    available: u64,
    /// Where to look for the next frame's colour, so that they take turns.
    next: u32,
    pub(super) spare: Option<u32>,
}

/// The nodes of one colour's list.
struct OfColour<'a> {
    records: &'a mut [ColourRecord],
    colour: usize,
    #[cfg(test)]
    looks: &'a mut u64,
}

impl Nodes for OfColour<'_> {
    fn node(&mut self, at: u32) -> Option<&mut Node> {
        #[cfg(test)]
        {
            *self.looks += 1;
        }
        self.records.get_mut(at as usize)?.nodes.get_mut(self.colour)
    }
}

impl Coloured {
    pub(super) const fn new(palette: Palette, records: &'static mut [ColourRecord]) -> Coloured {
        let lists = [List::new(); COLOURS_MAX as usize];
        Coloured { palette, records, lists, available: 0, next: 0, spare: None }
    }

    /// In each word of a bitmap, the frames of this colour: chunks are aligned to more than a word's frames, and those to all colours.
    fn every(&self, colour: u32) -> u64 {
        let mut every = 1u64 << (colour & 63);
        let mut distance = self.palette.count();
        while distance < COLOURS_MAX {
            every |= every << (distance & 63);
            distance = distance.saturating_mul(2);
        }
        every
    }

    fn count(&mut self, index: u32, colour: u32) -> Option<&mut u16> {
        self.records.get_mut(index as usize)?.counts.get_mut(colour as usize)
    }
}

impl Frames {
    /// A frame of zeroes of one of these colours; of different ones by turns. `colours` is not [`Colours::ANY`].
    pub fn allocate_coloured(&mut self, chunks: &mut impl Chunks, colours: Colours) -> Option<Pa> {
        if colours.bits() & self.coloured.available == 0 {
            self.split_coloured(chunks)?;
        }
        self.take_coloured(colours.bits())
    }

    /// A frame of one of these colours, from the chunks that are split by colours.
    #[cold]
    pub(super) fn take_coloured(&mut self, colours: u64) -> Option<Pa> {
        let there = colours & self.coloured.available;
        if there == 0 {
            return None;
        }
        let next = self.coloured.next;
        let colour = next.wrapping_add(there.rotate_right(next).trailing_zeros()) % COLOURS_MAX;
        let index = self.coloured.lists.get(colour as usize)?.head()?;
        if self.coloured.spare == Some(index) {
            self.coloured.spare = None;
        }
        let every = self.coloured.every(colour);
        let frame = self.records.get(index)?.take(every)?;
        self.coloured.next = colour.wrapping_add(1) % COLOURS_MAX;
        let left = self.coloured.count(index, colour)?;
        *left = left.saturating_sub(1);
        if *left == 0 {
            self.leave(index, colour);
        }
        self.free = self.free.saturating_sub(1);
        Some(self.pa(index, frame))
    }

    #[cold]
    fn split_coloured(&mut self, chunks: &mut impl Chunks) -> Option<()> {
        let index = match self.split(chunks, Split::Coloured) {
            Some(index) => index,
            None => {
                // The one that is kept for frames of any colour.
                let spare = self.spare.take()?;
                self.join(chunks, spare);
                self.split(chunks, Split::Coloured)?
            }
        };
        let colours = self.coloured.palette.count();
        for colour in 0..colours {
            if let Some(count) = self.coloured.count(index, colour) {
                *count = (u32::from(FRAMES) / colours) as u16;
            }
            self.enter(index, colour);
        }
        Some(())
    }

    /// [`Frames::free`] of a frame from a chunk that is split by colours; `None`: it is not, or the frame is free.
    #[cold]
    pub(super) fn free_coloured(&mut self, chunks: &mut impl Chunks, index: u32, frame: u64) -> Option<()> {
        let colour = self.coloured.palette.of(self.pa(index, frame));
        let record = self.records.get(index).filter(|record| record.split == Split::Coloured)?;
        let all = record.give(frame)?;
        self.free = self.free.saturating_add(1);
        let count = self.coloured.count(index, colour)?;
        *count = count.saturating_add(1);
        if *count == 1 {
            self.enter(index, colour);
        }
        if all == FRAMES {
            match self.coloured.spare {
                None => self.coloured.spare = Some(index),
                Some(_) => self.join_coloured(chunks, index),
            }
        }
        Some(())
    }

    pub(super) fn join_coloured(&mut self, chunks: &mut impl Chunks, index: u32) {
        for colour in 0..self.coloured.palette.count() {
            if let Some(count) = self.coloured.count(index, colour) {
                *count = 0;
            }
            self.leave(index, colour);
        }
        self.forget(chunks, index);
    }

    /// Puts a chunk into a colour's list.
    fn enter(&mut self, index: u32, colour: u32) {
        self.change_list(colour, |list, nodes| list.push_back(nodes, index));
    }

    /// Takes a chunk out of a colour's list.
    fn leave(&mut self, index: u32, colour: u32) {
        self.change_list(colour, |list, nodes| list.remove(nodes, index));
    }

    fn change_list(&mut self, colour: u32, change: impl FnOnce(&mut List, &mut OfColour<'_>)) {
        let Some(list) = self.coloured.lists.get_mut(colour as usize) else { return };
        let mut nodes = OfColour {
            records: self.coloured.records,
            colour: colour as usize,
            #[cfg(test)]
            looks: &mut self.records.looks,
        };
        change(list, &mut nodes);
        let bit = 1 << (colour & 63);
        if list.is_empty() {
            self.coloured.available &= !bit;
        } else {
            self.coloured.available |= bit;
        }
    }
}
