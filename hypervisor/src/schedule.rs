//! Carries out what the scheduler's rules say: switches registers, sets timers, interrupts other processors.

use handover_abi::Counter;
use handover_core::schedule::{Pick, Poke, Records, State};
use handover_core::vgic::Entry;
use handover_core::{PARTITIONS_MAX, PartitionIndex, Progress};

use crate::arch;
use crate::arch::registers::{CNTFRQ_EL0, CNTHP_CTL_EL2, CNTHP_CVAL_EL2, CNTPCT_EL0, ICH_HCR_EL2};
use crate::bus::Restraint;
use crate::drivers::gic;
use crate::interrupt;
use crate::kernel::{Hardware, KERNEL, Kernel};
use crate::lock::Guard;
use crate::partition::Halt;
use crate::processor::{self, Processor};
use crate::trap::resume;
use crate::vcpu::{Attention, HardwareListRegisters, InCall, Running, SavedListRegisters, Vcpu, VcpuKey};
use handover_core::VcpuId;

/// When requests are given up.
pub struct Requests {
    /// When the next one is, as a physical count; `u64::MAX` if none has a timeout.
    pub deadline: u64,
    /// Whose timer it is in.
    pub processor: usize,
}

impl Hardware {
    /// Someone should look at new interrupts, or at its partition's end: interrupts the physical processor of one that runs, wakes
    /// one that waits.
    #[inline(never)]
    pub fn attend(&mut self, partition: PartitionIndex, index: usize) {
        self.attend_here(partition, index);
    }

    /// [`Hardware::attend`], in line for one that waits in its own time.
    #[inline(always)]
    pub fn attend_here(&mut self, partition: PartitionIndex, index: usize) {
        let Some(shell) = self.shell(partition) else { return };
        let Some(key) = shell.vcpus.get(index).copied().flatten() else { return };
        let waits = shell.halt == Halt::No && self.schedule.waits(&self.records, key);
        // SAFETY: a key names a placed frame; the field is touched under the lock alone, which this is.
        if waits && unsafe { (*key.as_ptr()).in_call } != InCall::Calling {
            let poke = self.schedule.wake(&mut self.records, key, CNTPCT_EL0.get());
            self.poke(poke);
        } else {
            self.attend_rest(key);
        }
    }

    #[inline(never)]
    fn attend_rest(&mut self, key: VcpuKey) {
        match self.schedule.state(&self.records, key) {
            State::Off | State::Ready => {}
            State::Running => {
                // It is looked at before it goes on ([`crate::trap::resume`]), which is soon if it runs elsewhere.
                // SAFETY: a key names a placed frame; the field is touched under the lock alone, which this is.
                unsafe { (*key.as_ptr()).attention |= Attention::INTERRUPTS };
                let at = self.schedule.processor_of(&self.records, key);
                if at != processor::this().index() {
                    gic::send(gic::SGI_ATTENTION, at);
                }
            }
            // SAFETY: as above.
            State::Blocked if unsafe { (*key.as_ptr()).in_call } == InCall::Calling => {}
            State::Blocked => self.make_ready(key),
        }
    }

    /// One that is off or waits wants to run.
    #[inline(never)]
    pub fn make_ready(&mut self, key: VcpuKey) {
        let Some(halt) = self.shell(key.id().partition).map(|shell| shell.halt) else { return };
        if halt != Halt::No {
            if halt == Halt::Paused {
                // Made ready by `resume_processors`.
                self.schedule.suspend(&mut self.records, key);
            }
            return;
        }
        let poke = self.schedule.make_ready(&mut self.records, key, CNTPCT_EL0.get());
        self.poke(poke);
    }

    /// Makes a physical processor look at its queues.
    #[inline(always)]
    pub fn poke(&mut self, poke: Poke) {
        let here = processor::this().index();
        match poke {
            Poke::Nobody => {}
            Poke::Timer(at) if at == here => self.adjust_timer(here),
            Poke::Switch(at) if at == here => {
                let current = processor::this().current();
                if !current.is_null() {
                    // SAFETY: it runs here; the field is touched under the lock alone, which this is.
                    unsafe { (*current).attention |= Attention::SCHEDULE };
                }
            }
            Poke::Timer(other) | Poke::Switch(other) => gic::send(gic::SGI_ATTENTION, other),
        }
    }

