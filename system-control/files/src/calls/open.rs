//! Opening, making pipes, closing, duplicating.

use linux_raw_sys::general::{
    O_ACCMODE, O_CLOEXEC, O_CREAT, O_DIRECT, O_DIRECTORY, O_EXCL, O_NOCTTY, O_NOFOLLOW, O_NONBLOCK, O_PATH,
    O_RDONLY, O_RDWR, O_TRUNC, O_WRONLY, S_IFLNK, S_IFMT,
};

use super::{Caller, Fd};
use crate::{
    Errno,
    descriptors::Slot,
    files::{Files, Hold},
    node::{Body, Node},
    open::{Object, Open},
    pipe::End,
    proc::Entry,
    walk::{Follow, Last, Place},
};

/// `close_range`: a table of the caller's own first.
const CLOSE_RANGE_UNSHARE: u32 = 1 << 1;
/// `close_range`: not now, but when another program is executed.
const CLOSE_RANGE_CLOEXEC: u32 = 1 << 2;
/// Flags that mean something at opening and nothing afterwards.
const OPENING: u32 = O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | O_CLOEXEC | O_NOFOLLOW;

impl Caller<'_> {
    /// `openat`.
    ///
    /// # Errors
    ///
    /// Linux's. `EOPNOTSUPP` for `O_TMPFILE`.
    pub fn openat(&mut self, folder: Fd, path: &[u8], flags: u32, mode: u32) -> Result<Fd, Errno> {
        if path.is_empty() {
            return Err(Errno::NOENT);
        }
        self.descriptors.lowest(0)?;
        let open = self.open_path(folder, path, flags, mode)?;
        self.install(open, flags & O_CLOEXEC != 0)
    }

    /// Opens for the kernel itself: a program that is to be loaded.
    ///
    /// # Errors
    ///
    /// Linux's.
    pub fn hold_path(&mut self, folder: Fd, path: &[u8]) -> Result<Hold, Errno> {
        self.open_path(folder, path, O_RDONLY, 0).map(Hold)
    }

    /// Keeps what a descriptor stands for.
    ///
    /// # Errors
    ///
    /// [`Errno::BADF`].
    pub fn hold(&mut self, fd: Fd) -> Result<Hold, Errno> {
        let open = self.descriptors.get(fd)?.open;
        self.files.hold_open(open);
        Ok(Hold(open))
    }

    fn open_path(&mut self, folder: Fd, path: &[u8], mut flags: u32, mode: u32) -> Result<u32, Errno> {
        /// `O_TMPFILE` without `O_DIRECTORY`.
        const TMPFILE: u32 = linux_raw_sys::general::__O_TMPFILE;
        if flags & O_PATH != 0 {
            flags &= O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
        }
        if flags & TMPFILE != 0 {
            return Err(Errno::OPNOTSUPP);
        }
        if flags & O_CREAT != 0 && flags & O_DIRECTORY != 0 {
            return Err(Errno::INVAL);
        }
        let no_link = flags & O_NOFOLLOW != 0 || flags & O_CREAT != 0 && flags & O_EXCL != 0;
        let follow = match flags & O_CREAT {
            0 if no_link => Follow::Slash,
            0 => Follow::Always,
            _ if no_link => Follow::NeverCreate,
            _ => Follow::Create,
        };
        let place = self.walk(folder, path, follow)?;
        if flags & O_CREAT != 0 {
            if flags & O_EXCL != 0 && place.node.is_some() {
                return Err(Errno::EXIST);
            }
            if place.slash {
                return Err(Errno::ISDIR);
            }
            if place.node.is_none() {
                return self.create(&place, flags, mode);
            }
        }
        let node = place.found()?;
        if flags & O_CREAT != 0 && self.is_directory(node) {
            return Err(Errno::ISDIR);
        }
        if place.slash || flags & O_DIRECTORY != 0 {
            self.check_directory(self.behind(node)?)?;
        }
        self.open_node(node, flags)
    }

    /// What a link below `/proc/self/fd` stands for.
    fn behind(&self, node: Node) -> Result<Node, Errno> {
        match node {
            Node::Proc(Entry::Descriptor(_, fd)) => Ok(self.open_of(fd)?.1.node.unwrap_or(node)),
            node => Ok(node),
        }
    }

    fn create(&mut self, place: &Place, flags: u32, mode: u32) -> Result<u32, Errno> {
        let Last::Name(name) = &place.last else { return Err(Errno::ISDIR) };
        let Node::Inode(directory) = place.parent else { return Err(Errno::NOENT) };
        let made = self.make_in(directory, name, mode & !self.descriptors.mask, Files::empty_file())?;
        self.files.make_open(Open::new(Object::File, Some(Node::Inode(made)), flags & !OPENING)).inspect_err(
            |_| {
                // Just made, so it can be taken away again.
                _ = self.files.unlink(directory, name, self.system.now());
            },
        )
    }

    /// Makes an inode with a name in a directory whose file system may be changed.
    pub(super) fn make_in(
        &mut self,
        directory: u32,
        name: &[u8],
        permissions: u32,
        body: Body,
    ) -> Result<u32, Errno> {
        self.files.writable(directory)?;
        let parent = self.files.inode(directory)?;
        if parent.links == 0 {
            // The directory was removed while somebody was in it.
            return Err(Errno::NOENT);
        }
        let mount = parent.mount;
        let now = self.system.now();
        let made = match body {
            Body::Memory(_) if self.files.holds_messages(directory) => {
                let owner = self.system.current();
                self.files.make_message(directory, permissions, owner, now)?
            }
            Body::Directory(_) | Body::Memory(_) => self.files.make(mount, permissions, now, body)?,
            // Only files and directories are among the messages.
            _ if self.files.holds_messages(directory) => return Err(Errno::PERM),
            _ => self.files.make(mount, permissions, now, body)?,
        };
        self.files.link(directory, name, made, now)?;
        Ok(made)
    }

    fn open_node(&mut self, node: Node, flags: u32) -> Result<u32, Errno> {
        let kept = flags & !OPENING;
        if flags & O_PATH != 0 {
            return self.files.make_open(Open::new(Object::Path, Some(self.behind(node)?), kept));
        }
        let node = match node {
            Node::Proc(Entry::Descriptor(_, fd)) => {
                let (_, open) = self.open_of(fd)?;
                match (open.object, open.node) {
                    (_, Some(behind)) => behind,
                    (Object::Pipe { pipe, .. }, None) => return self.reopen_pipe(pipe, kept),
                    (_, None) => return Err(Errno::NXIO),
                }
            }
            node => node,
        };
        let writes = flags & O_ACCMODE != O_RDONLY || flags & O_TRUNC != 0;
        if self.is_directory(node) {
            return if writes {
                Err(Errno::ISDIR)
            } else {
                self.files.make_open(Open::new(Object::File, Some(node), kept))
            };
        }
        let Node::Inode(number) = node else {
            let Node::Proc(entry) = node else { return Err(Errno::IO) };
            if entry.mode() & S_IFMT == S_IFLNK {
                return Err(Errno::LOOP);
            }
            return if writes {
                Err(Errno::ACCES)
            } else {
                self.files.make_open(Open::new(Object::File, Some(node), kept))
            };
        };
        let object = match self.files.inode(number)?.body {
            Body::Link(..) => return Err(Errno::LOOP),
            Body::Device(crate::Device::Absent, _) => return Err(Errno::NXIO),
            Body::Device(device, _) => Object::Device(device),
            Body::Fifo(_) => return self.open_fifo(number, kept),
            Body::Directory(_) | Body::Archive(_) | Body::Memory(_) | Body::Message(_) => Object::File,
        };
        if object == Object::File && writes {
            self.files.writable(number)?;
        }
        let open = self.files.make_open(Open::new(object, Some(node), kept))?;
        if object == Object::Device(crate::Device::Control) {
            // It tells what comes from now on.
            let next = self.files.signals.next();
            self.files.open_mut(open)?.position = next;
        }
        if object == Object::File && flags & O_TRUNC != 0 {
            self.truncate_opened(open, number)?;
        }
        Ok(open)
    }

    /// Truncates a file that was just opened, or closes it again.
    fn truncate_opened(&mut self, open: u32, number: u32) -> Result<(), Errno> {
        self.resize(number, 0).inspect_err(|_| self.files.release_open(open, self.system))
    }

    fn reopen_pipe(&mut self, pipe: u32, flags: u32) -> Result<u32, Errno> {
        self.files.make_open(Open::new(Object::Pipe { pipe, end: end(flags) }, None, flags))
    }

    /// Opens a named pipe. Linux waits here for the other end; this does not, but a reader waits for the first writer's bytes.
    fn open_fifo(&mut self, number: u32, flags: u32) -> Result<u32, Errno> {
        let Body::Fifo(there) = self.files.inode(number)?.body else { return Err(Errno::IO) };
        let lonely = there.and_then(|pipe| self.files.pipes.get(pipe)).is_none_or(|pipe| pipe.readers == 0);
        if lonely && end(flags) == End::Write && flags & O_NONBLOCK != 0 {
            return Err(Errno::NXIO);
        }
        let pipe = match there {
            Some(pipe) => pipe,
            None => {
                let pipe = self.files.make_pipe(Some(number))?;
                self.files.inode_mut(number)?.body = Body::Fifo(Some(pipe));
                pipe
            }
        };
        let object = Object::Pipe { pipe, end: end(flags) };
        self.files.make_open(Open::new(object, Some(Node::Inode(number)), flags))
    }

    /// `pipe2`: the end to read from, and the end to write to.
    ///
    /// # Errors
    ///
    /// Linux's.
    pub fn pipe2(&mut self, flags: u32) -> Result<[Fd; 2], Errno> {
        if flags & !(O_CLOEXEC | O_NONBLOCK | O_DIRECT) != 0 {
            return Err(Errno::INVAL);
        }
        let first = self.descriptors.lowest(0)?;
        self.descriptors.lowest(first + 1)?;
        let pipe = self.files.make_pipe(None)?;
        let kept = flags & O_NONBLOCK;
        let mut ends = [0; 2];
        for (place, (end, access)) in [(End::Read, O_RDONLY), (End::Write, O_WRONLY)].into_iter().enumerate()
        {
            let made = self.files.make_open(Open::new(Object::Pipe { pipe, end }, None, access | kept));
            match made.and_then(|open| self.install(open, flags & O_CLOEXEC != 0)) {
                Ok(fd) => ends[place] = fd,
                Err(errno) if place == 0 => {
                    self.files.pipes.remove(pipe);
                    return Err(errno);
                }
                Err(errno) => {
                    self.close(ends[0])?;
                    return Err(errno);
                }
            }
        }
        Ok(ends)
    }

    /// `close`.
    ///
    /// # Errors
    ///
    /// [`Errno::BADF`].
    pub fn close(&mut self, fd: Fd) -> Result<(), Errno> {
        let slot = self.descriptors.take(fd)?;
        self.files.release_open(slot.open, self.system);
        Ok(())
    }

    /// `close_range`.
    ///
    /// # Errors
    ///
    /// [`Errno::INVAL`].
    pub fn close_range(&mut self, first: u32, last: u32, flags: u32) -> Result<(), Errno> {
        // A table is never shared by processes here, so there is nothing to unshare.
        if first > last || flags & !(CLOSE_RANGE_CLOEXEC | CLOSE_RANGE_UNSHARE) != 0 {
            return Err(Errno::INVAL);
        }
        let end = u32::try_from(self.descriptors.end()).unwrap_or(u32::MAX);
        for fd in first..last.saturating_add(1).min(end) {
            let Ok(fd) = Fd::try_from(fd) else { break };
            if flags & CLOSE_RANGE_CLOEXEC != 0 {
                if let Ok(slot) = self.descriptors.get_mut(fd) {
                    slot.close_on_exec = true;
                }
            } else if self.descriptors.get(fd).is_ok() {
                self.close(fd)?;
            }
        }
        Ok(())
    }

    /// `dup`.
    ///
    /// # Errors
    ///
    /// Linux's.
    pub fn dup(&mut self, fd: Fd) -> Result<Fd, Errno> {
        self.dup_from(fd, 0, false)
    }

    /// `F_DUPFD`: the lowest free descriptor from `first` on.
    pub(super) fn dup_from(&mut self, fd: Fd, first: usize, close_on_exec: bool) -> Result<Fd, Errno> {
        let open = self.descriptors.get(fd)?.open;
        let free = self.descriptors.lowest(first)?;
        self.files.hold_open(open);
        self.descriptors.set(free, Slot { open, close_on_exec });
        Ok(free as Fd)
    }

    /// `dup3`.
    ///
    /// # Errors
    ///
    /// Linux's.
    pub fn dup3(&mut self, old: Fd, new: Fd, flags: u32) -> Result<Fd, Errno> {
        if flags & !O_CLOEXEC != 0 || old == new {
            return Err(Errno::INVAL);
        }
        let place =
            usize::try_from(new).ok().filter(|&place| place < self.descriptors.limit()).ok_or(Errno::BADF)?;
        let open = self.descriptors.get(old)?.open;
        self.files.hold_open(open);
        let slot = Slot { open, close_on_exec: flags & O_CLOEXEC != 0 };
        if let Some(before) = self.descriptors.set(place, slot) {
            self.files.release_open(before.open, self.system);
        }
        Ok(new)
    }
}

/// The end of a pipe that an access mode asks for.
fn end(flags: u32) -> End {
    match flags & O_ACCMODE {
        O_RDWR => End::Both,
        O_WRONLY => End::Write,
        _ => End::Read,
    }
}
