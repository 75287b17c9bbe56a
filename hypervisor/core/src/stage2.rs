//! Stage-2 translation: 4 KiB granule, 39-bit addresses, so that a root is one level-1 table of 512 GiB.

use crate::Pa;

/// How the processors interpret stage-2 memory attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// `HCR_EL2.FWB` is set (FEAT_S2FWB).
    pub fwb: bool,
}

/// Where an address leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The physical address.
    pub pa: Pa,
    /// Bytes from there to the end of the page or block.
    pub size: u64,
    /// Whether the partition may write there.
    pub writable: bool,
}
