//! Instructions that do nothing but be found in a record of what was executed (`cargo xtask bench --counts`): who measures puts them outside of what is
//! measured. They are hints that no architecture version uses, and so NOPs (Arm DDI 0487, C6.2 `HINT`).

#![no_std]

/// A sample begins.
pub const BEGIN: u32 = 0x70;
/// A sample of the second of a pair begins.
pub const BEGIN_SECOND: u32 = 0x71;
/// A sample is over.
pub const END: u32 = 0x72;
/// A figure is about to be printed, of the samples before.
pub const TOLD: u32 = 0x73;

/// Executes one of them.
#[cfg(target_arch = "aarch64")]
#[inline(always)]
fn hint<const NUMBER: u32>() {
    // SAFETY: a hint that no architecture version uses is a NOP.
    unsafe { core::arch::asm!("hint #{}", const NUMBER, options(nomem, nostack, preserves_flags)) }
}

/// A sample begins.
#[cfg(target_arch = "aarch64")]
#[inline(always)]
pub fn begin() {
    hint::<BEGIN>();
}

/// A sample of the second of a pair begins.
#[cfg(target_arch = "aarch64")]
#[inline(always)]
pub fn begin_second() {
    hint::<BEGIN_SECOND>();
}

/// A sample is over.
#[cfg(target_arch = "aarch64")]
#[inline(always)]
pub fn end() {
    hint::<END>();
}

/// A figure is about to be printed, of the samples before.
#[cfg(target_arch = "aarch64")]
#[inline(always)]
pub fn told() {
    hint::<TOLD>();
}
