//! Arbitrary bytes as archives and paths, and arbitrary calls: nothing panics, nothing leaks.

mod support;

use handover_abi::{PartitionId, ServiceId};
use handover_files::{
    Descriptors, EpollEvent, Errno, Fd, Files, IOCTL_BUFFER, Limits, Seek, SetTime,
    interface::{AF_HANDOVER, Address, HANDOVER_MAP, SOL_HANDOVER},
};
use linux_raw_sys::{
    general::{AT_FDCWD, O_CREAT, O_RDWR},
    net::SOCK_SEQPACKET,
};
use support::{ME, World, archive};

/// A xorshift generator.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Random {
        Random(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 8
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    fn bytes(&mut self, most: u64) -> Vec<u8> {
        (0..self.below(most + 1)).map(|_| self.next() as u8).collect()
    }

    /// A number that is often at an edge.
    fn number(&mut self) -> u64 {
        let edge =
            self.pick(&[0, 1, 7, 4096, 1 << 20, 1 << 30, 1 << 31, 1 << 32, 1 << 62, 1 << 63, u64::MAX]);
        match self.below(3) {
            0 => edge,
            1 => edge.wrapping_sub(self.below(3)),
            _ => self.below(20_000),
        }
    }
}

fn seeds() -> u64 {
    std::env::var("HANDOVER_SEEDS").map_or(300, |seeds| seeds.parse().unwrap())
}

/// An archive of some of everything.
fn some_archive() -> &'static [u8] {
    archive(&[("bin/", b""), ("bin/a", &[7; 5000]), ("bin/b", b"->a"), ("c/d/e", b"text"), ("l", b"->/c/d")])
}

#[test]
fn damaged_archives() {
    let good = some_archive();
    let (mut read, mut refused) = (0, 0);
    for seed in 1..=seeds() * 4 {
        let mut random = Random::new(seed);
        let mut bytes = if random.below(10) == 0 { random.bytes(3000) } else { good.to_vec() };
        for _ in 0..random.below(6) {
            match random.below(4) {
                0 => bytes.truncate(random.below(bytes.len() as u64 + 1) as usize),
                1 if !bytes.is_empty() => {
                    let at = random.below(bytes.len() as u64) as usize;
                    let part = bytes[at..].to_vec();
                    bytes.extend(part);
                }
                _ if !bytes.is_empty() => {
                    let at = random.below(bytes.len() as u64) as usize;
                    bytes[at] = random.pick(&[0, b'0', b'7', b'F', b'/', b'.', b'a', 0xff]);
                }
                _ => {}
            }
        }
        match Files::new(Box::leak(bytes.into_boxed_slice()), Limits { inodes: 64, ..Limits::default() }) {
            Ok(mut files) => {
                read += 1;
                let descriptors = files.descriptors();
                let mut world = World { files, descriptors, kernel: support::Kernel::default() };
                walk_all(&mut world, "", 0);
            }
            Err(_) => refused += 1,
        }
    }
    assert!(read > 10 && refused > 10, "{read} {refused}");
}

/// Reads everything there is.
fn walk_all(world: &mut World, folder: &str, depth: usize) {
    assert!(depth < 100);
    let name = if folder.is_empty() { "/" } else { folder };
    for name in world.names(name).unwrap() {
        let path = format!("{folder}/{name}");
        let metadata =
            world.call().statat(AT_FDCWD, path.as_bytes(), linux_raw_sys::general::AT_SYMLINK_NOFOLLOW);
        let metadata = metadata.unwrap();
        if name != "." && name != ".." && metadata.mode & linux_raw_sys::general::S_IFMT == 0o040_000 {
            walk_all(world, &path, depth + 1);
        } else if metadata.mode & linux_raw_sys::general::S_IFMT == 0o100_000 && !path.starts_with("/proc") {
            assert_eq!(world.content(&path).unwrap().len() as u64, metadata.size);
        }
    }
}

