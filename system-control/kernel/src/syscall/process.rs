//! Processes and threads.

use alloc::{boxed::Box, rc::Rc, vec::Vec};
use core::cell::RefCell;

use handover_files::Descriptors;
use handover_kernel::{
    Errno,
    clock::{Nanoseconds, SECOND},
    layout::{PAGE, STACK_SIZE},
    limits::{PROCESSES_MAX, THREADS_MAX},
    registers::{Registers, Vectors},
    signal::{Action, Info, Pending, Signal, SignalSet},
    signal_frame::Stack,
    stack::ARGUMENTS_MAX,
};
use linux_raw_sys::{general as linux, prctl};

use super::{Outcome, Stop, futex};
use crate::{
    first::FIRST,
    kernel::Kernel,
    load,
    memory::Space,
    task::{Call, End, Key, Pid, Process, State, Thread, Tid, short_name},
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
/// Bytes of a path, its zero byte included.
const PATH_MAX: usize = 4096;

/// `getppid`.
pub fn parent(kernel: &mut Kernel) -> Outcome {
    Ok(u64::from(kernel.process()?.parent))
}

/// `setuid`, `setgid`: everybody is root.
pub fn set_user(id: u64) -> Outcome {
    if id as u32 == 0 { Ok(0) } else { Err(Errno::PERM.into()) }
}

/// `set_tid_address`.
pub fn set_tid_address(kernel: &mut Kernel, address: u64) -> Outcome {
    kernel.thread()?.clear_at_end = address;
    Ok(u64::from(kernel.current))
}

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
    if kernel.tasks.threads.len() >= THREADS_MAX {
        return Err(Errno::AGAIN.into());
    }
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
    if kernel.tasks.processes.len() >= PROCESSES_MAX {
        return Err(Errno::AGAIN);
    }
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
        threads: Vec::new(),
        space: Some(space),
        descriptors: Some(Rc::new(RefCell::new(descriptors))),
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

/// `execve`.
pub fn execute(kernel: &mut Kernel, path: u64, arguments: u64, environment: u64) -> Outcome {
    let path = kernel.read_string(path, PATH_MAX)?.ok_or(Errno::NOENT)?;
    let mut room = ARGUMENTS_MAX;
    let arguments = read_strings(kernel, arguments, &mut room)?;
    let environment = read_strings(kernel, environment, &mut room)?;
    let program = load::load(kernel, &path, arguments, &environment)?;
    kernel.become_program(program);
    Err(Stop::Replaced)
}

fn read_strings(kernel: &mut Kernel, vector: u64, room: &mut usize) -> Result<Vec<Vec<u8>>, Errno> {
    let mut strings = Vec::new();
    if vector == 0 {
        return Ok(strings);
    }
    loop {
        let [address] = kernel.read_words(vector.wrapping_add(8 * strings.len() as u64))?;
        if address == 0 {
            return Ok(strings);
        }
        let string = kernel
            .read_string(address, *room)?
            .ok_or(Errno::from_number(linux_raw_sys::errno::E2BIG as u16))?;
        *room = room
            .checked_sub(string.len() + 1 + 8)
            .ok_or(Errno::from_number(linux_raw_sys::errno::E2BIG as u16))?;
        strings.push(string);
    }
}

/// `exit`: of the thread alone.
pub fn exit_thread(kernel: &mut Kernel, status: u64) -> Outcome {
    let (tid, pid) = (kernel.current, kernel.pid());
    if kernel.process()?.threads.len() == 1 {
        return exit(kernel, status);
    }
    let clear = kernel.thread()?.clear_at_end;
    if clear != 0 && kernel.write(clear, &[0; 4]).is_ok() {
        futex::wake_at(kernel, clear);
    }
    if let Some(process) = kernel.tasks.processes.get_mut(&pid) {
        process.threads.retain(|&other| other != tid);
    }
    kernel.forget_thread(tid);
    Err(Stop::Replaced)
}

/// `exit_group`.
pub fn exit(kernel: &mut Kernel, status: u64) -> Outcome {
    let pid = kernel.pid();
    kernel.end_process(pid, End::Exited(status as u8));
    Err(Stop::Replaced)
}

fn named(kernel: &mut Kernel, pid: u64) -> Result<&mut Process, Errno> {
    let pid = if pid as Pid == 0 { kernel.pid() } else { pid as Pid };
    kernel.tasks.processes.get_mut(&pid).ok_or(Errno::SRCH)
}

/// `setpgid`.
pub fn set_group(kernel: &mut Kernel, pid: u64, group: u64) -> Outcome {
    let caller = kernel.pid();
    let session = kernel.process()?.session;
    let process = named(kernel, pid)?;
    if process.pid != caller && process.parent != caller {
        return Err(Errno::SRCH.into());
    }
    if process.session != session || process.session == process.pid {
        return Err(Errno::PERM.into());
    }
    let group = if group as Pid == 0 { process.pid } else { group as Pid };
    let own = group == process.pid;
    let pid = process.pid;
    let there =
        kernel.tasks.processes.values().any(|process| process.group == group && process.session == session);
    if !own && !there {
        return Err(Errno::PERM.into());
    }
    named(kernel, u64::from(pid))?.group = group;
    Ok(0)
}

/// `getpgid`.
pub fn group(kernel: &mut Kernel, pid: u64) -> Outcome {
    Ok(u64::from(named(kernel, pid)?.group))
}

/// `setsid`.
pub fn set_session(kernel: &mut Kernel) -> Outcome {
    let pid = kernel.pid();
    if kernel.tasks.processes.values().any(|process| process.group == pid) {
        return Err(Errno::PERM.into());
    }
    let process = kernel.process()?;
    (process.group, process.session) = (pid, pid);
    Ok(u64::from(pid))
}

/// `getsid`.
pub fn session(kernel: &mut Kernel, pid: u64) -> Outcome {
    Ok(u64::from(named(kernel, pid)?.session))
}

/// `prctl`: a thread's name is its process's here.
pub fn control(kernel: &mut Kernel, option: u64, address: u64) -> Outcome {
    match option as u32 {
        prctl::PR_SET_NAME => {
            let name = kernel.read_string(address, 16)?.unwrap_or_default();
            if kernel.current == kernel.pid() {
                kernel.process()?.name = short_name(&name);
            }
            Ok(0)
        }
        prctl::PR_GET_NAME => {
            let mut bytes = [0; 16];
            let name = &kernel.process()?.name;
            bytes[..name.len()].copy_from_slice(name);
            kernel.write(address, &bytes)?;
            Ok(0)
        }
        _ => Err(Errno::INVAL.into()),
    }
}

/// `prlimit64`: limits can be read, and "set" to what they are.
pub fn limit(kernel: &mut Kernel, pid: u64, which: u64, new: u64, old: u64) -> Outcome {
    named(kernel, pid)?;
    const NONE: u64 = u64::MAX;
    let limit = match which as u32 {
        linux::RLIMIT_STACK => STACK_SIZE,
        linux::RLIMIT_NPROC => PROCESSES_MAX as u64,
        linux::RLIMIT_NOFILE => Descriptors::LIMIT as u64,
        linux::RLIMIT_AS | linux::RLIMIT_DATA | linux::RLIMIT_RSS => kernel.limits.space * PAGE,
        linux::RLIMIT_CORE => 0,
        which if which < linux::RLIM_NLIMITS => NONE,
        _ => return Err(Errno::INVAL.into()),
    };
    if old != 0 {
        kernel.write_words(old, &[limit, limit])?;
    }
    if new != 0 {
        let [soft, hard] = kernel.read_words(new)?;
        if soft > hard {
            return Err(Errno::INVAL.into());
        }
        if hard > limit {
            return Err(Errno::PERM.into());
        }
    }
    Ok(0)
}

/// Writes a `rusage` with a process's time.
pub fn write_usage(kernel: &mut Kernel, address: u64, used: Nanoseconds) -> Result<(), Errno> {
    let mut words = [0; size_of::<linux::rusage>() / 8];
    (words[0], words[1]) = (used / SECOND, used % SECOND / 1000);
    kernel.write_words(address, &words)
}

/// `getrusage`.
pub fn usage(kernel: &mut Kernel, who: u64, address: u64) -> Outcome {
    let used = kernel.used();
    let used = match who as i32 {
        0 | 1 => used,
        -1 => kernel.process()?.children_used,
        _ => return Err(Errno::INVAL.into()),
    };
    write_usage(kernel, address, used)?;
    Ok(0)
}

/// `times`, in hundredths of a second.
pub fn times(kernel: &mut Kernel, address: u64) -> Outcome {
    const TICK: u64 = SECOND / 100;
    let used = kernel.used();
    let children = kernel.process()?.children_used;
    if address != 0 {
        kernel.write_words(address, &[used / TICK, 0, children / TICK, 0])?;
    }
    Ok(kernel.now() / TICK)
}

impl Kernel {
    /// The first process, which runs a program of the archive.
    pub fn begin(&mut self, tid: Pid, path: &[u8], arguments: Vec<Vec<u8>>) -> Result<(), Errno> {
        let descriptors = self.files.descriptors();
        let thread = Thread {
            registers: Registers::default(),
            pid: tid,
            tid,
            state: State::Ready,
            vectors: Box::new(Vectors::default()),
            pointer: 0,
            call: None,
            pending: Pending::default(),
            mask: SignalSet::default(),
            saved_mask: None,
            stack: Stack::default(),
            clear_at_end: 0,
        };
        let process = Process {
            pid: tid,
            parent: 0,
            group: tid,
            session: tid,
            threads: [tid].into(),
            space: None,
            descriptors: Some(Rc::new(RefCell::new(descriptors))),
            actions: Rc::default(),
            pending: Pending::default(),
            end: None,
            news: None,
            end_signal: 0,
            orphan: false,
            started: self.now(),
            stopped: false,
            name: Vec::new(),
            executable: Vec::new(),
            command_line: Vec::new(),
            used: 0,
            children_used: 0,
        };
        self.tasks.threads.insert(tid, Box::new(thread));
        self.tasks.processes.insert(tid, process);
        self.statistics.processes += 1;
        self.current = tid;
        // Its input, output and errors.
        self.with_files(|caller, _| {
            let console = caller.openat(linux::AT_FDCWD, b"/dev/console", linux::O_RDWR, 0)?;
            caller.dup(console)?;
            caller.dup(console)
        })??;
        let environment = [b"PATH=/bin".to_vec(), b"HOME=/tmp".to_vec(), b"TERM=vt100".to_vec()];
        let program = load::load(self, path, arguments, &environment)?;
        self.become_program(program);
        Ok(())
    }

    /// The calling process becomes another program.
    fn become_program(&mut self, program: load::Program) {
        let (tid, pid) = (self.current, self.pid());
        let threads = self.process().map(|process| core::mem::take(&mut process.threads)).unwrap_or_default();
        for other in threads.into_iter().filter(|&other| other != tid) {
            self.forget_thread(other);
        }
        self.unload();
        if tid != pid
            && let Some(thread) = self.tasks.threads.remove(&tid)
        {
            // The first thread's number is the process's.
            self.tasks.threads.insert(pid, thread);
            self.current = pid;
        }
        if let Ok(thread) = self.thread() {
            thread.tid = pid;
            thread.registers = program.registers;
            *thread.vectors = Vectors::default();
            thread.pointer = 0;
            thread.stack = Stack::default();
            thread.saved_mask = None;
            thread.clear_at_end = 0;
        }
        let Ok(process) = self.process() else { return };
        process.threads = [pid].into();
        process.name = short_name(&program.path);
        process.executable = program.path;
        process.command_line = program.command_line;
        process.actions.borrow_mut().begin_program();
        let descriptors = process.descriptors.clone();
        let old = process.space.replace(Rc::new(RefCell::new(program.space)));
        if let Some(old) = old {
            self.release_space(old);
        }
        self.with_host(pid, |files, host| {
            files.discard_mappings(pid, host);
            if let Some(descriptors) = descriptors {
                descriptors.borrow_mut().exec(files, host);
            }
        });
        self.wake_all(Key::Released(pid));
    }

    /// A process lets go of its descriptors.
    fn release_descriptors(&mut self, descriptors: Option<Rc<RefCell<Descriptors>>>) {
        if let Some(descriptors) = descriptors.and_then(Rc::into_inner) {
            self.with_host(0, |files, host| descriptors.into_inner().close_all(files, host));
        }
    }

    /// A process lets go of an address space.
    pub fn release_space(&mut self, space: Rc<RefCell<Space>>) {
        if let Ok(space) = Rc::try_unwrap(space) {
            self.destroy_space(space.into_inner());
        }
    }

    /// Gives an address space back.
    pub fn destroy_space(&mut self, space: Space) {
        self.leave_space(space.id);
        let asid = space.asid;
        space.destroy(&mut self.frames);
        self.asids.release(asid);
    }

    /// A child that never ran goes again.
    fn abandon(&mut self, pid: Pid) {
        if let Some(process) = self.tasks.processes.remove(&pid) {
            self.release_descriptors(process.descriptors);
            if let Some(space) = process.space {
                self.release_space(space);
            }
        }
    }

    /// A process ends.
    pub fn end_process(&mut self, pid: Pid, end: End) {
        let Some(process) = self.tasks.processes.get_mut(&pid) else { return };
        if process.end.is_some() {
            return;
        }
        process.end = Some(end);
        let (parent, signal) = (process.parent, process.end_signal);
        let threads = core::mem::take(&mut process.threads);
        let (space, descriptors) = (process.space.take(), process.descriptors.take());
        if self.pid() == pid {
            self.used();
        }
        for tid in threads {
            self.forget_thread(tid);
        }
        if let Some(space) = space {
            self.release_space(space);
        }
        self.release_descriptors(descriptors);
        // Who exits leaves its message files to its parent; who is killed, to nobody.
        let heir = self
            .tasks
            .processes
            .get(&parent)
            .filter(|heir| heir.end.is_none() && matches!(end, End::Exited(_)));
        let heir = heir.map(|heir| heir.pid);
        self.with_host(pid, |files, host| files.process_ended(pid, heir, host));
        if pid == FIRST {
            self.first.ended = Some(end);
        }
        self.give_children_away(pid);
        self.wake_all(Key::Released(pid));
        self.tell_end(pid, parent, end, signal);
    }

    /// The first process becomes the parent of a process's children, without being told of their ends: it knows nothing of them, and those
    /// that nobody asks for would fill the table.
    fn give_children_away(&mut self, pid: Pid) {
        self.tasks.processes.retain(|_, child| child.parent != pid || child.end.is_none());
        for child in self.tasks.processes.values_mut().filter(|child| child.parent == pid) {
            child.parent = FIRST;
            child.orphan = true;
        }
    }

    fn tell_end(&mut self, pid: Pid, parent: Pid, end: End, signal: u8) {
        let ignored = self.tasks.processes.get(&parent).is_none_or(|parent| {
            let actions = parent.actions.borrow();
            let action = actions.get(Signal::CHLD);
            action.handler == Action::IGNORE || action.has(linux::SA_NOCLDWAIT)
        });
        let orphan = self.tasks.processes.get(&pid).is_some_and(|process| process.orphan);
        if ignored || orphan {
            self.tasks.processes.remove(&pid);
            self.wake_all(Key::Child(parent));
            return;
        }
        let (code, status) = match end {
            End::Exited(status) => (linux::CLD_EXITED, i32::from(status)),
            End::Killed(signal) => (linux::CLD_KILLED, i32::from(signal)),
        };
        let info = Info { code: code as i32, value: u64::from(pid), status };
        if let Some(signal) = Signal::new(u64::from(signal)) {
            self.send_signal(parent, signal, info);
        }
        self.wake_all(Key::Child(parent));
    }
}
