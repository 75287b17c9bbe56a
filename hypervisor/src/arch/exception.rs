//! Exceptions of guests: what they say, and how they are given back (Arm ARM D1.3, D24.2.40).

use super::context::Context;
use super::features;
use super::registers::*;

/// Exception classes (ESR_ELx.EC).
pub mod class {
    #![allow(missing_docs, reason = "the names are the Arm ARM's, Table D24.2.40")]
    pub const UNKNOWN: u64 = 0x00;
    pub const WFX: u64 = 0x01;
    pub const CP15: u64 = 0x03;
    pub const FP: u64 = 0x07;
    pub const HVC64: u64 = 0x16;
    pub const SYSTEM_REGISTER: u64 = 0x18;
    pub const INSTRUCTION_ABORT_LOWER: u64 = 0x20;
    pub const INSTRUCTION_ABORT_SAME: u64 = 0x21;
    pub const DATA_ABORT_LOWER: u64 = 0x24;
    pub const DATA_ABORT_SAME: u64 = 0x25;
}

/// The class and TI of ESR_EL2 for WFI (Arm ARM D24.2.40). WFE is not trapped; WFIT and WFET are hidden.
pub const WFI: u64 = class::WFX << 26;
/// ESR_EL2 of `hvc #0` (Arm ARM D24.2.40): its class, IL for an instruction of 32 bits, and the immediate.
pub const HVC: u64 = class::HVC64 << 26 | 1 << 25;
/// Synchronous external abort, not on a walk.
const FSC_EXTERNAL: u64 = 0x10;
/// Synchronous external abort on a walk, level 0 to 3 in the low bits.
const FSC_EXTERNAL_WALK: u64 = 0x14;

/// An ESR value taken apart.
#[derive(Clone, Copy)]
pub struct Syndrome(pub u64);

impl Syndrome {
    /// ESR_EL2 now.
    #[inline]
    pub fn read() -> Syndrome {
        Syndrome(ESR_EL2.get())
    }

    /// Exception class.
    #[inline]
    pub fn class(self) -> u64 {
        self.0 >> 26 & 0x3f
    }

    /// Instruction length: 1 for 32 bits.
    pub fn il(self) -> u64 {
        self.0 & 1 << 25
    }

    /// Instruction-specific syndrome.
    pub fn iss(self) -> u64 {
        self.0 & 0x1ff_ffff
    }

    /// A fault on the guest's own stage-1 walk.
    pub fn on_walk(self) -> bool {
        self.0 & 1 << 7 != 0
    }

    /// `hvc #0` from EL1: other immediates are no calls (DEN0028, 2.9).
    #[inline]
    pub fn is_hvc(self) -> bool {
        self.0 == HVC
    }

    /// Stage-2 translation fault (0b0001LL), for which HPFAR_EL2 holds the page; a permission fault need not fill it in.
    pub fn is_stage2_translation_fault(self) -> bool {
        self.0 & 0x3c == 0x04
    }
}

/// A data access that can be emulated (ISS.ISV = 1).
#[derive(Clone, Copy, Debug)]
pub struct DataAccess {
    /// Bytes: 1, 2, 4 or 8.
    pub size: u8,
    /// Register number; 31 is the zero register.
    pub register: usize,
    /// A store.
    pub write: bool,
    sign_extend: bool,
    wide: bool,
}

impl DataAccess {
    /// `None` when the syndrome does not describe the access.
    pub fn decode(syndrome: Syndrome) -> Option<DataAccess> {
        let iss = syndrome.iss();
        (iss & 1 << 24 != 0).then(|| DataAccess {
            size: 1 << (iss >> 22 & 3),
            register: (iss >> 16 & 31) as usize,
            write: iss & 1 << 6 != 0,
            sign_extend: iss & 1 << 21 != 0,
            wide: iss & 1 << 15 != 0,
        })
    }

    /// What a store writes.
    pub fn value(&self, context: &mut Context) -> u64 {
        let value = context.value(self.register);
        if self.size == 8 { value } else { value & ((1 << (8 * u32::from(self.size))) - 1) }
    }

    /// Finishes a load.
    pub fn complete(&self, context: &mut Context, value: u64) {
        let bits = 8 * u32::from(self.size);
        let mut value = if bits == 64 { value } else { value & ((1 << bits) - 1) };
        if self.sign_extend && bits < 64 && value >> (bits - 1) & 1 != 0 {
            value |= u64::MAX << bits;
        }
        if !self.wide {
            value &= 0xffff_ffff;
        }
        if let Some(register) = context.register(self.register) {
            *register = value;
        }
    }
}

/// The intermediate physical address of a stage-2 fault.
pub fn fault_ipa() -> u64 {
    (HPFAR_EL2.get() & 0xff_ffff_fff0) << 8 | FAR_EL2.get() & 0xfff
}

/// The guest's virtual address of the fault.
pub fn fault_va() -> u64 {
    FAR_EL2.get()
}