#[test]
fn names_that_make_no_tree() {
    let long = "n".repeat(256);
    for names in [&["../x"][..], &["a/../b"], &["a", "a/b"], &["d/", "d"], &[&long]] {
        let entries: Vec<_> = names.iter().map(|name| (*name, &b"x"[..])).collect();
        assert!(Files::new(archive(&entries), Limits::default()).is_err(), "{names:?}");
    }
    let entries = [("./a//b", &b"x"[..]), ("/a/c", b"y"), ("a/b", b"z"), (".", b"")];
    let mut world = World::new(&entries[..3]);
    assert_eq!(world.content("/a/b").unwrap(), b"z", "the last one counts");
    assert_eq!(world.content("/a/c").unwrap(), b"y");
    assert!(Files::new(archive(&[("a", b"x")]), Limits { inodes: 3, ..Limits::default() }).is_err());
}

const PATHS: [&str; 24] = [
    "/tmp/a",
    "/tmp/b",
    "/tmp/a/b",
    "/tmp/d/",
    "/msg/a",
    "/msg/1",
    "/msg/2",
    "/msg/d",
    "/msg",
    "/dev/null",
    "/dev/tty",
    "/dev/fd/3",
    "/dev/stdin",
    "/proc/self/fd/4",
    "/proc/self/stat",
    "/proc",
    "/proc/meminfo",
    "/proc/self/cwd/a",
    "/bin/b",
    "/l/e",
    "a",
    "..",
    "",
    "/dev/shm/x",
];

/// A process that calls anything, with a partition at the other end of its channels that does anything.
struct Chaos {
    world: World,
    random: Random,
    /// The ports of the other partition, and the regions it holds.
    ports: Vec<u32>,
    regions: Vec<u64>,
    /// Descriptors of child processes.
    children: Vec<(u32, Descriptors)>,
}

const PEER: u32 = 2;

impl Chaos {
    fn path(&mut self) -> Vec<u8> {
        if self.random.below(20) == 0 {
            let mut path = self.random.bytes(300);
            path.iter_mut().for_each(|byte| *byte = if *byte < 100 { b'/' } else { *byte & 0x7f | 1 });
            return path;
        }
        self.random.pick(&PATHS).into()
    }

    fn fd(&mut self) -> Fd {
        if self.random.below(20) == 0 { self.random.number() as Fd } else { self.random.below(10) as Fd }
    }

    /// A record for a socket, whatever its kind.
    fn record(&mut self) -> Vec<u8> {
        let names = self.world.names("/msg").unwrap_or_default();
        let mapped = self.world.kernel.mappings.values().next().copied().unwrap_or(1 << 30);
        let mut record = match self.random.below(8) {
            0 => vec![0],
            3..6 if names.len() > 2 => format!("/msg/{}\0", names[names.len() - 1]).into_bytes(),
            6 => [mapped.to_le_bytes(), [0; 8]].concat(),
            1 => [self.random.pick(&["/msg/a", "/msg/1", "/msg/2", "/msg/3"]).as_bytes(), b"\0"].concat(),
            2 => [(self.random.below(12) << 30).to_le_bytes(), [0; 8]].concat(),
            _ => self.path(),
        };
        record.extend(self.random.bytes(130));
        record
    }

    /// A listener, and two connections with the other partition.
    fn connect(&mut self) {
        let address = Address { partition: PartitionId::new(ME), service: ServiceId::new(1) }.to_bytes();
        let mut call = self.world.call();
        let listener = call.socket(AF_HANDOVER.into(), SOCK_SEQPACKET, 0).unwrap();
        call.bind(listener, &address).unwrap();
        call.listen(listener, 5).unwrap();
        for maps in 0..2 {
            self.ports.push(self.world.kernel.hypervisor.connect(PEER, ME, 1).unwrap());
            self.world.events();
            let fd = self.world.call().accept4(listener, 0).unwrap();
            self.world.call().setsockopt(fd, SOL_HANDOVER, HANDOVER_MAP, maps).unwrap();
        }
    }

