//! The control OS's own address space: everything at its physical address, nothing both writable and executable.

use core::arch::asm;
use core::cell::UnsafeCell;

use aarch64_cpu::registers::{MAIR_EL2, SCTLR_EL2, TCR_EL2, TTBR0_EL2};
use tock_registers::interfaces::Writeable;

use super::registers::ID_AA64MMFR0_EL1;

/// Tables there are; each maps 512 entries. Enough for the image in pages and for memory and devices in blocks.
const TABLES: usize = 40;
const ENTRIES: usize = 512;
/// 48-bit addresses: four levels from level 0.
const ADDRESS_BITS: u64 = 48;

/// Bits of TCR_EL2 and SCTLR_EL2 that are RES1 with HCR_EL2.E2H = 0 (Arm ARM D24.2.175, D24.2.152).
const TCR_RES1: u64 = 1 << 31 | 1 << 23;
const SCTLR_RES1: u64 = 0x30c5_0830;

/// What a mapping is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Code.
    Execute,
    /// Constants.
    Read,
    /// Memory.
    Write,
    /// Device registers (nGnRE).
    Device,
}

impl Access {
    /// Lower and upper attributes of a stage-1 block or page descriptor at EL2 (Arm ARM D8.3.1, D8.4.1).
    const fn attributes(self) -> u64 {
        const AF: u64 = 1 << 10;
        const INNER_SHAREABLE: u64 = 3 << 8;
        const READ_ONLY: u64 = 2 << 6;
        const RES1_AP1: u64 = 1 << 6;
        const XN: u64 = 1 << 54;
        const DEVICE: u64 = 1 << 2;
        match self {
            Access::Execute => AF | INNER_SHAREABLE | READ_ONLY | RES1_AP1,
            Access::Read => AF | INNER_SHAREABLE | READ_ONLY | RES1_AP1 | XN,
            Access::Write => AF | INNER_SHAREABLE | RES1_AP1 | XN,
            Access::Device => AF | RES1_AP1 | XN | DEVICE,
        }
    }
}

#[repr(C, align(4096))]
struct Tables(UnsafeCell<[[u64; ENTRIES]; TABLES]>);

// SAFETY: written only by `Mapper`, of which the boot processor makes one, before the others start.
unsafe impl Sync for Tables {}

static TABLES_MEMORY: Tables = Tables(UnsafeCell::new([[0; ENTRIES]; TABLES]));

/// MAIR_EL2, TCR_EL2, TTBR0_EL2 and SCTLR_EL2, for the other processors (`start.s`).
#[repr(C)]
pub struct Translation(UnsafeCell<[u64; 4]>);

// SAFETY: written once by the boot processor before the others start.
unsafe impl Sync for Translation {}

/// See [`Translation`].
pub static TRANSLATION: Translation = Translation(UnsafeCell::new([0; 4]));

/// Adds mappings; none is ever changed or taken away.
pub struct Mapper {
    used: usize,
}

const TABLE: u64 = 3;
const PAGE: u64 = 3;
const BLOCK: u64 = 1;
const ADDRESS: u64 = 0x0000_ffff_ffff_f000;

impl Mapper {
    /// An empty address space.
    ///
    /// # Safety
    /// To be called once, on the boot processor.
    pub unsafe fn new() -> Mapper {
        Mapper { used: 1 }
    }

    fn table(&mut self, index: usize) -> &mut [u64; ENTRIES] {
        // SAFETY: this is the only `Mapper`, borrowed mutably; `index` is below `used`, which is at most TABLES.
        unsafe { &mut (*TABLES_MEMORY.0.get())[index] }
    }

    fn root() -> u64 {
        TABLES_MEMORY.0.get() as u64
    }

    /// Maps `[start, end)` at its own address. Both are multiples of 4096. Nothing may be mapped there yet.
    pub fn map(&mut self, start: u64, end: u64, access: Access) {
        let mut at = start;
        while at < end {
            let left = end - at;
            let shift = if at.is_multiple_of(1 << 30) && left >= 1 << 30 {
                30
            } else if at.is_multiple_of(1 << 21) && left >= 1 << 21 {
                21
            } else {
                12
            };
            self.map_one(at, shift, access);
            at += 1 << shift;
        }
        // SAFETY: a barrier: the walker sees the new entries from here on (D8.14.1).
        unsafe { asm!("dsb ishst", "isb", options(nostack, preserves_flags)) }
    }

    fn map_one(&mut self, at: u64, shift: u32, access: Access) {
        let mut table = 0;
        let mut level_shift = 39;
        while level_shift > shift {
            let index = (at >> level_shift) as usize % ENTRIES;
            let entry = self.table(table)[index];
            table = if entry & 1 == 0 {
                assert!(self.used < TABLES, "too few tables for the control OS's own address space");
                let fresh = self.used;
                self.used += 1;
                self.table(table)[index] = (Self::root() + 4096 * fresh as u64) | TABLE;
                fresh
            } else {
                ((entry & ADDRESS) - Self::root()) as usize / 4096
            };
            level_shift -= 9;
        }
        let index = (at >> shift) as usize % ENTRIES;
        let kind = if shift == 12 { PAGE } else { BLOCK };
        self.table(table)[index] = at | access.attributes() | kind;
    }

    /// Turns the MMU and the caches on, here, and lays the same out for the other processors.
    pub fn enable(&mut self) {
        let mair = MAIR_EL2::Attr0_Normal_Outer::WriteBack_NonTransient_ReadWriteAlloc
            + MAIR_EL2::Attr0_Normal_Inner::WriteBack_NonTransient_ReadWriteAlloc
            + MAIR_EL2::Attr1_Device::nonGathering_nonReordering_EarlyWriteAck;
        let physical = ID_AA64MMFR0_EL1.get() & 0xf;
        let tcr = TCR_EL2::PS.val(physical.min(5))
            + TCR_EL2::TG0::KiB_4
            + TCR_EL2::SH0::Inner
            + TCR_EL2::ORGN0::WriteBack_ReadAlloc_WriteAlloc_Cacheable
            + TCR_EL2::IRGN0::WriteBack_ReadAlloc_WriteAlloc_Cacheable
            + TCR_EL2::T0SZ.val(64 - ADDRESS_BITS);
        let sctlr = SCTLR_EL2::M::Enable
            + SCTLR_EL2::C::Cacheable
            + SCTLR_EL2::I::Cacheable
            + SCTLR_EL2::SA::Enable
            + SCTLR_EL2::WXN::Enable;
        let values = [mair.value, tcr.value | TCR_RES1, Self::root(), sctlr.value | SCTLR_RES1];
        // SAFETY: the tables map this code, the stack and all data at their own addresses; the others start later. They were written with the
        // caches off, so that no line of theirs can be dirty: stale ones go.
        unsafe {
            super::discard(Self::root(), (TABLES * 4096) as u64);
            *TRANSLATION.0.get() = values;
            MAIR_EL2.set(values[0]);
            TCR_EL2.set(values[1]);
            TTBR0_EL2.set(values[2]);
            asm!("dsb ish", "tlbi alle2", "dsb ish", "isb", options(nostack, preserves_flags));
            SCTLR_EL2.set(values[3]);
            asm!("isb", options(nostack, preserves_flags));
        }
    }
}

/// Makes what the boot processor wrote visible to processors that start with their caches off.
pub fn publish_translation() {
    super::clean(TRANSLATION.0.get() as u64, 32);
}
