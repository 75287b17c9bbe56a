//! The machine's end.

use core::fmt::Write;
use core::sync::atomic::{AtomicBool, Ordering};

use handover_abi::console::END_RECORD;

use crate::arch;
use crate::arch::smc;
use crate::drivers::gic;
use crate::kernel::Kernel;
use crate::uart::{Emergency, UART};

/// What a panic ends the machine with.
const PANIC_STATUS: u64 = 101;

/// The largest exit status: what a UNIX process can end with.
const STATUS_MAX: u64 = 255;

static PANICKED: AtomicBool = AtomicBool::new(false);

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

/// A bug of ours: says where, past all rings and locks, stops the other processors and switches the machine off.
#[panic_handler]
fn panic(info: &core::panic::PanicInfo) -> ! {
    if PANICKED.swap(true, Ordering::Relaxed) {
        loop {
            arch::wait_for_interrupt();
        }
    }
    gic::send_to_others(gic::SGI_STOP);
    if let Some(mut uart) = Emergency::take() {
        // Writing to the UART cannot fail.
        let _ = write!(uart, "\nhandover: panic: {info}\n{END_RECORD}{PANIC_STATUS}\n");
    }
    smc::system_off()
}
