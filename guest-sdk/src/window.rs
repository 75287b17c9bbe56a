//! Which parts of the message window are taken.
//!
//! Regions of up to 2 MiB take a slot of 2 MiB in the window's lower half; larger ones a GiB in its upper half, because a
//! GiB that has held the small ones is cut up for good. The slot at the start of each GiB stays free: a large region received
//! into it would take the whole GiB, where one received into any other is refused with its size. The upper half of each GiB of slots stays free too, but for the first
//! GiB's, where channels have their homes: a home is a channel's own slot, for what it receives. Taking and leaving it is a store of one word each, since nobody
//! but the channel takes it; and one bit of the address tells that a region leaves a home.

use core::{
    num::NonZeroU64,
    sync::atomic::{AtomicU64, Ordering},
};

use handover_abi::layout::{REGION_MAX, WINDOW_BASE, WINDOW_SIZE, WINDOW_SLOT};

mod homes;
#[cfg(not(target_os = "none"))]
use homes::HOME;
use homes::Homes;
#[cfg(target_os = "none")]
pub(crate) use homes::{HOME, Home, Place};

/// log2 of a slot's size.
pub const SLOT_ORDER: u8 = WINDOW_SLOT.trailing_zeros() as u8;
/// log2 of what a larger region takes.
const LARGE_ORDER: u8 = REGION_MAX.trailing_zeros() as u8;
/// Where the larger regions start.
const LARGE_BASE: u64 = WINDOW_BASE + WINDOW_SIZE / 2;
/// What is set in the address of a larger region and in no slot's.
const LARGE: u64 = WINDOW_SIZE / 2;
const _: () = assert!(WINDOW_SIZE.is_power_of_two() && WINDOW_BASE.is_multiple_of(WINDOW_SIZE));

/// Slots in what a larger region takes.
const SLOTS_IN_GIB: usize = 1 << (LARGE_ORDER - SLOT_ORDER);
const SLOT_WORDS: usize = ((LARGE_BASE - WINDOW_BASE) >> SLOT_ORDER) as usize / 64;
const LARGE_WORDS: usize = ((WINDOW_BASE + WINDOW_SIZE - LARGE_BASE) >> LARGE_ORDER) as usize / 64;

/// The partition's window.
#[cfg(target_os = "none")]
pub(crate) static WINDOW: Window = Window::new();

/// Takes room in the message window for a region of `1 << order` bytes; its address. For a kernel that keeps its regions itself.
#[cfg(target_os = "none")]
#[must_use]
pub fn claim(order: u8) -> Option<u64> {
    WINDOW.claim(order).map(NonZeroU64::get)
}

/// Gives back what [`claim`] returned.
#[cfg(target_os = "none")]
pub fn release(address: u64) {
    WINDOW.release(address);
}

/// The message window's places.
pub(crate) struct Window {
    slots: Half<SLOT_WORDS, WINDOW_BASE, SLOT_ORDER>,
    large: Half<LARGE_WORDS, LARGE_BASE, LARGE_ORDER>,
    homes: Homes,
}

impl Window {
    const fn new() -> Window {
        Window {
            slots: Half { places: Places::slots(), spare: AtomicU64::new(0) },
            large: Half { places: Places::all(), spare: AtomicU64::new(0) },
            homes: Homes::new(),
        }
    }

    /// Takes room for a region of `1 << order` bytes; its address.
    #[inline(always)]
    pub(crate) fn claim(&self, order: u8) -> Option<NonZeroU64> {
        if order <= SLOT_ORDER {
            self.slots.claim()
        } else if order <= LARGE_ORDER {
            self.large.claim()
        } else {
            None
        }
    }

    /// Gives back what `claim` returned.
    #[inline(always)]
    pub(crate) fn release(&self, address: u64) {
        if address & HOME != 0 {
            self.homes.leave(address);
        } else if address & LARGE == 0 {
            self.slots.release(address);
        } else {
            self.large.release(address);
        }
    }

    /// A home for a channel, if there is one left.
    #[cfg(target_os = "none")]
    #[cold]
    #[inline(never)]
    pub(crate) fn claim_home(&self) -> Option<Home> {
        self.homes.claim()
    }

    /// Gives it back. A region may be there still; then it is nobody's until that has left.
    #[cfg(target_os = "none")]
    pub(crate) fn give_home(&self, home: Home) {
        self.homes.give(home);
    }
}

