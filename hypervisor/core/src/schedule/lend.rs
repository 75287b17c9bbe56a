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

    /// Who runs on a physical processor now lends processor and time to `to`, which waits, and waits itself until [`Schedule::give_back`]. The
    /// caller switches the registers. Returns false, and nothing has happened, if `to` does not wait or has lent or borrowed already.
    #[inline(always)]
    pub fn lend<R: Records<Key = K>>(&mut self, records: &mut R, processor: usize, to: K) -> bool {
        let Some(running) = self.at(processor).running else { return false };
        let from = Self::runner(records, running);
        if to == from || !self.may_borrow(records, processor, to) {
            return false;
        }
        let record = records.get(to);
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
    #[inline(always)]
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

    /// Whether it waits, on its own time, and may run on this physical processor, from which who pays does not have to go.
    #[inline]
    fn may_borrow<R: Records<Key = K>>(&self, records: &R, processor: usize, to: K) -> bool {
        let record = records.get(to);
        let stays = self.at(processor).running.is_some_and(|payer| records.get(payer).home() == processor);
        stays
            && record.state == State::Blocked
            && record.lender.is_none()
            && record.borrower.is_none()
            && record.reservation.allowed & bit(processor) != 0
    }

    /// Who runs on a physical processor now passes on what was lent to it, to `to`, which waits, and waits itself, until `timer` at the latest. The caller switches the
    /// registers. Returns false, and nothing has happened, if nothing was lent, or [`Schedule::lend`] would return false.
    pub fn pass_on<R: Records<Key = K>>(
        &mut self,
        records: &mut R,
        processor: usize,
        to: K,
        timer: u64,
    ) -> bool {
        if !self.may_borrow(records, processor, to) || self.give_back(records, processor, timer).is_none() {
            return false;
        }
        let lent = self.lend(records, processor, to);
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
