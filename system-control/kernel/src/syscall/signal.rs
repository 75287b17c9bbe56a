//! Signals: sending, masking, handling.

use alloc::vec::Vec;

use handover_kernel::{
    Errno,
    clock::join,
    layout::TRAMPOLINE,
    registers::Registers,
    signal::{Action, Disposition, Info, Pending, Signal, SignalSet},
    signal_frame::{self, Saved, Stack},
};
use linux_raw_sys::general as linux;

use super::{Outcome, Stop};
use crate::{
    kernel::Kernel,
    task::{Call, End, Key, News, Pid, State, Tid},
};

/// Bytes of a `sigset_t`.
const SET_SIZE: u64 = 8;
/// The smallest alternative stack: MINSIGSTKSZ.
const STACK_MIN: u64 = 5120;

fn read_set(kernel: &mut Kernel, address: u64, size: u64) -> Result<SignalSet, Errno> {
    if size != SET_SIZE {
        return Err(Errno::INVAL);
    }
    let [bits] = kernel.read_words(address)?;
    Ok(SignalSet(bits))
}

/// `rt_sigaction`.
pub fn action(kernel: &mut Kernel, number: u64, new: u64, old: u64, size: u64) -> Outcome {
    let signal = Signal::new(number).ok_or(Errno::INVAL)?;
    if size != SET_SIZE || new != 0 && matches!(signal, Signal::KILL | Signal::STOP) {
        return Err(Errno::INVAL.into());
    }
    let given: Option<[u64; 4]> = if new == 0 { None } else { Some(kernel.read_words(new)?) };
    let actions = kernel.process()?.actions.clone();
    if old != 0 {
        let action = actions.borrow().get(signal);
        kernel.write_words(old, &[action.handler, action.flags, action.restorer, action.mask.0])?;
    }
    if let Some([handler, flags, restorer, mask]) = given {
        let action = Action { handler, flags, restorer, mask: SignalSet(mask) };
        actions.borrow_mut().set(signal, action);
        // What is ignored now is not kept either.
        if actions.borrow().disposition(signal) == Disposition::Ignore {
            let process = kernel.process()?;
            process.pending.take(signal);
            for tid in process.threads.clone() {
                if let Some(thread) = kernel.tasks.threads.get_mut(&tid) {
                    thread.pending.take(signal);
                }
            }
        }
    }
    Ok(0)
}

/// `rt_sigprocmask`.
pub fn mask(kernel: &mut Kernel, how: u64, new: u64, old: u64, size: u64) -> Outcome {
    if size != SET_SIZE {
        return Err(Errno::INVAL.into());
    }
    let before = kernel.thread()?.mask;
    let after = if new == 0 {
        None
    } else {
        let set = read_set(kernel, new, size)?;
        Some(match how as u32 {
            linux::SIG_BLOCK => before.union(set),
            linux::SIG_UNBLOCK => before.without(set),
            linux::SIG_SETMASK => set,
            _ => return Err(Errno::INVAL.into()),
        })
    };
    if old != 0 {
        kernel.write_words(old, &[before.0])?;
    }
    if let Some(after) = after {
        kernel.thread()?.mask = after.maskable();
    }
    Ok(0)
}

/// `rt_sigpending`.
pub fn pending(kernel: &mut Kernel, address: u64, size: u64) -> Outcome {
    if size != SET_SIZE {
        return Err(Errno::INVAL.into());
    }
    let thread = kernel.thread()?;
    let (own, mask) = (thread.pending.set(), thread.mask);
    let all = own.union(kernel.process()?.pending.set());
    kernel.write_words(address, &[all.0 & mask.0])?;
    Ok(0)
}

/// `rt_sigsuspend`: another mask until a handler has run.
pub fn suspend(kernel: &mut Kernel, set: u64, size: u64) -> Outcome {
    if kernel.call().is_none() {
        let set = read_set(kernel, set, size)?;
        let thread = kernel.thread()?;
        thread.saved_mask = Some(thread.mask);
        thread.mask = set.maskable();
    }
    Err(Stop::Wait(Call::default()))
}

