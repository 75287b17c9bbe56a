//! A partition's budget of memory traffic, in events that the processors count.
//!
//! Its processors run at the same time, each with a counter of its own. So each takes a share of what is left before it runs, counts it down, and gives
//! back what it has not used. Shares that are out when a new period begins are part of the new one: no period sees more than its budget.

use handover_abi::{Error, TrafficLimit};

use crate::Failure;

/// What a partition may cause in a period. Times are nanoseconds of a clock that does not stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    limit: TrafficLimit,
    /// Events that nobody has taken.
    left: u64,
    /// Events in the processors' shares.
    out: u64,
    /// When the next period begins.
    renewal: u64,
}

/// A budget is given out in this many parts at most, or it would be given out in ever smaller ones.
const PARTS: u64 = 64;

impl Traffic {
    /// No limit.
    #[must_use]
    pub const fn new() -> Traffic {
        Traffic { limit: TrafficLimit::NONE, left: 0, out: 0, renewal: 0 }
    }

    /// The limit.
    #[must_use]
    pub fn limit(&self) -> TrafficLimit {
        self.limit
    }

    /// Whether there is a limit.
    #[must_use]
    #[inline]
    pub fn is_limited(&self) -> bool {
        self.limit.events != 0
    }

    /// Sets the limit. A period begins, in which the shares that are out count. [`Error::InvalidArgument`]: a period of nothing or of more than a second, with a
    /// limit, or an event that no register can name.
    pub fn set(&mut self, limit: TrafficLimit, now: u64) -> Result<(), Failure> {
        let fits = (1..=TrafficLimit::PERIOD_MAX).contains(&limit.period) && limit.event <= 0xffff;
        if limit.events != 0 && !fits {
            return Err(Error::InvalidArgument.into());
        }
        self.limit = limit;
        self.left = limit.events.saturating_sub(self.out);
        self.renewal = now.saturating_add(limit.period);
        Ok(())
    }

    /// Begins the period that `now` is in. Periods follow each other without gaps, however late somebody looks.
    fn renew(&mut self, now: u64) {
        if now < self.renewal {
            return;
        }
        self.left = self.limit.events.saturating_sub(self.out);
        let into = now.saturating_sub(self.renewal).checked_rem(self.limit.period).unwrap_or(0);
        self.renewal = now.saturating_add(self.limit.period.saturating_sub(into));
    }

    /// Events of this period that are used or in a processor's share.
    #[must_use]
    pub fn used(&self, now: u64) -> u64 {
        if now >= self.renewal { self.out } else { self.limit.events.saturating_sub(self.left) }
    }

    /// A share for one of `processors` processors, at most `most` events; otherwise when the next period begins.
    pub fn take(&mut self, processors: u64, most: u64, now: u64) -> Result<u64, u64> {
        self.renew(now);
        if self.left == 0 {
            return Err(self.renewal);
        }
        let even = self.left.div_ceil(processors.max(1));
        let share = even.max(self.limit.events / PARTS).min(self.left).min(most.max(1));
        self.left = self.left.saturating_sub(share);
        self.out = self.out.saturating_add(share);
        Ok(share)
    }

    /// A processor has used so much of its share; more, if it could not be stopped at once.
    pub fn settle(&mut self, share: u64, used: u64) {
        self.out = self.out.saturating_sub(share);
        let room = self.limit.events.saturating_sub(self.left).saturating_sub(self.out);
        let unused = share.saturating_sub(used).min(room);
        self.left = self.left.saturating_add(unused).saturating_sub(used.saturating_sub(share));
    }
}

impl Default for Traffic {
    fn default() -> Traffic {
        Traffic::new()
    }
}
