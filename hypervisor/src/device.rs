//! Devices that partitions hold: their physical interrupts, and whose they are.
//!
//! A device's interrupt is taken here, its priority dropped, and left active: the holder's list register is linked to it, so that the guest's own
//! deactivation lets it come again, without a trap. However its line storms, it comes once for each time its holder has ended it.

use handover_core::schedule::{Records, State};
use handover_core::vgic::Kick;
use handover_core::{Interrupt, PartitionIndex, Progress};

use crate::drivers::gic;
use crate::kernel::Hardware;
use crate::processor;
use crate::vcpu::SavedListRegisters;
use handover_core::VcpuId;

/// INTIDs up to the last SPI.
const INTIDS: usize = 1020;

/// Whose interrupt an SPI is, and its INTID there.
type Target = Option<(PartitionIndex, u8)>;

/// Whose the machine's shared interrupts are.
pub struct DeviceInterrupts([Target; INTIDS]);

impl DeviceInterrupts {
    /// Nobody's.
    pub const fn new() -> DeviceInterrupts {
        DeviceInterrupts([None; INTIDS])
    }

    fn slot(&mut self, intid: u32) -> Option<&mut Target> {
        self.0.get_mut(intid as usize)
    }
}

impl Hardware {
    /// A shared interrupt has come. → whether a partition holds its device: it stays active then, and the guest's deactivation ends that.
    pub fn device_interrupt(&mut self, intid: u32) -> bool {
        let Some((partition, virtual_intid)) = self.device_interrupts.slot(intid).and_then(|slot| *slot)
        else {
            return false;
        };
        if let Some(shell) = self.shell_mut(partition) {
            let kick = shell.vgic.set_level(0, u32::from(virtual_intid), true);
            self.follow(partition, kick, intid);
            self.kick(partition, kick);
        }
        true
    }

    /// The next time, the interrupt comes where the one runs that takes it: in its own time, most likely.
    fn follow(&mut self, partition: PartitionIndex, kick: Kick, intid: u32) {
        if let Some(index) = kick.processors().next()
            && let Some(home) = self.home_of(partition, index)
            && home != processor::this().index()
        {
            self.gic.route(intid, processor::get(home));
        }
    }

    /// The physical processor that a logical one runs on when it runs.
    fn home_of(&self, partition: PartitionIndex, index: usize) -> Option<usize> {
        let key = (*self.shell(partition)?.vcpus.get(index)?)?;
        Some(self.records.get(key).processor())
    }

    /// See [`handover_core::Machine::connect_interrupt`].
    pub fn connect(&mut self, interrupt: Interrupt, partition: PartitionIndex, intid: u32) {
        let physical = u32::from(interrupt.intid);
        let home = self.home_of(partition, 0).unwrap_or(0);
        let Some(shell) = self.shell_mut(partition) else { return };
        shell.vgic.link(intid, interrupt.intid, interrupt.edge);
        if let Some(slot) = self.device_interrupts.slot(physical) {
            *slot = Some((partition, intid as u8));
        }
        self.gic.connect(physical, interrupt.edge, processor::get(home));
    }

    /// See [`handover_core::Machine::disconnect_interrupt`].
    pub fn disconnect(&mut self, interrupt: Interrupt, partition: PartitionIndex, intid: u32) -> Progress {
        let physical = u32::from(interrupt.intid);
        if let Some(slot) = self.device_interrupts.slot(physical)
            && slot.take().is_some()
        {
            self.gic.disable_shared(physical);
            if let Some(shell) = self.shell_mut(partition) {
                let kick = shell.vgic.unlink(intid);
                self.kick(partition, kick);
            }
        }
        if let Some(index) = self.shell(partition).and_then(|shell| shell.vgic.unlinking_on(intid))
            && !self.empty_list_register(VcpuId { partition, index: index as u8 })
        {
            return Progress::Again;
        }
        self.gic.forget_shared(physical);
        Progress::Done
    }

    /// Has a logical processor let go of what is no longer linked. `false`: it runs elsewhere, and has been told to.
    fn empty_list_register(&mut self, id: VcpuId) -> bool {
        let count = self.list_registers;
        let index = usize::from(id.index);
        let Some(key) = self.shell(id.partition).and_then(|shell| shell.vcpus[index]) else { return true };
        if processor::this().current() == key.as_ptr() {
            self.flush_now(id, count);
        } else if self.schedule.state(&self.records, key) == State::Running {
            return false;
        } else if let Some(shell) = self.shell_mut(id.partition) {
            // SAFETY: it does not run, and the kernel is locked.
            let state = unsafe { &mut (*key.as_ptr()).context.interrupts };
            let entry = shell.vgic.flush(index, &mut SavedListRegisters { state, count });
            state.hcr = 1 | entry.maintenance;
            self.carry_out_flush(id.partition, entry);
        }
        true
    }

    /// Deactivates the physical interrupts of a partition's devices (bit n: its INTID `DEVICE_INTID` + n).
    pub fn deactivate_devices(&mut self, partition: PartitionIndex, mask: u32) {
        if let Some(shell) = self.shell(partition) {
            shell.vgic.physical_of(mask).for_each(|physical| gic::deactivate(u32::from(physical)));
        }
    }
}
