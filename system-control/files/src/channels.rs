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
///
/// Its fields lie in this order so that the bytes are aligned: it is copied by words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
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

    /// `Send`. If it succeeds, the region has left every process's address space too, as by [`unmap_region`](Channels::unmap_region); if it
    /// fails, the region is where it was.
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

    /// `RegionDestroy`; the region leaves every process's address space too, as by [`unmap_region`](Channels::unmap_region).
    fn destroy_region(&mut self, region: Region) -> Result<(), Failure> {
        Err(NOT_SUPPORTED)
    }

    /// Copies `length` of a region's bytes from `offset` on, or as many as fit; how many.
    fn read_region(
        &mut self,
        region: Region,
        offset: u64,
        length: u64,
        sink: &mut dyn Sink,
    ) -> Result<usize, Errno> {
        Err(Errno::IO)
    }

    /// Copies `length` bytes to a region's from `offset` on, or as many as there are; how many.
    fn write_region(
        &mut self,
        region: Region,
        offset: u64,
        length: u64,
        source: &mut dyn Source,
    ) -> Result<usize, Errno> {
        Err(Errno::IO)
    }

    /// Copies the first bytes of one region to another.
    fn copy_region(&mut self, from: Region, to: Region, bytes: u64) -> Result<(), Errno> {
        let mut part = [0; 512];
        let mut done = 0;
        while done < bytes {
            let length = (bytes - done).min(part.len() as u64) as usize;
            let mut rest = &mut part[..length];
            self.read_region(from, done, length as u64, &mut rest)?;
            self.write_region(to, done, length as u64, &mut &part[..length])?;
            done += length as u64;
        }
        Ok(())
    }

    /// Maps all of a region into the calling process, readable and writable, at an address of the kernel's choice; the address. A child
    /// process does not inherit the mapping.
    fn map_region(&mut self, region: Region) -> Result<u64, Errno> {
        Err(Errno::NODEV)
    }

    /// Takes a region out of every process's address space. What [`map_region`](Channels::map_region) mapped is mapped no more; a mapping of a
    /// message file gets the pages of the region that the file has then, and where it has none, touching it is `SIGBUS`, also when another
    /// region comes to lie at its place in the window.
    fn unmap_region(&mut self, region: Region) {}
}

/// What a program is told of a failed call.
pub(crate) fn errno(failure: Failure) -> Errno {
    match failure.error {
        Error::NotSupported => Errno::OPNOTSUPP,
        Error::InvalidArgument | Error::WrongState => Errno::INVAL,
        Error::BadAddress => Errno::FAULT,
        Error::InUse => Errno::BUSY,
        Error::WouldBlock | Error::QueueFull => Errno::AGAIN,
        Error::PeerClosed => Errno::PIPE,
        Error::NotConnected => Errno::NOTCONN,
        Error::Limit => Errno::NOBUFS,
        Error::NoMemory => Errno::NOMEM,
        Error::Denied => Errno::ACCES,
        Error::TooLarge => Errno::MSGSIZE,
        Error::TimedOut => Errno::TIMEDOUT,
        Error::NoCapacity => Errno::NOSPC,
        Error::Throttled => Errno::BUSY,
        _ => Errno::IO,
    }
}
