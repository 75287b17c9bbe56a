//! TLB maintenance and barriers as data: what must happen after a descriptor changed, in which order.

use crate::{Ipa, PAGE};

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

/// Without range instructions, this many are taken one by one; more go with everything else of the VMID.
pub const SINGLE_MAX: u16 = 16;

impl Maintenance {
    /// Whether there are TLB instructions in it, which need the VMID in `VTTBR_EL2`.
    #[must_use]
    #[inline(always)]
    pub fn needs_vmid(self) -> bool {
        matches!(self, Maintenance::Unlink { .. } | Maintenance::All)
    }

    /// Calls `step` for each instruction, in order.
    #[inline(always)]
    pub fn perform(self, capabilities: Capabilities, mut step: impl FnMut(Step)) {
        // The new descriptor must be visible to every table walker before anything else.
        step(Step::DsbIshst);
        match self {
            Maintenance::Retire => return,
            Maintenance::Link => {}
            Maintenance::Unlink { at, order, entries } => {
                if entries == 1 {
                    step(Step::TlbiIpas2 { at });
                } else if capabilities.tlb_range {
                    // A power of two of pages, two or more, always is one instruction.
                    let exponent = order.saturating_sub(13);
                    step(Step::TlbiIpas2Range { at, scale: exponent / 5, num: (1 << (exponent % 5)) - 1 });
                } else if entries <= SINGLE_MAX {
                    let stride = if order <= 21 { PAGE } else { 1 << 21 };
                    for entry in 0..u64::from(entries) {
                        step(Step::TlbiIpas2 { at: at.plus(entry.wrapping_mul(stride)) });
                    }
                } else {
                    step(Step::TlbiVmalls12);
                    step(Step::DsbIsh);
                    step(Step::Isb);
                    return;
                }
                // Entries that combine both stages are found by neither form above (Arm ARM, D8.17), and may be made again from a
                // stage-2 entry until that is gone: hence the barrier between.
                step(Step::DsbIsh);
                step(Step::TlbiVmalle1);
                step(Step::DsbIsh);
            }
            Maintenance::All => {
                step(Step::TlbiVmalls12);
                step(Step::DsbIsh);
            }
        }
        step(Step::Isb);
    }
}
