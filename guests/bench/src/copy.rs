//! Copying as two loads and two stores of two registers each, six instructions for 32 bytes.

use core::arch::asm;

/// Bytes that are copied at once.
pub(crate) const BLOCK: usize = 32;

/// Copies `bytes`, which are a multiple of [`BLOCK`] and not 0.
///
/// # Safety
///
/// So many bytes must be readable at `from` and writable at `to`, and nothing but other partitions may write there meanwhile.
#[inline]
pub(crate) unsafe fn copy(to: u64, from: u64, bytes: usize) {
    debug_assert!(bytes > 0 && bytes.is_multiple_of(BLOCK));
    // SAFETY: the caller's promise; without `nomem`, so that the compiler knows that memory changes.
    unsafe {
        asm!(
            "2:",
            "ldp {a}, {b}, [{from}], #32",
            "ldp {c}, {d}, [{from}, #-16]",
            "stp {a}, {b}, [{to}], #32",
            "stp {c}, {d}, [{to}, #-16]",
            "subs {left}, {left}, #32",
            "b.ne 2b",
            a = out(reg) _,
            b = out(reg) _,
            c = out(reg) _,
            d = out(reg) _,
            from = inout(reg) from => _,
            to = inout(reg) to => _,
            left = inout(reg) bytes => _,
            options(nostack)
        );
    }
}
