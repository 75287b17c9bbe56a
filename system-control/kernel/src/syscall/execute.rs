//! Programs that take the place of others.

use alloc::{boxed::Box, rc::Rc, vec::Vec};
use core::cell::RefCell;

use handover_files::Descriptors;
use handover_kernel::{
    Errno,
    registers::{Registers, Vectors},
    signal::{Pending, SignalSet},
    signal_frame::Stack,
    stack::ARGUMENTS_MAX,
};
use linux_raw_sys::general as linux;

use super::{Outcome, Stop};
use crate::{
    kernel::Kernel,
    load,
    task::{Key, Pid, Process, State, Thread, short_name},
};

/// Bytes of a path, its zero byte included.
const PATH_MAX: usize = 4096;

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

impl Kernel {
    /// The first process, which runs a program of the archive.
    pub fn begin(&mut self, tid: Pid, path: &[u8], arguments: Vec<Vec<u8>>) -> Result<(), Errno> {
        let descriptors = self.files.descriptors();
        let thread = Thread {
            registers: Registers::default(),
            pid: tid,
            tid,
            user: 0,
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
            user: 0,
            threads: [tid].into(),
            space: None,
            descriptors: Some(Rc::new(RefCell::new(descriptors))),
            descriptors_max: Descriptors::LIMIT as u64,
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
        self.pay();
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
}
