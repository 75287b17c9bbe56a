//! System registers and instructions that a guest has not.

use core::arch::asm;

use handover_guest::{
    Boot,
    fault::{self, Fault},
};

use crate::failure::{Failure, ensure, fail};

/// SMC is undefined: there is no EL3 for a guest.
pub(crate) fn smc(_: &Boot) -> Result<(), Failure> {
    for function in [0x8400_0000u64, 0x8000_0000, 0xc600_0000, 0xffff_ffff] {
        // SAFETY: PSCI_VERSION and the like, if anybody took it; SMCCC preserves the rest. A fault is caught.
        let result = fault::catch(|| unsafe {
            asm!(
                ".inst 0xd4000003", // smc #0
                inout("x0") function => _, out("x1") _, out("x2") _, out("x3") _, out("x4") _, out("x5") _, out("x6") _,
                out("x7") _, out("x8") _, out("x9") _, out("x10") _, out("x11") _, out("x12") _, out("x13") _,
                out("x14") _, out("x15") _, out("x16") _, out("x17") _,
                options(nostack)
            );
        });
        expect_undefined("SMC", result)?;
    }
    Ok(())
}

pub(crate) fn expect_undefined<T>(what: &str, result: Result<T, Fault>) -> Result<(), Failure> {
    match result {
        Err(fault) => {
            let undefined = fault.class() == Fault::CLASS_UNDEFINED && fault.esr & 0x1ff_ffff == 0;
            ensure!(undefined, "{what}: {fault} instead of an undefined instruction");
            Ok(())
        }
        Ok(_) => fail!("{what} is not undefined"),
    }
}

type Access = fn() -> Result<u64, Fault>;

/// Names, each with a function that reads the register.
macro_rules! readers {
    ($($name:literal = $register:literal),* $(,)?) => {
        [$(($name, (|| {
            // SAFETY: reading it changes nothing here, and a fault is caught.
            fault::catch(|| unsafe {
                let value: u64;
                asm!(concat!("mrs {}, ", $register), out(reg) value, options(nostack));
                value
            })
        }) as Access),)*]
    };
}

/// Names, each with a function that writes zero to the register.
macro_rules! writers {
    ($($name:literal = $register:literal),* $(,)?) => {
        [$(($name, (|| {
            // SAFETY: none of these changes what this program relies on, and a fault is caught.
            fault::catch(|| unsafe { asm!(concat!("msr ", $register, ", xzr"), options(nostack)) }).map(|()| 0)
        }) as Access),)*]
    };
}

/// A field of an ID register that must read as 0: the register's name, the field's, its lowest bit.
const HIDDEN: &[(&str, &str, u32)] = &[
    ("ID_AA64PFR0_EL1", "EL2", 8),
    ("ID_AA64PFR0_EL1", "EL3", 12),
    ("ID_AA64PFR0_EL1", "RAS", 28),
    ("ID_AA64PFR0_EL1", "SVE", 32),
    ("ID_AA64PFR0_EL1", "MPAM", 40),
    ("ID_AA64PFR0_EL1", "AMU", 44),
    ("ID_AA64PFR0_EL1", "RME", 52),
    ("ID_AA64PFR1_EL1", "MTE", 8),
    ("ID_AA64PFR1_EL1", "SME", 24),
    ("ID_AA64DFR0_EL1", "TraceVer", 4),
    ("ID_AA64DFR0_EL1", "PMUVer", 8),
    ("ID_AA64DFR0_EL1", "PMSVer", 32),
    ("ID_AA64DFR0_EL1", "TraceFilt", 40),
    ("ID_AA64DFR0_EL1", "TraceBuffer", 44),
    ("ID_AA64DFR0_EL1", "BRBE", 52),
    ("ID_AA64ISAR0_EL1", "TME", 24),
    ("ID_AA64MMFR0_EL1", "FGT", 56),
    ("ID_AA64MMFR1_EL1", "VH", 8),
    ("ID_AA64MMFR2_EL1", "NV", 24),
];

/// The ID registers tell of no feature that is not switched between partitions.
pub(crate) fn features(_: &Boot) -> Result<(), Failure> {
    let registers = readers! {
        "ID_AA64PFR0_EL1" = "s3_0_c0_c4_0", "ID_AA64PFR1_EL1" = "s3_0_c0_c4_1", "ID_AA64ZFR0_EL1" = "s3_0_c0_c4_4",
        "ID_AA64SMFR0_EL1" = "s3_0_c0_c4_5", "ID_AA64DFR0_EL1" = "s3_0_c0_c5_0", "ID_AA64DFR1_EL1" = "s3_0_c0_c5_1",
        "ID_AA64ISAR0_EL1" = "s3_0_c0_c6_0", "ID_AA64MMFR0_EL1" = "s3_0_c0_c7_0", "ID_AA64MMFR1_EL1" = "s3_0_c0_c7_1",
        "ID_AA64MMFR2_EL1" = "s3_0_c0_c7_2", "ID_AA64MMFR3_EL1" = "s3_0_c0_c7_3",
        "reserved 4.7" = "s3_0_c0_c4_7", "reserved 5.7" = "s3_0_c0_c5_7", "reserved 6.7" = "s3_0_c0_c6_7",
        "reserved 7.7" = "s3_0_c0_c7_7",
    };
    for (name, read) in registers {
        let value = match read() {
            Ok(value) => value,
            Err(fault) => fail!("{name}: {fault}"),
        };
        for (_, field, shift) in HIDDEN.iter().filter(|(register, ..)| *register == name) {
            let shown = value >> shift & 0xf;
            // 0xf: a PMU that is not the architecture's.
            ensure!(
                shown == 0 || (*field == "PMUVer" && shown == 0xf),
                "{name}.{field} is {shown:#x} in {value:#x}"
            );
        }
        let empty = name.starts_with("reserved") || name == "ID_AA64ZFR0_EL1" || name == "ID_AA64SMFR0_EL1";
        ensure!(!empty || value == 0, "{name} is {value:#x}, not 0");
    }
    Ok(())
}

