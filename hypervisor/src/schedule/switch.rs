//! Registers that change hands when one logical processor leaves and another one comes, and interrupts that reach the one that runs.

use handover_abi::Counter;
use handover_core::vgic::Entry;
use handover_core::{PartitionIndex, VcpuId};

use crate::arch;
use crate::arch::registers::ICH_HCR_EL2;
use crate::drivers::gic;
use crate::kernel::Hardware;
use crate::processor::Processor;
use crate::vcpu::{HardwareListRegisters, Running, SavedListRegisters, VcpuKey};

impl Hardware {
    /// [`Hardware::save_here`], out of the way.
    #[inline(never)]
    pub(super) fn save(&mut self, processor: &Processor) {
        self.save_here(processor);
    }

    /// [`Hardware::enter_here`], out of the way.
    #[inline(never)]
    pub(super) fn enter(&mut self, processor: &Processor, key: VcpuKey) -> Running {
        self.enter_here(processor, key)
    }

    /// Saves the registers of the one that runs here, before it leaves.
    #[inline(always)]
    pub(super) fn save_here(&mut self, processor: &Processor) {
        let vcpu = processor.current();
        if vcpu.is_null() {
            return;
        }
        let count = self.list_registers;
        let capabilities = self.capabilities;
        // SAFETY: this processor runs it, so it is the one to touch it.
        let (context, partition, index) =
            unsafe { (&mut (*vcpu).context, (*vcpu).partition, usize::from((*vcpu).index)) };
        self.stop_counting(processor.index(), partition);
        let Some(shell) = self.shell_mut(partition) else { return };
        let occupied = shell.vgic.occupied(index);
        let in_flight = shell.vgic.in_flight(index, &HardwareListRegisters { count });
        if processor.float_used() {
            processor.set_float_used(false);
            context.save_float();
            arch::start::trap_float(true);
        }
        context.save(&capabilities, occupied);
        deactivate(in_flight);
        processor.set_current(core::ptr::null_mut());
    }

    /// Loads the registers of the one that has been picked to run here.
    #[inline(always)]
    pub(super) fn enter_here(&mut self, processor: &Processor, key: VcpuKey) -> Running {
        let here = processor.index();
        let capabilities = self.capabilities;
        let count = self.list_registers;
        let id = key.id();
        let vcpu = key.as_ptr();
        let shell = self.shell_mut(id.partition).expect("a scheduled partition exists");
        let restraint = shell.restraint;
        let index = usize::from(id.index);
        let last = core::mem::replace(&mut shell.last[here], id.index + 1);
        // SAFETY: it was ready and is running now, here: this processor is the one to touch it.
        let context = unsafe {
            (*vcpu).attention = 0;
            (*vcpu).counters.count(Counter::Switches);
            &mut (*vcpu).context
        };
        let saved = SavedListRegisters { state: &mut context.interrupts, count };
        let in_flight = shell.vgic.in_flight(index, &saved);
        if in_flight != 0 {
            gic::activate_private(in_flight);
        }
        context.restore(&capabilities);
        // It has most often been woken by one interrupt.
        let mut marked = shell.vgic.dirty(index);
        if marked
            && context.interrupts.hcr == 1
            && shell.vgic.rearm(index, &mut HardwareListRegisters { count })
        {
            marked = false;
            // SAFETY: as above.
            unsafe { (*vcpu).counters.count(Counter::ListRegisterUpdates) };
        }
        if last != 0 && last != id.index + 1 {
            // Two processors of one guest may use an ASID for different things; the TLB here must not mix them.
            arch::stage2::forget_guest_here();
        }
        if restraint | self.restrained.bits[here] != 0 {
            self.enter_restrained(here, key);
        }
        processor.set_current(vcpu);
        // From here on only the physical timer needs EL2's own.
        let [control, compare] = context.physical_timer;
        if control & 3 == 1 || self.timeouts != 0 {
            let due =
                if control & 3 == 1 { compare.saturating_add(context.counter_offset) } else { u64::MAX };
            let due = due.min(self.timeout_of(key));
            self.schedule.set_timer(&mut self.records, key, due);
        }
        self.adjust_timer(here);
        if marked {
            self.flush_now(id, count);
        }
        // SAFETY: it was ready, so that it is placed and its partition has not ended; it runs here from now on.
        unsafe { Running::new(vcpu) }
    }

    /// Brings the running logical processor's list registers up to date.
    #[inline]
    pub fn flush(&mut self, id: VcpuId) {
        let count = self.list_registers;
        let Some(shell) = self.shell_mut(id.partition) else { return };
        let index = usize::from(id.index);
        if !shell.vgic.dirty(index) {
            return;
        }
        self.flush_now(id, count);
    }

    /// [`Hardware::flush`], also when nothing has changed: a maintenance interrupt.
    #[inline(never)]
    pub fn flush_now(&mut self, id: VcpuId, count: usize) {
        let Some(shell) = self.shell_mut(id.partition) else { return };
        let index = usize::from(id.index);
        let entry = shell.vgic.flush(index, &mut HardwareListRegisters { count });
        let Some(key) = shell.vcpus[index] else { return };
        let hcr = 1 | entry.maintenance;
        // SAFETY: it runs here, so this processor is the one to touch it.
        let state = unsafe {
            (*key.as_ptr()).counters.count(Counter::ListRegisterUpdates);
            &mut (*key.as_ptr()).context.interrupts
        };
        if state.hcr != hcr {
            state.hcr = hcr;
            ICH_HCR_EL2.set(hcr);
        }
        self.carry_out_flush(id.partition, entry);
    }

    /// What [`handover_core::vgic::Vgic::flush`] leaves to do.
    pub fn carry_out_flush(&mut self, partition: PartitionIndex, entry: Entry) {
        if entry.deactivate | entry.deactivate_devices != 0 {
            deactivate(entry.deactivate);
            self.deactivate_devices(partition, entry.deactivate_devices);
        }
        self.kick(partition, entry.kick);
    }
}

/// Deactivates private physical interrupts (bit n: INTID n).
#[inline]
fn deactivate(mut mask: u32) {
    while mask != 0 {
        gic::deactivate(mask.trailing_zeros());
        mask &= mask - 1;
    }
}
