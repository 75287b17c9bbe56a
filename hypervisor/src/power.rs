//! The machine's end.

use core::fmt::Write;
use core::sync::atomic::{AtomicBool, Ordering};

use handover_abi::console::END_RECORD;

use crate::arch;
use crate::arch::smc::Conduit;
use crate::drivers::gic;
use crate::kernel::Kernel;
use crate::uart::UART;

/// What a panic ends the machine with.
const PANIC_STATUS: u64 = 101;

/// The largest exit status: what a UNIX process can end with.
const STATUS_MAX: u64 = 255;

static HVC_CONDUIT: AtomicBool = AtomicBool::new(false);
static PANICKED: AtomicBool = AtomicBool::new(false);

/// Remembers how the firmware is called, also for a panic.
pub fn set_conduit(conduit: Conduit) {
    HVC_CONDUIT.store(conduit == Conduit::Hvc, Ordering::Relaxed);
}

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
    let conduit = if HVC_CONDUIT.load(Ordering::Relaxed) { Conduit::Hvc } else { Conduit::Smc };
    conduit.system_off()
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
    // SAFETY: nobody else goes on; whoever held the lock has been stopped, or is this processor itself.
    unsafe { UART.force_unlock() };
    let _ = writeln!(UART.lock(), "\nhandover: panic: {info}");
    finish(PANIC_STATUS)
}
