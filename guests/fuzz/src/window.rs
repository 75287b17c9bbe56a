//! Who maps what where in the message window: each processor has GiBs of its own, so that it knows what is mapped there.

use handover_guest::abi::layout::{
    ARCHIVE_BASE, GICD_BASE, MEMORY_BASE, UART_BASE, WINDOW_BASE, WINDOW_SIZE, WINDOW_SLOT,
};

use crate::random::Random;

pub(crate) const GIB: u64 = 1 << 30;
/// GiBs of a processor: one for small regions, two for large ones.
const OWN_GIBS: u64 = 3;
/// Slots of a processor's first GiB that it uses; not the first, which a large region would fit.
const SLOTS: u64 = 12;
/// Slots for regions that were stolen.
const CONTESTED: u64 = WINDOW_BASE + 64 * GIB;
/// Where nothing is mapped, ever.
pub(crate) const QUIET: u64 = WINDOW_BASE + 128 * GIB;
/// Bytes from [`QUIET`] on.
pub(crate) const QUIET_SIZE: u64 = 64 * GIB;
/// GiBs that no small region was ever mapped in: mapping one takes a table.
const FRESH: u64 = WINDOW_BASE + 192 * GIB;
/// How many.
pub(crate) const FRESH_GIBS: u64 = 64;

/// A GiB that may not have a table yet.
pub(crate) fn fresh(index: u64) -> u64 {
    FRESH + index % FRESH_GIBS * GIB + WINDOW_SLOT
}

/// A place for a stolen region.
pub(crate) fn contested(random: &mut Random) -> u64 {
    CONTESTED + (1 + random.below(SLOTS)) * WINDOW_SLOT
}

/// A processor's part of the window.
pub(crate) struct Slots(u64);

impl Slots {
    pub(crate) fn new(processor: usize) -> Slots {
        Slots(WINDOW_BASE + processor as u64 * OWN_GIBS * GIB)
    }

    /// The GiB with the small regions.
    pub(crate) fn base(&self) -> u64 {
        self.0
    }

    /// For a region of up to 2 MiB.
    pub(crate) fn small(&self, random: &mut Random) -> u64 {
        self.0 + (1 + random.below(SLOTS)) * WINDOW_SLOT
    }

    /// For a larger one.
    pub(crate) fn large(&self, random: &mut Random) -> u64 {
        self.0 + (1 + random.below(OWN_GIBS - 1)) * GIB
    }

    /// Mostly a place that a region of `1 << order` bytes fits; sometimes one that it does not, or that is none.
    pub(crate) fn address(&self, order: u8, random: &mut Random) -> u64 {
        match random.below(16) {
            0 => 0,
            1 | 2 => self.small(random),
            3 => nowhere(random),
            4..7 if order > 21 => 0,
            7..10 if order > 21 => self.small(random),
            _ if order > 21 => self.large(random),
            _ => self.small(random),
        }
    }
}

/// An address that is no place for a region.
pub(crate) fn nowhere(random: &mut Random) -> u64 {
    match random.below(16) {
        0 => MEMORY_BASE,
        1 => GICD_BASE,
        2 => UART_BASE,
        3 => ARCHIVE_BASE,
        4 => WINDOW_BASE - WINDOW_SLOT,
        5 => WINDOW_BASE + WINDOW_SIZE,
        6 => WINDOW_BASE + WINDOW_SIZE - 4096,
        7 => u64::MAX,
        8 => u64::MAX - WINDOW_SLOT + 1,
        9 => 1 << 63,
        10 => WINDOW_BASE + 1,
        11 => QUIET + 4096,
        12 => QUIET + WINDOW_SLOT / 2,
        // Odd: never a multiple of a slot.
        _ => random.next() | 1,
    }
}
