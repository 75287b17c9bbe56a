//! The first program: init, which is started again when it dies, or one that the manifest names, with which the machine ends.

use alloc::{format, string::String, vec::Vec};

use handover_guest::println;
use handover_kernel::{clock::SECOND, signal::Signal};

use crate::{
    boot::power_off,
    kernel::Kernel,
    task::{End, Pid, shown},
};

/// Where the manifest names no other.
const INIT: &str = "/bin/init";
/// The first program's process.
pub const FIRST: Pid = 1;
/// How often init is started again at once. One that dies later has run well meanwhile.
const RESTARTS: u32 = 5;
/// After so long.
const WELL: u64 = 10 * SECOND;

/// The first program, and what has become of it.
pub struct First {
    command: Vec<Vec<u8>>,
    is_init: bool,
    restarts: u32,
    began: u64,
    /// It has ended, and nothing has been done about it yet.
    pub ended: Option<End>,
}

impl First {
    /// By the manifest's command line; init if that is empty.
    pub fn new(line: &str) -> First {
        let is_init = line.trim().is_empty();
        let line = if is_init { INIT } else { line };
        let command = line.split_ascii_whitespace().map(|word| word.as_bytes().to_vec()).collect();
        First { command, is_init, restarts: 0, began: 0, ended: None }
    }
}

impl Kernel {
    /// Starts the first program, when there is no process.
    pub fn begin_first(&mut self) -> Result<(), String> {
        self.first.began = self.now();
        let command = self.first.command.clone();
        let path = command.first().cloned().ok_or("no program is named")?;
        self.begin(FIRST, &path, command)
            .map_err(|errno| format!("{} cannot be started: {errno:?}", shown(&path)))
    }

    /// Does what is to be done about the first program's end.
    pub fn attend_first(&mut self) {
        let Some(end) = self.first.ended.take() else { return };
        if !self.first.is_init {
            self.say_unknown();
            match end {
                End::Exited(status) => {
                    println!("system-control: the first program has exited with status {status}")
                }
                End::Killed(signal) => {
                    println!("system-control: the first program was ended by signal {signal}")
                }
            }
            power_off(end.code());
        }
        match end {
            End::Exited(status) => println!("system-control: init has exited with status {status}"),
            End::Killed(signal) => println!("system-control: init was ended by signal {signal}"),
        }
        self.end_all();
        if self.now().saturating_sub(self.first.began) > WELL {
            self.first.restarts = 0;
        }
        if self.first.restarts == RESTARTS {
            println!("system-control: init ends again and again, and is left out; the partitions go on");
            return;
        }
        self.first.restarts += 1;
        if let Err(problem) = self.begin_first() {
            println!("system-control: {problem}; the partitions go on");
            self.end_all();
        }
    }

    /// Says which system calls programs have missed.
    pub fn say_unknown(&self) {
        for (number, count) in &self.statistics.unknown {
            println!("system-control: system call {number} is not there; asked for {count} times");
        }
    }

    /// Ends every process: init has started them, and its successor starts them anew.
    fn end_all(&mut self) {
        let rest: Vec<Pid> = self.tasks.processes.keys().copied().collect();
        for &pid in &rest {
            self.end_process(pid, End::Killed(Signal::KILL.number()));
        }
        // Those whose parents had not asked for their ends before they ended themselves.
        self.tasks.processes.clear();
        self.first.ended = None;
    }
}
