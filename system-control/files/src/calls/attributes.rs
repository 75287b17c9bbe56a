//! What is known of files, and changing it.

use linux_raw_sys::general::{
    AT_EACCESS, AT_EMPTY_PATH, AT_NO_AUTOMOUNT, AT_STATX_SYNC_TYPE, AT_SYMLINK_NOFOLLOW, S_IFCHR, S_IFDIR,
    S_IFIFO, S_IFLNK, S_IFMT, S_IFSOCK,
};

use super::{Caller, Fd};
use crate::{
    Errno,
    mount::MountKind,
    node::{Body, Node},
    open::Object,
    page::PAGE,
    status::{FileSystemStatus, Metadata},
    system::Time,
};

/// File systems' numbers in `st_dev` have this major number; `/proc` is the one behind all others.
const DEVICE_PROC: u64 = 0xff;
/// Pipes' file system.
const DEVICE_PIPES: u64 = 0xfe;

/// A time that `utimensat` sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetTime {
    /// Leaves it as it is.
    Omit,
    /// The time now.
    Now,
    /// This time.
    To(Time),
}

impl Caller<'_> {
    /// What is known of a node.
    pub(crate) fn metadata(&self, node: Node) -> Result<Metadata, Errno> {
        let number = match node {
            Node::Inode(number) => number,
            Node::Proc(entry) => {
                let now = self.system.now();
                let process = entry.process().and_then(|process| self.system.process(process));
                return Ok(Metadata {
                    device: DEVICE_PROC,
                    user: process.map_or(0, |process| process.user),
                    inode: entry.number(),
                    mode: entry.mode(),
                    links: if entry.mode() & S_IFMT == S_IFDIR { 2 } else { 1 },
                    accessed: now,
                    modified: now,
                    changed: now,
                    ..Metadata::default()
                });
            }
        };
        let inode = self.files.inode(number)?;
        let (size, pages) = match &inode.body {
            Body::Directory(_) => (PAGE as u64, 0),
            Body::Archive(bytes) => (bytes.len() as u64, (bytes.len() as u64).div_ceil(PAGE as u64)),
            Body::Memory(contents) => (contents.size(), contents.held()),
            Body::Link(target, _) => (target.len() as u64, 0),
            &Body::Message(message) => {
                let message = self.files.message(message)?;
                (message.size(), message.held() / PAGE as u64)
            }
            Body::Device(..) | Body::Fifo(_) => (0, 0),
        };
        Ok(Metadata {
            device: u64::from(inode.mount) + 1,
            inode: inode.number,
            mode: inode.kind() | inode.permissions,
            links: inode.links,
            user: inode.user,
            group: inode.group,
            special: if let Body::Device(_, device) = inode.body { device & !(1 << 63) } else { 0 },
            size,
            blocks: pages * (PAGE as u64 / 512),
            accessed: inode.accessed,
            modified: inode.modified,
            changed: inode.changed,
        })
    }

    /// `fstat`.
    ///
    /// # Errors
    ///
    /// [`Errno::BADF`].
    pub fn fstat(&self, fd: Fd) -> Result<Metadata, Errno> {
        let (_, open) = self.open_of(fd)?;
        match (open.node, open.object) {
            (Some(node), _) => self.metadata(node),
            (None, Object::Pipe { pipe, .. }) => {
                let inode = self.files.pipes.get(pipe).map_or(0, |pipe| pipe.number);
                Ok(Metadata {
                    device: DEVICE_PIPES,
                    inode,
                    mode: S_IFIFO | 0o600,
                    links: 1,
                    ..Metadata::default()
                })
            }
            (None, Object::Socket(_) | Object::Pair(_)) => {
                let inode = match open.object {
                    Object::Socket(socket) => self.files.socket(socket)?.number,
                    Object::Pair(end) => self.files.pairs.get(end.pair).map_or(0, |pair| pair.number),
                    _ => 0,
                };
                Ok(Metadata {
                    device: DEVICE_PIPES,
                    inode,
                    mode: S_IFSOCK | 0o777,
                    links: 1,
                    ..Metadata::default()
                })
            }
            (None, _) => {
                Ok(Metadata { device: DEVICE_PIPES, mode: S_IFCHR | 0o600, links: 1, ..Metadata::default() })
            }
        }
    }

    /// `newfstatat`, `statx`.
    ///
    /// # Errors
    ///
    /// Linux's.
    pub fn statat(&self, folder: Fd, path: &[u8], flags: u32) -> Result<Metadata, Errno> {
        if flags & !(AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH | AT_STATX_SYNC_TYPE) != 0 {
            return Err(Errno::INVAL);
        }
        if path.is_empty() && flags & AT_EMPTY_PATH != 0 {
            return if folder == linux_raw_sys::general::AT_FDCWD {
                self.metadata(self.descriptors.folder)
            } else {
                self.fstat(folder)
            };
        }
        let follow = flags & AT_SYMLINK_NOFOLLOW == 0;
        match self.find(folder, path, follow)? {
            Node::Proc(crate::proc::Entry::Descriptor(_, fd)) if follow => self.fstat(fd),
            node => self.metadata(node),
        }
    }

    /// `faccessat`, `faccessat2`. Everything is permitted, but to change what is read-only and to execute what nobody may.
    ///
    /// # Errors
    ///
    /// Linux's.
    pub fn faccessat(&self, folder: Fd, path: &[u8], mode: u32, flags: u32) -> Result<(), Errno> {
        const WRITE: u32 = 2;
        const EXECUTE: u32 = 1;
        if mode & !7 != 0 || flags & !(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH | AT_EACCESS) != 0 {
            return Err(Errno::INVAL);
        }
        let metadata = self.statat(folder, path, flags & !AT_EACCESS)?;
        let is_directory = metadata.mode & S_IFMT == S_IFDIR;
        if mode & EXECUTE != 0 && !is_directory && metadata.mode & 0o111 == 0 {
            return Err(Errno::ACCES);
        }
        let archive = self.files.mounts.iter().position(|mount| mount.read_only());
        let read_only = archive.is_some_and(|mount| metadata.device == mount as u64 + 1);
        if mode & WRITE != 0 && read_only && !matches!(metadata.mode & S_IFMT, S_IFCHR | S_IFIFO) {
            return Err(Errno::ROFS);
        }
        Ok(())
    }

    fn inode_at(&self, folder: Fd, path: &[u8], flags: u32) -> Result<u32, Errno> {
        let node = if path.is_empty() && flags & AT_EMPTY_PATH != 0 {
            self.node_of(folder)?
        } else {
            self.find(folder, path, flags & AT_SYMLINK_NOFOLLOW == 0)?
        };
        self.changeable(node)
    }

    fn inode_behind(&self, fd: Fd) -> Result<Option<u32>, Errno> {
        let (_, open) = self.open_of(fd)?;
        match open.node {
            _ if open.object == Object::Path => Err(Errno::BADF),
            Some(node) => self.changeable(node).map(Some),
            None => Ok(None),
        }
    }

    fn changeable(&self, node: Node) -> Result<u32, Errno> {
        let Node::Inode(number) = node else { return Err(Errno::PERM) };
        self.files.writable(number)?;
        Ok(number)
    }

    /// `fchmod`.
    ///
    /// # Errors
    ///
    /// Linux's.
    pub fn fchmod(&mut self, fd: Fd, mode: u32) -> Result<(), Errno> {
        match self.inode_behind(fd)? {
            Some(number) => self.change_mode(number, mode),
            None => Ok(()),
        }
    }

    /// `fchmodat`, `fchmodat2`.
    ///
    /// # Errors
    ///
    /// Linux's.
    pub fn fchmodat(&mut self, folder: Fd, path: &[u8], mode: u32, flags: u32) -> Result<(), Errno> {
        if flags & !(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
            return Err(Errno::INVAL);
        }
        let number = self.inode_at(folder, path, flags)?;
        if self.files.inode(number)?.kind() == S_IFLNK {
            return Err(Errno::OPNOTSUPP);
        }
        self.change_mode(number, mode)
    }

    fn change_mode(&mut self, number: u32, mode: u32) -> Result<(), Errno> {
        let now = self.system.now();
        let inode = self.files.inode_mut(number)?;
        inode.permissions = mode & 0o7777;
        inode.changed = now;
        Ok(())
    }

    /// `fchown`. The owner is kept and means nothing: every program runs as user 0.
    ///
    /// # Errors
    ///
    /// Linux's.
    pub fn fchown(&mut self, fd: Fd, user: u32, group: u32) -> Result<(), Errno> {
        match self.inode_behind(fd)? {
            Some(number) => self.change_owner(number, user, group),
            None => Ok(()),
        }
    }

    /// `fchownat`.
    ///
    /// # Errors
    ///
    /// Linux's.
    pub fn fchownat(
        &mut self,
        folder: Fd,
        path: &[u8],
        user: u32,
        group: u32,
        flags: u32,
    ) -> Result<(), Errno> {
        if flags & !(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
            return Err(Errno::INVAL);
        }
        let number = self.inode_at(folder, path, flags)?;
        self.change_owner(number, user, group)
    }

    fn change_owner(&mut self, number: u32, user: u32, group: u32) -> Result<(), Errno> {
        let now = self.system.now();
        let inode = self.files.inode_mut(number)?;
        inode.user = if user == u32::MAX { inode.user } else { user };
        inode.group = if group == u32::MAX { inode.group } else { group };
        inode.changed = now;
        Ok(())
    }

    /// `utimensat`; with no path, of the descriptor itself.
    ///
    /// # Errors
    ///
    /// Linux's.
    pub fn utimensat(
        &mut self,
        folder: Fd,
        path: Option<&[u8]>,
        accessed: SetTime,
        modified: SetTime,
        flags: u32,
    ) -> Result<(), Errno> {
        if flags & !(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
            return Err(Errno::INVAL);
        }
        let number = match path {
            Some(path) => Some(self.inode_at(folder, path, flags)?),
            None => self.inode_behind(folder)?,
        };
        let Some(number) = number else { return Ok(()) };
        let now = self.system.now();
        let inode = self.files.inode_mut(number)?;
        let set = |time: &mut Time, to| match to {
            SetTime::Omit => {}
            SetTime::Now => *time = now,
            SetTime::To(to) => *time = to,
        };
        set(&mut inode.accessed, accessed);
        set(&mut inode.modified, modified);
        if (accessed, modified) != (SetTime::Omit, SetTime::Omit) {
            inode.changed = now;
        }
        Ok(())
    }

    /// `statfs`.
    ///
    /// # Errors
    ///
    /// Linux's.
    pub fn statfs(&self, path: &[u8]) -> Result<FileSystemStatus, Errno> {
        let node = self.find(linux_raw_sys::general::AT_FDCWD, path, true)?;
        self.file_system(node)
    }

    /// `fstatfs`.
    ///
    /// # Errors
    ///
    /// Linux's.
    pub fn fstatfs(&self, fd: Fd) -> Result<FileSystemStatus, Errno> {
        const PIPEFS: u64 = 0x5049_5045;
        match self.open_of(fd)?.1.node {
            Some(node) => self.file_system(node),
            None => Ok(FileSystemStatus { kind: PIPEFS, ..FileSystemStatus::default() }),
        }
    }

    fn file_system(&self, node: Node) -> Result<FileSystemStatus, Errno> {
        const READ_ONLY: u64 = 1;
        let kind = match node {
            Node::Inode(number) => self.files.kind_of(number)?,
            Node::Proc(_) => MountKind::Processes,
        };
        let mut status = FileSystemStatus { kind: kind.magic(), ..FileSystemStatus::default() };
        match kind {
            MountKind::Archive => status.flags = READ_ONLY,
            MountKind::Memory => {
                status.blocks = self.files.budget.whole();
                status.free_blocks = self.files.budget.room(self.files.payer);
                status.inodes = self.files.inodes.limit() as u64;
                status.free_inodes = (self.files.inodes.limit() - self.files.inodes.len()) as u64;
            }
            _ => {}
        }
        Ok(status)
    }
}
