//! `epoll` and `eventfd`.

use handover_files::{EpollEvent, Fd};
use handover_kernel::clock::Nanoseconds;
use linux_raw_sys::general as linux;

use super::{
    Outcome, Stop,
    file::with,
    poll::{mask_for_wait, unmask},
};
use crate::{
    kernel::Kernel,
    task::{Call, Key},
};

/// Nanoseconds in a millisecond.
const MILLISECOND: Nanoseconds = 1_000_000;

/// `epoll_create1`.
pub fn create(kernel: &mut Kernel, flags: u64) -> Outcome {
    Ok(with(kernel, |caller| caller.epoll_create1(flags as u32))? as u64)
}

/// `epoll_ctl`.
pub fn control(kernel: &mut Kernel, list: u64, operation: u64, fd: u64, event: u64) -> Outcome {
    let mut bytes = [0; EpollEvent::SIZE];
    if operation as u32 != linux::EPOLL_CTL_DEL {
        kernel.read(event, &mut bytes)?;
    }
    let event = EpollEvent::from_bytes(&bytes);
    with(kernel, |caller| caller.epoll_ctl(list as Fd, operation as u32, fd as Fd, event))?;
    Ok(0)
}

/// `epoll_pwait`.
pub fn wait(kernel: &mut Kernel, [list, events, most, timeout, set, size]: [u64; 6]) -> Outcome {
    let list = list as Fd;
    let deadline = kernel.deadline(|kernel| {
        let timeout = u64::try_from(timeout as i32).ok();
        Ok(timeout.map(|timeout| kernel.now().saturating_add(timeout * MILLISECOND)))
    })?;
    mask_for_wait(kernel, set, size)?;
    let ready = with(kernel, |caller| caller.epoll_wait(list, most as i32))?;
    if ready.is_empty() && !kernel.is_over(deadline) {
        let key = with(kernel, |caller| caller.wait_key(list))?;
        let keys = key.map(Key::File).into_iter().collect();
        return Err(Stop::Wait(Call { deadline, keys, ..Call::default() }));
    }
    unmask(kernel)?;
    for (index, event) in ready.iter().enumerate() {
        kernel.write(events.wrapping_add((index * EpollEvent::SIZE) as u64), &event.to_bytes())?;
    }
    Ok(ready.len() as u64)
}

/// `eventfd2`.
pub fn event_counter(kernel: &mut Kernel, value: u64, flags: u64) -> Outcome {
    Ok(with(kernel, |caller| caller.eventfd2(value as u32, flags as u32))? as u64)
}
