//! Message regions.

use core::{
    fmt, mem,
    num::NonZeroU64,
    ops::{Deref, DerefMut},
    ptr, slice,
};

use handover_abi::{Error, MessageWord, Port, RegionHandle, region_order};

use crate::{Channel, Short, hvc, mapping, window::WINDOW};

/// A message region that this partition owns, mapped in its message window. Dereferences to its bytes.
///
/// Dropping it gives its memory back.
///
/// ```ignore
/// let mut region = Region::create(2 << 20)?;
/// region.fill(0x5a);
/// channel.send(region)?; // gone: the compiler knows, and so does the MMU
/// ```
pub struct Region {
    /// Its part of a message word: its handle, in its place there. What comes and what goes takes no moving of bits.
    part: NonZeroU64,
    address: u64,
    /// The message word by which it has come, or might have, for its order.
    word: MessageWord,
}

impl Region {
    /// A region of `size` bytes of zeroes; a power of two, 4 KiB to 1 GiB.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] for any other size; [`Error::Limit`] and [`Error::NoMemory`] from the control OS, and
    /// [`Error::TooLarge`] for more than 2 MiB in a partition that is confined to cache colours;
    /// [`Error::InUse`] when the message window is full.
    pub fn create(size: usize) -> Result<Region, Error> {
        Region::make(size, |address| hvc::region_create(size as u64, address))
    }

    /// The same, of the cache colours that are declared for a channel: the only ones that it takes, if any are.
    ///
    /// # Errors
    ///
    /// As [`Region::create`]; [`Error::TooLarge`] for more than 2 MiB, if colours are declared.
    pub fn create_for(channel: &Channel, size: usize) -> Result<Region, Error> {
        Region::make(size, |address| hvc::region_create_for(channel.port(), size as u64, address))
    }

    fn make(size: usize, create: impl FnOnce(u64) -> Result<RegionHandle, Error>) -> Result<Region, Error> {
        let order = region_order(size as u64).ok_or(Error::InvalidArgument)?;
        let address = WINDOW.claim(order).ok_or(Error::InUse)?.get();
        let handle = create(address).inspect_err(|_| WINDOW.release(address))?;
        let word = MessageWord::new(Port::CONTROL, Some(handle), 0).with_order(order);
        // SAFETY: just created, by a name that is not 0, and mapped at `address`, where there is room for it.
        Ok(unsafe { Region::from_word(word, address) })
    }

    /// The region that a received word names.
    ///
    /// # Safety
    ///
    /// It must name one. The partition must own it, with as many bytes as its order says mapped at `address`, which must have been claimed from
    /// [`WINDOW`] for at least that; nobody else may use either.
    #[inline(always)]
    pub(crate) unsafe fn from_word(word: MessageWord, address: u64) -> Region {
        // SAFETY: there is a handle in it, which is not 0.
        unsafe { Region::from_registers(part(word), address, word.to_register()) }
    }

    /// What it is, for registers; all zeroes if it is none.
    #[inline(always)]
    pub(crate) fn into_registers(region: Option<Region>) -> (u64, u64, u64) {
        let Some(region) = region else { return (0, 0, 0) };
        let (part, word) = (region.part.get(), region.word.to_register());
        (part, region.left(), word)
    }

    /// The region that [`into_registers`](Region::into_registers) has made registers of.
    ///
    /// # Safety
    ///
    /// It was one, and is used once.
    #[inline(always)]
    pub(crate) unsafe fn from_registers(part: u64, address: u64, word: u64) -> Region {
        // SAFETY: of a region it is not 0; said to the compiler too, which asks otherwise whether there is one.
        let part = unsafe {
            core::hint::assert_unchecked(part != 0);
            NonZeroU64::new_unchecked(part)
        };
        Region { part, address, word: MessageWord::from_register(word) }
    }

    /// The message word that sends it, or no region, through a port, with so many bytes.
    #[inline(always)]
    pub(crate) fn word(region: Option<&Region>, port: u64, short: &Short) -> MessageWord {
        MessageWord::from_register(region.map_or(0, |region| region.part.get()) | port | short.part())
    }

