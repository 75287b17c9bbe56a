//! What system-control does to a partition between its making and its end.

use handover_abi::{Account, Error, PartitionId, PartitionState};

use crate::Pair;
use crate::TIME_LIMIT;
use crate::naive::{MIB, Phase};

impl Pair {
    /// One of these calls, for a partition in whatever state.
    pub fn life(&mut self, id: u32) {
        let (ix, active) = (self.ix(id), self.naive.p(id).phase == Phase::Active);
        let unless = |good: bool| if good { vec![] } else { vec![Error::WrongState] };
        match self.random.below(9) {
            6..8 => self.limits(id),
            8 => self.promise(id),
            0 => {
                let result = self.system.pause(ix);
                if self.agree("pause", result, &unless(active)).is_some() {
                    self.naive.p(id).paused = true;
                }
            }
            1 => {
                let result = self.system.resume(ix);
                let why = unless(active && self.naive.p(id).paused);
                if self.agree("resume", result, &why).is_some() {
                    self.naive.p(id).paused = false;
                }
            }
            2 => {
                let argument = self.random.next();
                let result = self.system.request_shutdown(&mut self.machine, ix, argument);
                if self.agree("request_shutdown", result, &unless(active)).is_some() {
                    self.naive.request_shutdown(id, argument);
                }
            }
            3 => {
                let result = self.system.stolen_time_page(&mut self.machine, ix);
                if self.agree("stolen_time_page", result, &unless(active)).is_some() {
                    self.naive.p(id).told = true;
                }
            }
            4 => {
                self.compare();
                let result = self.system.reset(PartitionId::new(id));
                let why = unless(self.naive.p(id).phase == Phase::Terminated);
                if self.agree("reset", result, &why).is_some() {
                    self.naive.reset(id);
                }
            }
            _ => {
                let result = self.system.start(ix);
                let why = unless(self.naive.p(id).phase == Phase::Created);
                if self.agree("start", result, &why).is_some() {
                    self.naive.p(id).phase = Phase::Active;
                }
            }
        }
        let p = self.naive.p(id);
        let expected = match p.phase {
            Phase::Created => PartitionState::Created,
            Phase::Active if p.paused => PartitionState::Paused,
            Phase::Active => PartitionState::Active,
            Phase::Terminated => PartitionState::Terminated,
        };
        assert_eq!(self.system.partition(ix).unwrap().state(), expected);
    }

    /// A limit is set, perhaps below what is in use, and an account read.
    fn limits(&mut self, id: u32) {
        let ix = self.ix(id);
        let account = self.random.pick(&[Account::Memory, Account::AddressSpace, Account::Ports]).unwrap();
        let used = self.naive.used(id, account);
        let limit = match self.random.below(8) {
            0 => used / 2,
            1 => used,
            2 => used + 4 * MIB,
            _ => u64::MAX,
        };
        let number = self.random.pick(&[account as u64, account as u64, account as u64, 99]).unwrap();
        let why = if number == 99 { vec![Error::InvalidArgument] } else { vec![] };
        let result = self.system.set_limit(&self.machine, PartitionId::new(id), number, limit);
        if self.agree("set_limit", result, &why).is_some() {
            let p = self.naive.p(id);
            match account {
                Account::Memory => p.memory_limit = limit,
                Account::AddressSpace => p.space_limit = limit,
                _ => p.ports_limit = limit,
            }
        }
        let result = self.system.account(&self.machine, ix, number);
        if let Some(found) = self.agree("account", result, &why) {
            assert_eq!(found, (used, limit), "{account}");
        }
    }

    /// Processor time is promised, or cannot be.
    fn promise(&mut self, id: u32) {
        let (ix, phase) = (self.ix(id), self.naive.p(id).phase);
        let old = self.naive.p(id).time;
        let new = self.random.below(1_500_000) as u32;
        let there = !self.random.chance(3);
        let mut why = if phase == Phase::Terminated { vec![Error::WrongState] } else { vec![] };
        if !there {
            why.push(Error::NoCapacity);
        }
        // The limit is what it was made with.
        if new > old.max(TIME_LIMIT) {
            why.push(Error::Limit);
        }
        let promise = || if there { Ok(()) } else { Err(Error::NoCapacity.into()) };
        let result = self.system.promise_time(ix, old, new, promise);
        if self.agree("promise_time", result, &why).is_some() {
            self.naive.p(id).time = new;
        }
    }
}
