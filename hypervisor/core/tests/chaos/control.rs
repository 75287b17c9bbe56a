//! What system-control does to partitions at any time: lives and limits.

use handover_abi::PartitionState;

use super::*;

impl Chaos {
    /// Something that works has been done once more.
    pub fn count(&mut self, what: &'static str) {
        *self.done.entry(what).or_default() += 1;
    }

    /// One call about some partition.
    pub fn control(&mut self) {
        let all = self.indexes();
        let ix = self.random.pick(&all).unwrap();
        let before = self.state();
        match self.random.below(8) {
            0 => {
                let result = self.system.pause(ix);
                self.judge("pause", result, &before);
            }
            1 => {
                let paused = |ix: &PartitionIndex| {
                    self.system.partition(*ix).unwrap().state() == PartitionState::Paused
                };
                let result = self.system.resume(all.into_iter().find(paused).unwrap_or(ix));
                self.judge("resume", result, &before);
            }
            2 => {
                let argument = self.random.next();
                let result = self.system.request_shutdown(&mut self.machine, ix, argument);
                self.judge("request_shutdown", result, &before);
            }
            3 => {
                let ended = all.into_iter().find(|ix| self.phase(*ix) == Phase::Terminated);
                self.reset(ended.unwrap_or(ix));
            }
            4 => self.start(ix),
            5 => self.limit(ix),
            _ => {
                let account = self.random.below(Account::ALL.len() + 1) as u64;
                let result = self.system.account(&self.machine, ix, account);
                self.judge("account", result, &before);
            }
        }
    }

    /// What it held has come back, and it is empty again.
    pub fn reset(&mut self, ix: PartitionIndex) {
        let (id, before) = (self.id(ix), self.state());
        let result = self.system.reset(id);
        self.judge("reset", result, &before);
    }

    pub fn start(&mut self, ix: PartitionIndex) {
        let before = self.state();
        let result = self.system.start(ix);
        if self.judge("start", result, &before).is_some() {
            self.switch_on(ix);
        }
    }

    /// Sets a limit, perhaps below what is in use: that stays, and nothing is added until it has fallen.
    fn limit(&mut self, ix: PartitionIndex) {
        let account = self.random.pick(Account::ALL).unwrap();
        let used = self.system.partition(ix).unwrap().accounts().used(account);
        let limit = match self.random.below(3) {
            0 => self.random.next() % (used + 1),
            1 => used,
            _ => u64::MAX,
        };
        let (id, before) = (self.id(ix), self.state());
        // No operations of the bus at all are no limit that can be waited for.
        let limit = if account == Account::Bus { limit.max(1) } else { limit };
        let result = self.system.set_limit(&self.machine, id, account as u64, limit);
        if self.judge("set_limit", result, &before).is_some() && account != Account::Bus {
            let found = self.system.account(&self.machine, ix, account as u64);
            assert_eq!(found, Ok((used, limit)), "{account}");
        }
    }
}
