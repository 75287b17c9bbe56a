//! The registers that the distributor and a redistributor's SGI frame have at the same offsets (sections 12.9 and 12.11):
//! a bit, two bits or a byte for each interrupt.

use super::bank::{PRIORITY_MASK, SGIS};
use super::{BANKS, DEVICES, Kick, ListRegisterAccess, PROCESSORS, Vgic, bit, bits};

/// One access to the registers of one bank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    /// IGROUPR: every interrupt is in Group 1, and stays there.
    Group,
    /// ISENABLER, or ICENABLER.
    Enable { set: bool },
    /// ISPENDR, or ICPENDR.
    Pending { set: bool },
    /// ISACTIVER, or ICACTIVER.
    Active { set: bool },
    /// IPRIORITYR: `len` interrupts, from the one numbered `first`.
    Priority { first: usize, len: usize },
    /// ICFGR: 16 interrupts, the lower or the upper ones.
    Config { upper: bool },
}

impl Field {
    /// The register at `offset` and the bank it belongs to. `None` if there is none, or it does not allow this access:
    /// all take words, priorities also bytes.
    pub(super) fn decode(offset: u64, size: u8) -> Option<(Self, usize)> {
        let offset = usize::try_from(offset).ok()?;
        let word = size == 4 && offset.is_multiple_of(4);
        let (field, bank) = match offset {
            0x080..0x100 if word => (Self::Group, (offset - 0x080) / 4),
            0x100..0x400 if word => {
                let set = offset & 0x80 == 0;
                let field = match offset >> 8 {
                    1 => Self::Enable { set },
                    2 => Self::Pending { set },
                    _ => Self::Active { set },
                };
                (field, (offset & 0x7f) / 4)
            }
            0x400..0x800 if word || size == 1 => {
                (Self::Priority { first: offset & 31, len: usize::from(size) }, (offset - 0x400) / 32)
            }
            0xc00..0xd00 if word => (Self::Config { upper: offset & 4 != 0 }, (offset - 0xc00) / 8),
            _ => return None,
        };
        (bank < BANKS).then_some((field, bank))
    }
}

impl Vgic {
    /// Reads a register of bank `word` (the first: of `owner`) for a guest that runs on `processor` with `registers`.
    pub(super) fn read_field(
        &mut self,
        processor: usize,
        (owner, word, field): (usize, usize, Field),
        registers: &mut impl ListRegisterAccess,
    ) -> (u64, Kick) {
        let mut kick = Kick::NONE;
        if let Field::Pending { .. } | Field::Active { .. } = field {
            kick = self.sync(processor, registers) | self.ask(processor, owner, word);
        }
        let bank = self.bank(owner, word);
        let value = match field {
            Field::Group => u32::MAX,
            Field::Enable { .. } => bank.enabled,
            Field::Pending { .. } => bank.pending(),
            Field::Active { .. } => bank.active,
            Field::Priority { first, len } => (0..len)
                .fold(0, |value, byte| value | u32::from(bank.priority(first + byte)) << (8 * (byte & 3))),
            Field::Config { upper } => spread(if upper { bank.edge >> 16 } else { bank.edge }),
        };
        (u64::from(value), kick)
    }

    /// Writes a register of bank `word` (the first: of `owner`).
    pub(super) fn write_field(&mut self, (owner, word, field): (usize, usize, Field), value: u32) -> Kick {
        let linked = self.linked_in(word);
        if let Field::Enable { set: true } | Field::Pending { set: false } = field
            && word == DEVICES
        {
            self.look_again(value);
        }
        let bank = self.bank_mut(owner, word);
        let changed = match field {
            Field::Group => 0,
            Field::Enable { set } => {
                let before = bank.enabled;
                bank.enabled = if set { before | value } else { before & !value };
                before ^ bank.enabled
            }
            Field::Pending { set: true } => {
                bank.latch |= value;
                value
            }
            Field::Pending { set: false } => {
                // A linked PPI stays pending while its physical interrupt is active: nothing else would end that.
                let cleared = value & !linked & (bank.latch | bank.carried);
                bank.latch &= !cleared;
                bank.carried &= !cleared;
                cleared
            }
            Field::Active { set } => {
                // What a list register holds may have changed unseen, so that the order must reach it anyway.
                let changed = value & (bank.loaded | if set { !bank.active } else { bank.active });
                bank.active = if set { bank.active | value } else { bank.active & !value };
                bank.ordered |= changed & bank.loaded;
                changed
            }
            Field::Priority { first, len } => {
                let mut changed = 0;
                for byte in 0..len {
                    let priority = (value >> (8 * (byte & 3))) as u8 & PRIORITY_MASK;
                    let number = (first + byte) & 31;
                    if bank.priority(number) != priority {
                        bank.priority[number] = priority;
                        changed |= bit(number);
                    }
                }
                changed
            }
            Field::Config { .. } if word == 0 => 0,
            Field::Config { upper } => {
                let edge = gather(value);
                let before = bank.edge;
                bank.edge = if upper { before & SGIS | edge << 16 } else { before & !SGIS | edge };
                before ^ bank.edge
            }
        };
        self.notice(owner, word, changed)
    }

    /// What a device's level-sensitive interrupt was a while ago, it need not be now: it is no longer pending, unless its physical interrupt comes
    /// again. One that a list register holds has been delivered.
    fn look_again(&mut self, mask: u32) {
        let level = self.linked_devices & self.level_devices;
        let bank = self.bank_mut(0, DEVICES);
        let stale = mask & level & bank.latch & !bank.loaded;
        bank.latch &= !stale;
        self.resample |= stale;
    }

    /// Has the processors other than `processor` that hold interrupts of a bank report their states, so that a guest
    /// which polls them sees them change.
    fn ask(&mut self, processor: usize, owner: usize, word: usize) -> Kick {
        let loaded = self.bank(owner, word).loaded;
        let mut holders = 0;
        if word == 0 {
            holders = if loaded == 0 { 0 } else { bit(owner) };
        } else {
            for number in bits(loaded) {
                holders |= bit(self.bank(owner, word).holder(number).0);
            }
        }
        let mut kick = Kick::NONE;
        for holder in bits(holders & !bit(processor)).filter(|&holder| holder < PROCESSORS) {
            self.processor_mut(holder).stale = true;
            kick |= self.wake(holder, true);
        }
        kick
    }
}

/// Bit n of 16 to bit 2n + 1, where ICFGR has it.
fn spread(edge: u32) -> u32 {
    bits(edge & 0xffff).fold(0, |value, number| value | 2 << (2 * (number & 15)))
}

/// Bit 2n + 1 of ICFGR to bit n of 16.
fn gather(value: u32) -> u32 {
    bits(value & 0xaaaa_aaaa).fold(0, |edge, number| edge | bit(number / 2))
}
