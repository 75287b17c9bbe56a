//! Rings of bytes.

use alloc::vec::Vec;

use crate::{Errno, Sink, Source};

/// Bytes that a ring holds.
pub(crate) const CAPACITY: usize = 65_536;
/// The smallest ring that is not empty.
const SMALLEST: usize = 4096;

/// A ring of bytes, which grows up to its capacity when it is first filled.
#[derive(Debug, Default)]
pub(crate) struct Ring {
    bytes: Vec<u8>,
    start: usize,
    length: usize,
}

impl Ring {
    pub(crate) fn length(&self) -> usize {
        self.length
    }

    pub(crate) fn room(&self) -> usize {
        CAPACITY - self.length
    }

    /// Reads the oldest bytes, `most` at most.
    pub(crate) fn read(&mut self, most: usize, sink: &mut dyn Sink) -> Result<usize, Errno> {
        let mut done = 0;
        while self.length > 0 && done < most && sink.room() > 0 {
            let part = self.length.min(self.bytes.len() - self.start).min(most - done);
            match sink.put(&self.bytes[self.start..self.start + part]) {
                Ok(taken) => {
                    done += taken;
                    self.skip(taken);
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

    /// Forgets the oldest bytes.
    pub(crate) fn skip(&mut self, count: usize) {
        let count = count.min(self.length);
        self.length -= count;
        self.start = if self.length == 0 { 0 } else { (self.start + count) % self.bytes.len() };
    }

    /// Forgets the newest bytes.
    pub(crate) fn take_back(&mut self, count: usize) {
        self.length = self.length.saturating_sub(count);
    }

    /// Takes as much as fits.
    pub(crate) fn write(&mut self, source: &mut dyn Source) -> Result<usize, Errno> {
        let wanted = source.remaining().min(self.room());
        self.grow(self.length + wanted)?;
        let mut done = 0;
        while done < wanted {
            let at = (self.start + self.length) % self.bytes.len();
            let part = (self.bytes.len() - at).min(wanted - done);
            match source.take(&mut self.bytes[at..at + part]) {
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
        if bytes <= self.bytes.len() {
            return Ok(());
        }
        let size = bytes.next_power_of_two().clamp(SMALLEST, CAPACITY);
        let mut ring = Vec::new();
        ring.try_reserve_exact(size).map_err(|_| Errno::NOMEM)?;
        let tail = self.length.min(self.bytes.len() - self.start);
        ring.extend_from_slice(&self.bytes[self.start..self.start + tail]);
        ring.extend_from_slice(&self.bytes[..self.length - tail]);
        ring.resize(size, 0);
        self.bytes = ring;
        self.start = 0;
        Ok(())
    }
}
