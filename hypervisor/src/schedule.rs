//! Which logical processor runs on which physical one: each has a home, whose queue it waits in; a queue is served in turn.

use handover_abi::Counter;
use handover_core::vgic::Entry;
use handover_core::{PARTITIONS_MAX, PartitionIndex, Progress};

use crate::arch;
use crate::arch::registers::{CNTFRQ_EL0, CNTHP_CTL_EL2, CNTHP_CVAL_EL2, CNTPCT_EL0, ICH_HCR_EL2};
use crate::drivers::gic;
use crate::interrupt;
use crate::kernel::{Hardware, KERNEL, Kernel};
use crate::lock::Guard;
use crate::partition::{Halt, RunState, Slot, VcpuId, WATCHDOG};
use crate::processor::{self, PROCESSORS_MAX, Processor};
use crate::vcpu::{HardwareListRegisters, Running, SavedListRegisters};

/// Turns a second.
const TURNS_PER_SECOND: u64 = 200;

/// One physical processor's part.
struct Queue {
    head: Option<VcpuId>,
    tail: Option<VcpuId>,
    /// Who is on it.
    running: Option<VcpuId>,
    /// When the running one's turn is over, if others wait; `u64::MAX` if none do.
    turn_end: u64,
    /// Logical processors with a deadline, earliest first.
    deadlines: Option<VcpuId>,
    /// What CNTHP_CVAL_EL2 holds; `u64::MAX` when the timer is off.
    programmed: u64,
    /// Logical processors that have their home here.
    homes: u32,
}

/// All of them.
pub struct Schedule {
    queues: [Queue; PROCESSORS_MAX],
    turn: u64,
    /// Partitions that have ended and hold things still: bit n for index n.
    reaping: u128,
    /// When a request is given up next, as a physical count; `u64::MAX` if none has a timeout.
    request_deadline: u64,
    /// Whose timer it is in.
    request_home: usize,
    /// Partitions whose watchdog bites.
    pub expired: u128,
}

impl Schedule {
    /// Nobody waits or runs.
    pub const fn new() -> Schedule {
        Schedule {
            queues: [const {
                Queue {
                    head: None,
                    tail: None,
                    running: None,
                    turn_end: u64::MAX,
                    deadlines: None,
                    programmed: u64::MAX,
                    homes: 0,
                }
            }; PROCESSORS_MAX],
            turn: 0,
            reaping: 0,
            request_deadline: u64::MAX,
            request_home: 0,
            expired: 0,
        }
    }

    /// Reads how fast the counter goes.
    pub fn start(&mut self) {
        self.turn = CNTFRQ_EL0.get() / TURNS_PER_SECOND;
    }

    /// Chooses a home: the physical processor with the fewest logical ones.
    pub fn choose_home(&mut self) -> u8 {
        let count = processor::count();
        let home = (0..count).min_by_key(|&n| self.queues[n].homes).unwrap_or(0);
        self.queues[home].homes += 1;
        home as u8
    }

    /// Who runs on this processor.
    pub fn running(&self) -> Option<VcpuId> {
        self.queues[processor::this().index()].running
    }

    /// Gives a home up.
    pub fn leave_home(&mut self, home: u8) {
        self.queues[usize::from(home)].homes -= 1;
    }
}

impl Hardware {
    fn slot(&mut self, id: VcpuId) -> &mut Slot {
        // An id is only ever made of a partition that is there, and outlives it in no queue.
        &mut self.shell_mut(id.partition).expect("a scheduled partition exists").slots[usize::from(id.index)]
    }

    /// Someone should look at new interrupts, or at its partition's end: interrupts the physical processor of one that runs, wakes
    /// one that waits.
    pub fn attend(&mut self, partition: PartitionIndex, index: usize) {
        let id = VcpuId { partition, index: index as u8 };
        let slot = self.slot(id);
        match slot.state {
            RunState::Off | RunState::Ready => {}
            RunState::Running => {
                // It is looked at before it goes on ([`crate::trap::resume`]), which is soon if it runs elsewhere.
                // SAFETY: a running slot names a placed frame; the field is touched under the lock alone, which this is.
                unsafe { (*slot.vcpu).attention = true };
                let home = usize::from(slot.home);
                if home != processor::this().index() {
                    gic::send(gic::SGI_ATTENTION, home);
                }
            }
            RunState::Blocked => self.make_ready(id),
        }
    }

