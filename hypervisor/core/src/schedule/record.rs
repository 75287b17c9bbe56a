//! What the scheduler keeps of one logical processor.

use super::heap::Node;
use super::queue::Link;

/// Where a logical processor is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Switched off, or not on yet.
    #[default]
    Off,
    /// Wants to run.
    Ready,
    /// On its physical processor.
    Running,
    /// Waits for an interrupt.
    Blocked,
}

/// What a logical processor may claim of a physical one. Times are ticks of the counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Claim {
    /// What others leave over, in turn.
    #[default]
    BestEffort,
    /// `budget` in each `period`.
    Reserved {
        /// Ticks it may run in each period, and is sure to get.
        budget: u64,
        /// Ticks.
        period: u64,
        /// With its budget used up it may go on in time that others leave over.
        work_conserving: bool,
    },
    /// A physical processor that nobody else is placed on.
    Alone,
}

/// A claim, and the physical processors that it is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// What it may claim.
    pub claim: Claim,
    /// Bit n: physical processor n may serve it.
    pub allowed: u16,
}

impl Reservation {
    /// A new logical processor's.
    pub const NONE: Reservation = Reservation { claim: Claim::BestEffort, allowed: u16::MAX };

    /// Millionths of a physical processor that it promises, rounded up.
    #[must_use]
    pub fn bandwidth(&self) -> u32 {
        match self.claim {
            Claim::BestEffort => 0,
            Claim::Reserved { budget, period, .. } => {
                let parts = u128::from(budget).saturating_mul(u128::from(super::WHOLE));
                u32::try_from(parts.div_ceil(u128::from(period.max(1)))).unwrap_or(u32::MAX)
            }
            Claim::Alone => super::WHOLE,
        }
    }
}

/// One for each logical processor, wherever [`Records`] keeps it. It must not move or go while the [`Schedule`](super::Schedule) knows of it.
#[derive(Clone, Copy, Debug)]
pub struct Record<K> {
    pub(super) state: State,
    pub(super) reservation: Reservation,
    /// The physical processor whose queues it is in, or that runs it.
    pub(super) home: u8,
    /// Where it is to go as soon as it leaves; `home` otherwise.
    pub(super) assigned: u8,
    /// What is left of the budget; below zero it has run over.
    pub(super) remaining: i64,
    /// When the budget is due, and comes again.
    pub(super) deadline: u64,
    /// What is left of its turn among those without budget.
    pub(super) turn: i64,
    /// Since when it runs and has not been charged, or wants to run.
    pub(super) since: u64,
    /// Ticks it has run.
    pub(super) used: u64,
    /// Ticks it has wanted to run and did not.
    pub(super) waited: u64,
    /// When its guest's timer is due, `u64::MAX`: never.
    pub(super) timer: u64,
    pub(super) node: Node<K>,
    pub(super) link: Link<K>,
    /// Whose processor and time it runs on, if they were lent to it.
    pub(super) lender: Option<K>,
    /// Who runs on its processor and time, if it has lent them.
    pub(super) borrower: Option<K>,
}

impl<K: Copy> Record<K> {
    /// Switched off, placed nowhere.
    #[must_use]
    pub const fn new() -> Record<K> {
        Record {
            state: State::Off,
            reservation: Reservation::NONE,
            home: 0,
            assigned: 0,
            remaining: 0,
            deadline: 0,
            turn: 0,
            since: 0,
            used: 0,
            waited: 0,
            timer: u64::MAX,
            node: Node::new(),
            link: Link::new(),
            lender: None,
            borrower: None,
        }
    }

    /// Where it is.
    #[must_use]
    #[inline]
    pub fn state(&self) -> State {
        self.state
    }

    /// Who has lent it the processor and time that it runs on.
    #[must_use]
    #[inline]
    pub fn lender(&self) -> Option<K> {
        self.lender
    }

    /// What it may claim, and where.
    #[must_use]
    pub fn reservation(&self) -> Reservation {
        self.reservation
    }

