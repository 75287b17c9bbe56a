//! What is mapped where in an address space.

use alloc::{collections::BTreeMap, vec::Vec};
use core::ops::Range;

use bitflags::bitflags;
use linux_raw_sys::general as linux;

use crate::{
    Errno,
    layout::{PAGE, USER_BASE, USER_END},
};

/// The most areas of an address space.
pub const AREAS_MAX: usize = 4096;

bitflags! {
    /// What a program may do with memory.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Protection: u32 {
        /// Load.
        const READ = linux::PROT_READ;
        /// Store.
        const WRITE = linux::PROT_WRITE;
        /// Execute.
        const EXECUTE = linux::PROT_EXEC;
    }
}

impl Protection {
    /// As a program says it. Nothing is writable and executable at once.
    ///
    /// # Errors
    ///
    /// [`Errno::INVAL`] for unknown bits; [`Errno::ACCES`] for writable and executable.
    pub fn new(bits: u64) -> Result<Protection, Errno> {
        let protection = u32::try_from(bits).ok().and_then(Protection::from_bits).ok_or(Errno::INVAL)?;
        if protection.contains(Protection::WRITE | Protection::EXECUTE) {
            return Err(Errno::ACCES);
        }
        Ok(protection)
    }
}

/// What an area's pages are made of.
pub trait Backing: Clone {
    /// The same, from so many bytes on.
    fn advance(&self, bytes: u64) -> Self;
    /// Whether `next` goes on where this ends after so many bytes, so that they can be one area.
    fn continues(&self, bytes: u64, next: &Self) -> bool;
}

/// An area without its start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Area<B> {
    /// The first address behind it.
    pub end: u64,
    /// What may be done there.
    pub protection: Protection,
    /// What it is made of.
    pub backing: B,
}

/// All areas of an address space: disjoint, of whole pages, in order.
#[derive(Clone, Debug)]
pub struct Areas<B> {
    map: BTreeMap<u64, Area<B>>,
    bytes: u64,
}

impl<B: Backing> Default for Areas<B> {
    fn default() -> Areas<B> {
        Areas { map: BTreeMap::new(), bytes: 0 }
    }
}

/// Checks a range of pages that a program names: `address` on a page boundary, not empty, inside a program's part of the address space.
///
/// # Errors
///
/// [`Errno::INVAL`], or [`Errno::NOMEM`] where it reaches beyond.
pub fn user_range(address: u64, length: u64) -> Result<Range<u64>, Errno> {
    if !address.is_multiple_of(PAGE) || length == 0 {
        return Err(Errno::INVAL);
    }
    let length = crate::layout::page_ceiling(length).ok_or(Errno::NOMEM)?;
    let end = address.checked_add(length).ok_or(Errno::NOMEM)?;
    if address < USER_BASE || end > USER_END {
        return Err(Errno::NOMEM);
    }
    Ok(address..end)
}

