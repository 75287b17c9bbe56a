//! File systems, and how they make one tree.

use alloc::{string::String, vec::Vec};
use core::fmt;

use handover_cpio::Archive;
use linux_raw_sys::general::{S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG};

use crate::{
    Errno,
    contents::Contents,
    files::{Files, ROOT},
    node::{Body, Device, Directory, Node},
    proc,
    system::Time,
};

/// Why there is no tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damaged {
    /// The archive cannot be read.
    Archive(handover_cpio::Damaged),
    /// An entry of the archive has no place in a tree: its number, and why.
    Entry(usize, Errno),
    /// The standard directories cannot be made.
    Standard(Errno),
}

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Damaged::Archive(damage) => damage.fmt(f),
            Damaged::Entry(number, errno) => {
                write!(f, "damaged: entry {number} has no place in the tree ({errno})")
            }
            Damaged::Standard(errno) => write!(f, "no place for /dev, /proc, /msg, /tmp or /run ({errno})"),
        }
    }
}

impl core::error::Error for Damaged {}

impl From<Errno> for Damaged {
    fn from(errno: Errno) -> Damaged {
        Damaged::Standard(errno)
    }
}

/// Kinds of file systems.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MountKind {
    /// The boot archive, read-only.
    Archive,
    /// Files in memory.
    Memory,
    /// Devices.
    Devices,
    /// Processes.
    Processes,
    /// Message files.
    Messages,
}

impl MountKind {
    /// Linux's number for it.
    pub(crate) fn magic(self) -> u64 {
        match self {
            // What Linux says of an initial file system that is a cpio archive's.
            MountKind::Archive => 0x8584_58f6,
            MountKind::Memory | MountKind::Devices => 0x0102_1994,
            MountKind::Processes => 0x9fa0,
            // "msgs".
            MountKind::Messages => 0x6d73_6773,
        }
    }
}

/// A file system, at its place in the tree.
#[derive(Debug)]
pub(crate) struct Mount {
    pub(crate) kind: MountKind,
    pub(crate) path: String,
}

impl Mount {
    pub(crate) fn read_only(&self) -> bool {
        self.kind == MountKind::Archive
    }

    /// Its type, as `/proc/mounts` says.
    pub(crate) fn name(&self) -> &'static str {
        match self.kind {
            MountKind::Archive => "cpio",
            MountKind::Memory => "tmpfs",
            MountKind::Devices => "devtmpfs",
            MountKind::Processes => "proc",
            MountKind::Messages => "messages",
        }
    }
}

/// `makedev(3)`.
pub(crate) const fn device_number(major: u32, minor: u32) -> u64 {
    let (major, minor) = (major as u64, minor as u64);
    minor & 0xff | (major & 0xfff) << 8 | (minor & !0xff) << 12 | (major & !0xfff) << 32
}

const DEVICES: [(&str, Device, u64, u32); 9] = [
    ("null", Device::Null, device_number(1, 3), 0o666),
    ("zero", Device::Zero, device_number(1, 5), 0o666),
    ("full", Device::Full, device_number(1, 7), 0o666),
    ("random", Device::Random, device_number(1, 8), 0o666),
    ("urandom", Device::Random, device_number(1, 9), 0o666),
    ("control", Device::Control, device_number(10, 200), 0o600),
    ("tty", Device::Terminal, device_number(5, 0), 0o666),
    ("console", Device::Terminal, device_number(5, 1), 0o600),
    ("ttyAMA0", Device::Terminal, device_number(204, 64), 0o660),
];

const LINKS: [(&str, &str); 4] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];

impl Device {
    /// The device that `mknod` names.
    pub(crate) fn of(number: u64) -> Device {
        DEVICES.iter().find(|entry| entry.2 == number).map_or(Device::Absent, |entry| entry.1)
    }
}

impl Files {
    /// Makes the tree's root of an archive.
    pub(crate) fn mount_root(&mut self, archive: &'static [u8]) -> Result<(), Damaged> {
        let archive = Archive::read(archive).map_err(Damaged::Archive)?;
        self.mounts.push(Mount { kind: MountKind::Archive, path: "/".into() });
        let now = Time::default();
        let root = self.make(0, 0o755, now, Body::Directory(Directory::default()))?;
        debug_assert_eq!(root, ROOT);
        self.inode_mut(root)?.links = 2;
        for (number, file) in archive.files().iter().enumerate() {
            self.unpack(file).map_err(|errno| Damaged::Entry(number, errno))?;
        }
        Ok(())
    }

