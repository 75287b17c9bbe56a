//! What system-control does to a partition between its making and its end.

use handover_abi::{Error, PartitionState};

use crate::{Pair, naive::Phase};

impl Pair {
    /// One of these calls, for a partition in whatever state.
    pub fn life(&mut self, id: u32) {
        let (ix, active) = (self.ix(id), self.naive.p(id).phase == Phase::Active);
        if self.random.chance(2) {
            let result = self.system.pause(ix);
            let why = if active { vec![] } else { vec![Error::WrongState] };
            if self.agree("pause", result, &why).is_some() {
                self.naive.p(id).paused = true;
            }
        } else {
            let result = self.system.resume(ix);
            let why = if active && self.naive.p(id).paused { vec![] } else { vec![Error::WrongState] };
            if self.agree("resume", result, &why).is_some() {
                self.naive.p(id).paused = false;
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
}
