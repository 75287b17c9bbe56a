//! What `/dev/control` tells: control signals about partitions. Each who opens it reads all that come from then on.

use alloc::collections::VecDeque;

use handover_abi::Signal;

use crate::{Errno, Sink};

/// Signals that are kept for those who have not read them yet; who is further behind has missed some.
const KEPT_MAX: usize = 256;
/// Bytes of a signal as it is read: the registers of `SignalNext`, `x1` to `x4`, little-endian.
pub(crate) const RECORD: usize = 32;

/// The last signals.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    kept: VecDeque<Signal>,
    /// The number of the next one that comes; they are counted from 0.
    next: u64,
}

impl Signals {
    pub(crate) fn push(&mut self, signal: Signal) {
        if self.kept.len() == KEPT_MAX {
            self.kept.pop_front();
        }
        self.kept.push_back(signal);
        self.next += 1;
    }

    /// The number of the next one that comes.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// Records from this number on, as many as fit, and the number of the next.
    ///
    /// # Errors
    ///
    /// [`Errno::INVAL`] where none fits, [`Errno::AGAIN`] where there is none yet, those of the sink.
    pub(crate) fn read(&self, position: u64, sink: &mut dyn Sink) -> Result<(usize, u64), Errno> {
        if sink.room() < RECORD {
            return Err(Errno::INVAL);
        }
        let first = self.next - self.kept.len() as u64;
        let mut position = position.max(first);
        if position >= self.next {
            return Err(Errno::AGAIN);
        }
        let mut done = 0;
        while let Some(signal) = self.kept.get((position - first) as usize)
            && sink.room() >= RECORD
        {
            let words = [signal.kind as u64, signal.token, signal.partition.get().into(), signal.argument];
            let mut record = [0; RECORD];
            for (bytes, word) in record.chunks_exact_mut(8).zip(words) {
                bytes.copy_from_slice(&word.to_le_bytes());
            }
            if sink.put(&record)? < RECORD {
                return Err(Errno::FAULT);
            }
            done += RECORD;
            position += 1;
        }
        Ok((done, position))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use handover_abi::{PartitionId, SignalKind};

    fn signal(number: u32) -> Signal {
        let kind = SignalKind::PartitionEnded;
        Signal { kind, token: 0, partition: PartitionId::new(number), argument: 1 }
    }

    #[test]
    fn who_is_too_slow_misses_the_oldest() {
        let mut signals = Signals::default();
        let mut buffer = [0; 3 * RECORD + 5];
        assert_eq!(signals.read(0, &mut &mut buffer[..]), Err(Errno::AGAIN));
        assert_eq!(signals.read(0, &mut &mut buffer[..RECORD - 1]), Err(Errno::INVAL));
        for number in 0..KEPT_MAX as u32 + 10 {
            signals.push(signal(number));
        }
        let (done, position) = signals.read(3, &mut &mut buffer[..]).unwrap();
        assert_eq!((done, position), (3 * RECORD, 13));
        let partitions = [buffer[16], buffer[RECORD + 16], buffer[2 * RECORD + 16]];
        assert_eq!(partitions, [10, 11, 12]);
        assert_eq!(signals.read(signals.next(), &mut &mut buffer[..]), Err(Errno::AGAIN));
        let last = signals.next() - 1;
        assert_eq!(signals.read(last, &mut &mut buffer[..]).unwrap(), (RECORD, signals.next()));
    }
}
