//! Ending by a fault of one's own.

use std::{arch::asm, hint::black_box, process::ExitCode};

/// Where the kernel itself is.
const KERNEL: usize = 0xffff_ff80_4000_0000;

fn read(address: usize) -> ExitCode {
    // SAFETY: none; that it faults is what this is about.
    unsafe { black_box(address as *const u8).read_volatile() };
    ExitCode::SUCCESS
}

pub fn null() -> ExitCode {
    read(0)
}

pub fn kernel() -> ExitCode {
    read(KERNEL)
}

pub fn own_code() -> ExitCode {
    let code = own_code as fn() -> ExitCode as *const () as *mut u8;
    // SAFETY: none; see `read`.
    unsafe { black_box(code).write_volatile(0) };
    ExitCode::SUCCESS
}

fn jump(address: usize) -> ExitCode {
    // SAFETY: none; see `read`.
    unsafe { asm!("br {}", in(reg) black_box(address), options(noreturn)) }
}

pub fn data() -> ExitCode {
    static BYTES: [u8; 4] = [0x1f, 0x20, 0x03, 0xd5];
    jump(BYTES.as_ptr() as usize)
}

pub fn between_instructions() -> ExitCode {
    jump(jump as fn(usize) -> ExitCode as usize + 2)
}

pub fn no_instruction() -> ExitCode {
    // SAFETY: none; see `read`.
    unsafe { asm!("udf #0", options(noreturn)) }
}

pub fn privileged_instruction() -> ExitCode {
    // SAFETY: none; see `read`.
    unsafe { asm!("msr vbar_el1, xzr") };
    ExitCode::SUCCESS
}

pub fn breakpoint() -> ExitCode {
    // SAFETY: none; see `read`.
    unsafe { asm!("brk #1", options(noreturn)) }
}

pub fn overflow() -> ExitCode {
    fn deeper(depth: u64) -> u64 {
        let room = black_box([depth; 512]);
        if depth == u64::MAX { 0 } else { deeper(depth + 1) + room[1] }
    }
    ExitCode::from(deeper(0) as u8)
}
