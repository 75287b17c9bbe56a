//! Who is promised what, and where.

use handover_abi::Error;

use super::own::HOME;
use super::record::{Claim, Records, Reservation, State};
use super::{Poke, Schedule, bit};
use crate::Failure;

/// One whole physical processor, in the unit of bandwidth.
pub const WHOLE: u32 = 1_000_000;
/// Millionths of a physical processor that may be promised. The rest is the control OS's own, and covers what a switch takes.
pub const ADMITTED: u32 = 950_000;
/// The shortest budget, in nanoseconds: each budget means two switches a period, which it has to outweigh.
pub const BUDGET_MIN_NS: u64 = 100_000;
/// The longest period, in nanoseconds.
const PERIOD_MAX_NS: u64 = 1_000_000_000;

impl<K: Copy + PartialEq> Schedule<K> {
    /// Ticks of so many nanoseconds.
    #[must_use]
    pub fn ticks(&self, nanoseconds: u64) -> u64 {
        let ticks = u128::from(nanoseconds).saturating_mul(u128::from(self.frequency)) / 1_000_000_000;
        u64::try_from(ticks).unwrap_or(u64::MAX)
    }

    /// Nanoseconds of so many ticks.
    #[must_use]
    #[inline]
    pub fn nanoseconds(&self, ticks: u64) -> u64 {
        (u128::from(ticks).wrapping_mul(u128::from(self.tick)) >> 32) as u64
    }

    /// A reservation in nanoseconds as one in ticks. [`Error::InvalidArgument`]: a budget of less than [`BUDGET_MIN_NS`] or more than the period, a period
    /// of more than a second, or no physical processor there is.
    pub fn reservation(
        &self,
        budget: u64,
        period: u64,
        work_conserving: bool,
        alone: bool,
        allowed: u16,
    ) -> Result<Reservation, Failure> {
        let allowed = if allowed == 0 { self.all() } else { allowed };
        let claim = match (budget, period, work_conserving, alone) {
            (0, 0, false, false) => Claim::BestEffort,
            (0, 0, false, true) => Claim::Alone,
            (BUDGET_MIN_NS..=PERIOD_MAX_NS, BUDGET_MIN_NS..=PERIOD_MAX_NS, _, false) if budget <= period => {
                Claim::Reserved { budget: self.ticks(budget), period: self.ticks(period), work_conserving }
            }
            _ => return Err(Error::InvalidArgument.into()),
        };
        if allowed & self.all() == 0 {
            return Err(Error::InvalidArgument.into());
        }
        Ok(Reservation { claim, allowed })
    }

    /// The physical processors, of those there are, that a reservation is good for.
    #[must_use]
    pub fn allowed(&self, reservation: Reservation) -> u16 {
        reservation.allowed & self.all()
    }

    /// Gives a new logical processor, which claims nothing and is off, a home: the physical processor with the fewest that nobody owns.
    pub fn place<R: Records<Key = K>>(&mut self, records: &mut R, key: K) {
        let home = self.fewest(self.all()).unwrap_or(0);
        let at = self.at_mut(home);
        at.homes = at.homes.saturating_add(1);
        let record = records.get_mut(key);
        record.home = home as u8;
        record.assigned = home as u8;
    }

    /// Forgets a logical processor that is off: its home and what it was promised are free.
    pub fn remove<R: Records<Key = K>>(&mut self, records: &mut R, key: K) {
        let _ = self.give_up(records, key);
        let home = usize::from(records.get(key).assigned);
        let at = self.at_mut(home);
        at.homes = at.homes.saturating_sub(1);
    }

    /// A logical processor that is off claims nothing any more. Returns the physical processors that are to look at their queues again.
    pub fn give_up<R: Records<Key = K>>(&mut self, records: &mut R, key: K) -> u16 {
        let record = records.get_mut(key);
        let (home, old) = (usize::from(record.assigned), record.reservation);
        record.reservation = Reservation::NONE;
        self.count(home, old, false);
        if old.claim == Claim::Alone { bit(home) } else { 0 }
    }

    /// The physical processor with the fewest homes, among those of a mask that nobody owns.
    pub(super) fn fewest(&self, mask: u16) -> Option<usize> {
        let free = (0..self.count).filter(|&n| mask & !self.owned & bit(n) != 0);
        free.min_by_key(|&n| self.at(n).homes)
    }

