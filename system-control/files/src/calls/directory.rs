//! Making and removing names, and listing them.

use alloc::vec::Vec;

use linux_raw_sys::general::{
    AT_EMPTY_PATH, AT_FDCWD, AT_REMOVEDIR, AT_SYMLINK_FOLLOW, S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFMT,
    S_IFREG,
};

use super::{Caller, Fd};
use crate::{
    Errno, Sink,
    files::Files,
    node::{Body, Device, Directory, Node},
    open::Object,
    transfer::put_from,
    walk::{Follow, Last, Name, PATH_LIMIT, Place},
};

/// Names one file may have.
const LINKS_MAX: u32 = 65_000;
/// Bytes of `struct linux_dirent64` before the name.
const ENTRY_HEADER: usize = 19;

impl Caller<'_> {
    /// Where something is to be made: the directory and the name.
    fn place_for_new(&self, folder: Fd, path: &[u8], directory: bool) -> Result<(u32, Name), Errno> {
        let place = self.walk(folder, path, Follow::Never)?;
        let Place { parent, last, node, slash } = place;
        let name = match last {
            Last::Name(name) => name,
            Last::TooLong => return Err(Errno::NAMETOOLONG),
            Last::Root | Last::Dot | Last::DotDot => return Err(Errno::EXIST),
        };
        if node.is_some() {
            return Err(Errno::EXIST);
        }
        if slash && !directory {
            return Err(Errno::NOENT);
        }
        match parent {
            Node::Inode(parent) => Ok((parent, name)),
            Node::Proc(_) => Err(Errno::NOENT),
        }
    }

    /// `mkdirat`.
    ///
    /// # Errors
    ///
    /// Linux's.
    pub fn mkdirat(&mut self, folder: Fd, path: &[u8], mode: u32) -> Result<(), Errno> {
        let (parent, name) = self.place_for_new(folder, path, true)?;
        let permissions = mode & 0o1777 & !self.descriptors.mask;
        self.make_in(parent, &name, permissions, Body::Directory(Directory::default()))?;
        Ok(())
    }

    /// `symlinkat`.
    ///
    /// # Errors
    ///
    /// Linux's.
    pub fn symlinkat(&mut self, target: &[u8], folder: Fd, path: &[u8]) -> Result<(), Errno> {
        if target.is_empty() {
            return Err(Errno::NOENT);
        }
        if target.len() > PATH_LIMIT {
            return Err(Errno::NAMETOOLONG);
        }
        let (parent, name) = self.place_for_new(folder, path, false)?;
        let pages = Files::link_pages(target);
        let payer = self.files.payer;
        if !self.files.budget.take(payer, pages) {
            return Err(Errno::NOSPC);
        }
        let link = Body::Link(target.to_vec(), payer.user() as u8);
        self.make_in(parent, &name, 0o777, link)
            .inspect_err(|_| self.files.budget.give_back(payer.user(), pages))?;
        Ok(())
    }

    /// `mknodat`, for empty files, named pipes and the devices there are.
    ///
    /// # Errors
    ///
    /// Linux's. [`Errno::PERM`] for sockets.
    pub fn mknodat(&mut self, folder: Fd, path: &[u8], mode: u32, device: u64) -> Result<(), Errno> {
        let body = match mode & S_IFMT {
            0 | S_IFREG => Files::empty_file(),
            S_IFIFO => Body::Fifo(None),
            S_IFCHR => Body::Device(Device::of(device), device),
            S_IFBLK => Body::Device(Device::Absent, device | 1 << 63),
            S_IFDIR => return Err(Errno::PERM),
            _ => return Err(Errno::INVAL),
        };
        let (parent, name) = self.place_for_new(folder, path, false)?;
        self.make_in(parent, &name, mode & 0o7777 & !self.descriptors.mask, body)?;
        Ok(())
    }

    /// `linkat`.
    ///
    /// # Errors
    ///
    /// Linux's.
    pub fn linkat(
        &mut self,
        old_folder: Fd,
        old: &[u8],
        new_folder: Fd,
        new: &[u8],
        flags: u32,
    ) -> Result<(), Errno> {
        if flags & !(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH) != 0 {
            return Err(Errno::INVAL);
        }
        let node = if old.is_empty() && flags & AT_EMPTY_PATH != 0 {
            self.node_of(old_folder)?
        } else {
            self.find(old_folder, old, flags & AT_SYMLINK_FOLLOW != 0)?
        };
        let (parent, name) = self.place_for_new(new_folder, new, false)?;
        let Node::Inode(number) = node else { return Err(Errno::XDEV) };
        if self.files.inode(number)?.mount != self.files.inode(parent)?.mount {
            return Err(Errno::XDEV);
        }
        self.files.writable(parent)?;
        let inode = self.files.inode(number)?;
        if inode.directory().is_some() || self.files.message_of(number).is_some() {
            return Err(Errno::PERM);
        }
        if inode.links == 0 || self.files.inode(parent)?.links == 0 {
            return Err(Errno::NOENT);
        }
        if inode.links >= LINKS_MAX {
            return Err(Errno::MLINK);
        }
        self.files.room_for_name()?;
        let now = self.system.now();
        self.files.link(parent, &name, number, now)
    }

    /// `unlinkat`, also for directories (`AT_REMOVEDIR`).
    ///
    /// # Errors
    ///
    /// Linux's.
    pub fn unlinkat(&mut self, folder: Fd, path: &[u8], flags: u32) -> Result<(), Errno> {
        if flags & !AT_REMOVEDIR != 0 {
            return Err(Errno::INVAL);
        }
        let removes_directory = flags & AT_REMOVEDIR != 0;
        let Place { parent, last, node, slash } = self.walk(folder, path, Follow::Never)?;
        let name = match last {
            Last::Name(name) => name,
            Last::TooLong => Name::new(),
            _ if !removes_directory => return Err(Errno::ISDIR),
            Last::Dot => return Err(Errno::INVAL),
            Last::DotDot => return Err(Errno::NOTEMPTY),
            Last::Root => return Err(Errno::BUSY),
        };
        let Node::Inode(parent) = parent else { return Err(Errno::PERM) };
        self.files.writable(parent)?;
        if name.is_empty() {
            return Err(Errno::NAMETOOLONG);
        }
        let Node::Inode(number) = node.ok_or(Errno::NOENT)? else { return Err(Errno::BUSY) };
        let inode = self.files.inode(number)?;
        match (inode.directory(), removes_directory) {
            (None, true) => return Err(Errno::NOTDIR),
            (None, false) if slash => return Err(Errno::NOTDIR),
            (Some(_), false) => return Err(Errno::ISDIR),
            (Some(_), true) if inode.mount != self.files.inode(parent)?.mount => return Err(Errno::BUSY),
            (Some(directory), true) if !directory.is_empty() => return Err(Errno::NOTEMPTY),
            _ => {}
        }
        if self.files.discard_if_message(Node::Inode(number), self.system)? {
            return Ok(());
        }
        let now = self.system.now();
        self.files.unlink(parent, &name, now)
    }

    /// `readlinkat`: as many bytes as there is room for, without an ending zero.
    ///
    /// # Errors
    ///
    /// Linux's.
    pub fn readlinkat(&mut self, folder: Fd, path: &[u8], sink: &mut dyn Sink) -> Result<usize, Errno> {
        if sink.room() == 0 {
            return Err(Errno::INVAL);
        }
        let node = if path.is_empty() { self.node_of(folder)? } else { self.find(folder, path, false)? };
        let target = match node {
            Node::Inode(number) => match &self.files.inode(number)?.body {
                Body::Link(target, _) => target.clone(),
                _ if path.is_empty() => return Err(Errno::NOENT),
                _ => return Err(Errno::INVAL),
            },
            Node::Proc(entry) if entry.mode() & S_IFMT == linux_raw_sys::general::S_IFLNK => {
                self.proc_link(entry).ok_or(Errno::NOENT)?
            }
            Node::Proc(_) => return Err(Errno::INVAL),
        };
        put_from(sink, &target, 0)
    }

    /// `getdents64`: as many whole entries as there is room for, as `struct linux_dirent64`; 0 at the end.
    ///
    /// # Errors
    ///
    /// Linux's.
    pub fn getdents64(&mut self, fd: Fd, sink: &mut dyn Sink) -> Result<usize, Errno> {
        let (number, open) = self.open_of(fd)?;
        if open.object == Object::Path {
            return Err(Errno::BADF);
        }
        let (node, mut position) = (open.node.ok_or(Errno::NOTDIR)?, open.position);
        self.check_directory(node)?;
        let mut done = 0;
        while let Some((place, name, entry)) = self.entry_at(node, position)? {
            let length = (ENTRY_HEADER + name.len() + 1).next_multiple_of(8);
            if length > sink.room() {
                if done == 0 {
                    return Err(Errno::INVAL);
                }
                break;
            }
            let metadata = self.metadata(entry)?;
            let mut bytes = Vec::with_capacity(length);
            bytes.extend_from_slice(&metadata.inode.to_le_bytes());
            bytes.extend_from_slice(&(place + 1).to_le_bytes());
            bytes.extend_from_slice(&(length as u16).to_le_bytes());
            bytes.push((metadata.mode >> 12 & 0o17) as u8);
            bytes.extend_from_slice(&name);
            bytes.resize(length, 0);
            match sink.put(&bytes) {
                Ok(taken) if taken == length => done += taken,
                Ok(_) | Err(_) if done == 0 => return Err(Errno::FAULT),
                _ => break,
            }
            position = place + 1;
        }
        self.files.open_mut(number)?.position = position;
        Ok(done)
    }

    /// The first entry of a directory at or behind a position.
    fn entry_at(&self, directory: Node, position: u64) -> Result<Option<(u64, Vec<u8>, Node)>, Errno> {
        match (position, directory) {
            (0, _) => Ok(Some((0, b".".to_vec(), directory))),
            (1, _) => {
                // A directory that was removed has no other parent than itself.
                let parent = self.parent(directory).unwrap_or(directory);
                Ok(Some((1, b"..".to_vec(), parent)))
            }
            (_, Node::Inode(number)) => {
                let found = self.files.directory(number)?.at(position - 2);
                Ok(found.map(|(place, name, node)| (place + 2, name.to_vec(), node)))
            }
            (_, Node::Proc(entry)) => {
                let found = self.proc_at(entry, position - 2);
                Ok(found.map(|(place, name, entry)| (place + 2, name.into_bytes(), Node::Proc(entry))))
            }
        }
    }

    /// `chdir`.
    ///
    /// # Errors
    ///
    /// Linux's.
    pub fn chdir(&mut self, path: &[u8]) -> Result<(), Errno> {
        let node = self.find(AT_FDCWD, path, true)?;
        self.change_folder(node)
    }

    /// `fchdir`.
    ///
    /// # Errors
    ///
    /// Linux's.
    pub fn fchdir(&mut self, fd: Fd) -> Result<(), Errno> {
        let node = self.open_of(fd)?.1.node.ok_or(Errno::NOTDIR)?;
        self.change_folder(node)
    }

    fn change_folder(&mut self, node: Node) -> Result<(), Errno> {
        self.check_directory(node)?;
        self.files.hold_node(node);
        let before = core::mem::replace(&mut self.descriptors.folder, node);
        self.files.release_node(before);
        Ok(())
    }

    /// `getcwd`: the absolute path, without an ending zero.
    ///
    /// # Errors
    ///
    /// [`Errno::NOENT`] when the directory was removed.
    pub fn getcwd(&self) -> Result<Vec<u8>, Errno> {
        self.files.path(self.descriptors.folder).ok_or(Errno::NOENT)
    }

    /// `umask`: the one before.
    pub fn umask(&mut self, mask: u32) -> u32 {
        core::mem::replace(&mut self.descriptors.mask, mask & 0o777)
    }

    /// What a descriptor was opened at, where a path may be empty.
    pub(super) fn node_of(&self, fd: Fd) -> Result<Node, Errno> {
        if fd == AT_FDCWD {
            return Ok(self.descriptors.folder);
        }
        self.open_of(fd)?.1.node.ok_or(Errno::NOENT)
    }
}
