//! PSCI 1.x (Arm DEN0022) by HVC.

use core::{arch::asm, fmt};

const VERSION: u32 = 0x8400_0000;
const CPU_OFF: u32 = 0x8400_0002;
const CPU_ON: u32 = 0xc400_0003;
const AFFINITY_INFO: u32 = 0xc400_0004;
const SYSTEM_OFF: u32 = 0x8400_0008;
const SYSTEM_RESET: u32 = 0x8400_0009;
const PV_TIME_ST: u32 = handover_abi::smccc::PV_TIME_ST;

/// Why PSCI refused (DEN0022, 5.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// No such function.
    NotSupported,
    /// No such processor, or a bad argument.
    InvalidParameters,
    /// Not allowed.
    Denied,
    /// The processor is on.
    AlreadyOn,
    /// The processor is being switched on.
    OnPending,
    /// The entry address is bad.
    InvalidAddress,
    /// Any other code.
    Other(i32),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PSCI: {self:?}")
    }
}

impl core::error::Error for Error {}

/// What [`affinity_info`] tells of a processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AffinityState {
    /// On.
    On,
    /// Off.
    Off,
    /// Being switched on.
    OnPending,
}

fn result(value: u64) -> Result<u32, Error> {
    match value as i32 {
        value if value >= 0 => Ok(value as u32),
        -1 => Err(Error::NotSupported),
        -2 => Err(Error::InvalidParameters),
        -3 => Err(Error::Denied),
        -4 => Err(Error::AlreadyOn),
        -5 => Err(Error::OnPending),
        -9 => Err(Error::InvalidAddress),
        other => Err(Error::Other(other)),
    }
}

/// Any PSCI function.
///
/// # Safety
///
/// As the function demands: `CPU_ON`'s entry address must be code that can start a processor.
pub unsafe fn call(function: u32, x1: u64, x2: u64, x3: u64) -> u64 {
    let x0: u64;
    // SAFETY: the caller's promise. x4 to x17 may change under SMCCC 1.0.
    unsafe {
        asm!(
            "hvc #0",
            inlateout("x0") u64::from(function) => x0,
            inlateout("x1") x1 => _, inlateout("x2") x2 => _, inlateout("x3") x3 => _,
            lateout("x4") _, lateout("x5") _, lateout("x6") _, lateout("x7") _, lateout("x8") _, lateout("x9") _,
            lateout("x10") _, lateout("x11") _, lateout("x12") _, lateout("x13") _, lateout("x14") _,
            lateout("x15") _, lateout("x16") _, lateout("x17") _,
            options(nostack)
        );
    }
    x0
}

/// `PSCI_VERSION`: major in bits 31:16, minor in bits 15:0.
pub fn version() -> Result<u32, Error> {
    // SAFETY: changes nothing.
    result(unsafe { call(VERSION, 0, 0, 0) })
}

/// `CPU_ON`: switches processor `target` (an MPIDR) on at `entry`, MMU off, with `context` in `x0`.
///
/// # Safety
///
/// `entry` must be code that can start a processor with that context. See [`processor::start`](crate::processor::start).
pub unsafe fn cpu_on(target: u64, entry: u64, context: u64) -> Result<(), Error> {
    // SAFETY: the caller's promise.
    result(unsafe { call(CPU_ON, target, entry, context) }).map(|_| ())
}

/// `CPU_OFF`: switches this processor off.
pub fn cpu_off() -> ! {
    loop {
        // SAFETY: does not return, or refuses.
        unsafe { call(CPU_OFF, 0, 0, 0) };
        crate::interrupts::wait_for_interrupt();
    }
}

/// `AFFINITY_INFO` of processor `target` (an MPIDR).
pub fn affinity_info(target: u64) -> Result<AffinityState, Error> {
    // SAFETY: changes nothing.
    match result(unsafe { call(AFFINITY_INFO, target, 0, 0) })? {
        0 => Ok(AffinityState::On),
        1 => Ok(AffinityState::Off),
        2 => Ok(AffinityState::OnPending),
        other => Err(Error::Other(other as i32)),
    }
}

/// Where the processor that asks finds its stolen time (Arm DEN0057), as an intermediate physical address, if it is told.
pub(crate) fn stolen_time() -> Option<u64> {
    // SAFETY: maps a page where nothing else is.
    let at = unsafe { call(PV_TIME_ST, 0, 0, 0) };
    (at as i64 > 0).then_some(at)
}

/// `SYSTEM_OFF`: ends the partition.
pub fn system_off() -> ! {
    loop {
        // SAFETY: does not return, or refuses.
        unsafe { call(SYSTEM_OFF, 0, 0, 0) };
        crate::interrupts::wait_for_interrupt();
    }
}

/// `SYSTEM_RESET`: ends the partition and asks for it to be started again.
pub fn system_reset() -> ! {
    loop {
        // SAFETY: does not return, or refuses.
        unsafe { call(SYSTEM_RESET, 0, 0, 0) };
        crate::interrupts::wait_for_interrupt();
    }
}
