//! The processor: all assembly and all system registers.

pub mod table;

use core::{
    arch::{asm, global_asm},
    ptr,
};

use handover_guest::{Status, mapping, println, start};
use handover_kernel::registers::{Registers, Vectors};

global_asm!(include_str!("vectors.s"));

unsafe extern "C" {
    fn unix_take_over(then: extern "C" fn() -> !) -> !;
    fn unix_resume(registers: *const Registers) -> !;
    fn unix_save_vectors(vectors: *mut Vectors);
    fn unix_load_vectors(vectors: *const Vectors);
    static unix_trampoline: [u8; 8];
}

/// SCTLR_EL1: UCI, UCT, DZE let programs clean caches to the point of unification and zero blocks; SPAN clear sets PAN at each
/// exception. WFI and WFE of programs trap (nTWI, nTWE clear).
mod sctlr {
    pub(super) const UCI: u64 = 1 << 26;
    pub(super) const SPAN: u64 = 1 << 23;
    pub(super) const UCT: u64 = 1 << 15;
    pub(super) const DZE: u64 = 1 << 14;
    pub(super) const N_TWE: u64 = 1 << 18;
    pub(super) const N_TWI: u64 = 1 << 16;
}

/// What the code at EL0 that returns from a signal handler consists of.
pub fn trampoline() -> [u8; 8] {
    // SAFETY: constant bytes that `vectors.s` defines.
    unsafe { unix_trampoline }
}

/// Makes the rest of the start code's stack the kernel's, with the kernel's own exception vectors, and goes on with `then`.
pub fn take_over(then: extern "C" fn() -> !) -> ! {
    let mut control: u64;
    // SAFETY: reads registers.
    let pan = unsafe {
        let features: u64;
        asm!("mrs {}, sctlr_el1", out(reg) control, options(nomem, nostack, preserves_flags));
        asm!("mrs {}, id_aa64mmfr1_el1", out(reg) features, options(nomem, nostack, preserves_flags));
        features >> 20 & 0xf != 0
    };
    control |= sctlr::UCI | sctlr::UCT | sctlr::DZE;
    control &= !(sctlr::N_TWE | sctlr::N_TWI);
    if pan {
        // Without FEAT_PAN the bit is reserved as one.
        control &= !sctlr::SPAN;
    }
    // SAFETY: CPACR_EL1.FPEN lets programs use FP and SIMD registers, which the kernel's own code never touches; CNTKCTL_EL1.EL0VCTEN
    // lets them read the virtual counter. SCTLR_EL1 changes for programs alone, of which none runs yet.
    unsafe {
        asm!(
            "msr sctlr_el1, {control}", "msr cpacr_el1, {fpen}", "msr cntkctl_el1, {counter}", "isb",
            control = in(reg) control, fpen = in(reg) 3u64 << 20, counter = in(reg) 2u64,
            options(nostack, preserves_flags)
        );
        unix_take_over(then)
    }
}

/// Lets a program go on.
///
/// # Safety
///
/// The registers must be a live thread's whose address space is in place, and stay where they are until its next exception; nothing on
/// the kernel's stack may be needed any more.
pub unsafe fn resume(registers: *const Registers) -> ! {
    // SAFETY: the caller's promise.
    unsafe { unix_resume(registers) }
}

/// Saves the FP and SIMD registers.
pub fn save_vectors(vectors: &mut Vectors) {
    // SAFETY: writes the structure, whose layout `vectors.s` knows.
    unsafe { unix_save_vectors(vectors) }
}

/// Loads the FP and SIMD registers.
pub fn load_vectors(vectors: &Vectors) {
    // SAFETY: reads the structure; the kernel itself has nothing in these registers.
    unsafe { unix_load_vectors(vectors) }
}

/// TPIDR_EL0: a program's thread pointer.
pub fn thread_pointer() -> u64 {
    let value: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mrs {}, tpidr_el0", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// Sets TPIDR_EL0.
pub fn set_thread_pointer(value: u64) {
    // SAFETY: the kernel does not use the register.
    unsafe { asm!("msr tpidr_el0, {}", in(reg) value, options(nomem, nostack, preserves_flags)) };
}

/// FAR_EL1: the address of an abort.
pub fn fault_address() -> u64 {
    let address: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mrs {}, far_el1", out(reg) address, options(nomem, nostack, preserves_flags)) };
    address
}

/// Puts an address space in place: its root table and its ASID.
pub fn set_address_space(root: u64, asid: u16) {
    // SAFETY: TTBR0_EL1 translates programs' addresses alone; the kernel is in the upper half.
    unsafe {
        asm!("msr ttbr0_el1, {}", "isb", in(reg) root | u64::from(asid) << 48, options(nostack, preserves_flags))
    };
}

/// Forgets one page's translation. The processor is the only one.
pub fn forget_page(asid: u16, address: u64) {
    let operand = u64::from(asid) << 48 | address >> 12 & 0xfff_ffff_ffff;
    // SAFETY: forgets what the table, written before the DSB, says anew.
    unsafe {
        asm!("dsb ishst", "tlbi vae1, {}", "dsb ish", "isb", in(reg) operand, options(nostack, preserves_flags))
    };
}

/// Forgets an address space's translations.
pub fn forget_all(asid: u16) {
    let operand = u64::from(asid) << 48;
    // SAFETY: as for `forget_page`.
    unsafe {
        asm!("dsb ishst", "tlbi aside1, {}", "dsb ish", "isb", in(reg) operand, options(nostack, preserves_flags))
    };
}

/// Forgets everything; for the start, when the lower half still has the start code's global entries.
pub fn forget_everything() {
    // SAFETY: as for `forget_page`.
    unsafe { asm!("dsb ishst", "tlbi vmalle1", "dsb ish", "isb", options(nostack, preserves_flags)) };
}

/// Makes what was written to a page the instructions that are fetched from it (Arm ARM B2.4.4).
pub fn synchronize_code(page: usize, bytes: usize) {
    let control: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mrs {}, ctr_el0", out(reg) control, options(nomem, nostack, preserves_flags)) };
    let data_line = 4usize << (control >> 16 & 0xf);
    for line in (page..page + bytes).step_by(data_line) {
        // SAFETY: cleans a line of mapped memory, which changes no value.
        unsafe { asm!("dc cvau, {}", in(reg) line, options(nostack, preserves_flags)) };
    }
    // SAFETY: drops what can be fetched again.
    unsafe { asm!("dsb ish", "ic iallu", "dsb ish", "isb", options(nostack, preserves_flags)) };
}

/// ID_AA64ISAR0_EL1, as the control OS lets it through.
pub fn instruction_set() -> u64 {
    let value: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mrs {}, id_aa64isar0_el1", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// A frame's bytes, where the kernel has all memory mapped.
pub fn frame(physical: u64) -> *mut u8 {
    ptr::with_exposed_provenance_mut(mapping::address(physical))
}

#[unsafe(no_mangle)]
extern "C" fn unix_kernel_exception(esr: u64, elr: u64, far: u64) -> ! {
    println!("system-control: a fault of the kernel's own: ESR={esr:#x} ELR={elr:#x} FAR={far:#x}");
    start::end(Status::FAULT)
}
