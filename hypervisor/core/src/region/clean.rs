//! Regions that go to another partition where stage 2 does not force write-back (no FEAT_S2FWB).
//!
//! There each partition chooses how it caches what it maps. So whatever hands a region over first takes it out of its holder's reach and cleans the caches
//! of it ([`CacheMaintenance`](crate::CacheMaintenance)), 64 KiB a step: the call comes back with [`Failure::AGAIN`] until it is done, and then goes on as
//! elsewhere. A call that fails puts the region back within reach.
//!
//! | the region | was cleaned so far | by |
//! | --- | --- | --- |
//! | mapped | nothing; or, for a loan that is shown, what the calls of it came to | mapping it, the end of a failed call |
//! | out of reach at its place | what the calls came to | the first step |
//! | not mapped | all, or what the calls came to | coming from another partition; `unmap` starts at nothing |
//!
//! What its holder writes between the first step of a loan that is shown and the last counts as shown.

use handover_abi::MessageWord;

use super::{Region, STEP, Standing};
use crate::{Failure, Machine, Partition, PartitionIndex, System};

/// Of a region that is not mapped: everything. Of one that is: no call has begun to hand it over.
pub(super) const ALL: u32 = u32::MAX;

impl Region {
    /// One step. → whether that was all.
    fn clean(&mut self, m: &mut impl Machine, vmid: u16, shown: bool) -> bool {
        let order = self.body.order();
        let suspended = self.mapping.is_suspended(m);
        if self.mapping.at != 0 && suspended == shown {
            match shown {
                true => self.mapping.resume(m, vmid),
                false => self.mapping.suspend(m, vmid, order, self.body.leaves()),
            }
            self.cleaned = 0;
        } else if shown && self.mapping.at != 0 && self.cleaned == ALL {
            self.cleaned = 0;
        }
        if self.cleaned < self.body.page_count() {
            self.cleaned = self.body.clean(m, self.cleaned, &mut { STEP });
        }
        self.cleaned >= self.body.page_count()
    }

    /// It stays with its holder.
    fn keep(&mut self, m: &mut impl Machine, vmid: u16) {
        if self.mapping.at != 0 {
            self.mapping.resume(m, vmid);
            self.cleaned = ALL;
        }
    }
}

impl Partition {
    /// Whether a region may be handed over as far as the bus is concerned. One that is out of reach for it already was counted then.
    #[inline(always)]
    pub(crate) fn check_bus_for(&self, m: &impl Machine, handle: u32) -> Result<(), Failure> {
        if self.bus.is_limited() { self.check_bus_limit_for(m, handle) } else { Ok(()) }
    }

    #[cold]
    #[inline(never)]
    fn check_bus_limit_for(&self, m: &impl Machine, handle: u32) -> Result<(), Failure> {
        match self.regions.get(handle) {
            Some(region) if region.mapping.is_suspended(m) => Ok(()),
            _ => self.check_bus(m),
        }
    }
}

impl System {
    /// The last check before a region of `who`'s goes to another partition: its caches are clean. `shown`: its holder goes on touching it.
    #[inline(always)]
    pub(crate) fn clean_region(
        &mut self,
        m: &mut impl Machine,
        who: PartitionIndex,
        handle: u32,
        shown: bool,
    ) -> Result<(), Failure> {
        if self.attributes.fwb { Ok(()) } else { self.clean_region_step(m, who, handle, shown) }
    }

    #[cold]
    #[inline(never)]
    fn clean_region_step(
        &mut self,
        m: &mut impl Machine,
        who: PartitionIndex,
        handle: u32,
        shown: bool,
    ) -> Result<(), Failure> {
        let Some(p) = self.get_mut(who) else { return Ok(()) };
        let vmid = p.vmid;
        let Some(region) = p.regions.get_mut(handle) else { return Ok(()) };
        let within_reach = region.mapping.at != 0 && !region.mapping.is_suspended(m);
        let done = region.clean(m, vmid, shown);
        if within_reach && !shown {
            p.charge_bus(m);
        }
        if done { Ok(()) } else { Err(Failure::AGAIN) }
    }

    /// The same for a region that has to be there, and that the bus must allow to go.
    pub(crate) fn clean_held(
        &mut self,
        m: &mut impl Machine,
        who: PartitionIndex,
        handle: u32,
    ) -> Result<(), Failure> {
        let p = self.caller(who)?;
        Region::held(&p.regions, handle)?;
        p.check_bus_for(m, handle)?;
        self.clean_region(m, who, handle, false)
    }

    /// What a call has come to that would have handed over the region of this word.
    #[inline(always)]
    pub(crate) fn handed_over<T>(
        &mut self,
        m: &mut impl Machine,
        who: PartitionIndex,
        word: MessageWord,
        result: Result<T, Failure>,
    ) -> Result<T, Failure> {
        result.map_err(|failure| self.not_handed_over(m, who, word, failure))
    }

    #[cold]
    #[inline(never)]
    fn not_handed_over(
        &mut self,
        m: &mut impl Machine,
        who: PartitionIndex,
        word: MessageWord,
        failure: Failure,
    ) -> Failure {
        if !self.attributes.fwb
            && failure != Failure::AGAIN
            && let (Some(p), Some(handle)) = (self.get_mut(who), word.region())
        {
            let vmid = p.vmid;
            if let Some(region) = p.regions.get_mut(handle.get())
                && region.standing == Standing::Held
            {
                region.keep(m, vmid);
            }
        }
        failure
    }
}
