//! What logical processors may claim of the physical ones, as system-control sets and reads it.

use handover_abi::{Error, ProcessorClaim, ProcessorStatus};
use handover_core::schedule::{Claim, Records, Reservation, Schedule};
use handover_core::{Failure, PartitionIndex};

use crate::arch::registers::CNTPCT_EL0;
use crate::bus::Restraint;
use crate::drivers::gic;
use crate::kernel::{Hardware, Kernel};
use crate::processor;
use crate::vcpu::VcpuKey;

/// The physical processor that nobody owns alone.
const KEEPER: usize = 0;

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
    let before = records.get(key).reservation();
    let old = before.bandwidth();
    let pokes = system.promise_time(partition, old, reservation.bandwidth(), || {
        schedule.set(records, key, reservation, CNTPCT_EL0.get())
    })?;
    hardware.poke_all(pokes);
    if alone || before.claim == Claim::Alone {
        hardware.owners_changed(partition);
    }
    Ok(())
}

impl Hardware {
    /// A partition's logical processor owns a physical one alone from now on, or does no more: there WFI does not trap, and nothing is due that is not its own.
    fn owners_changed(&mut self, partition: PartitionIndex) {
        let Some(shell) = self.shell(partition) else { return };
        let keys = shell.vcpus.into_iter().flatten();
        let owns = keys.into_iter().any(|key| self.records.get(key).reservation().claim == Claim::Alone);
        self.set_restraint(partition, Restraint::OWNS, if owns { Restraint::OWNS } else { 0 });
        for keeper in [&mut self.requests.processor, &mut self.watchdogs.processor] {
            if self.schedule.is_owned(*keeper) {
                *keeper = KEEPER;
            }
        }
        self.program_keeper(KEEPER);
        self.limits_changed(partition);
    }

    /// The physical processor in whose timer a deadline of nobody who runs there comes: this one, unless it is owned alone.
    pub fn keeper(&self) -> usize {
        let here = processor::this().index();
        if self.schedule.is_owned(here) { KEEPER } else { here }
    }

    /// Has it set its timer to what is due first.
    pub fn program_keeper(&mut self, keeper: usize) {
        if keeper == processor::this().index() {
            self.program_timer(keeper);
        } else {
            // All that is due there is looked at again.
            self.fired |= 1 << keeper;
            gic::send(gic::SGI_ATTENTION, keeper);
        }
    }
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