    /// The same for each bit of a mask.
    pub fn poke_all(&mut self, mut processors: u16) {
        while processors != 0 {
            self.poke(Poke::Switch(processors.trailing_zeros() as usize));
            processors &= processors - 1;
        }
    }

    /// Whether the one that runs here has to make way.
    pub fn must_switch(&mut self) -> bool {
        let here = processor::this().index();
        let must = self.schedule.must_switch(&mut self.records, here, CNTPCT_EL0.get());
        if !must {
            self.program_timer(here);
        }
        must
    }

    /// Sets when a timer of the running logical processor's guest is due (`u64::MAX`: never).
    #[inline]
    pub fn set_deadline(&mut self, key: VcpuKey, deadline: u64) {
        let deadline = deadline.min(self.timeout_of(key));
        if self.schedule.set_timer(&mut self.records, key, deadline) {
            self.program_timer(processor::this().index());
        }
    }

    /// Sets this processor's timer to what is due first. What is due later than it is set to needs no change: it fires once for nothing, and
    /// is set anew then. Another processor's is set by itself, when it is interrupted or comes back.
    #[inline(never)]
    pub fn program_timer(&mut self, here: usize) {
        self.fired &= !(1 << here);
        let mut due = self.schedule.due(&self.records, here);
        if here == self.requests.processor {
            due = due.min(self.requests.deadline);
        }
        if here == self.watchdogs.processor {
            due = due.min(self.watchdogs.deadline);
        }
        self.lower_timer(here, due);
    }

    /// The same when only a running logical processor, or who it lends its time to, has changed since the timer was set: what else is due has
    /// been looked at when it came.
    #[inline(always)]
    fn adjust_timer(&mut self, here: usize) {
        if self.fired & 1 << here != 0 {
            self.program_timer(here);
        } else {
            self.lower_timer(here, self.schedule.due_of_running(&self.records, here));
        }
    }

    #[inline(always)]
    fn lower_timer(&mut self, here: usize, due: u64) {
        if due < self.programmed[here] {
            self.programmed[here] = due;
            CNTHP_CVAL_EL2.set(due);
            CNTHP_CTL_EL2.set(1);
        }
    }

    /// Sets when a request is given up next. An earlier one comes into this processor's timer, where who has made it runs, if nobody owns it alone.
    pub fn set_request_deadline(&mut self, deadline: Option<u64>) {
        let deadline = deadline.unwrap_or(u64::MAX);
        let keeper = self.keeper();
        let earlier = deadline < self.requests.deadline;
        self.requests.deadline = deadline;
        if earlier {
            self.requests.processor = keeper;
            self.program_keeper(keeper);
        }
    }

    /// How long a direct call of this logical processor's, which begins now, may take, in nanoseconds.
    pub fn set_timeout(&mut self, caller: VcpuKey, patience: u64) {
        let ticks = u128::from(patience).saturating_mul(u128::from(CNTFRQ_EL0.get())) / 1_000_000_000;
        let timeout = CNTPCT_EL0.get().saturating_add(u64::try_from(ticks).unwrap_or(u64::MAX));
        // SAFETY: a key names a placed frame; the field is touched under the lock alone, which this is.
        unsafe { (*caller.as_ptr()).timeout = timeout };
        self.timeouts += u32::from(timeout != u64::MAX);
    }

    /// When the first of the direct calls that a logical processor serves on lent time has taken too long.
    #[inline]
    fn timeout_of(&self, key: VcpuKey) -> u64 {
        if self.timeouts == 0 { u64::MAX } else { self.first_timeout(key).map_or(u64::MAX, |(at, _)| at) }
    }

    fn first_timeout(&self, key: VcpuKey) -> Option<(u64, VcpuKey)> {
        // SAFETY: as in `set_timeout`.
        let timeout = |key: VcpuKey| (unsafe { (*key.as_ptr()).timeout }, key);
        let chain = core::iter::successors(Some(key), |&key| self.records.get(key).lender());
        chain.map(timeout).min_by_key(|(at, _)| *at)
    }