/// `rt_sigtimedwait`: takes one of these signals, which are masked, without a handler.
pub fn wait(kernel: &mut Kernel, set: u64, info: u64, timeout: u64, size: u64) -> Outcome {
    let wanted = read_set(kernel, set, size)?;
    let deadline = kernel.deadline(|kernel| {
        if timeout == 0 {
            return Ok(None);
        }
        let words: [u64; 2] = kernel.read_words(timeout)?;
        Ok(Some(kernel.now().saturating_add(join(words.map(|word| word as i64))?)))
    })?;
    let unwanted = SignalSet(!wanted.0);
    let own = kernel.thread()?.pending.take_next(unwanted);
    let taken = match own {
        Some(taken) => Some(taken),
        None => kernel.process()?.pending.take_next(unwanted),
    };
    if let Some((signal, from)) = taken {
        if info != 0 {
            kernel.write(info, &signal_frame::siginfo(signal, &from))?;
        }
        return Ok(u64::from(signal.number()));
    }
    if kernel.is_over(deadline) {
        return Err(Errno::AGAIN.into());
    }
    Err(Stop::Wait(Call { deadline, signals: wanted, ..Call::default() }))
}

/// `sigaltstack`.
pub fn alternative_stack(kernel: &mut Kernel, new: u64, old: u64) -> Outcome {
    let thread = kernel.thread()?;
    let mut stack = thread.stack;
    let on_it = stack.holds(thread.registers.sp);
    let given = if new == 0 {
        None
    } else {
        let mut bytes = [0; Stack::SIZE];
        kernel.read(new, &mut bytes)?;
        Some(Stack::from_bytes(&bytes))
    };
    if old != 0 {
        stack.flags = match (stack.size, on_it) {
            (0, _) => linux::SS_DISABLE,
            (_, true) => linux::SS_ONSTACK,
            (_, false) => 0,
        };
        kernel.write(old, &stack.to_bytes())?;
    }
    let Some(given) = given else { return Ok(0) };
    if on_it {
        return Err(Errno::PERM.into());
    }
    let stack = match given.flags {
        linux::SS_DISABLE => Stack::default(),
        0 | linux::SS_ONSTACK if given.size < STACK_MIN => return Err(Errno::NOMEM.into()),
        0 | linux::SS_ONSTACK => Stack { flags: 0, ..given },
        _ => return Err(Errno::INVAL.into()),
    };
    kernel.thread()?.stack = stack;
    Ok(0)
}

/// `kill`.
pub fn kill(kernel: &mut Kernel, pid: u64, number: u64) -> Outcome {
    let signal = if number == 0 { None } else { Some(Signal::new(number).ok_or(Errno::INVAL)?) };
    let group = kernel.process()?.group;
    let caller = kernel.pid();
    let chosen: Vec<Pid> = match pid as i32 {
        // All but the first process and oneself.
        -1 => kernel.tasks.processes.keys().copied().filter(|&pid| pid != 1 && pid != caller).collect(),
        pid if pid > 0 => {
            kernel.tasks.processes.get(&(pid as Pid)).map(|process| process.pid).into_iter().collect()
        }
        pid => {
            let group = if pid == 0 { group } else { pid.unsigned_abs() };
            kernel.tasks.processes.values().filter(|one| one.group == group).map(|one| one.pid).collect()
        }
    };
    if chosen.is_empty() {
        return Err(Errno::SRCH.into());
    }
    if let Some(signal) = signal {
        let info = Info { code: linux::SI_USER as i32, value: u64::from(caller), status: 0 };
        for pid in chosen {
            kernel.send_signal(pid, signal, info);
        }
    }
    Ok(0)
}

/// `tkill` and `tgkill`.
pub fn kill_thread(kernel: &mut Kernel, pid: Option<u64>, tid: u64, number: u64) -> Outcome {
    let signal = if number == 0 { None } else { Some(Signal::new(number).ok_or(Errno::INVAL)?) };
    let tid = Tid::try_from(tid).map_err(|_| Errno::INVAL)?;
    let caller = kernel.pid();
    let thread = kernel.tasks.threads.get_mut(&tid).ok_or(Errno::SRCH)?;
    if pid.is_some_and(|pid| pid != u64::from(thread.pid)) {
        return Err(Errno::SRCH.into());
    }
    if let Some(signal) = signal {
        let info = Info { code: linux::SI_TKILL, value: u64::from(caller), status: 0 };
        kernel.send_thread_signal(tid, signal, info);
    }
    Ok(0)
}

/// `rt_sigreturn`.
pub fn return_from_handler(kernel: &mut Kernel) -> Outcome {
    let frame = kernel.thread()?.registers.sp;
    let mut bytes = alloc::vec![0; signal_frame::READ_SIZE];
    let saved = match kernel.read(frame, &mut bytes) {
        Ok(()) => signal_frame::parse(&bytes),
        Err(_) => None,
    };
    match saved {
        Some(saved) => {
            kernel.unload();
            let thread = kernel.thread()?;
            (thread.registers, *thread.vectors, thread.mask) = (saved.registers, saved.vectors, saved.mask);
        }
        None => {
            let info = Info { code: linux::SEGV_MAPERR as i32, value: frame, status: 0 };
            kernel.force_signal(Signal::SEGV, info);
        }
    }
    Err(Stop::Replaced)
}

