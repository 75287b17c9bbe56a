//! One partition.

use std::fmt;

use handover_abi::{
    Account, COUNTERS_AT_ONCE, Call, Counter, EndReason, PartitionId, PartitionState, ProcessorClaim,
};

use crate::{Cause, Error, Event, Machine, REGISTERS, Signals};

/// A partition of the machine's. Dropping this does nothing to it.
#[derive(Clone, Debug)]
pub struct Partition {
    pub(crate) machine: Machine,
    pub(crate) id: PartitionId,
    /// Where its guest starts and what it finds in `x0`, if [`Machine::create`] put one in.
    pub(crate) entry: Option<(u64, u64)>,
}

/// Use and limit of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charge {
    /// What is used now, in the account's unit.
    pub used: u64,
    /// What may be used at most.
    pub limit: u64,
}

/// Time of a logical processor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessorTime {
    /// Nanoseconds it has run, the control OS's work for it included.
    pub ran: u64,
    /// Nanoseconds it has wanted to run and did not.
    pub waited: u64,
}

/// What the control OS has counted of a partition, its processors together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counters([u64; Counter::ALL.len()]);

impl Counters {
    /// One of them.
    #[must_use]
    pub fn get(&self, counter: Counter) -> u64 {
        self.0[counter as usize]
    }
}

/// How a partition ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Why.
    pub reason: EndReason,
    /// The exit status, if it exited.
    pub status: u64,
}

fn id(partition: PartitionId) -> u64 {
    partition.get().into()
}

impl Partition {
    /// Its id, which no other ever has.
    #[must_use]
    pub fn id(&self) -> PartitionId {
        self.id
    }

    /// Waits for its end.
    ///
    /// # Errors
    ///
    /// The signals cannot be read; it was forgotten before; those of the call.
    pub fn wait(&self) -> Result<Ended, Error> {
        let failed = |error| Error {
            what: "wait for its end".into(),
            partition: Some(self.id),
            cause: Cause::System(error),
        };
        // What happens after this is told, and what happened before is in the state.
        let mut signals = Signals::open().map_err(failed)?;
        loop {
            if let (PartitionState::Terminated, Some(ended)) = self.state()? {
                return Ok(ended);
            }
            while !matches!(signals.next().map_err(failed)?, Event::Ended { partition, .. } if partition == self.id)
            {
            }
        }
    }

    /// Its account: use and limit.
    ///
    /// # Errors
    ///
    /// Those of the call; so for all below.
    pub fn account(&self, account: Account) -> Result<Charge, Error> {
        let [used, limit, ..] =
            self.call(format_args!("read the account of {account}"), Call::AccountRead, &[account as u64])?;
        Ok(Charge { used, limit })
    }