    /// Puts an entry of the archive at its place, making the directories it is in.
    fn unpack(&mut self, file: &handover_cpio::File<'static>) -> Result<(), Errno> {
        let time = Time { seconds: i64::from(file.modified), nanoseconds: 0 };
        let mut names =
            file.name.as_bytes().split(|&byte| byte == b'/').filter(|name| !matches!(*name, b"" | b"."));
        let Some(mut name) = names.next() else { return Ok(()) };
        let mut directory = ROOT;
        for next in names {
            directory = self.directory_at(directory, name, time)?;
            name = next;
        }
        let body = match file.mode & S_IFMT {
            S_IFDIR => {
                let made = self.directory_at(directory, name, time)?;
                let inode = self.inode_mut(made)?;
                inode.permissions = file.mode & 0o7777;
                inode.modified = time;
                return Ok(());
            }
            S_IFREG => Body::Archive(file.data),
            S_IFLNK if file.data.is_empty() || file.data.contains(&0) => return Err(Errno::INVAL),
            S_IFLNK => Body::Link(file.data.to_vec(), 0),
            S_IFIFO => Body::Fifo(None),
            S_IFCHR => Body::Device(Device::Absent, 0),
            S_IFBLK => Body::Device(Device::Absent, 1 << 63),
            _ => return Err(Errno::INVAL),
        };
        checked(name)?;
        match self.directory(directory)?.get(name) {
            Some(Node::Inode(there)) if self.inode(there)?.directory().is_some() => return Err(Errno::ISDIR),
            Some(_) => self.unlink(directory, name, time)?,
            None => {}
        }
        let made = self.make(0, file.mode, time, body)?;
        self.link(directory, name, made, time)
    }

    /// The directory of this name, made if it is not there.
    fn directory_at(&mut self, parent: u32, name: &[u8], time: Time) -> Result<u32, Errno> {
        checked(name)?;
        match self.directory(parent)?.get(name) {
            Some(Node::Inode(there)) => {
                self.directory(there)?;
                Ok(there)
            }
            Some(Node::Proc(_)) => Err(Errno::NOTDIR),
            None => {
                let mount = self.inode(parent)?.mount;
                let made = self.make(mount, 0o755, time, Body::Directory(Directory::default()))?;
                self.link(parent, name, made, time)?;
                Ok(made)
            }
        }
    }

    /// Has a new file system's root take the place of a directory below the root, or of one in `/dev`.
    fn mount(&mut self, parent: u32, name: &str, kind: MountKind, permissions: u32) -> Result<u32, Errno> {
        let mount = u8::try_from(self.mounts.len()).map_err(|_| Errno::NOSPC)?;
        let time = Time::default();
        let prefix = self.path(Node::Inode(parent)).unwrap_or_default();
        let prefix = String::from_utf8(prefix).map_err(|_| Errno::INVAL)?;
        let path = alloc::format!("{}/{name}", prefix.trim_end_matches('/'));
        self.mounts.push(Mount { kind, path });
        // A directory of the archive that lies there is hidden for good.
        if let Some(Node::Inode(hidden)) = self.directory(parent)?.get(name.as_bytes()) {
            let was_directory = self.inode(hidden)?.directory().is_some();
            self.inode_mut(parent)?.links -= u32::from(was_directory);
        }
        let root = self.make(mount, permissions, time, Body::Directory(Directory::default()))?;
        self.link(parent, name.as_bytes(), root, time)?;
        Ok(root)
    }

    /// Mounts what every program expects.
    pub(crate) fn mount_standard(&mut self) -> Result<(), Errno> {
        let time = Time::default();
        let devices = self.mount(ROOT, "dev", MountKind::Devices, 0o755)?;
        let mount = self.inode(devices)?.mount;
        for (name, device, number, permissions) in DEVICES {
            let made = self.make(mount, permissions, time, Body::Device(device, number))?;
            self.link(devices, name.as_bytes(), made, time)?;
        }
        for (name, target) in LINKS {
            let made = self.make(mount, 0o777, time, Body::Link(target.into(), 0))?;
            self.link(devices, name.as_bytes(), made, time)?;
        }
        self.mount(devices, "shm", MountKind::Memory, 0o1777)?;
        self.mount(ROOT, "tmp", MountKind::Memory, 0o1777)?;
        self.mount(ROOT, "run", MountKind::Memory, 0o755)?;
        self.message_directory = self.mount(ROOT, "msg", MountKind::Messages, 0o755)?;
        self.mounts.push(Mount { kind: MountKind::Processes, path: "/proc".into() });
        let root = self.inode_mut(ROOT)?;
        let root = root.directory_mut().ok_or(Errno::NOTDIR)?;
        root.insert(&b"proc"[..].into(), Node::Proc(proc::Entry::Root), 0);
        Ok(())
    }

    /// An empty file in memory's body.
    pub(crate) fn empty_file() -> Body {
        Body::Memory(Contents::default())
    }

    /// The lines of `/proc/mounts`.
    pub(crate) fn mount_lines(&self) -> Vec<u8> {
        let mut text = String::new();
        for mount in &self.mounts {
            let access = if mount.read_only() { "ro" } else { "rw" };
            text += &alloc::format!("{0} {1} {0} {access} 0 0\n", mount.name(), mount.path);
        }
        text.into_bytes()
    }
}

/// That a name can be one.
pub(crate) fn checked(name: &[u8]) -> Result<(), Errno> {
    match name {
        b"" | b".." => Err(Errno::INVAL),
        _ if name.len() > 255 => Err(Errno::NAMETOOLONG),
        _ if name.contains(&0) => Err(Errno::INVAL),
        _ => Ok(()),
    }
}
