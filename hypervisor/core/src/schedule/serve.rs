//! Waking, choosing, charging.

use super::record::{Claim, Record, Records, State};
use super::{LOOK, Pick, Poke, Schedule, bit, heap};

impl<K: Copy + PartialEq> Schedule<K> {
    /// Where a logical processor is; one that has lent its processor waits.
    #[must_use]
    #[inline(always)]
    pub fn state<R: Records<Key = K>>(&self, records: &R, key: K) -> State {
        let record = records.get(key);
        match (record.borrower, record.lender) {
            (None, None) => record.state,
            (Some(_), _) => State::Blocked,
            (None, Some(_)) => records.get(Self::payer(records, key)).state,
        }
    }

    /// A logical processor that was off or waited wants to run.
    #[inline(always)]
    pub fn make_ready<R: Records<Key = K>>(&mut self, records: &mut R, key: K, now: u64) -> Poke {
        if records.get(key).borrower.is_some() {
            return Poke::Nobody;
        }
        let key = Self::payer(records, key);
        let record = records.get(key);
        if matches!(record.state, State::Ready | State::Running) {
            return Poke::Nobody;
        }
        self.wake(records, key, now)
    }

    /// Whether one waits, and neither lends its time nor runs in another's.
    #[must_use]
    #[inline(always)]
    pub fn waits<R: Records<Key = K>>(&self, records: &R, key: K) -> bool {
        let record = records.get(key);
        record.state == State::Blocked && record.borrower.is_none() && record.lender.is_none()
    }

    /// One that was off, or [waits](Schedule::waits), wants to run.
    #[inline(always)]
    pub fn wake<R: Records<Key = K>>(&mut self, records: &mut R, key: K, now: u64) -> Poke {
        let record = records.get_mut(key);
        record.since = now;
        record.timer = u64::MAX;
        if record.node.is_in() {
            let home = usize::from(record.home);
            heap::remove(records, &mut self.at_mut(home).wake, key);
        }
        let turn = self.turn;
        let record = records.get_mut(key);
        record.turn = turn;
        record.wake(now);
        self.enqueue(records, key, now, false)
    }

    /// Puts one that wants to run where it waits for that.
    #[inline(always)]
    pub(super) fn enqueue<R: Records<Key = K>>(
        &mut self,
        records: &mut R,
        key: K,
        now: u64,
        first: bool,
    ) -> Poke {
        let record = records.get_mut(key);
        record.state = State::Ready;
        if matches!(record.reservation.claim, Claim::BestEffort) {
            self.enqueue_rest(records, key, now, first)
        } else {
            self.enqueue_reserved(records, key, now, first)
        }
    }

    #[inline(always)]
    fn enqueue_rest<R: Records<Key = K>>(&mut self, records: &mut R, key: K, now: u64, first: bool) -> Poke {
        // Most often all processors are busy, and nobody owns one.
        if self.idle | self.owned != 0 {
            let free = self.idle & Self::allowed_with(records, key) & !self.owned;
            let here = bit(usize::from(records.get(key).home));
            if free | self.owned & here != 0 {
                self.choose_home(records, key, free);
            }
        }
        let home = usize::from(records.get(key).home);
        let at = self.at_mut(home);
        if first {
            at.rest.push_front(records, key);
        } else {
            at.rest.push_back(records, key);
        }
        if self.idle & bit(home) != 0 {
            self.idle &= !bit(home);
            return Poke::Switch(home);
        }
        self.begin_turn(records, home, now)
    }

    /// Moves one without a reservation, which wants to run, to one of the `free` physical processors, or away from one that has an owner by now.
    #[inline(never)]
    fn choose_home<R: Records<Key = K>>(&mut self, records: &mut R, key: K, free: u16) {
        let (here, allowed) = (bit(usize::from(records.get(key).home)), Self::allowed_with(records, key));
        if free != 0 {
            if free & here == 0 {
                self.move_home(records, key, free.trailing_zeros() as usize);
            }
        } else if self.owned & here != 0
            && let Some(home) = self.fewest(allowed)
        {
            self.move_home(records, key, home);
        }
    }

