//! What touching memory that is not the partition's costs: from the instruction to the first one of the guest's own handler.

use core::arch::{asm, global_asm};

use handover_guest::abi::layout::{WINDOW_BASE, WINDOW_SIZE};

// Vectors of which one is used, for exceptions from EL1 with SP_EL0 (Arm ARM D1.3.1): it notes the time and goes on behind the instruction.
global_asm!(
    ".balign 2048",
    "bench_vectors:",
    "mrs x10, cntvct_el0",
    "mrs x11, elr_el1",
    "add x11, x11, #4",
    "msr elr_el1, x11",
    "eret",
    ".balign 2048"
);

/// Where nothing is ever mapped.
const NOWHERE: u64 = WINDOW_BASE + WINDOW_SIZE - 4096;

/// Instructions from a load of what is not there to the handler.
pub(crate) fn sample() -> u64 {
    let (before, after): (u64, u64);
    // SAFETY: interrupts are masked while the vectors are others, so that nothing but the load uses them; the handler changes x10 and x11, which
    // the compiler is told, and comes back behind the load. ELR and SPSR belong to handlers, and no handler runs.
    unsafe {
        asm!(
            "mrs {masks}, daif",
            "msr daifset, #15",
            "mrs {old}, vbar_el1",
            "adrp {new}, bench_vectors",
            "add {new}, {new}, :lo12:bench_vectors",
            "msr vbar_el1, {new}",
            "isb",
            "mrs {before}, cntvct_el0",
            "ldr xzr, [{nowhere}]",
            "msr vbar_el1, {old}",
            "isb",
            "msr daif, {masks}",
            masks = out(reg) _,
            old = out(reg) _,
            new = out(reg) _,
            before = out(reg) before,
            nowhere = in(reg) NOWHERE,
            out("x10") after,
            out("x11") _,
            options(nostack)
        );
    }
    after - before
}
