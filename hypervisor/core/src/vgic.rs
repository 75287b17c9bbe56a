//! The virtual GICv3 of one partition (Arm IHI 0069H), as rules without a machine.
//!
//! The CPU interface is the hardware's: a guest acknowledges and ends an interrupt without a trap. Distributor and
//! redistributors are this model: the control OS hands every trapped access to it, and devices and hypercalls raise
//! interrupts in it. Between the two stand the list registers. The model puts an interrupt into one at
//! [`Vgic::flush`], before a logical processor enters its guest, and finds out what became of it as late as it can:
//!
//! - A change marks the one interrupt on the one logical processor it concerns (`attention`), so that `flush` looks
//!   at marked interrupts alone, and a processor that is not [`Vgic::dirty`] needs no call at all.
//! - A list register the guest is done with shows in ICH_ELRSR_EL2; no list register is read for that.
//! - An edge-triggered interrupt never asks for a maintenance interrupt. A level-sensitive one does at its end (EOI
//!   bit), because its line must be sampled again. A linked one (HW bit) leaves that to the physical interrupt.
//!
//! What the guest sees: one security state (GICD_CTLR.DS), affinity routing always on, every interrupt in Group 1,
//! 32 priorities, no LPIs; logical processor n has the affinity 0.0.0.n.
//!
//! The interrupts of devices that the partition holds are linked to physical ones too ([`Vgic::link`]). They have INTIDs of
//! their own, and a physical one stays active, so that it cannot come again, until the guest deactivates the virtual one.
//!
//! An interrupt that is active stays in its list register until the guest deactivates it. So a logical processor can
//! have as many interrupts active at once as the machine has list registers; further ones wait, none is lost.

#![allow(
    clippy::indexing_slicing,
    reason = "every index is masked, bounded or a u8 into 256 elements, which the compiler sees"
)]

mod bank;
mod delivery;
mod distributor;
mod list_register;
mod posting;
mod redistributor;
mod registers;
#[cfg(test)]
mod tests;

use core::ops::{BitOr, BitOrAssign};

use bank::Bank;
pub use delivery::Entry;
use handover_abi::layout::{DEVICE_INTID, DEVICE_INTIDS, PROCESSORS_MAX};
pub use list_register::{LIST_REGISTERS_MAX, ListRegisterAccess, ListRegisterImage};
use posting::Posting;

/// Interrupts a guest can name: INTIDs 0 to 255.
pub const INTID_COUNT: u32 = 256;
/// Interrupts that each logical processor has for itself: SGIs are INTIDs 0 to 15, PPIs 16 to 31.
pub const PRIVATE_COUNT: u32 = 32;
/// Shared interrupts: INTIDs 32 to 255.
pub const SPI_COUNT: u32 = INTID_COUNT - PRIVATE_COUNT;

const PROCESSORS: usize = PROCESSORS_MAX as usize;
const BANKS: usize = (INTID_COUNT / 32) as usize;
const _: () = assert!(PROCESSORS.is_power_of_two() && BANKS == 8);
/// The bank of devices' interrupts.
const DEVICES: usize = (DEVICE_INTID / 32) as usize;
const _: () =
    assert!(DEVICE_INTIDS == 32 && DEVICE_INTID.is_multiple_of(32) && DEVICES > 0 && DEVICES < BANKS);

/// `route` of an SPI that any logical processor may take (GICD_IROUTER.Interrupt_Routing_Mode).
const ROUTE_ANY: u8 = 0x80;
/// `route` of an SPI whose affinity names no processor.
const ROUTE_NONE: u8 = 0xff;

/// The logical processors that must call [`Vgic::flush`] soon: interrupt those that run elsewhere, wake those that
/// wait. A processor is named once, then not again before it has flushed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use = "an interrupt may wait for a processor that nobody kicks"]
pub struct Kick(u32);

impl Kick {
    /// Nobody.
    pub const NONE: Self = Self(0);