    /// The region that a received word names, which this partition owns and which is mapped nowhere; destroyed if it cannot be mapped.
    #[cold]
    pub(crate) fn map(word: MessageWord) -> Result<Option<Region>, Error> {
        let Some(handle) = word.region() else { return Ok(None) };
        let mapped = WINDOW.claim(word.order()).ok_or(Error::InUse).and_then(|address| {
            let address = address.get();
            hvc::region_map(handle, address).map(|()| address).inspect_err(|_| WINDOW.release(address))
        });
        match mapped {
            // SAFETY: it names one, mapped at `address`, where there is room for it.
            Ok(address) => Ok(Some(unsafe { Region::from_word(word, address) })),
            Err(error) => {
                // SAFETY: it is mapped nowhere.
                let _freed: Result<(), Error> = unsafe { hvc::region_destroy(handle) };
                Err(error)
            }
        }
    }

    /// Maps it again where it was, after a call with which it waited has failed; `None`, and it is destroyed, if that cannot be.
    pub(crate) fn remap(self) -> Option<Region> {
        match hvc::region_map(self.handle(), self.address) {
            Ok(()) => Some(self),
            Err(_) => None,
        }
    }

    /// The region leaves this partition: gives the window's slot back, and nothing else.
    #[inline(always)]
    pub(crate) fn gone(self) {
        WINDOW.release(self.left());
    }

    /// The region leaves this partition: its place in the window, which is the caller's.
    #[inline(always)]
    pub(crate) fn left(self) -> u64 {
        mem::ManuallyDrop::new(self).address
    }

    /// Its name in this partition.
    #[inline]
    #[must_use]
    pub fn handle(&self) -> RegionHandle {
        MessageWord::from_register(self.part.get()).region().unwrap_or(RegionHandle::new(0))
    }

    /// Where it is mapped.
    #[inline]
    #[must_use]
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Its size in bytes.
    #[inline]
    #[must_use]
    pub fn size(&self) -> usize {
        1 << self.word.order()
    }

    /// Its bytes.
    #[inline]
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: the region is mapped there, read-write, for as long as this exists, and for this partition alone.
        unsafe {
            slice::from_raw_parts(ptr::with_exposed_provenance(mapping::address(self.address)), self.size())
        }
    }

    /// Its bytes, to change.
    #[inline]
    #[must_use]
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as for `as_slice`.
        unsafe {
            slice::from_raw_parts_mut(
                ptr::with_exposed_provenance_mut(mapping::address(self.address)),
                self.size(),
            )
        }
    }
}

/// A message word's region, where it is in it, or 0.
#[inline(always)]
fn part(word: MessageWord) -> u64 {
    MessageWord::new(Port::CONTROL, word.region(), 0).to_register()
}

impl Region {
    /// Its first 8 bytes, without a slice's bounds.
    #[inline]
    #[must_use]
    pub fn first_word(&self) -> u64 {
        // SAFETY: mapped there, aligned to its size, which is 4 KiB at least; all bits are valid for a number.
        unsafe { *ptr::with_exposed_provenance(mapping::address(self.address)) }
    }

    /// Its first 8 bytes, to change.
    #[inline]
    #[must_use]
    pub fn first_word_mut(&mut self) -> &mut u64 {
        // SAFETY: as for `first_word`; borrowed as long as `self`.
        unsafe { &mut *ptr::with_exposed_provenance_mut(mapping::address(self.address)) }
    }
}

impl Deref for Region {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl DerefMut for Region {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        self.as_mut_slice()
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Region {{ handle: {}, address: {:#x}, size: {:#x} }}",
            self.handle(),
            self.address,
            self.size()
        )
    }
}

impl Drop for Region {
    /// By values, so that no region has to be in memory for it.
    #[inline(always)]
    fn drop(&mut self) {
        destroy(self.handle(), self.address);
    }
}

/// Destroys a region that goes out of scope.
#[inline(never)]
fn destroy(handle: RegionHandle, address: u64) {
    // SAFETY: references into it borrowed the region.
    let mut destroyed = unsafe { hvc::region_destroy(handle) };
    // Over the limit of the bus: nobody else will destroy it later.
    while destroyed == Err(Error::Throttled) {
        core::hint::spin_loop();
        // SAFETY: as before.
        destroyed = unsafe { hvc::region_destroy(handle) };
    }
    // A region that is still mapped keeps its slot.
    if destroyed.is_ok() {
        WINDOW.release(address);
    }
}
