//! New threads and processes.

use alloc::{boxed::Box, rc::Rc, vec::Vec};
use core::cell::RefCell;

use handover_kernel::{
    Errno,
    limits::{PROCESSES_MAX, THREADS_MAX},
    signal::Pending,
    signal_frame::Stack,
};
use linux_raw_sys::general as linux;

use super::{Outcome, Stop};
use crate::{
    kernel::Kernel,
    memory::Space,
    task::{Call, Key, Pid, Process, State, Thread, Tid},
};

/// What a new thread of the same process has to share.
const THREAD: u32 = linux::CLONE_VM | linux::CLONE_FS | linux::CLONE_FILES | linux::CLONE_SIGHAND;
/// What `clone` understands besides.
const KNOWN: u32 = THREAD
    | linux::CLONE_THREAD
    | linux::CLONE_SYSVSEM
    | linux::CLONE_VFORK
    | linux::CLONE_SETTLS
    | linux::CLONE_PARENT_SETTID
    | linux::CLONE_CHILD_SETTID
    | linux::CLONE_CHILD_CLEARTID
    | linux::CLONE_DETACHED
    | linux::CSIGNAL;
/// `clone`.
pub fn clone(kernel: &mut Kernel, [flags, stack, parent_tid, pointer, child_tid]: [u64; 5]) -> Outcome {
    let flags = u32::try_from(flags).map_err(|_| Errno::INVAL)?;
    if let Some(child) = kernel.call().map(|call| call.progress as Tid) {
        return wait_for_release(kernel, child);
    }
    if flags & !KNOWN != 0 {
        return Err(Errno::INVAL.into());
    }
    let is_thread = flags & linux::CLONE_THREAD != 0;
    let shares_memory = flags & linux::CLONE_VM != 0;
    if is_thread && flags & THREAD != THREAD {
        return Err(Errno::INVAL.into());
    }
    // Processes with descriptors or handlers in common are not there.
    if !is_thread && flags & (linux::CLONE_FS | linux::CLONE_FILES | linux::CLONE_SIGHAND) != 0 {
        return Err(Errno::INVAL.into());
    }
    check_number(kernel, is_thread)?;
    let tid = kernel.tasks.number();
    let pid = if is_thread { kernel.pid() } else { fork(kernel, tid, shares_memory, flags)? };
    let set_up = |kernel: &mut Kernel| {
        if flags & linux::CLONE_PARENT_SETTID != 0 {
            kernel.write(parent_tid, &tid.to_le_bytes())?;
        }
        if flags & linux::CLONE_CHILD_SETTID != 0 {
            let space = kernel.tasks.processes.get(&pid).and_then(|process| process.space.clone());
            let space = space.ok_or(Errno::SRCH)?;
            space.borrow_mut().write(&mut kernel.frames, child_tid, &tid.to_le_bytes())?;
        }
        Ok::<(), Errno>(())
    };
    if let Err(errno) = set_up(kernel) {
        if !is_thread {
            kernel.abandon(pid);
        }
        return Err(errno.into());
    }
    let thread = new_thread(kernel, tid, pid, flags, [stack, pointer, child_tid])?;
    kernel.tasks.threads.insert(tid, Box::new(thread));
    if let Some(process) = kernel.tasks.processes.get_mut(&pid) {
        process.threads.push(tid);
    }
    kernel.make_ready(tid);
    if flags & linux::CLONE_VFORK != 0 {
        return wait_for_release(kernel, tid);
    }
    Ok(u64::from(tid))
}

/// That the user may have another thread, and process.
fn check_number(kernel: &mut Kernel, is_thread: bool) -> Result<(), Errno> {
    let payer = kernel.payer();
    let (threads, processes) = kernel.tasks.count(payer.user());
    let room = |most: usize, all: usize, own: usize| payer.room(most as u64, all as u64, own as u64) > 0;
    let more = room(THREADS_MAX, kernel.tasks.threads.len(), threads)
        && (is_thread || room(PROCESSES_MAX, kernel.tasks.processes.len(), processes));
    if more { Ok(()) } else { Err(Errno::AGAIN) }
}

