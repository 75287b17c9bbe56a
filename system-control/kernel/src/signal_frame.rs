//! What a signal handler finds on its stack, and `rt_sigreturn` reads back: Linux's `rt_sigframe` for arm64, which is `siginfo` (128
//! bytes), `ucontext`, and a frame record.
//!
//! `ucontext` is flags, link, stack (40 bytes), mask (128 bytes), and, on a multiple of 16, `sigcontext`: fault address, x0 to x30,
//! sp, pc, pstate, and from the next multiple of 16 on 4096 bytes of records, of which the FP/SIMD one is written and the next
//! one says that there are no more.

use alloc::{vec, vec::Vec};

use crate::{
    registers::{Registers, Vectors},
    signal::{Info, Signal, SignalSet},
};

const UCONTEXT: usize = 128;
const UC_STACK: usize = UCONTEXT + 16;
const UC_MASK: usize = UCONTEXT + 40;
const SIGCONTEXT: usize = UCONTEXT + 176;
const REGISTERS: usize = SIGCONTEXT + 8;
const RECORDS: usize = SIGCONTEXT + 288;
const RECORDS_SIZE: usize = 4096;
/// `frame record`: x29 and x30, for whoever walks the stack.
const FRAME_RECORD: usize = RECORDS + RECORDS_SIZE;
/// Bytes of the whole frame.
pub const SIZE: usize = FRAME_RECORD + 16;

const FPSIMD_MAGIC: u32 = 0x4650_8001;
const FPSIMD_SIZE: usize = 528;
/// The bytes of a frame that are read back: up to the end of the FP/SIMD record.
pub const READ_SIZE: usize = RECORDS + FPSIMD_SIZE;

/// Where the frame of a handler's `siginfo` is, from the frame's start.
pub const SIGINFO_OFFSET: u64 = 0;
/// Where `ucontext` is.
pub const UCONTEXT_OFFSET: u64 = UCONTEXT as u64;
/// Where the frame record is.
pub const FRAME_RECORD_OFFSET: u64 = FRAME_RECORD as u64;

/// An alternative stack for handlers: Linux's `stack_t`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stack {
    /// Its lowest address.
    pub base: u64,
    /// SS_*.
    pub flags: u32,
    /// Its bytes.
    pub size: u64,
}

impl Stack {
    /// Bytes of `stack_t`.
    pub const SIZE: usize = 24;

    /// As `stack_t`.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Stack::SIZE] {
        let mut bytes = [0; Stack::SIZE];
        put(&mut bytes, 0, self.base);
        put(&mut bytes, 8, u64::from(self.flags));
        put(&mut bytes, 16, self.size);
        bytes
    }

    /// From `stack_t`.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; Stack::SIZE]) -> Stack {
        Stack { base: get(bytes, 0), flags: get(bytes, 8) as u32, size: get(bytes, 16) }
    }

    /// Whether an address is on it.
    #[must_use]
    pub fn holds(&self, address: u64) -> bool {
        self.size != 0 && address > self.base && address - self.base <= self.size
    }
}

/// What is saved while a handler runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Saved {
    /// The general registers.
    pub registers: Registers,
    /// The FP and SIMD registers.
    pub vectors: Vectors,
    /// What was masked.
    pub mask: SignalSet,
}

fn put(bytes: &mut [u8], at: usize, value: u64) {
    if let Some(place) = bytes.get_mut(at..at + 8) {
        place.copy_from_slice(&value.to_le_bytes());
    }
}

fn put_u32(bytes: &mut [u8], at: usize, value: u32) {
    if let Some(place) = bytes.get_mut(at..at + 4) {
        place.copy_from_slice(&value.to_le_bytes());
    }
}

fn get(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes)
}

fn get_u32(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_le_bytes)
}

/// The 128 bytes of `siginfo`.
#[must_use]
pub fn siginfo(signal: Signal, info: &Info) -> [u8; 128] {
    let mut bytes = [0; 128];
    put_u32(&mut bytes, 0, u32::from(signal.number()));
    put_u32(&mut bytes, 8, info.code as u32);
    put(&mut bytes, 16, info.value);
    if !signal.is_fault() {
        // After the process id, the user (root), and the status.
        put_u32(&mut bytes, 24, info.status as u32);
    }
    bytes
}

/// The whole frame, and the registers that the handler starts with but for its `pc`, `x30` and `sp`.
#[must_use]
pub fn build(signal: Signal, info: &Info, saved: &Saved, stack: Stack) -> Vec<u8> {
    let mut frame = vec![0; SIZE];
    if let Some(place) = frame.get_mut(..128) {
        place.copy_from_slice(&siginfo(signal, info));
    }
    if let Some(place) = frame.get_mut(UC_STACK..UC_STACK + Stack::SIZE) {
        place.copy_from_slice(&stack.to_bytes());
    }
    put(&mut frame, UC_MASK, saved.mask.0);
    if signal.is_fault() {
        put(&mut frame, SIGCONTEXT, info.value);
    }
    let registers = &saved.registers;
    for (index, &value) in
        registers.x.iter().chain([&registers.sp, &registers.pc, &registers.pstate]).enumerate()
    {
        put(&mut frame, REGISTERS + 8 * index, value);
    }
    put_u32(&mut frame, RECORDS, FPSIMD_MAGIC);
    put_u32(&mut frame, RECORDS + 4, FPSIMD_SIZE as u32);
    put_u32(&mut frame, RECORDS + 8, saved.vectors.fpsr as u32);
    put_u32(&mut frame, RECORDS + 12, saved.vectors.fpcr as u32);
    for (index, value) in saved.vectors.v.iter().enumerate() {
        put(&mut frame, RECORDS + 16 + 16 * index, *value as u64);
        put(&mut frame, RECORDS + 24 + 16 * index, (*value >> 64) as u64);
    }
    put(&mut frame, FRAME_RECORD, registers.x[29]);
    put(&mut frame, FRAME_RECORD + 8, registers.x[30]);
    frame
}

