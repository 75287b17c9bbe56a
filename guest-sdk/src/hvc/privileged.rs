//! The calls that only a privileged partition may make.

use core::arch::asm;

use handover_abi::{
    Account, BusLimit, BusStatus, Call, EndReason, Error, Name, PartitionId, PartitionState, ProcessorClaim,
    ProcessorStatus, TrafficLimit, Unsupported,
    device::{Compatible, DeviceState, INTERRUPTS_MAX, NodeName, Text},
};

use super::{Failure, hvc};
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

/// [`Call::PartitionSetColours`]: sets of cache colours, bit by bit: its own (0: any), and those of the channels that it accepts (0: none
/// declared).
pub fn partition_set_colours(partition: PartitionId, own: u64, channels: u64) -> Result<(), Error> {
    // SAFETY: changes no memory of the caller's.
    unsafe {
        hvc!(
            Call::PartitionSetColours,
            inlateout("x1") id(partition) => _,
            in("x2") own,
            in("x3") channels
        )
    }
}

/// [`Call::PartitionSetBus`]: how often it may hand regions over, or broadcast TLB maintenance, from now on.
pub fn partition_set_bus(partition: PartitionId, limit: BusLimit) -> Result<(), Error> {
    // SAFETY: changes no memory.
    unsafe {
        hvc!(
            Call::PartitionSetBus,
            inlateout("x1") id(partition) => _,
            in("x2") limit.operations,
            in("x3") limit.period
        )
    }
}

/// [`Call::PartitionSetTraffic`]: how much memory traffic it may cause from now on.
pub fn partition_set_traffic(partition: PartitionId, limit: TrafficLimit) -> Result<(), Failure> {
    let detail: u64;
    // SAFETY: changes no memory.
    unsafe {
        hvc!(
            Call::PartitionSetTraffic,
            inlateout("x1") id(partition) => detail,
            in("x2") limit.event,
            in("x3") limit.events,
            in("x4") limit.period
        )
    }
    .map_err(|error| Failure { error, detail })
}

/// [`Call::BusRead`].
pub fn bus_read(partition: PartitionId) -> Result<BusStatus, Error> {
    let [operations, operations_period, used, event, events, period, caused]: [u64; 7];
    // SAFETY: changes no memory.
    unsafe {
        hvc!(
            Call::BusRead,
            inlateout("x1") id(partition) => operations,
            lateout("x2") operations_period, lateout("x3") used, lateout("x4") event,
            lateout("x5") events, lateout("x6") period, lateout("x7") caused
        )
    }?;
    Ok(BusStatus {
        limit: BusLimit { operations, period: operations_period },
        used,
        traffic: TrafficLimit { event, events, period },
        caused,
    })
}

