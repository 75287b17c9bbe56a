//! Records by number, with a limit.

use alloc::vec::Vec;

use crate::quota::{Payer, Quota};

/// Records by number, each on a user's account. Numbers of records that are gone come back.
#[derive(Debug)]
pub(crate) struct Arena<T> {
    slots: Vec<Option<(u8, T)>>,
    free: Vec<u32>,
    quota: Quota,
}

impl<T> Arena<T> {
    /// For at most so many records.
    pub(crate) fn new(limit: usize) -> Arena<T> {
        Arena { slots: Vec::new(), free: Vec::new(), quota: Quota::new(limit as u64) }
    }

    /// Adds a record; its number, unless the user has as many as it may.
    pub(crate) fn insert(&mut self, payer: Payer, record: T) -> Option<u32> {
        if !self.has_room(payer) {
            return None;
        }
        let number = self.place()?;
        let user = payer.user() as u8;
        *self.slots.get_mut(number as usize)? = Some((user, record));
        self.quota.take(payer, 1).then_some(number)
    }

    /// A free place.
    fn place(&mut self) -> Option<u32> {
        if let Some(number) = self.free.pop() {
            return Some(number);
        }
        let number = u32::try_from(self.slots.len()).ok()?;
        // Whoever asks for more than there is memory for is refused; giving back needs none.
        self.slots.try_reserve(1).ok()?;
        self.free.try_reserve(self.slots.len() + 1).ok()?;
        self.slots.push(None);
        Some(number)
    }

    /// Whether a user may have another record.
    pub(crate) fn has_room(&self, payer: Payer) -> bool {
        self.quota.room(payer) > 0
    }

    pub(crate) fn get(&self, number: u32) -> Option<&T> {
        self.slots.get(number as usize)?.as_ref().map(|(_, record)| record)
    }

    pub(crate) fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        self.slots.get_mut(number as usize)?.as_mut().map(|(_, record)| record)
    }

    pub(crate) fn remove(&mut self, number: u32) -> Option<T> {
        let (user, record) = self.slots.get_mut(number as usize)?.take()?;
        self.free.push(number);
        self.quota.give_back(user.into(), 1);
        Some(record)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.quota.used() as usize
    }

    pub(crate) fn limit(&self) -> usize {
        self.quota.whole() as usize
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.slots.iter().enumerate().filter_map(|(number, slot)| Some((number as u32, &slot.as_ref()?.1)))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut T)> {
        self.slots
            .iter_mut()
            .enumerate()
            .filter_map(|(number, slot)| Some((number as u32, &mut slot.as_mut()?.1)))
    }
}
