//! Random operations on files in memory, each compared with what the host's kernel makes of it: results, error numbers, contents.

#![cfg(target_os = "linux")]

mod support;

use handover_files::{Errno, Fd, Metadata, Seek};
use linux_raw_sys::general::{AT_FDCWD, O_CREAT, O_DIRECTORY, O_RDONLY, S_IFDIR, S_IFMT, S_IFREG};
use rustix::{
    fs::{self, AtFlags, Mode, OFlags, RawMode, RenameFlags, SeekFrom},
    io,
};
use std::{
    collections::BTreeSet,
    fmt::Debug,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};
use support::World;

/// The host's file system in memory: what others do about holes and about directories' link counts differs.
const MEMORY: &str = "/dev/shm";
/// Folders above the one that is played in: more than links and `..` could ever climb.
const DEPTH: usize = 50;

/// A xorshift generator.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 20) % end
    }

    fn chance(&mut self, in_so_many: u64) -> bool {
        self.below(in_so_many) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    /// A path of up to three names, of which there are few, so that they meet.
    fn path(&mut self) -> String {
        let mut path = String::new();
        for _ in 0..=self.below(3) {
            let name = match self.below(40) {
                0 => ".".into(),
                1 | 2 => "..".into(),
                3 if self.chance(3) => "n".repeat(self.pick(&[254, 255, 256])),
                _ => self.pick(&["a", "b", "c", "d"]).into(),
            };
            path += &name;
            path += self.pick(&["/", "/", "/", "//"]);
        }
        match self.below(60) {
            0 => String::new(),
            1 => "a/".repeat(2048),
            2..6 => path,
            _ => path.trim_end_matches('/').into(),
        }
    }

    /// What a link leads to: never up by more than one folder.
    fn target(&mut self) -> String {
        let name = self.pick(&["a", "b", "c", "a/b", "b/a", "d/", "."]);
        match self.below(10) {
            0 => format!("../{name}"),
            1 => String::new(),
            2 if self.chance(10) => "x/".repeat(self.pick(&[2047, 2048])),
            _ => name.into(),
        }
    }

    fn flags(&mut self) -> u32 {
        use linux_raw_sys::general::{O_APPEND, O_EXCL, O_NOFOLLOW, O_PATH, O_RDWR, O_TRUNC, O_WRONLY};
        let mut flags = self.pick(&[O_RDONLY, O_WRONLY, O_RDWR, O_RDWR]);
        for (flag, rarity) in [
            (O_CREAT, 2),
            (O_EXCL, 5),
            (O_TRUNC, 5),
            (O_APPEND, 4),
            (O_NOFOLLOW, 6),
            (O_DIRECTORY, 8),
            (O_PATH, 15),
        ] {
            if self.chance(rarity) {
                flags |= flag;
            }
        }
        // `O_EXCL` alone is not defined, and `O_CREAT` with `O_DIRECTORY` differs between kernels.
        if flags & O_CREAT == 0 { flags & !O_EXCL } else { flags & !O_DIRECTORY }
    }
}

/// The host's side: its folder, and what is open.
struct Host {
    _folder: tempfile::TempDir,
    base: OwnedFd,
    open: Vec<Option<OwnedFd>>,
}

struct Both {
    host: Host,
    world: World,
    base: Fd,
    open: Vec<Option<Fd>>,
    random: Random,
    /// How often something succeeded and failed on both sides.
    counts: [usize; 2],
}

/// A stat as far as it is to be alike.
type Known = (u32, u64, u32);

fn known(metadata: &Metadata) -> Known {
    match metadata.mode & S_IFMT {
        S_IFDIR => (metadata.mode, 0, metadata.links),
        S_IFREG => (metadata.mode, metadata.size, metadata.links),
        _ => (metadata.mode, metadata.size, metadata.links),
    }
}

fn host_known(stat: &fs::Stat) -> Known {
    let size = if stat.st_mode & S_IFMT == S_IFDIR { 0 } else { stat.st_size as u64 };
    (stat.st_mode, size, stat.st_nlink as u32)
}

fn oflags(flags: u32) -> OFlags {
    OFlags::from_bits_retain(flags)
}

fn mode(mode: u32) -> Mode {
    Mode::from_raw_mode(mode as RawMode)
}

