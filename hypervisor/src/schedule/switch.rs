//! Registers that change hands when one logical processor leaves and another one comes, and interrupts that reach the one that runs.

use handover_abi::Counter;
use handover_core::vgic::Entry;
use handover_core::{PartitionIndex, VcpuId};

use crate::arch;
use crate::arch::context::InterruptState;
use crate::arch::registers::ICH_HCR_EL2;
use crate::drivers::gic;
use crate::kernel::Hardware;
use crate::processor::{Marks, Processor};
use crate::vcpu::{Arrival, HardwareListRegisters, Running, SavedListRegisters, Vcpu, VcpuKey};

impl Hardware {
    /// [`Hardware::save_here`], out of the way.
    #[inline(never)]
    pub(super) fn save(&mut self, processor: &Processor, vcpu: *mut Vcpu) {
        self.save_here(processor, vcpu);
    }

    /// [`Hardware::enter_here`], out of the way.
    #[inline(never)]
    pub(super) fn enter(&mut self, processor: &Processor, key: VcpuKey) -> Running {
        self.enter_here(processor, key)
    }

    /// Saves the registers of `vcpu`, who runs here, before it leaves.
    #[inline(always)]
    pub(super) fn save_here(&mut self, processor: &Processor, vcpu: *mut Vcpu) {
        let listed = self.unload(processor, vcpu);
        processor.set_current(core::ptr::null_mut());
        if listed {
            self.save_list_here(vcpu);
        }
    }

    /// Whether two may change places here by [`Hardware::change_plainly`]: nothing of either is kept elsewhere than in its context and in EL1's registers.
    #[inline(always)]
    pub(super) fn switches_plainly(processor: &Processor, from: VcpuKey, to: VcpuKey) -> bool {
        // SAFETY: one runs here, the other one does not run, and is looked at under the lock; no other borrow of either lives.
        let (from, to) = unsafe { (&(*from.as_ptr()).context, &(*to.as_ptr()).context) };
        processor.marks() == 0
            && from.is_quiet()
            && to.is_plain(processor)
            && from.interrupts.held | to.interrupts.held == 0
            && InterruptState::none_active()
    }

    /// Saves the registers of `from`, who runs here, and loads those of `to`, who has been lent this processor or gets it back. Returns whether there
    /// is something to look at before it goes on.
    #[inline(always)]
    pub(super) fn change_plainly(&mut self, processor: &Processor, from: VcpuKey, to: VcpuKey) -> bool {
        // SAFETY: this processor runs `from`, and `to` from now on, so it is the one to touch them; they are two.
        let (from, to) = unsafe { (&mut *from.as_ptr(), &mut *to.as_ptr()) };
        from.context.save_plainly();
        to.attention = 0;
        to.counters.count(Counter::Switches);
        to.context.restore_plainly(processor);
        processor.set_current(to);
        u32::from(to.arrival) | self.timeouts != 0
    }

    /// Saves all but the list registers. Returns whether they hold something.
    #[inline(always)]
    fn unload(&mut self, processor: &Processor, vcpu: *mut Vcpu) -> bool {
        if processor.marks() != 0 {
            self.leave_marked(processor, vcpu);
        }
        // SAFETY: this processor runs it, so it is the one to touch it.
        let context = unsafe { &mut (*vcpu).context };
        context.save();
        if !context.is_quiet() {
            // SAFETY: as above; the counters are no part of the context.
            let switches = unsafe { (*vcpu).counters.get(Counter::Switches) };
            context.save_watched(&self.capabilities, switches);
        }
        context.interrupts.held != 0
    }

    /// What most of those who leave have not used.
    #[cold]
    #[inline(never)]
    fn leave_marked(&mut self, processor: &Processor, vcpu: *mut Vcpu) {
        // SAFETY: as in `save_here`.
        let (context, partition) = unsafe { (&mut (*vcpu).context, (*vcpu).partition) };
        self.stop_counting(processor.index(), partition);
        if processor.marks() & Marks::FLOAT != 0 {
            processor.mark(Marks::FLOAT, false);
            context.save_float();
            arch::start::trap_float(true);
        }
    }

    /// Takes the list registers of the one that leaves. Private physical interrupts that they are linked to go with it.
    #[inline(always)]
    fn save_list_here(&mut self, vcpu: *mut Vcpu) {
        let count = self.list_registers;
        // SAFETY: as in `save_here`.
        let (state, partition, index) =
            unsafe { (&mut (*vcpu).context.interrupts, (*vcpu).partition, usize::from((*vcpu).index)) };
        let Some(shell) = self.shell_mut(partition) else { return };
        let in_flight = shell.vgic.in_flight(index, &HardwareListRegisters { count });
        state.save_list(shell.vgic.occupied(index));
        if in_flight != 0 {
            state.held |= InterruptState::UNKNOWN;
            deactivate(in_flight);
        }
    }

