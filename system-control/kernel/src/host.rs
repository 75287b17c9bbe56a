//! What the files need of the kernel around them.

use alloc::{format, vec::Vec};

use handover_files::{Clock, Console, MachineStatus, Payer, ProcessStatus, Processes, Random, Time};
use handover_guest::console;
use handover_kernel::{
    areas::Protection,
    clock::{Nanoseconds, SECOND},
    layout::PAGE,
};
use rand_chacha::{ChaCha20Rng, rand_core::RngCore};

use crate::{
    heap,
    kernel::Statistics,
    memory::Stuff,
    region::Regions,
    task::{Pid, Process, State, Tasks},
};

/// Hundredths of a second, the unit of `/proc`.
const TICK: Nanoseconds = SECOND / 100;

/// The kernel without the files, for the length of one call.
pub struct Host<'a> {
    pub tasks: &'a Tasks,
    pub random: &'a mut ChaCha20Rng,
    pub statistics: &'a Statistics,
    pub regions: &'a mut Regions,
    /// The calling process.
    pub caller: Pid,
    /// Who pays for what is made.
    pub payer: Payer,
    /// Since the start.
    pub now: Nanoseconds,
    /// Between 1970 and the start.
    pub epoch: Nanoseconds,
    /// Frames for programs: all, and the free ones.
    pub frames: (u64, u64),
}

impl Clock for Host<'_> {
    fn now(&self) -> Time {
        let time = self.epoch + self.now;
        Time { seconds: (time / SECOND) as i64, nanoseconds: (time % SECOND) as u32 }
    }
}

impl Random for Host<'_> {
    fn fill(&mut self, bytes: &mut [u8]) {
        self.random.fill_bytes(bytes);
    }
}

impl Console for Host<'_> {
    fn write_console(&mut self, bytes: &[u8]) {
        console::write_bytes(bytes);
    }
}

impl Host<'_> {
    fn status(&self, process: &Process) -> ProcessStatus {
        let runs = process
            .threads
            .iter()
            .any(|tid| self.tasks.threads.get(tid).is_some_and(|thread| thread.state == State::Ready));
        let sizes =
            process.space.as_ref().and_then(|space| space.try_borrow().ok().map(|space| space.sizes()));
        let (virtual_size, resident_size) = sizes.unwrap_or_default();
        ProcessStatus {
            name: process.name.clone(),
            state: match (process.end, process.stopped, runs) {
                (Some(_), _, _) => 'Z',
                (None, true, _) => 'T',
                (None, false, true) => 'R',
                (None, false, false) => 'S',
            },
            parent: process.parent,
            group: process.group,
            session: process.session,
            user: process.user,
            threads: process.threads.len() as u32,
            user_time: process.used / TICK,
            system_time: 0,
            start_time: process.started / TICK,
            virtual_size,
            resident_size,
        }
    }
}

impl Processes for Host<'_> {
    fn current(&self) -> u32 {
        self.caller
    }

    fn process_after(&self, id: u32) -> Option<u32> {
        self.tasks.processes.range(id.checked_add(1)?..).next().map(|(&pid, _)| pid)
    }

    fn process(&self, id: u32) -> Option<ProcessStatus> {
        self.tasks.processes.get(&id).map(|process| self.status(process))
    }

    fn command_line(&self, id: u32) -> Option<Vec<u8>> {
        self.tasks.processes.get(&id).map(|process| process.command_line.clone())
    }

    fn executable(&self, id: u32) -> Option<Vec<u8>> {
        self.tasks.processes.get(&id).map(|process| process.executable.clone())
    }

    fn maps(&self, id: u32) -> Option<Vec<u8>> {
        let space = self.tasks.processes.get(&id)?.space.as_ref()?.try_borrow().ok()?;
        let mut lines = Vec::new();
        for (start, area) in space.areas() {
            let letter = |bit, letter| if area.protection.contains(bit) { letter } else { '-' };
            let (shared, offset) = match area.backing {
                Stuff::Anonymous => ('p', 0),
                Stuff::File { offset, .. } => ('p', offset),
                Stuff::Shared { offset, .. }
                | Stuff::SharedFile { offset, .. }
                | Stuff::Region { offset, .. } => ('s', offset),
            };
            let line = format!(
                "{start:08x}-{:08x} {}{}{}{shared} {offset:08x} 00:00 0\n",
                area.end,
                letter(Protection::READ, 'r'),
                letter(Protection::WRITE, 'w'),
                letter(Protection::EXECUTE, 'x'),
            );
            lines.extend_from_slice(line.as_bytes());
        }
        Some(lines)
    }

    fn machine(&self) -> MachineStatus {
        let user = self.tasks.processes.values().map(|process| process.used).sum::<u64>();
        MachineStatus {
            uptime: self.now / TICK,
            user_time: user / TICK,
            system_time: 0,
            idle_time: self.statistics.idle / TICK,
            processors: 1,
            memory_total: self.frames.0 * PAGE,
            memory_free: self.frames.1 * PAGE,
            kernel_used: heap::used() as u64,
            context_switches: self.statistics.switches,
            processes_made: self.statistics.processes,
        }
    }
}
