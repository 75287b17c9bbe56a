//! Watchdogs: a deadline of a partition's among those of its first processor's home. It is in the partition's own count, so that a pause
//! does not use it up, and a kick only moves it: the timer that fires too early sets itself again.

use handover_abi::{EndReason, Error};
use handover_core::{Failure, PARTITIONS_MAX, PartitionIndex, Phase};

use crate::arch::registers::{CNTFRQ_EL0, CNTPCT_EL0};
use crate::drivers::gic;
use crate::kernel::{Hardware, Kernel};
use crate::partition::{Halt, VcpuId, WATCHDOG, Watchdog};
use crate::{processor, trap};

const NANOSECONDS: u128 = 1_000_000_000;

/// `PartitionSetWatchdog`. [`Error::WrongState`]: it has ended.
pub fn set(kernel: &mut Kernel, partition: PartitionIndex, nanoseconds: u64) -> Result<(), Failure> {
    let phase = kernel.system.partition(partition).map(|partition| partition.phase());
    let Some(Phase::Created | Phase::Active) = phase else { return Err(Error::WrongState.into()) };
    let ticks = (u128::from(nanoseconds) * u128::from(CNTFRQ_EL0.get())).div_ceil(NANOSECONDS);
    if let Some(shell) = kernel.hardware.shell_mut(partition) {
        let ticks = u64::try_from(ticks).unwrap_or(u64::MAX);
        shell.watchdog = Watchdog { nanoseconds, ticks, due: u64::MAX };
    }
    if phase == Some(Phase::Active) {
        kernel.hardware.kick_watchdog(partition);
        kernel.hardware.arm_watchdog(partition);
    }
    Ok(())
}

/// Ends whose time is up.
pub fn bite(kernel: &mut Kernel) {
    while kernel.hardware.schedule.expired != 0 {
        let index = kernel.hardware.schedule.expired.trailing_zeros() as usize;
        kernel.hardware.schedule.expired &= kernel.hardware.schedule.expired - 1;
        if let Some(partition) = PartitionIndex::new(index.min(PARTITIONS_MAX - 1)) {
            trap::end(kernel, partition, EndReason::Watchdog, 0);
        }
    }
}

impl Hardware {
    /// Puts a partition's watchdog off. → its timeout in nanoseconds, 0 if there is none.
    pub fn kick_watchdog(&mut self, partition: PartitionIndex) -> u64 {
        let Some(shell) = self.shell_mut(partition) else { return 0 };
        let now = match shell.halted_at {
            u64::MAX => CNTPCT_EL0.get(),
            halted_at => halted_at,
        };
        shell.watchdog.due = now.saturating_sub(shell.counter_offset).saturating_add(shell.watchdog.ticks);
        shell.watchdog.nanoseconds
    }

    /// Sets the deadline of a partition's watchdog, if it has one and runs.
    pub fn arm_watchdog(&mut self, partition: PartitionIndex) {
        let Some(shell) = self.shell(partition) else { return };
        let home = usize::from(shell.slots[usize::from(WATCHDOG)].home);
        let deadline = match shell.halt {
            Halt::No if shell.watchdog.nanoseconds != 0 => {
                shell.watchdog.due.saturating_add(shell.counter_offset)
            }
            _ => u64::MAX,
        };
        self.set_deadline(VcpuId { partition, index: WATCHDOG }, deadline);
        if home != processor::this().index() {
            // It sets its own timer.
            gic::send(gic::SGI_ATTENTION, home);
        }
    }

    /// A watchdog's deadline has passed: it bites, unless it was kicked meanwhile.
    pub fn watchdog_due(&mut self, partition: PartitionIndex) {
        let Some(shell) = self.shell(partition) else { return };
        if shell.watchdog.due.saturating_add(shell.counter_offset) > CNTPCT_EL0.get() {
            self.arm_watchdog(partition);
        } else {
            self.schedule.expired |= 1 << partition.get();
        }
    }
}
