//! A kernel for the files to be tested in.
#![allow(dead_code, reason = "each test uses a part of it")]

pub mod hypervisor;

use cpio::newc::{Builder, ModeFileType, trailer};
use handover_abi::{Event, PartitionId, Port, RegionHandle, ServiceId, Signal};
use handover_files::{
    Caller, Channels, Clock, Console, Descriptors, Errno, Failure, Fd, Files, Limits, MachineStatus,
    PortStatus, ProcessStatus, Processes, Random, Received, Region, Sink, Source, Time, WaitKey,
};
use hypervisor::{Hypervisor, handle, padded};
use std::{collections::BTreeMap, io::Write};

/// The partition that the files are in.
pub const ME: u32 = 1;

/// What is around the files: a clock that counts, a console that remembers, processes by hand.
#[derive(Default)]
pub struct Kernel {
    pub time: std::cell::Cell<i64>,
    pub screen: Vec<u8>,
    pub processes: BTreeMap<u32, ProcessStatus>,
    pub current: u32,
    pub hypervisor: Hypervisor,
    /// Addresses where regions are mapped, by process and region.
    pub mappings: BTreeMap<(u32, u64), u64>,
    pub next_address: u64,
    /// Whether a process has no address space left.
    pub no_address_space: bool,
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

fn name(region: Region) -> u64 {
    region.handle.get().into()
}

impl Kernel {
    fn region(&mut self, region: u64) -> Region {
        let bytes = self.hypervisor.bytes(ME, region).unwrap().len() as u64;
        Region { handle: handle(region), address: region << 21, bytes }
    }
}

impl Channels for Kernel {
    fn partition(&self) -> PartitionId {
        PartitionId::new(ME)
    }

    fn connect(&mut self, partition: PartitionId, service: ServiceId) -> Result<Port, Failure> {
        Ok(Port::new(self.hypervisor.connect(ME, partition.get(), service.get())?))
    }

    fn accept(&mut self, token: u64) -> Result<Port, Failure> {
        Ok(Port::new(self.hypervisor.accept(ME, token)?))
    }

    fn refuse(&mut self, token: u64, reason: u32) -> Result<(), Failure> {
        Ok(self.hypervisor.refuse(token, reason)?)
    }

    fn disconnect(&mut self, port: Port) -> Result<(), Failure> {
        Ok(self.hypervisor.disconnect(ME, port.get())?)
    }

    fn send(&mut self, port: Port, region: Option<Region>, short: &[u8]) -> Result<(), Failure> {
        self.hypervisor.send(ME, port.get(), region.map(name), short)?;
        if let Some(region) = region {
            self.unmap_region(region);
        }
        Ok(())
    }

    fn receive(&mut self, port: Port) -> Result<Received, Failure> {
        let (region, short) = self.hypervisor.receive(ME, port.get())?;
        let region = region.map(|region| self.region(region));
        Ok(Received { region, short: padded(&short), length: short.len() as u8 })
    }

    fn port_status(&mut self, port: Port) -> Result<PortStatus, Failure> {
        let (causes, peer, reason) = self.hypervisor.status(ME, port.get())?;
        Ok(PortStatus { causes, peer: PartitionId::new(peer), reason })
    }

    fn next_event(&mut self) -> Result<Option<Event>, Failure> {
        Ok(self.hypervisor.next_event(ME))
    }

    fn next_signal(&mut self) -> Result<Option<Signal>, Failure> {
        Ok(self.hypervisor.next_signal(ME))
    }

    fn create_region(&mut self, bytes: u64) -> Result<Region, Failure> {
        let region = self.hypervisor.create(ME, bytes)?;
        Ok(self.region(region))
    }

    fn destroy_region(&mut self, region: Region) -> Result<(), Failure> {
        self.unmap_region(region);
        Ok(self.hypervisor.destroy(ME, name(region))?)
    }

    fn read_region(
        &mut self,
        region: Region,
        offset: u64,
        length: u64,
        sink: &mut dyn Sink,
    ) -> Result<usize, Errno> {
        let bytes = self.hypervisor.bytes(ME, name(region)).map_err(|_| Errno::IO)?;
        sink.put(&bytes[offset as usize..][..length as usize])
    }

    fn write_region(
        &mut self,
        region: Region,
        offset: u64,
        length: u64,
        source: &mut dyn Source,
    ) -> Result<usize, Errno> {
        let bytes = self.hypervisor.bytes(ME, name(region)).map_err(|_| Errno::IO)?;
        source.take(&mut bytes[offset as usize..][..length as usize])
    }

    fn map_region(&mut self, region: Region) -> Result<u64, Errno> {
        if self.no_address_space {
            return Err(Errno::NOMEM);
        }
        self.next_address += 1 << 30;
        self.mappings.insert((self.current, name(region)), self.next_address);
        Ok(self.next_address)
    }

    fn unmap_region(&mut self, region: Region) {
        self.mappings.retain(|&(_, other), _| other != name(region));
    }
}

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
    /// All that became ready.
    pub fn take_wakeups(&mut self) -> Vec<WaitKey> {
        std::iter::from_fn(|| self.files.next_wakeup()).collect()
    }

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

    /// Has the files take what the control OS has to tell.
    pub fn events(&mut self) {
        self.files.channel_events(&mut self.kernel);
    }

    /// The region of a handle's number.
    pub fn bytes_of(&mut self, handle: RegionHandle) -> &mut Vec<u8> {
        self.kernel.hypervisor.bytes(ME, handle.get().into()).unwrap()
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
        let names = self.names_of(fd);
        self.call().close(fd)?;
        names
    }

    /// The names in a folder that is open.
    pub fn names_of(&mut self, fd: Fd) -> Result<Vec<String>, Errno> {
        let mut names = Vec::new();
        loop {
            let mut bytes = [0; 500];
            let length = self.call().getdents64(fd, &mut &mut bytes[..])?;
            if length == 0 {
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
