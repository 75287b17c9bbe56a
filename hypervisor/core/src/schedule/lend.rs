//! One logical processor's physical processor and time, lent to another: no queue is gone through, and the lender's budget pays.

use super::record::{Records, State};
use super::{Schedule, heap};

impl<K: Copy + PartialEq> Schedule<K> {
    /// Whose budget pays for a logical processor, and who stands in the queues for it: itself, but for one that runs on lent time.
    #[inline]
    pub(super) fn payer<R: Records<Key = K>>(records: &R, mut key: K) -> K {
        while let Some(lender) = records.get(key).lender {
            key = lender;
        }
        key
    }

    /// Who runs when it is somebody's turn: itself, or who has borrowed its time.
    #[inline]
    pub(super) fn runner<R: Records<Key = K>>(records: &R, mut key: K) -> K {
        while let Some(borrower) = records.get(key).borrower {
            key = borrower;
        }
        key
    }

    /// Who runs on a physical processor now lends processor and time to `to`, which waits, and waits itself until [`Schedule::give_back`]. The
    /// caller switches the registers. Returns false, and nothing has happened, if `to` does not wait or has lent or borrowed already.
    pub fn lend<R: Records<Key = K>>(&mut self, records: &mut R, processor: usize, to: K) -> bool {
        let Some(running) = self.at(processor).running else { return false };
        let from = Self::runner(records, running);
        let record = records.get(to);
        if to == from
            || record.state != State::Blocked
            || record.lender.is_some()
            || record.borrower.is_some()
        {
            return false;
        }
        let home = usize::from(record.home);
        if record.node.is_in() {
            heap::remove(records, &mut self.at_mut(home).wake, to);
        }
        let record = records.get_mut(to);
        record.timer = u64::MAX;
        record.lender = Some(from);
        records.get_mut(from).borrower = Some(to);
        true
    }

    /// Who runs on a physical processor now gives processor and time back to who lent them, and waits, until `timer` at the latest. The caller
    /// switches the registers. Returns who goes on; `None`, and nothing has happened, if nothing was lent.
    pub fn give_back<R: Records<Key = K>>(
        &mut self,
        records: &mut R,
        processor: usize,
        timer: u64,
    ) -> Option<K> {
        let running = self.at(processor).running?;
        let from = Self::runner(records, running);
        let record = records.get_mut(from);
        let lender = record.lender.take()?;
        record.timer = timer;
        let home = usize::from(record.home);
        self.set_wake(records, from, home);
        records.get_mut(lender).borrower = None;
        Some(lender)
    }
}
