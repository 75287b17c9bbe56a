//! What logical processors may claim of the physical ones, as system-control sets and reads it.

use handover_abi::{Error, ProcessorClaim, ProcessorStatus};
use handover_core::schedule::{Claim, Records, Reservation, Schedule};
use handover_core::{Failure, PartitionIndex};

use crate::arch::registers::CNTPCT_EL0;
use crate::kernel::{Hardware, Kernel};
use crate::vcpu::VcpuKey;

fn named(hardware: &Hardware, partition: PartitionIndex, index: u64) -> Result<VcpuKey, Failure> {
    let shell = hardware.shell(partition).ok_or(Error::BadHandle)?;
    let key = usize::try_from(index).ok().and_then(|index| *shell.vcpus.get(index)?);
    key.ok_or(Error::InvalidArgument.into())
}

/// `ProcessorSet`.
pub fn set(
    kernel: &mut Kernel,
    partition: PartitionIndex,
    index: u64,
    claim: ProcessorClaim,
) -> Result<(), Failure> {
    let Kernel { system, hardware } = kernel;
    let key = named(hardware, partition, index)?;
    let Hardware { schedule, records, .. } = hardware;
    let ProcessorClaim { budget, period, allowed, work_conserving, alone } = claim;
    let reservation = schedule.reservation(budget, period, work_conserving, alone, allowed)?;
    let old = records.get(key).reservation().bandwidth();
    let pokes = system.promise_time(partition, old, reservation.bandwidth(), || {
        schedule.set(records, key, reservation, CNTPCT_EL0.get())
    })?;
    hardware.poke_all(pokes);
    Ok(())
}

/// `ProcessorRead`.
pub fn read(hardware: &Hardware, partition: PartitionIndex, index: u64) -> Result<ProcessorStatus, Failure> {
    let key = named(hardware, partition, index)?;
    let Hardware { schedule, records, .. } = hardware;
    let record = records.get(key);
    let (used, waited) = record.times(CNTPCT_EL0.get());
    Ok(ProcessorStatus {
        claim: claim(schedule, record.reservation()),
        used: schedule.nanoseconds(used),
        waited: schedule.nanoseconds(waited),
        physical: record.home() as u64,
    })
}

fn claim(schedule: &Schedule<VcpuKey>, reservation: Reservation) -> ProcessorClaim {
    let claim = ProcessorClaim { allowed: schedule.allowed(reservation), ..ProcessorClaim::default() };
    match reservation.claim {
        Claim::BestEffort => claim,
        Claim::Alone => ProcessorClaim { alone: true, ..claim },
        Claim::Reserved { budget, period, work_conserving } => ProcessorClaim {
            budget: schedule.nanoseconds(budget),
            period: schedule.nanoseconds(period),
            work_conserving,
            ..claim
        },
    }
}