    /// Makes a message file with something in it.
    fn make_message(&mut self) {
        let path = self.random.pick(&["/msg/a", "/msg/b", "/msg/d/x"]);
        let bytes = self.random.bytes(9000);
        if let Ok(fd) = self.world.call().openat(AT_FDCWD, path.as_bytes(), O_RDWR | O_CREAT, 0o600) {
            _ = self.world.write(fd, &bytes);
            self.world.call().close(fd).unwrap();
        }
    }

    fn step(&mut self) {
        match self.random.below(10) {
            0..4 => self.file_call(),
            4..6 => self.descriptor_call(),
            6..8 => self.socket_call(),
            8 => self.peer(),
            _ => self.process(),
        }
        self.world.events();
        self.check();
    }

    fn file_call(&mut self) {
        let (path, other, fd) = (self.path(), self.path(), self.fd());
        let (number, flags) = (self.random.number(), self.random.next() as u32);
        let mode = self.random.next() as u32;
        let kind = self.random.below(16);
        let mut call = self.world.call();
        _ = match kind {
            0..3 => call.openat(AT_FDCWD, &path, O_RDWR | O_CREAT, 0o644).map(|_| ()),
            3 => call.openat(fd, &path, flags, mode).map(|_| ()),
            4 => call.mkdirat(AT_FDCWD, &path, mode),
            5 => call.unlinkat(AT_FDCWD, &path, flags & 0x200),
            6 => call.renameat2(AT_FDCWD, &path, AT_FDCWD, &other, flags & 3),
            7 => call.linkat(AT_FDCWD, &path, AT_FDCWD, &other, flags & 0x400),
            8 => call.symlinkat(&other, AT_FDCWD, &path),
            9 => call.mknodat(AT_FDCWD, &path, mode & 0o17_7777, number),
            10 => call.statat(fd, &path, flags & 0x1100).map(|stat| _ = (stat.to_stat(), stat.to_statx())),
            11 => call.truncate(&path, number as i64 & 0xff_ffff),
            12 => call.utimensat(fd, Some(&path), SetTime::Now, SetTime::Omit, 0),
            13 => call.fchmodat(AT_FDCWD, &path, mode, 0),
            14 => call.chdir(&path),
            _ => call.readlinkat(AT_FDCWD, &path, &mut &mut [0; 100][..]).map(|_| ()),
        };
    }

    fn descriptor_call(&mut self) {
        let (fd, other) = (self.fd(), self.fd());
        let (number, flags) = (self.random.number(), self.random.next() as u32);
        let bytes = self.random.bytes(3000);
        let mut buffer = [0; 6000];
        let length = self.random.below(6000) as usize;
        let kind = self.random.below(22);
        let mut call = self.world.call();
        _ = match kind {
            0..3 => call.read(fd, &mut &mut buffer[..length]).map(|_| ()),
            3..6 => call.write(fd, &mut &bytes[..]).map(|_| ()),
            6 => call.read_at(fd, number as i64, &mut &mut buffer[..length]).map(|_| ()),
            7 => call.write_at(fd, number as i64 & 0xff_ffff, &mut &bytes[..]).map(|_| ()),
            8 => Seek::try_from(flags & 7).and_then(|seek| call.lseek(fd, number as i64, seek)).map(|_| ()),
            9 => call.ftruncate(fd, number as i64 & 0xff_ffff),
            10 => call.fallocate(fd, flags & 3, number as i64, length as i64),
            11 if number % 4 == 0 => call.close(fd),
            12 if number % 4 == 0 => call.dup3(fd, other, 0).map(|_| ()),
            13 => call.fcntl(fd, flags % 12, number & 0xffff).map(|_| ()),
            14 => call.ioctl(fd, 0x5401 + flags % 32, number, &mut [flags as u8; IOCTL_BUFFER]).map(|_| ()),
            15 => call.pipe2(0).map(|_| ()),
            16 => call.getdents64(fd, &mut &mut buffer[..length]).map(|_| ()),
            17 => call.epoll_create1(0).map(|_| ()),
            18 => call.epoll_ctl(fd, flags % 5, other, EpollEvent { events: number as u32, data: 1 }),
            19 => call.epoll_wait(fd, 5).map(|_| ()),
            20 => call.eventfd2(flags, 0).map(|_| ()),
            _ => call.hold(fd).map(|hold| {
                _ = call.page(&hold, number % 5, flags & 1 != 0);
                call.files.release(hold, call.system);
            }),
        };
        _ = self.world.call().readiness(fd);
        self.world.take_wakeups();
    }

