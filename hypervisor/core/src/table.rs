//! Tables of records that grow by pages.

use core::fmt;
use core::ops::Deref;

use crate::{Machine, Pa};

/// Pages a table may have: a power of two.
const PAGES: usize = 128;

/// In [`Slot::link`] while there is no record: the rest is the next free slot's handle, or 0. As a number it names that slot, so never this one.
const FREE: u32 = 1 << 31;

/// The link of the first slot of all, which no number names.
const NEVER: u32 = u32::MAX;

/// What makes a slot as large as a power of two, so that its address takes no multiplication.
pub(crate) trait Size: Default + 'static {}

macro_rules! sizes {
    ($($name:ident $bytes:literal),*) => {
        $(
            #[doc = concat!($bytes, " bytes.")]
            #[derive(Default)]
            #[repr(align($bytes))]
            pub(crate) struct $name;

            impl Size for $name {}
        )*
    };
}

sizes!(To64 64, To256 256);

/// A record's place. What was there last stays there: a record is written over, not moved in and out.
#[derive(Default)]
pub(crate) struct Slot<T, S> {
    record: T,
    /// Its own handle while there is a record; [`FREE`], and what follows.
    link: u32,
    _size: [S; 0],
}

/// Slots that fit in a page.
pub(crate) const fn per_page<T, S>() -> usize {
    crate::PAGE as usize / size_of::<Slot<T, S>>()
}

/// What [`PagedTable::scan`] has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scan {
    /// This handle's record.
    Found(u32),
    /// A page, or the rest of one, without records.
    Nothing,
    /// The end of the table.
    End,
}

/// A table of records named by handles from 1 on, `N` to a page, which is a power of two. A handle is `page * N + slot`; the first slot of all stays empty.
///
/// A record is found without a look at how large the table is: of a number out of its range the upper bits do not count, and the slot that is left does
/// not have it for its handle. Empty pages stay until [`PagedTable::shrink`].
pub(crate) struct PagedTable<T: 'static, S: Size, const N: usize> {
    pages: [Option<&'static mut [Slot<T, S>; N]>; PAGES],
    /// How many pages there are, from the first on.
    present: u32,
    /// Head of the list of slots without records, or 0.
    free: u32,
}

/// A record that there is.
pub(crate) struct Found<'a, T, S: Size> {
    slot: &'a mut Slot<T, S>,
    free: &'a mut u32,
    handle: u32,
}

impl<'a, T, S: Size> Found<'a, T, S> {
    /// Forgets it. → what it was: it can be read until the slot is taken again.
    #[inline(always)]
    pub(crate) fn vacate(self) -> &'a T {
        let Found { slot, free, handle } = self;
        slot.link = FREE | *free;
        *free = handle;
        &slot.record
    }
}

impl<T, S: Size> Deref for Found<'_, T, S> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        &self.slot.record
    }
}

impl<T: fmt::Debug + 'static, S: Size, const N: usize> fmt::Debug for PagedTable<T, S, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.handles().filter_map(|handle| Some((handle, self.get(handle)?)))).finish()
    }
}

