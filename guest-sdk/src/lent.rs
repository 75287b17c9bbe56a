//! Regions that are lent for the length of a direct call.

use core::{
    marker::PhantomData,
    ptr, slice,
    sync::atomic::{AtomicU8, Ordering},
};

use handover_abi::{Error, MessageWord, RegionHandle};

use crate::{Channel, ReadWord, calls::Landing, hvc, mapping, window::WINDOW};

/// What a channel has been lent: it has its address until the loan is over and the channel is used again.
#[derive(Debug)]
pub(crate) struct Loan {
    handle: RegionHandle,
    address: u64,
}

impl Loan {
    /// Whether it is mapped there.
    pub(crate) fn is_at(&self, address: u64) -> bool {
        self.address == address
    }
}

/// A region of the caller's, to be read until its call is answered. A caller that gives up in the meantime takes it back, and all of it reads as zeroes
/// from then on; so it is reached by atomic accesses only, and there are no references to plain bytes of it.
///
/// It lasts as long as the channels are left alone by which it came: until the next wait. Once the call has been answered, there is nothing left to
/// read there, and a touch is an abort.
#[derive(Debug)]
pub struct Lent<'c> {
    handle: RegionHandle,
    address: u64,
    order: u8,
    channels: PhantomData<&'c mut Channel>,
}

impl Lent<'_> {
    /// Its size in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        1 << self.order
    }

    /// Its words.
    #[inline]
    #[must_use]
    pub fn words(&self) -> &[ReadWord] {
        // SAFETY: mapped there, readable and aligned to a page; nothing else comes to these addresses before the channel is used again, which `channels`
        // rules out. Its bytes may become zeroes, which atomics allow for; a `ReadWord` only loads.
        unsafe {
            slice::from_raw_parts(
                ptr::with_exposed_provenance(mapping::address(self.address)),
                self.size() / size_of::<ReadWord>(),
            )
        }
    }

    /// Copies bytes out of it, from offset `at` on.
    ///
    /// # Errors
    ///
    /// [`Error::BadAddress`] beyond its end.
    pub fn read(&self, at: usize, to: &mut [u8]) -> Result<(), Error> {
        // SAFETY: as for `words`; nothing here stores.
        let all: &[AtomicU8] = unsafe {
            slice::from_raw_parts(ptr::with_exposed_provenance(mapping::address(self.address)), self.size())
        };
        let end = at.checked_add(to.len()).ok_or(Error::BadAddress)?;
        let from = all.get(at..end).ok_or(Error::BadAddress)?;
        to.iter_mut().zip(from).for_each(|(to, from)| *to = from.load(Ordering::Relaxed));
        Ok(())
    }

    /// Its name, to pass it on with the call.
    pub(crate) fn handle(&self) -> RegionHandle {
        self.handle
    }
}

impl Channel {
    /// What has come with a call and is lent, mapped.
    #[cold]
    pub(crate) fn borrowed(&mut self, word: MessageWord) -> Result<Option<Lent<'_>>, Error> {
        let (Some(handle), order) = (word.region(), word.order()) else { return Ok(None) };
        let address = if word.is_landed() {
            self.landing.taken = self.landing.address;
            self.landing.address
        } else {
            let address = WINDOW.claim(order).ok_or(Error::InUse)?.get();
            hvc::region_map(handle, address).inspect_err(|_| WINDOW.release(address))?;
            self.landing.taken = Landing::LENT;
            address
        };
        self.loan = Some(Loan { handle, address });
        Ok(Some(Lent { handle, address, order, channels: PhantomData }))
    }

    /// The call has been answered, and what was lent with it, if anything, is gone.
    pub(crate) fn returned(&mut self) {
        let Some(Loan { address, .. }) = self.loan.take() else { return };
        if address != self.landing.address {
            WINDOW.release(address);
        }
        if self.landing.taken == address {
            self.landing.taken = 0;
        }
        self.landing.taken &= !Landing::LENT;
    }

    /// No call is left to answer: zeroes that have taken the place of what was lent go.
    #[inline(always)]
    pub(crate) fn settle(&mut self) {
        if self.loan.is_some() {
            self.unmap_zeroes();
            self.returned();
        }
    }

    #[cold]
    fn unmap_zeroes(&self) {
        let Some(Loan { handle, address }) = &self.loan else { return };
        // Nothing else can be at that address, but the handle may name something else by now.
        while hvc::region_info(*handle).is_ok_and(|(_, at)| at == *address) {
            // SAFETY: nothing refers to it: a `Lent` would have kept the channel.
            match unsafe { hvc::region_unmap(*handle) } {
                // Over the limit of the bus: nobody else will do it later.
                Err(Error::Throttled) => core::hint::spin_loop(),
                _ => break,
            }
        }
    }
}
