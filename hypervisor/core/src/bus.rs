//! The right to the bus: how often a partition may make all processors forget translations, or hand a region over.
//!
//! The limit is so many operations in each period, kept by a bucket that leaks: each operation pours one in, and in a period the whole limit
//! leaks out, evenly. An operation that would make it overflow is refused until enough has leaked. All arithmetic is exact: the level is counted in
//! operations times nanoseconds of the period.

use handover_abi::{BusLimit, Error};

use crate::{Failure, Machine, PartitionIndex, System};

/// A partition's bucket. Times are nanoseconds of a clock that does not stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    limit: BusLimit,
    /// Operations that have not leaked out at `seen`, times the period.
    level: u128,
    seen: u64,
}

impl Bucket {
    /// No limit.
    #[must_use]
    pub const fn new() -> Bucket {
        Bucket { limit: BusLimit::NONE, level: 0, seen: 0 }
    }

    /// Whether there is a limit.
    #[must_use]
    #[inline(always)]
    pub fn is_limited(&self) -> bool {
        self.limit.operations != u64::MAX
    }

    /// The limit.
    #[must_use]
    pub fn limit(&self) -> BusLimit {
        self.limit
    }

    /// Sets the limit; what is in use stays. [`Error::InvalidArgument`]: a period of nothing or of more than a second.
    pub fn set(&mut self, limit: BusLimit, now: u64) -> Result<(), Failure> {
        if !(1..=BusLimit::PERIOD_MAX).contains(&limit.period) {
            return Err(Error::InvalidArgument.into());
        }
        let used = self.used(now);
        *self = Bucket { limit, level: u128::from(used).saturating_mul(u128::from(limit.period)), seen: now };
        if !self.is_limited() {
            self.level = 0;
        }
        Ok(())
    }

    /// Operations that have not leaked out yet, rounded up.
    #[must_use]
    pub fn used(&self, now: u64) -> u64 {
        u64::try_from(self.level_at(now).div_ceil(u128::from(self.limit.period.max(1)))).unwrap_or(u64::MAX)
    }

    fn level_at(&self, now: u64) -> u128 {
        // Another processor may have read the clock a little later, and come first.
        let passed = u128::from(now.saturating_sub(self.seen));
        self.level.saturating_sub(passed.saturating_mul(u128::from(self.limit.operations)))
    }

    /// Whether one operation more is within the limit; otherwise how long it is until then, `u64::MAX` if never.
    pub fn check(&self, now: u64) -> Result<(), u64> {
        if !self.is_limited() {
            return Ok(());
        }
        let [period, operations] = [self.limit.period, self.limit.operations].map(u128::from);
        let wanted = self.level_at(now).saturating_add(period);
        match wanted.saturating_sub(operations.saturating_mul(period)) {
            0 => Ok(()),
            // What leaks in a nanosecond is as much as there are operations in a period.
            _ if operations == 0 => Err(u64::MAX),
            over => Err(u64::try_from(over.div_ceil(operations)).unwrap_or(u64::MAX)),
        }
    }

    /// Nothing is in use any more; the limit stays.
    pub(crate) fn forget(&mut self) {
        self.level = 0;
    }

    /// Counts an operation that [`Bucket::check`] has let through.
    pub fn charge(&mut self, now: u64) {
        if self.is_limited() {
            self.level = self.level_at(now).saturating_add(u128::from(self.limit.period));
            self.seen = self.seen.max(now);
        }
    }
}

impl Default for Bucket {
    fn default() -> Bucket {
        Bucket::new()
    }
}

impl crate::Partition {
    /// Whether the partition may do something that the bus limit counts. [`Error::Throttled`], with the nanoseconds until it may.
    #[inline(always)]
    pub(crate) fn check_bus(&self, m: &impl Machine) -> Result<(), Failure> {
        if self.bus.is_limited() { self.check_bus_limit(m) } else { Ok(()) }
    }

    #[cold]
    #[inline(never)]
    fn check_bus_limit(&self, m: &impl Machine) -> Result<(), Failure> {
        self.bus.check(m.nanoseconds()).map_err(Failure::throttled)
    }

    fn set_bus(&mut self, m: &impl Machine, limit: BusLimit) -> Result<(), Failure> {
        self.bus.set(limit, m.nanoseconds())?;
        self.reconsider();
        Ok(())
    }

    /// It has been done.
    #[inline(always)]
    pub(crate) fn charge_bus(&mut self, m: &impl Machine) {
        if self.bus.is_limited() {
            self.bus.charge(m.nanoseconds());
        }
    }
}

impl System {
    /// Sets how often a partition may use the bus, as of now. [`Error::BadHandle`]. [`Error::InvalidArgument`]: no such period.
    pub fn set_bus(&mut self, m: &impl Machine, ix: PartitionIndex, limit: BusLimit) -> Result<(), Failure> {
        let p = self.get_mut(ix).ok_or(Error::BadHandle)?;
        p.set_bus(m, limit)
    }

    /// A partition's bucket.
    #[must_use]
    pub fn bus(&self, ix: PartitionIndex) -> Option<&Bucket> {
        self.get(ix).map(|p| &p.bus)
    }

    /// The guest is about to broadcast TLB maintenance of its own. [`Error::Throttled`], with the nanoseconds until it may.
    pub fn broadcast(&mut self, m: &impl Machine, who: PartitionIndex) -> Result<(), Failure> {
        let p = self.caller(who)?;
        p.check_bus(m)?;
        p.charge_bus(m);
        Ok(())
    }

    /// Use and limit of the account.
    pub(crate) fn bus_account(&self, m: &impl Machine, ix: PartitionIndex) -> Result<(u64, u64), Failure> {
        let p = self.get(ix).ok_or(Error::BadHandle)?;
        Ok((p.bus.used(m.nanoseconds()), p.bus.limit().operations))
    }

    /// [`System::set_limit`] of the account: the period stays.
    pub(crate) fn set_bus_operations(
        &mut self,
        m: &impl Machine,
        ix: PartitionIndex,
        operations: u64,
    ) -> Result<(), Failure> {
        let p = self.get_mut(ix).ok_or(Error::BadHandle)?;
        let limit = BusLimit { operations, ..p.bus.limit() };
        p.set_bus(m, limit)
    }
}