    /// Bit n stands for logical processor n.
    pub const fn mask(self) -> u32 {
        self.0
    }

    /// Whether nobody is named.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The same without logical processor `processor`.
    pub const fn without(self, processor: usize) -> Self {
        Self(self.0 & !bit(processor))
    }

    /// The logical processors named, in ascending order.
    pub fn processors(self) -> impl Iterator<Item = usize> {
        bits(self.0)
    }
}

impl BitOr for Kick {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Kick {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

/// Bit `number` of a word; the number counts modulo 32.
const fn bit(number: usize) -> u32 {
    1 << (number & 31)
}

/// The numbers of the bits set in `word`, ascending.
fn bits(mut word: u32) -> impl Iterator<Item = usize> {
    core::iter::from_fn(move || {
        let lowest = (word != 0).then_some(word.trailing_zeros() as usize);
        word &= word.wrapping_sub(1);
        lowest
    })
}

/// One logical processor: its private interrupts, and what its list registers hold.
struct Processor {
    private: Bank,
    /// Interrupts to look at, one word for each bank.
    attention: [u32; BANKS],
    /// Bit n: `attention[n]` is not zero.
    attention_banks: u32,
    /// The INTID in each occupied list register.
    intids: [u8; LIST_REGISTERS_MAX],
    /// List registers that hold an interrupt, as far as the model knows: the guest may be done with it.
    occupied: u32,
    /// Those of them that were written with the EOI bit, which ICH_ELRSR_EL2 does not report.
    eoi: u32,
    /// `attention` has grown since the last flush, or the state was asked for.
    dirty: bool,
    /// Someone has asked for states that only the list registers know.
    stale: bool,
    /// GICR_WAKER.ProcessorSleep is clear.
    awake: bool,
}

impl Processor {
    const fn new() -> Self {
        Self {
            private: Bank::private(),
            attention: [0; BANKS],
            attention_banks: 0,
            intids: [0; LIST_REGISTERS_MAX],
            occupied: 0,
            eoi: 0,
            dirty: false,
            stale: false,
            awake: false,
        }
    }
}

/// The interrupt controller of one partition. A logical processor is an index below `PROCESSORS_MAX`.
pub struct Vgic {
    /// GICD_CTLR.EnableGrp1.
    group1: bool,
    /// Logical processors of the partition.
    count: u8,
    /// PPIs whose list register is linked to the physical interrupt of the same INTID.
    linked: u32,
    /// Devices' interrupts whose list register is linked to a physical interrupt.
    linked_devices: u32,
    /// Those of them whose physical interrupts are level-sensitive.
    level_devices: u32,
    /// Those whose physical interrupts are to be deactivated, so that they come again if their lines are still high.
    resample: u32,
    /// Those that are not linked any more, but a list register is.
    unlinking: u32,
    posting: Posting,
    /// The INTIDs of these physical interrupts.
    physical: [u16; DEVICE_INTIDS as usize],
    spis: [Bank; BANKS - 1],
    /// By INTID: the processor GICD_IROUTER names, `ROUTE_ANY` or `ROUTE_NONE`. Private INTIDs have no use for it.
    route: [u8; INTID_COUNT as usize],
    processors: [Processor; PROCESSORS],
}

const _: () = assert!(size_of::<Vgic>() < 4096);

impl Vgic {
    /// A controller out of reset, for `processors` logical processors (1 to `PROCESSORS_MAX`). `linked` has bit n set
    /// for each PPI n that the control OS acknowledges and leaves active, so that the guest's end of interrupt
    /// deactivates the physical interrupt n (`ICH_LR<n>_EL2.HW`, section 12.4); SGIs cannot be linked.
    pub const fn new(processors: u32, linked: u32) -> Self {
        let count = if processors < 1 {
            1
        } else if processors > PROCESSORS_MAX {
            PROCESSORS_MAX
        } else {
            processors
        };
        Self {
            group1: false,
            count: count as u8,
            linked: linked & !bank::SGIS,
            linked_devices: 0,
            level_devices: 0,
            resample: 0,
            unlinking: 0,
            posting: Posting::NONE,
            physical: [0; DEVICE_INTIDS as usize],
            spis: [const { Bank::shared() }; BANKS - 1],
            route: [0; INTID_COUNT as usize],
            processors: [const { Processor::new() }; PROCESSORS],
        }
    }