    fn socket_call(&mut self) {
        let fd = self.fd();
        let partition = self.random.pick(&[0, ME, PEER, 99]);
        let service = self.random.below(3) as u32;
        let address =
            Address { partition: PartitionId::new(partition), service: ServiceId::new(service) }.to_bytes();
        let (record, number) = (self.record(), self.random.number());
        let kind = self.random.below(17);
        if kind == 16 {
            return self.make_message();
        }
        let mut buffer = [0; 256];
        let length = if self.random.below(4) == 0 { self.random.below(256) as usize } else { 256 };
        let flags = self.random.next() as u32;
        let mut call = self.world.call();
        _ = match kind {
            0 => call.socket(AF_HANDOVER.into(), SOCK_SEQPACKET, 0).map(|_| ()),
            1 => call.bind(fd, &address),
            2 => call.listen(fd, flags as i32 % 9),
            3 | 4 => call.accept4(fd, 0).map(|_| ()),
            5 => call.connect(fd, &address),
            6 => call.connect_result(fd),
            7..9 => call.read(fd, &mut &mut buffer[..length]).map(|_| ()),
            9..12 => call.write(fd, &mut &record[..]).map(|_| ()),
            12 => call.setsockopt(fd, SOL_HANDOVER, HANDOVER_MAP, flags & 1),
            13 if number % 4 == 0 => call.shutdown(fd, flags % 4),
            14 => call.map_new(fd, number % 100_000).map(|_| ()),
            _ => call.discard_mapped((number % 12) << 30),
        };
    }

    /// The other partition does something.
    fn peer(&mut self) {
        let hypervisor = &mut self.world.kernel.hypervisor;
        let port = self.ports.get(self.random.below(8) as usize).copied();
        match (self.random.below(7), port) {
            (0, _) => self.ports.extend(hypervisor.connect(PEER, ME, self.random.below(3) as u32).ok()),
            (1, _) => {
                if let Some(signal) = hypervisor.next_signal(PEER) {
                    if self.random.below(4) == 0 {
                        _ = hypervisor.refuse(signal.token, 3);
                    } else {
                        self.ports.extend(hypervisor.accept(PEER, signal.token).ok());
                    }
                }
            }
            (2, Some(port)) if self.random.below(5) == 0 => {
                hypervisor.disconnect(PEER, port).unwrap();
                self.ports.retain(|&other| other != port);
            }
            (3 | 4, Some(port)) => {
                let region = hypervisor.create(PEER, 4096 << self.random.below(3)).unwrap();
                if hypervisor.send(PEER, port, Some(region), &self.random.bytes(128)).is_err() {
                    hypervisor.destroy(PEER, region).unwrap();
                }
            }
            (_, Some(port)) => {
                if let Ok((Some(region), _)) = hypervisor.receive(PEER, port) {
                    self.regions.push(region);
                }
            }
            _ => {}
        }
    }

    /// Processes are made, take turns and end.
    fn process(&mut self) {
        let world = &mut self.world;
        match self.random.below(8) {
            0 if self.children.len() < 3 => {
                let child = world.descriptors.fork(&mut world.files);
                let id = 100 + self.random.below(1000) as u32;
                self.children.push((id, child));
            }
            1..5 if !self.children.is_empty() => {
                let place = self.random.below(self.children.len() as u64) as usize;
                std::mem::swap(&mut world.descriptors, &mut self.children[place].1);
                std::mem::swap(&mut world.kernel.current, &mut self.children[place].0);
            }
            5 if !self.children.is_empty() => {
                let (id, descriptors) = self.children.remove(0);
                descriptors.close_all(&mut world.files, &mut world.kernel);
                let heir = (self.random.below(2) == 0).then_some(world.kernel.current);
                world.files.process_ended(id, heir, &mut world.kernel);
            }
            6 if self.random.below(10) == 0 => world.descriptors.exec(&mut world.files, &mut world.kernel),
            7 => world.kernel.no_address_space = self.random.below(3) == 0,
            _ => {
                let bytes = self.random.bytes(20);
                world.files.console_input(&mut world.kernel, &bytes);
            }
        }
    }

