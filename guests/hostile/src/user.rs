//! Code at EL0: a few instructions, which the SDK's tables do not let EL0 see, and a copy of these tables that does.

use core::{
    arch::{asm, naked_asm},
    cell::UnsafeCell,
};

use handover_guest::{
    Boot,
    abi::layout::{MEMORY_BASE, WINDOW_BASE},
    fault::{self, Fault},
    interrupts::Masked,
};

use crate::failure::{Failure, ensure};

const GIB: u64 = 1 << 30;
/// Where EL0 finds this program's code: the first GiB of memory once more.
const ALIAS: u64 = 190 * GIB;
/// Valid block, Normal, inner shareable, accessed, read-only for EL1 and EL0, PXN.
const ALIAS_BLOCK: u64 = 1 | 1 << 2 | 3 << 6 | 3 << 8 | 1 << 10 | 1 << 53;
/// AP[1]: for EL0, too.
const USER: u64 = 1 << 6;
/// EL0 with all interrupts masked.
const SPSR_EL0: u64 = 0x3c0;
/// A call from EL0 to EL1 (SVC).
const CLASS_SVC: u64 = 0x15;

#[repr(align(4096))]
struct Table(UnsafeCell<[u64; 512]>);

// SAFETY: `with_tables` alone uses it, on the one processor that runs the cases.
unsafe impl Sync for Table {}

static LEVEL1: Table = Table(UnsafeCell::new([0; 512]));

/// Reads where `x0` points.
#[unsafe(naked)]
pub(crate) extern "C" fn read() {
    naked_asm!("ldr x0, [x0]", "svc #0")
}

/// Writes 0x55 where `x0` points.
#[unsafe(naked)]
pub(crate) extern "C" fn write() {
    naked_asm!("mov w1, #0x55", "strb w1, [x0]", "svc #0")
}

#[unsafe(naked)]
extern "C" fn hypercall() {
    naked_asm!("hvc #0", "svc #0")
}

#[unsafe(naked)]
extern "C" fn secure_call() {
    naked_asm!(".inst 0xd4000003", "svc #0")
}

/// Calls `function` with EL0 allowed to run this program's code and to touch the window's first GiB.
pub(crate) fn with_access<T>(function: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    with_tables(
        |table| {
            table[(ALIAS / GIB) as usize] = MEMORY_BASE | ALIAS_BLOCK;
            table[(WINDOW_BASE / GIB) as usize] |= USER;
        },
        function,
    )
}

/// The same below 4 GiB: EL0 finds this program's code at `alias`, and may touch the GiB at `open` and the devices.
pub(crate) fn with_low_access<T>(
    open: u64,
    alias: u64,
    function: impl FnOnce() -> Result<T, Failure>,
) -> Result<T, Failure> {
    with_tables(
        |table| {
            table[(alias / GIB) as usize] = MEMORY_BASE | ALIAS_BLOCK;
            table[(open / GIB) as usize] |= USER;
            table[0] |= USER;
        },
        function,
    )
}

/// Calls `function` with the start code's level-1 table changed.
fn with_tables<T>(
    change: impl FnOnce(&mut [u64; 512]),
    function: impl FnOnce() -> Result<T, Failure>,
) -> Result<T, Failure> {
    let ttbr0: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mrs {}, ttbr0_el1", out(reg) ttbr0, options(nomem, nostack)) };
    // SAFETY: the start code's level-1 table, which nothing writes to any more; and the copy, which nothing else uses.
    let (original, copy) = unsafe { (&*(ttbr0 as *const [u64; 512]), &mut *LEVEL1.0.get()) };
    copy.copy_from_slice(original);
    change(copy);
    set_tables(LEVEL1.0.get() as u64);
    let result = function();
    set_tables(ttbr0);
    result
}

fn set_tables(ttbr0: u64) {
    // SAFETY: both tables map what this program uses to the same places.
    unsafe {
        asm!("dsb sy", "msr ttbr0_el1, {}", "isb", "tlbi vmalle1", "dsb sy", "isb", in(reg) ttbr0, options(nostack));
    }
}

/// Runs `code` at EL0 with `x0` as given, until it makes an exception, which every one of them does.
pub(crate) fn run(code: extern "C" fn(), x0: u64) -> Fault {
    let address = ALIAS + (code as usize as u64 - MEMORY_BASE);
    let _masked = Masked::new();
    let caught: Result<(), Fault> = fault::catch(|| {
        // SAFETY: goes to code that returns by an exception, which is caught. It uses no stack.
        unsafe {
            asm!(
                "msr elr_el1, {address}", "msr spsr_el1, {spsr}", "eret",
                address = in(reg) address, spsr = in(reg) SPSR_EL0, in("x0") x0,
                options(noreturn)
            )
        }
    });
    match caught {
        Err(fault) => fault,
        Ok(()) => Fault { esr: 0, far: 0, elr: 0 },
    }
}

/// Runs `code`, which must come to its SVC.
pub(crate) fn expect_call(code: extern "C" fn(), x0: u64) -> Result<(), Failure> {
    let fault = run(code, x0);
    ensure!(fault.class() == CLASS_SVC, "EL0 with x0={x0:#x}: {fault} instead of an SVC");
    Ok(())
}

/// HVC and SMC are undefined at EL0.
pub(crate) fn calls(_: &Boot) -> Result<(), Failure> {
    with_access(|| {
        for (name, code) in [("HVC", hypercall as extern "C" fn()), ("SMC", secure_call)] {
            let fault = run(code, 0x8400_0000);
            ensure!(fault.class() == Fault::CLASS_UNDEFINED, "{name} at EL0: {fault}");
        }
        Ok(())
    })
}
