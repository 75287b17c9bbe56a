//! A thread's registers.

/// General registers and what an exception saves. `vectors.s` knows the order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Registers {
    /// x0 to x30.
    pub x: [u64; 31],
    /// The stack pointer.
    pub sp: u64,
    /// The program counter.
    pub pc: u64,
    /// The processor's state: flags.
    pub pstate: u64,
}

/// The bits of PSTATE that a program can choose: N, Z, C, V, DIT, SSBS, SS is not (Arm ARM C5.2.19).
const PSTATE_USER: u64 = 0xf << 28 | 1 << 24 | 1 << 12;

impl Registers {
    /// What a program may have as its state: EL0, AArch64, nothing masked.
    #[must_use]
    pub const fn user_pstate(pstate: u64) -> u64 {
        pstate & PSTATE_USER
    }
}

/// FP and SIMD registers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(16))]
pub struct Vectors {
    /// v0 to v31.
    pub v: [u128; 32],
    /// Status.
    pub fpsr: u64,
    /// Control.
    pub fpcr: u64,
}
