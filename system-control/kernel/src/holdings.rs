//! Which regions of the message window are held, and for whom.

use alloc::collections::BTreeMap;

/// A region that is held.
#[derive(Clone, Copy, Debug)]
struct Held {
    bytes: u64,
    owner: u32,
}

/// What is held, by the address in the window. Nobody may have more than three quarters of what there may be, so that others can go on
/// beside one who gives nothing back.
#[derive(Clone, Debug)]
pub struct Holdings {
    limit: u64,
    total: u64,
    held: BTreeMap<u64, Held>,
    used: BTreeMap<u32, u64>,
}

impl Holdings {
    /// Nothing is held; at most `limit` bytes may be.
    #[must_use]
    pub fn new(limit: u64) -> Holdings {
        Holdings { limit, total: 0, held: BTreeMap::new(), used: BTreeMap::new() }
    }

    /// Whether a process may get so many bytes more.
    #[must_use]
    pub fn has_room(&self, owner: u32, bytes: u64) -> bool {
        let used = self.used.get(&owner).copied().unwrap_or_default();
        bytes <= self.limit.saturating_sub(self.total) && bytes <= (self.limit / 4 * 3).saturating_sub(used)
    }

    /// A process has got a region.
    pub fn add(&mut self, address: u64, bytes: u64, owner: u32) {
        self.remove(address);
        self.held.insert(address, Held { bytes, owner });
        self.total += bytes;
        *self.used.entry(owner).or_default() += bytes;
    }

    /// A region is held no more.
    pub fn remove(&mut self, address: u64) {
        let Some(Held { bytes, owner }) = self.held.remove(&address) else { return };
        self.total -= bytes;
        if let Some(used) = self.used.get_mut(&owner) {
            *used -= bytes;
            if *used == 0 {
                self.used.remove(&owner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_who_gives_nothing_back_leaves_others_a_quarter() {
        let mut holdings = Holdings::new(16);
        for address in 0..12 {
            assert!(holdings.has_room(1, 1));
            holdings.add(address, 1, 1);
        }
        assert!(!holdings.has_room(1, 1) && holdings.has_room(2, 4) && !holdings.has_room(2, 5));
        holdings.add(12, 4, 2);
        assert!(!holdings.has_room(3, 1));
        holdings.remove(3);
        holdings.remove(3);
        assert!(holdings.has_room(1, 1) && !holdings.has_room(1, 2) && !holdings.has_room(3, 2));
        (0..13).for_each(|address| holdings.remove(address));
        assert!(holdings.used.is_empty() && holdings.total == 0 && holdings.has_room(1, 12));
    }

    #[test]
    fn a_place_taken_again_counts_once() {
        let mut holdings = Holdings::new(100);
        holdings.add(7, 10, 1);
        holdings.add(7, 20, 2);
        assert!(holdings.has_room(1, 75) && !holdings.has_room(2, 56) && !holdings.has_room(3, 81));
    }
}