    /// Links `intid`, one of [`DEVICE_INTID`] and those that follow, to the physical interrupt `physical`, which is inactive,
    /// and edge-triggered if `edge`.
    pub fn link(&mut self, intid: u32, physical: u16, edge: bool) {
        let number = intid.wrapping_sub(DEVICE_INTID) as usize;
        self.settle();
        if let Some(slot) = self.physical.get_mut(number) {
            *slot = physical;
            self.linked_devices |= bit(number);
            self.level_devices = self.level_devices & !bit(number) | if edge { 0 } else { bit(number) };
        }
    }

    /// The devices' interrupts ([`Vgic::physical_of`]) whose physical ones the caller now deactivates: the guest has made the distributor look at
    /// their lines again. To be called after a write to the distributor.
    pub fn take_resample(&mut self) -> u32 {
        core::mem::take(&mut self.resample)
    }

    /// Undoes [`Vgic::link`], and forgets what the physical interrupt has brought about. A list register that holds it is linked still until the next
    /// [`Vgic::flush`] of its processor: [`Vgic::unlinking_on`].
    pub fn unlink(&mut self, intid: u32) -> Kick {
        let number = intid.wrapping_sub(DEVICE_INTID) as usize;
        let mask = bit(number);
        if number >= self.physical.len() || self.linked_devices & mask == 0 {
            return Kick::NONE;
        }
        self.linked_devices &= !mask;
        self.resample &= !mask;
        let bank = self.bank_mut(0, DEVICES);
        bank.latch &= !mask;
        bank.carried &= !mask;
        bank.active &= !mask;
        bank.ordered |= bank.loaded & mask;
        self.unlinking |= self.bank(0, DEVICES).loaded & mask;
        self.notice(0, DEVICES, mask)
    }

    /// The logical processor that has a device's interrupt in a list register with the link it had before [`Vgic::unlink`].
    pub fn unlinking_on(&self, intid: u32) -> Option<usize> {
        let number = intid.wrapping_sub(DEVICE_INTID) as usize;
        let unlinking = number < self.physical.len() && self.unlinking & bit(number) != 0;
        unlinking.then(|| self.bank(0, DEVICES).holder(number).0)
    }

    /// The INTIDs of the physical interrupts of the devices' interrupts in `mask` (bit n: [`DEVICE_INTID`] + n).
    pub fn physical_of(&self, mask: u32) -> impl Iterator<Item = u16> {
        bits(mask).filter_map(|number| self.physical.get(number).copied())
    }

    /// Puts logical processor `processor` into the state of its reset (PSCI CPU_ON and CPU_OFF): its private
    /// interrupts are as new, its list registers empty. Shared interrupts that it had pending stay pending; those
    /// that it had active are inactive. The caller deactivates the linked physical interrupts that
    /// [`Vgic::in_flight`] named just before, and those of [`Vgic::active_devices`].
    pub fn reset_processor(&mut self, processor: usize, registers: &mut impl ListRegisterAccess) -> Kick {
        let mut kick = self.sync(processor, registers);
        for number in bits(self.processor(processor).occupied) {
            self.give_back(processor, number);
            registers.write(number, 0);
            kick |= self.release(processor, number);
        }
        *self.processor_mut(processor) = Processor::new();
        kick |= self.notice_shared();
        let back = if self.dirty(processor) { Kick(bit(processor)) } else { Kick::NONE };
        kick.without(processor) | back
    }

    /// Whether [`Vgic::flush`] must be called before `processor` enters its guest.
    pub fn dirty(&self, processor: usize) -> bool {
        self.processor(processor).dirty
    }