/// Where a virtual address leads by the tables of the guest that runs here, read at EL1; `None` where they lead nowhere. Its stage-2 tables
/// guard the walk, and PTW keeps it from devices, so that nothing but PAR_EL1 can come of it (Arm ARM D8.16).
pub fn stage1(va: u64) -> Option<u64> {
    const FAULT: u64 = 1;
    const PAGE_OFFSET: u64 = 0xfff;
    const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
    let before = PAR_EL1.get();
    // SAFETY: changes PAR_EL1 alone, which is put back.
    unsafe { core::arch::asm!("at s1e1r, {}", "isb", in(reg) va, options(nostack, preserves_flags)) };
    let result = PAR_EL1.get();
    PAR_EL1.set(before);
    (result & FAULT == 0).then_some(result & ADDRESS | va & PAGE_OFFSET)
}

/// Whether the guest was in AArch32 state (PSTATE.M[4]).
#[inline]
pub fn is_aarch32(context: &Context) -> bool {
    context.spsr & 1 << 4 != 0
}

/// Leaves the instruction behind that has been played for the guest, as executing it would: PSTATE.SS and BTYPE are used up.
#[inline]
pub fn skip(context: &mut Context) {
    const SS: u64 = 1 << 21;
    const BTYPE: u64 = 3 << 10;
    context.pc = context.pc.wrapping_add(4);
    context.spsr &= !(SS | BTYPE);
}

/// The exception vector at `offset` from VBAR_EL1, whose low bits are RES0.
pub fn vector(offset: u64) -> u64 {
    (VBAR_EL1.get() & !0x7ff).wrapping_add(offset)
}

/// Gives the guest an exception to EL1, as the processor would take it (D1.3.5, AArch64.TakeException).
fn inject(context: &mut Context, esr: u64, far: Option<u64>) {
    let sctlr = SCTLR_EL1.get();
    let offset = match context.spsr & 0x1f {
        0x05 => 0x200, // EL1h
        0x04 => 0x000, // EL1t
        0x00 => 0x400, // EL0, AArch64
        _ => 0x600,    // EL0, AArch32
    };
    ELR_EL1.set(context.pc);
    SPSR_EL1.set(context.spsr);
    ESR_EL1.set(esr);
    if let Some(far) = far {
        FAR_EL1.set(far);
    }
    const NZCV: u64 = 0xf << 28;
    const TCO: u64 = 1 << 25;
    const DIT: u64 = 1 << 24;
    const PAN: u64 = 1 << 22;
    const SSBS: u64 = 1 << 12;
    const DAIF: u64 = 0xf << 6;
    const SCTLR_DSSBS: u64 = 1 << 44;
    const SCTLR_SPAN: u64 = 1 << 23;
    let kept = if is_aarch32(context) { NZCV | PAN } else { NZCV | TCO | DIT | PAN };
    let mut spsr = context.spsr & kept | DAIF | 0x5;
    if sctlr & SCTLR_DSSBS != 0 {
        spsr |= SSBS;
    }
    // Without FEAT_PAN, SPAN is RES1.
    if sctlr & SCTLR_SPAN == 0 && features::has_pan() {
        spsr |= PAN;
    }
    context.spsr = spsr;
    context.pc = vector(offset);
}

/// The instruction is undefined to the guest.
pub fn inject_undefined(context: &mut Context) {
    inject(context, class::UNKNOWN << 26 | 1 << 25, None);
}

/// The guest touched what it does not own: a synchronous external abort, with its address, length and direction as the
/// hardware reported them.
pub fn inject_abort(context: &mut Context, syndrome: Syndrome, far: u64) {
    let from_el0 = context.spsr & 0xf == 0 || is_aarch32(context);
    let data = matches!(syndrome.class(), class::DATA_ABORT_LOWER | class::DATA_ABORT_SAME);
    let class = match (data, from_el0) {
        (true, true) => class::DATA_ABORT_LOWER,
        (true, false) => class::DATA_ABORT_SAME,
        (false, true) => class::INSTRUCTION_ABORT_LOWER,
        (false, false) => class::INSTRUCTION_ABORT_SAME,
    };
    let status = if syndrome.on_walk() { FSC_EXTERNAL_WALK | syndrome.iss() & 3 } else { FSC_EXTERNAL };
    // CM and WnR mean the same to the guest; everything about the emulated access does not concern it.
    let kept = if data { syndrome.iss() & (1 << 8 | 1 << 6) } else { 0 };
    // An instruction abort always reports IL = 1.
    let il = if data { syndrome.il() } else { 1 << 25 };
    inject(context, class << 26 | il | kept | status, Some(far));
}

/// A system register access (EC 0x18) that was trapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SystemAccess {
    /// op0, op1, CRn, CRm, op2.
    pub name: (u8, u8, u8, u8, u8),
    /// Register number; 31 is the zero register.
    pub register: usize,
    /// MRS.
    pub read: bool,
}

impl SystemAccess {
    /// From the syndrome.
    pub fn decode(syndrome: Syndrome) -> SystemAccess {
        let iss = syndrome.iss();
        SystemAccess {
            name: (
                (iss >> 20 & 3) as u8,
                (iss >> 14 & 7) as u8,
                (iss >> 10 & 15) as u8,
                (iss >> 1 & 15) as u8,
                (iss >> 17 & 7) as u8,
            ),
            register: (iss >> 5 & 31) as usize,
            read: iss & 1 != 0,
        }
    }
}
