//! Where bytes go to and come from: a program's memory, which only the kernel can reach.

use core::sync::atomic::{AtomicU8, Ordering};

use crate::{Errno, page::PAGE};

/// Takes bytes: a program's buffers, one after another.
pub trait Sink {
    /// Bytes that still fit.
    fn room(&self) -> usize;

    /// Takes as many of `bytes` as fit; how many. Fewer than fit, if the program's memory ends there.
    ///
    /// # Errors
    ///
    /// [`Errno::FAULT`] when none could be taken though there is room.
    fn put(&mut self, bytes: &[u8]) -> Result<usize, Errno>;

    /// Takes bytes that somebody may write meanwhile, like [`put`](Sink::put).
    ///
    /// # Errors
    ///
    /// As for [`put`](Sink::put).
    fn put_shared(&mut self, bytes: &[AtomicU8]) -> Result<usize, Errno> {
        let mut done = 0;
        let mut part = [0; 256];
        let length = bytes.len().min(self.room());
        for piece in bytes[..length].chunks(part.len()) {
            part.iter_mut().zip(piece).for_each(|(to, from)| *to = from.load(Ordering::Relaxed));
            match self.put(&part[..piece.len()]) {
                Ok(taken) => done += taken,
                Err(errno) if done == 0 => return Err(errno),
                Err(_) => break,
            }
        }
        Ok(done)
    }
}

/// Gives bytes: a program's buffers, one after another.
pub trait Source {
    /// Bytes that are left.
    fn remaining(&self) -> usize;

    /// Gives as many bytes as there are and fit; how many. Fewer, if the program's memory ends there.
    ///
    /// # Errors
    ///
    /// [`Errno::FAULT`] when none could be given though some are left.
    fn take(&mut self, into: &mut [u8]) -> Result<usize, Errno>;

    /// Gives bytes to where somebody may read or write meanwhile, like [`take`](Source::take).
    ///
    /// # Errors
    ///
    /// As for [`take`](Source::take).
    fn take_shared(&mut self, into: &[AtomicU8]) -> Result<usize, Errno> {
        let mut done = 0;
        let mut part = [0; 256];
        let length = into.len().min(self.remaining());
        for piece in into[..length].chunks(part.len()) {
            match self.take(&mut part[..piece.len()]) {
                Ok(got) => {
                    part[..got].iter().zip(piece).for_each(|(&from, to)| to.store(from, Ordering::Relaxed));
                    done += got;
                }
                Err(errno) if done == 0 => return Err(errno),
                Err(_) => break,
            }
        }
        Ok(done)
    }
}

impl Sink for &mut [u8] {
    fn room(&self) -> usize {
        self.len()
    }

    fn put(&mut self, bytes: &[u8]) -> Result<usize, Errno> {
        let length = bytes.len().min(self.len());
        let (taken, rest) = core::mem::take(self).split_at_mut(length);
        taken.copy_from_slice(&bytes[..length]);
        *self = rest;
        Ok(length)
    }
}

impl Source for &[u8] {
    fn remaining(&self) -> usize {
        self.len()
    }

    fn take(&mut self, into: &mut [u8]) -> Result<usize, Errno> {
        let length = into.len().min(self.len());
        let (given, rest) = self.split_at(length);
        into[..length].copy_from_slice(given);
        *self = rest;
        Ok(length)
    }
}

/// All of `bytes` that fit, at once; what a file makes that is read in one piece.
pub(crate) fn put_from(sink: &mut dyn Sink, bytes: &[u8], at: u64) -> Result<usize, Errno> {
    let rest = usize::try_from(at).ok().and_then(|at| bytes.get(at..)).unwrap_or_default();
    if rest.is_empty() || sink.room() == 0 { Ok(0) } else { sink.put(rest) }
}

/// Puts up to the sink's room of one byte's repetition.
pub(crate) fn put_zeroes(sink: &mut dyn Sink, mut length: usize) -> Result<usize, Errno> {
    static ZEROES: [u8; PAGE] = [0; PAGE];
    let mut done = 0;
    length = length.min(sink.room());
    while done < length {
        match sink.put(&ZEROES[..PAGE.min(length - done)]) {
            Ok(taken) => done += taken,
            Err(errno) if done == 0 => return Err(errno),
            Err(_) => break,
        }
    }
    Ok(done)
}
