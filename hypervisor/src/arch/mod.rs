//! Everything that is particular to the processor: nothing above this module names a system register.

pub mod broadcast;
pub mod cache;
pub mod context;
pub mod exception;
pub mod features;
pub mod monitor;
pub mod registers;
pub mod smc;
pub mod stage1;
pub mod stage2;
pub mod start;
pub mod watch;

use core::arch::asm;

/// Waits until an interrupt is pending, masked or not (Arm ARM D1.7.2).
pub fn wait_for_interrupt() {
    // SAFETY: WFI touches neither memory nor registers; DSB orders earlier stores before the wait.
    unsafe { asm!("dsb sy", "wfi", options(nostack, preserves_flags)) }
}

/// Whether a physical interrupt waits to be taken.
#[inline]
pub fn interrupt_pending() -> bool {
    registers::ISR_EL1.get() != 0
}

/// Zeroes memory, by `DC ZVA` where that is allowed (Arm ARM C6.2.92).
///
/// # Safety
/// `start..start + size` is memory that EL2 maps writable and has no reference into; both are multiples of 4096. Guests may reach it.
pub unsafe fn zero(start: u64, size: u64) {
    let dczid = registers::DCZID_EL0.get();
    let mut at = start;
    let end = start + size;
    let block = 4u64 << (dczid & 0xf);
    if dczid & 0x10 == 0 && block <= 512 {
        while at < end {
            // SAFETY: the caller vouches for the range; eight blocks never cross its end, being a power of two up to 4096.
            unsafe {
                asm!(
                    ".rept 8", "dc zva, {0}", "add {0}, {0}, {1}", ".endr",
                    inout(reg) at, in(reg) block, options(nostack, preserves_flags)
                );
            }
        }
    } else {
        while at < end {
            // SAFETY: the caller vouches for the range.
            unsafe { asm!("stp xzr, xzr, [{0}], #16", inout(reg) at, options(nostack, preserves_flags)) };
        }
    }
}

/// Cleans and invalidates memory to the point of coherency, so that a guest that runs with its caches off sees it.
pub fn clean(start: u64, size: u64) {
    let line = cache::line();
    let mut at = start & !(line - 1);
    while at < start + size {
        cache::clean_invalidate(at);
        at += line;
    }
    cache::dsb_sy();
    // SAFETY: instruction caches hold no state.
    unsafe { asm!("ic ialluis", "dsb ish", "isb", options(nostack, preserves_flags)) }
}

/// Invalidates data cache lines without writing them back.
///
/// # Safety
/// Nothing in `start..start + size`, whole lines, was written with the caches on since it was last cleaned.
pub unsafe fn discard(start: u64, size: u64) {
    let line = cache::line();
    let mut at = start;
    while at < start + size {
        // SAFETY: by the caller, no line holds anything that memory does not.
        unsafe { asm!("dc ivac, {}", in(reg) at, options(nostack, preserves_flags)) };
        at += line;
    }
    // SAFETY: a barrier.
    unsafe { asm!("dsb sy", options(nostack, preserves_flags)) }
}

/// Invalidates all instruction caches: frames that held another's code may come next.
pub fn discard_instructions() {
    // SAFETY: instruction caches hold no state.
    unsafe { asm!("dsb ish", "ic ialluis", "dsb ish", "isb", options(nostack, preserves_flags)) }
}
