//! The virtual timer (Arm ARM D12). Its interrupt is [`VIRTUAL_TIMER_INTID`](crate::abi::layout::VIRTUAL_TIMER_INTID).

use core::arch::asm;

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