impl<B: Backing> Areas<B> {
    /// Bytes in all areas.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// All areas, in order.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &Area<B>)> {
        self.map.iter().map(|(&start, area)| (start, area))
    }

    /// The area that holds an address.
    #[must_use]
    pub fn find(&self, address: u64) -> Option<(u64, &Area<B>)> {
        let (&start, area) = self.map.range(..=address).next_back()?;
        (address < area.end).then_some((start, area))
    }

    /// The areas that reach into a range, in order.
    pub fn within(&self, range: &Range<u64>) -> impl Iterator<Item = (u64, &Area<B>)> {
        let first = self.find(range.start).map_or(range.start, |(start, _)| start);
        self.map.range(first..range.end).map(|(&start, area)| (start, area))
    }

    /// Whether nothing is mapped there.
    #[must_use]
    pub fn is_free(&self, range: &Range<u64>) -> bool {
        self.map.range(..range.end).next_back().is_none_or(|(_, area)| area.end <= range.start)
    }

    /// Whether all of it is mapped.
    #[must_use]
    pub fn covers(&self, range: &Range<u64>) -> bool {
        let mut at = range.start;
        while at < range.end {
            match self.find(at) {
                Some((_, area)) => at = area.end,
                None => return false,
            }
        }
        true
    }

    /// The highest free range of `length` bytes below `top` that starts at a multiple of `alignment`, a power of two.
    #[must_use]
    pub fn gap(&self, length: u64, alignment: u64, top: u64) -> Option<Range<u64>> {
        let below = |end: u64| Some(end.checked_sub(length)? & !(alignment - 1));
        let mut end = top;
        for (&start, area) in self.map.range(..top).rev() {
            if let Some(place) = below(end).filter(|&place| place >= area.end) {
                return Some(place..place + length);
            }
            end = end.min(start);
        }
        below(end).filter(|&place| place >= USER_BASE).map(|place| place..place + length)
    }

    /// Room for so many more areas.
    ///
    /// # Errors
    ///
    /// [`Errno::NOMEM`].
    pub fn check_room(&self, more: usize) -> Result<(), Errno> {
        if self.map.len() + more > AREAS_MAX { Err(Errno::NOMEM) } else { Ok(()) }
    }

    /// Maps a free range.
    ///
    /// # Errors
    ///
    /// [`Errno::EXIST`] if something is there; [`Errno::NOMEM`] if there are too many areas.
    pub fn insert(&mut self, range: Range<u64>, protection: Protection, backing: B) -> Result<(), Errno> {
        let before = self.map.range_mut(..range.end).next_back();
        if before.as_ref().is_some_and(|(_, area)| area.end > range.start) {
            return Err(Errno::EXIST);
        }
        let length = range.end - range.start;
        // What it joins grows; otherwise it is one more.
        match before {
            Some((&start, area))
                if area.end == range.start
                    && area.protection == protection
                    && area.backing.continues(range.start - start, &backing) =>
            {
                area.end = range.end;
            }
            _ => {
                self.check_room(1)?;
                self.map.insert(range.start, Area { end: range.end, protection, backing });
            }
        }
        self.bytes += length;
        self.merge(range.end);
        Ok(())
    }

    /// Unmaps a range; what was there, in pieces, in order.
    ///
    /// # Errors
    ///
    /// [`Errno::NOMEM`] if an area would have to be split and there are too many.
    pub fn remove(&mut self, range: &Range<u64>) -> Result<Vec<(u64, Area<B>)>, Errno> {
        let inside =
            self.find(range.start).is_some_and(|(start, area)| start < range.start && range.end < area.end);
        self.check_room(usize::from(inside))?;
        self.split(range.start);
        self.split(range.end);
        let starts: Vec<u64> = self.map.range(range.clone()).map(|(&start, _)| start).collect();
        let removed: Vec<(u64, Area<B>)> =
            starts.into_iter().filter_map(|start| Some((start, self.map.remove(&start)?))).collect();
        self.bytes -= removed.iter().map(|(start, area)| area.end - start).sum::<u64>();
        Ok(removed)
    }

    /// Unmaps every area that is not to be kept.
    pub fn retain(&mut self, keep: impl Fn(&B) -> bool) {
        self.map.retain(|_, area| keep(&area.backing));
        self.bytes = self.map.iter().map(|(start, area)| area.end - start).sum();
    }

    /// Changes what may be done with a range that is mapped as a whole.
    ///
    /// # Errors
    ///
    /// [`Errno::NOMEM`] if some of it is not mapped, or an area would have to be split and there are too many.
    pub fn protect(&mut self, range: &Range<u64>, protection: Protection) -> Result<(), Errno> {
        if !self.covers(range) {
            return Err(Errno::NOMEM);
        }
        self.check_room(2)?;
        self.split(range.start);
        self.split(range.end);
        for (_, area) in self.map.range_mut(range.clone()) {
            area.protection = protection;
        }
        let starts: Vec<u64> = self.map.range(range.clone()).map(|(&start, _)| start).collect();
        for start in starts.into_iter().chain([range.end]) {
            self.merge(start);
        }
        Ok(())
    }

    /// Makes `at` a border between areas, if it lies within one.
    fn split(&mut self, at: u64) {
        let Some((start, area)) = self.find(at) else { return };
        if start == at {
            return;
        }
        let upper = Area { backing: area.backing.advance(at - start), ..area.clone() };
        self.map.insert(at, upper);
        if let Some(lower) = self.map.get_mut(&start) {
            lower.end = at;
        }
    }

    /// Joins the area that starts at `at` with the one before it, if they belong together.
    fn merge(&mut self, at: u64) {
        let Some(upper) = self.map.get(&at) else { return };
        let Some((&start, lower)) = self.map.range(..at).next_back() else { return };
        let joined = lower.end == at
            && lower.protection == upper.protection
            && lower.backing.continues(at - start, &upper.backing);
        if !joined {
            return;
        }
        let end = upper.end;
        self.map.remove(&at);
        if let Some(lower) = self.map.get_mut(&start) {
            lower.end = end;
        }
    }
}

#[cfg(test)]
mod tests;
