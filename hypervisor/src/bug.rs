//! A bug of ours: what it leaves behind is printed, past all rings and locks, and the machine ends.

use core::cell::UnsafeCell;
use core::fmt::{self, Display, Formatter, Write};
use core::sync::atomic::{AtomicU64, Ordering};

use handover_abi::console::END_RECORD;
use handover_core::SyndromeWords;

use crate::arch::exception::{self, Syndrome};
use crate::arch::registers::{ELR_EL2, MPIDR_EL1};
use crate::arch::smc;
use crate::arch::start::Image;
use crate::drivers::gic;
use crate::fault;
use crate::uart::Emergency;

/// What it ends the machine with.
const STATUS: u64 = 101;

/// Bytes of [`LastStack`].
pub const LAST_STACK_SIZE: usize = 0x4000;

/// A stack for a processor whose own may be what is wrong. `bug.s` writes `taken` and `registers`.
#[repr(C, align(16))]
pub struct LastStack {
    /// MPIDR_EL1 of who has it, or 0.
    taken: AtomicU64,
    _align: u64,
    registers: UnsafeCell<[u64; 32]>,
    _stack: UnsafeCell<[u8; LAST_STACK_SIZE - size_of::<[u64; 34]>()]>,
}

// SAFETY: whoever has put its number into `taken` is alone, for good.
unsafe impl Sync for LastStack {}

/// See [`LastStack`].
pub static LAST_STACK: LastStack = LastStack {
    taken: AtomicU64::new(0),
    _align: 0,
    registers: UnsafeCell::new([0; 32]),
    _stack: UnsafeCell::new([0; _]),
};

/// Where the registers are in it.
pub const REGISTERS: usize = core::mem::offset_of!(LastStack, registers);

/// MPIDR_EL1 of the processor that has panicked, or 0.
static PANICKED: AtomicU64 = AtomicU64::new(0);

/// An exception from EL2 itself.
struct Exception<'a> {
    vector: u64,
    /// x0 to x30, and the stack pointer.
    registers: &'a [u64; 32],
}

impl Display for Exception<'_> {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let syndrome = Syndrome::read();
        let (elr, start) = (ELR_EL2.get(), Image::find().start);
        writeln!(out, "exception in the control OS (vector {}): {}", self.vector, SyndromeWords(syndrome.0))?;
        let far = exception::fault_va();
        writeln!(
            out,
            "control-os: PC {elr:#018x} ESR_EL2 {:#x} FAR {far:#018x}, loaded at {start:#x}",
            syndrome.0
        )?;
        let [general @ .., sp] = self.registers;
        for row in fault::rows(general) {
            writeln!(out, "control-os: {row}")?;
        }
        writeln!(out, "control-os: SP {sp:#018x}")?;
        // In addresses of the image's file, which is linked to 0.
        writeln!(out, "control-os: at {:#018x}", elr.wrapping_sub(start))?;
        let [.., link] = general;
        write!(out, "control-os: at {:#018x} (x30)", link.wrapping_sub(start))
    }
}

/// What `bug.s` has found.
pub extern "C" fn unexpected(vector: u64, registers: &[u64; 32]) -> ! {
    panic!("{}", Exception { vector, registers })
}

/// An exception while one is reported.
pub extern "C" fn hopeless() -> ! {
    record("\nhandover: an exception while one is reported");
    smc::system_off()
}

fn record(what: impl Display) {
    if let Some(mut uart) = Emergency::take() {
        // Writing to the UART cannot fail.
        let _ = write!(uart, "{what}\n{END_RECORD}{STATUS}\n");
    }
}

/// Says where, stops the other processors and switches the machine off.
#[panic_handler]
fn panic(info: &core::panic::PanicInfo) -> ! {
    let this = MPIDR_EL1.get();
    match PANICKED.compare_exchange(0, this, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => {
            gic::send_to_others(gic::SGI_STOP);
            record(format_args!("\nhandover: panic: {info}"));
        }
        // It has panicked while it said so.
        Err(first) if first == this => record("\nhandover: a panic while one is reported"),
        Err(_) => loop {
            crate::arch::wait_for_interrupt();
        },
    }
    smc::system_off()
}
