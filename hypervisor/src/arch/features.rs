//! What this processor can do, and what of it a guest is told (Arm ARM D23.2: the ID registers).
//!
//! A guest sees only what is switched with it, and what it can use without reaching anything shared. Everything not named
//! here, present or future, reads as absent.

use super::registers::*;
use super::watch;

/// What the control OS itself makes use of.
#[derive(Clone, Copy, Debug)]
pub struct Capabilities {
    /// FEAT_S2FWB: a guest cannot make memory non-cacheable.
    pub forced_write_back: bool,
    /// FEAT_TLBIRANGE: one TLBI for a range.
    pub tlb_range: bool,
    /// FEAT_PAuth: there are keys to switch.
    pub pointer_authentication: bool,
    /// FEAT_RNG: RNDR.
    pub random: bool,
    /// FEAT_HCX: HCRX_EL2.
    pub hcrx: bool,
    /// FEAT_FGT: fine-grained traps.
    pub fine_grained_traps: bool,
    /// FEAT_FGT2: more of them.
    pub fine_grained_traps_2: bool,
    /// FEAT_RAS.
    pub error_records: bool,
    /// FEAT_MPAM.
    pub memory_partitioning: bool,
    /// FEAT_EVT, as far as TLB maintenance: what goes to other processors traps apart.
    pub enhanced_traps: bool,
    /// Writes to registers that guests seldom write may trap ([`super::watch`]): FEAT_FGT, and what [`super::context`] needs for its shortest way.
    pub watched_writes: bool,
    /// FEAT_TLBIOS: TLB maintenance in the outer shareable domain.
    pub tlb_outer: bool,
}

/// FEAT_PAN.
pub fn has_pan() -> bool {
    field(ID_AA64MMFR1_EL1.get(), 20) != 0
}

fn field(value: u64, shift: u32) -> u64 {
    value >> shift & 0xf
}

impl Capabilities {
    /// Before they have been read.
    pub const NONE: Capabilities = Capabilities {
        forced_write_back: false,
        tlb_range: false,
        pointer_authentication: false,
        random: false,
        hcrx: false,
        fine_grained_traps: false,
        fine_grained_traps_2: false,
        error_records: false,
        memory_partitioning: false,
        enhanced_traps: false,
        watched_writes: false,
        tlb_outer: false,
    };

    /// Of the processor this runs on.
    pub fn read() -> Capabilities {
        let (isar0, isar1, isar2) = (ID_AA64ISAR0_EL1.get(), ID_AA64ISAR1_EL1.get(), ID_AA64ISAR2_EL1.get());
        let pfr0 = ID_AA64PFR0_EL1.get();
        let (mmfr0, mmfr1) = (ID_AA64MMFR0_EL1.get(), ID_AA64MMFR1_EL1.get());
        let pointer_authentication = isar1 & 0xff00_0ff0 != 0 || isar2 & 0xff00 != 0;
        let (fine_grained_traps, error_records) = (field(mmfr0, 56) != 0, field(pfr0, 28) != 0);
        Capabilities {
            forced_write_back: field(ID_AA64MMFR2_EL1.get(), 40) != 0,
            tlb_range: field(isar0, 56) >= 2,
            pointer_authentication,
            random: field(isar0, 60) != 0,
            hcrx: field(mmfr1, 40) != 0,
            fine_grained_traps,
            fine_grained_traps_2: field(mmfr0, 56) >= 2,
            error_records,
            memory_partitioning: field(pfr0, 40) != 0,
            enhanced_traps: field(ID_AA64MMFR2_EL1.get(), 56) >= 2,
            watched_writes: fine_grained_traps
                && pointer_authentication
                && error_records
                && !watch::has_auxiliary_status(),
            tlb_outer: field(isar0, 56) >= 1,
        }
    }
}

/// Keeps the named 4-bit fields of an ID register.
const fn keep(value: u64, shifts: &[u32]) -> u64 {
    let mut mask = 0;
    let mut i = 0;
    while i < shifts.len() {
        mask |= 0xf << shifts[i];
        i += 1;
    }
    value & mask
}

const fn at_most(value: u64, shift: u32, limit: u64) -> u64 {
    if value >> shift & 0xf > limit { value & !(0xf << shift) | limit << shift } else { value }
}

/// What a guest reads from the ID register `S3_0_C0_C<crm>_<op2>` (the space that HCR_EL2.TID3 traps).
pub fn guest_id(crm: u8, op2: u8) -> u64 {
    match (crm, op2) {
        // ID_AA64PFR0: AArch64 only, no EL2 or EL3; floating point, Advanced SIMD, GIC, DIT; CSV2 without its registers, CSV3.
        (4, 0) => {
            let value = at_most(keep(ID_AA64PFR0_EL1.get(), &[16, 20, 48, 56, 60]), 56, 1);
            value | 1 << 24 | 0x11
        }
        // ID_AA64PFR1: BTI and SSBS.
        (4, 1) => keep(ID_AA64PFR1_EL1.get(), &[0, 4]),
        // ID_AA64DFR0: the architecture's minimum of breakpoints, which read as zero; no PMU, trace, SPE; no double lock.
        (5, 0) => 0x6 | 1 << 12 | 1 << 20 | 0xf << 36,
        // ID_AA64ISAR0: everything but TME.
        (6, 0) => keep(ID_AA64ISAR0_EL1.get(), &[4, 8, 12, 16, 20, 28, 32, 36, 40, 44, 48, 52, 56, 60]),
        // ID_AA64ISAR1: everything but LS64 and XS.
        (6, 1) => ID_AA64ISAR1_EL1.get() & 0x00ff_ffff_ffff_ffff,
        // ID_AA64ISAR2: RPRES, GPA3, APA3, BC, PAC_frac, CLRBHB, PRFMSLC, RPRFM, CSSC.
        (6, 2) => keep(ID_AA64ISAR2_EL1.get(), &[4, 8, 12, 20, 24, 28, 40, 48, 52]),
        // ID_AA64MMFR0: 40 bits of physical address at most, no 52-bit granules, no FGT, no ECV.
        (7, 0) => {
            let value = keep(ID_AA64MMFR0_EL1.get(), &[0, 4, 8, 12, 16, 20, 24, 28, 44]);
            let value = at_most(at_most(value, 0, 2), 20, 1);
            // TGran4: 0 is supported, 1 is with 52 bits, 0xf is not.
            if field(value, 28) == 1 { value & !(0xf << 28) } else { value }
        }
        // ID_AA64MMFR1: HAFDBS, HPDS, PAN, SpecSEI, ETS, nTLBPA, ECBHB.
        // HAFDBS without what needs registers of its own (HAFT, HDBSS).
        (7, 1) => at_most(keep(ID_AA64MMFR1_EL1.get(), &[0, 12, 20, 24, 36, 48, 60]), 0, 2),
        // ID_AA64MMFR2: CnP, UAO, LSM, CCIDX, ST, AT, TTL, BBM, E0PD.
        (7, 2) => keep(ID_AA64MMFR2_EL1.get(), &[0, 4, 8, 20, 28, 32, 48, 52, 60]),
        _ => 0,
    }
}