/// Registers that are not there are undefined; those for debugging may be there, and do nothing.
pub(crate) fn unknown(_: &Boot) -> Result<(), Failure> {
    let absent = readers! {
        "an implementation's own (op1 0)" = "s3_0_c15_c2_0", "an implementation's own (op1 1)" = "s3_1_c15_c0_0",
        "an implementation's own (op1 3)" = "s3_3_c15_c0_0", "ZCR_EL1" = "s3_0_c1_c2_0", "SMCR_EL1" = "s3_0_c1_c2_6",
        "SVCR" = "s3_3_c4_c2_2", "TRFCR_EL1" = "s3_0_c1_c2_1", "RGSR_EL1" = "s3_0_c1_c0_5", "GCR_EL1" = "s3_0_c1_c0_6",
        "TFSR_EL1" = "s3_0_c5_c6_0", "PMCR_EL0" = "s3_3_c9_c12_0", "PMCCNTR_EL0" = "s3_3_c9_c13_0",
        "PMUSERENR_EL0" = "s3_3_c9_c14_0", "PMINTENSET_EL1" = "s3_0_c9_c14_1", "PMSCR_EL1" = "s3_0_c9_c9_0",
        "TRBLIMITR_EL1" = "s3_0_c9_c11_0", "AMCR_EL0" = "s3_3_c13_c2_0", "MPAM1_EL1" = "s3_0_c10_c5_0",
        "ERRSELR_EL1" = "s3_0_c5_c3_1", "HCR_EL2" = "s3_4_c1_c1_0", "VBAR_EL2" = "s3_4_c12_c0_0",
        "VTTBR_EL2" = "s3_4_c2_c1_0", "CNTVOFF_EL2" = "s3_4_c14_c0_3", "ICH_HCR_EL2" = "s3_4_c12_c11_0",
        "SCR_EL3" = "s3_6_c1_c1_0", "reserved" = "s3_0_c11_c7_5",
    };
    let absent_writes = writers! {
        "an implementation's own (op1 0)" = "s3_0_c15_c2_0", "ZCR_EL1" = "s3_0_c1_c2_0", "PMCR_EL0" = "s3_3_c9_c12_0",
        "PMCCNTR_EL0" = "s3_3_c9_c13_0", "GCR_EL1" = "s3_0_c1_c0_6", "HCR_EL2" = "s3_4_c1_c1_0",
        "VTTBR_EL2" = "s3_4_c2_c1_0", "ICH_HCR_EL2" = "s3_4_c12_c11_0", "reserved" = "s3_0_c11_c7_5",
    };
    with_vectors_enabled(|| {
        absent.iter().try_for_each(|(name, read)| expect_undefined(name, read()))?;
        absent_writes.iter().try_for_each(|(name, write)| expect_undefined(name, write()))
    })?;

    let debugging = readers! {
        "MDSCR_EL1" = "s2_0_c0_c2_2", "OSLSR_EL1" = "s2_0_c1_c1_4", "DBGBVR0_EL1" = "s2_0_c0_c0_4",
        "DBGBCR0_EL1" = "s2_0_c0_c0_5", "DBGWVR0_EL1" = "s2_0_c0_c0_6", "MDCCSR_EL0" = "s2_3_c0_c1_0",
    };
    let debugging_writes = writers! {
        "OSLAR_EL1" = "s2_0_c1_c0_4", "MDSCR_EL1" = "s2_0_c0_c2_2", "DBGBCR15_EL1" = "s2_0_c0_c15_5",
        "DBGWCR0_EL1" = "s2_0_c0_c0_7", "OSDLR_EL1" = "s2_0_c1_c3_4",
    };
    for (name, access) in debugging.into_iter().chain(debugging_writes) {
        if let Err(fault) = access() {
            ensure!(fault.class() == Fault::CLASS_UNDEFINED, "{name}: {fault}");
        }
    }
    Ok(())
}

/// ICC_SRE_EL1 says that system registers are all there is to the CPU interface, and cannot be told otherwise.
pub(crate) fn system_register_enable(_: &Boot) -> Result<(), Failure> {
    const SRE_DFB_DIB: u64 = 7;
    for written in [SRE_DFB_DIB, 0, u64::MAX] {
        // SAFETY: the write is ignored; were it not, this program would get no interrupts, and say so. A fault is caught.
        let read = fault::catch(|| unsafe {
            let value: u64;
            asm!("msr s3_0_c12_c12_5, {}", "isb", "mrs {}, s3_0_c12_c12_5", in(reg) written, out(reg) value,
                options(nostack));
            value
        });
        match read {
            Ok(value) => {
                ensure!(value == SRE_DFB_DIB, "ICC_SRE_EL1 is {value:#x} after {written:#x} was written")
            }
            Err(fault) => fail!("ICC_SRE_EL1: {fault}"),
        }
    }
    Ok(())
}

/// Calls `function` with CPACR_EL1 letting FP, SVE and SME registers through: else they trap to EL1 before anybody is asked.
fn with_vectors_enabled(function: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
    const ZEN_FPEN_SMEN: u64 = 3 << 16 | 3 << 20 | 3 << 24;
    // SAFETY: this program uses none of these registers.
    unsafe { asm!("msr cpacr_el1, {}", "isb", in(reg) ZEN_FPEN_SMEN, options(nomem, nostack)) };
    let result = function();
    // SAFETY: what the start code set.
    unsafe { asm!("msr cpacr_el1, xzr", "isb", options(nomem, nostack)) };
    result
}
