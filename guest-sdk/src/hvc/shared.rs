//! The hypercalls of shared memory.

use core::arch::asm;

use handover_abi::{Call, Error, Port, SharedAccess};

use super::hvc;

/// [`Call::SharedMap`]: maps the shared memory of `port` at `address`.
pub fn shared_map(port: Port, address: u64) -> Result<(), Error> {
    // SAFETY: maps memory that nothing was mapped at before.
    unsafe { hvc!(Call::SharedMap, inlateout("x1") u64::from(port.get()) => _, in("x2") address) }
}

/// [`Call::SharedUnmap`].
///
/// # Safety
///
/// No reference may point into the memory.
pub unsafe fn shared_unmap(port: Port) -> Result<(), Error> {
    // SAFETY: the caller's promise.
    unsafe { hvc!(Call::SharedUnmap, inlateout("x1") u64::from(port.get()) => _) }
}

/// [`Call::SharedInfo`]: size in bytes, address or 0, who may write.
pub fn shared_info(port: Port) -> Result<(u64, u64, SharedAccess), Error> {
    let (size, address, access): (u64, u64, u64);
    // SAFETY: changes no memory.
    unsafe {
        hvc!(
            Call::SharedInfo,
            inlateout("x1") u64::from(port.get()) => size,
            lateout("x2") address,
            lateout("x3") access
        )
    }?;
    Ok((size, address, SharedAccess::from_bits_retain(access)))
}
