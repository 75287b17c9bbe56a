//! How calls end without a reply.

use handover_abi::layout::PROCESSORS_MAX;
use handover_abi::{Error, RegionHandle};

use super::Role;
use crate::channel::Link;
use crate::region::STEP;
use crate::{Machine, PartitionIndex, System, VcpuId};

fn processors(partition: PartitionIndex) -> impl Iterator<Item = VcpuId> {
    (0..PROCESSORS_MAX as u8).map(move |index| VcpuId { partition, index })
}

impl System {
    /// A logical processor is switched on.
    pub fn vcpu_on(&mut self, id: VcpuId) {
        if let Some(p) = self.get_mut(id.partition) {
            p.calls.on |= 1u8 << (id.index & 7);
        }
    }

    /// A logical processor is switched off: whom it owes a reply gets [`Error::PeerClosed`]; if nobody is left who could take the calls in its
    /// partition's queue, those get [`Error::Deadlock`].
    pub fn vcpu_off(&mut self, m: &mut impl Machine, id: VcpuId) {
        self.call_interrupted(id);
        self.disclaim(m, id);
        if let Some(p) = self.get_mut(id.partition) {
            p.calls.on &= !(1u8 << (id.index & 7));
        }
        if self.is_stuck(id.partition, None) {
            while let Some(caller) = self.first_queued(id.partition) {
                self.call_fail(m, caller, Error::Deadlock);
            }
        }
    }

    /// A call has taken too long.
    pub fn call_expired(&mut self, m: &mut impl Machine, caller: VcpuId) {
        self.call_fail(m, caller, Error::TimedOut);
    }

    /// Whether this processor waits for a reply.
    #[must_use]
    pub fn is_calling(&self, id: VcpuId) -> bool {
        self.party(id).is_some_and(|party| matches!(party.role, Role::Queued | Role::Served))
    }

    fn first_queued(&self, server: PartitionIndex) -> Option<VcpuId> {
        self.get(server)?.calls.queue.head().map(VcpuId::from_raw)
    }

    /// Whom this processor owes a reply gets none.
    fn disclaim(&mut self, m: &mut impl Machine, server: VcpuId) {
        if let Some(caller) = self.party(server).and_then(|party| party.serving) {
            self.call_fail(m, caller, Error::PeerClosed);
        }
    }

    /// Ends a call without a reply; a processor that does not call is left alone.
    fn call_fail(&mut self, m: &mut impl Machine, caller: VcpuId, error: Error) {
        if self.is_calling(caller) {
            let region = self.call_withdraw(m, caller);
            m.call_failed(caller, error, region);
        }
    }

    /// Takes a call back, wherever it is. → the region that has waited with it.
    fn call_withdraw(&mut self, m: &mut impl Machine, caller: VcpuId) -> Option<RegionHandle> {
        let party = *self.party(caller)?;
        match party.role {
            Role::Free | Role::Waiting => return None,
            Role::Queued => {
                self.queue_change(party.to.partition(), |queue, nodes| queue.remove(nodes, caller.raw()));
            }
            Role::Served => {
                if let Some(holder) = party.holder.and_then(|holder| self.party_mut(holder)) {
                    holder.serving = None;
                }
            }
        }
        if party.lent != 0 {
            self.end_loan(m, caller, party.holder, false);
        }
        let p = self.get_mut(caller.partition)?;
        if let Some(party) = p.calls.party_mut(caller.index) {
            (party.role, party.holder, party.region) = (Role::Free, None, 0);
        }
        let region = p.regions.get_mut(party.region).filter(|_| party.region != party.lent)?;
        region.leave_call();
        Some(RegionHandle::new(party.region))
    }

    /// A port is destroyed: calls that were made through it, and calls that wait at it, end.
    pub(crate) fn calls_close(&mut self, m: &mut impl Machine, at: Link) {
        for caller in processors(at.partition()) {
            if self.party(caller).is_some_and(|party| party.port == at.port()) {
                self.call_fail(m, caller, Error::PeerClosed);
            }
        }
        let mut next = self.first_queued(at.partition());
        while let Some(caller) = next {
            let party = self.party(caller).copied();
            next = party.and_then(|party| party.node.next()).map(VcpuId::from_raw);
            if party.is_some_and(|party| party.to == at) {
                self.call_fail(m, caller, Error::PeerClosed);
            }
        }
    }

    /// A partition ends: its processors neither call, wait nor owe any more.
    pub(crate) fn calls_end(&mut self, m: &mut impl Machine, partition: PartitionIndex) {
        for id in processors(partition) {
            self.call_interrupted(id);
            let _ended: Option<RegionHandle> = self.call_withdraw(m, id);
        }
        // Those of its own that it owes a reply are not among the callers any more.
        for id in processors(partition) {
            self.disclaim(m, id);
        }
        if let Some(p) = self.get_mut(partition) {
            p.calls.on = 0;
        }
    }

    /// One step of telling those who have called an ending partition. → whether none is left.
    pub(crate) fn calls_reap(&mut self, m: &mut impl Machine, server: PartitionIndex) -> bool {
        for _ in 0..STEP {
            match self.first_queued(server) {
                Some(caller) => self.call_fail(m, caller, Error::PeerClosed),
                None => return true,
            }
        }
        false
    }
}
