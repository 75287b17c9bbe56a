//! The control OS's calls for channels and regions, as the sockets use them: a kernel makes them by `hvc`, a test has a model.

use handover_abi::{Causes, Error, Event, PartitionId, Port, RegionHandle, SHORT_MAX, ServiceId, Signal};

use crate::{Errno, Sink, Source};

/// A failed call of the control OS's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Why.
    pub error: Error,
    /// `x1`: the account or the size, where the error says so.
    pub detail: u64,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure { error, detail: 0 }
    }
}

/// A region that this partition holds. The kernel keeps it mapped in the partition's message window for as long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// Its handle in this partition's table.
    pub handle: RegionHandle,
    /// Where it is in the message window: an intermediate physical address.
    pub address: u64,
    /// Its size.
    pub bytes: u64,
}

/// A message, taken from a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// The region that came with it.
    pub region: Option<Region>,
    /// The short message; what is behind its length is zero.
    pub short: [u8; SHORT_MAX],
    /// Bytes of the short message.
    pub length: u8,
}

/// What holds now at a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortStatus {
    /// The causes that hold.
    pub causes: Causes,
    /// The partition at the other end.
    pub peer: PartitionId,
    /// Why a request was refused.
    pub reason: u32,
}

const NOT_SUPPORTED: Failure = Failure { error: Error::NotSupported, detail: 0 };

/// The control OS's calls, each as [docs/abi.md](https://docs.rs/handover-abi) has it; a kernel without channels keeps the default bodies.
#[expect(unused_variables, reason = "the default bodies do nothing")]
pub trait Channels {
    /// This partition's id.
    fn partition(&self) -> PartitionId {
        PartitionId::new(0)
    }

    /// `Connect`.
    ///
    /// # Errors
    ///
    /// Those of the call; so for all below.
    fn connect(&mut self, partition: PartitionId, service: ServiceId) -> Result<Port, Failure> {
        Err(NOT_SUPPORTED)
    }

    /// `Accept`.
    fn accept(&mut self, token: u64) -> Result<Port, Failure> {
        Err(NOT_SUPPORTED)
    }

    /// `Refuse`.
    fn refuse(&mut self, token: u64, reason: u32) -> Result<(), Failure> {
        Err(NOT_SUPPORTED)
    }

    /// `Disconnect`.
    fn disconnect(&mut self, port: Port) -> Result<(), Failure> {
        Err(NOT_SUPPORTED)
    }

    /// `Send`. A region that was sent is gone; one that was not is where it was.
    fn send(&mut self, port: Port, region: Option<Region>, short: &[u8]) -> Result<(), Failure> {
        Err(NOT_SUPPORTED)
    }

    /// `Receive`, into a free place of the message window, whatever size comes.
    fn receive(&mut self, port: Port) -> Result<Received, Failure> {
        Err(NOT_SUPPORTED)
    }

    /// `PortStatus`.
    fn port_status(&mut self, port: Port) -> Result<PortStatus, Failure> {
        Err(NOT_SUPPORTED)
    }

    /// `EventNext`; `None` when none is pending.
    fn next_event(&mut self) -> Result<Option<Event>, Failure> {
        Ok(None)
    }

    /// `SignalNext`; `None` when there is none.
    fn next_signal(&mut self) -> Result<Option<Signal>, Failure> {
        Ok(None)
    }

    /// `RegionCreate`, mapped at a free place of the message window. `bytes` is a size that regions have.
    fn create_region(&mut self, bytes: u64) -> Result<Region, Failure> {
        Err(NOT_SUPPORTED)
    }

    /// `RegionDestroy`.
    fn destroy_region(&mut self, region: Region) -> Result<(), Failure> {
        Err(NOT_SUPPORTED)
    }

    /// Copies from a region's bytes from `offset` on, as many as there are and fit.
    fn read_region(&mut self, region: Region, offset: u64, sink: &mut dyn Sink) -> Result<usize, Errno> {
        Err(Errno::IO)
    }

    /// Copies to a region's bytes from `offset` on, as many as there are and fit.
    fn write_region(&mut self, region: Region, offset: u64, source: &mut dyn Source) -> Result<usize, Errno> {
        Err(Errno::IO)
    }

    /// Maps all of a region into the calling process, read and write, at an address of the kernel's choice; the address.
    fn map_region(&mut self, region: Region) -> Result<u64, Errno> {
        Err(Errno::NODEV)
    }

    /// Takes a region out of every process's address space: whoever touches it there gets `SIGBUS`, also when another region comes to lie
    /// at its place in the window. Called before a region is sent or destroyed.
    fn unmap_region(&mut self, region: Region) {}
}