    /// The physical processor that runs it, or has it in its queues.
    #[must_use]
    #[inline]
    pub fn processor(&self) -> usize {
        usize::from(self.home)
    }

    /// The physical processor that serves it from now on.
    #[must_use]
    pub fn home(&self) -> usize {
        usize::from(self.assigned)
    }

    /// Ticks it has wanted to run and did not, up to when it last began to run.
    #[must_use]
    #[inline]
    pub fn waited(&self) -> u64 {
        self.waited
    }

    /// Ticks that it has run and waited until `now`.
    #[must_use]
    pub fn times(&self, now: u64) -> (u64, u64) {
        let since = now.saturating_sub(self.since);
        match self.state {
            State::Running => (self.used.saturating_add(since), self.waited),
            State::Ready => (self.used, self.waited.saturating_add(since)),
            State::Off | State::Blocked => (self.used, self.waited),
        }
    }

    /// It has a budget, and some of it is left.
    #[inline]
    pub(super) fn is_urgent(&self) -> bool {
        match self.reservation.claim {
            Claim::BestEffort => false,
            Claim::Reserved { .. } => self.remaining > 0,
            Claim::Alone => true,
        }
    }

    /// It has a budget, and nothing of it is left.
    #[inline]
    pub(super) fn is_exhausted(&self) -> bool {
        matches!(self.reservation.claim, Claim::Reserved { .. }) && self.remaining <= 0
    }

    /// It may run in time that others leave over.
    #[inline]
    pub(super) fn takes_leftovers(&self) -> bool {
        matches!(self.reservation.claim, Claim::BestEffort | Claim::Reserved { work_conserving: true, .. })
    }

    /// It wakes at `now` (the wake-up rule of the constant-bandwidth server, Abeni and Buttazzo 1998): what is left of the budget is good until
    /// its deadline only as far as it would not exceed the bandwidth there; otherwise a new period begins. So neither waiting nor being switched
    /// off and on brings a budget before its time.
    #[inline(always)]
    pub(super) fn wake(&mut self, now: u64) {
        if let Claim::Reserved { budget, period, .. } = self.reservation.claim {
            self.wake_reserved(now, budget, period);
        }
    }

    #[inline(never)]
    fn wake_reserved(&mut self, now: u64, budget: u64, period: u64) {
        let left = self.deadline.saturating_sub(now);
        let remaining = u128::from(self.remaining.max(0).unsigned_abs());
        let exceeds = remaining.saturating_mul(u128::from(period))
            > u128::from(left).saturating_mul(u128::from(budget));
        if left == 0 || exceeds {
            self.deadline = now.saturating_add(period);
            self.remaining = signed(budget).saturating_add(self.remaining.min(0));
        }
    }

    /// The budget comes again if its deadline has passed. What it has run over is taken off. Periods that it was promised and did not get are
    /// not made up for: admission leaves none.
    pub(super) fn replenish(&mut self, now: u64) {
        let Claim::Reserved { budget, period, .. } = self.reservation.claim else { return };
        if self.deadline > now {
            return;
        }
        self.remaining = self.remaining.min(0).saturating_add(signed(budget));
        self.deadline = self.deadline.saturating_add(period);
        if self.deadline <= now {
            self.deadline = now.saturating_add(period);
        }
    }
}

impl<K: Copy> Default for Record<K> {
    fn default() -> Record<K> {
        Record::new()
    }
}

/// Where the records are. A key names one from [`Schedule::place`](super::Schedule::place) to [`Schedule::remove`](super::Schedule::remove).
pub trait Records {
    /// Names a logical processor.
    type Key: Copy + PartialEq;
    /// Its record.
    fn get(&self, key: Self::Key) -> &Record<Self::Key>;
    /// The same, to change.
    fn get_mut(&mut self, key: Self::Key) -> &mut Record<Self::Key>;
}

/// Ticks that take part in differences: far beyond 2^62 no counter gets.
#[inline]
pub(super) fn signed(ticks: u64) -> i64 {
    i64::try_from(ticks).unwrap_or(i64::MAX)
}
