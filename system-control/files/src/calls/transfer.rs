//! Reading, writing, positions, pages to map.

use linux_raw_sys::general::{FALLOC_FL_KEEP_SIZE, SEEK_CUR, SEEK_DATA, SEEK_END, SEEK_HOLE, SEEK_SET};

use super::{Caller, Fd};
use crate::{
    Errno, Sink, Source,
    contents::SIZE_MAX,
    files::Hold,
    node::{Body, Device, Node},
    open::Object,
    pipe::End,
    transfer::{put_from, put_zeroes},
};

/// Where a position is counted from: `whence`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seek {
    /// The start.
    Start,
    /// Where it is now.
    Current,
    /// The file's end.
    End,
    /// The next byte that is not in a hole.
    Data,
    /// The next hole.
    Hole,
}

impl TryFrom<u32> for Seek {
    type Error = Errno;

    fn try_from(whence: u32) -> Result<Seek, Errno> {
        match whence {
            SEEK_SET => Ok(Seek::Start),
            SEEK_CUR => Ok(Seek::Current),
            SEEK_END => Ok(Seek::End),
            SEEK_DATA => Ok(Seek::Data),
            SEEK_HOLE => Ok(Seek::Hole),
            _ => Err(Errno::INVAL),
        }
    }
}

impl Caller<'_> {
    /// `read`, `readv`: from where the description is, which moves on.
    ///
    /// # Errors
    ///
    /// Linux's. [`Errno::AGAIN`] when there is nothing to read yet, whether `O_NONBLOCK` is set or not.
    pub fn read(&mut self, fd: Fd, sink: &mut dyn Sink) -> Result<usize, Errno> {
        let (number, open) = self.open_of(fd)?;
        if !open.readable() {
            return Err(Errno::BADF);
        }
        let (object, node, position) = (open.object, open.node, open.position);
        match object {
            Object::File => {
                let done = self.read_file(number, node, position, sink)?;
                self.files.open_mut(number)?.position += done as u64;
                Ok(done)
            }
            Object::Device(Device::Control) => {
                let (done, next) = self.files.signals.read(position, sink)?;
                self.files.open_mut(number)?.position = next;
                Ok(done)
            }
            Object::Device(device) => self.read_device(device, sink),
            Object::Pipe { end: End::Write, .. } | Object::Path => Err(Errno::BADF),
            Object::Pipe { pipe, .. } => self.files.read_pipe(pipe, sink),
            Object::Counter(counter) => self.files.read_counter(counter, sink),
            Object::Socket(socket) => self.read_socket(socket, sink),
            Object::Pair(end) => self.files.read_pair(end, sink),
            Object::Epoll(_) => Err(Errno::INVAL),
        }
    }

    /// `pread64`, `preadv`: from `offset`, and the description stays where it is.
    ///
    /// # Errors
    ///
    /// Linux's.
    pub fn read_at(&mut self, fd: Fd, offset: i64, sink: &mut dyn Sink) -> Result<usize, Errno> {
        let offset = u64::try_from(offset).map_err(|_| Errno::INVAL)?;
        let (number, open) = self.open_of(fd)?;
        if open.object == Object::Path {
            return Err(Errno::BADF);
        }
        let (object, node, readable) = (open.object, open.node, open.readable());
        if object.is_stream() {
            return Err(Errno::SPIPE);
        }
        if !readable {
            return Err(Errno::BADF);
        }
        match object {
            Object::File => self.read_file(number, node, offset, sink),
            Object::Device(device) => self.read_device(device, sink),
            _ => Err(Errno::SPIPE),
        }
    }

    /// Reads what is held, for the kernel itself.
    ///
    /// # Errors
    ///
    /// Linux's.
    pub fn read_held(&mut self, hold: &Hold, offset: u64, sink: &mut dyn Sink) -> Result<usize, Errno> {
        let open = self.files.open(hold.0)?;
        if open.object != Object::File {
            return Err(Errno::ACCES);
        }
        let node = open.node;
        self.read_file(hold.0, node, offset, sink)
    }

    fn read_file(
        &mut self,
        open: u32,
        node: Option<Node>,
        at: u64,
        sink: &mut dyn Sink,
    ) -> Result<usize, Errno> {
        let number = match node.ok_or(Errno::BADF)? {
            Node::Inode(number) => number,
            Node::Proc(entry) if entry.is_directory() => return Err(Errno::ISDIR),
            Node::Proc(entry) => {
                if at == 0 || self.files.open(open)?.text.is_none() {
                    let text = self.proc_text(entry).ok_or(Errno::SRCH)?;
                    self.files.open_mut(open)?.text = Some(text);
                }
                let text = self.files.open(open)?.text.as_deref().unwrap_or_default();
                return put_from(sink, text, at);
            }
        };
        match &self.files.inode(number)?.body {
            Body::Directory(_) => Err(Errno::ISDIR),
            Body::Archive(bytes) => put_from(sink, bytes, at),
            Body::Memory(contents) => contents.read(at, sink),
            &Body::Message(message) => self.files.read_message(message, at, sink, self.system),
            _ => Err(Errno::INVAL),
        }
    }

    fn read_device(&mut self, device: Device, sink: &mut dyn Sink) -> Result<usize, Errno> {
        match device {
            Device::Null => Ok(0),
            Device::Zero | Device::Full => put_zeroes(sink, usize::MAX),
            Device::Random => {
                let mut done = 0;
                let mut part = [0; 256];
                while sink.room() > 0 {
                    let length = part.len().min(sink.room());
                    self.system.fill(&mut part[..length]);
                    match sink.put(&part[..length]) {
                        Ok(taken) => done += taken,
                        Err(errno) if done == 0 => return Err(errno),
                        Err(_) => break,
                    }
                }
                Ok(done)
            }
            Device::Terminal => self.files.terminal.read(sink),
            // Read by its description's position.
            Device::Control => Err(Errno::SPIPE),
            Device::Absent => Err(Errno::NXIO),
        }
    }

    /// `write`, `writev`: to where the description is (or to the end, if it appends), which moves on.
    ///
    /// Writes as much as there is room for. If the source has bytes left afterwards, a kernel calls again; a thread that may wait goes
    /// on at [`Errno::AGAIN`].
    ///
    /// # Errors
    ///
    /// Linux's. [`Errno::AGAIN`] when there is no room yet, whether `O_NONBLOCK` is set or not; [`Errno::PIPE`] is to be joined by `SIGPIPE`.
    pub fn write(&mut self, fd: Fd, source: &mut dyn Source) -> Result<usize, Errno> {
        let (number, open) = self.open_of(fd)?;
        if !open.writable() {
            return Err(Errno::BADF);
        }
        let (object, node, position, appends) = (open.object, open.node, open.position, open.appends());
        match object {
            Object::File => {
                let (start, done) = self.write_file(node, (!appends).then_some(position), source)?;
                if done > 0 {
                    self.files.open_mut(number)?.position = start + done as u64;
                }
                Ok(done)
            }
            Object::Device(device) => self.write_device(device, source),
            Object::Pipe { end: End::Read, .. } | Object::Path => Err(Errno::BADF),
            Object::Pipe { pipe, .. } => self.files.write_pipe(pipe, source),
            Object::Counter(counter) => self.files.write_counter(counter, source),
            Object::Socket(socket) => self.write_socket(socket, source),
            Object::Pair(end) => self.files.write_pair(end, source),
            Object::Epoll(_) => Err(Errno::INVAL),
        }
    }

    /// `pwrite64`, `pwritev`: to `offset` (or to the end, if the description appends), and the description stays where it is.
    ///
    /// # Errors
    ///
    /// Linux's.
    pub fn write_at(&mut self, fd: Fd, offset: i64, source: &mut dyn Source) -> Result<usize, Errno> {
        let offset = u64::try_from(offset).map_err(|_| Errno::INVAL)?;
        let (_, open) = self.open_of(fd)?;
        if open.object == Object::Path {
            return Err(Errno::BADF);
        }
        let (object, node, appends, writable) = (open.object, open.node, open.appends(), open.writable());
        if object.is_stream() {
            return Err(Errno::SPIPE);
        }
        if !writable {
            return Err(Errno::BADF);
        }
        match object {
            Object::File => Ok(self.write_file(node, (!appends).then_some(offset), source)?.1),
            Object::Device(device) => self.write_device(device, source),
            _ => Err(Errno::SPIPE),
        }
    }

    /// Writes at a place, or at the end; where that was, and how much.
    fn write_file(
        &mut self,
        node: Option<Node>,
        at: Option<u64>,
        source: &mut dyn Source,
    ) -> Result<(u64, usize), Errno> {
        let Some(Node::Inode(number)) = node else { return Err(Errno::BADF) };
        let now = self.system.now();
        if let Some(message) = self.files.message_of(number) {
            let written = self.files.write_message(message, at, source, self.system)?;
            self.files.inode_mut(number)?.touch(now);
            return Ok(written);
        }
        let (contents, mut budget) = self.files.contents(number)?;
        let at = at.unwrap_or(contents.size());
        let done = contents.write(&mut budget, at, source)?;
        if done > 0 {
            self.files.inode_mut(number)?.touch(now);
        }
        Ok((at, done))
    }

    fn write_device(&mut self, device: Device, source: &mut dyn Source) -> Result<usize, Errno> {
        match device {
            Device::Null | Device::Zero | Device::Random => Ok(source.remaining()),
            Device::Full if source.remaining() == 0 => Ok(0),
            Device::Full => Err(Errno::NOSPC),
            Device::Terminal => self.files.terminal.write(self.system, source),
            Device::Control => Err(Errno::INVAL),
            Device::Absent => Err(Errno::NXIO),
        }
    }

    /// `lseek`.
    ///
    /// # Errors
    ///
    /// Linux's.
    pub fn lseek(&mut self, fd: Fd, offset: i64, from: Seek) -> Result<u64, Errno> {
        let (number, open) = self.open_of(fd)?;
        let (object, node, position) = (open.object, open.node, open.position);
        match object {
            Object::Path => return Err(Errno::BADF),
            Object::Device(device) if device != Device::Terminal => return Ok(0),
            Object::File => {}
            _ => return Err(Errno::SPIPE),
        }
        let body = match node {
            Some(Node::Inode(number)) => Some(&self.files.inode(number)?.body),
            _ => None,
        };
        let size = match body {
            Some(Body::Archive(bytes)) => bytes.len() as u64,
            Some(Body::Memory(contents)) => contents.size(),
            Some(&Body::Message(message)) => self.files.message(message)?.size(),
            // A directory ends nowhere.
            _ => 0,
        };
        let base = match from {
            Seek::Start => 0,
            Seek::Current => position,
            Seek::End => size,
            Seek::Data | Seek::Hole => {
                let at = u64::try_from(offset).ok().filter(|&at| at < size).ok_or(Errno::NXIO)?;
                let data = from == Seek::Data;
                let found = match body {
                    Some(Body::Memory(contents)) => contents.seek(at, data),
                    _ if data => Some(at),
                    _ => Some(size),
                };
                let found = found.ok_or(Errno::NXIO)?;
                self.files.open_mut(number)?.position = found;
                return Ok(found);
            }
        };
        let place = base.checked_add_signed(offset).filter(|&place| place <= SIZE_MAX).ok_or(Errno::INVAL)?;
        self.files.open_mut(number)?.position = place;
        Ok(place)
    }

    /// `ftruncate`.
    ///
    /// # Errors
    ///
    /// Linux's.
    pub fn ftruncate(&mut self, fd: Fd, size: i64) -> Result<(), Errno> {
        let size = u64::try_from(size).map_err(|_| Errno::INVAL)?;
        let (_, open) = self.open_of(fd)?;
        if open.object == Object::Path {
            return Err(Errno::BADF);
        }
        match open.node {
            Some(Node::Inode(number)) if open.object == Object::File && open.writable() => {
                self.resize(number, size)
            }
            _ => Err(Errno::INVAL),
        }
    }

    /// `truncate`.
    ///
    /// # Errors
    ///
    /// Linux's.
    pub fn truncate(&mut self, path: &[u8], size: i64) -> Result<(), Errno> {
        let size = u64::try_from(size).map_err(|_| Errno::INVAL)?;
        let node = self.find(linux_raw_sys::general::AT_FDCWD, path, true)?;
        if self.is_directory(node) {
            return Err(Errno::ISDIR);
        }
        let Node::Inode(number) = node else { return Err(Errno::ACCES) };
        match self.files.inode(number)?.body {
            Body::Archive(_) => Err(Errno::ROFS),
            _ => self.resize(number, size),
        }
    }

    pub(super) fn resize(&mut self, number: u32, size: u64) -> Result<(), Errno> {
        let now = self.system.now();
        if let Some(message) = self.files.message_of(number) {
            self.files.resize_message(message, size, self.system)?;
        } else {
            let (contents, mut budget) = self.files.contents(number)?;
            contents.truncate(&mut budget, size);
        }
        self.files.inode_mut(number)?.touch(now);
        Ok(())
    }

    /// `fallocate`, plain or with `FALLOC_FL_KEEP_SIZE`.
    ///
    /// # Errors
    ///
    /// Linux's.
    pub fn fallocate(&mut self, fd: Fd, mode: u32, offset: i64, length: i64) -> Result<(), Errno> {
        let (_, open) = self.open_of(fd)?;
        if open.object == Object::Path {
            return Err(Errno::BADF);
        }
        let (object, node, writable) = (open.object, open.node, open.writable());
        let (Ok(offset), Ok(length @ 1..)) = (u64::try_from(offset), u64::try_from(length)) else {
            return Err(Errno::INVAL);
        };
        if mode & !FALLOC_FL_KEEP_SIZE != 0 {
            return Err(Errno::OPNOTSUPP);
        }
        if !writable {
            return Err(Errno::BADF);
        }
        let (Object::File, Some(Node::Inode(number))) = (object, node) else {
            return Err(if matches!(object, Object::Pipe { .. }) { Errno::SPIPE } else { Errno::NODEV });
        };
        let end = offset.checked_add(length).filter(|&end| end <= SIZE_MAX).ok_or(Errno::FBIG)?;
        let now = self.system.now();
        let (contents, mut budget) = self.files.contents(number).map_err(|_| Errno::NODEV)?;
        contents.allocate(&mut budget, offset, end, mode & FALLOC_FL_KEEP_SIZE == 0)?;
        self.files.inode_mut(number)?.touch(now);
        Ok(())
    }
}
