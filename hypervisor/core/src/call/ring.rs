//! Who could still answer.

use super::Role;
use crate::{PARTITIONS_MAX, PartitionIndex, System, VcpuId};

const _: () = assert!(PARTITIONS_MAX <= u128::BITS as usize);

/// Logical processors that are to be looked at, and those that need not be any more.
struct Search {
    partitions: u128,
    open: [u8; PARTITIONS_MAX],
    seen: [u8; PARTITIONS_MAX],
}

impl Search {
    fn add(&mut self, partition: PartitionIndex, mask: u8) {
        let at = partition.get();
        if let (Some(open), Some(seen)) = (self.open.get_mut(at), self.seen.get_mut(at)) {
            let fresh = mask & !*seen;
            *seen |= fresh;
            *open |= fresh;
            if fresh != 0 {
                self.partitions |= 1u128.wrapping_shl(at as u32);
            }
        }
    }

    fn next(&mut self) -> Option<VcpuId> {
        let partition = PartitionIndex::new(self.partitions.trailing_zeros() as usize)?;
        let open = self.open.get_mut(partition.get())?;
        let index = open.trailing_zeros() as u8;
        *open &= open.wrapping_sub(1);
        if *open == 0 {
            self.partitions &= self.partitions.wrapping_sub(1);
        }
        Some(VcpuId { partition, index })
    }
}

impl System {
    /// Whether nobody could ever take a call that waits in this partition's queue, once `caller` waits too: each of its processors waits for a reply that
    /// only those could give who wait themselves. Looks at each logical processor of the machine once at most.
    pub(super) fn is_stuck(&self, server: PartitionIndex, caller: Option<VcpuId>) -> bool {
        let mut search = Search { partitions: 0, open: [0; PARTITIONS_MAX], seen: [0; PARTITIONS_MAX] };
        let on = |partition| self.get(partition).map_or(0, |p| p.calls.on);
        search.add(server, on(server));
        while let Some(id) = search.next() {
            if Some(id) == caller {
                continue;
            }
            let Some(party) = self.party(id) else { continue };
            match (party.role, party.holder) {
                (Role::Free | Role::Waiting, _) => return false,
                (Role::Queued, _) => search.add(party.to.partition(), on(party.to.partition())),
                (Role::Served, Some(holder)) => search.add(holder.partition, 1 << (holder.index & 7)),
                (Role::Served, None) => {}
            }
        }
        true
    }
}
