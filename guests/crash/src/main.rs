//! Dies at once: prints a line and branches to address 0, where nothing is.
//!
//! With the argument `lost` it first takes away whatever could catch that, so that the control OS has to end it.

#![no_std]
#![no_main]

use core::arch::asm;

use handover_guest::{Boot, Status, entry, println};

entry!(main);

fn main(boot: Boot) -> Status {
    println!("crash: branching to address 0");
    if boot.argument("lost").is_some() {
        // SAFETY: nothing is done after this, with or without the MMU: there is no code at address 0, nor at the vectors.
        unsafe {
            asm!(
                "msr vbar_el1, xzr",
                "mrs x0, sctlr_el1",
                "bic x0, x0, #1",
                "msr sctlr_el1, x0",
                "isb",
                "br xzr",
                options(noreturn)
            )
        }
    }
    // SAFETY: there is no code there, so this goes no further than the exception handler.
    unsafe { asm!("br xzr", options(noreturn)) }
}
