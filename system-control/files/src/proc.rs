//! `/proc`: nothing is stored; what a path names is worked out each time.

use alloc::{format, string::String, vec::Vec};
use core::fmt::Write;

use linux_raw_sys::general::{S_IFDIR, S_IFLNK, S_IFREG};

use crate::{calls::Caller, open::Object, page::PAGE, system::ProcessStatus};

/// Something below `/proc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// The folder itself.
    Root,
    /// `self`.
    Myself,
    /// A file about the whole system: its place in [`WHOLE`].
    Whole(u8),
    /// A process's folder.
    Process(u32),
    /// A file or link in it: its place in [`PARTS`].
    Part(u32, u8),
    /// Its folder `fd`.
    Descriptors(u32),
    /// A descriptor in that.
    Descriptor(u32, i32),
}

/// Files about the whole system.
const WHOLE: [&str; 9] =
    ["cpuinfo", "filesystems", "loadavg", "meminfo", "mounts", "stat", "uptime", "version", "cmdline"];
/// What there is in a process's folder besides `fd`; the last ones are links.
const PARTS: [&str; 9] = ["cmdline", "comm", "maps", "mounts", "stat", "statm", "status", "cwd", "exe"];
/// Where the links begin.
const FIRST_LINK: u8 = 7;

impl Entry {
    pub(crate) fn is_directory(self) -> bool {
        matches!(self, Entry::Root | Entry::Process(_) | Entry::Descriptors(_))
    }

    /// Kind and permissions.
    pub(crate) fn mode(self) -> u32 {
        match self {
            Entry::Root | Entry::Process(_) | Entry::Descriptors(_) => S_IFDIR | 0o555,
            Entry::Myself | Entry::Descriptor(..) => S_IFLNK | 0o777,
            Entry::Part(_, part) if part >= FIRST_LINK => S_IFLNK | 0o777,
            Entry::Whole(_) | Entry::Part(..) => S_IFREG | 0o444,
        }
    }

    /// The process that it tells of.
    pub(crate) fn process(self) -> Option<u32> {
        match self {
            Entry::Root | Entry::Myself | Entry::Whole(_) => None,
            Entry::Process(process)
            | Entry::Part(process, _)
            | Entry::Descriptors(process)
            | Entry::Descriptor(process, _) => Some(process),
        }
    }

    pub(crate) fn parent(self) -> Option<Entry> {
        match self {
            Entry::Root => None,
            Entry::Myself | Entry::Whole(_) | Entry::Process(_) => Some(Entry::Root),
            Entry::Part(process, _) | Entry::Descriptors(process) => Some(Entry::Process(process)),
            Entry::Descriptor(process, _) => Some(Entry::Descriptors(process)),
        }
    }

    /// Its inode number.
    pub(crate) fn number(self) -> u64 {
        let of = |process: u32, what: u64| u64::from(process) << 32 | what;
        match self {
            Entry::Root => 1,
            Entry::Myself => 2,
            Entry::Whole(which) => 16 + u64::from(which),
            Entry::Process(process) => of(process, 1),
            Entry::Part(process, which) => of(process, 16 + u64::from(which)),
            Entry::Descriptors(process) => of(process, 2),
            Entry::Descriptor(process, fd) => of(process, 1 << 24 | fd as u64),
        }
    }

    fn name(self) -> String {
        match self {
            Entry::Root => String::new(),
            Entry::Myself => "self".into(),
            Entry::Whole(which) => WHOLE.get(usize::from(which)).copied().unwrap_or_default().into(),
            Entry::Process(process) => format!("{process}"),
            Entry::Part(_, which) => PARTS.get(usize::from(which)).copied().unwrap_or_default().into(),
            Entry::Descriptors(_) => "fd".into(),
            Entry::Descriptor(_, fd) => format!("{fd}"),
        }
    }

    /// Its path below `/proc`.
    pub(crate) fn path(self) -> Vec<u8> {
        let mut path = self.parent().map(Entry::path).unwrap_or_default();
        if self != Entry::Root {
            path.push(b'/');
            path.extend(self.name().bytes());
        }
        path
    }
}

/// A decimal number without sign or leading zeroes.
fn number(name: &[u8]) -> Option<u32> {
    if name.is_empty() || name.len() > 1 && name[0] == b'0' || !name.iter().all(u8::is_ascii_digit) {
        return None;
    }
    core::str::from_utf8(name).ok()?.parse().ok()
}