    /// What is mapped is held, and nothing is mapped twice.
    fn check(&self) {
        let hypervisor = &self.world.kernel.hypervisor;
        assert!(self.world.kernel.mappings.len() <= hypervisor.held(ME));
        let regions: std::collections::BTreeSet<_> =
            self.world.kernel.mappings.keys().map(|&(_, region)| region).collect();
        assert_eq!(regions.len(), self.world.kernel.mappings.len());
    }

    /// All processes end: everything comes back.
    fn end(mut self) -> [usize; 2] {
        let world = &mut self.world;
        let last = world.files.descriptors();
        let own = std::mem::replace(&mut world.descriptors, last);
        self.children.push((world.kernel.current, own));
        for (id, descriptors) in self.children {
            descriptors.close_all(&mut world.files, &mut world.kernel);
            world.files.process_ended(id, None, &mut world.kernel);
        }
        world.kernel.current = 1;
        // Those whose process ended while another one used its files.
        for name in world.names("/msg").unwrap() {
            _ = world.call().unlinkat(AT_FDCWD, format!("/msg/{name}").as_bytes(), 0);
        }
        assert_eq!(world.kernel.hypervisor.ports(ME), 0);
        assert_eq!((world.kernel.hypervisor.held(ME), world.kernel.mappings.len()), (0, 0));
        for folder in ["/tmp", "/dev/shm", "/msg", "/dev", "/run"] {
            clear(world, folder);
        }
        assert_eq!(world.call().statfs(b"/tmp").unwrap().free_blocks, Limits::default().pages);
        let debris = format!("{:?}", world.files);
        assert!(!debris.contains("Pipe {"), "a pipe is left");
        world.kernel.hypervisor.moved.get(&ME).copied().unwrap_or_default()
    }
}

fn clear(world: &mut World, folder: &str) {
    for name in world.names(folder).unwrap() {
        let path = format!("{folder}/{name}");
        if matches!(name.as_str(), "." | "..") {
            continue;
        }
        if world.call().unlinkat(AT_FDCWD, path.as_bytes(), 0) == Err(Errno::ISDIR) {
            clear(world, &path);
            _ = world.call().unlinkat(AT_FDCWD, path.as_bytes(), linux_raw_sys::general::AT_REMOVEDIR);
        }
    }
}

#[test]
fn any_calls_by_anybody() {
    let mut moved = [0; 2];
    for seed in 1..=seeds() {
        let mut random = Random::new(seed);
        let mut world = World::with(&[], Limits { pages: 4096, inodes: 200, opens: 60, ..Limits::default() });
        world.files =
            Files::new(some_archive(), Limits { inodes: 200, opens: 60, ..Limits::default() }).unwrap();
        world.descriptors = world.files.descriptors();
        world.kernel.hypervisor.limit = (random.below(2) == 0).then_some(6);
        let (ports, regions, children) = Default::default();
        let mut chaos = Chaos { world, random, ports, regions, children };
        chaos.connect();
        for step in 0..600 {
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| chaos.step()));
            assert!(result.is_ok(), "seed {seed}, step {step}");
        }
        match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| chaos.end())) {
            Ok([sent, received]) => moved = [moved[0] + sent, moved[1] + received],
            Err(_) => panic!("seed {seed}, at the end"),
        }
    }
    assert!(moved.iter().all(|&count| count > 100), "regions sent and received: {moved:?}");
}
