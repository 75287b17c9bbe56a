//! Carries out what the scheduler's rules say: who leaves a physical processor, who comes, and who is told.

mod halt;
mod switch;
mod timers;

use handover_core::schedule::{Pick, Poke, State};
use handover_core::{PARTITIONS_MAX, PartitionIndex, Progress, VcpuId};

use crate::arch;
use crate::arch::registers::CNTPCT_EL0;
use crate::drivers::gic;
use crate::interrupt;
use crate::kernel::{Hardware, KERNEL, Kernel};
use crate::lock::Guard;
use crate::partition::Halt;
use crate::processor::{self, Processor};
use crate::trap::resume;
use crate::vcpu::{Arrival, Attention, InCall, Running, Vcpu, VcpuKey};

pub use timers::{Requests, expire_requests};

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
        unsafe { (*key.as_ptr()).arrival |= Arrival::INTERRUPTS };
        // SAFETY: as before.
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
            Poke::Turn(at, due) if at == here => self.limit_timer(here, due),
            Poke::Switch(at) if at == here => {
                let current = processor::this().current();
                if !current.is_null() {
                    // SAFETY: it runs here; the field is touched under the lock alone, which this is.
                    unsafe { (*current).attention |= Attention::SCHEDULE };
                }
            }
            Poke::Timer(other) | Poke::Turn(other, _) | Poke::Switch(other) => {
                gic::send(gic::SGI_ATTENTION, other)
            }
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

    /// The one that ran here waits from `now` on; there was one.
    #[inline(always)]
    fn block(&mut self, here: usize, now: u64, vcpu: *mut Vcpu) {
        // SAFETY: this processor has just saved this context, under the lock; what ran here is placed.
        let timer = unsafe { self.deadline_of(Running::new(vcpu).key()) };
        self.schedule.block(&mut self.records, here, now, timer);
    }

    /// One that has given back what was lent to it, and whose registers are saved, waits for a timer of its guest's, if one is on.
    #[inline(always)]
    fn wait_in_own_time(&mut self, server: VcpuKey) {
        // SAFETY: by the caller.
        let timer = unsafe { self.deadline_of(server) };
        if timer != u64::MAX {
            processor::this().set_current(core::ptr::null_mut());
            let poke = self.schedule.wait_until(&mut self.records, server, timer);
            self.poke(poke);
        }
    }

    /// [`Hardware::block`], until `until` at the latest. Timers of the guest's that were due already have not kept it from waiting and do not now.
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
    if !vcpu.is_null() {
        hardware.save(processor, vcpu);
    }
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
pub fn block_here(mut kernel: Guard<Kernel>, processor: &Processor, guest: Running) -> Running {
    let here = processor.index();
    let hardware = &mut kernel.hardware;
    let vcpu = guest.as_ptr();
    hardware.save_here(processor, vcpu);
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
    let processor = processor::this();
    // SAFETY: it runs here, so it is placed.
    let guest = unsafe { Running::new(processor.current()) };
    block_here(kernel, processor, guest)
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
#[inline(always)]
pub fn lend(
    mut kernel: Guard<Kernel>,
    processor: &'static Processor,
    caller: VcpuKey,
    to: VcpuKey,
) -> Running {
    let hardware = &mut kernel.hardware;
    if to.may_come()
        && Hardware::switches_plainly(processor, caller, to)
        && hardware.schedule.lend_plainly(&mut hardware.records, caller, to)
    {
        return switch_plainly(kernel, processor, caller, to, false);
    }
    lend_at_length(kernel, to)
}

/// [`lend`], whatever has to be seen to.
#[inline(never)]
pub fn lend_at_length(mut kernel: Guard<Kernel>, to: VcpuKey) -> Running {
    let processor = processor::this();
    let hardware = &mut kernel.hardware;
    let vcpu = processor.current();
    // SAFETY: it runs here, so it is placed.
    let caller = unsafe { Running::new(vcpu) }.key();
    if to.may_come() && hardware.schedule.lend(&mut hardware.records, caller, to) {
        hardware.save(processor, vcpu);
        return hardware.enter_lent(processor, to);
    }
    // It is on its way, or must not run here.
    hardware.make_ready(to);
    schedule(kernel, Leave::Calling)
}

/// The registers change hands, and with them what the processor is for, between two of whom none has anything out of the ordinary. `waits`: in its
/// own time from now on.
#[inline(always)]
fn switch_plainly(
    mut kernel: Guard<Kernel>,
    processor: &'static Processor,
    from: VcpuKey,
    to: VcpuKey,
    waits: bool,
) -> Running {
    let arrives = kernel.hardware.change_plainly(processor, from, to);
    // SAFETY: its registers are saved, and it does not run; under the lock.
    if arrives || waits && unsafe { (*from.as_ptr()).context.has_timer() } {
        return arrive_lent(kernel, from, to);
    }
    // SAFETY: it was waiting, so that it is placed and its partition has not ended; it runs here from now on.
    unsafe { Running::new(to.as_ptr()) }
}

/// There is something to look at before one goes on that has been lent a processor, or got it back; or `from` waits in its own time now, with a timer on.
#[inline(never)]
fn arrive_lent(mut kernel: Guard<Kernel>, from: VcpuKey, to: VcpuKey) -> Running {
    let hardware = &mut kernel.hardware;
    // SAFETY: as in `set_timeout`.
    if unsafe { (*from.as_ptr()).in_call } == InCall::Waiting {
        hardware.wait_in_own_time(from);
    }
    hardware.arrive_lent(processor::this(), to)
}

/// The one that runs here has replied to `caller`, which goes on, and waits for the next call.
#[inline(always)]
pub fn give_back(
    mut kernel: Guard<Kernel>,
    processor: &'static Processor,
    server: VcpuKey,
    caller: VcpuKey,
) -> Running {
    let hardware = &mut kernel.hardware;
    if Hardware::switches_plainly(processor, server, caller)
        && hardware.schedule.give_back(&mut hardware.records, server, caller)
    {
        return switch_plainly(kernel, processor, server, caller, true);
    }
    give_back_at_length(kernel, caller, true)
}

/// The one that runs here has replied to `caller`, which goes on, at once if it had lent its processor and time. The server waits for the next call,
/// or goes on in its own time.
#[inline(never)]
pub fn give_back_at_length(mut kernel: Guard<Kernel>, caller: VcpuKey, waiting: bool) -> Running {
    let processor = processor::this();
    let hardware = &mut kernel.hardware;
    let vcpu = processor.current();
    // SAFETY: it runs here, so it is placed.
    let guest = unsafe { Running::new(vcpu) };
    let server = guest.key();
    if hardware.schedule.give_back(&mut hardware.records, server, caller) {
        hardware.save(processor, vcpu);
        if waiting {
            hardware.wait_in_own_time(server);
            return hardware.enter_lent(processor, caller);
        }
        // It may have the right to run first, and nobody ran here who could be told.
        processor.set_current(core::ptr::null_mut());
        hardware.make_ready(server);
        let lender = hardware.enter(processor, caller);
        return resume(kernel, lender, true);
    }
    hardware.make_ready(caller);
    if waiting { block(kernel) } else { resume(kernel, guest, true) }
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
    let hardware = &mut kernel.hardware;
    let server = guest.key();
    if let Some(next) = next
        && next.may_come()
        && hardware.schedule.pass_on(&mut hardware.records, server, caller, next)
    {
        hardware.save(processor, guest.as_ptr());
        if waiting {
            hardware.wait_in_own_time(server);
            return hardware.enter(processor, next);
        }
        // As in `give_back`.
        hardware.make_ready(server);
        let next = hardware.enter(processor, next);
        return resume(kernel, next, true);
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