fn place_of(list: &[&str], name: &[u8]) -> Option<u8> {
    list.iter().position(|entry| entry.as_bytes() == name).and_then(|place| u8::try_from(place).ok())
}

impl Caller<'_> {
    /// The entry of this name in one of the folders.
    pub(crate) fn proc_entry(&self, folder: Entry, name: &[u8]) -> Option<Entry> {
        match folder {
            Entry::Root => {
                if name == b"self" {
                    return Some(Entry::Myself);
                }
                if let Some(which) = place_of(&WHOLE, name) {
                    return Some(Entry::Whole(which));
                }
                let process = number(name)?;
                self.system.process(process).map(|_| Entry::Process(process))
            }
            Entry::Process(process) => {
                self.system.process(process)?;
                if name == b"fd" {
                    return Some(Entry::Descriptors(process));
                }
                place_of(&PARTS, name).map(|which| Entry::Part(process, which))
            }
            Entry::Descriptors(process) if process == self.system.current() => {
                let fd = i32::try_from(number(name)?).ok()?;
                self.descriptors.get(fd).ok().map(|_| Entry::Descriptor(process, fd))
            }
            _ => None,
        }
    }

    /// The first entry of a folder at or behind a place: its place, name and what it is.
    pub(crate) fn proc_at(&self, folder: Entry, place: u64) -> Option<(u64, String, Entry)> {
        let found = |place: u64, entry: Entry| Some((place, entry.name(), entry));
        match folder {
            Entry::Root => {
                if let Ok(which) = u8::try_from(place)
                    && usize::from(which) < WHOLE.len()
                {
                    return found(place, Entry::Whole(which));
                }
                let processes = WHOLE.len() as u64 + 1;
                if place < processes {
                    return found(processes - 1, Entry::Myself);
                }
                // Behind that, the process with the id n is at n.
                let after = u32::try_from(place - processes).ok()?;
                let process = self.system.process_after(after)?;
                found(processes - 1 + u64::from(process), Entry::Process(process))
            }
            Entry::Process(process) => {
                if place == 0 {
                    return found(0, Entry::Descriptors(process));
                }
                let which = u8::try_from(place - 1).ok().filter(|&which| usize::from(which) < PARTS.len())?;
                found(place, Entry::Part(process, which))
            }
            Entry::Descriptors(process) if process == self.system.current() => {
                let fd = self.descriptors.open().find(|&fd| fd as u64 >= place)?;
                found(fd as u64, Entry::Descriptor(process, fd))
            }
            _ => None,
        }
    }

    /// Where a link leads; `None` if it is no link, or leads nowhere.
    pub(crate) fn proc_link(&self, entry: Entry) -> Option<Vec<u8>> {
        match entry {
            Entry::Myself => Some(format!("{}", self.system.current()).into_bytes()),
            Entry::Part(process, 7) if process == self.system.current() => {
                self.files.path(self.descriptors.folder)
            }
            Entry::Part(process, 8) => self.system.executable(process),
            Entry::Descriptor(process, fd) if process == self.system.current() => {
                let open = self.files.open(self.descriptors.get(fd).ok()?.open).ok()?;
                Some(match open.object {
                    Object::Pipe { pipe, .. } if open.node.is_none() => {
                        let number = self.files.pipes.get(pipe)?.number;
                        format!("pipe:[{number}]").into_bytes()
                    }
                    Object::Socket(socket) => {
                        let number = self.files.socket(socket).ok()?.number;
                        format!("socket:[{number}]").into_bytes()
                    }
                    Object::Pair(end) => {
                        let number = self.files.pairs.get(end.pair)?.number;
                        format!("socket:[{number}]").into_bytes()
                    }
                    Object::Counter(_) => b"anon_inode:[eventfd]".to_vec(),
                    Object::Epoll(_) => b"anon_inode:[eventpoll]".to_vec(),
                    _ => self.files.path(open.node?).unwrap_or_else(|| b"(deleted)".to_vec()),
                })
            }
            _ => None,
        }
    }

    /// What a file says.
    pub(crate) fn proc_text(&self, entry: Entry) -> Option<Vec<u8>> {
        match entry {
            Entry::Whole(which) => Some(self.whole(which)),
            Entry::Part(process, 0) => self.system.command_line(process),
            Entry::Part(process, 2) => self.system.maps(process),
            Entry::Part(process, which) => {
                let status = self.system.process(process)?;
                Some(match which {
                    1 => [&status.name[..], b"\n"].concat(),
                    3 => self.files.mount_lines(),
                    4 => stat(process, &status),
                    5 => {
                        let (size, resident) = pages(&status);
                        format!("{size} {resident} 0 0 0 {resident} 0\n").into_bytes()
                    }
                    _ => status_lines(process, &status),
                })
            }
            _ => None,
        }
    }

    fn whole(&self, which: u8) -> Vec<u8> {
        let machine = self.system.machine();
        let mut text = String::new();
        // Writing to a string does not fail.
        _ = match which {
            0 => (0..machine.processors).try_for_each(|processor| {
                writeln!(text, "processor\t: {processor}\nBogoMIPS\t: 0.00\nCPU architecture: 8\n")
            }),
            1 => writeln!(text, "nodev\ttmpfs\nnodev\tproc\nnodev\tdevtmpfs\nnodev\tcpio"),
            2 => {
                let mut counts = (0, 0, 0);
                let mut process = 0;
                while let Some(next) = self.system.process_after(process) {
                    process = next;
                    let running = self.system.process(next).is_some_and(|status| status.state == 'R');
                    counts = (counts.0 + u32::from(running), counts.1 + 1, next);
                }
                writeln!(text, "0.00 0.00 0.00 {}/{} {}", counts.0, counts.1, counts.2)
            }
            3 => {
                let (total, free) = (machine.memory_total / 1024, machine.memory_free / 1024);
                let files = self.files.budget.used() * 4;
                writeln!(
                    text,
                    "MemTotal: {total:>12} kB\nMemFree: {free:>13} kB\nMemAvailable: {free:>8} kB\nBuffers: {0:>13} kB\n\
                     Cached: {files:>14} kB\nShmem: {files:>15} kB\nSlab: {1:>16} kB\nSwapTotal: {0:>11} kB\nSwapFree: {0:>12} kB",
                    0,
                    machine.kernel_used / 1024
                )
            }
            4 => return self.files.mount_lines(),
            5 => {
                let (user, system, idle) = (machine.user_time, machine.system_time, machine.idle_time);
                writeln!(
                    text,
                    "cpu  {user} 0 {system} {idle} 0 0 0 0 0 0\ncpu0 {user} 0 {system} {idle} 0 0 0 0 0 0\nctxt {}\n\
                     btime 0\nprocesses {}\nprocs_running 1\nprocs_blocked 0",
                    machine.context_switches, machine.processes_made
                )
            }
            6 => {
                let (up, idle) = (machine.uptime, machine.idle_time);
                writeln!(text, "{}.{:02} {}.{:02}", up / 100, up % 100, idle / 100, idle % 100)
            }
            7 => writeln!(text, "Handover {}", env!("CARGO_PKG_VERSION")),
            _ => writeln!(text),
        };
        text.into_bytes()
    }
}