/// A child that shares its parent's memory runs first, until it has memory of its own or has ended.
fn wait_for_release(kernel: &mut Kernel, child: Tid) -> Outcome {
    let caller = kernel.space()?;
    let shares = kernel
        .tasks
        .processes
        .get(&child)
        .is_some_and(|child| child.space.as_ref().is_some_and(|space| Rc::ptr_eq(space, &caller)));
    if !shares {
        return Ok(u64::from(child));
    }
    Err(Stop::Wait(Call {
        progress: child as usize,
        keys: [Key::Released(child)].into(),
        restarts: true,
        ..Call::default()
    }))
}

fn new_thread(
    kernel: &mut Kernel,
    tid: Tid,
    pid: Pid,
    flags: u32,
    [stack, pointer, child_tid]: [u64; 3],
) -> Result<Thread, Errno> {
    kernel.unload();
    let parent = kernel.thread()?;
    let mut registers = parent.registers;
    registers.x[0] = 0;
    if stack != 0 {
        registers.sp = stack;
    }
    let has = |flag| flags & flag != 0;
    Ok(Thread {
        registers,
        pid,
        tid,
        user: parent.user,
        state: State::Ready,
        vectors: parent.vectors.clone(),
        pointer: if has(linux::CLONE_SETTLS) { pointer } else { parent.pointer },
        call: None,
        pending: Pending::default(),
        mask: parent.mask,
        saved_mask: None,
        // A thread starts without one; a forked process has its parent's.
        stack: if has(linux::CLONE_VM) && !has(linux::CLONE_VFORK) { Stack::default() } else { parent.stack },
        clear_at_end: if has(linux::CLONE_CHILD_CLEARTID) { child_tid } else { 0 },
    })
}

/// A new process that is like its parent.
fn fork(kernel: &mut Kernel, pid: Pid, shares_memory: bool, flags: u32) -> Result<Pid, Errno> {
    let space = kernel.space()?;
    let space = if shares_memory { space } else { fork_space(kernel, &space)? };
    let (now, parent) = (kernel.now(), kernel.pid());
    let descriptors = kernel.process()?.descriptors.clone().ok_or(Errno::SRCH)?;
    let descriptors = descriptors.borrow().fork(&mut kernel.files);
    let process = kernel.process()?;
    let actions = process.actions.borrow().clone();
    let child = Process {
        pid,
        parent,
        group: process.group,
        session: process.session,
        user: process.user,
        threads: Vec::new(),
        space: Some(space),
        descriptors: Some(Rc::new(RefCell::new(descriptors))),
        descriptors_max: process.descriptors_max,
        actions: Rc::new(RefCell::new(actions)),
        pending: Pending::default(),
        end: None,
        news: None,
        end_signal: (flags & linux::CSIGNAL) as u8,
        orphan: false,
        started: now,
        stopped: false,
        name: process.name.clone(),
        executable: process.executable.clone(),
        command_line: process.command_line.clone(),
        used: 0,
        children_used: 0,
    };
    kernel.tasks.processes.insert(pid, child);
    kernel.statistics.processes += 1;
    Ok(pid)
}

fn fork_space(kernel: &mut Kernel, space: &Rc<RefCell<Space>>) -> Result<Rc<RefCell<Space>>, Errno> {
    let (asid, id) = kernel.asids.take().ok_or(Errno::AGAIN)?;
    match space.borrow_mut().fork(&mut kernel.frames, id, asid) {
        Ok(space) => Ok(Rc::new(RefCell::new(space))),
        Err(errno) => {
            kernel.asids.release(asid);
            Err(errno)
        }
    }
}

impl Kernel {
    /// A child that never ran goes again.
    fn abandon(&mut self, pid: Pid) {
        if let Some(process) = self.tasks.processes.remove(&pid) {
            self.release_descriptors(process.descriptors);
            if let Some(space) = process.space {
                self.release_space(space);
            }
        }
    }
}
