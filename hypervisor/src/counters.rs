//! What is counted of each logical processor. One that runs is counted by its physical processor alone, without the lock: a reader on another
//! one may be a little behind.

use core::sync::atomic::{AtomicU64, Ordering};

use handover_abi::{COUNTERS_AT_ONCE, COUNTERS_END, Call, Counter, CounterNumber, Error};
use handover_core::{Failure, PartitionIndex};

use crate::kernel::Hardware;

/// Every logical processor of a partition, as `CountersRead` has it.
const ALL: u64 = u64::MAX;

/// The counters of one logical processor. All zeroes at first.
#[repr(C)]
pub struct Counters {
    calls: [AtomicU64; Call::ALL.len()],
    failed: [AtomicU64; Call::ALL.len()],
    errors: [AtomicU64; Error::ALL.len() + 1],
    named: [AtomicU64; Counter::ALL.len()],
}

/// Adds where nobody else does: no read-modify-write is needed.
#[inline(always)]
fn add(counter: &AtomicU64, number: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(number), Ordering::Relaxed);
}

impl Counters {
    /// Something has happened so many times, or so many bytes of it.
    #[inline(always)]
    pub fn add(&self, counter: Counter, number: u64) {
        add(&self.named[counter as usize], number);
    }

    /// How often it has, or how many bytes of it.
    #[inline(always)]
    pub fn get(&self, counter: Counter) -> u64 {
        self.named[counter as usize].load(Ordering::Relaxed)
    }

    /// Something has happened once.
    #[inline(always)]
    pub fn count(&self, counter: Counter) {
        self.add(counter, 1);
    }

    /// A call has come to its end.
    #[inline(always)]
    pub fn call(&self, call: Call) {
        add(&self.calls[call.position()], 1);
    }

    /// It has not come to its end after all.
    #[cold]
    pub fn not_called(&self, call: Call) {
        add(&self.calls[call.position()], u64::MAX);
    }

    /// And it has failed.
    #[inline(always)]
    pub fn failed(&self, call: Call, error: Error) {
        add(&self.failed[call.position()], 1);
        if let Some(counter) = self.errors.get((error as i64).unsigned_abs() as usize) {
            add(counter, 1);
        }
    }

    fn read(&self, number: CounterNumber) -> u64 {
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        // Failures first: they are counted last, so that never more failed than there were.
        let succeeded = |call: Call| {
            let failed = value(&self.failed[call.position()]);
            value(&self.calls[call.position()]).saturating_sub(failed)
        };
        match number {
            CounterNumber::Named(Counter::Calls) => self.calls.iter().map(value).fold(0, u64::wrapping_add),
            CounterNumber::Named(Counter::MessagesSent) => succeeded(Call::Send),
            CounterNumber::Named(Counter::MessagesReceived) => succeeded(Call::Receive),
            CounterNumber::Named(counter) => value(&self.named[counter as usize]),
            CounterNumber::Calls(call) => value(&self.calls[call.position()]),
            CounterNumber::Failed(call) => value(&self.failed[call.position()]),
            CounterNumber::Errors(error) => {
                self.errors.get((error as i64).unsigned_abs() as usize).map_or(0, value)
            }
        }
    }
}

impl Hardware {
    /// Counters from the one numbered `first` on, of a logical processor or of [`ALL`]. [`Error::InvalidArgument`]: no such processor, or no
    /// counter has such a number.
    pub fn counters(
        &self,
        partition: PartitionIndex,
        processor: u64,
        first: u64,
    ) -> Result<[u64; COUNTERS_AT_ONCE], Failure> {
        let shell = self.shell(partition).ok_or(Error::BadHandle)?;
        let chosen = match processor {
            ALL => &shell.vcpus[..],
            _ => {
                let index = usize::try_from(processor).map_err(|_| Error::InvalidArgument)?;
                let key = shell.vcpus.get(index).filter(|key| key.is_some());
                key.map(core::slice::from_ref).ok_or(Error::InvalidArgument)?
            }
        };
        if first >= COUNTERS_END {
            return Err(Error::InvalidArgument.into());
        }
        // What others have caused too, or no processor of its own has.
        let beside = |number| match number {
            CounterNumber::Named(Counter::TranslationUnlinks) if processor == ALL => shell.unlinks,
            CounterNumber::Named(Counter::TranslationFlushes) if processor == ALL => shell.flushes,
            _ => 0,
        };
        Ok(core::array::from_fn(|offset| match CounterNumber::new(first + offset as u64) {
            None => 0,
            Some(number) => {
                let counters = chosen.iter().flatten().map(|key| {
                    // SAFETY: a key's frame is placed for as long as the shell is there. Of a frame that runs elsewhere this refers to the
                    // counters alone, which are atomic.
                    unsafe { (*key.as_ptr()).counters.read(number) }
                });
                counters.fold(beside(number), u64::wrapping_add)
            }
        }))
    }
}
