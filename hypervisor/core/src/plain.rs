//! The plain way of a call: nothing out of the ordinary is in the way, and nothing has to be made first.
//!
//! The rules of messages are written once, and are there twice: `PLAIN` is a parameter of each. By the plain way a rule does everything itself, in
//! one piece: it calls nothing, so that whoever carries it out has no registers to keep. Where it would have to, or where it would fail, it comes
//! back with [`Failure::NOT_PLAIN`] before anything has changed; then the other way is taken, from the start.

use crate::{Failure, Partition, PartitionIndex, Phase, System};

/// What has failed by the plain way is looked at by the other one.
#[inline(always)]
pub(crate) fn by<const PLAIN: bool, T>(result: Result<T, Failure>) -> Result<T, Failure> {
    if PLAIN { result.map_err(|_| Failure::NOT_PLAIN) } else { result }
}

/// That what has to be so for the plain way is.
#[inline(always)]
pub(crate) fn only<const PLAIN: bool>(is_so: bool) -> Result<(), Failure> {
    if PLAIN && !is_so { Err(Failure::NOT_PLAIN) } else { Ok(()) }
}

impl Partition {
    /// It is in this phase from now on.
    pub(crate) fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.reconsider();
    }

    /// Something has changed that decides whether its calls may go the plain way at all: it must run, use the bus as it likes, and need no caches cleaned.
    pub(crate) fn reconsider(&mut self) {
        self.plain = self.phase == Phase::Active && !self.bus.is_limited() && self.forced_write_back;
    }
}

impl System {
    /// Two partitions that are not the same.
    #[inline(always)]
    pub(crate) fn both(
        &mut self,
        one: PartitionIndex,
        other: PartitionIndex,
    ) -> Option<(&mut Partition, &mut Partition)> {
        match self.partitions.get_disjoint_mut([one.get(), other.get()]) {
            Ok([Some(one), Some(other)]) => Some((one, other)),
            _ => None,
        }
    }

    /// [`System::caller`], by either way.
    #[inline(always)]
    pub(crate) fn caller_by<const PLAIN: bool>(
        &mut self,
        who: PartitionIndex,
    ) -> Result<&mut Partition, Failure> {
        if !PLAIN {
            return self.caller(who);
        }
        match self.get_mut(who) {
            Some(p) if p.plain => Ok(p),
            _ => Err(Failure::NOT_PLAIN),
        }
    }
}
