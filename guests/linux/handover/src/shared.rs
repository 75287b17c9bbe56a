//! Memory shared with another partition.

use std::{
    fmt, io,
    os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd},
    ptr::{self, NonNull},
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
};

use rustix::{
    io::{Errno, retry_on_intr},
    mm::{MapFlags, ProtFlags, mmap, munmap},
};

use crate::{Channel, ConnectError, Handover, Port, Service, Status, channel, ports::End, uapi};

/// Who may write to shared memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writers {
    /// Both sides.
    Both,
    /// Who asks for it; the other side reads.
    WhoAsks,
    /// Who is asked; the side that asks reads.
    WhoIsAsked,
}

/// A word of shared memory that this side may only read.
#[repr(transparent)]
pub struct ReadWord(AtomicU64);

impl ReadWord {
    /// What it holds now.
    #[must_use]
    pub fn load(&self, order: Ordering) -> u64 {
        self.0.load(order)
    }
}

/// Memory that another partition has too, mapped into this process. The other side may change it at any time, as far as it may write, so it is
/// reached by atomic accesses. When the other side goes, it stays, all zeroes unless that side could only read; no access ever fails. Dropping it
/// leaves.
///
/// Its descriptor can be polled: a signal is an exception, the other side's going a hang-up.
pub struct Shared {
    end: Arc<End>,
    bytes: NonNull<[u8]>,
    writable: bool,
}

// SAFETY: the mapping has no thread affinity, and is only reached by atomic accesses.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    /// Asks a service for memory of `size` bytes, a power of two from 4 KiB to 1 GiB, and waits for the answer.
    pub fn connect(
        handover: &Handover,
        service: &Service,
        size: usize,
        writers: Writers,
    ) -> Result<Shared, ConnectError> {
        let flags = match writers {
            Writers::Both => 0,
            Writers::WhoAsks => uapi::SHARE_I_WRITE,
            Writers::WhoIsAsked => uapi::SHARE_PEER_WRITES,
        };
        let (partition, service) = (service.partition.get(), service.service.get());
        let size = size as u64;
        let mut share = uapi::Share { partition, service, size, flags, fd: -1, reason: 0, reserved: 0 };
        match retry_on_intr(|| uapi::exchange::<{ uapi::SHARE }, _>(handover, &mut share)) {
            Ok(()) => {
                // SAFETY: the driver has just opened this descriptor for us.
                let fd = unsafe { OwnedFd::from_raw_fd(share.fd) };
                Shared::map(End::new(fd)).map_err(ConnectError::Failed)
            }
            Err(Errno::CONNREFUSED) => Err(ConnectError::Refused(share.reason)),
            Err(error) => Err(ConnectError::Failed(error.into())),
        }
    }

    /// Maps the shared memory behind a descriptor.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Shared> {
        Shared::map(End::new(fd))
    }

    /// This end of what was accepted, mapped. An error says also that it is joined for something else (`ENOTTY`).
    pub fn from_channel(channel: Channel) -> io::Result<Shared> {
        Shared::map(Arc::clone(channel.end()))
    }

    fn map(end: Arc<End>) -> io::Result<Shared> {
        let info = uapi::ask::<{ uapi::SHARED_INFO }, uapi::SharedInfo>(&*end)?;
        let size = usize::try_from(info.size).map_err(io::Error::other)?;
        let writable = info.access & uapi::SHARED_OWN != 0;
        let mut protection = ProtFlags::READ;
        protection.set(ProtFlags::WRITE, writable);
        // SAFETY: a new mapping, where the kernel chooses, which nothing else refers to.
        let start = unsafe { mmap(ptr::null_mut(), size, protection, MapFlags::SHARED, &*end, 0)? };
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("mapped at address 0"))?;
        Ok(Shared { end, bytes: NonNull::slice_from_raw_parts(start, size), writable })
    }

    /// The port, by which events name this end.
    #[must_use]
    pub fn port(&self) -> Port {
        self.end.port()
    }

    /// Whether this end may write.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.writable
    }

    /// Its size in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Its words, to read.
    #[must_use]
    pub fn words(&self) -> &[ReadWord] {
        // SAFETY: mapped readable, aligned to a page, as long as `self` lives; a `ReadWord` only loads, and atomics allow for others' stores.
        unsafe { std::slice::from_raw_parts(self.bytes.as_ptr().cast(), self.size() / size_of::<ReadWord>()) }
    }

    /// Its words, to change; `None` if this side only reads.
    #[must_use]
    pub fn atomics(&self) -> Option<&[AtomicU64]> {
        // SAFETY: as for `words`, and mapped writable.
        self.writable.then(|| unsafe {
            std::slice::from_raw_parts(self.bytes.as_ptr().cast(), self.size() / size_of::<AtomicU64>())
        })
    }

    /// Its bytes, for [`read`](Shared::read) and [`write`](Shared::write).
    fn bytes(&self, at: usize, count: usize) -> io::Result<&[AtomicU8]> {
        // SAFETY: as for `words`; who stores has asked whether it may.
        let all: &[AtomicU8] = unsafe { std::slice::from_raw_parts(self.bytes.as_ptr().cast(), self.size()) };
        let end = at.checked_add(count).filter(|end| *end <= all.len());
        end.map(|end| &all[at..end]).ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }

    /// Copies bytes out of it, from offset `at` on. What the other end writes meanwhile may be among them or not, byte by byte.
    /// [`io::ErrorKind::InvalidInput`] beyond its end.
    pub fn read(&self, at: usize, to: &mut [u8]) -> io::Result<()> {
        let from = self.bytes(at, to.len())?;
        to.iter_mut().zip(from).for_each(|(to, from)| *to = from.load(Ordering::Relaxed));
        Ok(())
    }

    /// Copies bytes into it, from offset `at` on. [`io::ErrorKind::InvalidInput`] beyond its end; [`io::ErrorKind::PermissionDenied`] if this end only
    /// reads.
    pub fn write(&self, at: usize, from: &[u8]) -> io::Result<()> {
        let to = self.bytes(at, from.len())?;
        if !self.writable {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        to.iter().zip(from).for_each(|(to, from)| to.store(*from, Ordering::Relaxed));
        Ok(())
    }

    /// What holds now.
    pub fn status(&self) -> io::Result<Status> {
        channel::status(&*self.end)
    }

    /// Signals the other side.
    pub fn signal(&self) -> io::Result<()> {
        Ok(uapi::tell::<{ uapi::SIGNAL }>(&*self.end)?)
    }
}

impl AsFd for Shared {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.end.as_fd()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: `bytes` is a whole mapping, made by `from_fd`, and never used again.
        let result = unsafe { munmap(self.bytes.as_ptr().cast(), self.bytes.len()) };
        debug_assert!(result.is_ok(), "unmapping shared memory: {result:?}");
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("size", &self.size()).field("writable", &self.writable).finish()
    }
}