impl Kernel {
    /// A process gets a signal.
    pub fn send_signal(&mut self, pid: Pid, signal: Signal, info: Info) {
        let Some(process) = self.tasks.processes.get_mut(&pid) else { return };
        if process.end.is_some() {
            return;
        }
        if matches!(signal, Signal::CONT | Signal::KILL) {
            self.continue_process(pid, signal);
        }
        let Some(process) = self.tasks.processes.get(&pid) else { return };
        let taker =
            |mask: SignalSet, waits: SignalSet| waits.contains(signal) || !mask.maskable().contains(signal);
        let mut takers = process.threads.iter().filter_map(|tid| {
            let thread = self.tasks.threads.get(tid)?;
            let waits = thread.call.as_ref().map_or(SignalSet::default(), |call| call.signals);
            taker(thread.mask, waits).then_some(*tid)
        });
        let chosen = takers.next();
        let ignored = process.actions.borrow().disposition(signal) == Disposition::Ignore;
        let waited =
            chosen.and_then(|tid| self.tasks.threads.get(&tid)?.call.as_ref().map(|call| call.signals));
        let is_waited = waited.is_some_and(|signals| signals.contains(signal));
        if ignored && chosen.is_some() && !is_waited {
            return;
        }
        if let Some(process) = self.tasks.processes.get_mut(&pid) {
            process.pending.add(signal, info);
        }
        if let Some(tid) = chosen {
            self.wake(tid);
        }
    }

    /// A process group gets a signal.
    pub fn send_group_signal(&mut self, group: Pid, signal: Signal) {
        let members: Vec<Pid> =
            self.tasks.processes.values().filter(|one| one.group == group).map(|one| one.pid).collect();
        for pid in members {
            self.send_signal(pid, signal, Info::default());
        }
    }

    /// A thread gets a signal of its own.
    pub fn send_thread_signal(&mut self, tid: Tid, signal: Signal, info: Info) {
        let Some(thread) = self.tasks.threads.get_mut(&tid) else { return };
        thread.pending.add(signal, info);
        let pid = thread.pid;
        if matches!(signal, Signal::CONT | Signal::KILL) {
            self.continue_process(pid, signal);
        }
        self.wake(tid);
    }

    /// The current thread has done what it gets a signal for; if it does not want that, its process ends.
    pub fn force_signal(&mut self, signal: Signal, info: Info) {
        let pid = self.pid();
        let Ok(thread) = self.thread() else { return };
        let (masked, pc) = (thread.mask.contains(signal), thread.registers.pc);
        let Ok(process) = self.process() else { return };
        let disposition = process.actions.borrow().disposition(signal);
        if !matches!(disposition, Disposition::Handle(_)) || masked {
            let (number, address) = (signal.number(), info.value);
            self.say_end(pid, format_args!("gets signal {number} at {pc:#x}, for address {address:#x}"));
            self.end_process(pid, End::Killed(number));
        } else if let Ok(thread) = self.thread() {
            thread.pending.add(signal, info);
        }
    }

    fn stop_process(&mut self, pid: Pid, signal: Signal) {
        let Some(process) = self.tasks.processes.get_mut(&pid) else { return };
        process.stopped = true;
        process.news = Some(News::Stopped(signal.number()));
        let parent = process.parent;
        for tid in process.threads.clone() {
            if let Some(thread) = self.tasks.threads.get_mut(&tid) {
                thread.state = State::Stopped { blocked: thread.state == State::Blocked };
            }
        }
        let info = Info {
            code: linux::CLD_STOPPED as i32,
            value: u64::from(pid),
            status: i32::from(signal.number()),
        };
        self.tell_parent(parent, info, linux::SA_NOCLDSTOP);
    }

    fn continue_process(&mut self, pid: Pid, signal: Signal) {
        let Some(process) = self.tasks.processes.get_mut(&pid) else { return };
        for stopping in [Signal::STOP, Signal::TSTP, Signal::TTIN, Signal::TTOU] {
            process.pending.take(stopping);
        }
        if !core::mem::take(&mut process.stopped) {
            return;
        }
        process.news = Some(News::Continued);
        let parent = process.parent;
        for tid in process.threads.clone() {
            let Some(thread) = self.tasks.threads.get_mut(&tid) else { continue };
            let State::Stopped { blocked } = thread.state else { continue };
            thread.state = if blocked { State::Blocked } else { State::Ready };
            if !blocked {
                self.make_ready(tid);
            }
        }
        if signal == Signal::CONT {
            let info = Info {
                code: linux::CLD_CONTINUED as i32,
                value: u64::from(pid),
                status: i32::from(signal.number()),
            };
            self.tell_parent(parent, info, linux::SA_NOCLDSTOP);
        }
    }

