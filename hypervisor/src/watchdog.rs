//! Watchdogs: one timer for all of them, on the processor that set it. Each is in its partition's own count, so that a pause does not use it up,
//! and a kick only moves it: the timer that fires too early looks at all and sets itself again.

use handover_abi::{EndReason, Error};
use handover_core::{Failure, PARTITIONS_MAX, PartitionIndex, Phase};

use crate::arch::registers::{CNTFRQ_EL0, CNTPCT_EL0};
use crate::kernel::{Hardware, Kernel};
use crate::partition::{Halt, Watchdog};
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

/// When the first of all watchdogs is to be looked at.
pub struct Watchdogs {
    /// As a physical count; `u64::MAX` if there is none.
    pub deadline: u64,
    /// Whose timer it is in.
    pub processor: usize,
}

/// Ends whose time is up, if this processor's timer is the one that tells: one each time, what is left makes the timer fire again at once.
pub fn bite(kernel: &mut Kernel) {
    let now = CNTPCT_EL0.get();
    let watchdogs = &kernel.hardware.watchdogs;
    if watchdogs.deadline > now || watchdogs.processor != processor::this().index() {
        return;
    }
    let due = |hardware: &Hardware| {
        let all = (0..PARTITIONS_MAX).filter_map(PartitionIndex::new);
        all.map(|partition| (hardware.watchdog_deadline(partition), partition)).min_by_key(|(at, _)| *at)
    };
    if let Some((at, partition)) = due(&kernel.hardware)
        && at <= now
    {
        trap::end(kernel, partition, EndReason::Watchdog, 0);
    }
    let hardware = &mut kernel.hardware;
    hardware.watchdogs.deadline = due(hardware).map_or(u64::MAX, |(at, _)| at);
    hardware.program_timer(processor::this().index());
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

    /// When a partition's watchdog bites, as a physical count; `u64::MAX` if it has none, or does not run.
    fn watchdog_deadline(&self, partition: PartitionIndex) -> u64 {
        match self.shell(partition) {
            Some(shell) if shell.halt == Halt::No && shell.watchdog.nanoseconds != 0 => {
                shell.watchdog.due.saturating_add(shell.counter_offset)
            }
            _ => u64::MAX,
        }
    }

    /// A partition's watchdog runs from now on. An earlier one than all others comes into this processor's timer, if nobody owns it alone.
    pub fn arm_watchdog(&mut self, partition: PartitionIndex) {
        let deadline = self.watchdog_deadline(partition);
        if deadline < self.watchdogs.deadline {
            let keeper = self.keeper();
            (self.watchdogs.deadline, self.watchdogs.processor) = (deadline, keeper);
            self.program_keeper(keeper);
        }
    }
}
