//! System registers that aarch64-cpu 11.2 lacks or knows only in part, in one form. Those it has in full are used from there.

/// A 64-bit system register, where it does not matter which.
pub trait Register {
    /// Writes it. The caller sees to what the value means and to the ISB, where one is due.
    fn set(&self, value: u64);
}

macro_rules! registers {
    ($($name:ident = $encoding:literal;)*) => { $(
        /// The register of that name in the Arm ARM (or, for `ICC_*` and `ICH_*`, in IHI 0069).
        #[allow(non_camel_case_types, clippy::upper_case_acronyms, reason = "the architecture's own name")]
        pub struct $name;

        impl $name {
            /// Reads it.
            #[inline(always)]
            #[allow(dead_code, reason = "some registers are only written")]
            pub fn get(&self) -> u64 {
                let value: u64;
                // SAFETY: reading this register has no effect on memory (ICC_IAR1 has one on the GIC, which is its purpose).
                unsafe { core::arch::asm!(concat!("mrs {}, ", $encoding), out(reg) value, options(nostack, preserves_flags)) };
                value
            }

            /// Writes it.
            #[inline(always)]
            #[allow(dead_code, reason = "some registers are only read")]
            pub fn set(&self, value: u64) {
                // SAFETY: none of these registers changes how EL2 itself addresses memory or executes, apart from those that
                // `stage1` and `start` write, at boot.
                unsafe { core::arch::asm!(concat!("msr ", $encoding, ", {}"), in(reg) value, options(nostack, preserves_flags)) }
            }
        }

        impl $name {
            /// Writes 0, for which no other register is needed.
            #[inline(always)]
            #[allow(dead_code, reason = "few registers are cleared often")]
            pub fn clear(&self) {
                // SAFETY: as for `set`.
                unsafe { core::arch::asm!(concat!("msr ", $encoding, ", xzr"), options(nostack, preserves_flags)) }
            }
        }

        impl Register for $name {
            fn set(&self, value: u64) { $name::set(self, value) }
        }
    )* };
}

