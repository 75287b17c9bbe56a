//! Which regions of the message window are held, and for whom.

use alloc::collections::BTreeMap;

use handover_files::{Payer, Quota};

/// A region that is held.
#[derive(Clone, Copy, Debug)]
struct Held {
    bytes: u64,
    user: u32,
}

/// What is held, by the address in the window, and on whose account.
#[derive(Clone, Debug)]
pub struct Holdings {
    quota: Quota,
    held: BTreeMap<u64, Held>,
}

impl Holdings {
    /// Nothing is held; at most `limit` bytes may be.
    #[must_use]
    pub fn new(limit: u64) -> Holdings {
        Holdings { quota: Quota::new(limit), held: BTreeMap::new() }
    }

    /// Whether a user may get so many bytes more.
    #[must_use]
    pub fn has_room(&self, payer: Payer, bytes: u64) -> bool {
        bytes <= self.quota.room(payer)
    }

    /// A user has got a region.
    pub fn add(&mut self, address: u64, bytes: u64, payer: Payer) {
        self.remove(address);
        self.held.insert(address, Held { bytes, user: payer.user() });
        self.quota.charge(payer.user(), bytes);
    }

    /// A region is held no more.
    pub fn remove(&mut self, address: u64) {
        if let Some(Held { bytes, user }) = self.held.remove(&address) {
            self.quota.give_back(user, bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_who_gives_nothing_back_leaves_others_theirs() {
        let mut holdings = Holdings::new(16);
        let [one, two] = [1, 2].map(|user| Payer::new(user, 8, 16));
        for address in 0..8 {
            assert!(holdings.has_room(one, 1));
            holdings.add(address, 1, one);
        }
        assert!(!holdings.has_room(one, 1) && holdings.has_room(two, 6) && !holdings.has_room(two, 7));
        holdings.add(12, 6, two);
        assert!(!holdings.has_room(two, 1) && holdings.has_room(Payer::ROOT, 2));
        holdings.remove(3);
        holdings.remove(3);
        assert!(holdings.has_room(one, 1) && !holdings.has_room(one, 2));
        (0..13).for_each(|address| holdings.remove(address));
        assert!(holdings.quota.used() == 0 && holdings.held.is_empty() && holdings.has_room(Payer::ROOT, 16));
    }

    #[test]
    fn a_place_taken_again_counts_once() {
        let mut holdings = Holdings::new(100);
        let [one, two] = [1, 2].map(|user| Payer::new(user, 100, 100));
        holdings.add(7, 10, one);
        holdings.add(7, 20, two);
        assert!(
            holdings.has_room(one, 68) && !holdings.has_room(one, 69) && holdings.has_room(Payer::ROOT, 80)
        );
    }
}