/// Half of the window, from `BASE` on: places for a region of `1 << ORDER` bytes each, by their addresses. The one that was given back last is the next one to be
/// taken, as of a message that is answered: it is kept aside for that, where it takes no search.
struct Half<const WORDS: usize, const BASE: u64, const ORDER: u8, W = AtomicU64> {
    places: Places<WORDS, W>,
    /// The address of a place that is free although `places` says that it is taken, or 0.
    spare: W,
}

impl<const WORDS: usize, const BASE: u64, const ORDER: u8, W: Word> Half<WORDS, BASE, ORDER, W> {
    #[inline(always)]
    fn claim(&self) -> Option<NonZeroU64> {
        NonZeroU64::new(self.spare.swap(0, Ordering::Acquire)).or_else(|| self.search())
    }

    #[cold]
    #[inline(never)]
    fn search(&self) -> Option<NonZeroU64> {
        NonZeroU64::new(BASE + (self.places.claim()? << ORDER))
    }

    #[inline(always)]
    fn release(&self, address: u64) {
        // `Acquire` too: what was done with the other place comes before it is given back here.
        let other = self.spare.swap(address, Ordering::AcqRel);
        if other != 0 {
            self.put_back(other);
        }
    }

    #[cold]
    #[inline(never)]
    fn put_back(&self, address: u64) {
        self.places.release((address - BASE) >> ORDER);
    }
}

/// The processor's atomic words, or those of a test that plays all orders through.
trait Word {
    fn load(&self, order: Ordering) -> u64;
    fn store(&self, value: u64, order: Ordering);
    fn fetch_or(&self, bits: u64, order: Ordering) -> u64;
    fn fetch_and(&self, bits: u64, order: Ordering) -> u64;
    fn swap(&self, value: u64, order: Ordering) -> u64;
}

macro_rules! word {
    ($word:ty) => {
        impl Word for $word {
            #[inline(always)]
            fn load(&self, order: Ordering) -> u64 {
                self.load(order)
            }

            #[inline(always)]
            fn store(&self, value: u64, order: Ordering) {
                self.store(value, order)
            }

            #[inline(always)]
            fn fetch_or(&self, bits: u64, order: Ordering) -> u64 {
                self.fetch_or(bits, order)
            }

            #[inline(always)]
            fn fetch_and(&self, bits: u64, order: Ordering) -> u64 {
                self.fetch_and(bits, order)
            }

            #[inline(always)]
            fn swap(&self, value: u64, order: Ordering) -> u64 {
                self.swap(value, order)
            }
        }
    };
}

word!(AtomicU64);

/// A bit for each place, set while it is taken.
struct Places<const WORDS: usize, W = AtomicU64> {
    taken: [W; WORDS],
    /// A word that had a free place.
    hint: W,
}

impl<const WORDS: usize> Places<WORDS> {
    /// All free.
    const fn all() -> Places<WORDS> {
        Places { taken: [const { AtomicU64::new(0) }; WORDS], hint: AtomicU64::new(0) }
    }

    /// Slots: all free, but for the first of each GiB, and the upper half of it.
    const fn slots() -> Places<WORDS> {
        let mut places = Places::all();
        let mut word = 0;
        while word < WORDS {
            places.taken[word] = AtomicU64::new(match word % (SLOTS_IN_GIB / 64) {
                0 => 1,
                word if word < SLOTS_IN_GIB / 128 => 0,
                _ => u64::MAX,
            });
            word += 1;
        }
        places
    }
}

impl<const WORDS: usize, W: Word> Places<WORDS, W> {
    #[inline]
    fn claim(&self) -> Option<u64> {
        let hint = self.hint.load(Ordering::Relaxed) as usize;
        for step in 0..WORDS {
            let index = (hint + step) % WORDS;
            let word = &self.taken[index];
            loop {
                let free = word.load(Ordering::Relaxed).trailing_ones();
                if free == 64 {
                    break;
                }
                if word.fetch_or(1 << free, Ordering::Acquire) & 1 << free == 0 {
                    self.hint.store(index as u64, Ordering::Relaxed);
                    return Some(index as u64 * 64 + u64::from(free));
                }
            }
        }
        None
    }

    #[inline]
    fn release(&self, place: u64) {
        if let Some(word) = self.taken.get((place / 64) as usize) {
            word.fetch_and(!(1 << (place % 64)), Ordering::Release);
        }
    }
}

#[cfg(test)]
word!(loom::sync::atomic::AtomicU64);

#[cfg(test)]
mod tests {
    use super::*;
    use loom::{cell::UnsafeCell, sync::Arc, thread};

