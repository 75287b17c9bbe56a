//! Futexes.

use handover_kernel::{Errno, clock::Nanoseconds, futex::Word};
use linux_raw_sys::general as linux;

use super::{
    Outcome, Stop,
    time::{deadline_after, read_time},
};
use crate::{kernel::Kernel, task::Call};

/// `futex`.
pub fn futex(
    kernel: &mut Kernel,
    [address, operation, value, timeout, address_2, value_3]: [u64; 6],
) -> Outcome {
    let operation = operation as u32;
    let private = operation & linux::FUTEX_PRIVATE_FLAG != 0;
    let real_time = operation & linux::FUTEX_CLOCK_REALTIME != 0;
    let command = operation & !(linux::FUTEX_PRIVATE_FLAG | linux::FUTEX_CLOCK_REALTIME);
    if !address.is_multiple_of(4) {
        return Err(Errno::INVAL.into());
    }
    let word = word(kernel, address, private)?;
    let (value, most) = (value as u32, (value as u32 as usize).min(i32::MAX as usize));
    match command {
        linux::FUTEX_WAIT => {
            let deadline = kernel.deadline(|kernel| deadline_after(kernel, timeout))?;
            wait(kernel, address, word, value, u32::MAX, deadline)
        }
        linux::FUTEX_WAIT_BITSET => {
            let deadline = kernel.deadline(|kernel| {
                if timeout == 0 {
                    return Ok(None);
                }
                let time = read_time(kernel, timeout)?;
                Ok(Some(if real_time { time.saturating_sub(kernel.epoch) } else { time }))
            })?;
            wait(kernel, address, word, value, value_3 as u32, deadline)
        }
        linux::FUTEX_WAKE => Ok(wake(kernel, word, most, u32::MAX)),
        linux::FUTEX_WAKE_BITSET if value_3 as u32 != 0 => Ok(wake(kernel, word, most, value_3 as u32)),
        linux::FUTEX_REQUEUE | linux::FUTEX_CMP_REQUEUE => {
            if command == linux::FUTEX_CMP_REQUEUE && load(kernel, address)? != value_3 as u32 {
                return Err(Errno::AGAIN.into());
            }
            let to = self::word(kernel, address_2, private)?;
            let woken = wake(kernel, word, most, u32::MAX);
            let moved = kernel.futexes.requeue(word, to, timeout as u32 as usize);
            for &tid in &moved {
                if let Some(call) = kernel.tasks.threads.get_mut(&tid).and_then(|thread| thread.call.as_mut())
                {
                    call.futex = Some(to);
                }
            }
            Ok(woken + moved.len() as u64)
        }
        linux::FUTEX_WAKE_BITSET => Err(Errno::INVAL.into()),
        _ => Err(Errno::NOSYS.into()),
    }
}

fn load(kernel: &mut Kernel, address: u64) -> Result<u32, Errno> {
    let mut bytes = [0; 4];
    kernel.read(address, &mut bytes)?;
    Ok(u32::from_le_bytes(bytes))
}

fn word(kernel: &mut Kernel, address: u64, private: bool) -> Result<Word, Errno> {
    let space = kernel.space()?;
    let mut space = space.borrow_mut();
    if !private && let (physical, true) = space.physical(&mut kernel.frames, address)? {
        return Ok(Word::Shared(physical));
    }
    Ok(Word::Private { space: space.id, address })
}

fn wait(
    kernel: &mut Kernel,
    address: u64,
    word: Word,
    value: u32,
    bits: u32,
    deadline: Option<Nanoseconds>,
) -> Outcome {
    if bits == 0 {
        return Err(Errno::INVAL.into());
    }
    let queued = match kernel.call() {
        Some(call) if call.woken => return Ok(0),
        Some(call) => call.futex,
        None => None,
    };
    if queued.is_none() && load(kernel, address)? != value {
        return Err(Errno::AGAIN.into());
    }
    if kernel.is_over(deadline) {
        return Err(Errno::TIMEDOUT.into());
    }
    if queued.is_none() {
        kernel.futexes.wait(word, kernel.current, bits);
    }
    // It may wait for another word by now.
    let futex = queued.or(Some(word));
    Err(Stop::Wait(Call { deadline, futex, restarts: deadline.is_none(), ..Call::default() }))
}

/// Wakes threads; how many.
pub fn wake(kernel: &mut Kernel, word: Word, most: usize, bits: u32) -> u64 {
    let woken = kernel.futexes.wake(word, most, bits);
    for &tid in &woken {
        if let Some(call) = kernel.tasks.threads.get_mut(&tid).and_then(|thread| thread.call.as_mut()) {
            (call.woken, call.futex) = (true, None);
        }
        kernel.wake(tid);
    }
    woken.len() as u64
}

/// Wakes one thread that waits for a word of the caller's: for a thread that ends.
pub fn wake_at(kernel: &mut Kernel, address: u64) {
    for private in [true, false] {
        if let Ok(word) = word(kernel, address, private)
            && wake(kernel, word, 1, u32::MAX) > 0
        {
            return;
        }
    }
}
