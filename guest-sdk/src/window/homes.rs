//! Slots of the message window that are channels' own.

use core::sync::atomic::{AtomicU64, Ordering};

use handover_abi::layout::{REGION_MAX, WINDOW_BASE};

use super::SLOT_ORDER;

/// What is set in the address of a home, and neither of any other slot nor of a larger region.
pub(crate) const HOME: u64 = REGION_MAX / 2;
/// How many channels can have one. Others' regions take slots as all regions do.
const HOMES: usize = u64::BITS as usize;

/// The channels' homes.
pub(super) struct Homes {
    /// A bit for each that no channel has.
    ownerless: AtomicU64,
}

/// For each home its address if a region is there, or 0. Its channel alone says that there is one, and who has the region alone that there is none. Who finds it
/// empty has the control OS map the next region there, which is after it has unmapped the one before, so the accesses to both need no order from here.
///
/// In a section of its own, so that the compiler has no other address for it than its beginning's.
#[cfg_attr(target_os = "none", unsafe(link_section = ".bss.homes"))]
static TAKEN: [AtomicU64; HOMES] = [const { AtomicU64::new(0) }; HOMES];
/// For each home's channel the address of the room that it has [made](Home::room), if a region has come there, or 0.
static ROOM_TAKEN: [AtomicU64; HOMES] = [const { AtomicU64::new(0) }; HOMES];

impl Homes {
    pub(super) const fn new() -> Homes {
        Homes { ownerless: AtomicU64::new(u64::MAX) }
    }

    pub(super) fn claim(&self) -> Option<Home> {
        let mut candidates = self.ownerless.load(Ordering::Relaxed);
        while candidates != 0 {
            let number = candidates.trailing_zeros();
            let bit = 1 << number;
            candidates &= !bit;
            if self.ownerless.fetch_and(!bit, Ordering::Acquire) & bit == 0 {
                continue;
            }
            let home = Home(number as usize);
            if home.place().is_free() {
                return Some(home);
            }
            self.give(home);
        }
        None
    }

    pub(super) fn give(&self, home: Home) {
        self.ownerless.fetch_or(1 << home.0, Ordering::Release);
    }

    #[inline(always)]
    pub(super) fn leave(&self, address: u64) {
        TAKEN[(address >> SLOT_ORDER) as usize % HOMES].store(0, Ordering::Relaxed);
    }
}

/// A channel's own slot, by its number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Home(usize);

impl Home {
    /// The slot.
    pub(crate) fn place(self) -> Place {
        Place { address: WINDOW_BASE + HOME + ((self.0 as u64) << SLOT_ORDER), taken: &TAKEN[self.0] }
    }

    /// Another place for one region, instead of the last that this has been called for.
    #[inline]
    pub(crate) fn room(self, address: u64) -> Place {
        let taken = &ROOM_TAKEN[self.0];
        taken.store(0, Ordering::Relaxed);
        Place { address, taken }
    }
}

/// A place for one region at a time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    address: u64,
    /// 0 if no region is there.
    taken: &'static AtomicU64,
}

impl Place {
    /// None.
    pub(crate) const NONE: Place = {
        static TAKEN: AtomicU64 = AtomicU64::new(1);
        Place { address: 0, taken: &TAKEN }
    };

    /// Whether a region can come.
    #[inline(always)]
    pub(crate) fn is_free(self) -> bool {
        self.taken.load(Ordering::Relaxed) == 0
    }

    /// Where it is then.
    #[inline(always)]
    pub(crate) fn address(self) -> u64 {
        self.address
    }

    /// The same in memory.
    #[inline(always)]
    pub(crate) fn kept(&self) -> &u64 {
        &self.address
    }

    /// A region has come, to a place that [is free](Place::is_free): `address` is its.
    #[inline(always)]
    pub(crate) fn occupy(self, address: u64) {
        self.taken.store(address, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_has_one_channel_and_one_region_at_a_time() {
        let homes = Homes::new();
        let all: Vec<Home> = core::iter::from_fn(|| homes.claim()).collect();
        assert_eq!(all.len(), HOMES);
        for (number, home) in all.iter().enumerate() {
            let place = home.place();
            assert!(place.is_free());
            assert_eq!(place.address(), WINDOW_BASE + REGION_MAX / 2 + ((number as u64) << SLOT_ORDER));
            assert_eq!(place.address() & HOME, HOME);
            assert_eq!(*place.kept(), place.address());
        }
        let place = all[5].place();
        place.occupy(place.address());
        assert!(!place.is_free() && !all[5].place().is_free());
        assert!(all[4].place().is_free() && all[6].place().is_free());
        // Its channel has gone, the region has not.
        homes.give(all[5]);
        assert!(homes.claim().is_none());
        homes.leave(place.address());
        assert_eq!(homes.claim().map(|home| home.place().address()), Some(place.address()));
        homes.give(all[63]);
        homes.give(all[0]);
        assert_eq!(homes.claim().map(|home| home.place().address()), Some(all[0].place().address()));
    }

    #[test]
    fn room_is_for_one_region() {
        let home = Home(9);
        let room = home.room(3 * REGION_MAX);
        assert!(room.is_free());
        assert_eq!((room.address(), room.address() & HOME), (3 * REGION_MAX, 0));
        room.occupy(room.address());
        assert!(!room.is_free());
        assert!(home.room(4 * REGION_MAX).is_free());
        assert!(!Place::NONE.is_free());
    }
}
