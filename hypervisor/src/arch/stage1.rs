//! The control OS's own address space: everything at its physical address, nothing both writable and executable.

use core::arch::asm;
use core::cell::UnsafeCell;

use super::registers::*;

/// Tables there are; each maps 512 entries. Enough for the image in pages and for memory and devices in blocks.
const TABLES: usize = 40;
const ENTRIES: usize = 512;
/// 48-bit addresses: four levels from level 0.
const ADDRESS_BITS: u64 = 48;

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
        // Attribute 0: normal, write-back, allocating. Attribute 1: device nGnRE.
        let mair = 0x04ff;
        let size = ID_AA64MMFR0_EL1.get() & 0xf;
        // Inner-shareable, write-back walks; RES1 bits 31 and 23 (D23.2.175).
        let tcr = 1 << 31 | 1 << 23 | size.min(5) << 16 | 3 << 12 | 1 << 10 | 1 << 8 | (64 - ADDRESS_BITS);
        // M, C, SA, I, WXN, and the RES1 bits.
        let sctlr = 0x30c5_0830 | 1 | 1 << 2 | 1 << 3 | 1 << 12 | 1 << 19;
        // SAFETY: the tables map this code, the stack and all data at their own addresses; the others start later.
        unsafe {
            *TRANSLATION.0.get() = [mair, tcr, Self::root(), sctlr];
            MAIR_EL2.set(mair);
            TCR_EL2.set(tcr);
            TTBR0_EL2.set(Self::root());
            asm!("dsb ish", "tlbi alle2", "dsb ish", "isb", options(nostack, preserves_flags));
            SCTLR_EL2.set(sctlr);
            asm!("isb", options(nostack, preserves_flags));
        }
    }
}

/// Makes what the boot processor wrote visible to processors that start with their caches off.
pub fn publish_translation() {
    super::clean(TRANSLATION.0.get() as u64, 32);
}