/// Reads a frame back; `None` if it is none.
#[must_use]
pub fn parse(frame: &[u8]) -> Option<Saved> {
    if frame.len() < READ_SIZE || get_u32(frame, RECORDS) != FPSIMD_MAGIC {
        return None;
    }
    if get_u32(frame, RECORDS + 4) != FPSIMD_SIZE as u32 {
        return None;
    }
    let mut registers = Registers::default();
    for (index, value) in registers.x.iter_mut().enumerate() {
        *value = get(frame, REGISTERS + 8 * index);
    }
    registers.sp = get(frame, REGISTERS + 8 * 31);
    registers.pc = get(frame, REGISTERS + 8 * 32);
    registers.pstate = Registers::user_pstate(get(frame, REGISTERS + 8 * 33));
    let mut vectors = Vectors {
        fpsr: u64::from(get_u32(frame, RECORDS + 8)),
        fpcr: u64::from(get_u32(frame, RECORDS + 12)),
        ..Vectors::default()
    };
    for (index, value) in vectors.v.iter_mut().enumerate() {
        let (low, high) = (get(frame, RECORDS + 16 + 16 * index), get(frame, RECORDS + 24 + 16 * index));
        *value = u128::from(high) << 64 | u128::from(low);
    }
    Some(Saved { registers, vectors, mask: SignalSet(get(frame, UC_MASK)).maskable() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved() -> Saved {
        let mut saved = Saved {
            registers: Registers { sp: 0x7000, pc: 0x40_0000, pstate: 0x6000_0000, ..Registers::default() },
            vectors: Vectors { fpsr: 0x10, fpcr: 0x40_0000, ..Vectors::default() },
            mask: SignalSet(0b101),
        };
        saved.registers.x.iter_mut().zip(1..).for_each(|(x, value)| *x = value);
        saved.vectors.v.iter_mut().zip(1u128..).for_each(|(v, value)| *v = value << 64 | value);
        saved
    }

    #[test]
    fn what_is_saved_comes_back() {
        let frame = build(Signal::TERM, &Info::default(), &saved(), Stack::default());
        assert_eq!(frame.len(), SIZE);
        assert_eq!(SIZE % 16, 0);
        assert_eq!(parse(&frame), Some(saved()));
        assert_eq!(parse(&frame[..READ_SIZE]), Some(saved()));
        assert_eq!(parse(&frame[..READ_SIZE - 1]), None);
    }

    #[test]
    fn a_handler_cannot_raise_its_privilege() {
        let mut frame = build(Signal::TERM, &Info::default(), &saved(), Stack::default());
        put(&mut frame, REGISTERS + 8 * 33, u64::MAX);
        put(&mut frame, UC_MASK, u64::MAX);
        let saved = parse(&frame).unwrap();
        assert_eq!(saved.registers.pstate & 0x3df, 0, "EL0, AArch64, nothing masked");
        assert!(!saved.mask.contains(Signal::KILL));
        frame[RECORDS] = 0;
        assert_eq!(parse(&frame), None);
    }

    #[test]
    fn offsets_are_linuxs() {
        use core::mem::offset_of;
        use linux_raw_sys::general::{sigaltstack, siginfo__bindgen_ty_1__bindgen_ty_1 as Header};
        assert_eq!(offset_of!(Header, si_code), 8);
        assert_eq!(offset_of!(Header, _sifields), 16);
        assert_eq!(size_of::<sigaltstack>(), Stack::SIZE);
        assert_eq!(offset_of!(sigaltstack, ss_size), 16);
        let info = Info { code: 1, value: 0xdead_beef_0000, status: 3 };
        let fault = build(Signal::SEGV, &info, &saved(), Stack::default());
        assert_eq!(get(&fault, 16), 0xdead_beef_0000);
        assert_eq!(get(&fault, SIGCONTEXT), 0xdead_beef_0000);
        assert_eq!(get_u32(&siginfo(Signal::CHLD, &info), 24), 3);
    }

    #[test]
    fn stacks() {
        let stack = Stack { base: 0x1000, flags: 0, size: 0x2000 };
        assert_eq!(Stack::from_bytes(&stack.to_bytes()), stack);
        assert!(stack.holds(0x3000) && stack.holds(0x1001));
        assert!(!stack.holds(0x1000) && !stack.holds(0x3001));
        assert!(!Stack::default().holds(0));
    }
}