impl<T: 'static, S: Size, const N: usize> PagedTable<T, S, N> {
    /// Handles are below this.
    #[cfg(test)]
    const LIMIT: u32 = (N * PAGES) as u32;

    pub(crate) const fn new() -> PagedTable<T, S, N> {
        const { assert!(N.is_power_of_two() && N * PAGES < FREE as usize) };
        PagedTable { pages: [const { None }; PAGES], present: 0, free: 0 }
    }

    /// Page and slot; the upper bits of what is no handle do not count.
    #[inline(always)]
    fn split(handle: u32) -> (usize, usize) {
        let handle = handle as usize;
        (handle / N % PAGES, handle % N)
    }

    #[inline(always)]
    fn slot(&self, handle: u32) -> Option<&Slot<T, S>> {
        let (page, slot) = Self::split(handle);
        self.pages.get(page)?.as_ref()?.get(slot)
    }

    #[inline(always)]
    fn slot_mut(&mut self, handle: u32) -> Option<&mut Slot<T, S>> {
        let (page, slot) = Self::split(handle);
        self.pages.get_mut(page)?.as_mut()?.get_mut(slot)
    }

    #[inline(always)]
    pub(crate) fn get(&self, handle: u32) -> Option<&T> {
        let slot = self.slot(handle)?;
        (slot.link == handle).then_some(&slot.record)
    }

    #[inline(always)]
    pub(crate) fn get_mut(&mut self, handle: u32) -> Option<&mut T> {
        let slot = self.slot_mut(handle)?;
        (slot.link == handle).then_some(&mut slot.record)
    }

    /// The record under a handle that has been found before in this call, or that a record of ours names: it is not asked whether it is that.
    #[inline(always)]
    pub(crate) fn known(&mut self, handle: u32) -> Option<&mut T> {
        let slot = self.slot_mut(handle)?;
        debug_assert!(slot.link == handle);
        Some(&mut slot.record)
    }

    /// The same, to be looked at before it goes.
    #[inline(always)]
    pub(crate) fn found(&mut self, handle: u32) -> Option<Found<'_, T, S>> {
        let (page, at) = Self::split(handle);
        let slot = self.pages.get_mut(page)?.as_mut()?.get_mut(at)?;
        debug_assert!(slot.link == handle);
        Some(Found { slot, free: &mut self.free, handle })
    }

    /// Whether a record can only be added after [`PagedTable::grow`].
    #[inline(always)]
    pub(crate) fn is_full(&self) -> bool {
        self.next().is_none()
    }

    /// The handle that the next record gets; `None` when full.
    #[inline(always)]
    pub(crate) fn next(&self) -> Option<u32> {
        (self.free != 0).then_some(self.free)
    }

    /// Whether another page fits.
    pub(crate) fn can_grow(&self) -> bool {
        (self.present as usize) < PAGES
    }

    /// Adds a page, made of a fresh frame, to a table that [can grow](PagedTable::can_grow).
    #[cold]
    pub(crate) fn grow(&mut self, m: &mut impl Machine, frame: Pa)
    where
        T: Default,
    {
        let records = m.records::<Slot<T, S>>(frame);
        debug_assert!(records.len() >= N);
        if let Some(records) = records.first_chunk_mut::<N>() {
            self.add(records);
        }
    }

    fn add(&mut self, records: &'static mut [Slot<T, S>; N]) {
        let Some(page) = self.pages.get_mut(self.present as usize) else { return };
        let first = self.present.wrapping_mul(N as u32);
        for (at, slot) in records.iter_mut().enumerate().rev() {
            let handle = first.wrapping_add(at as u32);
            // 0 does not name the first slot of all, and says that no slot is free.
            if handle == 0 {
                slot.link = NEVER;
            } else {
                slot.link = FREE | self.free;
                self.free = handle;
            }
        }
        *page = Some(records);
        self.present = self.present.wrapping_add(1);
    }

    /// Takes a slot, with whatever record was there last; `None` when full.
    #[inline(always)]
    pub(crate) fn occupy(&mut self) -> Option<(u32, &mut T)> {
        let handle = self.free;
        if handle == 0 {
            return None;
        }
        // All of it is checked before anything changes, and the slot is looked up only once.
        let (page, at) = Self::split(handle);
        let slot = self.pages.get_mut(page)?.as_mut()?.get_mut(at)?;
        self.free = slot.link & !FREE;
        slot.link = handle;
        Some((handle, &mut slot.record))
    }

    /// Adds a record; `None` when full.
    #[inline(always)]
    pub(crate) fn insert(&mut self, record: T) -> Option<u32> {
        let (handle, slot) = self.occupy()?;
        *slot = record;
        Some(handle)
    }

    /// Forgets a record, if there is one.
    #[inline(always)]
    pub(crate) fn remove(&mut self, handle: u32) -> bool {
        self.get(handle).is_some() && self.vacate(handle).is_some()
    }

    /// Forgets a record that is [known](PagedTable::known) to be there. → what it was: it can be read until the slot is taken again.
    #[inline(always)]
    pub(crate) fn vacate(&mut self, handle: u32) -> Option<&T> {
        Some(self.found(handle)?.vacate())
    }

    /// Looks for the first record from `cursor` on, through no more than a page; `cursor` moves to where to look next. Start at 1.
    pub(crate) fn scan(&self, cursor: &mut u32) -> Scan {
        if *cursor >= self.present.wrapping_mul(N as u32) {
            return Scan::End;
        }
        let end = (*cursor | (N as u32).wrapping_sub(1)).wrapping_add(1);
        let found = (*cursor..end).find(|&handle| self.get(handle).is_some());
        *cursor = found.unwrap_or(end);
        found.map_or(Scan::Nothing, Scan::Found)
    }

    /// All records there are, by their handles.
    pub(crate) fn handles(&self) -> impl Iterator<Item = u32> {
        (1..self.present.wrapping_mul(N as u32)).filter(|&handle| self.get(handle).is_some())
    }

    /// Takes the last page of a table without records away; `None` when there is no page left.
    pub(crate) fn shrink(&mut self, m: &mut impl Machine) -> Option<Pa> {
        debug_assert!(self.handles().next().is_none());
        self.free = 0;
        let last = self.present.checked_sub(1)?;
        let page = self.pages.get_mut(last as usize)?.take()?;
        self.present = last;
        Some(m.reclaim(page.as_mut_slice()))
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use std::boxed::Box;
    use std::collections::BTreeMap;
    use std::vec::Vec;

    type Table = PagedTable<u64, To64, { per_page::<u64, To64>() }>;

    fn table(pages: u32) -> Table {
        let mut table = Table::new();
        for _ in 0..pages {
            table.add(Box::leak(Box::new(core::array::from_fn(|_| Slot::default()))));
        }
        table
    }

    #[test]
    fn a_number_names_what_was_added_under_it_and_nothing_else() {
        let (mut table, mut naive) = (table(3), BTreeMap::new());
        let mut state = 1u64;
        for step in 0..20_000u64 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let any = (state >> 33) as u32;
            if any.is_multiple_of(3) {
                let handle = any / 3 % 200;
                let record = table.get(handle).copied();
                assert_eq!(record, naive.remove(&handle));
                assert_eq!(table.remove(handle), record.is_some());
            } else {
                let next = table.next();
                assert_eq!(next.is_none(), naive.len() == 3 * 64 - 1);
                assert_eq!(table.insert(step), next);
                if let Some(handle) = next {
                    assert_eq!(naive.insert(handle, step), None);
                }
            }
            for near in [any, any % 256, 0, FREE, u32::MAX, FREE | (any % 256), any % 256 + Table::LIMIT] {
                assert_eq!(table.get(near), naive.get(&near), "{near:#x}");
            }
        }
        assert_eq!(table.handles().collect::<Vec<_>>(), naive.keys().copied().collect::<Vec<_>>());
    }

    #[test]
    fn a_full_table_of_all_pages_takes_no_more() {
        let mut table = table(PAGES as u32);
        let mut handles: Vec<_> = (1..Table::LIMIT).filter_map(|_| table.insert(1)).collect();
        handles.sort_unstable();
        assert!(handles.into_iter().eq(1..Table::LIMIT));
        assert_eq!((table.next(), table.insert(0), table.can_grow()), (None, None, false));
        assert_eq!(table.get(1), Some(&1));
    }

    #[test]
    fn a_scan_finds_each_record_once_and_looks_through_a_page_a_step() {
        let mut table = table(3);
        for _ in 0..150 {
            table.insert(0);
        }
        for gone in (1..150).filter(|handle| handle % 7 != 0) {
            table.remove(gone);
        }
        let (mut cursor, mut found) = (1, Vec::new());
        let mut steps = 0;
        loop {
            match table.scan(&mut cursor) {
                Scan::Found(handle) => {
                    found.push(handle);
                    cursor += 1;
                }
                Scan::Nothing => {}
                Scan::End => break,
            }
            steps += 1;
        }
        assert!(steps <= found.len() + 3);
        assert_eq!(found, table.handles().collect::<Vec<_>>());
    }
}
