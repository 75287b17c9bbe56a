//! Waiting for descriptors to be ready.

use alloc::vec::Vec;

use handover_files::{Errno, Fd, Readiness};
use handover_kernel::signal::SignalSet;

use super::{Outcome, Stop, file::with, time::deadline_after};
use crate::{
    kernel::Kernel,
    task::{Call, Key},
};

/// The most descriptors of one `poll`.
const POLL_MAX: u64 = 1024;

/// A descriptor that somebody waits for.
#[derive(Clone, Copy)]
struct Watched {
    fd: Fd,
    wanted: Readiness,
    ready: Readiness,
}

/// Looks at all of them; how many are ready. If none is, and it is not over, the keys to wait for.
fn look(kernel: &mut Kernel, watched: &mut [Watched]) -> Result<(u64, Vec<Key>), Stop> {
    let mut count = 0;
    let mut keys = Vec::new();
    with(kernel, |caller| {
        for entry in watched.iter_mut() {
            entry.ready = caller.readiness(entry.fd).intersection(entry.wanted | Readiness::ALWAYS);
            count += u64::from(!entry.ready.is_empty());
            if let Ok(Some(key)) = caller.wait_key(entry.fd)
                && !keys.contains(&Key::File(key))
            {
                keys.push(Key::File(key));
            }
        }
        Ok(())
    })?;
    Ok((count, keys))
}

/// Puts another signal mask in place for the length of a wait.
pub(super) fn mask_for_wait(kernel: &mut Kernel, set: u64, size: u64) -> Result<(), Errno> {
    if set == 0 || kernel.call().is_some() {
        return Ok(());
    }
    if size != 8 {
        return Err(Errno::INVAL);
    }
    let [bits] = kernel.read_words(set)?;
    let thread = kernel.thread()?;
    thread.saved_mask = Some(thread.mask);
    thread.mask = SignalSet(bits).maskable();
    Ok(())
}

/// The old mask comes back when the wait is over.
pub(super) fn unmask(kernel: &mut Kernel) -> Result<(), Errno> {
    let thread = kernel.thread()?;
    if let Some(mask) = thread.saved_mask.take() {
        thread.mask = mask;
    }
    Ok(())
}

/// `ppoll`.
pub fn poll(kernel: &mut Kernel, [address, count, timeout, set, size]: [u64; 5]) -> Outcome {
    if count > POLL_MAX {
        return Err(Errno::INVAL.into());
    }
    let mut watched = Vec::new();
    for index in 0..count {
        let [word] = kernel.read_words(address.wrapping_add(8 * index))?;
        let wanted = Readiness::from_bits_retain((word >> 32) as u32 & 0xffff);
        watched.push(Watched { fd: word as Fd, wanted, ready: Readiness::empty() });
    }
    let deadline = kernel.deadline(|kernel| deadline_after(kernel, timeout))?;
    mask_for_wait(kernel, set, size)?;
    // A negative descriptor is passed over.
    let mut looked: Vec<Watched> = watched.iter().copied().filter(|entry| entry.fd >= 0).collect();
    let (ready, keys) = look(kernel, &mut looked)?;
    if ready == 0 && !kernel.is_over(deadline) {
        return Err(Stop::Wait(Call { deadline, keys, ..Call::default() }));
    }
    unmask(kernel)?;
    let mut results = looked.iter();
    for (index, entry) in watched.iter().enumerate() {
        let ready = if entry.fd < 0 {
            Readiness::empty()
        } else {
            results.next().map_or(Readiness::empty(), |entry| entry.ready)
        };
        kernel.write(address.wrapping_add(8 * index as u64 + 6), &(ready.bits() as u16).to_le_bytes())?;
    }
    Ok(ready)
}

/// `pselect6`.
pub fn select(kernel: &mut Kernel, [count, read, write, except, timeout, mask]: [u64; 6]) -> Outcome {
    if count as i32 > POLL_MAX as i32 || (count as i32) < 0 {
        return Err(Errno::INVAL.into());
    }
    let words = (count as usize).div_ceil(64);
    let kinds = [
        (read, Readiness::READ | Readiness::HANG_UP | Readiness::ERROR),
        (write, Readiness::WRITE | Readiness::ERROR),
        (except, Readiness::URGENT),
    ];
    let mut watched: Vec<(usize, Watched)> = Vec::new();
    for (kind, &(address, wanted)) in kinds.iter().enumerate() {
        for word in 0..if address == 0 { 0 } else { words } {
            let [bits] = kernel.read_words(address + 8 * word as u64)?;
            for bit in (0..64).filter(|bit| bits & 1 << bit != 0 && word * 64 + bit < count as usize) {
                let fd = (word * 64 + bit) as Fd;
                watched.push((kind, Watched { fd, wanted, ready: Readiness::empty() }));
            }
        }
    }
    let deadline = kernel.deadline(|kernel| deadline_after(kernel, timeout))?;
    if mask != 0 {
        let [set, size] = kernel.read_words(mask)?;
        mask_for_wait(kernel, set, size)?;
    }
    let mut looked: Vec<Watched> = watched.iter().map(|(_, entry)| *entry).collect();
    let (_, keys) = look(kernel, &mut looked)?;
    if looked.iter().any(|entry| entry.ready.contains(Readiness::INVALID)) {
        unmask(kernel)?;
        return Err(Errno::BADF.into());
    }
    let ready: Vec<bool> =
        looked.iter().map(|entry| !entry.ready.intersection(entry.wanted).is_empty()).collect();
    let total = ready.iter().filter(|ready| **ready).count() as u64;
    if total == 0 && !kernel.is_over(deadline) {
        return Err(Stop::Wait(Call { deadline, keys, ..Call::default() }));
    }
    unmask(kernel)?;
    for (kind, &(address, _)) in kinds.iter().enumerate().filter(|(_, (address, _))| *address != 0) {
        let mut bits = alloc::vec![0; words];
        for ((of, entry), _) in watched.iter().zip(&ready).filter(|((of, _), ready)| *of == kind && **ready) {
            debug_assert_eq!(*of, kind);
            bits[entry.fd as usize / 64] |= 1 << (entry.fd % 64);
        }
        kernel.write_words(address, &bits)?;
    }
    Ok(total)
}
