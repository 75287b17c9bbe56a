//! What system calls do with address spaces.

use alloc::vec::Vec;
use core::ops::Range;

use handover_guest::mapping;
use handover_kernel::{
    Errno,
    areas::{Backing, Protection, user_range},
    frames::Frames,
    layout::{BREAK_MAX, MAPPING_TOP, PAGE, page_ceiling, page_floor},
};

use super::{Space, Stuff, regions::is_region};
use crate::arch::{self, table::Entry};

/// Where something is to be mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// There, and what is there goes.
    Fixed(u64),
    /// There, if nothing is.
    Free(u64),
    /// There if nothing is, else anywhere.
    Anywhere(u64),
}

impl Space {
    /// That so many bytes more can be asked for: a program that asks for more than it may ever have learns it now.
    fn check_size(&self, frames: &Frames, length: u64) -> Result<(), Errno> {
        let used = self.resident + self.table.frames();
        let room = self.limit.saturating_sub(used).min(frames.room());
        if length / PAGE > room { Err(Errno::NOMEM) } else { Ok(()) }
    }

    /// Maps a stack, which may be longer than what the program may have: few touch all of it.
    pub fn add_stack(&mut self, range: Range<u64>) -> Result<(), Errno> {
        self.areas.insert(range, Protection::READ | Protection::WRITE, Stuff::Anonymous)
    }

    /// Maps a range, or a free one of that length below the stack if there is no `fixed` one, or it is only a `hint`.
    pub fn map_area(
        &mut self,
        frames: &mut Frames,
        place: Place,
        length: u64,
        protection: Protection,
        stuff: Stuff,
    ) -> Result<u64, Errno> {
        if length == 0 {
            return Err(Errno::INVAL);
        }
        let length = page_ceiling(length).ok_or(Errno::NOMEM)?;
        // A region's pages are not frames of programs' memory.
        if protection.contains(Protection::WRITE) && stuff.region().is_none() {
            self.check_size(frames, length)?;
        }
        let range = match place {
            Place::Fixed(address) => {
                let range = user_range(address, length)?;
                self.areas.check_room(2)?;
                self.unmap(frames, &range)?;
                range
            }
            Place::Free(address) => {
                let range = user_range(address, length)?;
                if !self.areas.is_free(&range) {
                    return Err(Errno::EXIST);
                }
                range
            }
            Place::Anywhere(hint) => user_range(page_floor(hint), length)
                .ok()
                .filter(|range| hint != 0 && range.end <= MAPPING_TOP && self.areas.is_free(range))
                .or_else(|| self.free_range(length, stuff.region().is_some()))
                .ok_or(Errno::NOMEM)?,
        };
        let start = range.start;
        self.areas.insert(range, protection, stuff)?;
        Ok(start)
    }

    /// Unmaps whatever is in a range.
    pub fn unmap(&mut self, frames: &mut Frames, range: &Range<u64>) -> Result<(), Errno> {
        let removed = self.areas.remove(range)?;
        for (start, area) in &removed {
            self.drop_pages(frames, *start..area.end);
        }
        Ok(())
    }

    /// Gives the pages of a range back; its areas stay.
    fn drop_pages(&mut self, frames: &mut Frames, range: Range<u64>) {
        let mut dropped = false;
        let resident = &mut self.resident;
        let blocks = self.table.for_each(range, |_, entry| {
            if let Some(entry) = entry.take() {
                frames.release(entry.physical());
                *resident -= u64::from(!is_region(entry.physical()));
                dropped = true;
            }
        });
        if dropped || blocks > 0 {
            arch::forget_all(self.asid);
        }
    }

    /// `madvise(MADV_DONTNEED)`: private pages start anew at the next touch.
    pub fn discard(&mut self, frames: &mut Frames, range: &Range<u64>) -> Result<(), Errno> {
        if !self.areas.covers(range) {
            return Err(Errno::NOMEM);
        }
        self.drop_pages(frames, range.clone());
        Ok(())
    }

