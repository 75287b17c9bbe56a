//! A kernel for the files to be tested in.
#![allow(dead_code, reason = "each test uses a part of it")]

use cpio::newc::{Builder, ModeFileType, trailer};
use handover_files::{
    Caller, Channels, Clock, Console, Descriptors, Errno, Fd, Files, Limits, MachineStatus, ProcessStatus,
    Processes, Random, Time,
};
use std::{collections::BTreeMap, io::Write};

/// What is around the files: a clock that counts, a console that remembers, processes by hand.
#[derive(Default)]
pub struct Kernel {
    pub time: std::cell::Cell<i64>,
    pub screen: Vec<u8>,
    pub processes: BTreeMap<u32, ProcessStatus>,
    pub current: u32,
}

impl Clock for Kernel {
    fn now(&self) -> Time {
        self.time.set(self.time.get() + 1);
        Time { seconds: self.time.get(), nanoseconds: 5 }
    }
}

impl Random for Kernel {
    fn fill(&mut self, bytes: &mut [u8]) {
        bytes.iter_mut().enumerate().for_each(|(index, byte)| *byte = index as u8 ^ 0x5a);
    }
}

impl Console for Kernel {
    fn write_console(&mut self, bytes: &[u8]) {
        self.screen.extend_from_slice(bytes);
    }
}

impl Channels for Kernel {}

impl Processes for Kernel {
    fn current(&self) -> u32 {
        self.current
    }

    fn process_after(&self, id: u32) -> Option<u32> {
        self.processes.range(id + 1..).next().map(|(&id, _)| id)
    }

    fn process(&self, id: u32) -> Option<ProcessStatus> {
        self.processes.get(&id).cloned()
    }

    fn command_line(&self, id: u32) -> Option<Vec<u8>> {
        self.processes.get(&id).map(|process| [&process.name[..], b"\0-x\0"].concat())
    }

    fn executable(&self, id: u32) -> Option<Vec<u8>> {
        self.processes.get(&id).map(|process| [b"/bin/", &process.name[..]].concat())
    }

    fn maps(&self, id: u32) -> Option<Vec<u8>> {
        self.processes.get(&id).map(|_| Vec::new())
    }

    fn machine(&self) -> MachineStatus {
        MachineStatus {
            uptime: 12_345,
            processors: 2,
            memory_total: 1 << 30,
            memory_free: 1 << 29,
            ..Default::default()
        }
    }
}

/// An archive: names ending with `/` are folders, contents starting with `->` links.
pub fn archive(entries: &[(&str, &[u8])]) -> &'static [u8] {
    let mut bytes = Vec::new();
    for (name, content) in entries {
        let (builder, content) = match (name.strip_suffix('/'), content.strip_prefix(b"->")) {
            (Some(name), _) => {
                (Builder::new(name).mode(0o755).set_mode_file_type(ModeFileType::Directory), &b""[..])
            }
            (None, Some(target)) => {
                (Builder::new(name).mode(0o777).set_mode_file_type(ModeFileType::Symlink), target)
            }
            (None, None) => {
                (Builder::new(name).mode(0o644).set_mode_file_type(ModeFileType::Regular), *content)
            }
        };
        let mut writer = builder.write(bytes, content.len() as u32);
        writer.write_all(content).unwrap();
        bytes = writer.finish().unwrap();
    }
    Box::leak(trailer(bytes).unwrap().into_boxed_slice())
}

/// Files, a process with its descriptors, and the kernel.
pub struct World {
    pub files: Files,
    pub descriptors: Descriptors,
    pub kernel: Kernel,
}

impl World {
    pub fn new(entries: &[(&str, &[u8])]) -> World {
        World::with(entries, Limits::default())
    }

    pub fn with(entries: &[(&str, &[u8])], limits: Limits) -> World {
        let mut files = Files::new(archive(entries), limits).unwrap();
        let descriptors = files.descriptors();
        let process =
            |name: &str| ProcessStatus { name: name.into(), state: 'S', threads: 1, ..Default::default() };
        let processes = [(1, process("init")), (7, process("test")), (12, process("a b"))].into();
        World { files, descriptors, kernel: Kernel { processes, current: 7, ..Kernel::default() } }
    }

    pub fn call(&mut self) -> Caller<'_> {
        Caller::new(&mut self.files, &mut self.descriptors, &mut self.kernel)
    }

    pub fn open(&mut self, path: &str, flags: u32) -> Result<Fd, Errno> {
        self.call().openat(-100, path.as_bytes(), flags, 0o644)
    }

    pub fn read(&mut self, fd: Fd, length: usize) -> Result<Vec<u8>, Errno> {
        let mut bytes = vec![0; length];
        let done = self.call().read(fd, &mut &mut bytes[..])?;
        bytes.truncate(done);
        Ok(bytes)
    }

    pub fn write(&mut self, fd: Fd, bytes: &[u8]) -> Result<usize, Errno> {
        self.call().write(fd, &mut &*bytes)
    }

    /// A whole file's content.
    pub fn content(&mut self, path: &str) -> Result<Vec<u8>, Errno> {
        let fd = self.open(path, 0)?;
        let mut content = Vec::new();
        loop {
            let part = self.read(fd, 1000)?;
            if part.is_empty() {
                self.call().close(fd)?;
                return Ok(content);
            }
            content.extend(part);
        }
    }

    /// The names in a folder.
    pub fn names(&mut self, path: &str) -> Result<Vec<String>, Errno> {
        let fd = self.open(path, linux_raw_sys::general::O_DIRECTORY)?;
        let mut names = Vec::new();
        loop {
            let mut bytes = [0; 200];
            let length = self.call().getdents64(fd, &mut &mut bytes[..])?;
            if length == 0 {
                self.call().close(fd)?;
                return Ok(names);
            }
            let mut rest = &bytes[..length];
            while !rest.is_empty() {
                let size = usize::from(u16::from_le_bytes([rest[16], rest[17]]));
                let name = rest[19..size].split(|&byte| byte == 0).next().unwrap();
                names.push(String::from_utf8(name.to_vec()).unwrap());
                rest = &rest[size..];
            }
        }
    }
}