    /// Puts the list registers of one that comes back, of which `held` says that there are some.
    #[inline(never)]
    fn restore_list(&mut self, vcpu: *mut Vcpu) {
        let count = self.list_registers;
        // SAFETY: as in `load`.
        let (state, partition, index) =
            unsafe { (&mut (*vcpu).context.interrupts, (*vcpu).partition, usize::from((*vcpu).index)) };
        let Some(shell) = self.shell_mut(partition) else { return };
        let in_flight = shell.vgic.in_flight(index, &SavedListRegisters { state, count });
        if in_flight != 0 {
            gic::activate_private(in_flight);
        }
        state.restore_list();
    }

    /// Loads the registers of one that comes. Returns whether there is something to look at before it goes on.
    #[inline(always)]
    fn load(&mut self, processor: &Processor, key: VcpuKey) -> bool {
        let vcpu = key.as_ptr();
        // SAFETY: it has been picked to run here, or been lent this processor, under the lock: this processor is the one to touch it.
        let (held, arrival) = unsafe { ((*vcpu).context.interrupts.held, (*vcpu).arrival) };
        if held != 0 {
            self.restore_list(vcpu);
        }
        // SAFETY: as above.
        unsafe {
            (*vcpu).attention = 0;
            (*vcpu).counters.count(Counter::Switches);
            (*vcpu).context.restore(&self.capabilities, processor);
        }
        processor.set_current(vcpu);
        u32::from(arrival | processor.marks()) | self.timeouts != 0
    }

    /// Loads the registers of the one that has been picked to run here.
    #[inline(always)]
    pub(super) fn enter_here(&mut self, processor: &Processor, key: VcpuKey) -> Running {
        if self.load(processor, key) {
            self.arrive_here(processor, key);
        }
        // From here on only the physical timer needs EL2's own.
        self.adjust_timer(processor.index());
        // SAFETY: it was ready, so that it is placed and its partition has not ended; it runs here from now on.
        unsafe { Running::new(key.as_ptr()) }
    }

    /// The same for one that runs in time lent by who has just left, or that gets its own back: who pays has not changed, and what is due was.
    pub(super) fn enter_lent(&mut self, processor: &Processor, key: VcpuKey) -> Running {
        if self.load(processor, key) {
            return self.arrive_lent(processor, key);
        }
        // SAFETY: it was waiting, so that it is placed and its partition has not ended; it runs here from now on.
        unsafe { Running::new(key.as_ptr()) }
    }

    /// What is left to do of that after its registers are loaded.
    #[inline(never)]
    pub(super) fn arrive_lent(&mut self, processor: &Processor, key: VcpuKey) -> Running {
        self.arrive_here(processor, key);
        self.adjust_timer(processor.index());
        // SAFETY: as in `enter_lent`.
        unsafe { Running::new(key.as_ptr()) }
    }

    /// What is to be looked at when somebody comes, and most often is not there.
    #[inline(always)]
    fn arrive_here(&mut self, processor: &Processor, key: VcpuKey) {
        let here = processor.index();
        let count = self.list_registers;
        let id = key.id();
        let index = usize::from(id.index);
        let vcpu = key.as_ptr();
        // SAFETY: as in `load`.
        let arrival = unsafe { (*vcpu).arrival };
        if arrival & Arrival::SIBLINGS != 0 {
            let Some(shell) = self.shell_mut(id.partition) else { return };
            let last = core::mem::replace(&mut shell.last[here], id.index + 1);
            if last != 0 && last != id.index + 1 {
                // Two processors of one guest may use an ASID for different things; the TLB here must not mix them.
                arch::stage2::forget_guest_here();
            }
        }
        if arrival & Arrival::RESTRAINED != 0 || processor.marks() != 0 {
            self.enter_restrained(here, key);
        }
        if arrival & Arrival::TIMER != 0 || self.timeouts != 0 {
            // SAFETY: as in `load`.
            let ([control, compare], offset) =
                unsafe { ((*vcpu).context.physical_timer, (*vcpu).context.counter_offset) };
            let due = if control & 3 == 1 { compare.saturating_add(offset) } else { u64::MAX };
            let due = due.min(self.timeout_of(key));
            self.schedule.set_timer(&mut self.records, key, due);
        }
        if arrival & Arrival::INTERRUPTS != 0 {
            let Some(shell) = self.shell_mut(id.partition) else { return };
            // SAFETY: as in `load`; nothing else that is called here has a borrow of these.
            let (state, counters) = unsafe {
                (*vcpu).arrival = arrival & !Arrival::INTERRUPTS;
                (&mut (*vcpu).context.interrupts, &(*vcpu).counters)
            };
            let mut marked = shell.vgic.dirty(index);
            // It has most often been woken by one interrupt.
            if marked && state.hcr == 1 && shell.vgic.rearm(index, &mut HardwareListRegisters { count }) {
                marked = false;
                state.held = InterruptState::UNKNOWN;
                counters.count(Counter::ListRegisterUpdates);
            }
            if marked {
                self.flush_now(id, count);
            }
        }
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
            (*key.as_ptr()).arrival &= !Arrival::INTERRUPTS;
            &mut (*key.as_ptr()).context.interrupts
        };
        state.held = InterruptState::UNKNOWN;
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