    /// Due first of a logical processor that is about to wait: its guest's timers, and calls on whose time it runs.
    ///
    /// # Safety
    /// Its registers are saved.
    unsafe fn deadline_of(&self, key: VcpuKey) -> u64 {
        // SAFETY: by the caller; under the lock nobody else touches them.
        let timer = unsafe { (*key.as_ptr()).context.deadline() }.unwrap_or(u64::MAX);
        timer.min(self.timeout_of(key))
    }

    /// This processor's timer has fired. Whoever runs here is looked at next, and sets the timer anew. Returns a direct call that has taken too long; there may be more.
    pub fn timer_interrupt(&mut self) -> Option<VcpuId> {
        let here = processor::this().index();
        // Off, or it would stay pending.
        self.programmed[here] = u64::MAX;
        self.fired |= 1 << here;
        CNTHP_CTL_EL2.set(0);
        let now = CNTPCT_EL0.get();
        while let Some(key) = self.schedule.expire(&mut self.records, here, now) {
            let expired = match self.timeouts {
                0 => None,
                _ => self.first_timeout(key).filter(|(at, _)| *at <= now),
            };
            // SAFETY: a key names a placed frame; the field is touched under the lock alone, which this is.
            if unsafe { (*key.as_ptr()).in_call } != InCall::Calling {
                self.update_physical_timer(key);
                match self.schedule.state(&self.records, key) {
                    // The virtual timer fires by itself once it is loaded.
                    State::Blocked => self.make_ready(key),
                    State::Running if expired.is_some() => self.renew_physical_timer(key),
                    _ => {}
                }
            }
            if let Some((_, caller)) = expired {
                return Some(caller.id());
            }
        }
        None
    }

    /// The one that ran here waits from `now` on.
    #[inline(always)]
    fn block(&mut self, here: usize, now: u64, vcpu: *mut Vcpu) {
        if vcpu.is_null() {
            return;
        }
        // SAFETY: this processor has just saved this context, under the lock; what ran here is placed.
        let timer = unsafe { self.deadline_of(Running::new(vcpu).key()) };
        self.schedule.block(&mut self.records, here, now, timer);
    }

    /// The same, until `until` at the latest. Timers of the guest's that were due already have not kept it from waiting and do not now.
    #[cold]
    fn throttle(&mut self, here: usize, now: u64, vcpu: *mut Vcpu, until: u64) {
        // SAFETY: this processor has just saved this context, under the lock; what ran here is placed.
        let (key, timer) = unsafe {
            (*vcpu).throttled = true;
            (Running::new(vcpu).key(), (*vcpu).context.deadline())
        };
        let timer = timer.filter(|due| *due > now).unwrap_or(u64::MAX);
        let timer = timer.min(self.timeout_of(key)).min(until);
        self.schedule.block(&mut self.records, here, now, timer);
    }

    /// [`Hardware::save_here`], out of the way.
    #[inline(never)]
    fn save(&mut self, processor: &Processor) {
        self.save_here(processor);
    }

    /// [`Hardware::enter_here`], out of the way.
    #[inline(never)]
    fn enter(&mut self, processor: &Processor, key: VcpuKey) -> Running {
        self.enter_here(processor, key)
    }