    /// A parent learns that something has become of a child, by SIGCHLD unless it has set this flag.
    pub fn tell_parent(&mut self, parent: Pid, info: Info, unless: u32) {
        if let Some(process) = self.tasks.processes.get(&parent)
            && !process.actions.borrow().get(Signal::CHLD).has(unless)
        {
            self.send_signal(parent, Signal::CHLD, info);
        }
        self.wake_all(Key::Child(parent));
    }

    /// Does what the current thread's signals ask for; whether it can go on.
    pub fn deliver_signals(&mut self) -> bool {
        while let Some((signal, info)) = self.take_signal() {
            let pid = self.pid();
            let Ok(process) = self.process() else { return false };
            let disposition = process.actions.borrow().disposition(signal);
            match disposition {
                Disposition::Ignore | Disposition::Continue => {}
                Disposition::Terminate => {
                    self.end_process(pid, End::Killed(signal.number()));
                    return false;
                }
                Disposition::Stop => {
                    self.stop_process(pid, signal);
                    return false;
                }
                Disposition::Handle(action) => {
                    if self.call_handler(signal, &info, action).is_err() {
                        self.end_process(pid, End::Killed(Signal::SEGV.number()));
                        return false;
                    }
                }
            }
        }
        true
    }

    fn take_signal(&mut self) -> Option<(Signal, Info)> {
        let thread = self.tasks.threads.get_mut(&self.current)?;
        let mask = thread.mask;
        let none = |pending: &Pending| pending.set().without(mask.maskable()).is_empty();
        if !none(&thread.pending) {
            return thread.pending.take_next(mask);
        }
        let process = self.tasks.processes.get_mut(&thread.pid)?;
        if none(&process.pending) { None } else { process.pending.take_next(mask) }
    }

    /// Puts a handler's frame on the thread's stack and lets the thread go on there.
    fn call_handler(&mut self, signal: Signal, info: &Info, action: Action) -> Result<(), Errno> {
        self.interrupt_call(action);
        self.unload();
        let thread = self.thread()?;
        let (registers, stack) = (thread.registers, thread.stack);
        let mask = thread.saved_mask.take().unwrap_or(thread.mask);
        let saved = Saved { registers, vectors: *thread.vectors, mask };
        let aside = action.has(linux::SA_ONSTACK) && stack.size != 0 && !stack.holds(registers.sp);
        let top = if aside { stack.base.saturating_add(stack.size) } else { registers.sp };
        let frame = top.checked_sub(signal_frame::SIZE as u64).ok_or(Errno::FAULT)? & !0xf;
        let bytes = signal_frame::build(signal, info, &saved, stack);
        self.write(frame, &bytes)?;

        let restorer = if action.has(linux::SA_RESTORER) { action.restorer } else { TRAMPOLINE };
        let thread = self.thread()?;
        let registers = &mut thread.registers;
        registers.x[0] = u64::from(signal.number());
        registers.x[1] = frame + signal_frame::SIGINFO_OFFSET;
        registers.x[2] = frame + signal_frame::UCONTEXT_OFFSET;
        registers.x[29] = frame + signal_frame::FRAME_RECORD_OFFSET;
        registers.x[30] = restorer;
        registers.sp = frame;
        registers.pc = action.handler;
        registers.pstate = Registers::user_pstate(registers.pstate);
        thread.mask = thread.mask.union(action.mask);
        if !action.has(linux::SA_NODEFER) {
            thread.mask.insert(signal);
        }
        if action.has(linux::SA_RESETHAND) {
            self.process()?.actions.borrow_mut().set(signal, Action::default());
        }
        Ok(())
    }

    /// The thread's system call ends because of a handler; it is made again after it, or fails.
    fn interrupt_call(&mut self, action: Action) {
        let Some(call) = self.call() else { return };
        let again = call.restarts && action.has(linux::SA_RESTART);
        if let Ok(thread) = self.thread() {
            if again {
                thread.registers.pc -= 4;
            } else {
                thread.registers.x[0] = Errno::INTR.to_x0();
            }
        }
        self.end_call();
    }
}