    #[inline(never)]
    fn enqueue_reserved<R: Records<Key = K>>(
        &mut self,
        records: &mut R,
        key: K,
        now: u64,
        first: bool,
    ) -> Poke {
        let record = records.get_mut(key);
        let home = usize::from(record.home);
        let turn = self.turn;
        if record.is_exhausted() {
            record.replenish(now);
        }
        let record = records.get_mut(key);
        let (urgent, deadline, leftovers) = (record.is_urgent(), record.deadline, record.takes_leftovers());
        if urgent {
            heap::insert(records, &mut self.at_mut(home).ready, key, deadline);
        } else {
            heap::insert(records, &mut self.at_mut(home).wake, key, deadline);
            if leftovers {
                if !first {
                    records.get_mut(key).turn = turn;
                }
                self.at_mut(home).rest.push_back(records, key);
            }
        }
        if self.idle & bit(home) != 0 && (urgent || leftovers) {
            self.idle &= !bit(home);
            return Poke::Switch(home);
        }
        match self.at(home).running {
            Some(running) if urgent && self.yields_to(records, running, deadline) => Poke::Switch(home),
            _ if urgent => Poke::Nobody,
            _ => {
                if leftovers {
                    let _ = self.begin_turn(records, home, now);
                }
                Poke::Timer(home)
            }
        }
    }

    /// Others wait for a turn: the running one's is limited from now on, if it is one.
    #[inline(always)]
    fn begin_turn<R: Records<Key = K>>(&mut self, records: &mut R, processor: usize, now: u64) -> Poke {
        let turn = self.turn;
        let at = self.at_mut(processor);
        let Some(running) = at.running else { return Poke::Nobody };
        if at.limit != u64::MAX {
            return Poke::Nobody;
        }
        let record = records.get_mut(running);
        if record.is_urgent() {
            return Poke::Nobody;
        }
        // A turn is a few milliseconds, and `since` was a reading of the same counter.
        let turn = turn as u64;
        at.limit = now.wrapping_add(turn);
        record.turn = turn.wrapping_add(now).wrapping_sub(record.since) as i64;
        Poke::Turn(processor, at.limit)
    }

    /// Whether one that runs makes way for somebody with a budget and this deadline.
    #[inline]
    fn yields_to<R: Records<Key = K>>(&self, records: &R, running: K, deadline: u64) -> bool {
        let record = records.get(running);
        match record.reservation.claim {
            Claim::Alone => false,
            _ => !record.is_urgent() || deadline < record.deadline,
        }
    }

    /// Charges the running one for its time up to `now`.
    #[inline(always)]
    fn charge<R: Records<Key = K>>(records: &mut R, running: K, now: u64) {
        let record = records.get_mut(running);
        let ticks = now.saturating_sub(record.since);
        record.since = now;
        record.used = record.used.wrapping_add(ticks);
        // Neither wraps: no counter reaches 2^62, and a turn begins anew before it ends.
        record.remaining = record.remaining.wrapping_sub(ticks as i64);
        record.turn = record.turn.wrapping_sub(ticks as i64);
    }

    /// Whether the running one has to leave: its budget or turn is over, or another goes first. Charges it, and sets anew when it is to be looked at.
    pub fn must_switch<R: Records<Key = K>>(&mut self, records: &mut R, processor: usize, now: u64) -> bool {
        let at = self.at(processor);
        let (ready, waits) = (heap::least(records, at.ready), at.rest.head().is_some());
        let Some(running) = at.running else { return false };
        Self::charge(records, running, now);
        let exhausted = records.get(running).is_exhausted();
        if exhausted {
            self.exhaust(records, running, now);
        }
        let record = records.get(running);
        let urgent = record.is_urgent();
        let first = ready.min(self.own.deadline(processor).unwrap_or(u64::MAX));
        if record.assigned != record.home
            || first != u64::MAX && self.yields_to(records, running, first)
            || !urgent && (!record.takes_leftovers() || waits && record.turn <= 0)
        {
            return true;
        }
        self.at_mut(processor).limit = Self::limit(records.get(running), waits, now);
        false
    }

    /// The budget of the running one is used up: it comes again at its deadline, which may be now.
    #[inline(never)]
    fn exhaust<R: Records<Key = K>>(&mut self, records: &mut R, running: K, now: u64) {
        let record = records.get_mut(running);
        record.replenish(now);
        let home = usize::from(record.home);
        self.set_wake(records, running, home);
    }

    /// When one that runs from `now` on has to be looked at again.
    #[inline]
    pub(super) fn limit(record: &Record<K>, others_wait: bool, now: u64) -> u64 {
        let left = match record.reservation.claim {
            Claim::Alone => return u64::MAX,
            Claim::Reserved { .. } if record.remaining > 0 => record.remaining,
            _ if others_wait => record.turn,
            _ => return u64::MAX,
        };
        now.saturating_add(left.max(0).unsigned_abs())
    }

