//! Interrupts into list registers, and back.

use super::list_register::{ACTIVE, EOI, HW, PENDING, PRIORITY_SHIFT};
use super::posting::Posting;
use super::{
    BANKS, DEVICES, Kick, LIST_REGISTERS_MAX, ListRegisterAccess, PRIVATE_COUNT, Vgic, bit, bits, intid,
    place,
};

/// ICH_HCR_EL2.UIE: maintenance interrupt when at most one list register is valid.
const UIE: u64 = 1 << 1;
/// ICH_HCR_EL2.NPIE: maintenance interrupt when no list register is pending.
const NPIE: u64 = 1 << 3;

/// What [`Vgic::flush`] leaves to the caller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Entry {
    /// Other processors to kick: an interrupt has moved on to them.
    pub kick: Kick,
    /// Maintenance interrupts to enable in ICH_HCR_EL2, NPIE or UIE, beside En; all others must be off. Not zero while
    /// interrupts wait for a list register.
    pub maintenance: u64,
    /// Linked PPIs that the guest has deactivated through GICR_ICACTIVER0: deactivate the physical ones.
    pub deactivate: u32,
    /// The same for devices' interrupts ([`Vgic::physical_of`]) and GICD_ICACTIVER.
    pub deactivate_devices: u32,
}

impl Vgic {
    /// Brings the list registers of `processor` up to date. Call it before the guest is entered if [`Vgic::dirty`], and
    /// at each maintenance interrupt (ICH_MISR_EL2), whose cause it removes.
    pub fn flush(&mut self, processor: usize, registers: &mut impl ListRegisterAccess) -> Entry {
        if self.rearm(processor, registers) {
            return Entry::default();
        }
        self.flush_marked(processor, registers)
    }

    /// Most flushes: the only marked interrupt is one that keeps no line, and the list register that held it last is empty
    /// again. It can be pending there at once, and the model need not change its mind about anything else. Returns false, and has changed nothing that anybody sees, where it
    /// takes a [`Vgic::flush`]; otherwise there is nothing left to do of one whose last flush wanted no maintenance interrupt.
    #[inline(always)]
    pub fn rearm(&mut self, processor: usize, registers: &mut impl ListRegisterAccess) -> bool {
        self.deliver_posted(processor, registers) || self.rearm_marked(processor, registers)
    }

    #[inline(never)]
    fn rearm_marked(&mut self, processor: usize, registers: &mut impl ListRegisterAccess) -> bool {
        if self.has_posted(processor) {
            self.settle();
        }
        let state = self.processor(processor);
        let word = state.attention_banks.trailing_zeros() as usize & (BANKS - 1);
        let mask = state.attention[word];
        if !state.attention_banks.is_power_of_two()
            || !mask.is_power_of_two()
            || state.stale
            || state.eoi != 0
            || !self.group1
        {
            return false;
        }
        let linked = self.linked_in(word);
        let intid = intid(word, mask.trailing_zeros() as usize);
        let physical = if linked & mask == 0 { 0 } else { self.physical_link(intid) };
        let bank = self.bank(processor, word);
        let (holder, number) = bank.holder(usize::from(intid));
        let ready = bank.loaded & bank.latch & bank.enabled & (bank.edge | linked) & !bank.ordered;
        if ready & mask == 0
            || holder != processor
            || !self.goes_to(processor, intid)
            || registers.empty_status() & bit(number) == 0
        {
            return false;
        }
        let bank = self.bank_mut(processor, word);
        bank.latch &= !mask;
        bank.active &= !mask;
        bank.carried |= mask;
        let value = bank.list_register(intid, physical) | PENDING;
        let state = self.processor_mut(processor);
        state.attention[word] = 0;
        state.attention_banks = 0;
        state.dirty = false;
        registers.write(number, value);
        if word != 0 && physical == 0 {
            self.settle();
            self.posting = Posting::new(intid, processor, number, value);
        }
        true
    }

