//! What the files need of the kernel around them.

use alloc::vec::Vec;

use crate::channels::Channels;

/// A point in time since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    /// Whole seconds.
    pub seconds: i64,
    /// The rest, below a thousand million.
    pub nanoseconds: u32,
}

/// The real-time clock.
pub trait Clock {
    /// The time now.
    fn now(&self) -> Time;
}

/// The source of random bytes.
pub trait Random {
    /// Fills with random bytes.
    fn fill(&mut self, bytes: &mut [u8]);
}

/// The partition's console.
pub trait Console {
    /// Writes out; never waits for long and takes everything.
    fn write_console(&mut self, bytes: &[u8]);
}

/// A process, for `/proc`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessStatus {
    /// Its program's name, at most 15 bytes.
    pub name: Vec<u8>,
    /// The letter that ps shows: `R`, `S`, `Z`, `T`.
    pub state: char,
    /// Its parent.
    pub parent: u32,
    /// Its process group.
    pub group: u32,
    /// Its session.
    pub session: u32,
    /// Its user.
    pub user: u32,
    /// Threads.
    pub threads: u32,
    /// Processor time in the program, in hundredths of a second.
    pub user_time: u64,
    /// Processor time in the kernel, in hundredths of a second.
    pub system_time: u64,
    /// When it started, in hundredths of a second since boot.
    pub start_time: u64,
    /// Bytes of its address space.
    pub virtual_size: u64,
    /// Bytes of memory it has.
    pub resident_size: u64,
}

/// The machine as a whole, for `/proc`. Times are in hundredths of a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MachineStatus {
    /// Since boot.
    pub uptime: u64,
    /// All processors' time in programs.
    pub user_time: u64,
    /// All processors' time in the kernel.
    pub system_time: u64,
    /// All processors' time with nothing to do.
    pub idle_time: u64,
    /// Logical processors.
    pub processors: u32,
    /// Bytes of memory.
    pub memory_total: u64,
    /// Bytes of memory that nobody has.
    pub memory_free: u64,
    /// Bytes that the kernel has for itself.
    pub kernel_used: u64,
    /// Changes of the running thread since boot.
    pub context_switches: u64,
    /// Processes made since boot.
    pub processes_made: u64,
}

/// The processes, for `/proc`.
pub trait Processes {
    /// The process that calls.
    fn current(&self) -> u32;

    /// The process with the smallest id above this one.
    fn process_after(&self, id: u32) -> Option<u32>;

    /// What ps shows of a process.
    fn process(&self, id: u32) -> Option<ProcessStatus>;

    /// Its arguments, each ended by a zero byte.
    fn command_line(&self, id: u32) -> Option<Vec<u8>>;

    /// The absolute path of its program.
    fn executable(&self, id: u32) -> Option<Vec<u8>>;

    /// The lines of its `maps` file.
    fn maps(&self, id: u32) -> Option<Vec<u8>>;

    /// Memory, times and processors of the whole.
    fn machine(&self) -> MachineStatus;
}

/// All of that.
pub trait System: Clock + Random + Console + Processes + Channels {}

impl<T: Clock + Random + Console + Processes + Channels> System for T {}
