//! What the processor tells about its caches, and their maintenance.

use core::arch::asm;

use handover_core::Palette;
use handover_core::colour::{last_level, way_bytes};

use super::registers::{CCSIDR_EL1, CLIDR_EL1, CSSELR_EL1, CTR_EL0, ID_AA64MMFR2_EL1};
use super::stage2::step;

/// Bytes of a data cache line, the smallest in the system (`CTR_EL0.DminLine`).
pub fn line() -> u64 {
    4 << (CTR_EL0.get() >> 16 & 0xf)
}

/// Writes the line of an address back to the point of coherency, and drops it.
#[inline(always)]
pub fn clean_invalidate(at: u64) {
    // SAFETY: no value changes: what is dirty is written, and what is not comes from memory again.
    unsafe { asm!("dc civac, {}", in(reg) at, options(nostack, preserves_flags)) }
}

/// All cache maintenance of this processor's is done, for every observer.
#[inline(always)]
pub fn dsb_sy() {
    // SAFETY: a barrier.
    unsafe { asm!("dsb sy", options(nostack, preserves_flags)) }
}

/// The colours that this processor's last-level cache gives the machine's pages, if its sets are chosen by address bits as they are. Caches that
/// the processor does not list, behind its clusters, are not known here.
pub fn palette() -> Palette {
    let Some(level) = last_level(CLIDR_EL1.get()) else { return Palette::NONE };
    // Arm ARM D23.2.32: CCSIDR_EL1 is of the cache that CSSELR_EL1 names, bits 3:1 its level, bit 0 clear for data or unified.
    CSSELR_EL1.set(u64::from(level) << 1);
    step::isb();
    let wide = ID_AA64MMFR2_EL1.get() >> 20 & 0xf != 0;
    Palette::of_way(way_bytes(CCSIDR_EL1.get(), wide))
}
