//! Which parts of the message window are taken.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use handover_abi::layout::{REGION_MAX, WINDOW_BASE, WINDOW_SIZE, WINDOW_SLOT};

/// log2 of a slot's size.
pub(crate) const SLOT_ORDER: u8 = WINDOW_SLOT.trailing_zeros() as u8;
const ORDER_MAX: u8 = REGION_MAX.trailing_zeros() as u8;
const SLOTS: usize = (WINDOW_SIZE / WINDOW_SLOT) as usize;
const WORDS: usize = SLOTS / 64;

/// The partition's window.
#[cfg_attr(not(target_os = "none"), expect(dead_code, reason = "its users are built for the machine alone"))]
pub(crate) static WINDOW: Window = Window::new();

/// A bit for each slot of the message window, set while it is taken.
pub(crate) struct Window {
    taken: [AtomicU64; WORDS],
    /// A word that had a free slot.
    hint: AtomicU32,
}

impl Window {
    const fn new() -> Window {
        Window { taken: [const { AtomicU64::new(0) }; WORDS], hint: AtomicU32::new(0) }
    }

    /// Takes room for a region of `1 << order` bytes, aligned as it must be; its address.
    #[inline]
    pub(crate) fn claim(&self, order: u8) -> Option<u64> {
        if order <= SLOT_ORDER {
            self.claim_slot()
        } else if order <= ORDER_MAX {
            self.claim_slots(1 << (order - SLOT_ORDER))
        } else {
            None
        }
    }

    /// Gives back what `claim(order)` returned.
    #[inline]
    pub(crate) fn release(&self, address: u64, order: u8) {
        let slot = ((address - WINDOW_BASE) >> SLOT_ORDER) as usize;
        self.release_slots(slot, 1 << order.saturating_sub(SLOT_ORDER));
    }

    #[inline]
    fn claim_slot(&self) -> Option<u64> {
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
                    self.hint.store(index as u32, Ordering::Relaxed);
                    return Some(address(index * 64 + free as usize));
                }
            }
        }
        None
    }

    /// `count` is a power of two, from 2 to 512.
    fn claim_slots(&self, count: usize) -> Option<u64> {
        (0..SLOTS).step_by(count).find(|&slot| self.try_claim(slot, count)).map(address)
    }

    fn try_claim(&self, slot: usize, count: usize) -> bool {
        let mut claimed = 0;
        while claimed < count {
            let (index, mask) = mask(slot + claimed, count);
            let claim = |word| (word & mask == 0).then_some(word | mask);
            if self.taken[index].fetch_update(Ordering::Acquire, Ordering::Relaxed, claim).is_err() {
                self.release_slots(slot, claimed);
                return false;
            }
            claimed += mask.count_ones() as usize;
        }
        true
    }

    #[inline]
    fn release_slots(&self, slot: usize, count: usize) {
        let mut released = 0;
        while released < count {
            let (index, mask) = mask(slot + released, count);
            self.taken[index].fetch_and(!mask, Ordering::Release);
            released += mask.count_ones() as usize;
        }
    }
}

/// The word that `slot` is in, and the bits of it that `count` slots from there take: all of it if they fill it.
#[inline]
fn mask(slot: usize, count: usize) -> (usize, u64) {
    let bits = if count >= 64 { u64::MAX } else { ((1 << count) - 1) << (slot % 64) };
    (slot / 64, bits)
}

#[inline]
fn address(slot: usize) -> u64 {
    WINDOW_BASE + ((slot as u64) << SLOT_ORDER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_distinct_and_come_back() {
        let window = Window::new();
        let first: Vec<u64> = (0..200).filter_map(|_| window.claim(12)).collect();
        let expected: Vec<u64> = (0..200).map(address).collect();
        assert_eq!(first, expected);
        window.release(first[70], 12);
        assert_eq!(window.claim(SLOT_ORDER), Some(address(200)), "the hint points behind");
        for &slot in &first[..70] {
            window.release(slot, 12);
        }
        assert_eq!((0..SLOTS).filter_map(|_| window.claim(12)).count(), SLOTS - 201 + 71);
        assert_eq!(window.claim(12), None);
    }

    #[test]
    fn large_regions_are_aligned_and_do_not_overlap() {
        let window = Window::new();
        let small = window.claim(12).unwrap();
        for order in SLOT_ORDER + 1..=ORDER_MAX {
            let large = window.claim(order).unwrap();
            assert_eq!(large % (1 << order), 0, "order {order}");
            assert!(large > small);
            let again = window.claim(order).unwrap();
            assert!(again.abs_diff(large) >= 1 << order);
            window.release(large, order);
            assert_eq!(window.claim(order), Some(large));
            window.release(large, order);
            window.release(again, order);
        }
        assert_eq!(window.claim(ORDER_MAX + 1), None);
        let taken: u32 = window.taken.iter().map(|word| word.load(Ordering::Relaxed).count_ones()).sum();
        assert_eq!(taken, 1);
    }

    #[test]
    fn a_failed_claim_takes_nothing() {
        let window = Window::new();
        for slot in (0..SLOTS).step_by(512) {
            assert!(window.try_claim(slot + 511, 1));
        }
        assert_eq!(window.claim(ORDER_MAX), None);
        let taken: u32 = window.taken.iter().map(|word| word.load(Ordering::Relaxed).count_ones()).sum();
        assert_eq!(taken as usize, SLOTS / 512);
    }
}