    /// The list registers that may hold an interrupt. The others, and those that ICH_ELRSR_EL2 shows as empty, need not be
    /// saved when the physical processor changes to another logical one; they need only be empty when it comes back.
    pub fn occupied(&self, processor: usize) -> u32 {
        self.processor(processor).occupied
    }

    /// An edge on `intid`: it becomes pending once. Private INTIDs belong to `processor`, which others ignore.
    #[inline(always)]
    pub fn raise(&mut self, processor: usize, intid: u32) -> Kick {
        if self.posting.is_of(intid) {
            return self.post();
        }
        let Ok(intid) = u8::try_from(intid) else { return Kick::NONE };
        let (word, mask) = place(intid);
        self.bank_mut(processor, word).latch |= mask;
        self.notice_one(processor, intid)
    }

    /// The input line of `intid` is now high (`level`) or low. Private INTIDs belong to `processor`, which others
    /// ignore. For a linked one `true` says that the physical interrupt was taken and left active, `false` that its
    /// source has gone quiet and the control OS has deactivated it.
    pub fn set_level(&mut self, processor: usize, intid: u32, level: bool) -> Kick {
        let Ok(intid) = u8::try_from(intid) else { return Kick::NONE };
        let (word, mask) = place(intid);
        let linked = self.linked_in(word) & mask != 0;
        let bank = self.bank_mut(processor, word);
        if linked {
            if level {
                bank.latch |= mask;
            } else {
                bank.latch &= !mask;
                bank.carried &= !mask;
            }
            return self.notice_one(processor, intid);
        }
        if (bank.line & mask != 0) == level {
            return Kick::NONE;
        }
        bank.line ^= mask;
        if bank.edge & mask != 0 {
            if !level {
                return Kick::NONE;
            }
            bank.latch |= mask;
        } else if level && bank.loaded & mask != 0 {
            // Pending in its list register already, or active there with the EOI bit, and sampled again then.
            return Kick::NONE;
        }
        self.notice_one(processor, intid)
    }

    /// The guest has written `value` to ICC_SGI1R_EL1 on `processor` (section 12.2).
    pub fn send_sgi(&mut self, processor: usize, value: u64) -> Kick {
        const OTHERS: u64 = 1 << 40;
        // Aff3 [55:48], RS [47:44], Aff2 [39:32], Aff1 [23:16]: all zero in the affinities of our processors.
        const ELSEWHERE: u64 = 0x00ff_f0ff_00ff_0000;
        let all = bit(usize::from(self.count)).wrapping_sub(1);
        let targets = if value & OTHERS != 0 {
            all & !bit(processor)
        } else if value & ELSEWHERE == 0 {
            all & value as u32 & 0xffff
        } else {
            0
        };
        let mask = bit((value >> 24) as usize & 0xf);
        let mut kick = Kick::NONE;
        for target in bits(targets) {
            self.processor_mut(target).private.latch |= mask;
            kick |= self.notice_one(target, (value >> 24) as u8 & 0xf);
        }
        kick
    }

    fn processor(&self, processor: usize) -> &Processor {
        debug_assert!(processor < PROCESSORS);
        &self.processors[processor & (PROCESSORS - 1)]
    }

    fn processor_mut(&mut self, processor: usize) -> &mut Processor {
        debug_assert!(processor < PROCESSORS);
        &mut self.processors[processor & (PROCESSORS - 1)]
    }

    /// The bank of INTIDs `32 * word` to `32 * word + 31`; the first one belongs to `processor`.
    fn bank(&self, processor: usize, word: usize) -> &Bank {
        match word.checked_sub(1) {
            None => &self.processor(processor).private,
            Some(shared) => &self.spis[shared.min(BANKS - 2)],
        }
    }

    fn bank_mut(&mut self, processor: usize, word: usize) -> &mut Bank {
        match word.checked_sub(1) {
            None => &mut self.processor_mut(processor).private,
            Some(shared) => &mut self.spis[shared.min(BANKS - 2)],
        }
    }