    /// Puts a running or waiting one into the heap of those that wait for a time, where it belongs now.
    #[inline(always)]
    pub(super) fn set_wake<R: Records<Key = K>>(&mut self, records: &mut R, key: K, home: usize) {
        let record = records.get(key);
        let waits = matches!(record.state, State::Off | State::Blocked) || !record.is_exhausted();
        // Most wait for no time, and did not before.
        if !(waits && record.timer == u64::MAX && !record.node.is_in()) {
            self.place_wake(records, key, home);
        }
    }

    #[inline(never)]
    fn place_wake<R: Records<Key = K>>(&mut self, records: &mut R, key: K, home: usize) {
        let record = records.get(key);
        let replenish = matches!(record.state, State::Running | State::Ready) && record.is_exhausted();
        let at = record.timer.min(if replenish { record.deadline } else { u64::MAX });
        let node = record.node;
        if node.is_in() && node.key == at || !node.is_in() && at == u64::MAX {
            return;
        }
        let root = &mut self.at_mut(home).wake;
        if node.is_in() {
            heap::remove(records, root, key);
        }
        if at != u64::MAX {
            heap::insert(records, root, key, at);
        }
    }

    /// Sets when a timer of the running logical processor's guest is due (`u64::MAX`: never). Returns whether anything has changed.
    #[inline]
    pub fn set_timer<R: Records<Key = K>>(&mut self, records: &mut R, key: K, due: u64) -> bool {
        let key = Self::payer(records, key);
        let record = records.get_mut(key);
        if record.timer == due || record.state != State::Running {
            return false;
        }
        record.timer = due;
        let home = usize::from(record.home);
        self.set_wake(records, key, home);
        true
    }

    /// The running one leaves its physical processor and waits, until `timer` at the latest (`u64::MAX`: no timer).
    #[inline(always)]
    pub fn block<R: Records<Key = K>>(&mut self, records: &mut R, processor: usize, now: u64, timer: u64) {
        let Some(key) = self.leave(records, processor, now) else { return };
        let record = records.get_mut(key);
        record.state = State::Blocked;
        record.timer = timer;
        if record.assigned != record.home {
            let to = usize::from(record.assigned);
            self.move_home(records, key, to);
        }
        let home = usize::from(records.get(key).home);
        self.set_wake(records, key, home);
    }

    /// The running one makes way, and wants to run still.
    pub fn preempt<R: Records<Key = K>>(&mut self, records: &mut R, processor: usize, now: u64) -> Poke {
        let Some(key) = self.leave(records, processor, now) else { return Poke::Nobody };
        let turn = self.turn;
        let record = records.get_mut(key);
        // A turn that somebody with a budget cut short goes on later.
        let first = record.turn > 0;
        if !first {
            record.turn = turn;
        }
        if record.assigned != record.home {
            let to = usize::from(record.assigned);
            self.move_home(records, key, to);
        }
        self.enqueue(records, key, now, first)
    }

    /// The running one is off from now on.
    pub fn switch_off<R: Records<Key = K>>(&mut self, records: &mut R, processor: usize, now: u64) {
        let Some(key) = self.leave(records, processor, now) else { return };
        let record = records.get_mut(key);
        record.state = State::Off;
        if record.assigned != record.home {
            let to = usize::from(record.assigned);
            self.move_home(records, key, to);
        }
    }

    #[inline(always)]
    pub(super) fn leave<R: Records<Key = K>>(
        &mut self,
        records: &mut R,
        processor: usize,
        now: u64,
    ) -> Option<K> {
        let at = self.at_mut(processor);
        let key = at.running.take()?;
        at.limit = u64::MAX;
        Self::charge(records, key, now);
        let record = records.get_mut(key);
        record.timer = u64::MAX;
        if record.node.is_in() {
            heap::remove(records, &mut self.at_mut(processor).wake, key);
        }
        Some(key)
    }

    /// One that does not run is off from now on.
    pub fn stop<R: Records<Key = K>>(&mut self, records: &mut R, key: K) {
        self.dequeue(records, key);
        let record = records.get_mut(key);
        record.state = State::Off;
        record.timer = u64::MAX;
    }

    /// One that does not run waits from now on, whatever it was doing, and for no timer.
    pub fn suspend<R: Records<Key = K>>(&mut self, records: &mut R, key: K) {
        self.stop(records, key);
        records.get_mut(key).state = State::Blocked;
    }

    /// One that waits does so until `timer` at the latest.
    pub fn wait_until<R: Records<Key = K>>(&mut self, records: &mut R, key: K, timer: u64) -> Poke {
        let record = records.get_mut(key);
        if record.state != State::Blocked {
            return Poke::Nobody;
        }
        record.timer = timer;
        let home = usize::from(record.home);
        self.set_wake(records, key, home);
        Poke::Timer(home)
    }

