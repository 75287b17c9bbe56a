//! One logical processor's physical processor and time, lent to another: no queue is gone through, and the lender's budget pays.

use super::record::{Records, State};
use super::{Poke, Schedule, bit, heap};

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

    /// The physical processor that a running logical one is on.
    pub fn processor_of<R: Records<Key = K>>(&self, records: &R, key: K) -> usize {
        records.get(Self::payer(records, key)).processor()
    }

    /// `from`, who runs, lends its processor and time to `to`, which waits, and waits itself until [`Schedule::give_back`]. The caller switches the
    /// registers. Returns false, and nothing has happened, if `to` does not wait or has lent or borrowed already. What is due first on the processor
    /// comes no earlier by it.
    #[inline(always)]
    pub fn lend<R: Records<Key = K>>(&mut self, records: &mut R, from: K, to: K) -> bool {
        if !Self::may_borrow(records, from, to) {
            return false;
        }
        let record = records.get_mut(to);
        record.timer = u64::MAX;
        record.lender = Some(from);
        if record.node.is_in() {
            let home = usize::from(record.home);
            heap::remove(records, &mut self.at_mut(home).wake, to);
        }
        records.get_mut(from).borrower = Some(to);
        true
    }

    /// [`Schedule::lend`] to one that waits for no time. Returns false, and nothing has happened, also where it waits for one.
    #[inline(always)]
    pub fn lend_plainly<R: Records<Key = K>>(&mut self, records: &mut R, from: K, to: K) -> bool {
        if records.get(to).node.is_in() || !Self::may_borrow(records, from, to) {
            return false;
        }
        let record = records.get_mut(to);
        record.timer = u64::MAX;
        record.lender = Some(from);
        records.get_mut(from).borrower = Some(to);
        true
    }

    /// `from`, who runs, gives processor and time back to `lender`, and waits, for no time ([`Schedule::wait_until`]). The caller switches the
    /// registers. Returns false, and nothing has happened, if it was not `lender` who lent them.
    #[inline(always)]
    pub fn give_back<R: Records<Key = K>>(&mut self, records: &mut R, from: K, lender: K) -> bool {
        let record = records.get_mut(from);
        if record.lender != Some(lender) {
            return false;
        }
        // In nobody's heap: who pays is there for all that run in its time.
        record.lender = None;
        records.get_mut(lender).borrower = None;
        true
    }

    /// Whether it waits, on its own time, and may run on the physical processor that `from` runs on, from which who pays does not have to go.
    #[inline(always)]
    fn may_borrow<R: Records<Key = K>>(records: &R, from: K, to: K) -> bool {
        let payer = records.get(Self::payer(records, from));
        debug_assert!(payer.state == State::Running);
        let record = records.get(to);
        record.state == State::Blocked
            && record.lender.is_none()
            && record.borrower.is_none()
            && payer.home == payer.assigned
            && record.reservation.allowed & bit(payer.processor()) != 0
    }

    /// `from`, who runs, passes on what `lender` has lent to it, to `to`, which waits, and waits itself, for no time. The caller switches the
    /// registers. Returns false, and nothing has happened, if [`Schedule::give_back`] or [`Schedule::lend`] would return false.
    pub fn pass_on<R: Records<Key = K>>(&mut self, records: &mut R, from: K, lender: K, to: K) -> bool {
        if !Self::may_borrow(records, from, to) || !self.give_back(records, from, lender) {
            return false;
        }
        let lent = self.lend(records, lender, to);
        debug_assert!(lent, "it waits, and is not who has lent");
        lent
    }

    /// The physical processors that may serve whose turn it is, and all who run in its time.
    #[inline]
    pub(super) fn allowed_with<R: Records<Key = K>>(records: &R, payer: K) -> u16 {
        let record = records.get(payer);
        match record.borrower {
            None => record.reservation.allowed,
            Some(borrower) => record.reservation.allowed & Self::allowed_with_all(records, borrower),
        }
    }

    #[cold]
    fn allowed_with_all<R: Records<Key = K>>(records: &R, mut key: K) -> u16 {
        let mut allowed = records.get(key).reservation.allowed;
        while let Some(borrower) = records.get(key).borrower {
            key = borrower;
            allowed &= records.get(key).reservation.allowed;
        }
        allowed
    }

    /// Nobody runs in its time from now on, and it runs in nobody's. Returns the physical processors that are to look at their queues again.
    pub fn settle<R: Records<Key = K>>(&mut self, records: &mut R, key: K, now: u64) -> u16 {
        let pokes = self.recall(records, key, now);
        match records.get(key).lender {
            Some(lender) => pokes | self.recall(records, lender, now),
            None => pokes,
        }
    }

    /// Who has lent its processor and time takes them back from whoever has them, and waits. Who has them goes on with its own, at home; if who
    /// has borrowed from it in turn may not be there, that ends as well, down to the first with whom all may be at home. Returns the physical processor
    /// that is to look at its queues again.
    pub fn recall<R: Records<Key = K>>(&mut self, records: &mut R, lender: K, now: u64) -> u16 {
        let Some(first) = records.get(lender).borrower else { return 0 };
        let payer = Self::payer(records, lender);
        let next = Self::first_at_home(records, first);
        let mut last = lender;
        while last != next
            && let Some(borrower) = records.get_mut(last).borrower.take()
        {
            records.get_mut(borrower).lender = None;
            last = borrower;
        }
        self.succeed(records, payer, next, now).processor()
    }

    /// The first from `first` on, among those who run in each other's time, whose home may serve it and all after it; the last, if there is none.
    fn first_at_home<R: Records<Key = K>>(records: &R, first: K) -> K {
        let mut key = Self::runner(records, first);
        let (mut allowed, mut found) = (u16::MAX, key);
        loop {
            let record = records.get(key);
            allowed &= record.reservation.allowed;
            if allowed & bit(record.home()) != 0 {
                found = key;
            }
            match record.lender {
                Some(lender) if key != first => key = lender,
                _ => return found,
            }
        }
    }

    /// `borrower`, which neither runs nor wants to in its own time, goes on as `payer` would have, which waits.
    fn succeed<R: Records<Key = K>>(&mut self, records: &mut R, payer: K, borrower: K, now: u64) -> Poke {
        let record = records.get_mut(payer);
        let (processor, timer) = (usize::from(record.home), record.timer);
        match record.state {
            State::Running => {
                self.leave(records, processor, now);
                records.get_mut(payer).state = State::Blocked;
                let record = records.get_mut(borrower);
                record.wake(now);
                record.state = State::Running;
                record.since = now;
                // It goes home, if this is not its home, as soon as it leaves.
                record.home = processor as u8;
                record.timer = timer;
                self.set_wake(records, borrower, processor);
                let limit = Self::limit(records.get(borrower), true, now);
                let at = self.at_mut(processor);
                at.running = Some(borrower);
                at.limit = limit;
                Poke::Switch(processor)
            }
            State::Ready => {
                self.dequeue(records, payer);
                records.get_mut(payer).state = State::Blocked;
                self.wake(records, borrower, now)
            }
            State::Off | State::Blocked => {
                let home = usize::from(records.get(borrower).home);
                if record_is_in(records, payer) {
                    heap::remove(records, &mut self.at_mut(processor).wake, payer);
                }
                records.get_mut(payer).timer = u64::MAX;
                records.get_mut(borrower).timer = timer;
                self.set_wake(records, borrower, home);
                Poke::Timer(home)
            }
        }
    }
}

fn record_is_in<R: Records>(records: &R, key: R::Key) -> bool {
    records.get(key).node.is_in()
}