impl Both {
    fn new(seed: u64) -> Both {
        let folder = tempfile::tempdir_in(MEMORY).unwrap();
        rustix::process::umask(mode(0o022));
        let mut world = World::new(&[]);
        let deep = "p/".repeat(DEPTH);
        std::fs::create_dir_all(folder.path().join(&deep)).unwrap();
        let mut path = String::from("/tmp");
        for _ in 0..DEPTH {
            path += "/p";
            world.call().mkdirat(AT_FDCWD, path.as_bytes(), 0o777).unwrap();
        }
        let base =
            fs::open(folder.path().join(&deep), OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        let ours = world.open(&path, linux_raw_sys::general::O_PATH | O_DIRECTORY).unwrap();
        Both {
            host: Host { _folder: folder, base, open: (0..6).map(|_| None).collect() },
            world,
            base: ours,
            open: vec![None; 6],
            random: Random(seed),
            counts: [0; 2],
        }
    }

    /// Compares an operation's results.
    fn same<T: PartialEq + Debug>(
        &mut self,
        what: &dyn Debug,
        ours: Result<T, Errno>,
        theirs: io::Result<T>,
    ) -> bool {
        let theirs = theirs.map_err(|errno| Errno::from_number(errno.raw_os_error() as u16));
        assert_eq!(ours, theirs, "ours on the left: {what:?}");
        self.counts[usize::from(ours.is_err())] += 1;
        ours.is_ok()
    }

    /// A directory descriptor on both sides: mostly the base, at times something that is open.
    fn folder(&mut self) -> (Option<usize>, Fd) {
        let slot = self.random.below(30) as usize;
        match self.open.get(slot).copied().flatten() {
            Some(fd) => (Some(slot), fd),
            None => (None, self.base),
        }
    }

    fn host_folder(&self, slot: Option<usize>) -> BorrowedFd<'_> {
        slot.and_then(|slot| self.host.open[slot].as_ref()).unwrap_or(&self.host.base).as_fd()
    }

    fn step(&mut self) {
        match self.random.below(26) {
            0..4 => self.open_one(),
            4 => self.close_one(),
            5 | 6 => self.make_folder(),
            7 | 8 => self.remove(),
            9..11 => self.rename(),
            11 => self.link(),
            12 | 13 => self.symbolic_link(),
            14 => self.read_link(),
            15 | 16 => self.status(),
            17..20 => self.write(),
            20 | 21 => self.read(),
            22 => self.seek(),
            23 => self.truncate(),
            24 => self.list(),
            _ => self.permissions(),
        }
    }

    fn open_one(&mut self) {
        let (slot, folder) = self.folder();
        let (path, flags) = (self.random.path(), self.random.flags());
        let permissions = self.random.pick(&[0o666, 0o777, 0o600]);
        let theirs = fs::openat(self.host_folder(slot), &*path, oflags(flags), mode(permissions));
        let ours = self.world.call().openat(folder, path.as_bytes(), flags, permissions);
        let (their_result, our_result) =
            (theirs.as_ref().map(|_| ()).map_err(|errno| *errno), ours.map(|_| ()));
        if self.same(&("openat", &path, format!("{flags:o}")), our_result, their_result) {
            let slot = self.random.below(self.open.len() as u64) as usize;
            self.host.open[slot] = theirs.ok();
            if let Some(before) = std::mem::replace(&mut self.open[slot], ours.ok()) {
                self.world.call().close(before).unwrap();
            }
        }
    }

    fn close_one(&mut self) {
        let slot = self.random.below(self.open.len() as u64) as usize;
        self.host.open[slot] = None;
        if let Some(fd) = self.open[slot].take() {
            self.world.call().close(fd).unwrap();
        }
    }

    fn make_folder(&mut self) {
        let ((slot, folder), path) = (self.folder(), self.random.path());
        let theirs = fs::mkdirat(self.host_folder(slot), &*path, mode(0o777));
        let ours = self.world.call().mkdirat(folder, path.as_bytes(), 0o777);
        self.same(&("mkdirat", &path), ours, theirs);
    }

