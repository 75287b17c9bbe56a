//! TLB and cache maintenance and barriers as data: what must happen after a descriptor changed, or before another partition sees memory, in which order.

use crate::{Ipa, PAGE, Pa};

/// What changed in a stage-2 translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maintenance {
    /// An invalid descriptor became valid.
    Link,
    /// A valid descriptor was cleared, and with it `1 << order` bytes at `at`: one leaf, or `entries` leaves of a table that it pointed to.
    Unlink {
        /// First address.
        at: Ipa,
        /// log2 of the bytes, 12 to 30.
        order: u8,
        /// Leaves that may be cached, 1 to 512.
        entries: u16,
    },
    /// Anything in the partition's translation.
    All,
    /// The last descriptors of a table that no walk reaches were cleared, and its frame is about to be used for something else, perhaps another
    /// table. Concerns no VMID: it is passed as 0.
    Retire,
}

/// What the processors can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// FEAT_TLBIRANGE: `TLBI RIPAS2E1IS`.
    pub tlb_range: bool,
    /// FEAT_S2FWB: guests cannot look past the caches.
    pub forced_write_back: bool,
    /// Bytes of a data cache line, the smallest in the system: a power of two.
    pub cache_line: u64,
}

/// One instruction. The TLB instructions apply to the VMID that the maintenance is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// `DSB ISHST`
    DsbIshst,
    /// `DSB ISH`
    DsbIsh,
    /// `ISB`
    Isb,
    /// `TLBI IPAS2E1IS`, the non-leaf form: what was cached of this address's walk goes too.
    TlbiIpas2 {
        /// An address in the page or block.
        at: Ipa,
    },
    /// `TLBI RIPAS2E1IS`, the non-leaf form: `(num + 1) << (5 * scale + 1)` pages of 4 KiB.
    TlbiIpas2Range {
        /// First address.
        at: Ipa,
        /// SCALE, 0 to 3.
        scale: u8,
        /// NUM, 0 to 31.
        num: u8,
    },
    /// `TLBI VMALLS12E1IS`: both stages.
    TlbiVmalls12,
    /// `TLBI VMALLE1IS`: stage 1 and combined entries.
    TlbiVmalle1,
}

/// Who carries steps out. A function can, but the compiler may put it out of line for each of them.
pub trait Steps {
    /// The next one.
    fn step(&mut self, step: Step);
}

impl<F: FnMut(Step)> Steps for F {
    #[inline(always)]
    fn step(&mut self, step: Step) {
        self(step);
    }
}

/// Without range instructions, this many are taken one by one; more go with everything else of the VMID.
pub const SINGLE_MAX: u16 = 16;

/// By log2 of the bytes from 8 KiB on: how many pages one instruction says that there are, `(num + 1) << (5 * scale + 1)`; `num` in the lower five
/// bits. A power of two, two or more, always is one instruction.
#[expect(clippy::indexing_slicing, reason = "at compile time")]
const RANGES: [u8; 32] = {
    let mut ranges = [0; 32];
    let mut order = 13;
    while order < ranges.len() {
        let exponent = order - 13;
        ranges[order] = ((exponent / 5) << 5 | ((1 << (exponent % 5)) - 1)) as u8;
        order += 1;
    }
    ranges
};

impl Maintenance {
    /// Whether there are TLB instructions in it, which need the VMID in `VTTBR_EL2`.
    #[must_use]
    #[inline(always)]
    pub fn needs_vmid(self) -> bool {
        matches!(self, Maintenance::Unlink { .. } | Maintenance::All)
    }

