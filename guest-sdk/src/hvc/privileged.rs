//! The calls that only a privileged partition may make.

use core::arch::asm;

use handover_abi::{Account, Call, EndReason, Error, Name, PartitionId, PartitionState};

use super::hvc;
use crate::mapping;

fn id(partition: PartitionId) -> u64 {
    u64::from(partition.get())
}

/// [`Call::PartitionCreate`].
pub fn partition_create(name: Name, processors: u32) -> Result<PartitionId, Error> {
    let [low, high] = name.to_registers();
    let partition: u64;
    // SAFETY: changes no memory of the caller's.
    unsafe {
        hvc!(
            Call::PartitionCreate,
            inlateout("x1") low => partition,
            in("x2") high,
            in("x3") u64::from(processors)
        )
    }?;
    Ok(PartitionId::new(partition as u32))
}

/// [`Call::PartitionSetLimit`].
pub fn partition_set_limit(partition: PartitionId, account: Account, limit: u64) -> Result<(), Error> {
    // SAFETY: changes no memory of the caller's.
    unsafe {
        hvc!(
            Call::PartitionSetLimit,
            inlateout("x1") id(partition) => _,
            in("x2") account as u64,
            in("x3") limit
        )
    }
}

/// [`Call::PartitionAddMemory`]: `size` bytes of zeroes at `address`, both multiples of 2 MiB.
pub fn partition_add_memory(partition: PartitionId, address: u64, size: u64) -> Result<(), Error> {
    // SAFETY: changes no memory of the caller's.
    unsafe {
        hvc!(
            Call::PartitionAddMemory,
            inlateout("x1") id(partition) => _,
            in("x2") address,
            in("x3") size
        )
    }
}

/// [`Call::PartitionWrite`]: copies `data` to `address` in a partition that has not started.
pub fn partition_write(partition: PartitionId, address: u64, data: &[u8]) -> Result<(), Error> {
    // SAFETY: reads `data`, at the address that the start code has mapped it from.
    unsafe {
        hvc!(
            Call::PartitionWrite,
            inlateout("x1") id(partition) => _,
            in("x2") address,
            in("x3") mapping::ipa(data.as_ptr().addr()),
            in("x4") data.len()
        )
    }
}

/// [`Call::PartitionStart`]: starts processor 0 at `entry` with `x0` in its `x0`.
pub fn partition_start(partition: PartitionId, entry: u64, x0: u64) -> Result<(), Error> {
    // SAFETY: changes no memory of the caller's.
    unsafe { hvc!(Call::PartitionStart, inlateout("x1") id(partition) => _, in("x2") entry, in("x3") x0) }
}

/// [`Call::PartitionStop`].
pub fn partition_stop(partition: PartitionId) -> Result<(), Error> {
    // SAFETY: changes no memory of the caller's that is mapped.
    unsafe { hvc!(Call::PartitionStop, inlateout("x1") id(partition) => _) }
}

/// [`Call::PartitionPause`]: when it returns, nothing of the partition runs.
pub fn partition_pause(partition: PartitionId) -> Result<(), Error> {
    // SAFETY: changes no memory of the caller's.
    unsafe { hvc!(Call::PartitionPause, inlateout("x1") id(partition) => _) }
}

/// [`Call::PartitionResume`].
pub fn partition_resume(partition: PartitionId) -> Result<(), Error> {
    // SAFETY: changes no memory of the caller's.
    unsafe { hvc!(Call::PartitionResume, inlateout("x1") id(partition) => _) }
}

/// [`Call::PartitionDestroy`].
pub fn partition_destroy(partition: PartitionId) -> Result<(), Error> {
    // SAFETY: changes no memory of the caller's that is mapped.
    unsafe { hvc!(Call::PartitionDestroy, inlateout("x1") id(partition) => _) }
}

/// What [`partition_status`] returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionStatus {
    /// Where in its life.
    pub state: PartitionState,
    /// Why it ended, if it did.
    pub reason: EndReason,
    /// Its exit status, if it exited.
    pub exit_status: u64,
}

/// [`Call::PartitionStatus`].
pub fn partition_status(partition: PartitionId) -> Result<PartitionStatus, Error> {
    let (state, reason, exit_status): (u64, u64, u64);
    // SAFETY: changes no memory of the caller's.
    unsafe {
        hvc!(
            Call::PartitionStatus,
            inlateout("x1") id(partition) => state,
            lateout("x2") reason,
            lateout("x3") exit_status
        )
    }?;
    Ok(PartitionStatus { state: state.try_into()?, reason: reason.try_into()?, exit_status })
}

/// [`Call::MachineOff`]: ends the machine with `status`. Returns only with an error.
pub fn machine_off(status: u64) -> Error {
    // SAFETY: does not return unless it is refused, and then has done nothing.
    match unsafe { hvc!(Call::MachineOff, inlateout("x1") status => _) } {
        Ok(()) => Error::NotSupported,
        Err(error) => error,
    }
}

/// What [`machine_info`] returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MachineInfo {
    /// Physical processors.
    pub processors: u32,
    /// Free memory, bytes.
    pub free_memory: u64,
}

/// [`Call::MachineInfo`].
pub fn machine_info() -> Result<MachineInfo, Error> {
    let (processors, free_memory): (u64, u64);
    // SAFETY: changes no memory.
    unsafe { hvc!(Call::MachineInfo, lateout("x1") processors, lateout("x2") free_memory) }?;
    Ok(MachineInfo { processors: processors as u32, free_memory })
}
