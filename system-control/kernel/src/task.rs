//! Threads and processes.

use alloc::{boxed::Box, collections::BTreeMap, rc::Rc, string::String, vec::Vec};
use core::cell::RefCell;

use handover_files::{Descriptors, WaitKey};
use handover_kernel::{
    clock::Nanoseconds,
    futex::Word,
    registers::{Registers, Vectors},
    signal::{Actions, Pending, SignalSet},
    signal_frame::Stack,
};

use crate::memory::Space;

/// A thread's number; a process has its first thread's.
pub type Tid = u32;
/// A process's number.
pub type Pid = u32;

/// What a blocked thread waits for besides a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// A file to be ready.
    File(WaitKey),
    /// A child of this process to end, stop or go on.
    Child(Pid),
    /// This process to have an address space of its own, or to end.
    Released(Pid),
}

/// A system call that has to be tried again.
#[derive(Clone, Debug, Default)]
pub struct Call {
    /// Until when it waits.
    pub deadline: Option<Nanoseconds>,
    /// What is done already.
    pub progress: usize,
    /// For FUTEX_WAIT: it was woken.
    pub woken: bool,
    /// Where it waits.
    pub keys: Vec<Key>,
    /// The futex where it waits.
    pub futex: Option<Word>,
    /// Signals that it waits for, though they are masked.
    pub signals: SignalSet,
    /// Whether it starts anew after a handler with SA_RESTART; otherwise it fails with EINTR.
    pub restarts: bool,
}

/// Where in its life a thread is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Runs, or waits for its turn.
    Ready,
    /// Waits in a system call.
    Blocked,
    /// Its process is stopped; it was blocked before or not.
    Stopped {
        /// Whether it was.
        blocked: bool,
    },
}

/// A thread.
#[repr(C)]
pub struct Thread {
    /// First, so that their address is the thread's.
    pub registers: Registers,
    /// Its process.
    pub pid: Pid,
    /// Itself.
    pub tid: Tid,
    /// On whose turn and account it runs.
    pub user: u32,
    pub state: State,
    /// FP and SIMD, while it is not the one whose registers are loaded.
    pub vectors: Box<Vectors>,
    /// TPIDR_EL0, likewise.
    pub pointer: u64,
    /// The system call it is in.
    pub call: Option<Call>,
    /// Signals for it alone.
    pub pending: Pending,
    pub mask: SignalSet,
    /// The mask that comes back after a handler, when a system call has put another in place.
    pub saved_mask: Option<SignalSet>,
    pub stack: Stack,
    /// A word that becomes zero, and wakes who waits for it, when the thread ends.
    pub clear_at_end: u64,
}

/// How a process ended, as `wait4` tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// `exit`.
    Exited(u8),
    /// By a signal.
    Killed(u8),
}

impl End {
    /// Linux's wait status.
    pub fn status(self) -> i32 {
        match self {
            End::Exited(status) => i32::from(status) << 8,
            End::Killed(signal) => i32::from(signal),
        }
    }

    /// The status of a shell for it.
    pub fn code(self) -> u64 {
        match self {
            End::Exited(status) => u64::from(status),
            End::Killed(signal) => 128 + u64::from(signal),
        }
    }
}

/// What a parent has not been told yet about a child that lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// Stopped by a signal.
    Stopped(u8),
    /// Goes on.
    Continued,
}

/// A process.
pub struct Process {
    pub pid: Pid,
    pub parent: Pid,
    pub group: Pid,
    pub session: Pid,
    pub user: u32,
    pub threads: Vec<Tid>,
    /// `None` once it has ended.
    pub space: Option<Rc<RefCell<Space>>>,
    /// `None` once it has ended.
    pub descriptors: Option<Rc<RefCell<Descriptors>>>,
    /// What its limit of descriptors may become.
    pub descriptors_max: u64,
    pub actions: Rc<RefCell<Actions>>,
    pub pending: Pending,
    /// Set when it has ended and its parent has not asked yet.
    pub end: Option<End>,
    pub news: Option<News>,
    /// Which signal the parent gets when it ends.
    pub end_signal: u8,
    /// Whether the process that made it has ended: then nobody is told of its end.
    pub orphan: bool,
    /// Whether all of its threads are stopped.
    pub stopped: bool,
    /// Its program's last name, at most 15 bytes.
    pub name: Vec<u8>,
    pub executable: Vec<u8>,
    /// Each ended by a zero byte.
    pub command_line: Vec<u8>,
    /// When it was made.
    pub started: Nanoseconds,
    /// Time it has run.
    pub used: Nanoseconds,
    /// Time its ended children have.
    pub children_used: Nanoseconds,
}

/// All threads and processes.
#[derive(Default)]
pub struct Tasks {
    pub threads: BTreeMap<Tid, Box<Thread>>,
    pub processes: BTreeMap<Pid, Process>,
    next: u32,
}

/// Numbers start again from 2 after this.
const NUMBER_MAX: u32 = 32_767;

impl Tasks {
    /// A number that no thread, process, group or session has.
    pub fn number(&mut self) -> u32 {
        loop {
            self.next = if self.next >= NUMBER_MAX { 2 } else { self.next + 1 };
            let taken = self.threads.contains_key(&self.next)
                || self.processes.values().any(|process| {
                    process.pid == self.next || process.group == self.next || process.session == self.next
                });
            if !taken {
                return self.next;
            }
        }
    }

    /// How many threads and processes a user has.
    pub fn count(&self, user: u32) -> (usize, usize) {
        let threads = self.threads.values().filter(|thread| thread.user == user).count();
        (threads, self.processes.values().filter(|process| process.user == user).count())
    }

    /// The children of a process.
    pub fn children(&self, parent: Pid) -> impl Iterator<Item = &Process> {
        self.processes.values().filter(move |process| process.parent == parent)
    }
}

/// The last part of a path, at most 15 bytes.
pub fn short_name(path: &[u8]) -> Vec<u8> {
    let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or(path);
    name[..name.len().min(15)].to_vec()
}

/// Bytes that are text mostly.
pub fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
