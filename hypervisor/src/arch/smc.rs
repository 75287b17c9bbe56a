//! PSCI calls to the firmware below (Arm DEN0022), by SMC: from EL2 there is no other way.

use core::arch::asm;

/// `CPU_ON`, 64-bit.
const CPU_ON: u64 = 0xc400_0003;
/// `SYSTEM_OFF`.
const SYSTEM_OFF: u64 = 0x8400_0008;

fn call(function: u64, a: u64, b: u64, c: u64) -> i64 {
    let result: u64;
    // SAFETY: a firmware call (`smc #0`) changes x0 to x17 at most (DEN0028, 2.6), all of them declared.
    unsafe {
        asm!(".inst 0xd4000003", inout("x0") function => result, inout("x1") a => _, inout("x2") b => _, inout("x3") c => _,
            clobber_abi("C"))
    }
    result as i64
}

/// Switches a processor on at `entry`, its `x0` = `argument`. The firmware's error otherwise.
pub fn cpu_on(mpidr: u64, entry: u64, argument: u64) -> Result<(), i64> {
    match call(CPU_ON, mpidr, entry, argument) {
        0 => Ok(()),
        error => Err(error),
    }
}

/// Switches the machine off.
pub fn system_off() -> ! {
    call(SYSTEM_OFF, 0, 0, 0);
    loop {
        super::wait_for_interrupt();
    }
}
