//! The kernel's state, and who goes on after an exception.

use alloc::{boxed::Box, collections::BTreeMap, rc::Rc, vec::Vec};
use core::{cell::RefCell, cell::UnsafeCell};

use handover_files::{Caller, Files, TerminalSignal};
use handover_guest::{interrupts, println, timer};
use handover_kernel::{
    Errno,
    clock::{Nanoseconds, Rate},
    frames::Frames,
    futex::Futexes,
    registers::Registers,
    schedule::{Queue, TURN},
    signal::Signal,
    timers::Timers,
};
use rand_chacha::ChaCha20Rng;

use crate::{
    arch,
    asids::Asids,
    first::First,
    host::Host,
    interrupt,
    memory::Space,
    region::{self, Regions},
    shared,
    syscall::{self, Stop},
    task::{Call, Key, Pid, Process, State, Tasks, Thread, Tid, shown},
};

/// Everything that the kernel knows.
pub struct Kernel {
    pub tasks: Tasks,
    pub frames: Frames,
    pub asids: Asids,
    pub futexes: Futexes<Tid>,
    pub random: ChaCha20Rng,
    /// The thread that made the system call, or was interrupted.
    pub current: Tid,
    pub statistics: Statistics,
    /// Nanoseconds between 1970 and the counter's zero.
    pub epoch: Nanoseconds,
    pub limits: Limits,
    pub files: Files,
    pub first: First,
    pub regions: Regions,
    ready: Queue<Tid>,
    timers: Timers<Tid>,
    sleepers: BTreeMap<Key, Vec<Tid>>,
    rate: Rate,
    /// Whose FP registers and thread pointer are loaded.
    loaded: Option<Tid>,
    /// The address space that is in place, by its id.
    space: Option<u64>,
    /// A root table with nothing in it.
    nowhere: u64,
    /// When the current thread's turn ends, if others wait.
    turn_end: Option<Nanoseconds>,
    /// Since when the current thread's time counts.
    since: Nanoseconds,
}

/// What programs may have at most.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Frames of one address space.
    pub space: u64,
    /// Bytes of the kernel's own heap that must stay free when a program asks for something.
    pub reserve: usize,
    /// Bytes of message regions, all programs' together.
    pub regions: u64,
}

/// What has happened since the start.
#[derive(Clone, Debug, Default)]
pub struct Statistics {
    /// System calls that are not there, by number; from [`COUNTED_MAX`](handover_kernel::limits::COUNTED_MAX) on together.
    pub unknown: BTreeMap<u64, u64>,
    /// Changes of the running thread.
    pub switches: u64,
    /// Processes made.
    pub processes: u64,
    /// Time with nothing to do.
    pub idle: Nanoseconds,
}

struct Place(UnsafeCell<Option<Kernel>>);

// SAFETY: there is one processor, and the kernel runs with interrupts masked from an exception to its return: nobody runs beside it.
unsafe impl Sync for Place {}

static KERNEL: Place = Place(UnsafeCell::new(None));

/// Puts the kernel in its place.
///
/// # Safety
///
/// Once, before the first program runs.
pub unsafe fn install(kernel: Kernel) {
    // SAFETY: the caller's promise: nobody has a reference to it.
    unsafe { *KERNEL.0.get() = Some(kernel) };
}

/// The kernel.
///
/// # Safety
///
/// Once in each exception, at its start: the reference ends with it.
pub unsafe fn get() -> Option<&'static mut Kernel> {
    // SAFETY: the caller's promise; see `Place`.
    unsafe { (*KERNEL.0.get()).as_mut() }
}

impl Kernel {
    /// With no process yet.
    pub fn new(
        frames: Frames,
        asids: Asids,
        random: ChaCha20Rng,
        limits: Limits,
        nowhere: u64,
        files: Files,
        first: First,
    ) -> Kernel {
        Kernel {
            tasks: Tasks::default(),
            frames,
            asids,
            futexes: Futexes::default(),
            random,
            current: 0,
            statistics: Statistics::default(),
            epoch: 0,
            limits,
            files,
            first,
            regions: Regions::new(limits.regions),
            ready: Queue::default(),
            timers: Timers::default(),
            sleepers: BTreeMap::new(),
            rate: Rate::new(timer::frequency()),
            loaded: None,
            space: None,
            nowhere,
            turn_end: None,
            since: 0,
        }
    }