    /// The interrupts of a bank that are linked to physical ones.
    const fn linked_in(&self, word: usize) -> u32 {
        match word {
            0 => self.linked,
            DEVICES => self.linked_devices,
            _ => 0,
        }
    }

    /// What links a list register to the physical interrupt of `intid`: its HW bit and the physical INTID, or 0.
    fn physical_link(&self, intid: u8) -> u64 {
        let (word, mask) = place(intid);
        if self.linked_in(word) & mask == 0 {
            return 0;
        }
        let physical = match word {
            DEVICES => self.physical[usize::from(intid) & 31],
            _ => u16::from(intid),
        };
        list_register::HW | u64::from(physical) << list_register::PHYSICAL_INTID_SHIFT
    }

    /// The logical processor that an SPI goes to. One that any may take goes to the first that is awake.
    #[inline(always)]
    fn target(&self, intid: u8) -> Option<usize> {
        let route = self.route[usize::from(intid)];
        if route < self.count {
            return Some(usize::from(route));
        }
        if route == ROUTE_ANY { Some(self.first_awake()) } else { None }
    }

    #[inline(never)]
    fn first_awake(&self) -> usize {
        let present = self.processors.get(..usize::from(self.count)).unwrap_or(&self.processors);
        present.iter().position(|processor| processor.awake).unwrap_or(0)
    }

    /// Something about the interrupts `mask` of a bank has changed: marks those that a list register holds, or
    /// should hold, on the processor concerned. Every change of state ends here; it keeps the invariant that an
    /// interrupt that wants a list register and has none is marked on its target.
    fn notice(&mut self, processor: usize, word: usize, mask: u32) -> Kick {
        let bank = self.bank(processor, word);
        let concerned = mask & (bank.loaded | bank.wanted(self.group1));
        if word == 0 {
            return self.attend(processor, word, concerned);
        }
        bits(concerned)
            .fold(Kick::NONE, |kick, number| kick | self.notice_one(processor, intid(word, number)))
    }

    /// The same for a single interrupt.
    #[inline(always)]
    fn notice_one(&mut self, processor: usize, intid: u8) -> Kick {
        let (word, mask) = place(intid);
        let bank = self.bank(processor, word);
        let loaded = bank.loaded & mask != 0;
        if !loaded && bank.wanted(self.group1) & mask == 0 {
            return Kick::NONE;
        }
        let holder = if word == 0 {
            processor
        } else if loaded {
            bank.holder(usize::from(intid)).0
        } else {
            match self.target(intid) {
                Some(target) => target,
                None => return Kick::NONE,
            }
        };
        self.attend(holder, word, mask)
    }

    /// The targets of shared interrupts may have changed.
    fn notice_shared(&mut self) -> Kick {
        (1..BANKS).fold(Kick::NONE, |kick, word| kick | self.notice(0, word, u32::MAX))
    }

    #[inline(always)]
    fn attend(&mut self, processor: usize, word: usize, mask: u32) -> Kick {
        let holder = self.processor_mut(processor);
        if mask != 0 {
            holder.attention[word & (BANKS - 1)] |= mask;
            holder.attention_banks |= bit(word);
        }
        self.wake(processor, mask != 0)
    }

    /// Makes `processor` dirty if there is a `reason`.
    #[inline(always)]
    fn wake(&mut self, processor: usize, reason: bool) -> Kick {
        let state = self.processor_mut(processor);
        if !reason || state.dirty {
            return Kick::NONE;
        }
        state.dirty = true;
        Kick(bit(processor))
    }
}

/// The bank of an INTID, and its bit there.
fn place(intid: u8) -> (usize, u32) {
    (usize::from(intid >> 5), bit(usize::from(intid)))
}

/// The INTID of bit `number` in bank `word`.
const fn intid(word: usize, number: usize) -> u8 {
    ((word & (BANKS - 1)) << 5 | number & 31) as u8
}