    /// Puts one that is off or waits into its home's queue.
    pub fn make_ready(&mut self, id: VcpuId) {
        let Some(halt) = self.shell(id.partition).map(|shell| shell.halt) else { return };
        let slot = self.slot(id);
        if halt != Halt::No {
            if halt == Halt::Paused {
                // Made ready by `resume_processors`.
                slot.state = RunState::Blocked;
            }
            return;
        }
        slot.state = RunState::Ready;
        slot.next = None;
        let home = usize::from(slot.home);
        match self.schedule.queues[home].tail.replace(id) {
            Some(last) => self.slot(last).next = Some(id),
            None => self.schedule.queues[home].head = Some(id),
        }
        if home != processor::this().index() {
            gic::send(gic::SGI_ATTENTION, home);
        } else {
            self.start_turn(home);
        }
    }

    /// Others wait: the running one's turn is limited from now on.
    fn start_turn(&mut self, home: usize) {
        let turn = self.schedule.turn;
        let reaping = self.schedule.reaping != 0;
        let queue = &mut self.schedule.queues[home];
        if queue.running.is_some() && (reaping || queue.head.is_some()) && queue.turn_end == u64::MAX {
            queue.turn_end = CNTPCT_EL0.get() + turn;
        }
        self.program_timer(home);
    }

    /// Takes one out of its home's queue, wherever it is there.
    fn remove_ready(&mut self, id: VcpuId) {
        let home = usize::from(self.slot(id).home);
        let after = self.slot(id).next.take();
        let mut previous = None;
        let mut at = self.schedule.queues[home].head;
        while let Some(here) = at {
            if here == id {
                match previous {
                    Some(previous) => self.slot(previous).next = after,
                    None => self.schedule.queues[home].head = after,
                }
                if after.is_none() {
                    self.schedule.queues[home].tail = previous;
                }
                return;
            }
            previous = at;
            at = self.slot(here).next;
        }
    }

    /// Sets when one of a logical processor's timers is due (`u64::MAX`: never).
    #[inline]
    pub fn set_deadline(&mut self, id: VcpuId, deadline: u64) {
        let slot = self.slot(id);
        let (old, home) = (slot.deadline, usize::from(slot.home));
        if old != deadline {
            self.change_deadline(id, old, deadline, home);
        }
    }

    #[inline(never)]
    fn change_deadline(&mut self, id: VcpuId, old: u64, deadline: u64, home: usize) {
        if old != u64::MAX {
            self.remove_deadline(id, home);
        }
        self.slot(id).deadline = deadline;
        if deadline != u64::MAX {
            let mut previous = None;
            let mut at = self.schedule.queues[home].deadlines;
            while let Some(here) = at.filter(|&here| self.slot(here).deadline <= deadline) {
                previous = at;
                at = self.slot(here).next_deadline;
            }
            self.slot(id).next_deadline = at;
            match previous {
                Some(previous) => self.slot(previous).next_deadline = Some(id),
                None => self.schedule.queues[home].deadlines = Some(id),
            }
        }
        self.program_timer(home);
    }

    fn remove_deadline(&mut self, id: VcpuId, home: usize) {
        let after = self.slot(id).next_deadline.take();
        let mut previous = None;
        let mut at = self.schedule.queues[home].deadlines;
        while let Some(here) = at {
            if here == id {
                match previous {
                    Some(previous) => self.slot(previous).next_deadline = after,
                    None => self.schedule.queues[home].deadlines = after,
                }
                return;
            }
            previous = at;
            at = self.slot(here).next_deadline;
        }
    }

