//! The control OS's own work: a budget like any other, out of what admission leaves free.

use super::admission::{ADMITTED, WHOLE};
use super::record::{Claim, Record, Reservation, signed};
use super::{Poke, Schedule, bit};

/// Millionths of one physical processor that the control OS's own work may take while others want it.
pub const OWN: u32 = WHOLE - ADMITTED;

/// Its periods a second.
const PERIODS_PER_SECOND: u64 = 200;

/// Where it is done while others want the time: no logical processor owns this one.
pub(super) const HOME: usize = 0;

/// The server of the control OS's own work.
pub(super) struct Own {
    pending: bool,
    /// Its budget, kept like everybody's.
    server: Record<()>,
}

impl Own {
    pub(super) const fn new() -> Own {
        Own { pending: false, server: Record::new() }
    }

    pub(super) fn start(&mut self, frequency: u64) {
        let period = (frequency / PERIODS_PER_SECOND).max(1);
        let budget = (period / u64::from(WHOLE / OWN)).max(1);
        let claim = Claim::Reserved { budget, period, work_conserving: false };
        self.server.reservation = Reservation { claim, allowed: u16::MAX };
    }

    /// When its budget comes again there, if work waits for it.
    #[inline]
    pub(super) fn due(&self, processor: usize) -> u64 {
        let waits = self.pending && processor == HOME && self.server.is_exhausted();
        if waits { self.server.deadline } else { u64::MAX }
    }

    #[inline]
    pub(super) fn replenish(&mut self, processor: usize, now: u64) {
        if self.due(processor) != u64::MAX {
            self.server.replenish(now);
        }
    }

    /// The deadline of work that may be done there.
    #[inline]
    pub(super) fn deadline(&self, processor: usize) -> Option<u64> {
        (self.pending && processor == HOME && self.server.is_urgent()).then_some(self.server.deadline)
    }
}

impl<K: Copy + PartialEq> Schedule<K> {
    /// There is work of the control OS's own (`pending`), or no more.
    pub fn set_pending(&mut self, pending: bool, now: u64) -> Poke {
        let begins = pending && !self.own.pending;
        self.own.pending = pending;
        if !begins {
            return Poke::Nobody;
        }
        self.own.server.wake(now);
        Poke::Switch(HOME)
    }

    /// Whether the control OS may work on a physical processor that nobody wants.
    #[must_use]
    #[inline]
    pub fn may_work(&self, processor: usize) -> bool {
        self.own.pending && !self.is_owned(processor)
    }

    /// Whether a logical processor owns this physical one alone.
    #[must_use]
    #[inline]
    pub fn is_owned(&self, processor: usize) -> bool {
        self.owned & bit(processor) != 0
    }

    /// A step has taken so many ticks of the own budget.
    pub fn worked(&mut self, ticks: u64, now: u64) {
        let server = &mut self.own.server;
        server.remaining = server.remaining.saturating_sub(signed(ticks));
        server.used = server.used.saturating_add(ticks);
        if server.remaining <= 0 {
            server.replenish(now);
        }
    }

    /// Ticks that the own work has taken while others wanted them.
    #[must_use]
    pub fn work_done(&self) -> u64 {
        self.own.server.used
    }
}
