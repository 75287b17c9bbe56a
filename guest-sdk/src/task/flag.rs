//! Wakers without a heap: each is the number of a flag in a static table, so one that outlives its task wakes nobody, or
//! somebody else for nothing.

use core::{
    ptr,
    sync::atomic::{AtomicBool, Ordering},
    task::{RawWaker, RawWakerVTable, Waker},
};

use crate::lock::MaskingLock;

/// Flags that can be taken at a time.
const FLAGS_MAX: usize = 256;

struct Entry {
    taken: AtomicBool,
    raised: AtomicBool,
    /// Woken as well: whoever polls the task.
    parent: MaskingLock<Option<Waker>>,
}

static FLAGS: [Entry; FLAGS_MAX] = [const {
    Entry { taken: AtomicBool::new(false), raised: AtomicBool::new(false), parent: MaskingLock::new(None) }
}; FLAGS_MAX];

/// A task's flag: raised by its wakers. Raised at first.
pub(crate) struct Flag {
    number: usize,
}

impl Flag {
    /// Takes a flag; `None` when there is none left.
    pub(crate) fn claim() -> Option<Flag> {
        let number = FLAGS.iter().position(|entry| !entry.taken.swap(true, Ordering::Acquire))?;
        FLAGS[number].raised.store(true, Ordering::Relaxed);
        Some(Flag { number })
    }

    /// Lowers the flag; whether it was raised.
    #[inline]
    pub(crate) fn lower(&self) -> bool {
        FLAGS[self.number].raised.swap(false, Ordering::AcqRel)
    }

    /// Whether the flag is raised.
    pub(crate) fn is_raised(&self) -> bool {
        FLAGS[self.number].raised.load(Ordering::Acquire)
    }

    /// A waker that raises the flag.
    pub(crate) fn waker(&self) -> Waker {
        // SAFETY: the table of functions keeps `RawWaker`'s contract: the data is a number and owns nothing.
        unsafe { Waker::from_raw(raw(self.number)) }
    }

    /// From now on the flag's wakers wake `parent` too.
    pub(crate) fn set_parent(&self, parent: &Waker) {
        let entry = &FLAGS[self.number];
        if entry.parent.with(|old| old.as_ref().is_none_or(|old| !old.will_wake(parent))) {
            // Cloned and dropped outside the lock: both may call anything.
            let parent = parent.clone();
            let _replaced = entry.parent.with(|old| old.replace(parent));
        }
    }
}

impl Drop for Flag {
    fn drop(&mut self) {
        let entry = &FLAGS[self.number];
        let _parent = entry.parent.with(Option::take);
        entry.taken.store(false, Ordering::Release);
    }
}

static FUNCTIONS: RawWakerVTable = RawWakerVTable::new(
    |data| raw(data.addr()),
    |data| raise(data.addr()),
    |data| raise(data.addr()),
    |_| (),
);

fn raw(number: usize) -> RawWaker {
    RawWaker::new(ptr::without_provenance(number), &FUNCTIONS)
}

fn raise(number: usize) {
    let Some(entry) = FLAGS.get(number) else { return };
    entry.raised.store(true, Ordering::Release);
    // Woken outside the lock: it may be a flag's too.
    if let Some(parent) = entry.parent.with(|parent| parent.clone()) {
        parent.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waker_raises_its_flag_and_its_parents() {
        let [parent, child] = [Flag::claim().unwrap(), Flag::claim().unwrap()];
        assert!(parent.lower() && child.lower(), "raised at first");
        assert!(!parent.lower() && !child.lower());
        child.waker().wake();
        assert!(child.lower() && !parent.lower());
        child.set_parent(&parent.waker());
        let waker = child.waker().clone();
        waker.wake_by_ref();
        assert!(child.lower() && parent.lower());
        drop(child);
        waker.wake();
        assert!(!parent.lower(), "a task that has ended wakes nobody");
    }
}
