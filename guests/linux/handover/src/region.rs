//! Message regions.

use std::{
    fmt, io,
    ops::{Deref, DerefMut},
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd},
    ptr::{self, NonNull},
};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use crate::{Channel, Handover, uapi};

/// The smallest region, in bytes.
pub const REGION_MIN: usize = 4 << 10;
/// The largest region, in bytes.
pub const REGION_MAX: usize = 1 << 30;

/// The size in bytes of the smallest region that holds `length` bytes; `None` above [`REGION_MAX`].
#[must_use]
pub fn region_size(length: usize) -> Option<usize> {
    (length <= REGION_MAX).then(|| length.next_power_of_two().max(REGION_MIN))
}

/// Memory that belongs to this partition alone, and goes with a message. Dropping it destroys it.
///
/// It reads and writes like a slice of bytes.
pub struct Region {
    fd: OwnedFd,
    bytes: NonNull<[u8]>,
}

// SAFETY: the mapping belongs to the region alone and has no thread affinity.
unsafe impl Send for Region {}
// SAFETY: shared references only read, through `Deref`.
unsafe impl Sync for Region {}

impl Region {
    /// A region of zeroes, of `size` bytes: a power of two from [`REGION_MIN`] to [`REGION_MAX`].
    pub fn create(handover: &Handover, size: usize) -> io::Result<Region> {
        Region::make(handover, size)
    }

    /// The same, of the cache colours that are declared for a channel: the only ones that it takes, if any are.
    pub fn create_for(channel: &Channel, size: usize) -> io::Result<Region> {
        Region::make(channel, size)
    }

    fn make(of: impl AsFd, size: usize) -> io::Result<Region> {
        let mut create = uapi::RegionCreate { size: size as u64, flags: 0, fd: -1 };
        uapi::exchange::<{ uapi::REGION_CREATE }, _>(of, &mut create)?;
        // SAFETY: the driver has just opened this descriptor for us.
        unsafe { Region::from_fd(OwnedFd::from_raw_fd(create.fd)) }
    }

    /// Maps the region behind a descriptor.
    ///
    /// # Safety
    ///
    /// No other descriptor or mapping of the region is used as long as this one lives.
    pub unsafe fn from_fd(fd: OwnedFd) -> io::Result<Region> {
        let size = uapi::ask::<{ uapi::REGION_INFO }, uapi::RegionInfo>(&fd)?.size;
        let size = usize::try_from(size).map_err(io::Error::other)?;
        // SAFETY: a new mapping, where the kernel chooses, which nothing else refers to.
        let start = unsafe {
            mmap(ptr::null_mut(), size, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, &fd, 0)?
        };
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("mapped at address 0"))?;
        Ok(Region { fd, bytes: NonNull::slice_from_raw_parts(start, size) })
    }

    /// Gives up the mapping and keeps the descriptor, for another process.
    #[must_use]
    pub fn into_fd(self) -> OwnedFd {
        let region = std::mem::ManuallyDrop::new(self);
        region.unmap();
        // SAFETY: the region is never dropped: the descriptor is read out once.
        unsafe { ptr::read(&raw const region.fd) }
    }

    /// The region's physical address in this partition's address space. It needs `CAP_SYS_RAWIO`.
    pub fn address(&self) -> io::Result<u64> {
        match uapi::ask::<{ uapi::REGION_INFO }, uapi::RegionInfo>(&self.fd)?.address {
            0 => Err(io::ErrorKind::PermissionDenied.into()),
            address => Ok(address),
        }
    }

    /// Its size in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.len()
    }

    /// The bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        self
    }

    /// The bytes, to be changed.
    #[must_use]
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        self
    }

    /// Whether it is this partition's still: not after a call that took it and came to nothing.
    pub(crate) fn is_alive(&self) -> bool {
        uapi::ask::<{ uapi::REGION_INFO }, uapi::RegionInfo>(&self.fd).is_ok()
    }

    pub(crate) fn raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    fn unmap(&self) {
        // SAFETY: `bytes` is a whole mapping, made by `from_fd`; the callers never use it again.
        let result = unsafe { munmap(self.bytes.as_ptr().cast(), self.bytes.len()) };
        debug_assert!(result.is_ok(), "unmapping a region: {result:?}");
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        self.unmap();
    }
}

impl Deref for Region {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the mapping lives as long as the region, and nobody else writes to it (`from_fd`): who sends a region has taken it.
        unsafe { self.bytes.as_ref() }
    }
}

impl DerefMut for Region {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and the borrow is exclusive.
        unsafe { self.bytes.as_mut() }
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Region").field("size", &self.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_two_that_hold_the_bytes() {
        assert_eq!(region_size(0), Some(REGION_MIN));
        for length in [1, 129, 4095, 4096, 4097, 65_536, 65_537, 2 << 20, (2 << 20) + 1, REGION_MAX] {
            let size = region_size(length).unwrap();
            assert!(size >= length && size.is_power_of_two() && size >= REGION_MIN);
            assert!(size == REGION_MIN || size / 2 < length);
        }
        assert_eq!(region_size(REGION_MAX + 1), None);
    }
}