    /// Time since the counter's zero.
    pub fn now(&self) -> Nanoseconds {
        self.rate.time(timer::now())
    }

    // Whoever calls.

    /// The calling thread.
    pub fn thread(&mut self) -> Result<&mut Thread, Errno> {
        self.tasks.threads.get_mut(&self.current).map(Box::as_mut).ok_or(Errno::SRCH)
    }

    /// The calling process's number.
    pub fn pid(&self) -> Pid {
        self.tasks.threads.get(&self.current).map_or(0, |thread| thread.pid)
    }

    /// The calling process.
    pub fn process(&mut self) -> Result<&mut Process, Errno> {
        let pid = self.pid();
        self.tasks.processes.get_mut(&pid).ok_or(Errno::SRCH)
    }

    /// The caller's address space.
    pub fn space(&mut self) -> Result<Rc<RefCell<Space>>, Errno> {
        self.process()?.space.clone().ok_or(Errno::SRCH)
    }

    /// Reads the caller's memory.
    pub fn read(&mut self, address: u64, into: &mut [u8]) -> Result<(), Errno> {
        let space = self.space()?;
        space.borrow_mut().read(&mut self.frames, address, into)
    }

    /// Writes the caller's memory.
    pub fn write(&mut self, address: u64, from: &[u8]) -> Result<(), Errno> {
        let space = self.space()?;
        space.borrow_mut().write(&mut self.frames, address, from)
    }

    /// Reads 64-bit words of the caller's.
    pub fn read_words<const N: usize>(&mut self, address: u64) -> Result<[u64; N], Errno> {
        let mut words = [0; N];
        for (index, word) in words.iter_mut().enumerate() {
            let mut bytes = [0; 8];
            self.read(address.wrapping_add(8 * index as u64), &mut bytes)?;
            *word = u64::from_le_bytes(bytes);
        }
        Ok(words)
    }

    /// Writes 64-bit words of the caller's.
    pub fn write_words(&mut self, address: u64, words: &[u64]) -> Result<(), Errno> {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.write(address, &bytes)
    }

    /// Reads a string of the caller's that ends with a zero byte, of at most `most` bytes with it.
    pub fn read_string(&mut self, address: u64, most: usize) -> Result<Option<Vec<u8>>, Errno> {
        let space = self.space()?;
        space.borrow_mut().read_string(&mut self.frames, address, most)
    }

