//! Signals on their way: to whom they go, and what they do there.

use alloc::vec::Vec;

use handover_kernel::{
    Errno,
    layout::TRAMPOLINE,
    registers::Registers,
    signal::{Action, Disposition, Info, Pending, Signal, SignalSet},
    signal_frame::{self, Saved},
};
use linux_raw_sys::general as linux;

use crate::{
    kernel::Kernel,
    task::{End, Key, News, Pid, State, Tid},
};

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