    #[cold]
    #[inline(never)] // It would make every flush save all registers.
    fn flush_marked(&mut self, processor: usize, registers: &mut impl ListRegisterAccess) -> Entry {
        self.settle();
        let mut entry = Entry::default();
        let state = self.processor(processor);
        if state.stale || state.eoi != 0 {
            entry.kick |= self.sync(processor, registers);
        }
        let available = bit(registers.count().min(LIST_REGISTERS_MAX)).wrapping_sub(1);
        let mut overflow = false;
        for word in bits(self.processor(processor).attention_banks) {
            let held = self.attention(processor, word) & self.bank(processor, word).loaded;
            for number in bits(held) {
                self.reconcile(processor, intid(word, number), registers, &mut entry);
            }
            let missing = self.attention(processor, word) & !self.bank(processor, word).loaded;
            for number in bits(missing) {
                let intid = intid(word, number);
                if self.wanted_here(processor, intid) {
                    let free = self.free(processor, available, registers, &mut entry);
                    if free == 0 {
                        overflow = true;
                        break;
                    }
                    self.load(processor, free.trailing_zeros() as usize, intid, registers);
                }
                self.processor_mut(processor).attention[word & (BANKS - 1)] &= !bit(number);
            }
            let state = self.processor_mut(processor);
            if state.attention[word & (BANKS - 1)] == 0 {
                state.attention_banks &= !bit(word);
            }
        }
        if overflow {
            entry.maintenance = self.choose(processor, available, registers);
        }
        self.processor_mut(processor).dirty = false;
        entry.kick = entry.kick.without(processor);
        entry
    }

    /// The list registers that can be loaded. Those that the guest is done with are released only when there are no others.
    fn free(
        &mut self,
        processor: usize,
        available: u32,
        registers: &impl ListRegisterAccess,
        entry: &mut Entry,
    ) -> u32 {
        let free = available & !self.processor(processor).occupied;
        if free != 0 {
            return free;
        }
        for number in bits(self.processor(processor).occupied & registers.empty_status()) {
            entry.kick |= self.release(processor, number);
        }
        available & !self.processor(processor).occupied
    }

    /// Learns from the list registers of `processor` what the guest has done with its interrupts, and changes none of
    /// those still in use. Needed before the processor leaves for good; reads of pending and active states call it.
    #[cold]
    pub fn sync(&mut self, processor: usize, registers: &mut impl ListRegisterAccess) -> Kick {
        self.settle();
        let mut kick = Kick::NONE;
        for number in bits(self.processor(processor).occupied) {
            let value = registers.read(number);
            if value & (PENDING | ACTIVE) == 0 {
                registers.write(number, 0);
                kick |= self.release(processor, number);
                // The maintenance interrupt that would have told of the room has just lost its cause.
                kick |= self.wake(processor, self.processor(processor).attention_banks != 0);
            } else {
                self.observe(processor, self.processor(processor).intid(number), value);
            }
        }
        self.processor_mut(processor).stale = false;
        kick
    }

    /// Whether an interrupt is there that ends the guest's WFI, given ICH_VMCR_EL2. Call it after a `flush`.
    #[inline(always)]
    pub fn signals(&self, processor: usize, registers: &impl ListRegisterAccess, vmcr: u64) -> bool {
        const VENG1: u64 = 1 << 1;
        const VPMR_SHIFT: u32 = 24;
        let state = self.processor(processor);
        let used = state.occupied & !registers.empty_status();
        vmcr & VENG1 != 0
            && (state.attention_banks != 0
                || bits(used).any(|number| {
                    let value = registers.read(number);
                    value & PENDING != 0 && value >> PRIORITY_SHIFT & 0xff < vmcr >> VPMR_SHIFT & 0xff
                }))
    }