    /// Sets this processor's timer to what is due first. What is due later than it is set to needs no change: it fires once for nothing, and
    /// is set anew then. Another processor's is set by itself, when it is interrupted or comes back.
    #[inline]
    fn program_timer(&mut self, home: usize) {
        if home != processor::this().index() {
            return;
        }
        let first = self.schedule.queues[home].deadlines;
        let deadline = first.map_or(u64::MAX, |id| self.slot(id).deadline);
        let queue = &mut self.schedule.queues[home];
        let mut due = deadline.min(queue.turn_end);
        if home == self.schedule.request_home {
            due = due.min(self.schedule.request_deadline);
        }
        if due < queue.programmed {
            queue.programmed = due;
            CNTHP_CVAL_EL2.set(due);
            CNTHP_CTL_EL2.set(1);
        }
    }

    /// Sets when a request is given up next. An earlier one comes into this processor's timer: who runs here has made it.
    pub fn set_request_deadline(&mut self, deadline: Option<u64>) {
        let deadline = deadline.unwrap_or(u64::MAX);
        let home = processor::this().index();
        if deadline < self.schedule.request_deadline {
            self.schedule.request_home = home;
        }
        self.schedule.request_deadline = deadline;
        self.program_timer(home);
    }

    /// This processor's timer has fired. Returns whether the running one's turn is over.
    pub fn timer_interrupt(&mut self) -> bool {
        let home = processor::this().index();
        let now = CNTPCT_EL0.get();
        // Off unless something is due still, or it would stay pending.
        self.schedule.queues[home].programmed = u64::MAX;
        CNTHP_CTL_EL2.set(0);
        while let Some(id) = self.schedule.queues[home].deadlines
            && self.slot(id).deadline <= now
        {
            self.set_deadline(id, u64::MAX);
            self.timer_due(id);
        }
        let over = self.schedule.queues[home].turn_end <= now;
        if over {
            self.schedule.queues[home].turn_end = u64::MAX;
        }
        self.program_timer(home);
        over
    }

    /// A logical processor's own timer is due.
    fn timer_due(&mut self, id: VcpuId) {
        if id.index == WATCHDOG {
            return self.watchdog_due(id.partition);
        }
        self.update_physical_timer(id);
        if self.slot(id).state == RunState::Blocked {
            // The virtual timer fires by itself once it is loaded.
            self.make_ready(id);
        }
    }

    /// What is due first for one that is not on a processor.
    fn deadline_of(&mut self, id: VcpuId) -> u64 {
        let vcpu = self.slot(id).vcpu;
        // SAFETY: called by the processor that has just saved this context, under the lock.
        unsafe { (*vcpu).context.deadline() }.unwrap_or(u64::MAX)
    }

    /// This processor has been interrupted for its attention: others may have filled its queue.
    pub fn notice_queue(&mut self) {
        self.start_turn(processor::this().index());
    }

    /// Whether anyone else waits for this processor.
    #[inline]
    pub fn others_wait(&self) -> bool {
        self.schedule.queues[processor::this().index()].head.is_some()
    }

    /// Saves the running one's registers; it goes into `state`.
    fn leave(&mut self, processor: &Processor, state: RunState) {
        let home = processor.index();
        let Some(id) = self.schedule.queues[home].running.take() else { return };
        self.schedule.queues[home].turn_end = u64::MAX;
        let vcpu = processor.current();
        let count = self.list_registers;
        let capabilities = self.capabilities;
        let Some(shell) = self.shell_mut(id.partition) else { return };
        shell.running -= 1;
        shell.slots[usize::from(id.index)].state = state;
        let occupied = shell.vgic.occupied(usize::from(id.index));
        let in_flight = shell.vgic.in_flight(usize::from(id.index), &HardwareListRegisters { count });
        // SAFETY: this processor runs it, so it is the one to touch it.
        let context = unsafe { &mut (*vcpu).context };
        if processor.float_used() {
            processor.set_float_used(false);
            context.save_float();
            arch::start::trap_float(true);
        }
        context.save(&capabilities, occupied);
        deactivate(in_flight);
        processor.set_current(core::ptr::null_mut());
    }

