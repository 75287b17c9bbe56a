//! Tables of records that grow by pages.

use core::fmt;

use crate::{Machine, Pa};

/// Pages a table may have.
const PAGES: usize = 128;

/// What [`Slot::link`] holds while there is a record.
const USED: u32 = u32::MAX;

/// A record's place. What was there last stays there: a record is written over, not moved in and out.
#[derive(Default)]
pub(crate) struct Slot<T> {
    record: T,
    /// [`USED`], or the next free slot's handle, or 0.
    link: u32,
}

/// Records that fit in a page.
pub(crate) const fn per_page<T>() -> usize {
    crate::PAGE as usize / size_of::<Slot<T>>()
}

/// A table of records named by handles from 1 on, `N` to a page. A handle is `(page << BITS | slot) + 1`, so that finding a record takes no
/// division; where `N` is no power of two, some numbers name nothing. Empty pages stay until [`PagedTable::shrink`].
pub(crate) struct PagedTable<T: 'static, const N: usize> {
    pages: [Option<&'static mut [Slot<T>; N]>; PAGES],
    /// How many pages there are, from the first on.
    present: u32,
    /// Head of the list of slots that were used before, or 0.
    free: u32,
    /// The handle of the first slot never used.
    fresh: u32,
    used: u32,
}

impl<T: fmt::Debug + 'static, const N: usize> fmt::Debug for PagedTable<T, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.handles().filter_map(|handle| Some((handle, self.get(handle)?)))).finish()
    }
}

impl<T: 'static, const N: usize> PagedTable<T, N> {
    const BITS: u32 = usize::BITS - (N - 1).leading_zeros();

    pub(crate) const fn new() -> PagedTable<T, N> {
        PagedTable { pages: [const { None }; PAGES], present: 0, free: 0, fresh: 1, used: 0 }
    }

    /// Records in it.
    pub(crate) fn used(&self) -> u32 {
        self.used
    }

    #[inline(always)]
    fn split(handle: u32) -> (usize, usize) {
        let index = handle.wrapping_sub(1);
        ((index >> Self::BITS) as usize, (index & ((1 << Self::BITS) - 1)) as usize)
    }

    #[inline(always)]
    fn slot(&mut self, handle: u32) -> Option<&mut Slot<T>> {
        let (page, slot) = Self::split(handle);
        self.pages.get_mut(page)?.as_mut()?.get_mut(slot)
    }

    #[inline(always)]
    pub(crate) fn get(&self, handle: u32) -> Option<&T> {
        let (page, slot) = Self::split(handle);
        let slot = self.pages.get(page)?.as_ref()?.get(slot)?;
        (slot.link == USED).then_some(&slot.record)
    }

    #[inline(always)]
    pub(crate) fn get_mut(&mut self, handle: u32) -> Option<&mut T> {
        let slot = self.slot(handle)?;
        (slot.link == USED).then_some(&mut slot.record)
    }

    /// Whether a record can only be added after [`PagedTable::grow`].
    #[inline(always)]
    pub(crate) fn is_full(&self) -> bool {
        self.next().is_none()
    }

    /// The handle that the next record gets; `None` when full.
    #[inline(always)]
    pub(crate) fn next(&self) -> Option<u32> {
        if self.free != 0 {
            return Some(self.free);
        }
        (Self::split(self.fresh).0 < self.present as usize).then_some(self.fresh)
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
        let records = m.records::<Slot<T>>(frame);
        debug_assert!(records.len() >= N);
        if let (Some(page), Some(records)) =
            (self.pages.get_mut(self.present as usize), records.first_chunk_mut::<N>())
        {
            *page = Some(records);
            self.present = self.present.wrapping_add(1);
        }
    }

    /// Takes a slot, with whatever record was there last; `None` when full.
    #[inline(always)]
    pub(crate) fn occupy(&mut self) -> Option<(u32, &mut T)> {
        let (free, fresh) = (self.free, self.fresh);
        let handle = if free != 0 { free } else { fresh };
        // All of it is checked before anything changes, and the slot is looked up only once.
        let (page, at) = Self::split(handle);
        let slot = self.pages.get_mut(page)?.as_mut()?.get_mut(at)?;
        if free != 0 {
            self.free = slot.link;
        } else {
            let step = if at + 1 == N { (1 << Self::BITS) - (N as u32 - 1) } else { 1 };
            self.fresh = fresh.wrapping_add(step);
        }
        self.used = self.used.wrapping_add(1);
        slot.link = USED;
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
        self.vacate(handle).is_some()
    }

    /// The same. → what it was: it can be read until the slot is taken again.
    #[inline(always)]
    pub(crate) fn vacate(&mut self, handle: u32) -> Option<&T> {
        let free = self.free;
        let (page, at) = Self::split(handle);
        let slot = self.pages.get_mut(page)?.as_mut()?.get_mut(at)?;
        if slot.link != USED {
            return None;
        }
        slot.link = free;
        self.free = handle;
        self.used = self.used.wrapping_sub(1);
        Some(&slot.record)
    }

    /// The first record from `cursor` on, looking through no more than a page; `cursor` moves to where to look next. Start at 1.
    pub(crate) fn scan(&self, cursor: &mut u32) -> Option<u32> {
        let (page, first) = Self::split(*cursor);
        let slots = self.pages.get(page)?.as_ref()?;
        for (at, slot) in slots.iter().enumerate().skip(first) {
            if slot.link == USED {
                *cursor = ((page as u32) << Self::BITS | at as u32).wrapping_add(1);
                return Some(*cursor);
            }
        }
        *cursor = ((page as u32).wrapping_add(1) << Self::BITS).wrapping_add(1);
        None
    }

    /// All records there are, by their handles.
    pub(crate) fn handles(&self) -> impl Iterator<Item = u32> {
        let mut cursor = 1;
        core::iter::from_fn(move || {
            while Self::split(cursor).0 < self.present as usize {
                if let Some(handle) = self.scan(&mut cursor) {
                    cursor = handle.wrapping_add(1);
                    return Some(handle);
                }
            }
            None
        })
    }

    /// Takes the last page of a table without records away; `None` when there is no page left.
    pub(crate) fn shrink(&mut self, m: &mut impl Machine) -> Option<Pa> {
        debug_assert!(self.used == 0);
        self.free = 0;
        self.fresh = 1;
        let last = self.present.checked_sub(1)?;
        let page = self.pages.get_mut(last as usize)?.take()?;
        self.present = last;
        Some(m.reclaim(page.as_mut_slice()))
    }
}
