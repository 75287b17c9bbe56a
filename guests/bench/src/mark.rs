//! Instructions that do nothing but be found in a record of what was executed (`cargo xtask bench --counts`). They are outside of what is measured.

use core::arch::asm;

macro_rules! mark {
    ($(#[$doc:meta])* $name:ident, $code:literal) => {
        $(#[$doc])*
        #[inline(always)]
        pub(crate) fn $name() {
            // SAFETY: a hint that no architecture version uses is a NOP.
            unsafe { asm!($code, options(nomem, nostack, preserves_flags)) }
        }
    };
}

mark!(
    /// A sample begins.
    begin, "hint #0x70");
mark!(
    /// A sample of the second of a pair begins.
    begin_second, "hint #0x71");
mark!(
    /// A sample is over.
    end, "hint #0x72");
mark!(
    /// A figure is about to be printed, of the samples before.
    told, "hint #0x73");
