//! PSCI calls to the firmware below (Arm DEN0022), by the conduit that the device tree names.

use core::arch::asm;

/// How the firmware is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conduit {
    /// `smc #0`.
    Smc,
    /// `hvc #0`.
    Hvc,
}

/// `CPU_ON`, 64-bit.
const CPU_ON: u64 = 0xc400_0003;
/// `SYSTEM_OFF`.
const SYSTEM_OFF: u64 = 0x8400_0008;

impl Conduit {
    fn call(self, function: u64, a: u64, b: u64, c: u64) -> i64 {
        let result: u64;
        // SAFETY: a firmware call changes x0 to x17 at most (DEN0028, 2.6), all of them declared.
        unsafe {
            match self {
                Conduit::Smc => {
                    asm!(".inst 0xd4000003", inout("x0") function => result, inout("x1") a => _, inout("x2") b => _,
                    inout("x3") c => _, clobber_abi("C"))
                }
                Conduit::Hvc => {
                    asm!(".inst 0xd4000002", inout("x0") function => result, inout("x1") a => _, inout("x2") b => _,
                    inout("x3") c => _, clobber_abi("C"))
                }
            }
        }
        result as i64
    }

    /// Switches a processor on at `entry`, its `x0` = `argument`. The firmware's error otherwise.
    pub fn cpu_on(self, mpidr: u64, entry: u64, argument: u64) -> Result<(), i64> {
        match self.call(CPU_ON, mpidr, entry, argument) {
            0 => Ok(()),
            error => Err(error),
        }
    }

    /// Switches the machine off.
    pub fn system_off(self) -> ! {
        self.call(SYSTEM_OFF, 0, 0, 0);
        loop {
            super::wait_for_interrupt();
        }
    }
}
