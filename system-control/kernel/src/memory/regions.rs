//! Message regions in address spaces.

use alloc::{rc::Rc, vec::Vec};
use core::ops::Range;

use handover_guest::abi::layout::{WINDOW_BASE, WINDOW_SIZE};
use handover_kernel::{
    Errno,
    areas::{Area, Protection},
    fault::Access,
    frames::Frames,
    layout::{MAPPING_TOP, PAGE},
};

use super::{Space, Stuff};
use crate::{
    arch::{self, table::BLOCK},
    region::RegionMapping,
};

impl Space {
    /// Maps a region, readable and writable; where.
    pub fn map_region(&mut self, mapping: &Rc<RegionMapping>, bytes: u64) -> Result<u64, Errno> {
        let range = self.free_range(bytes, true).ok_or(Errno::NOMEM)?;
        let start = range.start;
        let stuff = Stuff::Region { mapping: mapping.clone(), offset: 0 };
        self.areas.insert(range.clone(), Protection::READ | Protection::WRITE, stuff)?;
        mapping.add_place(self.id, range);
        Ok(start)
    }

    /// Where there is room for so many bytes; a region's start at a block's start, if they are as many.
    pub(super) fn free_range(&self, bytes: u64, region: bool) -> Option<Range<u64>> {
        self.areas.gap(bytes, if region && bytes >= BLOCK { BLOCK } else { PAGE }, MAPPING_TOP)
    }

    /// Maps the beginning of a region that has just been mapped, which the program touches next. If that cannot be, its touch says why.
    pub fn begin_region(&mut self, frames: &mut Frames, start: u64) {
        _ = self.fault(frames, start, Access::Read);
    }

    /// Takes a region's pages away. Its area goes too, but for that of a file.
    pub fn drop_region(&mut self, mapping: &Rc<RegionMapping>) {
        let Some(range) = mapping.place_in(self.id) else { return };
        let own = |area: &Area<Stuff>| area.backing.region().is_some_and(|other| Rc::ptr_eq(other, mapping));
        let parts: Vec<Range<u64>> = self
            .areas
            .within(&range)
            .filter(|(_, area)| own(area))
            .map(|(start, area)| start..area.end)
            .collect();
        let mut dropped = false;
        for part in &parts {
            // The pages are no frames of programs' memory, so there is nothing to give back.
            let blocks = self.table.for_each(part.clone(), |_, entry| dropped |= entry.take().is_some());
            dropped |= blocks > 0;
            if !mapping.is_file() {
                // It is removed as a whole, which needs no room.
                _ = self.areas.remove(part);
            }
        }
        match &parts[..] {
            _ if !dropped => {}
            [page] if page.end - page.start == PAGE => arch::forget_page(self.asid, page.start),
            _ => arch::forget_all(self.asid),
        }
        if !mapping.is_file() {
            mapping.forget_space(self.id);
        }
    }

    /// The regions that sockets have mapped and that a range reaches into, each with its place.
    pub fn regions_in(&self, range: &Range<u64>) -> Vec<Range<u64>> {
        let mut places: Vec<Range<u64>> = self
            .areas
            .within(range)
            .filter_map(|(_, area)| {
                area.backing.region().filter(|mapping| !mapping.is_file())?.place_in(self.id)
            })
            .collect();
        places.dedup();
        places
    }

    /// Whether a range reaches into a region, or a message file.
    pub fn has_region(&self, range: &Range<u64>) -> bool {
        self.areas.within(range).any(|(_, area)| area.backing.region().is_some())
    }
}

/// Whether it lies in the message window: then it is no memory of programs', and others account for it.
pub(super) fn is_region(physical: u64) -> bool {
    (WINDOW_BASE..WINDOW_BASE + WINDOW_SIZE).contains(&physical)
}