/// [`Call::CacheInfo`]: how many cache colours the machine's pages have.
pub fn cache_info() -> Result<u32, Error> {
    let colours: u64;
    // SAFETY: changes no memory.
    unsafe { hvc!(Call::CacheInfo, lateout("x1") colours) }?;
    Ok(colours as u32)
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

/// [`Call::PartitionShutdown`]: asks the partition to end by itself.
pub fn partition_shutdown(partition: PartitionId, argument: u64) -> Result<(), Error> {
    // SAFETY: changes no memory of the caller's.
    unsafe { hvc!(Call::PartitionShutdown, inlateout("x1") id(partition) => _, in("x2") argument) }
}

/// [`Call::PartitionReset`]: makes one that has ended empty and ready to be filled again, under the same id.
pub fn partition_reset(partition: PartitionId) -> Result<(), Error> {
    // SAFETY: changes no memory of the caller's.
    unsafe { hvc!(Call::PartitionReset, inlateout("x1") id(partition) => _) }
}

/// [`Call::PartitionSetWatchdog`]: nanoseconds of the partition's own count, 0 for none.
pub fn partition_set_watchdog(partition: PartitionId, nanoseconds: u64) -> Result<(), Error> {
    // SAFETY: changes no memory of the caller's.
    unsafe { hvc!(Call::PartitionSetWatchdog, inlateout("x1") id(partition) => _, in("x2") nanoseconds) }
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

/// What [`device_info`] returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// First address of its registers in the machine.
    pub base: u64,
    /// Bytes of its registers.
    pub size: u64,
    /// Its interrupts, and why it cannot be given to a partition.
    pub state: DeviceState,
    /// Who has it.
    pub holder: Option<PartitionId>,
    /// Where its registers are at the holder's.
    pub address: u64,
    /// INTID there of its first interrupt.
    pub intid: u32,
    /// INTIDs in the machine of its interrupts.
    pub intids: [u16; INTERRUPTS_MAX],
    /// Its device tree node's name.
    pub name: NodeName,
    /// What it is compatible with first of all.
    pub compatible: Compatible,
}

/// [`Call::DeviceInfo`]: device `number`; numbers start at 0 and have no gaps.
pub fn device_info(number: u64) -> Result<DeviceInfo, Error> {
    let mut registers = [0; 18];
    (registers[0], registers[1]) = (Call::DeviceInfo as u64, number);
    // SAFETY: changes no memory.
    let answer = unsafe { super::raw(registers) };
    super::result(answer[0])?;
    let [_, base, size, state, holder, address, low, high, n0, n1, n2, c0, c1, c2, c3, intid, ..] = answer;
    let mut intids = [0; INTERRUPTS_MAX];
    for (n, intid) in intids.iter_mut().enumerate() {
        *intid = ([low, high][n / 4] >> (16 * (n % 4))) as u16;
    }
    Ok(DeviceInfo {
        base,
        size,
        state: DeviceState::from_register(state),
        holder: (holder != 0).then(|| PartitionId::new(holder as u32)),
        address,
        intid: intid as u32,
        intids,
        name: Text([n0, n1, n2]),
        compatible: Text([c0, c1, c2, c3]),
    })
}

/// [`Call::DeviceAssign`]: gives device `number` to a partition, its registers at `address`, its interrupts from `intid` on.
pub fn device_assign(partition: PartitionId, number: u64, address: u64, intid: u32) -> Result<(), Failure> {
    let detail: u64;
    // SAFETY: maps registers that nothing was mapped at before.
    unsafe {
        hvc!(
            Call::DeviceAssign,
            inlateout("x1") id(partition) => detail,
            in("x2") number,
            in("x3") address,
            in("x4") u64::from(intid)
        )
    }
    .map_err(|error| Failure { error, detail })
}

/// [`Call::DeviceRevoke`].
///
/// # Safety
///
/// If the caller itself has the device, nothing of it may touch the registers any more.
pub unsafe fn device_revoke(number: u64) -> Result<(), Error> {
    // SAFETY: the caller's promise.
    unsafe { hvc!(Call::DeviceRevoke, inlateout("x1") number => _) }
}

impl Failure {
    /// Why the control OS cannot do it on this machine, if that is what it said.
    #[must_use]
    pub fn unsupported(self) -> Option<Unsupported> {
        (self.error == Error::NotSupported).then(|| Unsupported::try_from(self.detail).ok()).flatten()
    }
}

/// [`Call::ProcessorSet`]: what logical processor `index` of a partition may claim from now on.
pub fn processor_set(partition: PartitionId, index: u32, claim: ProcessorClaim) -> Result<(), Error> {
    let [budget, period, how] = claim.to_registers();
    // SAFETY: changes no memory.
    unsafe {
        hvc!(
            Call::ProcessorSet,
            inlateout("x1") id(partition) => _,
            in("x2") u64::from(index), in("x3") budget, in("x4") period, in("x5") how
        )
    }
}

/// [`Call::ProcessorRead`].
pub fn processor_read(partition: PartitionId, index: u32) -> Result<ProcessorStatus, Error> {
    let (budget, period, how, used, waited, physical): (u64, u64, u64, u64, u64, u64);
    // SAFETY: changes no memory.
    unsafe {
        hvc!(
            Call::ProcessorRead,
            inlateout("x1") id(partition) => budget,
            inlateout("x2") u64::from(index) => period,
            lateout("x3") how, lateout("x4") used, lateout("x5") waited, lateout("x6") physical
        )
    }?;
    // Bits of a later version's claims are none of this one's business.
    let claim = ProcessorClaim::from_registers([budget, period, how]).unwrap_or_default();
    Ok(ProcessorStatus { claim, used, waited, physical })
}
