//! Keys for pointer authentication.

use core::arch::asm;

macro_rules! write_keys {
    ($seed:ident: $($name:literal),*) => {
        $(
            $seed = $seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // SAFETY: the caller has seen that the processor has it, and no code of this guest uses the key.
            unsafe { asm!(concat!("msr ", $name, ", {}"), in(reg) $seed, options(nomem, nostack, preserves_flags)) };
        )*
    };
}

/// Gives this processor keys, if it has that feature, as every kernel of today does: each figure has their changing hands in it.
pub fn set() {
    let (isar1, isar2, mut seed): (u64, u64, u64);
    // SAFETY: reads registers.
    unsafe {
        asm!(
            "mrs {}, id_aa64isar1_el1", "mrs {}, id_aa64isar2_el1", "mrs {}, cntvct_el0",
            out(reg) isar1, out(reg) isar2, out(reg) seed, options(nomem, nostack, preserves_flags)
        );
    }
    // APA, API, GPA and GPI; GPA3 and APA3.
    if isar1 & 0xff00_0ff0 == 0 && isar2 & 0xff00 == 0 {
        return;
    }
    // APIA, APIB, APDA, APDB and APGA, low and high halves.
    write_keys!(seed:
        "s3_0_c2_c1_0", "s3_0_c2_c1_1", "s3_0_c2_c1_2", "s3_0_c2_c1_3", "s3_0_c2_c2_0", "s3_0_c2_c2_1", "s3_0_c2_c2_2",
        "s3_0_c2_c2_3", "s3_0_c2_c3_0", "s3_0_c2_c3_1"
    );
    // SAFETY: changes nothing that a program sees.
    unsafe { asm!("isb", options(nomem, nostack, preserves_flags)) };
}
