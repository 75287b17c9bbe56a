//! The machine's end.

use core::fmt::Write;

use handover_abi::console::END_RECORD;

use crate::arch::smc;
use crate::kernel::Kernel;
use crate::uart::UART;

/// The largest exit status: what a UNIX process can end with.
const STATUS_MAX: u64 = 255;

/// Sends what the consoles still hold, then the record, and switches the machine off.
pub fn off(kernel: &mut Kernel, status: u64) -> ! {
    kernel.hardware.console_flush();
    finish(status.min(STATUS_MAX))
}

fn finish(status: u64) -> ! {
    {
        let mut uart = UART.lock();
        // Writing to the UART cannot fail.
        let _ = writeln!(uart, "{END_RECORD}{status}");
        if let Some(device) = uart.device() {
            device.flush();
        }
    }
    smc::system_off()
}
