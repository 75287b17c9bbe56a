//! Counters that can be waited for (`eventfd`).

use crate::{
    Errno, Sink, Source,
    files::{Files, Waitable},
};

/// The largest value.
const MAX: u64 = u64::MAX - 1;

/// A counter.
#[derive(Debug)]
pub(crate) struct Counter {
    pub(crate) value: u64,
    /// Whether a read takes one instead of all.
    pub(crate) semaphore: bool,
    /// Grows with every change, for edge-triggered waits.
    pub(crate) changes: u64,
}

impl Counter {
    pub(crate) fn can_be_added_to(&self) -> bool {
        self.value < MAX
    }
}

impl Files {
    pub(crate) fn read_counter(&mut self, number: u32, sink: &mut dyn Sink) -> Result<usize, Errno> {
        if sink.room() < 8 {
            return Err(Errno::INVAL);
        }
        let counter = self.counters.get_mut(number).ok_or(Errno::BADF)?;
        if counter.value == 0 {
            return Err(Errno::AGAIN);
        }
        let taken = if counter.semaphore { 1 } else { counter.value };
        if sink.put(&taken.to_le_bytes())? < 8 {
            return Err(Errno::FAULT);
        }
        counter.value -= taken;
        counter.changes += 1;
        self.wake(Waitable::Counter(number));
        Ok(8)
    }

    pub(crate) fn write_counter(&mut self, number: u32, source: &mut dyn Source) -> Result<usize, Errno> {
        let mut bytes = [0; 8];
        if source.remaining() < 8 {
            return Err(Errno::INVAL);
        }
        let counter = self.counters.get_mut(number).ok_or(Errno::BADF)?;
        if source.take(&mut bytes)? < 8 {
            return Err(Errno::FAULT);
        }
        let added = u64::from_le_bytes(bytes);
        if added > MAX {
            return Err(Errno::INVAL);
        }
        counter.value = counter.value.checked_add(added).filter(|&sum| sum <= MAX).ok_or(Errno::AGAIN)?;
        counter.changes += 1;
        self.wake(Waitable::Counter(number));
        Ok(8)
    }
}