    /// The linked PPIs of `processor` whose physical interrupts it has taken and not deactivated: those must be active on
    /// the physical processor that takes this one over, and the other linked ones must not.
    pub fn in_flight(&self, processor: usize, registers: &impl ListRegisterAccess) -> u32 {
        let bank = &self.processor(processor).private;
        let mut taken = (bank.latch | bank.loaded) & self.linked;
        if taken & bank.loaded & !bank.latch != 0 {
            for number in bits(self.processor(processor).occupied & registers.empty_status()) {
                let (word, mask) = place(self.processor(processor).intid(number));
                if word == 0 {
                    taken &= !mask | bank.latch;
                }
            }
        }
        taken
    }

    /// The devices' interrupts that the guest on `processor` has acknowledged and not deactivated, whose physical interrupts are active
    /// therefore ([`Vgic::physical_of`]).
    pub fn active_devices(&self, processor: usize, registers: &impl ListRegisterAccess) -> u32 {
        let mut active = 0;
        for number in bits(self.processor(processor).occupied) {
            let (word, mask) = place(self.processor(processor).intid(number));
            if word == DEVICES && registers.read(number) & ACTIVE != 0 {
                active |= mask & self.linked_devices;
            }
        }
        active
    }

    fn attention(&self, processor: usize, word: usize) -> u32 {
        self.processor(processor).attention[word & (BANKS - 1)]
    }

    /// Whether `intid` goes to `processor` rather than to another one or nowhere.
    #[inline(always)]
    fn goes_to(&self, processor: usize, intid: u8) -> bool {
        u32::from(intid) < PRIVATE_COUNT || self.target(intid) == Some(processor)
    }

    fn wanted_here(&self, processor: usize, intid: u8) -> bool {
        let (word, mask) = place(intid);
        self.bank(processor, word).wanted(self.group1) & mask != 0 && self.goes_to(processor, intid)
    }

    /// The guest is done with list register `number`. What has become pending meanwhile is marked again.
    pub(super) fn release(&mut self, processor: usize, number: usize) -> Kick {
        let state = self.processor_mut(processor);
        state.occupied &= !bit(number);
        state.eoi &= !bit(number);
        let (word, mask) = place(state.intid(number));
        let group1 = self.group1;
        self.unlinked(word, mask);
        let bank = self.bank_mut(processor, word);
        bank.active &= !mask | bank.ordered;
        bank.loaded &= !mask;
        bank.carried &= !mask;
        bank.ordered &= !mask;
        if bank.wanted(group1) & mask == 0 { Kick::NONE } else { self.notice(processor, word, mask) }
    }

    /// A list register lets go of an interrupt, or is about to be written anew.
    fn unlinked(&mut self, word: usize, mask: u32) {
        if word == DEVICES {
            self.unlinking &= !mask;
        }
    }

    /// Takes over what a list register that is in use shows.
    fn observe(&mut self, processor: usize, intid: u8, value: u64) {
        let (word, mask) = place(intid);
        let bank = self.bank_mut(processor, word);
        if bank.ordered & mask == 0 {
            bank.active &= !mask;
            if value & ACTIVE != 0 {
                bank.active |= mask;
            }
        }
        if value & PENDING == 0 {
            bank.carried &= !mask;
        }
    }

    /// Puts `intid`, which is wanted here and in no list register, into the free list register `number`.
    fn load(&mut self, processor: usize, number: usize, intid: u8, registers: &mut impl ListRegisterAccess) {
        let (word, mask) = place(intid);
        let (group1, linked) = (self.group1, self.physical_link(intid));
        let bank = self.bank_mut(processor, word);
        bank.loaded |= mask;
        bank.set_holder(usize::from(intid), processor, number);
        let slot = bank.hand_over(intid, bank.deliverable(group1) & mask != 0, linked);
        let state = self.processor_mut(processor);
        state.occupied |= bit(number);
        state.intids[number & (LIST_REGISTERS_MAX - 1)] = intid;
        state.store(number, slot, registers);
    }

