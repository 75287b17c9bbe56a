//! The redistributors: two 64 KiB frames for each logical processor, RD_base and SGI_base (section 12.11).

use handover_abi::layout::GICR_STRIDE;

use super::distributor::{IIDR_VALUE, identification};
use super::registers::Field;
use super::{Kick, ListRegisterAccess, Vgic};

const IIDR: u64 = 0x0004;
const TYPER: u64 = 0x0008;
const TYPER_UPPER: u64 = 0x000c;
const WAKER: u64 = 0x0014;
const SGI_BASE: u64 = 0x1_0000;

/// GICR_TYPER.Last.
const LAST: u64 = 1 << 4;
/// GICR_WAKER.ProcessorSleep, which the guest writes.
const PROCESSOR_SLEEP: u64 = 1 << 1;
/// GICR_WAKER.ChildrenAsleep, which follows at once.
const CHILDREN_ASLEEP: u64 = 1 << 2;

impl Vgic {
    /// A read of `size` bytes at `offset` from the first redistributor, by the guest on `processor`, whose list registers
    /// are `registers`; otherwise as [`Vgic::distributor_read`].
    pub fn redistributor_read(
        &mut self,
        processor: usize,
        offset: u64,
        size: u8,
        registers: &mut impl ListRegisterAccess,
    ) -> (u64, Kick) {
        let Some((owner, offset)) = self.redistributor(offset) else { return (0, Kick::NONE) };
        if let Some(field) = private_field(offset, size) {
            return self.read_field(processor, (owner, 0, field), registers);
        }
        let value = match (offset, size) {
            (IIDR, 4) => u64::from(IIDR_VALUE),
            (TYPER, 8) => self.redistributor_type(owner),
            (TYPER, 4) => self.redistributor_type(owner) & 0xffff_ffff,
            (TYPER_UPPER, 4) => self.redistributor_type(owner) >> 32,
            (WAKER, 4) if self.processor(owner).awake => 0,
            (WAKER, 4) => PROCESSOR_SLEEP | CHILDREN_ASLEEP,
            (_, 4) => u64::from(identification(offset)),
            _ => 0,
        };
        (value, Kick::NONE)
    }

    /// A write of the low `size` bytes of `value` at `offset` from the first redistributor; otherwise as
    /// [`Vgic::distributor_write`].
    pub fn redistributor_write(&mut self, offset: u64, size: u8, value: u64) -> Kick {
        let Some((owner, offset)) = self.redistributor(offset) else { return Kick::NONE };
        if let Some(field) = private_field(offset, size) {
            return self.write_field((owner, 0, field), value as u32);
        }
        if (offset, size) != (WAKER, 4) {
            return Kick::NONE;
        }
        let awake = value & PROCESSOR_SLEEP == 0;
        if self.processor(owner).awake == awake {
            return Kick::NONE;
        }
        self.processor_mut(owner).awake = awake;
        self.notice_shared()
    }

    /// The logical processor whose frames an offset is in, and the offset there.
    fn redistributor(&self, offset: u64) -> Option<(usize, u64)> {
        let owner = usize::try_from(offset / GICR_STRIDE).ok()?;
        (owner < usize::from(self.count)).then_some((owner, offset % GICR_STRIDE))
    }

    /// GICR_TYPER: Affinity_Value (bits 63:32) and Processor_Number (bits 23:8) are the processor's index; no LPIs.
    fn redistributor_type(&self, owner: usize) -> u64 {
        let index = owner as u64;
        index << 32 | index << 8 | if owner + 1 == usize::from(self.count) { LAST } else { 0 }
    }
}

/// A register of the SGI frame.
fn private_field(offset: u64, size: u8) -> Option<Field> {
    let (field, word) = Field::decode(offset.checked_sub(SGI_BASE)?, size)?;
    (word == 0).then_some(field)
}
