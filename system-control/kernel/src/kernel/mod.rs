//! The kernel's state, and who goes on after an exception.

mod resume;
mod waiting;

use alloc::{boxed::Box, collections::BTreeMap, rc::Rc, vec::Vec};
use core::{cell::RefCell, cell::UnsafeCell};

use handover_files::{Caller, Files, Payer, TerminalSignal};
use handover_guest::timer;
use handover_kernel::{
    Errno,
    clock::{Nanoseconds, Rate},
    frames::Frames,
    futex::Futexes,
    schedule::Queue,
    signal::Signal,
    timers::Timers,
    users::Users,
};
use rand_chacha::ChaCha20Rng;

use crate::{
    asids::Asids,
    first::First,
    heap,
    host::Host,
    memory::Space,
    region::Regions,
    task::{Key, Pid, Process, Tasks, Thread, Tid},
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
    /// What each user may have.
    pub users: Users,
    /// Nanoseconds between 1970 and the counter's zero.
    pub epoch: Nanoseconds,
    pub limits: Limits,
    pub files: Files,
    pub first: First,
    pub regions: Regions,
    ready: Queue<Tid>,
    /// On whose account is what is taken now.
    payer: Payer,
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
    /// Bytes of the kernel's own heap that one call takes at most: so many must be free when it is made.
    pub call: u64,
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
            users: Users::new(frames.total()),
            payer: Payer::ROOT,
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

    // Whose account it is.

    /// On whose account is what is taken now.
    pub fn payer(&self) -> Payer {
        self.payer
    }

    /// What is taken from now on is on the current thread's user's account; without a thread, on user 0's.
    pub fn pay(&mut self) {
        let user = self.tasks.threads.get(&self.current).map_or(0, |thread| thread.user);
        if user != self.payer.user() {
            self.set_payer(user);
        }
    }

    /// What is taken from now on is on a user's account, within the user's limit as it is now.
    pub fn set_payer(&mut self, user: u32) {
        self.payer = self.users.payer(user);
        self.frames.set_payer(self.payer);
        self.files.set_payer(self.payer);
        heap::set_payer(self.payer);
    }

    /// Whether the caller may make a call that makes the kernel keep something.
    pub fn has_heap(&self) -> bool {
        let reserve = if self.payer.user() == 0 { 0 } else { Payer::reserve(heap::total() as u64) };
        heap::free() as u64 >= reserve + self.limits.call && heap::room(self.payer) > 0
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
            payer: self.payer,
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
            payer: self.payer,
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
}