fn pages(status: &ProcessStatus) -> (u64, u64) {
    let page = PAGE as u64;
    (status.virtual_size.div_ceil(page), status.resident_size.div_ceil(page))
}

/// The fifty-two fields of a process's `stat`.
fn stat(process: u32, status: &ProcessStatus) -> Vec<u8> {
    let mut line = format!("{process} (").into_bytes();
    line.extend_from_slice(&status.name);
    let ProcessStatus { state, parent, group, session, threads, user_time, system_time, start_time, .. } =
        status;
    let (virtual_size, (_, resident)) = (status.virtual_size, pages(status));
    line.extend(
        format!(
            ") {state} {parent} {group} {session} 1281 {group} 0 0 0 0 0 {user_time} {system_time} 0 0 20 0 {threads} 0 \
             {start_time} {virtual_size} {resident} 18446744073709551615 0 0 0 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n"
        )
        .bytes(),
    );
    line
}

fn status_lines(process: u32, status: &ProcessStatus) -> Vec<u8> {
    let state = match status.state {
        'R' => "running",
        'Z' => "zombie",
        'T' => "stopped",
        _ => "sleeping",
    };
    let user = status.user;
    let mut text = b"Name:\t".to_vec();
    text.extend_from_slice(&status.name);
    text.extend(
        format!(
            "\nState:\t{} ({state})\nTgid:\t{process}\nPid:\t{process}\nPPid:\t{}\nUid:\t{user}\t{user}\t{user}\t{user}\nGid:\t0\t0\t0\t0\n\
             VmSize:\t{:>8} kB\nVmRSS:\t{:>8} kB\nThreads:\t{}\n",
            status.state,
            status.parent,
            status.virtual_size / 1024,
            status.resident_size / 1024,
            status.threads
        )
        .bytes(),
    );
    text
}
