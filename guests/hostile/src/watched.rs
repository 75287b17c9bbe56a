//! System registers that are written once in a long while stay what they are, on each logical processor its own: the control OS need not save them each
//! time, and must not miss a write.

use core::{
    arch::asm,
    sync::atomic::{AtomicUsize, Ordering},
};

use handover_guest::{
    Boot,
    abi::layout::VIRTUAL_TIMER_INTID,
    interrupts::{self, Trigger},
    processor, timer,
};

use crate::{
    failure::{Failure, ensure, fail},
    processors,
};

/// Waits between two writes: so many that nothing is expected to be written any more.
const SETTLED: usize = 40;
/// Waits after a write, before that is looked at.
const SOON: usize = 2;
/// Ticks of each wait.
const WAIT: u64 = 5000;

/// A register, what of it may hold anything while this program runs with interrupts masked and no exception in sight, and functions that write and read it.
type Register = (&'static str, u64, fn(u64), fn() -> u64);

macro_rules! registers {
    ($($name:literal $free:literal),* $(,)?) => {
        [$((
            $name,
            $free,
            // SAFETY: `rounds` changes only the bits that are free to change, on which nothing depends that runs meanwhile.
            (|value| unsafe { asm!(concat!("msr ", $name, ", {}"), "isb", in(reg) value, options(nostack)) }) as fn(u64),
            (|| {
                let value: u64;
                // SAFETY: reads a register.
                unsafe { asm!(concat!("mrs {}, ", $name), out(reg) value, options(nomem, nostack)) };
                value
            }) as fn() -> u64,
        ),)*]
    };
}

/// The first of the keys of pointer authentication, which a processor may not have.
const KEYS: usize = 21;

static REGISTERS: [Register; KEYS + 10] = registers!(
    // What programs may do: UCI, UCT, DZE; FPEN.
    "sctlr_el1" 0x0400_c000,
    "cpacr_el1" 0x0030_0000,
    // ASIDs.
    "ttbr0_el1" 0x00ff_0000_0000_0000,
    "ttbr1_el1" 0x00ff_0000_0000_0000,
    // TBI0, TBI1.
    "tcr_el1" 0x60_0000_0000,
    // Attributes that no descriptor names.
    "mair_el1" 0xffff_ffff_ffff_0000,
    "amair_el1" 0xffff_ffff_ffff_ffff,
    "vbar_el1" 0x7f_ffff_f800,
    "contextidr_el1" 0xffff_ffff,
    "tpidr_el1" 0xffff_ffff_ffff_ffff,
    "tpidr_el0" 0xffff_ffff_ffff_ffff,
    "tpidrro_el0" 0xffff_ffff_ffff_ffff,
    "csselr_el1" 0x2,
    // TDCC.
    "mdscr_el1" 0x1000,
    "cntkctl_el1" 0x303,
    "elr_el1" 0xffff_ffff_ffff_fffc,
    "spsr_el1" 0xf000_0000,
    "esr_el1" 0xffff_ffff,
    "far_el1" 0xffff_ffff_ffff_ffff,
    "par_el1" 0xffff_ffff_f000,
    "afsr0_el1" 0xffff_ffff,
    "s3_0_c2_c1_0" 0xffff_ffff_ffff_ffff,
    "s3_0_c2_c1_1" 0xffff_ffff_ffff_ffff,
    "s3_0_c2_c1_2" 0xffff_ffff_ffff_ffff,
    "s3_0_c2_c1_3" 0xffff_ffff_ffff_ffff,
    "s3_0_c2_c2_0" 0xffff_ffff_ffff_ffff,
    "s3_0_c2_c2_1" 0xffff_ffff_ffff_ffff,
    "s3_0_c2_c2_2" 0xffff_ffff_ffff_ffff,
    "s3_0_c2_c2_3" 0xffff_ffff_ffff_ffff,
    "s3_0_c2_c3_0" 0xffff_ffff_ffff_ffff,
    "s3_0_c2_c3_1" 0xffff_ffff_ffff_ffff,
);

/// By processor: what has changed, plus one; 0 if nothing has.
static CHANGED: [AtomicUsize; 8] = [const { AtomicUsize::new(0) }; 8];
/// The timer's interrupt could not be enabled.
const NO_TIMER: usize = usize::MAX;

pub(crate) fn kept(boot: &Boot) -> Result<(), Failure> {
    ensure!(boot.processors() >= 2, "the case needs two processors");
    for index in 1..boot.processors() {
        processor::start(index, exercise, index)?;
    }
    exercise(0);
    for index in 1..boot.processors() {
        processors::wait_until_off(index)?;
    }
    for (index, changed) in CHANGED.iter().enumerate() {
        match changed.swap(0, Ordering::Relaxed) {
            0 => {}
            NO_TIMER => fail!("processor {index}: the timer's interrupt cannot be enabled"),
            number => fail!("processor {index}: {} changed", REGISTERS[number - 1].0),
        }
    }
    Ok(())
}

fn exercise(index: usize) {
    let changed = match interrupts::enable(VIRTUAL_TIMER_INTID, Trigger::Level, |_| timer::stop()) {
        Ok(()) => rounds(index).map_or(0, |number| number + 1),
        Err(_) => NO_TIMER,
    };
    timer::stop();
    let disabled = interrupts::disable(VIRTUAL_TIMER_INTID);
    CHANGED[index].store(if disabled.is_err() { NO_TIMER } else { changed }, Ordering::Relaxed);
}

/// ID_AA64ISAR1_EL1 and ID_AA64ISAR2_EL1: whether there is pointer authentication.
fn has_keys() -> bool {
    let (first, second): (u64, u64);
    // SAFETY: reads registers.
    unsafe {
        asm!("mrs {}, s3_0_c0_c6_1", "mrs {}, s3_0_c0_c6_2", out(reg) first, out(reg) second, options(nomem, nostack))
    };
    first & 0xff00_0ff0 != 0 || second & 0xff00 != 0
}

/// Nobody else's value, whether by register, processor, partition or time.
fn value(salt: u64) -> u64 {
    (timer::now() ^ salt)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .rotate_left(29)
        .wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

fn wait(times: usize) {
    for _ in 0..times {
        timer::set_deadline(timer::now() + WAIT);
        interrupts::wait();
    }
}

/// Returns the register that has changed by itself, if one has.
fn rounds(index: usize) -> Option<usize> {
    let registers = if has_keys() { &REGISTERS[..] } else { &REGISTERS[..KEYS] };
    let _masked = interrupts::Masked::new();
    let mut before = [0; REGISTERS.len()];
    // What they hold of what is free: some have less than the architecture lets them have.
    let mut held = [0; REGISTERS.len()];
    let mut expected = [0; REGISTERS.len()];
    for (at, (_, free, write, read)) in registers.iter().enumerate() {
        before[at] = read();
        write(before[at] | free);
        held[at] = read() & free;
        write(before[at] & !free);
        held[at] &= !read();
        write(before[at]);
        expected[at] = before[at] & held[at];
    }
    let changed = |expected: &[u64]| {
        let mut all = registers.iter().enumerate();
        all.position(|(at, (.., read))| read() & held[at] != expected[at])
    };
    let mut found = None;
    for (at, (_, _, write, read)) in registers.iter().enumerate() {
        wait(SETTLED);
        found = changed(&expected);
        if found.is_some() {
            break;
        }
        expected[at] = value((index << 8 | at) as u64) & held[at];
        write(read() & !held[at] | expected[at]);
        wait(SOON);
        found = changed(&expected);
        if found.is_some() {
            break;
        }
    }
    for (at, (_, _, write, _)) in registers.iter().enumerate() {
        write(before[at]);
    }
    found
}
