//! Registers that belong to a logical processor stay its own, whoever else runs on the physical one meanwhile.

use core::{
    arch::{asm, global_asm},
    sync::atomic::{AtomicUsize, Ordering},
};

use handover_guest::{
    Boot,
    abi::layout::VIRTUAL_TIMER_INTID,
    hvc,
    interrupts::{self, Trigger},
    processor, timer,
};

use crate::{
    failure::{Failure, ensure, fail},
    processors,
};

/// How often each processor waits and looks.
const ROUNDS: u64 = 500;
/// Ticks of each wait.
const WAIT: u64 = 5000;

// The program has no floating point, so nothing but this touches v0 to v31.
global_asm!(
    ".arch_extension fp",
    ".arch_extension simd",
    // fn(seed): v<n> = seed + n in both halves, FPCR and FPSR from the seed.
    "fill_vectors:",
    ".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
    "add x1, x0, #\\n",
    "dup v\\n\\().2d, x1",
    ".endr",
    "and x1, x0, #0x1f",
    "msr fpsr, x1",
    "and x1, x0, #0x3",
    "lsl x1, x1, #22",
    "msr fpcr, x1",
    "ret",
    // fn(seed) -> number of the first register that differs from what `fill_vectors` left, 32 and 33 for FPSR and FPCR, 64 if none
    // does.
    "compare_vectors:",
    ".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
    "mov x3, #\\n",
    "add x1, x0, #\\n",
    "umov x2, v\\n\\().d[0]",
    "cmp x1, x2",
    "b.ne 0f",
    "umov x2, v\\n\\().d[1]",
    "cmp x1, x2",
    "b.ne 0f",
    ".endr",
    "mov x3, #32",
    "and x1, x0, #0x1f",
    "mrs x2, fpsr",
    "cmp x1, x2",
    "b.ne 0f",
    "mov x3, #33",
    "and x1, x0, #0x3",
    "lsl x1, x1, #22",
    "mrs x2, fpcr",
    "cmp x1, x2",
    "b.ne 0f",
    "mov x3, #64",
    "0: mov x0, x3",
    "ret",
    // fn() -> all bits of v0 to v31 that are set anywhere.
    "gather_vectors:",
    "mov x0, #0",
    ".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
    "umov x1, v\\n\\().d[0]",
    "orr x0, x0, x1",
    "umov x1, v\\n\\().d[1]",
    "orr x0, x0, x1",
    ".endr",
    "ret",
);

unsafe extern "C" {
    safe fn fill_vectors(seed: u64);
    safe fn compare_vectors(seed: u64) -> u64;
    safe fn gather_vectors() -> u64;
}

/// What `compare_vectors` returns when all is as it was.
const ALL_EQUAL: u64 = 64;

/// System registers that this program does not use: name, and functions that write and read it.
macro_rules! unused_registers {
    ($($name:literal),* $(,)?) => {
        [$((
            $name,
            // SAFETY: nothing here depends on the register.
            (|value| unsafe { asm!(concat!("msr ", $name, ", {}"), in(reg) value, options(nomem, nostack)) }) as fn(u64),
            (|| {
                let value: u64;
                // SAFETY: as above.
                unsafe { asm!(concat!("mrs {}, ", $name), out(reg) value, options(nomem, nostack)) };
                value
            }) as fn() -> u64,
        ),)*]
    };
}

type Register = (&'static str, fn(u64), fn() -> u64);

/// All of them hold any 32 bits, and more.
const REGISTERS: [Register; 3] = unused_registers!("tpidr_el0", "tpidrro_el0", "contextidr_el1");

static ERRORS: [AtomicUsize; 8] = [const { AtomicUsize::new(0) }; 8];

/// Codes in `ERRORS`: a vector register by `compare_vectors`' number plus 1, a system register from here on.
const SYSTEM_REGISTERS: usize = 100;
/// The vector registers were not zero at first.
const NOT_FRESH: usize = 1000;
/// The timer's interrupt could not be enabled.
const NO_TIMER: usize = 1001;

pub(crate) fn kept(boot: &Boot) -> Result<(), Failure> {
    ensure!(boot.processors() >= 2, "the case needs two processors");
    for index in 1..boot.processors() {
        processor::start(index, exercise, index)?;
    }
    exercise(0);
    for index in 1..boot.processors() {
        processors::wait_until_off(index)?;
    }
    for (index, error) in ERRORS.iter().enumerate() {
        match error.swap(0, Ordering::Relaxed) {
            0 => {}
            NOT_FRESH => fail!("processor {index}: vector registers held something before their first use"),
            NO_TIMER => fail!("processor {index}: the timer's interrupt cannot be enabled"),
            code if code >= SYSTEM_REGISTERS => {
                fail!("processor {index}: {} changed", REGISTERS[code - SYSTEM_REGISTERS].0)
            }
            code => fail!("processor {index}: vector register {} changed (32: FPSR, 33: FPCR)", code - 1),
        }
    }
    Ok(())
}

fn exercise(index: usize) {
    if let Err(code) = rounds(index) {
        ERRORS[index].store(code, Ordering::Relaxed);
    }
    // SAFETY: what the start code set.
    unsafe { asm!("msr cpacr_el1, xzr", "isb", options(nomem, nostack)) };
}

fn rounds(index: usize) -> Result<(), usize> {
    const FPEN: u64 = 3 << 20;
    // SAFETY: lets this processor use the vector registers.
    unsafe { asm!("msr cpacr_el1, {}", "isb", in(reg) FPEN, options(nomem, nostack)) };
    if index != 0 && gather_vectors() != 0 {
        return Err(NOT_FRESH);
    }
    interrupts::enable(VIRTUAL_TIMER_INTID, Trigger::Level, |_| timer::stop()).map_err(|_| NO_TIMER)?;
    for round in 0..ROUNDS {
        let seed = (index as u64 + 1) << 32 | round << 8;
        fill_vectors(seed);
        let value = |at: usize| u64::from(seed as u32) ^ (index * REGISTERS.len() + at) as u64;
        for (at, (_, write, _)) in REGISTERS.iter().enumerate() {
            write(value(at));
        }
        timer::set_deadline(timer::now() + WAIT);
        interrupts::wait();
        let _version = hvc::version();
        processor::yield_now();
        match compare_vectors(seed) {
            ALL_EQUAL => {}
            register => return Err(register as usize + 1),
        }
        for (at, (_, _, read)) in REGISTERS.iter().enumerate() {
            if read() != value(at) {
                return Err(SYSTEM_REGISTERS + at);
            }
        }
    }
    timer::stop();
    interrupts::disable(VIRTUAL_TIMER_INTID).map_err(|_| NO_TIMER)
}
