//! The short way of an interrupt that comes again and again: from the second time on, while nothing else happens to it.

use super::{Kick, ListRegisterAccess, Vgic, bit};

/// An interrupt that was pending in a list register by [`Vgic::rearm`], and of which the model has only heard since that it was raised again. The guest
/// has finished it if that list register is empty, and then it can be put there as before: all that its bank says of it is true again.
///
/// While `posted` is set the banks do not know yet that it has been raised ([`Vgic::settle`]). An SPI, edge-triggered, not linked; the model remembers one of them,
/// the last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Posting {
    /// Its INTID, or [`Posting::NONE`]'s, which nobody can raise.
    intid: u32,
    /// The processor whose list register it was in.
    processor: u8,
    /// Which list register.
    number: u8,
    /// It has been raised since.
    posted: bool,
    /// What was written there.
    value: u64,
}

impl Posting {
    pub(super) const NONE: Posting =
        Posting { intid: u32::MAX, processor: 0, number: 0, posted: false, value: 0 };

    pub(super) const fn new(intid: u8, processor: usize, number: usize, value: u64) -> Posting {
        Posting {
            intid: intid as u32,
            processor: processor as u8,
            number: number as u8,
            posted: false,
            value,
        }
    }

    #[inline(always)]
    pub(super) const fn is_of(&self, intid: u32) -> bool {
        self.intid == intid
    }
}

impl Vgic {
    /// Raises the interrupt that is remembered.
    #[inline(always)]
    pub(super) fn post(&mut self) -> Kick {
        self.posting.posted = true;
        self.wake(usize::from(self.posting.processor), true)
    }

    /// Puts the interrupt that was posted on `processor` into its list register, if nothing else is to be done there. Returns false, and nothing has happened, if
    /// there is, or if none was posted.
    #[inline(always)]
    pub(super) fn deliver_posted(
        &mut self,
        processor: usize,
        registers: &mut impl ListRegisterAccess,
    ) -> bool {
        let Posting { number, value, .. } = self.posting;
        let number = usize::from(number);
        if !self.has_posted(processor) {
            return false;
        }
        let state = self.processor_mut(processor);
        if state.attention_banks | state.eoi != 0
            || state.stale
            || registers.empty_status() & bit(number) == 0
        {
            return false;
        }
        state.dirty = false;
        self.posting.posted = false;
        registers.write(number, value);
        true
    }

    #[inline(always)]
    pub(super) fn has_posted(&self, processor: usize) -> bool {
        self.posting.posted && usize::from(self.posting.processor) == processor
    }

    /// Forgets the interrupt that is remembered; the banks learn what was posted. To be called before a list register is read or changes hands, and before the guest
    /// changes what the banks say. The processor concerned has been kicked before.
    #[inline]
    pub(super) fn settle(&mut self) {
        let posting = core::mem::replace(&mut self.posting, Posting::NONE);
        if posting.posted {
            let _kicked = self.raise(0, posting.intid);
        }
    }
}