    /// `mprotect`.
    pub fn protect(
        &mut self,
        frames: &mut Frames,
        range: &Range<u64>,
        protection: Protection,
    ) -> Result<(), Errno> {
        let before: u64 = range.end - range.start;
        if protection.contains(Protection::WRITE) {
            self.check_size(frames, before)?;
        }
        self.areas.protect(range, protection)?;
        let areas = &self.areas;
        let mut changed = false;
        let blocks = self.table.for_each(range.clone(), |address, entry| {
            let Some(old) = *entry else { return };
            let shared = areas.find(address).is_some_and(|(_, area)| area.backing.is_shared());
            // What is not the program's alone is copied at the next write.
            let sole = shared || frames.holders(old.physical()) == 1;
            let allowed = if sole { protection } else { protection.difference(Protection::WRITE) };
            if allowed.contains(Protection::EXECUTE) && !old.is_executable() {
                arch::synchronize_code(mapping::address(old.physical()), PAGE as usize);
            }
            *entry = Some(Entry::new(old.physical(), allowed));
            changed = true;
        });
        if changed || blocks > 0 {
            arch::forget_all(self.asid);
        }
        Ok(())
    }

    /// `brk`: the heap's new end, or the old one where it cannot be moved.
    pub fn set_end(&mut self, frames: &mut Frames, end: u64) -> u64 {
        let pages = |address| page_ceiling(address).unwrap_or(u64::MAX);
        if end < self.break_start || end - self.break_start > BREAK_MAX {
            return self.break_end;
        }
        let (old, new) = (pages(self.break_end), pages(end));
        let moved = if new > old {
            let protection = Protection::READ | Protection::WRITE;
            self.map_area(frames, Place::Free(old), new - old, protection, Stuff::Anonymous).is_ok()
        } else {
            new == old || self.unmap(frames, &(new..old)).is_ok()
        };
        if moved {
            self.break_end = end;
        }
        self.break_end
    }

    /// `mremap`, without a place given: makes an area shorter, or longer where there is room behind it or, if it may move, elsewhere.
    pub fn resize(
        &mut self,
        frames: &mut Frames,
        old: Range<u64>,
        length: u64,
        may_move: bool,
    ) -> Result<u64, Errno> {
        let length = page_ceiling(length).filter(|&length| length != 0).ok_or(Errno::INVAL)?;
        let old_length = old.end - old.start;
        let (start, area) = self.areas.find(old.start).ok_or(Errno::FAULT)?;
        if area.end < old.end {
            return Err(Errno::FAULT);
        }
        let (protection, stuff) = (area.protection, area.backing.advance(old.start - start));
        if length <= old_length {
            let rest = old.start + length..old.end;
            if !rest.is_empty() {
                self.unmap(frames, &rest)?;
            }
            return Ok(old.start);
        }
        let more = length - old_length;
        self.check_size(frames, more)?;
        if let Ok(rest) = user_range(old.end, more)
            && self.areas.is_free(&rest)
            && rest.end <= MAPPING_TOP
        {
            self.areas.insert(rest, protection, stuff.advance(old_length))?;
            return Ok(old.start);
        }
        if !may_move {
            return Err(Errno::NOMEM);
        }
        self.areas.check_room(3)?;
        let to = self.map_area(frames, Place::Anywhere(0), length, protection, stuff)?;
        self.move_pages(frames, &old, to);
        self.unmap(frames, &old)?;
        Ok(to)
    }

    /// Moves the pages that are there; one that finds no table at its new place is lost to its file or to zeroes only if that could not be
    /// helped: then the program has no memory left anyway, and it is put back.
    fn move_pages(&mut self, frames: &mut Frames, from: &Range<u64>, to: u64) {
        let mut pages = Vec::new();
        self.table.for_each(from.clone(), |address, entry| {
            if let Some(entry) = *entry {
                pages.push((address, entry));
            }
        });
        for (address, entry) in pages {
            if self.table.set(frames, to + (address - from.start), entry).is_ok() {
                self.table.take(address);
            }
        }
        arch::forget_all(self.asid);
    }
}