    /// Calls `call` with the caller's descriptors and the files, and with the frames for the program's memory.
    pub fn with_files<R>(
        &mut self,
        call: impl FnOnce(&mut Caller<'_>, &mut Frames) -> R,
    ) -> Result<R, Errno> {
        let now = self.now();
        let caller = self.pid();
        let descriptors = self.process()?.descriptors.clone().ok_or(Errno::SRCH)?;
        let mut host = Host {
            tasks: &self.tasks,
            random: &mut self.random,
            statistics: &self.statistics,
            regions: &mut self.regions,
            caller,
            now,
            epoch: self.epoch,
            frames: (self.frames.total(), self.frames.free()),
        };
        let mut descriptors = descriptors.borrow_mut();
        let result = call(&mut Caller::new(&mut self.files, &mut descriptors, &mut host), &mut self.frames);
        if host.regions.has_changed() {
            for mapping in host.regions.take_changed() {
                let now = mapping.current(&mut Caller::new(&mut self.files, &mut descriptors, &mut host));
                host.regions.refresh(&mapping, now);
            }
        }
        if let Some(address) = self.regions.take_begun() {
            self.space()?.borrow_mut().begin_region(&mut self.frames, address);
        }
        Ok(result)
    }

    /// Calls `call` with the files and what they need of the kernel, for a process (0: none).
    pub fn with_host<R>(&mut self, caller: Pid, call: impl FnOnce(&mut Files, &mut Host<'_>) -> R) -> R {
        let now = self.now();
        let mut host = Host {
            tasks: &self.tasks,
            random: &mut self.random,
            statistics: &self.statistics,
            regions: &mut self.regions,
            caller,
            now,
            epoch: self.epoch,
            frames: (self.frames.total(), self.frames.free()),
        };
        call(&mut self.files, &mut host)
    }

    /// Bytes have come from the console.
    pub fn console_input(&mut self, bytes: &[u8]) {
        self.with_host(0, |files, host| files.console_input(host, bytes));
        while let Some((what, group)) = self.files.take_terminal_signal() {
            let signal = match what {
                TerminalSignal::Interrupt => Signal::INT,
                TerminalSignal::Quit => Signal::QUIT,
                TerminalSignal::Suspend => Signal::TSTP,
                TerminalSignal::WindowChange => Signal::WINCH,
            };
            self.send_group_signal(group, signal);
        }
    }

    // Waiting.

    /// The state of the caller's system call, if it was tried before.
    pub fn call(&mut self) -> Option<&mut Call> {
        self.tasks.threads.get_mut(&self.current)?.call.as_mut()
    }

    /// Until when the system call waits: `first` says so when it is tried for the first time.
    pub fn deadline(
        &mut self,
        first: impl FnOnce(&mut Kernel) -> Result<Option<Nanoseconds>, Errno>,
    ) -> Result<Option<Nanoseconds>, Errno> {
        match self.call() {
            Some(call) => Ok(call.deadline),
            None => first(self),
        }
    }

    /// Whether a deadline has passed.
    pub fn is_over(&self, deadline: Option<Nanoseconds>) -> bool {
        deadline.is_some_and(|deadline| deadline <= self.now())
    }

    /// Has the current thread wait.
    fn block(&mut self, call: Call) {
        let tid = self.current;
        if let Some(deadline) = call.deadline {
            self.timers.add(self.rate.ticks(deadline), tid);
        }
        for &key in &call.keys {
            self.sleepers.entry(key).or_default().push(tid);
        }
        if let Ok(thread) = self.thread() {
            thread.call = Some(call);
            thread.state = State::Blocked;
        }
    }

    /// Has a thread go on that waits: its system call is tried again.
    pub fn wake(&mut self, tid: Tid) {
        let Some(thread) = self.tasks.threads.get_mut(&tid) else { return };
        match thread.state {
            State::Blocked => thread.state = State::Ready,
            State::Stopped { blocked: true } => thread.state = State::Stopped { blocked: false },
            _ => return,
        }
        let ready = thread.state == State::Ready;
        self.forget_waiting(tid);
        if ready {
            self.ready.push(tid);
        }
    }

    /// Takes a thread out of everything it waits in, but for a futex that it is still queued at.
    fn forget_waiting(&mut self, tid: Tid) {
        let Some(call) = self.tasks.threads.get(&tid).and_then(|thread| thread.call.as_ref()) else { return };
        if let Some(deadline) = call.deadline {
            self.timers.remove(self.rate.ticks(deadline), tid);
        }
        for key in &call.keys {
            if let Some(sleepers) = self.sleepers.get_mut(key) {
                sleepers.retain(|&other| other != tid);
                if sleepers.is_empty() {
                    self.sleepers.remove(key);
                }
            }
        }
    }

    /// Takes a thread out of its futex's queue.
    pub fn leave_futex(&mut self, tid: Tid) {
        let Some(call) = self.tasks.threads.get_mut(&tid).and_then(|thread| thread.call.as_mut()) else {
            return;
        };
        if let Some(word) = call.futex.take() {
            self.futexes.remove(word, tid);
        }
    }

    /// Wakes everybody who waits for something.
    pub fn wake_all(&mut self, key: Key) {
        for tid in self.sleepers.remove(&key).unwrap_or_default() {
            self.wake(tid);
        }
    }

    /// A new thread is ready, or one whose process goes on.
    pub fn make_ready(&mut self, tid: Tid) {
        self.ready.push(tid);
    }

    /// A thread ends: nothing knows it any more.
    pub fn forget_thread(&mut self, tid: Tid) {
        self.forget_waiting(tid);
        self.leave_futex(tid);
        self.ready.remove(tid);
        self.tasks.threads.remove(&tid);
        if self.loaded == Some(tid) {
            self.loaded = None;
        }
    }

    /// An address space is about to go: it must not be in place.
    pub fn leave_space(&mut self, id: u64) {
        if self.space == Some(id) {
            arch::set_address_space(self.nowhere, 0);
            self.space = None;
        }
    }

    // Exceptions.

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
            self.ready.push(self.current);
        }
        while let Some(tid) = self.ready.pop() {
            if self.tasks.threads.get(&tid).is_some_and(|thread| thread.state == State::Ready) {
                self.current = tid;
                self.statistics.switches += 1;
                return true;
            }
        }
        self.current = 0;
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