    type Loomed = Half<2, WINDOW_BASE, SLOT_ORDER, loom::sync::atomic::AtomicU64>;

    /// In the orders in which three processors can do what they do, each place is one's at a time, and who has it sees what was written there before.
    #[test]
    fn a_place_is_one_processors_at_a_time_whatever_the_order() {
        const ALL: u64 = !0b11;
        let mut orders = loom::model::Builder::new();
        // All orders in which each is interrupted twice take seconds; all that there are, hours.
        orders.preemption_bound = Some(2);
        orders.check(|| {
            let word = |bits| loom::sync::atomic::AtomicU64::new(bits);
            // Two words with two places each.
            let slots: Loomed =
                Half { places: Places { taken: [word(ALL), word(ALL)], hint: word(0) }, spare: word(0) };
            let contents = [64, 65, 0, 1].map(|place: u64| (slot(place), UnsafeCell::new(0)));
            let shared = Arc::new((slots, contents));
            let work = |shared: &(Loomed, [(NonZeroU64, UnsafeCell<u32>); 4])| {
                let (slots, contents) = shared;
                let place = slots.claim().expect("there are more places than processors");
                let (_, content) = contents.iter().find(|(address, _)| *address == place).unwrap();
                // SAFETY: the place is this thread's; loom fails if another one's access is not before or after.
                content.with_mut(|content| unsafe { *content += 1 });
                slots.release(place.get());
            };
            let other = |shared: &Arc<_>| {
                let shared = Arc::clone(shared);
                thread::spawn(move || work(&shared))
            };
            let others = [other(&shared), other(&shared)];
            work(&shared);
            others.into_iter().for_each(|thread| thread.join().unwrap());
            let (slots, contents) = &*shared;
            // What is kept aside is taken in the map, and nothing else is.
            let spare = Word::swap(&slots.spare, 0, Ordering::Acquire);
            assert_ne!(spare, 0, "the last one is kept");
            slots.put_back(spare);
            let taken = &slots.places.taken;
            assert!(taken.iter().all(|word| Word::load(word, Ordering::Relaxed) == ALL));
            // SAFETY: all others are through.
            let uses: u32 =
                contents.iter().map(|(_, content)| content.with(|content| unsafe { *content })).sum();
            assert_eq!(uses, 3);
        });
    }

    fn slot(index: u64) -> NonZeroU64 {
        NonZeroU64::new(WINDOW_BASE + index * WINDOW_SLOT).unwrap()
    }

    #[test]
    fn slots_are_distinct_and_come_back() {
        let window = Window::new();
        let first: Vec<NonZeroU64> = (0..200).filter_map(|_| window.claim(12)).collect();
        assert_eq!(first, (1..=200).map(slot).collect::<Vec<_>>());
        window.release(first[71].get());
        window.release(first[70].get());
        assert_eq!(window.claim(SLOT_ORDER), Some(first[70]), "the last one comes back first");
        assert_eq!(window.claim(SLOT_ORDER), Some(slot(201)), "the hint points behind");
        window.release(first[70].get());
        for &address in &first[..70] {
            window.release(address.get());
        }
        let usable = SLOT_WORDS * 64 / SLOTS_IN_GIB * (SLOTS_IN_GIB / 2 - 1);
        let rest: Vec<NonZeroU64> = core::iter::from_fn(|| window.claim(12)).collect();
        assert_eq!(rest.len(), usable - 201 + 72);
        assert!(
            rest.iter().all(|address| !address.get().is_multiple_of(REGION_MAX) && address.get() & HOME == 0)
        );
    }

    #[test]
    fn large_regions_have_a_gib_each_behind_the_slots() {
        let window = Window::new();
        assert_eq!(window.claim(SLOT_ORDER), Some(slot(1)));
        let large: Vec<NonZeroU64> =
            core::iter::from_fn(|| window.claim(SLOT_ORDER + 1)).take(LARGE_WORDS * 64 + 1).collect();
        assert_eq!(large.len() as u64, (WINDOW_SIZE / 2) >> LARGE_ORDER);
        assert!(large.iter().all(|address| address.get().is_multiple_of(REGION_MAX)));
        assert_eq!(large.last().map(|address| address.get()), Some(WINDOW_BASE + WINDOW_SIZE - REGION_MAX));
        window.release(large[7].get());
        assert_eq!(window.claim(LARGE_ORDER), Some(large[7]));
        assert_eq!(window.claim(LARGE_ORDER + 1), None);
        assert_eq!(window.claim(SLOT_ORDER), Some(slot(2)));
    }
}
