//! The state of 32 interrupts, one bit each.

use super::bit;
use super::list_register::{ACTIVE, EOI, GROUP1, PENDING, PRIORITY_SHIFT};

/// The SGIs in the first bank of a processor.
pub(super) const SGIS: u32 = 0xffff;

/// Priority bits that exist: the five upper ones (ICH_VTR_EL2.PRIbits is at least 5 wherever it is implemented).
pub(super) const PRIORITY_MASK: u8 = 0xf8;

/// 32 interrupts with successive INTIDs; bit n of each word, and byte n of `priority`, is the nth.
pub(super) struct Bank {
    /// GICD_ISENABLER.
    pub(super) enabled: u32,
    /// An edge or a write to GICD_ISPENDR made it pending, and no list register has taken that over.
    pub(super) latch: u32,
    /// The input line is high. A linked interrupt uses `latch` instead: the physical interrupt samples its line.
    pub(super) line: u32,
    /// It is active: if it is loaded, as of the last look at its list register.
    pub(super) active: u32,
    /// Edge-triggered (GICD_ICFGR); level-sensitive otherwise.
    pub(super) edge: u32,
    /// A list register holds it.
    pub(super) loaded: u32,
    /// It is loaded, and its list register carries the pending state that `latch` had. To unload it gives that back.
    pub(super) carried: u32,
    /// It is loaded, and `active` is an order of the guest's for its list register.
    pub(super) ordered: u32,
    /// GICD_IPRIORITYR; 0 is the highest.
    pub(super) priority: [u8; 32],
    /// The processor (upper half) and the list register (lower half) that hold it, if it is loaded.
    holder: [u8; 32],
}

impl Bank {
    /// SGIs and PPIs out of reset: SGIs are edge-triggered, PPIs level-sensitive, and neither can change.
    pub(super) const fn private() -> Self {
        Self { edge: SGIS, ..Self::shared() }
    }

    /// SPIs out of reset.
    pub(super) const fn shared() -> Self {
        Self {
            enabled: 0,
            latch: 0,
            line: 0,
            active: 0,
            edge: 0,
            loaded: 0,
            carried: 0,
            ordered: 0,
            priority: [0; 32],
            holder: [0; 32],
        }
    }

    /// Pending as GICD_ISPENDR shows it: a latch, or the level of a level-sensitive line.
    pub(super) const fn pending(&self) -> u32 {
        self.latch | self.carried | self.line & !self.edge
    }

    /// Pending, enabled, and its group enabled too.
    pub(super) const fn deliverable(&self, group1: bool) -> u32 {
        if group1 { self.pending() & self.enabled } else { 0 }
    }

    /// What belongs into a list register: what can be delivered, and what is active, so that it can be deactivated.
    pub(super) const fn wanted(&self, group1: bool) -> u32 {
        self.deliverable(group1) | self.active
    }

    /// The processor and the list register that hold an interrupt, if it is loaded.
    pub(super) const fn holder(&self, number: usize) -> (usize, usize) {
        let holder = self.holder[number & 31] as usize;
        (holder >> 4, holder & 0xf)
    }

    pub(super) fn set_holder(&mut self, number: usize, processor: usize, list_register: usize) {
        self.holder[number & 31] = (processor << 4 | list_register & 0xf) as u8;
    }

    /// The value of a list register for `intid`, but for its state and EOI bits. `physical` is its link to a physical interrupt, or 0.
    pub(super) fn list_register(&self, intid: u8, physical: u64) -> u64 {
        let priority = u64::from(self.priority(usize::from(intid)));
        u64::from(intid) | priority << PRIORITY_SHIFT | GROUP1 | physical
    }

    /// The value for the list register that holds `intid`, pending if it is to `deliver` it and can do so now. The latch
    /// moves there, or back, accordingly.
    pub(super) fn hand_over(&mut self, intid: u8, deliver: bool, physical: u64) -> u64 {
        let mask = bit(usize::from(intid));
        let linked = physical != 0;
        // One that is linked must not be pending and active at once: its physical interrupt is to be the second (IHI 0069, 12.4).
        let level = linked || self.edge & mask == 0;
        let mut value = self.list_register(intid, physical);
        if self.active & mask != 0 {
            value |= ACTIVE;
        }
        // A level-sensitive interrupt is sampled again at its end, instead of being pending while it is active.
        if deliver && !(level && value & ACTIVE != 0) {
            value |= PENDING;
            self.carried |= self.latch & mask;
            self.latch &= !mask;
        } else {
            self.latch |= self.carried & mask;
            self.carried &= !mask;
        }
        if linked && value & ACTIVE != 0 {
            // The physical interrupt comes again if its line is still high.
            self.latch &= !mask;
        } else if !linked && (level || value & (PENDING | ACTIVE) == ACTIVE && self.latch & mask != 0) {
            // Someone has to look at its end: it is to be sampled, or pending for another processor.
            value |= EOI;
        }
        value
    }

    pub(super) const fn priority(&self, number: usize) -> u8 {
        self.priority[number & 31]
    }
}
