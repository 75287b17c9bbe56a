//! Memory that two partitions share.

use core::{
    fmt, mem, ptr, slice,
    sync::atomic::{AtomicU8, AtomicU64, Ordering},
    time::Duration,
};

use handover_abi::{
    Error, PartitionId, Port, RequestFlags, RequestWord, ServiceId, SharedAccess, region_order,
};

use crate::{Channel, ConnectError, Connecting, Service, events, hvc, mapping, window::WINDOW};

/// Who may write to shared memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writers {
    /// Both ends.
    Both,
    /// Who asks for it; the other end reads.
    WhoAsks,
    /// Who is asked; the end that asks reads.
    WhoIsAsked,
}

impl Writers {
    fn flags(self) -> RequestFlags {
        RequestFlags::MEMORY
            | match self {
                Writers::Both => RequestFlags::empty(),
                Writers::WhoAsks => RequestFlags::SEND_ONLY,
                Writers::WhoIsAsked => RequestFlags::RECEIVE_ONLY,
            }
    }
}

/// A word of shared memory that this end may only read.
#[repr(transparent)]
pub struct ReadWord(AtomicU64);

impl ReadWord {
    /// What it holds now.
    #[inline]
    #[must_use]
    pub fn load(&self, order: Ordering) -> u64 {
        self.0.load(order)
    }
}

/// Memory that this partition shares with another, mapped in its message window. The other end may change it at any time, as far as it may write,
/// so it is reached by atomic accesses only, and there are no references to plain bytes of it.
///
/// When the other end leaves, by its own will or because its partition ends, this one keeps what it has mapped, which is all zeroes then, unless
/// the other end could not write. [`Causes::PEER_CLOSED`](crate::Causes::PEER_CLOSED) at the [port](Shared::port) tells when. Dropping it leaves.
///
/// ```ignore
/// let area = Shared::connect(boot.service("board").ok_or(Error::BadHandle)?, 1 << 20, Writers::Both)?;
/// area.atomics().ok_or(Error::Denied)?[0].store(17, Ordering::Release);
/// area.signal()?; // a word to the other side
/// ```
pub struct Shared {
    port: Port,
    address: u64,
    order: u8,
    access: SharedAccess,
}

impl Shared {
    /// Asks a service for memory of `size` bytes to share, a power of two from 4 KiB to 1 GiB, and waits for the answer. It is this partition's to pay
    /// from now on, and the other one's too once it has accepted.
    ///
    /// # Errors
    ///
    /// As for [`Channel::connect`]; [`ConnectError::Failed`] also with [`Error::InvalidArgument`] for any other size, and [`Error::InUse`] when the message
    /// window is full.
    pub fn connect(service: Service, size: usize, writers: Writers) -> Result<Shared, ConnectError> {
        let asked = Shared::request(service.partition, service.service, size, writers, None)?;
        Ok(Shared::from_channel(asked.wait()?)?)
    }

    /// Asks a partition for it. What has been answered becomes shared memory by [`from_channel`](Shared::from_channel).
    ///
    /// # Errors
    ///
    /// Those of the call; [`Error::InvalidArgument`] for a wrong size.
    pub fn request(
        partition: PartitionId,
        service: ServiceId,
        size: usize,
        writers: Writers,
        timeout: Option<Duration>,
    ) -> Result<Connecting, Error> {
        let order = region_order(size as u64).ok_or(Error::InvalidArgument)?;
        Connecting::request(partition, RequestWord { service, flags: writers.flags(), order }, timeout)
    }

    /// This end of what was connected, mapped: of a request of its own that was accepted, or of one that it has accepted.
    ///
    /// # Errors
    ///
    /// [`Error::BadHandle`]: it is joined for something else. [`Error::InUse`] when the message window is full. [`Error::Limit`], [`Error::NoMemory`].
    pub fn from_channel(channel: Channel) -> Result<Shared, Error> {
        let port = channel.port();
        let (size, _, access) = hvc::shared_info(port)?;
        let order = region_order(size).ok_or(Error::BadHandle)?;
        let address = WINDOW.claim(order).ok_or(Error::InUse)?.get();
        hvc::shared_map(port, address).inspect_err(|_| WINDOW.release(address))?;
        mem::forget(channel);
        Ok(Shared { port, address, order, access })
    }