    /// Time of one of its logical processors; `None` if it has not so many.
    #[expect(clippy::missing_errors_doc, reason = "as above")]
    pub fn processor(&self, number: u32) -> Result<Option<ProcessorTime>, Error> {
        let what = format_args!("read the time of processor {number}");
        match self.call(what, Call::ProcessorRead, &[number.into()]) {
            Ok([_, _, _, ran, waited, ..]) => Ok(Some(ProcessorTime { ran, waited })),
            Err(error) if error.control() == Some(handover_abi::Error::InvalidArgument) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What one of its logical processors is promised of the physical ones; `None` if it has not so many.
    #[expect(clippy::missing_errors_doc, reason = "as above")]
    pub fn claim(&self, number: u32) -> Result<Option<ProcessorClaim>, Error> {
        let what = format_args!("read the claim of processor {number}");
        match self.call(what, Call::ProcessorRead, &[number.into()]) {
            Ok([budget, period, how, ..]) => Ok(ProcessorClaim::from_registers([budget, period, how])),
            Err(error) if error.control() == Some(handover_abi::Error::InvalidArgument) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Promises one of its logical processors time of the physical ones.
    #[expect(clippy::missing_errors_doc, reason = "as above")]
    pub fn set_claim(&self, number: u32, claim: ProcessorClaim) -> Result<(), Error> {
        let [budget, period, how] = claim.to_registers();
        let what = format_args!("promise processor {number} its time");
        self.call(what, Call::ProcessorSet, &[number.into(), budget, period, how]).map(drop)
    }

    /// Its counters.
    #[expect(clippy::missing_errors_doc, reason = "as above")]
    pub fn counters(&self) -> Result<Counters, Error> {
        let mut counters = Counters([0; _]);
        for (first, part) in (0..).step_by(COUNTERS_AT_ONCE).zip(counters.0.chunks_mut(COUNTERS_AT_ONCE)) {
            let read =
                self.call(format_args!("read its counters"), Call::CountersRead, &[u64::MAX, first])?;
            part.copy_from_slice(&read[..part.len()]);
        }
        Ok(counters)
    }

    /// Sets how much it may have of a resource, in the account's unit. Less than it has takes nothing away.
    #[expect(clippy::missing_errors_doc, reason = "as above")]
    pub fn set_limit(&self, account: Account, limit: u64) -> Result<(), Error> {
        let what = format_args!("set the limit of {account} to {limit}");
        self.call(what, Call::PartitionSetLimit, &[account as u64, limit]).map(drop)
    }

    /// Gives it zeroed memory at an address of its own; both multiples of 2 MiB. A failure can come after a part was given.
    #[expect(clippy::missing_errors_doc, reason = "as above")]
    pub fn add_memory(&self, address: u64, size: u64) -> Result<(), Error> {
        let mut given = 0;
        while given < size {
            let step = (size - given).min(handover_abi::layout::ADD_MEMORY_MAX);
            let what = format_args!("give {step} bytes of memory");
            self.call(what, Call::PartitionAddMemory, &[address + given, step])?;
            given += step;
        }
        Ok(())
    }

    /// Writes into its memory before it starts. A failure can come after a part was written.
    #[expect(clippy::missing_errors_doc, reason = "as above")]
    pub fn write(&self, address: u64, bytes: &[u8]) -> Result<(), Error> {
        let step = handover_abi::layout::WRITE_MAX as usize;
        for (chunk, at) in bytes.chunks(step).zip((address..).step_by(step)) {
            let source = chunk.as_ptr().expose_provenance() as u64;
            let what = format_args!("write {} bytes at {at:#x}", chunk.len());
            self.call(what, Call::PartitionWrite, &[at, source, chunk.len() as u64])?;
        }
        Ok(())
    }

    /// Starts the guest that [`Machine::create`] put in.
    ///
    /// # Errors
    ///
    /// There is none; those of the call.
    pub fn start(&self) -> Result<(), Error> {
        let (entry, x0) = self.entry.ok_or_else(|| Error {
            what: "start".into(),
            partition: Some(self.id),
            cause: Cause::Content("nothing was put in it".into()),
        })?;
        self.start_at(entry, x0)
    }

    /// Starts its processor 0 at `entry`, with `x0` in its `x0`.
    #[expect(clippy::missing_errors_doc, reason = "as above")]
    pub fn start_at(&self, entry: u64, x0: u64) -> Result<(), Error> {
        self.call(format_args!("start at {entry:#x}"), Call::PartitionStart, &[entry, x0]).map(drop)
    }

    /// Stops all its processors where they are, until [`resume`](Partition::resume).
    #[expect(clippy::missing_errors_doc, reason = "as above")]
    pub fn pause(&self) -> Result<(), Error> {
        self.call(format_args!("pause"), Call::PartitionPause, &[]).map(drop)
    }

    /// Lets it go on.
    #[expect(clippy::missing_errors_doc, reason = "as above")]
    pub fn resume(&self) -> Result<(), Error> {
        self.call(format_args!("resume"), Call::PartitionResume, &[]).map(drop)
    }

    /// Asks it to end by itself, and says how long that may take, in nanoseconds (0: it does not matter).
    #[expect(clippy::missing_errors_doc, reason = "as above")]
    pub fn shutdown(&self, nanoseconds: u64) -> Result<(), Error> {
        self.call(format_args!("ask to shut down"), Call::PartitionShutdown, &[nanoseconds]).map(drop)
    }

    /// Makes one that has ended as it was when it was made: empty, under its id and with its limits.
    #[expect(clippy::missing_errors_doc, reason = "as above")]
    pub fn reset(&self) -> Result<(), Error> {
        self.call(format_args!("make it anew"), Call::PartitionReset, &[]).map(drop)
    }

    /// Ends it when it does not kick its watchdog for so many nanoseconds of its own count; 0: never.
    #[expect(clippy::missing_errors_doc, reason = "as above")]
    pub fn set_watchdog(&self, nanoseconds: u64) -> Result<(), Error> {
        self.call(format_args!("set its watchdog"), Call::PartitionSetWatchdog, &[nanoseconds]).map(drop)
    }

    /// Ends it. Nothing happens if it has ended already.
    #[expect(clippy::missing_errors_doc, reason = "as above")]
    pub fn stop(&self) -> Result<(), Error> {
        self.call(format_args!("stop"), Call::PartitionStop, &[]).map(drop)
    }

    /// Where it is in its life, and how it ended if it has.
    #[expect(clippy::missing_errors_doc, reason = "as above")]
    pub fn state(&self) -> Result<(PartitionState, Option<Ended>), Error> {
        let [state, reason, status, ..] =
            self.call(format_args!("ask for its state"), Call::PartitionStatus, &[])?;
        let unknown = |cause| Error {
            what: "read its state".into(),
            partition: Some(self.id),
            cause: Cause::Control(cause),
        };
        let state = PartitionState::try_from(state).map_err(unknown)?;
        let reason = EndReason::try_from(reason).map_err(unknown)?;
        Ok((state, (reason != EndReason::None).then_some(Ended { reason, status })))
    }

    /// Forgets it, once it has ended or before it has started.
    #[expect(clippy::missing_errors_doc, reason = "as above")]
    pub fn destroy(&self) -> Result<(), Error> {
        self.call(format_args!("destroy"), Call::PartitionDestroy, &[]).map(drop)
    }

    fn call(
        &self,
        what: fmt::Arguments<'_>,
        call: Call,
        arguments: &[u64],
    ) -> Result<[u64; REGISTERS - 1], Error> {
        let arguments = [&[id(self.id)], arguments].concat();
        self.machine.call(&what.to_string(), Some(self.id), call, &arguments)
    }
}
