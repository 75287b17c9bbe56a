//! Pipes.

use crate::{
    Errno, Sink, Source,
    files::{Files, Waitable},
    node::Body,
    ring::Ring,
};

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

/// A pipe.
#[derive(Debug, Default)]
pub(crate) struct Pipe {
    ring: Ring,
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
        self.ring.length()
    }

    pub(crate) fn room(&self) -> usize {
        self.ring.room()
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
        if pipe.length() == 0 {
            return if pipe.writers == 0 && pipe.had_writer { Ok(0) } else { Err(Errno::AGAIN) };
        }
        let was_full = pipe.room() < ATOMIC;
        let done = pipe.ring.read(usize::MAX, sink)?;
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
        let done = pipe.ring.write(source)?;
        pipe.changes += 1;
        self.wake(Waitable::Pipe(number));
        Ok(done)
    }

    /// Makes a pipe that has no ends yet.
    pub(crate) fn make_pipe(&mut self, inode: Option<u32>) -> Result<u32, Errno> {
        let number = self.next_number();
        self.pipes.insert(self.payer, Pipe { inode, number, ..Pipe::default() }).ok_or(Errno::NFILE)
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
