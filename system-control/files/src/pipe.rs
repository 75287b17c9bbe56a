//! Pipes.

use alloc::vec::Vec;

use crate::{
    Errno, Sink, Source,
    files::{Files, Waitable},
    node::Body,
};

/// Bytes that a pipe holds.
pub(crate) const CAPACITY: usize = 65_536;
/// A write of up to so many bytes goes in at once, or not at all.
pub(crate) const ATOMIC: usize = 4096;

/// An end of a pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Read,
    Write,
    /// A named pipe that was opened for both.
    Both,
}

impl End {
    fn reads(self) -> bool {
        self != End::Write
    }

    fn writes(self) -> bool {
        self != End::Read
    }
}

/// A pipe: a ring of bytes, which grows up to its capacity when it is first filled.
#[derive(Debug, Default)]
pub(crate) struct Pipe {
    ring: Vec<u8>,
    start: usize,
    length: usize,
    pub(crate) readers: u32,
    pub(crate) writers: u32,
    /// Whether there ever was a writer: a named pipe without one is not yet at its end.
    pub(crate) had_writer: bool,
    /// The inode of a named one.
    pub(crate) inode: Option<u32>,
    /// Unlike its place in the arena, never used again.
    pub(crate) number: u64,
    /// Grows with every change, for edge-triggered waits.
    pub(crate) changes: u64,
}

impl Pipe {
    pub(crate) fn opened(&mut self, end: End) {
        self.readers += u32::from(end.reads());
        self.writers += u32::from(end.writes());
        self.had_writer |= end.writes();
        self.changes += 1;
    }

    pub(crate) fn length(&self) -> usize {
        self.length
    }

    pub(crate) fn room(&self) -> usize {
        CAPACITY - self.length
    }

    fn read(&mut self, sink: &mut dyn Sink) -> Result<usize, Errno> {
        let mut done = 0;
        while self.length > 0 && sink.room() > 0 {
            let part = self.length.min(self.ring.len() - self.start);
            match sink.put(&self.ring[self.start..self.start + part]) {
                Ok(taken) => {
                    done += taken;
                    self.length -= taken;
                    self.start = (self.start + taken) % self.ring.len();
                    if taken < part {
                        break;
                    }
                }
                Err(errno) if done == 0 => return Err(errno),
                Err(_) => break,
            }
        }
        if self.length == 0 {
            self.start = 0;
        }
        Ok(done)
    }

    fn write(&mut self, source: &mut dyn Source) -> Result<usize, Errno> {
        let wanted = source.remaining().min(self.room());
        self.grow(self.length + wanted)?;
        let mut done = 0;
        while done < wanted {
            let at = (self.start + self.length) % self.ring.len();
            let part = (self.ring.len() - at).min(wanted - done);
            match source.take(&mut self.ring[at..at + part]) {
                Ok(taken) => {
                    done += taken;
                    self.length += taken;
                    if taken < part {
                        break;
                    }
                }
                Err(errno) if done == 0 => return Err(errno),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    /// Makes the ring large enough for so many bytes.
    fn grow(&mut self, bytes: usize) -> Result<(), Errno> {
        if bytes <= self.ring.len() {
            return Ok(());
        }
        let size = bytes.next_power_of_two().clamp(ATOMIC, CAPACITY);
        let mut ring = Vec::new();
        ring.try_reserve_exact(size).map_err(|_| Errno::NOMEM)?;
        let tail = self.length.min(self.ring.len() - self.start);
        ring.extend_from_slice(&self.ring[self.start..self.start + tail]);
        ring.extend_from_slice(&self.ring[..self.length - tail]);
        ring.resize(size, 0);
        self.ring = ring;
        self.start = 0;
        Ok(())
    }
}

impl Files {
    fn pipe(&mut self, number: u32) -> Result<&mut Pipe, Errno> {
        self.pipes.get_mut(number).ok_or(Errno::BADF)
    }

    pub(crate) fn read_pipe(&mut self, number: u32, sink: &mut dyn Sink) -> Result<usize, Errno> {
        if sink.room() == 0 {
            return Ok(0);
        }
        let pipe = self.pipe(number)?;
        if pipe.length == 0 {
            return if pipe.writers == 0 && pipe.had_writer { Ok(0) } else { Err(Errno::AGAIN) };
        }
        let was_full = pipe.room() < ATOMIC;
        let done = pipe.read(sink)?;
        if was_full && pipe.room() >= ATOMIC {
            pipe.changes += 1;
            self.wake(Waitable::Pipe(number));
        }
        Ok(done)
    }

    pub(crate) fn write_pipe(&mut self, number: u32, source: &mut dyn Source) -> Result<usize, Errno> {
        if source.remaining() == 0 {
            return Ok(0);
        }
        let pipe = self.pipe(number)?;
        if pipe.readers == 0 {
            return Err(Errno::PIPE);
        }
        let atomic = source.remaining() <= ATOMIC;
        if pipe.room() == 0 || atomic && pipe.room() < source.remaining() {
            return Err(Errno::AGAIN);
        }
        let done = pipe.write(source)?;
        pipe.changes += 1;
        self.wake(Waitable::Pipe(number));
        Ok(done)
    }

    /// Makes a pipe that has no ends yet.
    pub(crate) fn make_pipe(&mut self, inode: Option<u32>) -> Result<u32, Errno> {
        let number = self.next_number();
        self.pipes.insert(Pipe { inode, number, ..Pipe::default() }).ok_or(Errno::NFILE)
    }

    /// An end is closed; with the last one, the pipe goes.
    pub(crate) fn close_pipe(&mut self, number: u32, end: End) {
        let Some(pipe) = self.pipes.get_mut(number) else { return };
        pipe.readers -= u32::from(end.reads());
        pipe.writers -= u32::from(end.writes());
        pipe.changes += 1;
        if pipe.readers == 0 && pipe.writers == 0 {
            if let Some(inode) = pipe.inode.and_then(|inode| self.inodes.get_mut(inode)) {
                inode.body = Body::Fifo(None);
            }
            self.pipes.remove(number);
        }
        self.wake(Waitable::Pipe(number));
    }
}
