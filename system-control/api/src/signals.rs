//! What happens to partitions.

use std::{
    fs::File,
    io::{self, Read},
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
};

use handover_abi::{EndReason, PartitionId, SignalKind};

use crate::DEVICE;

/// Bytes of one signal: the registers of `SignalNext`, `x1` to `x4`, little-endian.
const RECORD: usize = 32;

/// Something that happened to a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It has ended, and everything it held has come back.
    Ended {
        /// Which.
        partition: PartitionId,
        /// Why.
        reason: EndReason,
    },
    /// Something that this version does not know.
    Other {
        /// The signal's kind.
        kind: u64,
        /// Whom it is about.
        partition: PartitionId,
    },
}

/// The signals about partitions from when it was opened on; each who opens them gets them all. A descriptor that `poll` calls readable
/// when there is one.
#[derive(Debug)]
pub struct Signals<R = File>(R);

impl Signals {
    /// From now on.
    ///
    /// # Errors
    ///
    /// Those of opening [`DEVICE`].
    pub fn open() -> io::Result<Signals> {
        File::open(DEVICE).map(Signals)
    }
}

impl<R: Read> Signals<R> {
    /// Signals from elsewhere: for tests.
    pub fn from_reader(reader: R) -> Signals<R> {
        Signals(reader)
    }

    /// Waits for the next.
    ///
    /// # Errors
    ///
    /// Those of reading.
    #[expect(clippy::should_implement_trait, reason = "an iterator ends, these do not")]
    pub fn next(&mut self) -> io::Result<Event> {
        let mut record = [0; RECORD];
        self.0.read_exact(&mut record)?;
        let mut words = [0; 4];
        for (word, bytes) in words.iter_mut().zip(record.chunks_exact(8)) {
            *word = u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
        }
        let [kind, _token, partition, argument] = words;
        let partition = PartitionId::new(partition as u32);
        Ok(match (SignalKind::try_from(kind), EndReason::try_from(argument)) {
            (Ok(SignalKind::PartitionEnded), Ok(reason)) => Event::Ended { partition, reason },
            _ => Event::Other { kind, partition },
        })
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Signals {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records() {
        let words: [u64; 10] = [2, 0, 7, 5, 99, 1, 8, 9, 2, 0];
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let mut signals = Signals::from_reader(&bytes[..]);
        let partition = PartitionId::new(7);
        assert_eq!(signals.next().unwrap(), Event::Ended { partition, reason: EndReason::Fault });
        assert_eq!(signals.next().unwrap(), Event::Other { kind: 99, partition: PartitionId::new(8) });
        assert_eq!(signals.next().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
