//! The distributor's frame (section 12.9).

use super::registers::Field;
use super::{INTID_COUNT, Kick, ListRegisterAccess, PRIVATE_COUNT, ROUTE_ANY, ROUTE_NONE, Vgic};

const CTLR: u64 = 0x0000;
const TYPER: u64 = 0x0004;
const IIDR: u64 = 0x0008;
const IROUTER: u64 = 0x6000;
const IROUTER_END: u64 = IROUTER + 8 * INTID_COUNT as u64;

/// GICD_CTLR.EnableGrp1, where it is with one security state.
const ENABLE_GRP1: u32 = 1 << 1;
/// GICD_CTLR.ARE and .DS: affinity routing, one security state; both read as one.
const ARE_DS: u32 = 1 << 4 | 1 << 6;
/// GICD_TYPER: INTIDs in ITLinesNumber (bits 4:0), 10 bits of INTID in IDbits (bits 23:19). No LPIs, no message-based SPIs, no
/// extended INTIDs, three levels of affinity.
const TYPER_VALUE: u32 = (INTID_COUNT / 32 - 1) | 9 << 19;
/// GICD_IROUTER.Interrupt_Routing_Mode.
const ROUTING_MODE: u32 = 1 << 31;

/// GICD_IIDR and GICR_IIDR: product 'H' of no implementer with a JEP106 code.
pub(super) const IIDR_VALUE: u32 = 0x4800_0000;

/// The identification registers at the end of every frame: ArchRev 3 in PIDR2, and the fixed CIDR
/// values.
pub(super) const fn identification(offset: u64) -> u32 {
    match offset {
        0xffe8 => 0x30,
        0xfff0 => 0x0d,
        0xfff4 => 0xf0,
        0xfff8 => 0x05,
        0xfffc => 0xb1,
        _ => 0,
    }
}

impl Vgic {
    /// A read of `size` bytes at `offset` in the distributor, by the guest on `processor`, whose list registers are
    /// `registers`. What is reserved, misaligned or of the wrong size reads as zero. Pending and active states are those
    /// that were last seen where another processor holds the interrupt, which is kicked so that a later read sees more.
    pub fn distributor_read(
        &mut self,
        processor: usize,
        offset: u64,
        size: u8,
        registers: &mut impl ListRegisterAccess,
    ) -> (u64, Kick) {
        if let Some((field, word)) = shared_field(offset, size) {
            return self.read_field(processor, (processor, word, field), registers);
        }
        let value = match (offset, size) {
            (CTLR, 4) => ARE_DS | if self.group1 { ENABLE_GRP1 } else { 0 },
            (TYPER, 4) => TYPER_VALUE,
            (IIDR, 4) => IIDR_VALUE,
            (_, 4 | 8) => match routed(offset, size) {
                Some((intid, false)) => self.route_value(intid),
                _ if size == 4 => identification(offset),
                _ => 0,
            },
            _ => 0,
        };
        (u64::from(value), Kick::NONE)
    }

    /// A write of the low `size` bytes of `value` at `offset` in the distributor. What is reserved, read-only, misaligned
    /// or of the wrong size ignores it.
    pub fn distributor_write(&mut self, offset: u64, size: u8, value: u64) -> Kick {
        self.settle();
        if let Some((field, word)) = shared_field(offset, size) {
            return self.write_field((0, word, field), value as u32);
        }
        match (offset, size) {
            (CTLR, 4) => self.write_control(value as u32),
            (_, 4 | 8) => match routed(offset, size) {
                Some((intid, false)) => self.write_route(intid, value as u32),
                _ => Kick::NONE,
            },
            _ => Kick::NONE,
        }
    }

    fn write_control(&mut self, value: u32) -> Kick {
        let group1 = value & ENABLE_GRP1 != 0;
        if group1 == self.group1 {
            return Kick::NONE;
        }
        self.group1 = group1;
        let mut kick = self.notice_shared();
        for processor in 0..usize::from(self.count) {
            kick |= self.notice(processor, 0, u32::MAX);
        }
        kick
    }

    /// The low half of GICD_IROUTER. Of an affinity that no processor has, all that is kept is that it is none.
    fn route_value(&self, intid: u8) -> u32 {
        match self.route[usize::from(intid)] {
            ROUTE_ANY => ROUTING_MODE,
            route => u32::from(route),
        }
    }

    /// Routes a shared interrupt to one logical processor, as the guest itself may by GICD_IROUTER.
    pub fn route(&mut self, intid: u8, processor: u32) -> Kick {
        if u32::from(intid) < PRIVATE_COUNT { Kick::NONE } else { self.write_route(intid, processor) }
    }

    fn write_route(&mut self, intid: u8, value: u32) -> Kick {
        let affinity = value & 0x00ff_ffff;
        self.route[usize::from(intid)] = if value & ROUTING_MODE != 0 {
            ROUTE_ANY
        } else if affinity < u32::from(self.count) {
            affinity as u8
        } else {
            ROUTE_NONE
        };
        self.notice_one(0, intid)
    }
}

/// A register of a shared bank. Those of the first bank are in the redistributors with affinity routing, and reserved here.
fn shared_field(offset: u64, size: u8) -> Option<(Field, usize)> {
    Field::decode(offset, size).filter(|&(_, word)| word != 0)
}

/// The SPI whose GICD_IROUTER is at `offset`, and whether it is the upper half (Aff3, always zero: GICD_TYPER.A3V).
fn routed(offset: u64, size: u8) -> Option<(u8, bool)> {
    let within = (IROUTER..IROUTER_END).contains(&offset) && offset.is_multiple_of(u64::from(size));
    let intid = u8::try_from(offset.wrapping_sub(IROUTER) / 8).ok()?;
    (within && u32::from(intid) >= PRIVATE_COUNT).then_some((intid, offset & 4 != 0))
}