    /// Makes the list register that holds a marked interrupt agree with the model.
    fn reconcile(
        &mut self,
        processor: usize,
        intid: u8,
        registers: &mut impl ListRegisterAccess,
        entry: &mut Entry,
    ) {
        let (word, mask) = place(intid);
        self.processor_mut(processor).attention[word & (BANKS - 1)] &= !mask;
        let (holder, number) = self.bank(processor, word).holder(usize::from(intid));
        if holder != processor {
            return;
        }
        let value = registers.read(number);
        self.observe(processor, intid, value);
        let here = self.goes_to(processor, intid);
        let (group1, linked) = (self.group1, self.physical_link(intid));
        self.unlinked(word, mask);
        let bank = self.bank_mut(processor, word);
        bank.ordered &= !mask;
        if value & ACTIVE != 0 && bank.active & mask == 0 && linked != 0 {
            match word {
                0 => entry.deactivate |= mask,
                _ => entry.deactivate_devices |= mask,
            }
        }
        let slot = bank.hand_over(intid, here && bank.deliverable(group1) & mask != 0, linked);
        if slot & (PENDING | ACTIVE) != 0 {
            self.processor_mut(processor).store(number, slot, registers);
        } else {
            registers.write(number, 0);
            entry.kick |= self.release(processor, number);
        }
    }

    /// There are more interrupts than list registers: the most urgent ones get them. Returns the maintenance interrupt
    /// that tells when to choose again.
    #[cold]
    fn choose(&mut self, processor: usize, available: u32, registers: &mut impl ListRegisterAccess) -> u64 {
        for number in bits(self.processor(processor).occupied) {
            if registers.read(number) & (PENDING | ACTIVE) == PENDING {
                self.give_back(processor, number);
                registers.write(number, 0);
                // It stays on this processor: one with another target would have been marked, and reconciled.
                let _ = self.release(processor, number);
            }
        }
        for number in bits(available & !self.processor(processor).occupied) {
            let Some(intid) = self.most_urgent(processor) else { break };
            let (word, mask) = place(intid);
            self.processor_mut(processor).attention[word & (BANKS - 1)] &= !mask;
            self.load(processor, number, intid, registers);
        }
        let state = self.processor_mut(processor);
        for word in bits(state.attention_banks) {
            if state.attention[word & (BANKS - 1)] == 0 {
                state.attention_banks &= !bit(word);
            }
        }
        if state.attention_banks == 0 {
            return 0;
        }

        let occupied = self.processor(processor).occupied;
        let mut pending = false;
        for number in bits(occupied) {
            let value = registers.read(number);
            if value & ACTIVE == 0 {
                pending = true;
            } else if value & PENDING != 0 {
                // At its end it would be pending again, unheard of, before a more urgent one that waits.
                self.give_back(processor, number);
                self.processor_mut(processor).store(number, value & !PENDING | EOI, registers);
            }
        }
        if pending {
            return NPIE;
        }
        // All are active; NPIE would not cease. The end of any of them makes room.
        let mut told = false;
        for number in bits(occupied) {
            let value = registers.read(number);
            if value & HW == 0 {
                told = true;
                self.processor_mut(processor).store(number, value | EOI, registers);
            }
        }
        if told || occupied.count_ones() < 2 { 0 } else { UIE }
    }

    /// Takes the pending state that a list register carries back into the latch.
    pub(super) fn give_back(&mut self, processor: usize, number: usize) {
        let intid = self.processor(processor).intid(number);
        let (word, mask) = place(intid);
        let bank = self.bank_mut(processor, word);
        bank.latch |= bank.carried & mask;
        bank.carried &= !mask;
    }

    /// The marked interrupt to serve first: one that can be delivered before one that is only active, then the highest
    /// priority, then the lowest INTID.
    fn most_urgent(&self, processor: usize) -> Option<u8> {
        bits(self.processor(processor).attention_banks)
            .flat_map(|word| {
                let bank = self.bank(processor, word);
                let deliverable = bank.deliverable(self.group1);
                bits(self.attention(processor, word) & !bank.loaded).map(move |number| {
                    (deliverable & bit(number) == 0, bank.priority(number), intid(word, number))
                })
            })
            .filter(|&(_, _, intid)| self.wanted_here(processor, intid))
            .min()
            .map(|(_, _, intid)| intid)
    }
}
