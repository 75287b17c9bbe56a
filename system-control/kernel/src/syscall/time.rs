//! Clocks and sleeping.

use handover_kernel::{
    Errno,
    clock::{Nanoseconds, SECOND, join, split},
};
use linux_raw_sys::general as linux;

use super::{Outcome, Stop};
use crate::{kernel::Kernel, task::Call};

/// Reads a `timespec`.
pub fn read_time(kernel: &mut Kernel, address: u64) -> Result<Nanoseconds, Errno> {
    let words: [u64; 2] = kernel.read_words(address)?;
    join(words.map(|word| word as i64))
}

/// Writes a `timespec`.
pub fn write_time(kernel: &mut Kernel, address: u64, time: Nanoseconds) -> Result<(), Errno> {
    kernel.write_words(address, &split(time).map(|part| part as u64))
}

/// When a timeout ends that is given as a length of time at `address`; `None` for 0: never.
pub fn deadline_after(kernel: &mut Kernel, address: u64) -> Result<Option<Nanoseconds>, Errno> {
    if address == 0 {
        return Ok(None);
    }
    let length = read_time(kernel, address)?;
    Ok(Some(kernel.now().saturating_add(length)))
}

fn clock(kernel: &mut Kernel, clock: u64) -> Result<Nanoseconds, Errno> {
    match clock as u32 {
        linux::CLOCK_REALTIME | linux::CLOCK_REALTIME_COARSE | linux::CLOCK_TAI => {
            Ok(kernel.epoch + kernel.now())
        }
        linux::CLOCK_MONOTONIC
        | linux::CLOCK_MONOTONIC_RAW
        | linux::CLOCK_MONOTONIC_COARSE
        | linux::CLOCK_BOOTTIME => Ok(kernel.now()),
        linux::CLOCK_PROCESS_CPUTIME_ID | linux::CLOCK_THREAD_CPUTIME_ID => Ok(kernel.used()),
        _ => Err(Errno::INVAL),
    }
}

/// `clock_gettime`.
pub fn read(kernel: &mut Kernel, which: u64, address: u64) -> Outcome {
    let time = clock(kernel, which)?;
    write_time(kernel, address, time)?;
    Ok(0)
}

/// `clock_getres`.
pub fn resolution(kernel: &mut Kernel, which: u64, address: u64) -> Outcome {
    clock(kernel, which)?;
    if address != 0 {
        write_time(kernel, address, 1)?;
    }
    Ok(0)
}

/// `clock_settime`: the real-time clock starts at 1970, until somebody knows better.
pub fn set(kernel: &mut Kernel, which: u64, address: u64) -> Outcome {
    if which as u32 != linux::CLOCK_REALTIME {
        return Err(Errno::INVAL.into());
    }
    let time = read_time(kernel, address)?;
    kernel.epoch = time.checked_sub(kernel.now()).ok_or(Errno::INVAL)?;
    Ok(0)
}

/// `gettimeofday`.
pub fn of_day(kernel: &mut Kernel, address: u64) -> Outcome {
    let time = kernel.epoch + kernel.now();
    if address != 0 {
        kernel.write_words(address, &[time / SECOND, time % SECOND / 1000])?;
    }
    Ok(0)
}

/// `nanosleep`.
pub fn sleep(kernel: &mut Kernel, request: u64, remaining: u64) -> Outcome {
    sleep_on(kernel, u64::from(linux::CLOCK_MONOTONIC), 0, request, remaining)
}

/// `clock_nanosleep`. What remains is written when a signal ends it, which is why it is written each time before it waits.
pub fn sleep_on(kernel: &mut Kernel, which: u64, flags: u64, request: u64, remaining: u64) -> Outcome {
    let absolute = flags as u32 & linux::TIMER_ABSTIME != 0;
    let offset = match which as u32 {
        linux::CLOCK_REALTIME | linux::CLOCK_TAI => kernel.epoch,
        linux::CLOCK_MONOTONIC | linux::CLOCK_BOOTTIME => 0,
        _ => return Err(Errno::INVAL.into()),
    };
    let deadline = kernel.deadline(|kernel| {
        let time = read_time(kernel, request)?;
        Ok(Some(if absolute { time.saturating_sub(offset) } else { kernel.now().saturating_add(time) }))
    })?;
    if kernel.is_over(deadline) {
        return Ok(0);
    }
    if !absolute && remaining != 0 && kernel.call().is_none() {
        let length = read_time(kernel, request)?;
        write_time(kernel, remaining, length)?;
    }
    Err(Stop::Wait(Call { deadline, ..Call::default() }))
}
