//! Memory taken and given back while the guest runs, in granules of 2 MiB, within the partition's limit.

use handover_abi::{
    Error,
    layout::{MEMORY_BASE, MEMORY_CALL_MAX, MEMORY_END},
};

use crate::hvc;

/// Takes `size` bytes of zeroes at `address`, both multiples of 2 MiB; all of it or nothing. The start code's translation tables
/// map every address where memory can be.
///
/// [`Error::InUse`]: some memory is there. [`Error::Limit`]: more than the partition may have. [`Error::NoMemory`]: more than the machine
/// has left.
///
/// ```ignore
/// memory::add(MEMORY_BASE + (1 << 30), 64 << 20)?;
/// ```
pub fn add(address: u64, size: u64) -> Result<(), Error> {
    let mut added = 0;
    while added < size {
        let step = (size - added).min(MEMORY_CALL_MAX);
        if let Err(error) = hvc::memory_add(address + added, step) {
            // SAFETY: it has just come, and nobody knows of it. Only another processor of this partition can be in the way, and then
            // that memory is gone already.
            let _gone = unsafe { remove(address, added) };
            return Err(error);
        }
        added += step;
    }
    Ok(())
}

/// Gives back `size` bytes at `address`, both multiples of 2 MiB. The machine gets them zeroed.
///
/// [`Error::BadAddress`]: not all of it is memory; what comes before in steps of 32 MiB has gone.
///
/// # Safety
///
/// Nothing uses that memory: no reference, no stack, no code, no translation table, no heap.
pub unsafe fn remove(address: u64, size: u64) -> Result<(), Error> {
    let mut removed = 0;
    while removed < size {
        let step = (size - removed).min(MEMORY_CALL_MAX);
        // SAFETY: the caller's promise.
        unsafe { hvc::memory_remove(address + removed, step) }?;
        removed += step;
    }
    Ok(())
}

/// The first memory from `address` on: where it starts, and its bytes.
#[must_use]
pub fn find(address: u64) -> Option<(u64, u64)> {
    let mut at = address.max(MEMORY_BASE);
    let mut start = None;
    while at < MEMORY_END {
        let Ok((there, end)) = hvc::memory_info(at) else { break };
        match (there, start) {
            (true, None) => start = Some(at),
            (false, Some(start)) => return Some((start, at - start)),
            _ => {}
        }
        at = end;
    }
    start.map(|start| (start, MEMORY_END - start))
}
