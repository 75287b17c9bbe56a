//! The virtual timer (Arm ARM D12). Its interrupt is [`VIRTUAL_TIMER_INTID`].

use core::{
    arch::asm,
    future::{Future, poll_fn},
    sync::atomic::{AtomicBool, Ordering},
    task::{Poll, Waker},
    time::Duration,
};

use handover_abi::{Error, layout::VIRTUAL_TIMER_INTID};

use crate::{
    interrupts::{self, Trigger},
    lock::MaskingLock,
    sleepers::Sleepers,
};

/// Futures that can sleep at a time.
const SLEEPERS_MAX: usize = 64;

static SLEEPERS: MaskingLock<Sleepers<SLEEPERS_MAX>> = MaskingLock::new(Sleepers::new());
/// Whether somebody has slept, so that the timer is the executor's.
static SLEPT: AtomicBool = AtomicBool::new(false);

/// The virtual counter, in ticks.
#[inline]
#[must_use]
pub fn now() -> u64 {
    let count: u64;
    // SAFETY: reads a counter; ISB keeps it from being read ahead of time, and no `nomem` keeps memory accesses in place.
    unsafe { asm!("isb", "mrs {}, cntvct_el0", out(reg) count, options(nostack, preserves_flags)) };
    count
}

/// Ticks in a second.
#[must_use]
pub fn frequency() -> u64 {
    let frequency: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mrs {}, cntfrq_el0", out(reg) frequency, options(nomem, nostack, preserves_flags)) };
    frequency
}

/// Makes the timer's interrupt pending from when the counter reaches `deadline`, until it is set again or [`stop`]ped.
pub fn set_deadline(deadline: u64) {
    // SAFETY: compares and enables; the interrupt is only taken where the program has enabled it.
    unsafe {
        asm!(
            "msr cntv_cval_el0, {}", "msr cntv_ctl_el0, {}", "isb",
            in(reg) deadline, in(reg) 1u64,
            options(nomem, nostack, preserves_flags)
        );
    }
}

/// Switches the timer off.
pub fn stop() {
    // SAFETY: disables the timer.
    unsafe { asm!("msr cntv_ctl_el0, xzr", "isb", options(nomem, nostack, preserves_flags)) };
}

/// The counter's value in that time from now, at most the largest there is.
#[must_use]
pub fn after(time: Duration) -> u64 {
    const NANOSECONDS: u128 = 1_000_000_000;
    let ticks = (time.as_nanos() * u128::from(frequency())).div_ceil(NANOSECONDS);
    now().saturating_add(u64::try_from(ticks).unwrap_or(u64::MAX))
}

/// Waits until the counter has reached `deadline`. Takes the virtual timer for good: a program that uses it does without
/// [`set_deadline`] and without a handler of its own for the timer's interrupt.
///
/// Cancel-safe: it holds nothing.
///
/// # Errors
///
/// [`Error::Limit`] when 64 futures sleep already; [`Error::WrongState`] before [`interrupts::init`].
pub fn sleep_until(deadline: u64) -> impl Future<Output = Result<(), Error>> + Unpin {
    let mut sleeper = Sleeper(None);
    poll_fn(move |context| {
        if now() >= deadline {
            return Poll::Ready(Ok(()));
        }
        if !SLEPT.load(Ordering::Relaxed) {
            if let Err(error) = interrupts::enable(VIRTUAL_TIMER_INTID, Trigger::Level, |_| stop()) {
                return Poll::Ready(Err(error));
            }
            SLEPT.store(true, Ordering::Relaxed);
        }
        match sleeper.sleep(deadline, context.waker()) {
            Ok(()) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    })
}

/// A place among the sleepers.
struct Sleeper(Option<usize>);

impl Sleeper {
    fn sleep(&mut self, deadline: u64, waker: &Waker) -> Result<(), Error> {
        // Cloned and dropped outside the lock: both may call anything.
        let waker = waker.clone();
        let _replaced = SLEEPERS.with(|sleepers| {
            let place = match self.0 {
                Some(place) => place,
                None => *self.0.insert(sleepers.add(deadline).ok_or(Error::Limit)?),
            };
            Ok::<_, Error>(sleepers.set(place, waker))
        })?;
        Ok(())
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        if let Some(place) = self.0 {
            let _waker = SLEEPERS.with(|sleepers| sleepers.remove(place));
        }
    }
}

/// Wakes the futures that have slept long enough, and sets the timer for the next one.
pub(crate) fn dispatch() {
    if !SLEPT.load(Ordering::Relaxed) {
        return;
    }
    loop {
        match SLEEPERS.with(|sleepers| sleepers.take_due(now())) {
            Ok(waker) => waker.wake(),
            Err(Some(earliest)) => return set_deadline(earliest),
            Err(None) => return stop(),
        }
    }
}
