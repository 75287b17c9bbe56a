//! Measures what system-control's kernel costs a program, for `cargo xtask bench`: there the counter counts instructions, and a
//! guest of the name `sender` is in the boot archive.

mod messages;

use std::{arch::asm, error::Error};

use handover_mark as mark;

/// Samples that count, after as many that do not.
const SAMPLES: usize = 100;

/// The counter before and after a system call without arguments, or without one.
fn ticks(number: Option<u64>) -> u64 {
    let (start, end): (u64, u64);
    // SAFETY: reads the counter; the system call, `getpid`, changes nothing but `x0`.
    unsafe {
        match number {
            Some(number) => {
                mark::begin();
                asm!(
                    "isb", "mrs {start}, cntvct_el0", "svc #0", "isb", "mrs {end}, cntvct_el0",
                    start = out(reg) start, end = out(reg) end, in("x8") number, lateout("x0") _,
                );
                mark::end();
            }
            None => asm!(
                "isb", "mrs {start}, cntvct_el0", "isb", "mrs {end}, cntvct_el0",
                start = out(reg) start, end = out(reg) end,
            ),
        }
    }
    end - start
}

fn median(number: Option<u64>) -> u64 {
    let mut samples: Vec<u64> = (0..2 * SAMPLES).map(|_| ticks(number)).skip(SAMPLES).collect();
    samples.sort_unstable();
    samples[SAMPLES / 2]
}

fn now() -> u64 {
    let now: u64;
    // SAFETY: reads the counter.
    unsafe { asm!("isb", "mrs {}, cntvct_el0", out(reg) now) };
    now
}

/// Prints a figure.
fn print(name: &str, instructions: u64) {
    mark::told();
    println!("bench: {name} {instructions}");
}

fn main() -> Result<(), Box<dyn Error>> {
    let now = now();
    print("sc_start", now);
    const GETPID: u64 = 172;
    print("sc_syscall", median(Some(GETPID)) - median(None));
    messages::run()
}
