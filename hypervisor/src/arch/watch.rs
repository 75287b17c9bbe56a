//! Registers that a guest seldom writes: while its writes trap (FEAT_FGT), the copies of them that were saved last are true.

use super::registers::*;
use super::stage2;

/// What of a logical processor's registers is known without looking: bits of [`Context::kept`](super::context::Context::kept), and of what a physical
/// processor says of its own ([`Processor::kept`](crate::processor::Processor::kept)).
pub struct Kept;

impl Kept {
    /// Nothing: its writes do not trap.
    pub const NOTHING: u8 = 0;
    /// Writes to all that are watched trap.
    pub const QUIET: u8 = 1;
    /// And the seldom ones hold what a reset leaves: 0. Only with `QUIET`.
    pub const PLAIN: u8 = 2;
    /// And so do the keys, or there are none. Only with `QUIET`.
    pub const KEYLESS: u8 = 4;
}

/// HFGWTR_EL2 for a quiet one (Arm ARM D24.2, the register's own page): AMAIR, the five keys, CONTEXTIDR, CPACR, CSSELR, MAIR, SCTLR, TCR, TPIDR_EL1, TPIDRRO_EL0,
/// TPIDR_EL0, TTBR0, TTBR1, VBAR, at EL1 and EL0. MDSCR_EL1 traps anyway (MDCR_EL2.TDA).
const WATCHED: u64 = 1 << 3
    | 0x1f << 4
    | 1 << 11
    | 1 << 12
    | 1 << 13
    | 1 << 24
    | 1 << 29
    | 1 << 32
    | 1 << 33
    | 1 << 34
    | 1 << 35
    | 1 << 36
    | 1 << 37
    | 1 << 38;

/// Whether a register, by its op0, op1, CRn, CRm and op2, is one whose writes trap.
pub fn is_watched(name: (u8, u8, u8, u8, u8)) -> bool {
    matches!(
        name,
        // SCTLR, CPACR; TTBR0, TTBR1, TCR; APIA, APIB, APDA, APDB, APGA.
        (3, 0, 1, 0, 0 | 2) | (3, 0, 2, 0, 0..=2) | (3, 0, 2, 1 | 2, 0..=3) | (3, 0, 2, 3, 0 | 1)
            // MAIR, AMAIR; VBAR; CONTEXTIDR, TPIDR_EL1; TPIDR_EL0, TPIDRRO_EL0; CSSELR.
            | (3, 0, 10, 2 | 3, 0) | (3, 0, 12, 0, 0) | (3, 0, 13, 0, 1 | 4) | (3, 3, 13, 0, 2 | 3) | (3, 2, 0, 0, 0)
    )
}

/// Whether writes of the guest that runs here trap, from its next entry on.
pub fn trap(traps: bool) {
    HFGWTR_EL2.set(if traps { WATCHED } else { 0 });
}

/// Whether AFSR0_EL1 and AFSR1_EL1 are there. Where they are, hardware may write them, and they are saved each time. Before any guest runs.
pub fn has_auxiliary_status() -> bool {
    AFSR0_EL1.set(u64::MAX);
    AFSR1_EL1.set(u64::MAX);
    stage2::step::isb();
    let found = AFSR0_EL1.get() | AFSR1_EL1.get() != 0;
    AFSR0_EL1.set(0);
    AFSR1_EL1.set(0);
    found
}
