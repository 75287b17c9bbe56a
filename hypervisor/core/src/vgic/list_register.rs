//! List registers: their format, and how the model reaches them.

use super::{Processor, bit};

/// List registers an implementation can have (ICH_VTR_EL2.ListRegs).
pub const LIST_REGISTERS_MAX: usize = 16;

/// State: pending (`ICH_LR<n>_EL2`, section 12.4).
pub(super) const PENDING: u64 = 1 << 62;
/// State: active.
pub(super) const ACTIVE: u64 = 1 << 63;
/// Linked to a physical interrupt, which the guest's deactivation deactivates too.
pub(super) const HW: u64 = 1 << 61;
/// Group 1.
pub(super) const GROUP1: u64 = 1 << 60;
/// A maintenance interrupt at the end of the interrupt; only without `HW`.
pub(super) const EOI: u64 = 1 << 41;
pub(super) const PRIORITY_SHIFT: u32 = 48;
pub(super) const PHYSICAL_INTID_SHIFT: u32 = 32;

/// The list registers of one logical processor: `ICH_LR<n>_EL2` while the physical processor holds them, and memory
/// while it does not. `number` is always below `count`.
pub trait ListRegisterAccess {
    /// How many there are: ICH_VTR_EL2.ListRegs + 1.
    fn count(&self) -> usize;
    /// Reads ICH_LR`number`_EL2.
    fn read(&self, number: usize) -> u64;
    /// Writes ICH_LR`number`_EL2.
    fn write(&mut self, number: usize, value: u64);
    /// ICH_ELRSR_EL2: bit n is set where list register n is free to use.
    fn empty_status(&self) -> u32;
}

/// List registers in memory, of a logical processor that no physical one holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListRegisterImage {
    values: [u64; LIST_REGISTERS_MAX],
    count: usize,
}

impl ListRegisterImage {
    /// `count` (at most 16) empty list registers.
    pub const fn new(count: usize) -> Self {
        let count = if count > LIST_REGISTERS_MAX { LIST_REGISTERS_MAX } else { count };
        Self { values: [0; LIST_REGISTERS_MAX], count }
    }
}

impl ListRegisterAccess for ListRegisterImage {
    fn count(&self) -> usize {
        self.count
    }

    fn read(&self, number: usize) -> u64 {
        self.values[number & (LIST_REGISTERS_MAX - 1)]
    }

    fn write(&mut self, number: usize, value: u64) {
        self.values[number & (LIST_REGISTERS_MAX - 1)] = value;
    }

    fn empty_status(&self) -> u32 {
        self.values
            .iter()
            .take(self.count)
            .enumerate()
            .filter(|&(_, &value)| value & (PENDING | ACTIVE) == 0 && (value & HW != 0 || value & EOI == 0))
            .fold(0, |status, (number, _)| status | bit(number))
    }
}

impl Processor {
    /// The INTID that list register `number` holds.
    pub(super) const fn intid(&self, number: usize) -> u8 {
        self.intids[number & (LIST_REGISTERS_MAX - 1)]
    }

    /// Writes list register `number`, which this processor occupies.
    pub(super) fn store(&mut self, number: usize, value: u64, registers: &mut impl ListRegisterAccess) {
        let told = if value & EOI != 0 { bit(number) } else { 0 };
        self.eoi = self.eoi & !bit(number) | told;
        registers.write(number, value);
    }
}
