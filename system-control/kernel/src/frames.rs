//! The frames that programs' memory is made of: who has each, how often.

use alloc::vec::Vec;
use core::ops::Range;

use handover_files::{Payer, Quota};

use crate::layout::PAGE;

/// A range of physical memory, by frames of 4 KiB. A frame that two address spaces share is given back when both have let go; until then the
/// user pays for it who took it.
#[derive(Debug)]
pub struct Frames {
    base: u64,
    holders: Vec<u32>,
    payers: Vec<u8>,
    free: Vec<u32>,
    quota: Quota,
    payer: Payer,
}

impl Frames {
    /// All frames of a range, free. Both ends are multiples of 4 KiB.
    #[must_use]
    pub fn new(memory: &Range<u64>) -> Frames {
        let count = (memory.end.saturating_sub(memory.start) / PAGE) as u32;
        Frames {
            base: memory.start,
            holders: alloc::vec![0; count as usize],
            payers: alloc::vec![0; count as usize],
            free: (0..count).rev().collect(),
            quota: Quota::new(count.into()),
            payer: Payer::ROOT,
        }
    }

    /// Frames that nobody has.
    #[must_use]
    pub fn free(&self) -> u64 {
        self.free.len() as u64
    }

    /// All frames.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.holders.len() as u64
    }

    /// Says who pays for frames from now on.
    pub fn set_payer(&mut self, payer: Payer) {
        self.payer = payer;
    }

    /// How many more may be taken now.
    #[must_use]
    pub fn room(&self) -> u64 {
        self.quota.room(self.payer)
    }

    /// Frames that a user pays for.
    #[must_use]
    pub fn own(&self, user: u32) -> u64 {
        self.quota.own(user)
    }

    /// Takes a frame; its physical address.
    pub fn take(&mut self) -> Option<u64> {
        if !self.quota.take(self.payer, 1) {
            return None;
        }
        let index = self.free.pop()?;
        *self.holders.get_mut(index as usize)? = 1;
        *self.payers.get_mut(index as usize)? = self.payer.user() as u8;
        Some(self.base + u64::from(index) * PAGE)
    }

    fn index(&self, frame: u64) -> Option<usize> {
        let index = (frame.checked_sub(self.base)? / PAGE) as usize;
        (index < self.holders.len()).then_some(index)
    }

    /// Whether the frame is one of these; files' pages are not.
    #[must_use]
    pub fn contains(&self, frame: u64) -> bool {
        self.index(frame).is_some()
    }

    /// How many have the frame.
    #[must_use]
    pub fn holders(&self, frame: u64) -> u32 {
        self.index(frame).and_then(|index| self.holders.get(index)).copied().unwrap_or(0)
    }

    /// One more has the frame; nothing for frames that are not of these.
    pub fn share(&mut self, frame: u64) {
        if let Some(holders) = self.index(frame).and_then(|index| self.holders.get_mut(index)) {
            *holders = holders.saturating_add(1);
        }
    }

    /// One holder lets go; whether it was the last.
    pub fn release(&mut self, frame: u64) -> bool {
        let Some(index) = self.index(frame) else { return false };
        let Some(holders) = self.holders.get_mut(index) else { return false };
        match *holders {
            0 => false,
            1 => {
                *holders = 0;
                self.free.push(index as u32);
                let payer = self.payers.get(index).copied().unwrap_or(0);
                self.quota.give_back(payer.into(), 1);
                true
            }
            _ => {
                *holders -= 1;
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_comes_back_when_the_last_has_let_go() {
        let mut frames = Frames::new(&(0x4000_0000..0x4000_3000));
        let taken: Vec<u64> = core::iter::from_fn(|| frames.take()).collect();
        assert_eq!(taken, [0x4000_0000, 0x4000_1000, 0x4000_2000]);
        assert_eq!((frames.free(), frames.total()), (0, 3));
        frames.share(taken[1]);
        assert_eq!(frames.holders(taken[1]), 2);
        assert!(!frames.release(taken[1]));
        assert!(frames.release(taken[1]));
        assert!(!frames.release(taken[1]), "nobody has it");
        assert_eq!(frames.free(), 1);
        assert_eq!(frames.take(), Some(taken[1]));
    }

    #[test]
    fn who_took_a_frame_pays_until_it_is_free() {
        let mut frames = Frames::new(&(0x4000_0000..0x4000_8000));
        let [one, two] = [1, 2].map(|user| Payer::new(user, 3, 8));
        frames.set_payer(one);
        let taken: Vec<u64> = core::iter::from_fn(|| frames.take()).collect();
        assert_eq!((taken.len(), frames.room(), frames.own(1)), (3, 0, 3));
        frames.set_payer(two);
        frames.share(taken[0]);
        assert!(!frames.release(taken[0]) && frames.own(1) == 3 && frames.own(2) == 0);
        assert_eq!(core::iter::from_fn(|| frames.take()).count(), 3);
        assert!(frames.release(taken[0]) && frames.own(1) == 2 && frames.take().is_none());
        frames.set_payer(Payer::ROOT);
        assert_eq!(core::iter::from_fn(|| frames.take()).count(), 3);
        assert_eq!(frames.free(), 0);
    }

    #[test]
    fn others_frames_are_not_counted() {
        let mut frames = Frames::new(&(0x4000_0000..0x4000_3000));
        for other in [0, 0x3fff_f000, 0x4000_3000, u64::MAX] {
            frames.share(other);
            assert!(!frames.contains(other) && !frames.release(other) && frames.holders(other) == 0);
        }
        assert_eq!(frames.free(), 3);
    }
}