    /// Takes one that does not run out of whatever it is in.
    pub(super) fn dequeue<R: Records<Key = K>>(&mut self, records: &mut R, key: K) {
        let record = records.get(key);
        let home = usize::from(record.home);
        let ready = record.state == State::Ready && !record.is_exhausted();
        let (in_heap, queued) = (record.node.is_in(), record.link.is_queued());
        let at = self.at_mut(home);
        if in_heap {
            heap::remove(records, if ready { &mut at.ready } else { &mut at.wake }, key);
        }
        if queued {
            at.rest.remove(records, key);
        }
    }

    /// Chooses what a physical processor, on which nobody runs, does from `now` on.
    #[inline(always)]
    pub fn pick<R: Records<Key = K>>(&mut self, records: &mut R, processor: usize, now: u64) -> Pick<K> {
        let work = self.own.deadline(processor);
        let at = self.at_mut(processor);
        let key = if let Some(first) = at.ready
            && work.is_none_or(|work| records.get(first).node.key <= work)
        {
            heap::remove(records, &mut at.ready, first);
            first
        } else if work.is_some() {
            return Pick::Work;
        } else if let Some(first) = at.rest.head().or_else(|| self.take_over(records, processor)) {
            let at = self.at_mut(processor);
            // One whose budget may come while it runs stays among those that wait for that.
            at.rest.remove(records, first);
            first
        } else {
            self.idle |= bit(processor);
            return Pick::Idle;
        };
        self.run(records, processor, key, now);
        Pick::Run(Self::runner(records, key))
    }

    #[inline(always)]
    fn run<R: Records<Key = K>>(&mut self, records: &mut R, processor: usize, key: K, now: u64) {
        if self.idle != 0 {
            self.idle &= !bit(processor);
        }
        let record = records.get_mut(key);
        record.waited = record.waited.wrapping_add(now.saturating_sub(record.since));
        record.since = now;
        record.state = State::Running;
        let at = self.at_mut(processor);
        at.running = Some(key);
        at.limit = Self::limit(records.get(key), at.rest.head().is_some(), now);
    }

    /// Somebody who waits for a turn on another physical processor and may have it on this one.
    #[inline(never)]
    fn take_over<R: Records<Key = K>>(&mut self, records: &mut R, processor: usize) -> Option<K> {
        if self.owned & bit(processor) != 0 {
            return None;
        }
        let fits = |records: &R, key: K| {
            let record = records.get(key);
            matches!(record.reservation.claim, Claim::BestEffort)
                && Self::allowed_with(records, key) & bit(processor) != 0
                && record.assigned == record.home
        };
        let others = (0..self.count).filter(|&other| other != processor);
        let (other, key) = others
            .filter_map(|other| Some((other, self.at(other).rest.find(records, LOOK, fits)?)))
            .next()?;
        self.at_mut(other).rest.remove(records, key);
        self.move_home(records, key, processor);
        self.at_mut(processor).rest.push_back(records, key);
        Some(key)
    }

    /// Gives one that is in no queue another home.
    #[inline(never)]
    pub(super) fn move_home<R: Records<Key = K>>(&mut self, records: &mut R, key: K, to: usize) {
        let record = records.get_mut(key);
        let from = usize::from(record.assigned);
        record.home = to as u8;
        record.assigned = to as u8;
        let at = self.at_mut(from);
        at.homes = at.homes.saturating_sub(1);
        let at = self.at_mut(to);
        at.homes = at.homes.saturating_add(1);
    }

    /// Takes the next that was due by `now`: budgets come again by that; a logical processor that is returned has a timer of its guest's due.
    pub fn expire<R: Records<Key = K>>(&mut self, records: &mut R, processor: usize, now: u64) -> Option<K> {
        self.own.replenish(processor, now);
        loop {
            let first = self.at(processor).wake?;
            let record = records.get(first);
            if record.node.key > now {
                return None;
            }
            let timer = record.timer <= now;
            if timer {
                records.get_mut(first).timer = u64::MAX;
            }
            let record = records.get(first);
            match record.state {
                State::Ready => {
                    // Its budget comes.
                    self.dequeue(records, first);
                    let _ = self.enqueue(records, first, now, false);
                }
                State::Running => {
                    if record.is_exhausted() {
                        records.get_mut(first).replenish(now);
                    }
                    self.set_wake(records, first, processor);
                }
                State::Off | State::Blocked => self.set_wake(records, first, processor),
            }
            if timer {
                return Some(Self::runner(records, first));
            }
        }
    }
}
