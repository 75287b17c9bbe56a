//! Records by number, with a limit.

use alloc::vec::Vec;

/// Records by number. Numbers of records that are gone come back.
#[derive(Debug)]
pub(crate) struct Arena<T> {
    slots: Vec<Option<T>>,
    free: Vec<u32>,
    limit: usize,
}

impl<T> Arena<T> {
    /// For at most so many records.
    pub(crate) fn new(limit: usize) -> Arena<T> {
        Arena { slots: Vec::new(), free: Vec::new(), limit }
    }

    /// Adds a record; its number, unless the limit is reached.
    pub(crate) fn insert(&mut self, record: T) -> Option<u32> {
        if let Some(number) = self.free.pop() {
            *self.slots.get_mut(number as usize)? = Some(record);
            return Some(number);
        }
        if self.slots.len() >= self.limit {
            return None;
        }
        let number = u32::try_from(self.slots.len()).ok()?;
        // Whoever asks for more than there is memory for is refused; giving back needs none.
        self.slots.try_reserve(1).ok()?;
        self.free.try_reserve(self.slots.len() + 1).ok()?;
        self.slots.push(Some(record));
        Some(number)
    }

    /// Whether another record fits.
    pub(crate) fn has_room(&self) -> bool {
        !self.free.is_empty() || self.slots.len() < self.limit
    }

    pub(crate) fn get(&self, number: u32) -> Option<&T> {
        self.slots.get(number as usize)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        self.slots.get_mut(number as usize)?.as_mut()
    }

    pub(crate) fn remove(&mut self, number: u32) -> Option<T> {
        let record = self.slots.get_mut(number as usize)?.take()?;
        self.free.push(number);
        Some(record)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.slots.iter().enumerate().filter_map(|(number, slot)| Some((number as u32, slot.as_ref()?)))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut T)> {
        self.slots.iter_mut().enumerate().filter_map(|(number, slot)| Some((number as u32, slot.as_mut()?)))
    }
}
