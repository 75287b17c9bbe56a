//! Dies at once: prints a line and branches to address 0, where nothing is.

#![no_std]
#![no_main]

use core::arch::asm;

use handover_guest::{Boot, Status, entry, println};

entry!(main);

fn main(_boot: Boot) -> Status {
    println!("crash: branching to address 0");
    // SAFETY: there is no code there, so this goes no further than the exception handler.
    unsafe { asm!("br xzr", options(noreturn)) }
}
