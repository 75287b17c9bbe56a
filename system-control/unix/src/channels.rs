//! The control OS's calls for message channels, as the files use them.

use handover_files::{Channels, Failure};
use handover_guest::{
    PartitionId,
    abi::{Event, Signal},
    hvc,
};

use crate::host::Host;

impl Channels for Host<'_> {
    fn partition(&self) -> PartitionId {
        // The call has no errors.
        hvc::identify().map_or(PartitionId::new(0), |identity| identity.partition)
    }

    fn refuse(&mut self, token: u64, reason: u32) -> Result<(), Failure> {
        Ok(hvc::refuse(token, reason)?)
    }

    fn next_event(&mut self) -> Result<Option<Event>, Failure> {
        Ok(hvc::event_next()?)
    }

    fn next_signal(&mut self) -> Result<Option<Signal>, Failure> {
        Ok(hvc::signal_next()?)
    }
}