    fn remove(&mut self) {
        let ((slot, folder), path) = (self.folder(), self.random.path());
        let flags = if self.random.chance(2) { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        let theirs = fs::unlinkat(self.host_folder(slot), &*path, flags);
        let ours = self.world.call().unlinkat(folder, path.as_bytes(), flags.bits());
        self.same(&("unlinkat", &path, flags), ours, theirs);
    }

    fn rename(&mut self) {
        let ((slot, folder), from, to) = (self.folder(), self.random.path(), self.random.path());
        let flags = self.random.pick(&[
            RenameFlags::empty(),
            RenameFlags::empty(),
            RenameFlags::NOREPLACE,
            RenameFlags::EXCHANGE,
            RenameFlags::EXCHANGE.union(RenameFlags::NOREPLACE),
        ]);
        let theirs = fs::renameat_with(self.host_folder(slot), &*from, &self.host.base, &*to, flags);
        let base = self.base;
        let ours = self.world.call().renameat2(folder, from.as_bytes(), base, to.as_bytes(), flags.bits());
        self.same(&("renameat2", &from, &to, flags), ours, theirs);
    }

    fn link(&mut self) {
        let ((slot, folder), from, to) = (self.folder(), self.random.path(), self.random.path());
        let flags = if self.random.chance(2) { AtFlags::SYMLINK_FOLLOW } else { AtFlags::empty() };
        let theirs = fs::linkat(self.host_folder(slot), &*from, &self.host.base, &*to, flags);
        let base = self.base;
        let ours = self.world.call().linkat(folder, from.as_bytes(), base, to.as_bytes(), flags.bits());
        self.same(&("linkat", &from, &to, flags), ours, theirs);
    }

    fn symbolic_link(&mut self) {
        let ((slot, folder), target, path) = (self.folder(), self.random.target(), self.random.path());
        let theirs = fs::symlinkat(&*target, self.host_folder(slot), &*path);
        let ours = self.world.call().symlinkat(target.as_bytes(), folder, path.as_bytes());
        self.same(&("symlinkat", &target, &path), ours, theirs);
    }

    fn read_link(&mut self) {
        let ((slot, folder), path) = (self.folder(), self.random.path());
        let theirs =
            fs::readlinkat(self.host_folder(slot), &*path, Vec::new()).map(|target| target.into_bytes());
        let mut target = vec![0; 5000];
        let ours = self.world.call().readlinkat(folder, path.as_bytes(), &mut &mut target[..]);
        let ours = ours.map(|length| target[..length].to_vec());
        self.same(&("readlinkat", &path), ours, theirs);
    }

    fn status(&mut self) {
        let ((slot, folder), path) = (self.folder(), self.random.path());
        let flags = if self.random.chance(2) { AtFlags::SYMLINK_NOFOLLOW } else { AtFlags::empty() };
        let theirs = fs::statat(self.host_folder(slot), &*path, flags).map(|stat| host_known(&stat));
        let ours = self.world.call().statat(folder, path.as_bytes(), flags.bits()).map(|stat| known(&stat));
        self.same(&("statat", &path, flags), ours, theirs);
    }

    /// Something that is open on both sides.
    fn opened(&mut self) -> Option<(usize, Fd)> {
        let slot = self.random.below(self.open.len() as u64) as usize;
        self.open[slot].map(|fd| (slot, fd))
    }

    fn write(&mut self) {
        let Some((slot, fd)) = self.opened() else { return };
        let length = self.random.pick(&[0, 1, 100, 4096, 5000, 9000]);
        let bytes: Vec<u8> = (0..length).map(|_| self.random.next() as u8).collect();
        let file = self.host.open[slot].as_ref().unwrap();
        if self.random.chance(3) {
            let at = self.random.below(20_000);
            let theirs = io::pwrite(file, &bytes, at);
            let ours = self.world.call().write_at(fd, at as i64, &mut &bytes[..]);
            self.same(&("pwrite", length, at), ours, theirs);
        } else {
            let theirs = io::write(file, &bytes);
            let ours = self.world.write(fd, &bytes);
            self.same(&("write", length), ours, theirs);
        }
    }

    fn read(&mut self) {
        let Some((slot, fd)) = self.opened() else { return };
        let length = self.random.pick(&[0, 1, 4096, 30_000]);
        let (mut theirs, mut ours) = (vec![0; length], vec![0; length]);
        let file = self.host.open[slot].as_ref().unwrap();
        if self.random.chance(2) {
            let at = self.random.below(20_000);
            let their_result = io::pread(file, &mut theirs[..], at);
            let our_result = self.world.call().read_at(fd, at as i64, &mut &mut ours[..]);
            self.same(&("pread", length, at), our_result, their_result);
        } else {
            let their_result = io::read(file, &mut theirs[..]);
            let our_result = self.world.call().read(fd, &mut &mut ours[..]);
            self.same(&("read", length), our_result, their_result);
        }
        assert!(theirs == ours, "what was read differs");
    }

    fn seek(&mut self) {
        let Some((slot, fd)) = self.opened() else { return };
        // A position in a directory is the file system's own.
        if self.world.call().fstat(fd).unwrap().mode & S_IFMT == S_IFDIR {
            return;
        }
        let by = self.random.below(20_000) as i64 - 5000;
        let place = by.unsigned_abs();
        let (theirs, ours, by) = match self.random.below(5) {
            0 => (SeekFrom::Start(place), Seek::Start, place as i64),
            1 => (SeekFrom::Current(by), Seek::Current, by),
            2 => (SeekFrom::End(by), Seek::End, by),
            3 => (SeekFrom::Data(place), Seek::Data, place as i64),
            _ => (SeekFrom::Hole(place), Seek::Hole, place as i64),
        };
        let their_result = fs::seek(self.host.open[slot].as_ref().unwrap(), theirs);
        let our_result = self.world.call().lseek(fd, by, ours);
        self.same(&("lseek", theirs), our_result, their_result);
    }

    fn truncate(&mut self) {
        let Some((slot, fd)) = self.opened() else { return };
        let size = self.random.below(20_000);
        let theirs = fs::ftruncate(self.host.open[slot].as_ref().unwrap(), size);
        let ours = self.world.call().ftruncate(fd, size as i64);
        self.same(&("ftruncate", size), ours, theirs);
    }

    fn list(&mut self) {
        let ((slot, folder), path) = (self.folder(), self.random.path());
        let flags = O_DIRECTORY | O_RDONLY;
        let theirs = fs::openat(self.host_folder(slot), &*path, oflags(flags), Mode::empty());
        let ours = self.world.call().openat(folder, path.as_bytes(), flags, 0);
        let (their_result, our_result) =
            (theirs.as_ref().map(|_| ()).map_err(|errno| *errno), ours.map(|_| ()));
        if !self.same(&("openat to list", &path), our_result, their_result) {
            return;
        }
        let entries = fs::Dir::new(theirs.unwrap()).unwrap();
        let theirs: BTreeSet<_> = entries
            .map(|entry| entry.unwrap())
            .map(|entry| String::from_utf8(entry.file_name().to_bytes().to_vec()).unwrap())
            .collect();
        let ours = ours.unwrap();
        let names: BTreeSet<_> = self.world.names_of(ours).unwrap().into_iter().collect();
        self.world.call().close(ours).unwrap();
        assert_eq!(names, theirs, "the names in {path}");
    }

    fn permissions(&mut self) {
        let ((slot, folder), path) = (self.folder(), self.random.path());
        let permissions = self.random.pick(&[0o700, 0o755, 0o1777, 0o744]);
        let theirs = fs::chmodat(self.host_folder(slot), &*path, mode(permissions), AtFlags::empty());
        let ours = self.world.call().fchmodat(folder, path.as_bytes(), permissions, 0);
        self.same(&("fchmodat", &path), ours, theirs);
        let access = self.random.pick(&[0, 1, 2, 4, 7]);
        let theirs = fs::accessat(
            self.host_folder(slot),
            &*path,
            fs::Access::from_bits_retain(access),
            AtFlags::empty(),
        );
        let ours = self.world.call().faccessat(folder, path.as_bytes(), access, 0);
        // Only for the superuser everything is permitted there, as it is here.
        if rustix::process::geteuid().is_root() {
            self.same(&("faccessat", &path, access), ours, theirs);
        }
    }
}

#[test]
fn files_behave_as_the_hosts_do() {
    if !Path::new(MEMORY).is_dir() {
        eprintln!("not compared: this host has no {MEMORY}");
        return;
    }
    let seeds = std::env::var("HANDOVER_SEEDS").map_or(40_u64, |seeds| seeds.parse().unwrap());
    let mut counts = [0; 2];
    for seed in 1..=seeds {
        let mut both = Both::new(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
        for step in 0..1500 {
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| both.step()));
            assert!(result.is_ok(), "seed {seed}, step {step}");
        }
        counts = [counts[0] + both.counts[0], counts[1] + both.counts[1]];
        clear(both);
    }
    // Neither all of it fails, nor nothing.
    assert!(counts.iter().all(|&count| count > 8000), "{counts:?}");
}

/// Closes and removes everything, and finds that nothing is left.
fn clear(mut both: Both) {
    let before = World::new(&[]).call().statfs(b"/tmp").unwrap();
    let other = both.world.files.descriptors();
    std::mem::replace(&mut both.world.descriptors, other)
        .close_all(&mut both.world.files, &mut both.world.kernel);
    remove_all(&mut both.world, "/tmp");
    assert_eq!(both.world.call().statfs(b"/tmp").unwrap(), before);
}

fn remove_all(world: &mut World, folder: &str) {
    for name in world.names(folder).unwrap() {
        let path = format!("{folder}/{name}");
        if name == "." || name == ".." {
            continue;
        }
        match world.call().unlinkat(AT_FDCWD, path.as_bytes(), 0) {
            Ok(()) => {}
            Err(Errno::ISDIR) => {
                remove_all(world, &path);
                world
                    .call()
                    .unlinkat(AT_FDCWD, path.as_bytes(), linux_raw_sys::general::AT_REMOVEDIR)
                    .unwrap();
            }
            Err(errno) => panic!("{path}: {errno}"),
        }
    }
}