    /// Loads a logical processor's registers and makes it the running one.
    fn enter(&mut self, processor: &Processor, id: VcpuId) -> Running {
        let home = processor.index();
        self.schedule.queues[home].running = Some(id);
        let capabilities = self.capabilities;
        let count = self.list_registers;
        let slot = self.slot(id);
        slot.state = RunState::Running;
        let vcpu = slot.vcpu;
        let shell = self.shell_mut(id.partition).expect("a scheduled partition exists");
        shell.running += 1;
        let index = usize::from(id.index);
        let last = core::mem::replace(&mut shell.last[home], id.index + 1);
        let occupied = shell.vgic.occupied(index);
        // SAFETY: it was ready and is running now, here: this processor is the one to touch it.
        let context = unsafe {
            (*vcpu).attention = false;
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
        processor.set_current(vcpu);
        // From here on only the physical timer needs EL2's own.
        let [control, compare] = context.physical_timer;
        let deadline =
            if control & 3 == 1 { compare.saturating_add(context.counter_offset) } else { u64::MAX };
        self.set_deadline(id, deadline);
        self.start_turn(home);
        self.flush(id);
        // SAFETY: it was ready, so that it is placed and its partition has not ended; it runs here from now on.
        unsafe { Running::new(vcpu) }
    }

    /// Brings the running logical processor's list registers up to date.
    pub fn flush(&mut self, id: VcpuId) {
        let count = self.list_registers;
        let Some(shell) = self.shell_mut(id.partition) else { return };
        let index = usize::from(id.index);
        if !shell.vgic.dirty(index) {
            return;
        }
        self.flush_now(id, count);
    }

    /// The same, also when nothing has changed: a maintenance interrupt.
    pub fn flush_now(&mut self, id: VcpuId, count: usize) {
        let Some(shell) = self.shell_mut(id.partition) else { return };
        let index = usize::from(id.index);
        let entry = shell.vgic.flush(index, &mut HardwareListRegisters { count });
        let vcpu = shell.slots[index].vcpu;
        let hcr = 1 | entry.maintenance;
        // SAFETY: it runs here, so this processor is the one to touch it.
        let state = unsafe {
            (*vcpu).counters.count(Counter::ListRegisterUpdates);
            &mut (*vcpu).context.interrupts
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

    /// Stops all of a partition's logical processors that do not run, and asks those that do to leave. What it holds is given back once
    /// all have.
    pub fn stop_processors(&mut self, partition: PartitionIndex) {
        let Some(shell) = self.shell_mut(partition) else { return };
        if shell.halt == Halt::Ending {
            return;
        }
        shell.halt = Halt::Ending;
        for index in 0..shell.count {
            let id = VcpuId { partition, index };
            match self.slot(id).state {
                RunState::Off => {}
                RunState::Running => self.attend(partition, usize::from(index)),
                RunState::Ready => {
                    self.remove_ready(id);
                    self.slot(id).state = RunState::Off;
                }
                RunState::Blocked => self.slot(id).state = RunState::Off,
            }
            self.set_deadline(id, u64::MAX);
        }
        self.set_deadline(VcpuId { partition, index: WATCHDOG }, u64::MAX);
        self.check_halted(partition);
    }

    /// The same for one that will be resumed. Returns whether none of them is on a physical one any more; if some are, they leave soon, as
    /// they are interrupted.
    pub fn pause_processors(&mut self, partition: PartitionIndex) -> bool {
        let Some(shell) = self.shell_mut(partition) else { return true };
        if shell.halt == Halt::No {
            shell.halt = Halt::Paused;
            for index in 0..shell.count {
                let id = VcpuId { partition, index };
                match self.slot(id).state {
                    RunState::Off => {}
                    RunState::Running => self.attend(partition, usize::from(index)),
                    RunState::Ready => {
                        self.remove_ready(id);
                        self.slot(id).state = RunState::Blocked;
                    }
                    RunState::Blocked => self.set_deadline(id, u64::MAX),
                }
            }
            self.set_deadline(VcpuId { partition, index: WATCHDOG }, u64::MAX);
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
        let halted_at = core::mem::replace(&mut shell.halted_at, u64::MAX);
        if halted_at != u64::MAX {
            shell.counter_offset += CNTPCT_EL0.get().saturating_sub(halted_at);
            for slot in &shell.slots[..usize::from(shell.count)] {
                // SAFETY: the slots up to `count` have frames; none runs, and the kernel is locked.
                unsafe { (*slot.vcpu).context.counter_offset = shell.counter_offset };
            }
        }
        for index in 0..shell.count {
            let id = VcpuId { partition, index };
            if self.slot(id).state == RunState::Blocked {
                // One that waited waits again by itself; its timers are looked at when it is entered.
                self.make_ready(id);
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
                self.schedule.reaping |= 1 << partition.get();
                self.start_turn(processor::this().index());
            }
        }
    }

    /// A logical processor switches itself off, or leaves for good because its partition has ended.
    pub fn switch_off(&mut self, processor: &Processor, id: VcpuId) {
        self.leave(processor, RunState::Off);
        self.set_deadline(id, u64::MAX);
        self.check_halted(id.partition);
    }
}

/// Deactivates private physical interrupts (bit n: INTID n).
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
    /// It still wants to run: its turn is over.
    Ready,
    /// It waits for an interrupt.
    Blocked,
    /// It stands still: its partition is paused.
    Paused(VcpuId),
    /// It is off, or its partition has ended.
    Off(VcpuId),
}

/// Finds what to run next, waiting for it if need be. Gives the kernel up meanwhile.
pub fn schedule(mut kernel: Guard<Kernel>, leave: Leave) -> Running {
    let processor = processor::this();
    let home = processor.index();
    match leave {
        Leave::Nothing => {}
        Leave::Off(id) => kernel.hardware.switch_off(processor, id),
        Leave::Paused(id) => {
            kernel.hardware.leave(processor, RunState::Blocked);
            kernel.hardware.set_deadline(id, u64::MAX);
            kernel.hardware.check_halted(id.partition);
        }
        Leave::Ready => {
            if let Some(id) = kernel.hardware.schedule.queues[home].running {
                kernel.hardware.leave(processor, RunState::Ready);
                kernel.hardware.make_ready(id);
            }
        }
        Leave::Blocked => {
            if let Some(id) = kernel.hardware.schedule.queues[home].running {
                kernel.hardware.leave(processor, RunState::Blocked);
                let deadline = kernel.hardware.deadline_of(id);
                kernel.hardware.set_deadline(id, deadline);
            }
        }
    }
    loop {
        let hardware = &mut kernel.hardware;
        if let Some(id) = hardware.schedule.queues[home].head {
            let after = hardware.slot(id).next.take();
            let queue = &mut hardware.schedule.queues[home];
            queue.head = after;
            if after.is_none() {
                queue.tail = None;
            }
            return hardware.enter(processor, id);
        }
        kernel = idle(kernel);
    }
}

/// Nothing to run: sends output, gives back what ended partitions hold, or waits for an interrupt.
fn idle(mut kernel: Guard<Kernel>) -> Guard<Kernel> {
    // With no room left in the device it interrupts when there is some.
    let talking = kernel.hardware.consoles.pending() && kernel.hardware.console_output();
    // Either of these may have made someone ready here.
    let busy = reap(&mut kernel) || talking || kernel.hardware.others_wait();
    drop(kernel);
    if !busy && !arch::interrupt_pending() {
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
    let schedule = &kernel.hardware.schedule;
    if schedule.request_deadline <= now && schedule.request_home == processor::this().index() {
        let _: Progress = kernel.system.expire(&mut kernel.hardware, now);
        kernel.hardware.set_request_deadline(kernel.system.next_timeout());
    }
}

/// One bounded step of giving back what an ended partition holds. Returns whether there is more.
pub fn reap(kernel: &mut Kernel) -> bool {
    let reaping = kernel.hardware.schedule.reaping;
    if reaping == 0 {
        return false;
    }
    let index = reaping.trailing_zeros() as usize;
    if let Some(partition) = PartitionIndex::new(index.min(PARTITIONS_MAX - 1))
        && kernel.system.reap(&mut kernel.hardware, partition) == Progress::Done
    {
        kernel.hardware.schedule.reaping &= !(1 << index);
    }
    kernel.hardware.schedule.reaping != 0
}
