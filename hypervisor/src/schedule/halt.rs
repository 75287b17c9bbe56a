//! Partitions whose logical processors stop: for good, or to be resumed.

use handover_core::PartitionIndex;
use handover_core::schedule::State;

use crate::arch::registers::CNTPCT_EL0;
use crate::bus::Restraint;
use crate::kernel::Hardware;
use crate::partition::Halt;
use crate::processor;
use crate::vcpu::{InCall, VcpuKey};

impl Hardware {
    /// Nobody runs in this logical processor's time from now on, and it runs in nobody's.
    pub(super) fn settle_debts(&mut self, key: VcpuKey) {
        let now = CNTPCT_EL0.get();
        let pokes = self.schedule.settle(&mut self.records, key, now);
        self.poke_all(pokes);
    }

    /// Stops all of a partition's logical processors that do not run, and asks those that do to leave. What it holds is given back once
    /// all have.
    pub fn stop_processors(&mut self, partition: PartitionIndex) {
        let Some(shell) = self.shell_mut(partition) else { return };
        if shell.halt == Halt::Ending {
            return;
        }
        shell.set_halt(Halt::Ending);
        for (index, key) in shell.vcpus.into_iter().enumerate() {
            let Some(key) = key else { continue };
            self.settle_debts(key);
            // SAFETY: a key names a placed frame; the field is touched under the lock alone, which this is.
            if unsafe { core::mem::replace(&mut (*key.as_ptr()).timeout, u64::MAX) } != u64::MAX {
                self.timeouts -= 1;
            }
            match self.schedule.state(&self.records, key) {
                State::Off => {}
                State::Running => self.attend(partition, index),
                State::Ready | State::Blocked => self.schedule.stop(&mut self.records, key),
            }
        }
        self.check_halted(partition);
    }

    /// The same for one that will be resumed. Returns whether none of them is on a physical one any more; if some are, they leave soon, as
    /// they are interrupted.
    pub fn pause_processors(&mut self, partition: PartitionIndex) -> bool {
        let Some(shell) = self.shell_mut(partition) else { return true };
        if shell.halt == Halt::No {
            shell.set_halt(Halt::Paused);
            for (index, key) in shell.vcpus.into_iter().enumerate() {
                let Some(key) = key else { continue };
                self.settle_debts(key);
                match self.schedule.state(&self.records, key) {
                    State::Off => {}
                    State::Running => self.attend(partition, index),
                    State::Ready | State::Blocked => self.schedule.suspend(&mut self.records, key),
                }
            }
            self.check_halted(partition);
        }
        !processor::any_runs(partition)
    }

    /// Lets the processors of a paused partition go on. Its count goes on where it stood still: none of them has seen it since.
    pub fn resume_processors(&mut self, partition: PartitionIndex) {
        let Some(shell) = self.shell_mut(partition).filter(|shell| shell.halt == Halt::Paused) else {
            return;
        };
        shell.set_halt(Halt::No);
        let keys = shell.vcpus;
        let halted_at = core::mem::replace(&mut shell.halted_at, u64::MAX);
        if halted_at != u64::MAX {
            shell.counter_offset += CNTPCT_EL0.get().saturating_sub(halted_at);
            for key in keys.into_iter().flatten() {
                // SAFETY: a key's frame is placed; none of them runs, and the kernel is locked.
                unsafe { (*key.as_ptr()).context.counter_offset = shell.counter_offset };
            }
        }
        for key in keys.into_iter().flatten() {
            // SAFETY: a key's frame is placed; under the lock.
            let (in_call, timeout) = unsafe { ((*key.as_ptr()).in_call, (*key.as_ptr()).timeout) };
            if in_call == InCall::Calling {
                let poke = self.schedule.wait_until(&mut self.records, key, timeout);
                self.poke(poke);
            } else if self.schedule.state(&self.records, key) == State::Blocked {
                // One that waited waits again by itself; its timers are looked at when it is entered.
                self.make_ready(key);
            }
        }
        self.arm_watchdog(partition);
    }

    /// If none of a halted partition's logical processors is left on a physical one: its count stands still, or what it holds is given back.
    pub(super) fn check_halted(&mut self, partition: PartitionIndex) {
        let Some(shell) = self.shell_mut(partition) else { return };
        match shell.halt {
            Halt::No => {}
            _ if processor::any_runs(partition) => {}
            Halt::Paused => shell.halted_at = CNTPCT_EL0.get(),
            Halt::Ending => {
                self.forget_stolen_time(partition);
                self.give_up_claims(partition);
                self.reaping |= 1 << partition.get();
                let poke = self.schedule.set_pending(true, CNTPCT_EL0.get());
                self.poke(poke);
            }
        }
    }

    /// Nothing is promised any more to a partition's logical processors, all of which are off.
    pub(super) fn give_up_claims(&mut self, partition: PartitionIndex) {
        self.set_restraint(partition, Restraint::OWNS, 0);
        let Some(shell) = self.shell(partition) else { return };
        for key in shell.vcpus.into_iter().flatten() {
            let pokes = self.schedule.give_up(&mut self.records, key);
            self.poke_all(pokes);
        }
    }
}