    /// Saves the registers of the one that runs here, before it leaves.
    #[inline(always)]
    fn save_here(&mut self, processor: &Processor) {
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
        shell.running -= 1;
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
    fn enter_here(&mut self, processor: &Processor, key: VcpuKey) -> Running {
        let here = processor.index();
        let capabilities = self.capabilities;
        let count = self.list_registers;
        let id = key.id();
        let vcpu = key.as_ptr();
        let shell = self.shell_mut(id.partition).expect("a scheduled partition exists");
        shell.running += 1;
        let restraint = shell.restraint;
        let index = usize::from(id.index);
        let last = core::mem::replace(&mut shell.last[here], id.index + 1);
        let occupied = shell.vgic.occupied(index);
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
        context.restore(&capabilities, occupied);
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
        self.flush_here(id, vcpu);
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

    /// The same for one whose registers have just been loaded, and that has most often been woken by one interrupt.
    #[inline(always)]
    fn flush_here(&mut self, id: VcpuId, vcpu: *mut Vcpu) {
        let count = self.list_registers;
        let Some(shell) = self.shell_mut(id.partition) else { return };
        let index = usize::from(id.index);
        if !shell.vgic.dirty(index) {
            return;
        }
        // SAFETY: it runs here, so this processor is the one to touch it.
        let quiet = unsafe { (*vcpu).context.interrupts.hcr } == 1;
        if quiet && shell.vgic.rearm(index, &mut HardwareListRegisters { count }) {
            // SAFETY: as above.
            unsafe { (*vcpu).counters.count(Counter::ListRegisterUpdates) };
        } else {
            self.flush_now(id, count);
        }
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

    /// Nobody runs in this logical processor's time from now on, and it runs in nobody's.
    fn settle_debts(&mut self, key: VcpuKey) {
        let now = CNTPCT_EL0.get();
        let pokes = self.schedule.settle(&mut self.records, key, now);
        self.poke_all(pokes);
    }

    /// Whether a logical processor's partition lets it run.
    fn may_run(&self, key: VcpuKey) -> bool {
        self.shell(key.id().partition).is_some_and(|shell| shell.halt == Halt::No)
    }

    /// Stops all of a partition's logical processors that do not run, and asks those that do to leave. What it holds is given back once
    /// all have.
    pub fn stop_processors(&mut self, partition: PartitionIndex) {
        let Some(shell) = self.shell_mut(partition) else { return };
        if shell.halt == Halt::Ending {
            return;
        }
        shell.halt = Halt::Ending;
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
            shell.halt = Halt::Paused;
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
        self.shell(partition).is_none_or(|shell| shell.running == 0)
    }

    /// Lets the processors of a paused partition go on. Its count goes on where it stood still: none of them has seen it since.
    pub fn resume_processors(&mut self, partition: PartitionIndex) {
        let Some(shell) = self.shell_mut(partition).filter(|shell| shell.halt == Halt::Paused) else {
            return;
        };
        shell.halt = Halt::No;
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
    fn check_halted(&mut self, partition: PartitionIndex) {
        let Some(shell) = self.shell_mut(partition).filter(|shell| shell.running == 0) else { return };
        match shell.halt {
            Halt::No => {}
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
    fn give_up_claims(&mut self, partition: PartitionIndex) {
        let Some(shell) = self.shell_mut(partition) else { return };
        shell.restraint &= !Restraint::OWNS;
        for key in shell.vcpus.into_iter().flatten() {
            let pokes = self.schedule.give_up(&mut self.records, key);
            self.poke_all(pokes);
        }
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

/// Where a guest is left for another, or for itself again.
pub enum Leave {
    /// Nothing runs here.
    Nothing,
    /// It still wants to run, but makes way.
    Ready,
    /// It stands still: its partition is paused.
    Paused(VcpuId),
    /// It waits for the reply to its direct call.
    Calling,
    /// It waits until this count, or an interrupt: a limit of its partition's is used up.
    Throttled(u64),
    /// It is off, or its partition has ended.
    Off(VcpuId),
}

/// Finds what to run next, waiting for it if need be. Gives the kernel up meanwhile. The one that leaves is charged for being saved, the one that
/// comes for being chosen and loaded.
pub fn schedule(mut kernel: Guard<Kernel>, leave: Leave) -> Running {
    let processor = processor::this();
    let here = processor.index();
    let hardware = &mut kernel.hardware;
    let vcpu = processor.current();
    hardware.save(processor);
    let now = CNTPCT_EL0.get();
    match leave {
        Leave::Nothing => {}
        Leave::Calling => {
            // Interrupts do not concern it, but the time that the call takes may.
            // SAFETY: as in `set_timeout`.
            let timer = unsafe { (*vcpu).timeout };
            hardware.schedule.block(&mut hardware.records, here, now, timer);
        }
        Leave::Throttled(until) => hardware.throttle(here, now, vcpu, until),
        Leave::Ready => {
            let poke = hardware.schedule.preempt(&mut hardware.records, here, now);
            hardware.poke(poke);
        }
        Leave::Paused(id) => {
            hardware.schedule.block(&mut hardware.records, here, now, u64::MAX);
            hardware.check_halted(id.partition);
        }
        Leave::Off(id) => {
            hardware.schedule.switch_off(&mut hardware.records, here, now);
            hardware.check_halted(id.partition);
        }
    }
    run_next(kernel, now)
}

/// The one that runs here waits for an interrupt, or for a direct call. [`schedule`] does the same for all other reasons to leave; this is for the most
/// frequent one, and most often finds somebody else to run.
#[inline(always)]
pub fn block_here(mut kernel: Guard<Kernel>) -> Running {
    let processor = processor::this();
    let here = processor.index();
    let hardware = &mut kernel.hardware;
    let vcpu = processor.current();
    hardware.save_here(processor);
    let now = CNTPCT_EL0.get();
    hardware.block(here, now, vcpu);
    match hardware.schedule.pick(&mut hardware.records, here, now) {
        Pick::Run(key) => {
            // SAFETY: as in `set_timeout`.
            if unsafe { (*key.as_ptr()).in_call } == InCall::Waiting {
                interrupted(&mut kernel, key);
            }
            kernel.hardware.enter_here(processor, key)
        }
        Pick::Work => {
            let kernel = work(kernel, now);
            run_next(kernel, CNTPCT_EL0.get())
        }
        Pick::Idle => {
            let kernel = idle(kernel);
            run_next(kernel, CNTPCT_EL0.get())
        }
    }
}

/// [`block_here`], out of the way.
#[inline(never)]
pub fn block(kernel: Guard<Kernel>) -> Running {
    block_here(kernel)
}

/// Nobody runs here. Finds somebody, waiting if need be.
#[inline(never)]
fn run_next(mut kernel: Guard<Kernel>, mut now: u64) -> Running {
    let processor = processor::this();
    let here = processor.index();
    loop {
        let hardware = &mut kernel.hardware;
        match hardware.schedule.pick(&mut hardware.records, here, now) {
            Pick::Run(key) => {
                // SAFETY: as in `set_timeout`.
                if unsafe { (*key.as_ptr()).in_call } == InCall::Waiting {
                    interrupted(&mut kernel, key);
                }
                return kernel.hardware.enter(processor, key);
            }
            Pick::Work => kernel = work(kernel, now),
            Pick::Idle => kernel = idle(kernel),
        }
        now = CNTPCT_EL0.get();
    }
}

/// One that has waited for a direct call goes on without.
#[inline(never)]
fn interrupted(kernel: &mut Kernel, key: VcpuKey) {
    kernel.system.call_interrupted(key.id());
    // SAFETY: it has been picked to run here and does not run yet; under the lock.
    let vcpu = unsafe { &mut *key.as_ptr() };
    vcpu.in_call = InCall::No;
    vcpu.context.x[..2].fill(0);
}

/// The one that runs here has called, and lends its processor and time to `to`, which has waited for that.
#[inline]
pub fn lend(mut kernel: Guard<Kernel>, to: VcpuKey) -> Running {
    let processor = processor::this();
    let hardware = &mut kernel.hardware;
    if hardware.may_run(to) && hardware.schedule.lend(&mut hardware.records, processor.index(), to) {
        hardware.save_here(processor);
        return hardware.enter_here(processor, to);
    }
    // It is on its way, or must not run here.
    hardware.make_ready(to);
    schedule(kernel, Leave::Calling)
}

/// The one that runs here has replied to `caller`, which goes on, at once if it had lent its processor and time. The server waits for the next call, or goes on in its own time.
#[inline]
pub fn give_back(mut kernel: Guard<Kernel>, caller: VcpuKey, waiting: bool) -> Running {
    let processor = processor::this();
    let here = processor.index();
    let hardware = &mut kernel.hardware;
    let vcpu = processor.current();
    // SAFETY: it runs here, so it is placed.
    let server = unsafe { Running::new(vcpu) }.key();
    if hardware.records.get(server).lender() == Some(caller) {
        hardware.save_here(processor);
        // SAFETY: it has just been saved.
        let timer = unsafe { hardware.deadline_of(server) };
        if let Some(lender) = hardware.schedule.give_back(&mut hardware.records, here, timer) {
            if !waiting {
                hardware.make_ready(server);
            }
            return hardware.enter_here(processor, lender);
        }
    }
    hardware.make_ready(caller);
    if waiting {
        return block(kernel);
    }
    // SAFETY: it still runs here.
    let guest = unsafe { Running::new(vcpu) };
    resume(kernel, guest, true)
}

/// The one that runs here, `guest`, has forwarded a call of `caller`'s: to `next`, which has waited, or to a queue.
pub fn pass_on(
    mut kernel: Guard<Kernel>,
    guest: Running,
    caller: VcpuKey,
    next: Option<VcpuKey>,
    waiting: bool,
) -> Running {
    let processor = processor::this();
    let here = processor.index();
    let hardware = &mut kernel.hardware;
    let server = guest.key();
    if let Some(next) = next
        && hardware.records.get(server).lender() == Some(caller)
        && hardware.may_run(next)
    {
        hardware.save(processor);
        // SAFETY: it has just been saved.
        let timer = unsafe { hardware.deadline_of(server) };
        if hardware.schedule.pass_on(&mut hardware.records, here, next, timer) {
            if !waiting {
                hardware.make_ready(server);
            }
            return hardware.enter(processor, next);
        }
        let _same: Running = hardware.enter(processor, server);
    }
    let pokes = hardware.schedule.recall(&mut hardware.records, caller, CNTPCT_EL0.get());
    hardware.poke_all(pokes);
    if let Some(next) = next {
        hardware.make_ready(next);
    }
    if waiting { block(kernel) } else { resume(kernel, guest, true) }
}

/// One step of the control OS's own work, out of its own budget.
#[inline(never)]
fn work(mut kernel: Guard<Kernel>, start: u64) -> Guard<Kernel> {
    reap(&mut kernel);
    let now = CNTPCT_EL0.get();
    kernel.hardware.schedule.worked(now.saturating_sub(start), now);
    // The budget for more of it may have come to wait for.
    kernel.hardware.program_timer(processor::this().index());
    drop(kernel);
    let mut kernel = KERNEL.lock();
    interrupt::take(&mut kernel, None);
    kernel
}

/// Nothing to run: sends output, gives back what ended partitions held, or waits for an interrupt.
#[inline(never)]
fn idle(mut kernel: Guard<Kernel>) -> Guard<Kernel> {
    let here = processor::this().index();
    kernel.hardware.program_timer(here);
    // Whoever owns this processor waits for nobody's work but its own.
    if !kernel.hardware.schedule.is_owned(here) {
        // With no room left in the device it interrupts when there is some.
        let talking = kernel.hardware.consoles.pending() && kernel.hardware.console_output();
        let reaping = kernel.hardware.schedule.may_work(here) && reap(&mut kernel);
        // Either of these may have made someone ready here.
        if talking || reaping {
            drop(kernel);
            kernel = KERNEL.lock();
            interrupt::take(&mut kernel, None);
            return kernel;
        }
    }
    let wanted = kernel.hardware.schedule.is_wanted(here);
    drop(kernel);
    if !wanted && !arch::interrupt_pending() {
        arch::wait_for_interrupt();
    }
    let mut kernel = KERNEL.lock();
    interrupt::take(&mut kernel, None);
    kernel
}

/// Gives up requests that nobody has answered in time, if this processor's timer is the one that tells. One bounded step: what is left makes the
/// timer fire again at once.
pub fn expire_requests(kernel: &mut Kernel) {
    let now = CNTPCT_EL0.get();
    let requests = &kernel.hardware.requests;
    if requests.deadline <= now && requests.processor == processor::this().index() {
        let _: Progress = kernel.system.expire(&mut kernel.hardware, now);
        kernel.hardware.set_request_deadline(kernel.system.next_timeout());
    }
}

/// One bounded step of giving back what an ended partition holds. Returns whether there is more.
pub fn reap(kernel: &mut Kernel) -> bool {
    let reaping = kernel.hardware.reaping;
    if reaping == 0 {
        return false;
    }
    let index = reaping.trailing_zeros() as usize;
    if let Some(partition) = PartitionIndex::new(index.min(PARTITIONS_MAX - 1))
        && kernel.system.reap(&mut kernel.hardware, partition) == Progress::Done
    {
        let hardware = &mut kernel.hardware;
        hardware.reaping &= !(1 << index);
        let poke = hardware.schedule.set_pending(hardware.reaping != 0, CNTPCT_EL0.get());
        hardware.poke(poke);
    }
    kernel.hardware.reaping != 0
}
