//! The PL031.

use core::{
    ptr,
    sync::atomic::{AtomicU64, Ordering},
};

const RTCDR: u64 = 0x00;
const RTCMR: u64 = 0x04;
const RTCCR: u64 = 0x0c;
const RTCIMSC: u64 = 0x10;
const RTCICR: u64 = 0x1c;

static BASE: AtomicU64 = AtomicU64::new(0);

fn register(offset: u64) -> *mut u32 {
    ptr::with_exposed_provenance_mut((BASE.load(Ordering::Relaxed) + offset) as usize)
}

fn write(offset: u64, value: u32) {
    // SAFETY: a register of the device, which writes no memory.
    unsafe { register(offset).write_volatile(value) };
}

/// Switches the clock on, whose registers are at `base`, with its interrupt masked and cleared.
pub(crate) fn start(base: u64) {
    BASE.store(base, Ordering::Relaxed);
    write(RTCIMSC, 0);
    write(RTCICR, 1);
    write(RTCCR, 1);
}

/// Seconds.
pub(crate) fn now() -> u32 {
    // SAFETY: a register of the device; reading changes nothing.
    unsafe { register(RTCDR).read_volatile() }
}

/// The interrupt comes when the clock shows this, and stays until it is cleared.
pub(crate) fn set_alarm(at: u32) {
    write(RTCMR, at);
    write(RTCIMSC, 1);
}

/// Clears the interrupt.
pub(crate) fn clear() {
    write(RTCICR, 1);
}