registers! {
    // Interrupts.
    ICC_SRE_EL2 = "s3_4_c12_c9_5";
    ICC_SRE_EL1 = "s3_0_c12_c12_5";
    ICC_PMR_EL1 = "s3_0_c4_c6_0";
    ICC_CTLR_EL1 = "s3_0_c12_c12_4";
    ICC_IGRPEN1_EL1 = "s3_0_c12_c12_7";
    ICC_IAR1_EL1 = "s3_0_c12_c12_0";
    ICC_EOIR1_EL1 = "s3_0_c12_c12_1";
    ICC_DIR_EL1 = "s3_0_c12_c11_1";
    ICC_SGI1R_EL1 = "s3_0_c12_c11_5";
    ICH_HCR_EL2 = "s3_4_c12_c11_0";
    ICH_VTR_EL2 = "s3_4_c12_c11_1";
    ICH_ELRSR_EL2 = "s3_4_c12_c11_5";
    ICH_VMCR_EL2 = "s3_4_c12_c11_7";
    ICH_AP0R0_EL2 = "s3_4_c12_c8_0";
    ICH_AP1R0_EL2 = "s3_4_c12_c9_0";
    ICH_LR0_EL2 = "s3_4_c12_c12_0";
    ICH_LR1_EL2 = "s3_4_c12_c12_1";
    ICH_LR2_EL2 = "s3_4_c12_c12_2";
    ICH_LR3_EL2 = "s3_4_c12_c12_3";
    ICH_LR4_EL2 = "s3_4_c12_c12_4";
    ICH_LR5_EL2 = "s3_4_c12_c12_5";
    ICH_LR6_EL2 = "s3_4_c12_c12_6";
    ICH_LR7_EL2 = "s3_4_c12_c12_7";
    ICH_LR8_EL2 = "s3_4_c12_c13_0";
    ICH_LR9_EL2 = "s3_4_c12_c13_1";
    ICH_LR10_EL2 = "s3_4_c12_c13_2";
    ICH_LR11_EL2 = "s3_4_c12_c13_3";
    ICH_LR12_EL2 = "s3_4_c12_c13_4";
    ICH_LR13_EL2 = "s3_4_c12_c13_5";
    ICH_LR14_EL2 = "s3_4_c12_c13_6";
    ICH_LR15_EL2 = "s3_4_c12_c13_7";
    ISR_EL1 = "s3_0_c12_c1_0";

    // Timers.
    CNTPCT_EL0 = "s3_3_c14_c0_1";
    CNTFRQ_EL0 = "s3_3_c14_c0_0";
    CNTVOFF_EL2 = "s3_4_c14_c0_3";
    CNTHP_CTL_EL2 = "s3_4_c14_c2_1";
    CNTHP_CVAL_EL2 = "s3_4_c14_c2_2";
    CNTV_CTL_EL0 = "s3_3_c14_c3_1";
    CNTV_CVAL_EL0 = "s3_3_c14_c3_2";

    // Control of EL1 and EL0.
    VPIDR_EL2 = "s3_4_c0_c0_0";
    VMPIDR_EL2 = "s3_4_c0_c0_5";
    HCRX_EL2 = "s3_4_c1_c2_2";
    CPTR_EL2 = "s3_4_c1_c1_2";
    HSTR_EL2 = "s3_4_c1_c1_3";
    HFGRTR_EL2 = "s3_4_c1_c1_4";
    HFGWTR_EL2 = "s3_4_c1_c1_5";
    HFGITR_EL2 = "s3_4_c1_c1_6";
    HDFGRTR_EL2 = "s3_4_c3_c1_4";
    HDFGWTR_EL2 = "s3_4_c3_c1_5";
    VTTBR_EL2 = "s3_4_c2_c1_0";
    ESR_EL2 = "s3_4_c5_c2_0";
    FAR_EL2 = "s3_4_c6_c0_0";
    HPFAR_EL2 = "s3_4_c6_c0_4";
    ELR_EL2 = "s3_4_c4_c0_1";
    TPIDR_EL2 = "s3_4_c13_c0_2";

    VDISR_EL2 = "s3_4_c12_c1_1";
    VSESR_EL2 = "s3_4_c5_c2_3";
    MPAM2_EL2 = "s3_4_c10_c5_0";
    HFGRTR2_EL2 = "s3_4_c3_c1_2";
    HFGWTR2_EL2 = "s3_4_c3_c1_3";
    HDFGRTR2_EL2 = "s3_4_c3_c1_0";
    HDFGWTR2_EL2 = "s3_4_c3_c1_1";
    HFGITR2_EL2 = "s3_4_c3_c1_7";

    // EL1's own, switched with each logical processor.
    SP_EL0 = "s3_0_c4_c1_0";
    SP_EL1 = "s3_4_c4_c1_0";
    ELR_EL1 = "s3_0_c4_c0_1";
    SPSR_EL1 = "s3_0_c4_c0_0";
    SCTLR_EL1 = "s3_0_c1_c0_0";
    ESR_EL1 = "s3_0_c5_c2_0";
    FAR_EL1 = "s3_0_c6_c0_0";
    VBAR_EL1 = "s3_0_c12_c0_0";
    TTBR0_EL1 = "s3_0_c2_c0_0";
    TTBR1_EL1 = "s3_0_c2_c0_1";
    TCR_EL1 = "s3_0_c2_c0_2";
    PAR_EL1 = "s3_0_c7_c4_0";
    MDSCR_EL1 = "s2_0_c0_c2_2";
    AFSR0_EL1 = "s3_0_c5_c1_0";
    AFSR1_EL1 = "s3_0_c5_c1_1";

    // Performance monitors.
    PMCR_EL0 = "s3_3_c9_c12_0";
    PMCNTENSET_EL0 = "s3_3_c9_c12_1";
    PMCNTENCLR_EL0 = "s3_3_c9_c12_2";
    PMOVSCLR_EL0 = "s3_3_c9_c12_3";
    PMSELR_EL0 = "s3_3_c9_c12_5";
    PMCEID0_EL0 = "s3_3_c9_c12_6";
    PMCEID1_EL0 = "s3_3_c9_c12_7";
    PMXEVTYPER_EL0 = "s3_3_c9_c13_1";
    PMXEVCNTR_EL0 = "s3_3_c9_c13_2";
    PMINTENSET_EL1 = "s3_0_c9_c14_1";
    PMINTENCLR_EL1 = "s3_0_c9_c14_2";

    // Identification.
    MIDR_EL1 = "s3_0_c0_c0_0";
    MPIDR_EL1 = "s3_0_c0_c0_5";
    CLIDR_EL1 = "s3_1_c0_c0_1";
    CCSIDR_EL1 = "s3_1_c0_c0_0";
    CSSELR_EL1 = "s3_2_c0_c0_0";
    CTR_EL0 = "s3_3_c0_c0_1";
    DCZID_EL0 = "s3_3_c0_c0_7";
    ID_AA64PFR0_EL1 = "s3_0_c0_c4_0";
    ID_AA64PFR1_EL1 = "s3_0_c0_c4_1";
    ID_AA64DFR0_EL1 = "s3_0_c0_c5_0";
    ID_AA64ISAR0_EL1 = "s3_0_c0_c6_0";
    ID_AA64ISAR1_EL1 = "s3_0_c0_c6_1";
    ID_AA64ISAR2_EL1 = "s3_0_c0_c6_2";
    ID_AA64MMFR0_EL1 = "s3_0_c0_c7_0";
    ID_AA64MMFR1_EL1 = "s3_0_c0_c7_1";
    ID_AA64MMFR2_EL1 = "s3_0_c0_c7_2";
}

/// RNDR (D24.2.161): sets NZCV to 0b0100 when it has nothing to give.
pub fn random() -> Option<u64> {
    let (value, given): (u64, u64);
    // SAFETY: reads a register that FEAT_RNG adds, which the caller has seen, and the flags it sets.
    unsafe {
        core::arch::asm!("mrs {0}, s3_3_c2_c4_0", "cset {1}, ne", out(reg) value, out(reg) given, options(nomem, nostack))
    };
    (given != 0).then_some(value)
}
