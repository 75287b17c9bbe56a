//! What interrupts cost that no other partition has a part in: the virtual timer's, taken by the guest that it interrupts, and those that the
//! partition's processors send each other.

use core::arch::{asm, global_asm};

use handover_guest::{
    Boot, Error,
    abi::layout::VIRTUAL_TIMER_INTID,
    interrupts::{self, Trigger},
    processor,
};

use crate::sample::{measure, report};

// Vectors of which one is used, for interrupts from EL1 with SP_EL0 (Arm ARM D1.3.1): it notes the time, stops the timer, acknowledges and ends its
// interrupt, and goes back.
global_asm!(
    ".balign 2048",
    "bench_interrupt_vectors:",
    ".space 0x80",
    "mrs x10, cntvct_el0",
    "msr cntv_ctl_el0, xzr",
    "mrs x11, icc_iar1_el1",
    "msr icc_eoir1_el1, x11",
    "eret",
    ".balign 2048"
);

/// When the timer is due, in instructions from when it is set.
const DUE: u64 = 500;

/// One run through a thousand instructions and some, in the middle of which the timer is due, if it is `armed`: how many were executed, and how many
/// from when it was due to its handler's first.
fn run(armed: bool) -> (u64, u64) {
    let (before, handled, after): (u64, u64, u64);
    // SAFETY: no other interrupt is enabled that would be due while the vectors are others, and no exception but the timer's is taken; its handler
    // changes x10 and x11, which the compiler is told, and comes back to where it interrupted. ELR and SPSR belong to handlers, and none runs.
    unsafe {
        asm!(
            "mrs {masks}, daif",
            "msr daifset, #15",
            "mrs {old}, vbar_el1",
            "adrp {new}, bench_interrupt_vectors",
            "add {new}, {new}, :lo12:bench_interrupt_vectors",
            "msr vbar_el1, {new}",
            "isb",
            "mrs {before}, cntvct_el0",
            "add {new}, {before}, {due}",
            "msr cntv_cval_el0, {new}",
            "msr cntv_ctl_el0, {armed}",
            "isb",
            "msr daifclr, #2",
            ".rept 1000",
            "nop",
            ".endr",
            "mrs {after}, cntvct_el0",
            "msr daifset, #2",
            "msr vbar_el1, {old}",
            "isb",
            "msr daif, {masks}",
            masks = out(reg) _,
            old = out(reg) _,
            new = out(reg) _,
            before = out(reg) before,
            after = out(reg) after,
            armed = in(reg) u64::from(armed),
            due = const DUE,
            inout("x10") 0u64 => handled,
            out("x11") _,
            options(nostack)
        );
    }
    (after - before, handled.saturating_sub(before + DUE))
}

/// Measures the virtual timer's interrupt.
pub(crate) fn timer() -> Result<(), Error> {
    interrupts::enable(VIRTUAL_TIMER_INTID, Trigger::Level, |_| {})?;
    // Without the interrupt there are always as many, and one more reads the counter. Where the clock does not count
    // instructions, either may take longer.
    let without = run(false).0;
    report("timer_interrupt", || (run(true).0 + 1).saturating_sub(without));
    report("timer_to_handler", || run(true).1);
    interrupts::disable(VIRTUAL_TIMER_INTID)
}

/// What one processor sends the other.
const SGI: u32 = 1;

/// ICC_SGI1R_EL1: to processor `to`, affinity 0.0.0.n.
fn send(to: usize) {
    let value = u64::from(SGI) << 24 | 1u64 << to;
    // SAFETY: sends an interrupt that the program expects.
    unsafe { asm!("msr icc_sgi1r_el1, {}", "isb", in(reg) value, options(nostack, preserves_flags)) };
}

/// Waits by WFI until it has come.
fn wait() {
    loop {
        interrupts::wait_for_interrupt();
        if let Some(intid) = interrupts::acknowledge() {
            interrupts::end(intid);
            if intid == SGI {
                return;
            }
        }
    }
}

fn answer(_: usize) {
    let enabled = interrupts::enable(SGI, Trigger::Edge, |_| {});
    assert!(enabled.is_ok(), "{enabled:?}");
    loop {
        send(0);
        wait();
    }
}

/// Measures an interrupt to the partition's other processor and one back, both waiting by WFI.
pub(crate) fn between_processors(boot: &Boot) -> Result<(), Error> {
    if boot.processors() < 2 {
        return Err(Error::NotSupported);
    }
    interrupts::enable(SGI, Trigger::Edge, |_| {})?;
    processor::start(1, answer, 0).map_err(|_| Error::WrongState)?;
    // It is there.
    wait();
    measure("ipi_round_trip", (), |()| {
        send(1);
        wait();
        Ok(())
    })
}
