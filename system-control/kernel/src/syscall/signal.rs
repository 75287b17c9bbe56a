//! Signals: sending, masking, handling.

use alloc::vec::Vec;

use handover_kernel::{
    Errno,
    clock::join,
    signal::{Action, Disposition, Info, Signal, SignalSet},
    signal_frame::{self, Stack},
};
use linux_raw_sys::general as linux;

use super::{Outcome, Stop};
use crate::{
    kernel::Kernel,
    task::{Call, Pid, Tid},
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

/// Whether the caller may send a process signals: user 0 to everybody, others to their own.
fn may_signal(kernel: &Kernel, pid: Pid) -> bool {
    let user = kernel.payer().user();
    user == 0 || kernel.tasks.processes.get(&pid).is_some_and(|process| process.user == user)
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
    let chosen: Vec<Pid> = chosen.into_iter().filter(|&pid| may_signal(kernel, pid)).collect();
    if chosen.is_empty() {
        return Err(Errno::PERM.into());
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
    let thread = kernel.tasks.threads.get(&tid).ok_or(Errno::SRCH)?;
    if pid.is_some_and(|pid| pid != u64::from(thread.pid)) {
        return Err(Errno::SRCH.into());
    }
    let process = thread.pid;
    if !may_signal(kernel, process) {
        return Err(Errno::PERM.into());
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
