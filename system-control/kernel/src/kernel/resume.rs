//! Who goes on after an exception.

use handover_guest::{interrupts, println, timer};
use handover_kernel::{clock::Nanoseconds, registers::Registers, schedule::TURN};

use crate::{
    arch, interrupt,
    region::{self},
    shared,
    syscall::{self, Stop},
    task::{Key, Pid, State, shown},
};

use super::Kernel;

impl Kernel {
    /// A system call of the current thread's.
    pub fn system_call(&mut self) {
        let Ok(thread) = self.thread() else { return };
        let number = thread.registers.x[8];
        let arguments = [0, 1, 2, 3, 4, 5].map(|index| thread.registers.x[index]);
        let result = syscall::carry_out(self, number, arguments);
        // The system call may have ended its own thread.
        let Ok(thread) = self.thread() else { return };
        match result {
            Ok(value) => {
                thread.registers.x[0] = value;
                self.end_call();
            }
            Err(Stop::Failed(errno)) => {
                thread.registers.x[0] = errno.to_x0();
                self.end_call();
            }
            Err(Stop::Replaced) => self.end_call(),
            Err(Stop::Wait(call)) => self.block(call),
        }
    }

    /// The system call is over.
    pub fn end_call(&mut self) {
        if self.call().is_some() {
            self.leave_futex(self.current);
            if let Ok(thread) = self.thread() {
                thread.call = None;
            }
        }
    }

    /// An interrupt.
    pub fn interrupt(&mut self) {
        interrupt::take(self);
    }

    /// The registers of the current thread, if it just goes on: nothing has happened that it or somebody else has to be told of. The
    /// timer stays as it is, so that an interrupt takes the longer way.
    fn goes_on(&self) -> Option<*const Registers> {
        let quiet = self.first.ended.is_none()
            && !shared::UNUSED.any()
            && !region::UNUSED.any()
            && !self.files.has_wakeups();
        let on_turn = match self.turn_end {
            None => self.ready.is_empty(),
            Some(end) => !self.ready.is_empty() && self.now() < end,
        };
        if !quiet || !on_turn || self.loaded != Some(self.current) {
            return None;
        }
        let thread = self.tasks.threads.get(&self.current)?;
        let process = self.tasks.processes.get(&thread.pid)?;
        let signals = thread.pending.set().union(process.pending.set()).without(thread.mask.maskable());
        let in_place = process.space.as_ref()?.borrow().id == self.space?;
        let goes_on = thread.state == State::Ready && thread.call.is_none() && signals.is_empty() && in_place;
        goes_on.then_some(&raw const thread.registers)
    }

    /// Goes on after a system call or a fault: mostly with who made it.
    pub fn go_on(&mut self) -> *const Registers {
        match self.goes_on() {
            Some(registers) => registers,
            None => self.resume(),
        }
    }

    /// Goes on with whoever's turn it is. The timer is set anew.
    pub fn resume(&mut self) -> *const Registers {
        loop {
            self.attend_first();
            shared::release_unused(&mut self.frames);
            self.release_mapped_files();
            self.wake_due();
            while let Some(key) = self.files.next_wakeup() {
                self.wake_all(Key::File(key));
            }
            if !self.choose() {
                self.idle();
                continue;
            }
            if !self.deliver_signals() {
                continue;
            }
            if self.call().is_some() {
                // It was woken: try again.
                self.system_call();
                continue;
            }
            self.set_turn();
            return self.load();
        }
    }

    /// Gives back the holds of message files that are mapped no more.
    fn release_mapped_files(&mut self) {
        for hold in region::UNUSED.take() {
            self.with_host(0, |files, host| files.release(hold, host));
        }
    }

    fn wake_due(&mut self) {
        if self.timers.next().is_none() {
            return;
        }
        let now = timer::now();
        while let Some(tid) = self.timers.take_due(now) {
            self.wake(tid);
        }
    }

    /// Whether somebody can run: the current thread, unless its turn is over, or the next one.
    fn choose(&mut self) -> bool {
        let current_runs =
            self.tasks.threads.get(&self.current).is_some_and(|thread| thread.state == State::Ready);
        let turn_over = self.turn_end.is_some_and(|end| end <= self.now());
        if current_runs && (!turn_over || self.ready.is_empty()) {
            return true;
        }
        self.count_time();
        self.turn_end = None;
        if current_runs {
            self.make_ready(self.current);
        }
        while let Some(tid) = self.ready.pop() {
            if self.tasks.threads.get(&tid).is_some_and(|thread| thread.state == State::Ready) {
                self.current = tid;
                self.pay();
                self.statistics.switches += 1;
                return true;
            }
        }
        self.current = 0;
        self.pay();
        false
    }

    /// Adds the time since the last change to the process that ran.
    fn count_time(&mut self) {
        let now = self.now();
        let passed = now.saturating_sub(self.since);
        self.since = now;
        match self.process() {
            Ok(process) => process.used += passed,
            Err(_) => self.statistics.idle += passed,
        }
    }

    /// The current thread gives its turn up.
    pub fn end_turn(&mut self) {
        self.turn_end = Some(0);
    }

    /// A process ends in a way that somebody should know of.
    pub fn say_end(&self, pid: Pid, how: core::fmt::Arguments<'_>) {
        let name =
            self.tasks.processes.get(&pid).map_or_else(Default::default, |process| shown(&process.name));
        println!("system-control: process {pid} ({name}) {how}");
    }

    /// Time that the current process has used, up to now.
    pub fn used(&mut self) -> Nanoseconds {
        self.count_time();
        self.process().map_or(0, |process| process.used)
    }

    fn idle(&mut self) {
        match self.timers.next() {
            Some(deadline) => timer::set_deadline(deadline),
            None => timer::stop(),
        }
        interrupts::wait_for_interrupt();
        interrupt::take(self);
    }

    /// Has the timer end the turn, if others wait, and wake who sleeps.
    fn set_turn(&mut self) {
        if self.ready.is_empty() {
            self.turn_end = None;
        } else if self.turn_end.is_none() {
            self.turn_end = Some(self.now() + TURN);
        }
        let turn = self.turn_end.map(|end| self.rate.ticks(end));
        match [turn, self.timers.next()].into_iter().flatten().min() {
            Some(deadline) => timer::set_deadline(deadline),
            None => timer::stop(),
        }
    }

    /// Loads what belongs to the current thread; its general registers.
    fn load(&mut self) -> *const Registers {
        let tid = self.current;
        if self.loaded != Some(tid) {
            if let Some(old) = self.loaded.and_then(|old| self.tasks.threads.get_mut(&old)) {
                arch::save_vectors(&mut old.vectors);
                old.pointer = arch::thread_pointer();
            }
            if let Some(new) = self.tasks.threads.get(&tid) {
                arch::load_vectors(&new.vectors);
                arch::set_thread_pointer(new.pointer);
            }
            self.loaded = Some(tid);
        }
        if let Ok(space) = self.space() {
            let space = space.borrow();
            if self.space != Some(space.id) {
                arch::set_address_space(space.root(), space.asid);
                self.space = Some(space.id);
            }
        }
        match self.tasks.threads.get(&tid) {
            Some(thread) => &raw const thread.registers,
            None => unreachable!("`choose` found the thread"),
        }
    }

    /// Saves the current thread's FP registers and thread pointer to its record, which is what counts from now on.
    pub fn unload(&mut self) {
        let tid = self.current;
        if self.loaded != Some(tid) {
            return;
        }
        if let Ok(thread) = self.thread() {
            arch::save_vectors(&mut thread.vectors);
            thread.pointer = arch::thread_pointer();
        }
        self.loaded = None;
    }
}
