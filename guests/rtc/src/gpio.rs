//! The PL061.

use core::{
    ptr,
    sync::atomic::{AtomicU64, Ordering},
};

/// GPIODATA with all eight lines (address bits 9:2 are a mask).
const GPIODATA: u64 = 0x3fc;
const GPIODIR: u64 = 0x400;
const GPIOIS: u64 = 0x404;
const GPIOIBE: u64 = 0x408;
const GPIOIEV: u64 = 0x40c;
const GPIOIE: u64 = 0x410;

static BASE: AtomicU64 = AtomicU64::new(0);

fn register(offset: u64) -> *mut u32 {
    ptr::with_exposed_provenance_mut((BASE.load(Ordering::Relaxed) + offset) as usize)
}

fn write(offset: u64, value: u32) {
    // SAFETY: a register of the device, which writes no memory.
    unsafe { register(offset).write_volatile(value) };
}

/// Has all lines be inputs that interrupt as long as they are what they are now: for ever.
pub(crate) fn start(base: u64) {
    BASE.store(base, Ordering::Relaxed);
    write(GPIOIE, 0);
    write(GPIODIR, 0);
    write(GPIOIS, 0xff);
    write(GPIOIBE, 0);
    write(GPIOIEV, data());
    write(GPIOIE, 0xff);
}

/// The lines.
pub(crate) fn data() -> u32 {
    // SAFETY: a register of the device; reading changes nothing.
    unsafe { register(GPIODATA).read_volatile() }
}
