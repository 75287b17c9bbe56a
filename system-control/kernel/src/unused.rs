//! What was dropped where nobody could give it back, until somebody can.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use handover_guest::processor::Lock;

/// Things to give back.
pub struct Unused<T> {
    list: Lock<Vec<T>>,
    /// Whether there are any, which is asked after each system call.
    any: AtomicBool,
}

impl<T> Unused<T> {
    /// None yet.
    pub const fn new() -> Unused<T> {
        Unused { list: Lock::new(Vec::new()), any: AtomicBool::new(false) }
    }

    /// These are not used any more.
    pub fn extend(&self, more: impl IntoIterator<Item = T>) {
        self.list.lock().extend(more);
        self.any.store(true, Ordering::Relaxed);
    }

    /// Whether there is something to give back.
    pub fn any(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }

    /// All of it.
    pub fn take(&self) -> Vec<T> {
        if !self.any.swap(false, Ordering::Relaxed) {
            return Vec::new();
        }
        core::mem::take(&mut *self.list.lock())
    }
}