    /// Has each instruction carried out, in order.
    #[inline(always)]
    pub fn perform(self, capabilities: Capabilities, mut steps: impl Steps) {
        // The new descriptor must be visible to every table walker before anything else.
        steps.step(Step::DsbIshst);
        match self {
            Maintenance::Retire => return,
            Maintenance::Link => {}
            Maintenance::Unlink { at, order, entries } => {
                if entries == 1 {
                    steps.step(Step::TlbiIpas2 { at });
                } else if capabilities.tlb_range {
                    let range = RANGES.get(usize::from(order) % RANGES.len()).copied().unwrap_or(0);
                    steps.step(Step::TlbiIpas2Range { at, scale: range >> 5, num: range & 31 });
                } else if entries <= SINGLE_MAX {
                    let stride = if order <= 21 { PAGE } else { 1 << 21 };
                    for entry in 0..u64::from(entries) {
                        steps.step(Step::TlbiIpas2 { at: at.plus(entry.wrapping_mul(stride)) });
                    }
                } else {
                    steps.step(Step::TlbiVmalls12);
                    steps.step(Step::DsbIsh);
                    steps.step(Step::Isb);
                    return;
                }
                // Entries that combine both stages are found by neither form above (Arm ARM, D8.17), and may be made again from a
                // stage-2 entry until that is gone: hence the barrier between.
                steps.step(Step::DsbIsh);
                steps.step(Step::TlbiVmalle1);
                steps.step(Step::DsbIsh);
            }
            Maintenance::All => {
                steps.step(Step::TlbiVmalls12);
                steps.step(Step::DsbIsh);
            }
        }
        steps.step(Step::Isb);
    }
}

/// Memory that a partition has reached, or the control OS has written, and that another partition may reach next, by whatever attributes its own
/// translation gives it.
///
/// Where stage 2 does not force write-back, what a guest wrote may be in the caches and not in memory, or in memory and not in the caches, where an
/// older line may stand before it (Arm ARM B2.10, mismatched attributes). So the lines are written back and go. The control OS has all memory mapped
/// write-back and may bring them in again at any time, but then they are what memory holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheMaintenance {
    /// The lines of some memory.
    Range {
        /// First byte, a multiple of 4096.
        at: Pa,
        /// Bytes, a multiple of 4096.
        size: u64,
    },
    /// All that this processor has begun is done. A barrier waits for no other's maintenance, so each step of a call ends with it: the next may be another
    /// processor's.
    Complete,
}

/// One instruction of cache maintenance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheStep {
    /// `DC CIVAC`: cleans and invalidates the line of this address to the point of coherency.
    CleanInvalidate {
        /// First byte of the line.
        at: Pa,
    },
    /// `DSB SY`: the lines are done for every observer (Arm ARM D7.5.9).
    DsbSy,
}

impl CacheMaintenance {
    /// Calls `step` for each instruction, in order: none where stage 2 forces write-back.
    #[inline]
    pub fn perform(self, capabilities: Capabilities, mut step: impl FnMut(CacheStep)) {
        if capabilities.forced_write_back {
            return;
        }
        match self {
            CacheMaintenance::Range { at, size } => {
                for offset in (0..size).step_by(capabilities.cache_line.max(1) as usize) {
                    step(CacheStep::CleanInvalidate { at: at.plus(offset) });
                }
            }
            CacheMaintenance::Complete => step(CacheStep::DsbSy),
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use std::vec::Vec;

    fn steps(forced_write_back: bool, cache_line: u64) -> Vec<CacheStep> {
        let mut steps = Vec::new();
        let capabilities = Capabilities { tlb_range: true, forced_write_back, cache_line };
        for op in
            [CacheMaintenance::Range { at: Pa::new(0x8000_0000), size: 2 * PAGE }, CacheMaintenance::Complete]
        {
            op.perform(capabilities, |step| steps.push(step));
        }
        steps
    }

    #[test]
    fn every_line_goes_once_and_then_all_are_waited_for() {
        for line in [16, 64, 2048] {
            let steps = steps(false, line);
            assert_eq!(steps.len() as u64, 2 * PAGE / line + 1);
            assert_eq!(steps.last(), Some(&CacheStep::DsbSy));
            for (n, step) in (0..2 * PAGE / line).zip(&steps) {
                assert_eq!(*step, CacheStep::CleanInvalidate { at: Pa::new(0x8000_0000 + n * line) });
            }
        }
    }

    #[test]
    fn nothing_is_cleaned_where_write_back_is_forced() {
        assert_eq!(steps(true, 64), []);
    }
}
