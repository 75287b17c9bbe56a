//! Start code and vectors, and what each processor's EL2 registers hold.

use core::arch::global_asm;

use super::features::Capabilities;
use super::registers::*;
use super::{stage1, stage2};
use crate::processor::{STACK_SIZE, STACKS};

global_asm!(
    include_str!("start.s"),
    stacks = sym STACKS,
    stack_size = const STACK_SIZE,
    translation = sym stage1::TRANSLATION,
    boot_main = sym crate::boot_main,
    secondary_main = sym crate::secondary_main,
);

global_asm!(
    include_str!("vectors.s"),
    synchronous = sym crate::trap::synchronous,
    interrupt = sym crate::trap::interrupt,
    serror = sym crate::trap::serror,
    unexpected = sym crate::trap::unexpected,
);

unsafe extern "C" {
    static __image_start: u8;
    static __rodata_start: u8;
    static __data_start: u8;
    static __image_end: u8;
    static vectors: u8;
    fn secondary_start();
    /// `vectors.s`.
    pub fn enter_guest(context: *const super::context::Context) -> !;
}

/// Where the image lies.
pub struct Image {
    /// Code from here to `rodata`.
    pub start: u64,
    /// Constants from here to `data`.
    pub rodata: u64,
    /// Data and stacks from here to `end`.
    pub data: u64,
    /// Exclusive.
    pub end: u64,
}

impl Image {
    /// Of this image, page-aligned.
    pub fn find() -> Image {
        Image {
            start: (&raw const __image_start) as u64,
            rodata: (&raw const __rodata_start) as u64,
            data: (&raw const __data_start) as u64,
            end: (&raw const __image_end) as u64,
        }
    }
}

/// Where PSCI starts other processors.
pub fn secondary_entry() -> u64 {
    secondary_start as *const () as u64
}

/// HCR_EL2 while guests run.
mod hcr {
    #![allow(missing_docs, reason = "the bits are the Arm ARM's, D24.2.54")]
    pub const VM: u64 = 1 << 0;
    pub const SWIO: u64 = 1 << 1;
    pub const PTW: u64 = 1 << 2;
    pub const FMO: u64 = 1 << 3;
    pub const IMO: u64 = 1 << 4;
    pub const AMO: u64 = 1 << 5;
    pub const FB: u64 = 1 << 9;
    pub const BSU_INNER: u64 = 1 << 10;
    pub const TWI: u64 = 1 << 13;
    pub const TID3: u64 = 1 << 18;
    pub const TSC: u64 = 1 << 19;
    pub const TIDCP: u64 = 1 << 20;
    pub const TACR: u64 = 1 << 21;
    pub const RW: u64 = 1 << 31;
    pub const TLOR: u64 = 1 << 35;
    pub const TERR: u64 = 1 << 36;
    pub const APK: u64 = 1 << 40;
    pub const API: u64 = 1 << 41;
    pub const FWB: u64 = 1 << 46;
}

/// Sets this processor's EL2 up for guests: traps, stage 2, vectors, timers.
pub fn configure(capabilities: &Capabilities) {
    use hcr::*;
    let fwb = if capabilities.forced_write_back { FWB } else { 0 };
    let keys = if capabilities.pointer_authentication { APK | API } else { 0 };
    HCR_EL2.set(
        VM | SWIO
            | PTW
            | FMO
            | IMO
            | AMO
            | FB
            | BSU_INNER
            | TWI
            | TID3
            | TSC
            | TIDCP
            | TACR
            | RW
            | TLOR
            | TERR
            | fwb
            | keys,
    );
    if capabilities.hcrx {
        HCRX_EL2.set(0);
    }
    if capabilities.fine_grained_traps {
        for register in [&HFGRTR_EL2 as &dyn Register, &HFGWTR_EL2, &HFGITR_EL2, &HDFGRTR_EL2, &HDFGWTR_EL2] {
            register.set(0);
        }
    }
    VTCR_EL2.set(stage2::control());
    VTTBR_EL2.set(0);
    VPIDR_EL2.set(MIDR_EL1.get());
    HSTR_EL2.set(0);
    CPTR_EL2.set(CPTR_BASE | CPTR_TFP);
    // All debug and trace registers, the PMU: trapped. HPMN stays what it is: nobody uses the counters.
    const TPMCR: u64 = 1 << 5;
    const TPM: u64 = 1 << 6;
    const TDA: u64 = 1 << 9;
    const TDOSA: u64 = 1 << 10;
    const TDRA: u64 = 1 << 11;
    const TTRF: u64 = 1 << 19;
    MDCR_EL2.set(MDCR_EL2.get() & 0x1f | TPMCR | TPM | TDA | TDOSA | TDRA | TTRF);
    // EL1PCTEN = EL1PCEN = 0: the physical counter and timer are emulated.
    CNTHCTL_EL2.set(0);
    CNTVOFF_EL2.set(0);
    CNTV_CTL_EL0.set(0);
    CNTHP_CTL_EL2.set(0);
    VBAR_EL2.set((&raw const vectors) as u64);
    stage2::step::isb();
}

/// RES1 bits (among them TZ and TSM: SVE and SME trap), trace (TTA) and activity monitors (TAM).
const CPTR_BASE: u64 = 0x33ff | 1 << 20 | 1 << 30;
const CPTR_TFP: u64 = 1 << 10;

/// Whether FP/SIMD instructions of guests (and of EL2) trap.
#[inline]
pub fn trap_float(trap: bool) {
    CPTR_EL2.set(if trap { CPTR_BASE | CPTR_TFP } else { CPTR_BASE });
    stage2::step::isb();
}