    /// The port, by which events name this end.
    #[must_use]
    pub fn port(&self) -> Port {
        self.port
    }

    /// Its size in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        1 << self.order
    }

    /// Where it is mapped.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Whether this end may write.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.access.contains(SharedAccess::OWN)
    }

    /// Its words, to read.
    #[inline]
    #[must_use]
    pub fn words(&self) -> &[ReadWord] {
        // SAFETY: mapped there, readable, aligned to a page, as long as `self` lives; others change it by whatever stores, which atomics allow for.
        // A `ReadWord` only loads.
        unsafe {
            slice::from_raw_parts(
                ptr::with_exposed_provenance(mapping::address(self.address)),
                self.size() / size_of::<ReadWord>(),
            )
        }
    }

    /// Its words, to change; `None` if this end only reads.
    #[inline]
    #[must_use]
    pub fn atomics(&self) -> Option<&[AtomicU64]> {
        // SAFETY: as for `words`, and mapped writable.
        self.is_writable().then(|| unsafe {
            slice::from_raw_parts(
                ptr::with_exposed_provenance(mapping::address(self.address)),
                self.size() / size_of::<AtomicU64>(),
            )
        })
    }

    /// Its bytes, for [`read`](Shared::read) and [`write`](Shared::write).
    fn bytes(&self, at: usize, count: usize) -> Result<&[AtomicU8], Error> {
        // SAFETY: as for `words`; who stores has asked whether it may.
        let all: &[AtomicU8] = unsafe {
            slice::from_raw_parts(ptr::with_exposed_provenance(mapping::address(self.address)), self.size())
        };
        let end = at.checked_add(count).ok_or(Error::BadAddress)?;
        all.get(at..end).ok_or(Error::BadAddress)
    }

    /// Copies bytes out of it, from offset `at` on. What the other end writes meanwhile may be among them or not, byte by byte.
    ///
    /// # Errors
    ///
    /// [`Error::BadAddress`] beyond its end.
    pub fn read(&self, at: usize, to: &mut [u8]) -> Result<(), Error> {
        let from = self.bytes(at, to.len())?;
        to.iter_mut().zip(from).for_each(|(to, from)| *to = from.load(Ordering::Relaxed));
        Ok(())
    }

    /// Copies bytes into it, from offset `at` on.
    ///
    /// # Errors
    ///
    /// [`Error::BadAddress`] beyond its end. [`Error::Denied`] if this end only reads.
    pub fn write(&self, at: usize, from: &[u8]) -> Result<(), Error> {
        let to = self.bytes(at, from.len())?;
        if !self.is_writable() {
            return Err(Error::Denied);
        }
        to.iter().zip(from).for_each(|(to, from)| to.store(*from, Ordering::Relaxed));
        Ok(())
    }

    /// Sends the other end an event ([`Causes::SIGNAL`](crate::Causes::SIGNAL)).
    ///
    /// # Errors
    ///
    /// Those of the call.
    pub fn signal(&self) -> Result<(), Error> {
        hvc::event_send(self.port)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Shared {{ port: {:?}, address: {:#x}, size: {:#x} }}",
            self.port,
            self.address,
            self.size()
        )
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let mut closed = hvc::disconnect(self.port);
        // Over the limit of the bus: nobody else will close it later.
        while closed == Err(Error::Throttled) {
            core::hint::spin_loop();
            closed = hvc::disconnect(self.port);
        }
        // What is still mapped keeps its slot.
        if closed.is_ok() {
            WINDOW.release(self.address);
        }
        events::forget(self.port);
    }
}
