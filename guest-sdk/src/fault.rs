//! Exceptions that the program itself causes.
//!
//! [`catch`] turns one into an error; what nothing catches is printed and ends the partition with
//! [`Status::FAULT`](crate::Status::FAULT).

use core::{arch::asm, arch::global_asm, fmt, mem::MaybeUninit, ptr};

use crate::{Status, console::print_anyway, start};

global_asm!(include_str!("vectors.s"));

/// A synchronous exception: its syndrome and addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Fault {
    /// ESR_EL1.
    pub esr: u64,
    /// FAR_EL1: the address of an abort.
    pub far: u64,
    /// ELR_EL1: the instruction.
    pub elr: u64,
}

impl Fault {
    /// Exception class: ESR bits 31:26 (Arm ARM, ESR_EL1).
    #[must_use]
    pub const fn class(self) -> u64 {
        self.esr >> 26 & 0x3f
    }

    /// Data or instruction fault status code: ESR bits 5:0 of an abort.
    #[must_use]
    pub const fn status_code(self) -> u64 {
        self.esr & 0x3f
    }

    /// WnR: whether a data abort was a write.
    #[must_use]
    pub const fn is_write(self) -> bool {
        self.esr & 1 << 6 != 0
    }

    /// An instruction that this processor does not have.
    pub const CLASS_UNDEFINED: u64 = 0x00;
    /// An instruction abort without a change in exception level.
    pub const CLASS_INSTRUCTION_ABORT: u64 = 0x21;
    /// A data abort from EL0.
    pub const CLASS_DATA_ABORT_EL0: u64 = 0x24;
    /// A data abort without a change in exception level.
    pub const CLASS_DATA_ABORT: u64 = 0x25;
    /// Status code of a synchronous external abort that is not on a table walk.
    pub const STATUS_EXTERNAL: u64 = 0x10;
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EC={:#04x} ESR={:#x} FAR={:#x} ELR={:#x}", self.class(), self.esr, self.far, self.elr)
    }
}

/// What the vectors save (`vectors.s`).
#[repr(C)]
struct Frame {
    x: [u64; 31],
    sp: u64,
    elr: u64,
    spsr: u64,
    esr: u64,
    far: u64,
}

/// What `handover_catch` keeps on the stack (`vectors.s`).
#[repr(C)]
struct CatchFrame {
    saved: [u64; 12],
    outer: u64,
    daif: u64,
    fault: *mut Fault,
}

/// SPSR: EL1 on SP_EL0, the interrupt masks apart.
const SPSR_EL1T: u64 = 0b0100;

unsafe extern "C" {
    fn handover_catch(function: extern "C" fn(*mut ()), data: *mut (), fault: *mut Fault) -> bool;
    safe fn handover_catch_fault();
}

/// Calls `function`; a synchronous exception in it ends it there and then and is returned.
///
/// Nothing that `function` owns then is dropped. Calls may be nested; the innermost catches.
///
/// ```ignore
/// // SAFETY: a fault is caught.
/// let result = fault::catch(|| unsafe { address.read_volatile() });
/// assert_eq!(result.unwrap_err().far, address as u64);
/// ```
pub fn catch<T, F: FnOnce() -> T>(function: F) -> Result<T, Fault> {
    struct Call<F, T> {
        function: Option<F>,
        result: MaybeUninit<T>,
    }

    extern "C" fn trampoline<T, F: FnOnce() -> T>(data: *mut ()) {
        // SAFETY: `data` is the `Call` below, which nothing else uses until `handover_catch` returns.
        let call = unsafe { &mut *data.cast::<Call<F, T>>() };
        if let Some(function) = call.function.take() {
            call.result.write(function());
        }
    }

    let mut call = Call { function: Some(function), result: MaybeUninit::uninit() };
    let mut fault = MaybeUninit::uninit();
    // SAFETY: `data` is what `trampoline` expects. A fault abandons the frames between as unwinding without destructors
    // would, and restores all registers that this function may rely on.
    let faulted =
        unsafe { handover_catch(trampoline::<T, F>, ptr::from_mut(&mut call).cast(), fault.as_mut_ptr()) };
    if faulted {
        // SAFETY: the handler wrote it before it returned to `handover_catch_fault`.
        Err(unsafe { fault.assume_init() })
    } else {
        // SAFETY: `trampoline` ran to its end, and `function` was there.
        Ok(unsafe { call.result.assume_init() })
    }
}

fn innermost_catch() -> *mut CatchFrame {
    let frame: *mut CatchFrame;
    // SAFETY: reads a register.
    unsafe { asm!("mrs {}, tpidr_el1", out(reg) frame, options(nomem, nostack, preserves_flags)) };
    frame
}

/// Calls `function` with no `catch` active.
pub(crate) fn outside_catch(function: fn()) {
    let frame = innermost_catch();
    // SAFETY: TPIDR_EL1 is null or a live `CatchFrame`, and is put back.
    unsafe { asm!("msr tpidr_el1, xzr", options(nostack, preserves_flags)) };
    function();
    // SAFETY: as above.
    unsafe { asm!("msr tpidr_el1, {}", in(reg) frame, options(nostack, preserves_flags)) };
}

#[unsafe(no_mangle)]
extern "C" fn handover_synchronous(frame: &mut Frame) {
    let fault = Fault { esr: frame.esr, far: frame.far, elr: frame.elr };
    let catch = innermost_catch();
    if catch.is_null() {
        die("exception that nothing catches", frame);
    }
    // SAFETY: `handover_catch` set TPIDR_EL1 to its frame on the stack, and takes it back before it returns.
    let CatchFrame { fault: destination, daif, .. } = unsafe { &*catch };
    // SAFETY: `catch` passed the address of its own variable and waits for `handover_catch` to return.
    unsafe { destination.write(fault) };
    frame.elr = handover_catch_fault as *const () as u64;
    frame.sp = catch as u64;
    frame.spsr = SPSR_EL1T | daif;
}

#[unsafe(no_mangle)]
extern "C" fn handover_unexpected(frame: &mut Frame) -> ! {
    die("unexpected exception", frame)
}

fn die(what: &str, frame: &Frame) -> ! {
    let fault = Fault { esr: frame.esr, far: frame.far, elr: frame.elr };
    print_anyway(format_args!("{what}: {fault} SPSR={:#x} SP={:#x}\n", frame.spsr, frame.sp));
    for (row, registers) in frame.x.chunks(4).enumerate() {
        for (column, value) in registers.iter().enumerate() {
            print_anyway(format_args!("  x{:<2} {value:016x}", row * 4 + column));
        }
        print_anyway(format_args!("\n"));
    }
    start::end(Status::FAULT)
}
