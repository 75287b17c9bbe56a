//! AArch32 programs at EL0, where the processor has that.

use core::arch::{asm, global_asm, naked_asm};

use handover_guest::{
    Boot,
    abi::layout::{GICD_BASE, MEMORY_BASE, UART_BASE},
    fault::{self, Fault},
    interrupts::Masked,
    println,
};

use crate::{
    failure::{Failure, ensure},
    user,
};

const GIB: u64 = 1 << 30;
/// Where the program finds its code: the first GiB of memory once more.
const ALIAS: u64 = 3 * GIB;
/// Memory that the partition does not have.
const NOTHING: u64 = 2 * GIB;
/// User mode, A32, all interrupts masked.
const SPSR_USER: u64 = 0x1d0;
/// SVC in AArch32 state.
const CLASS_SVC32: u64 = 0x11;
/// A return to a state that there is not.
const CLASS_ILLEGAL_STATE: u64 = 0x0e;

// The SDK takes exceptions from AArch32 for mistakes, so this takes them in its stead and hands them on as if from EL1:
// TPIDRRO_EL0 holds the SDK's vectors. x16 is lost, but nobody returns to it.
global_asm!(
    ".section .text.narrow_vectors, \"ax\"",
    ".balign 0x800",
    ".global narrow_vectors",
    "narrow_vectors:",
    ".rept 16",
    "mrs x16, tpidrro_el0",
    "br x16",
    ".balign 0x80",
    ".endr",
);

unsafe extern "C" {
    safe fn narrow_vectors();
}

#[unsafe(naked)]
extern "C" fn supervisor_call() {
    naked_asm!(".inst 0xef000000") // svc #0
}

#[unsafe(naked)]
extern "C" fn wait() {
    naked_asm!(".inst 0xe320f003", ".inst 0xef000000") // wfi; svc #0
}

#[unsafe(naked)]
extern "C" fn read() {
    naked_asm!(".inst 0xe5900000", ".inst 0xef000000") // ldr r0, [r0]; svc #0
}

#[unsafe(naked)]
extern "C" fn write() {
    naked_asm!(".inst 0xe5800000", ".inst 0xef000000") // str r0, [r0]; svc #0
}

#[unsafe(naked)]
extern "C" fn coprocessor() {
    naked_asm!(".inst 0xee1f0f10", ".inst 0xef000000") // mrc p15, 0, r0, c15, c0, 0; svc #0
}

/// Runs `code` with `r0` as given until it makes an exception, which every one of them does.
fn run(code: extern "C" fn(), r0: u64) -> Fault {
    const SCTLR_NTWI: u64 = 1 << 16;
    let address = ALIAS + (code as usize as u64 - MEMORY_BASE);
    let (vectors, sctlr): (u64, u64);
    let _masked = Masked::new();
    // SAFETY: the vectors hand all on to the SDK's, and EL0's WFI is let through.
    unsafe {
        asm!("mrs {vectors}, vbar_el1", "msr tpidrro_el0, {vectors}", "msr vbar_el1, {narrow}",
            "mrs {sctlr}, sctlr_el1", "orr {scratch}, {sctlr}, {ntwi}", "msr sctlr_el1, {scratch}", "isb",
            vectors = out(reg) vectors, sctlr = out(reg) sctlr, scratch = out(reg) _,
            narrow = in(reg) narrow_vectors as *const () as u64, ntwi = in(reg) SCTLR_NTWI);
    }
    let caught: Result<(), Fault> = fault::catch(|| {
        // SAFETY: goes to code that returns by an exception, which is caught. It uses no stack.
        unsafe {
            asm!("msr elr_el1, {address}", "msr spsr_el1, {spsr}", "eret",
                address = in(reg) address, spsr = in(reg) SPSR_USER, in("x0") r0, options(noreturn))
        }
    });
    // SAFETY: what they were.
    unsafe { asm!("msr vbar_el1, {}", "msr sctlr_el1, {}", "isb", in(reg) vectors, in(reg) sctlr) };
    match caught {
        Err(fault) => fault,
        Ok(()) => Fault { esr: 0, far: 0, elr: 0 },
    }
}

fn expect(what: &str, fault: Fault, class: u64) -> Result<(), Failure> {
    ensure!(fault.class() == class, "{what} in AArch32 state: {fault} instead of EC={class:#x}");
    Ok(())
}

/// Calls, waits, registers and accesses of an AArch32 program: its exceptions come to EL1.
pub(crate) fn programs(_: &Boot) -> Result<(), Failure> {
    user::with_low_access(NOTHING, ALIAS, || {
        let fault = run(supervisor_call, 0);
        if fault.class() == CLASS_ILLEGAL_STATE {
            println!("hostile: this processor has no AArch32 state; nothing to try");
            return Ok(());
        }
        expect("SVC", fault, CLASS_SVC32)?;
        expect("WFI", run(wait, 0), Fault::CLASS_UNDEFINED)?;
        expect("MRC of an implementation's own", run(coprocessor, 0), Fault::CLASS_UNDEFINED)?;
        for address in [NOTHING, NOTHING + 0xffc, GICD_BASE, UART_BASE + 0x18] {
            for (what, code) in [("a read", read as extern "C" fn()), ("a write", write)] {
                let fault = run(code, address);
                expect(what, fault, Fault::CLASS_DATA_ABORT_EL0)?;
                ensure!(fault.far == address, "{what} of {address:#x} in AArch32 state: {fault}");
            }
        }
        expect("SVC", run(supervisor_call, 0), CLASS_SVC32)
    })
}