    /// Counts a reservation in (`true`) or out where it is.
    fn count(&mut self, home: usize, reservation: Reservation, inside: bool) {
        let change = |count: &mut u32, by: u32| {
            *count = if inside { count.saturating_add(by) } else { count.saturating_sub(by) };
        };
        change(&mut self.at_mut(home).promised, reservation.bandwidth());
        if reservation.claim == Claim::Alone {
            self.owned = if inside { self.owned | bit(home) } else { self.owned & !bit(home) };
        } else if reservation.allowed & self.all() != self.all() {
            for n in (0..self.count).filter(|&n| reservation.allowed & bit(n) != 0) {
                change(&mut self.at_mut(n).bound, 1);
            }
        }
    }

    /// Changes what a logical processor may claim, whatever it is doing; a budget is whole from now on. Returns the physical processors that must look
    /// at their queues again (bit n: processor n).
    ///
    /// [`Error::NoCapacity`]: no physical processor that it is allowed on has so much to give, or none could be its own because others are promised time
    /// there or bound to it, or as physical processor 0 is for everybody; nothing has changed.
    pub fn set<R: Records<Key = K>>(
        &mut self,
        records: &mut R,
        key: K,
        new: Reservation,
        now: u64,
    ) -> Result<u16, Failure> {
        let record = records.get(key);
        let (old_home, old) = (usize::from(record.assigned), record.reservation);
        self.count(old_home, old, false);
        let Some(home) = self.choose(old_home, new) else {
            self.count(old_home, old, true);
            return Err(Error::NoCapacity.into());
        };
        self.count(home, new, true);
        // Who has lent to it, or borrowed from it, may not be allowed where it goes.
        let mut pokes = bit(home) | bit(old_home) | self.settle(records, key, now);
        if new.claim == Claim::Alone {
            self.idle &= !bit(home);
            pokes |= self.evict(records, home);
        }
        Ok(pokes | self.change(records, key, home, new, now).processor())
    }

    /// Where a reservation fits; where it is now if it does there.
    fn choose(&self, old_home: usize, new: Reservation) -> Option<usize> {
        let bandwidth = new.bandwidth();
        let fits = |&n: &usize| {
            let at = self.at(n);
            new.allowed & !self.owned & bit(n) != 0
                && match new.claim {
                    Claim::BestEffort => true,
                    Claim::Reserved { .. } => at.promised.saturating_add(bandwidth) <= ADMITTED,
                    Claim::Alone => n != HOME && at.promised == 0 && at.bound == 0,
                }
        };
        if fits(&old_home) {
            return Some(old_home);
        }
        let free = (0..self.count).filter(fits);
        free.min_by_key(|&n| (self.at(n).promised, self.at(n).homes))
    }

    /// Sends everyone away from a physical processor that has got an owner: all of them claim nothing and are bound nowhere.
    fn evict<R: Records<Key = K>>(&mut self, records: &mut R, from: usize) -> u16 {
        let mut pokes = 0;
        while let Some(key) = self.at(from).rest.head().or(self.at(from).wake) {
            let Some(to) = self.fewest(self.all()) else { break };
            let (ready, running) = match records.get(key).state {
                State::Ready => (true, false),
                State::Running => (false, true),
                State::Off | State::Blocked => (false, false),
            };
            self.dequeue(records, key);
            if !running {
                self.move_home(records, key, to);
                if ready {
                    self.at_mut(to).rest.push_back(records, key);
                } else {
                    self.set_wake(records, key, to);
                }
            }
            pokes |= bit(to);
        }
        if let Some(running) = self.at(from).running
            && let Some(to) = self.fewest(self.all())
        {
            self.assign(records, running, to);
        }
        pokes
    }

    /// Says where one that runs is to go as soon as it leaves.
    fn assign<R: Records<Key = K>>(&mut self, records: &mut R, key: K, to: usize) {
        let home = records.get(key).home;
        self.move_home(records, key, to);
        records.get_mut(key).home = home;
    }

    fn change<R: Records<Key = K>>(
        &mut self,
        records: &mut R,
        key: K,
        home: usize,
        new: Reservation,
        now: u64,
    ) -> Poke {
        let state = records.get(key).state;
        if state == State::Running {
            // What it ran until now counts against the old budget.
            let processor = usize::from(records.get(key).home);
            let _ = self.must_switch(records, processor, now);
        }
        self.dequeue(records, key);
        let turn = self.turn;
        let record = records.get_mut(key);
        record.reservation = new;
        record.remaining = 0;
        record.deadline = now;
        record.turn = turn;
        record.replenish(now);
        match state {
            State::Running => {
                self.assign(records, key, home);
                let runs_on = usize::from(records.get(key).home);
                self.set_wake(records, key, runs_on);
                Poke::Nobody
            }
            State::Ready => {
                self.move_home(records, key, home);
                self.enqueue(records, key, now, false)
            }
            State::Off | State::Blocked => {
                self.move_home(records, key, home);
                self.set_wake(records, key, home);
                Poke::Nobody
            }
        }
    }
}
