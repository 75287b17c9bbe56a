//! A partition's life between its making ([`System::create`]) and its end ([`System::end`]): who may run, and who stands still.

use handover_abi::{Causes, Error};

use crate::{Failure, Machine, PartitionIndex, Phase, System};

impl System {
    /// Lets a partition's guest run and make calls. [`Error::WrongState`]: it runs already, or has ended.
    pub fn start(&mut self, ix: PartitionIndex) -> Result<(), Failure> {
        let p = self.get_mut(ix).ok_or(Error::BadHandle)?;
        if p.phase != Phase::Created {
            return Err(Error::WrongState.into());
        }
        p.enter(Phase::Active);
        Ok(())
    }

    /// `PartitionPause`: its guest stands still until it is resumed. What others do to it goes on: requests and messages queue, events are
    /// latched, and it may be ended. One that is paused already stays as it is.
    ///
    /// The image takes its logical processors off the physical ones: none of its calls is refused here.
    ///
    /// [`Error::WrongState`]: it does not run.
    pub fn pause(&mut self, ix: PartitionIndex) -> Result<(), Failure> {
        self.caller(ix)?.paused = true;
        Ok(())
    }

    /// `PartitionShutdown`: a signal asks the partition to end by itself; one that it has not taken yet is replaced.
    ///
    /// [`Error::WrongState`]: it does not run.
    pub fn request_shutdown(
        &mut self,
        m: &mut impl Machine,
        ix: PartitionIndex,
        argument: u64,
    ) -> Result<(), Failure> {
        let p = self.caller(ix)?;
        let first = !p.has_signals();
        p.shutdown = Some(argument);
        if first {
            self.raise(m, ix, 0, Causes::SIGNAL);
        }
        Ok(())
    }

    /// `PartitionResume`. [`Error::WrongState`]: it is not paused.
    pub fn resume(&mut self, ix: PartitionIndex) -> Result<(), Failure> {
        let p = self.caller(ix)?;
        if !p.paused {
            return Err(Error::WrongState.into());
        }
        p.paused = false;
        Ok(())
    }
}
