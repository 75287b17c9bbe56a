//! EL2's own timer on each processor: for budgets and turns, guests' timers, direct calls' patience, requests' timeouts.

use handover_core::schedule::{Records, State};
use handover_core::{Progress, VcpuId};

use crate::arch::registers::{CNTFRQ_EL0, CNTHP_CTL_EL2, CNTHP_CVAL_EL2, CNTPCT_EL0};
use crate::kernel::{Hardware, Kernel};
use crate::processor;
use crate::vcpu::{InCall, VcpuKey};

/// So many fit into a second of what one that has sent an SGI may still run before the sibling that it woke, which goes first, takes its place: 50 µs.
/// Operating systems send SGIs with a lock held that the receiver takes first. If the receiver came at once, it would spend its budget on waiting for a
/// lock whose holder does not run; locks are held for some µs, or some ten with traps in between. A sender that waits for an answer loses the grace by it.
const GRACES_PER_SECOND: u64 = 20_000;

/// When requests are given up.
pub struct Requests {
    /// When the next one is, as a physical count; `u64::MAX` if none has a timeout.
    pub deadline: u64,
    /// Whose timer it is in.
    pub processor: usize,
}

impl Hardware {
    /// Sets when a timer of the running logical processor's guest is due (`u64::MAX`: never).
    #[inline]
    pub fn set_deadline(&mut self, key: VcpuKey, deadline: u64) {
        let deadline = deadline.min(self.timeout_of(key));
        if self.schedule.set_timer(&mut self.records, key, deadline) {
            self.program_timer(processor::this().index());
        }
    }

    /// Sets this processor's timer to what is due first. What is due later than it is set to needs no change: it fires once for nothing, and
    /// is set anew then. Another processor's is set by itself, when it is interrupted or comes back.
    #[inline(never)]
    pub fn program_timer(&mut self, here: usize) {
        self.fired &= !(1 << here);
        let mut due = self.schedule.due(&self.records, here);
        if here == self.requests.processor {
            due = due.min(self.requests.deadline);
        }
        if here == self.watchdogs.processor {
            due = due.min(self.watchdogs.deadline);
        }
        self.lower_timer(here, due);
    }

    /// The same when only a running logical processor, or who it lends its time to, has changed since the timer was set: what else is due has
    /// been looked at when it came.
    #[inline(always)]
    pub(super) fn adjust_timer(&mut self, here: usize) {
        if self.fired & 1 << here != 0 {
            self.program_timer(here);
        } else {
            self.lower_timer(here, self.schedule.due_of_running(&self.records, here));
        }
    }

    /// The same when the running one has been limited to `due`, and nothing else has changed.
    #[inline(always)]
    pub(super) fn limit_timer(&mut self, here: usize, due: u64) {
        if self.fired & 1 << here != 0 {
            self.program_timer(here);
        } else {
            self.lower_timer(here, due);
        }
    }

    #[inline(always)]
    pub(super) fn lower_timer(&mut self, here: usize, due: u64) {
        if due < self.programmed[here] {
            self.programmed[here] = due;
            CNTHP_CVAL_EL2.set(due);
            CNTHP_CTL_EL2.set(1);
        }
    }

    /// A sibling that the running one has sent an SGI goes first, but not at once: at the running one's next trap that asks what concerns it, or after
    /// the grace.
    pub fn switch_after_grace(&mut self) {
        let grace = CNTFRQ_EL0.get() / GRACES_PER_SECOND;
        self.lower_timer(processor::this().index(), CNTPCT_EL0.get().saturating_add(grace));
    }

    /// Sets when a request is given up next. An earlier one comes into this processor's timer, where who has made it runs, if nobody owns it alone.
    pub fn set_request_deadline(&mut self, deadline: Option<u64>) {
        let deadline = deadline.unwrap_or(u64::MAX);
        let keeper = self.keeper();
        let earlier = deadline < self.requests.deadline;
        self.requests.deadline = deadline;
        if earlier {
            self.requests.processor = keeper;
            self.program_keeper(keeper);
        }
    }

    /// How long a direct call of this logical processor's, which begins now, may take, in nanoseconds.
    pub fn set_timeout(&mut self, caller: VcpuKey, patience: u64) {
        let ticks = u128::from(patience).saturating_mul(u128::from(CNTFRQ_EL0.get())) / 1_000_000_000;
        let timeout = CNTPCT_EL0.get().saturating_add(u64::try_from(ticks).unwrap_or(u64::MAX));
        // SAFETY: a key names a placed frame; the field is touched under the lock alone, which this is.
        unsafe { (*caller.as_ptr()).timeout = timeout };
        self.timeouts += u32::from(timeout != u64::MAX);
    }

    /// When the first of the direct calls that a logical processor serves on lent time has taken too long.
    #[inline]
    pub(super) fn timeout_of(&self, key: VcpuKey) -> u64 {
        if self.timeouts == 0 { u64::MAX } else { self.first_timeout(key).map_or(u64::MAX, |(at, _)| at) }
    }

    pub(super) fn first_timeout(&self, key: VcpuKey) -> Option<(u64, VcpuKey)> {
        // SAFETY: as in `set_timeout`.
        let timeout = |key: VcpuKey| (unsafe { (*key.as_ptr()).timeout }, key);
        let chain = core::iter::successors(Some(key), |&key| self.records.get(key).lender());
        chain.map(timeout).min_by_key(|(at, _)| *at)
    }

    /// Due first of a logical processor that is about to wait: its guest's timers, and calls on whose time it runs.
    ///
    /// # Safety
    /// Its registers are saved.
    pub(super) unsafe fn deadline_of(&self, key: VcpuKey) -> u64 {
        // SAFETY: by the caller; under the lock nobody else touches them.
        let timer = unsafe { (*key.as_ptr()).context.deadline() }.unwrap_or(u64::MAX);
        timer.min(self.timeout_of(key))
    }

    /// This processor's timer has fired. Whoever runs here is looked at next, and sets the timer anew. Returns a direct call that has taken too long; there may be more.
    pub fn timer_interrupt(&mut self) -> Option<VcpuId> {
        let here = processor::this().index();
        // Off, or it would stay pending.
        self.programmed[here] = u64::MAX;
        self.fired |= 1 << here;
        CNTHP_CTL_EL2.set(0);
        let now = CNTPCT_EL0.get();
        while let Some(key) = self.schedule.expire(&mut self.records, here, now) {
            let expired = match self.timeouts {
                0 => None,
                _ => self.first_timeout(key).filter(|(at, _)| *at <= now),
            };
            // SAFETY: a key names a placed frame; the field is touched under the lock alone, which this is.
            if unsafe { (*key.as_ptr()).in_call } != InCall::Calling {
                self.update_physical_timer(key);
                match self.schedule.state(&self.records, key) {
                    // The virtual timer fires by itself once it is loaded.
                    State::Blocked => self.make_ready(key),
                    State::Running if expired.is_some() => self.renew_physical_timer(key),
                    _ => {}
                }
            }
            if let Some((_, caller)) = expired {
                return Some(caller.id());
            }
        }
        None
    }
}

/// Gives up requests that nobody has answered in time, if this processor's timer is the one that tells. One bounded step: what is left makes the
/// timer fire again at once.
pub fn expire_requests(kernel: &mut Kernel) {
    let now = CNTPCT_EL0.get();
    let requests = &kernel.hardware.requests;
    if requests.deadline <= now && requests.processor == processor::this().index() {
        let _: Progress = kernel.system.expire(&mut kernel.hardware, now);
        kernel.hardware.set_request_deadline(kernel.system.next_timeout());
    }
}
