//! Stage-2 translation on this processor: its control register, and the TLB maintenance the rules ask for.

use core::arch::asm;

use aarch64_cpu::registers::VTCR_EL2;
use tock_registers::interfaces::Writeable;

use super::registers::{ID_AA64MMFR0_EL1, VTTBR_EL2};

/// Sets this processor's VTCR_EL2: 39-bit input, level-1 start, 4 KiB granule, inner-shareable write-back walks, no hardware
/// access or dirty flags (a region's table changes VMID, so nothing may be written into it behind our back).
pub fn configure() {
    let physical = ID_AA64MMFR0_EL1.get() & 0xf;
    VTCR_EL2.write(
        VTCR_EL2::RES1::SET
            + VTCR_EL2::PS.val(physical.min(5))
            + VTCR_EL2::TG0::Granule4KB
            + VTCR_EL2::SH0::Inner
            + VTCR_EL2::ORGN0::NormalWBRAWA
            + VTCR_EL2::IRGN0::NormalWBRAWA
            + VTCR_EL2::SL0::Granule4KBLevel1
            + VTCR_EL2::T0SZ.val(64 - u64::from(handover_abi::layout::IPA_BITS)),
    );
}

/// A root that maps nothing, for when no guest's translation is loaded: a walk that the processor makes on its own account while EL1's
/// registers are another guest's then finds nothing to cache.
#[repr(C, align(4096))]
struct EmptyRoot([u64; 512]);

static EMPTY_ROOT: EmptyRoot = EmptyRoot([0; 512]);

/// No guest's translation is loaded any more.
#[inline]
pub fn unload() {
    VTTBR_EL2.set(empty(0));
    step::isb();
}

#[inline(always)]
fn empty(vmid: u16) -> u64 {
    let root: u64;
    // SAFETY: the address of a static, and no more. As for `KERNEL`, one instruction reaches it.
    unsafe {
        asm!("adr {}, {}", out(reg) root, sym EMPTY_ROOT, options(pure, nomem, nostack, preserves_flags));
    }
    base(root, vmid)
}

/// VTTBR_EL2 for a root and a VMID.
pub fn base(root: u64, vmid: u16) -> u64 {
    root | u64::from(vmid) << 48
}

/// One step of TLB maintenance (Arm ARM D8.14, D8.15), on all processors of the inner shareable domain.
pub mod step {
    use super::asm;

    macro_rules! step {
        ($(#[$doc:meta])* $name:ident, $code:literal) => {
            $(#[$doc])*
            #[inline(always)]
            pub fn $name() {
                // SAFETY: TLB maintenance and barriers change no memory and no register.
                unsafe { asm!($code, options(nostack, preserves_flags)) }
            }
        };
        ($(#[$doc:meta])* $name:ident($value:ident), $code:literal) => {
            $(#[$doc])*
            #[inline(always)]
            pub fn $name($value: u64) {
                // SAFETY: TLB maintenance changes no memory and no register.
                unsafe { asm!($code, in(reg) $value, options(nostack, preserves_flags)) }
            }
        };
    }

    step!(
        /// Descriptor stores are visible to walkers.
        dsb_ishst, "dsb ishst");
    step!(
        /// Maintenance is complete everywhere.
        dsb_ish, "dsb ish");
    step!(
        /// This processor goes on with what is now true.
        isb, "isb");
    step!(
        /// Stage 1 and combined entries of the current VMID.
        tlbi_vmalle1, "tlbi vmalle1is");
    step!(
        /// Stage 1 and 2 of the current VMID.
        tlbi_vmalls12e1, "tlbi vmalls12e1is");
    step!(
        /// Stage 2 of one address (operand: IPA[51:12]), walk caches included.
        tlbi_ipas2e1(operand), "tlbi ipas2e1is, {}");
    step!(
        /// Stage 2 of a range of addresses (FEAT_TLBIRANGE; RIPAS2E1IS), walk caches included.
        tlbi_ripas2e1(operand), "sys #4, c8, c0, #2, {}");
}

/// Forgets, on this processor alone, what it has cached of the loaded guest: stage 1, both stages combined, instructions.
pub fn forget_guest_here() {
    // SAFETY: TLB and instruction cache maintenance, and barriers: neither memory nor registers change.
    unsafe { asm!("isb", "tlbi vmalle1", "ic iallu", "dsb nsh", "isb", options(nostack, preserves_flags)) }
}

/// Whether it is this VMID's TLB entries that maintenance here is about.
#[inline(always)]
pub fn has_vmid(vmid: u16) -> bool {
    VTTBR_EL2.get() >> 48 == u64::from(vmid)
}

/// Runs maintenance for a VMID: TLB maintenance looks at VTTBR_EL2's VMID, not at its root.
#[inline]
pub fn with_vmid(vmid: u16, work: impl FnOnce()) {
    if has_vmid(vmid) {
        work();
        return;
    }
    let current = VTTBR_EL2.get();
    VTTBR_EL2.set(empty(vmid));
    step::isb();
    work();
    VTTBR_EL2.set(current);
    step::isb();
}
