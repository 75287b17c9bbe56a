//! The one counter of the performance monitors that the control OS keeps for itself: the last, which MDCR_EL2.HPMN takes away from EL1
//! (Arm ARM D13). It counts what a limited guest does, and what EL2 does meanwhile.

use aarch64_cpu::registers::MDCR_EL2;
use tock_registers::interfaces::ReadWriteable;

use super::registers::*;
use super::stage2::step;

/// Events that stand for memory traffic, the best first: BUS_ACCESS, L2D_CACHE_REFILL, MEM_ACCESS.
const TRAFFIC: [u64; 3] = [0x19, 0x17, 0x13];
/// PMEVTYPER.NSH: EL2 counts too.
const COUNT_EL2: u64 = 1 << 27;
/// Most events of one run: the counter has 32 bits (MDCR_EL2.HLP = 0).
pub const RUN_MAX: u64 = 1 << 31;

/// The counter.
#[derive(Clone, Copy, Debug)]
pub struct Monitor {
    /// Its number.
    counter: u8,
    /// Its overflow's INTID, a PPI.
    pub intid: u32,
}

impl Monitor {
    /// This processor's last counter, if there is more than one: without FEAT_HPMN0, EL1 has to keep one. `intid` is what the device tree tells.
    pub fn find(intid: Option<u32>) -> Option<Monitor> {
        let version = ID_AA64DFR0_EL1.get() >> 8 & 0xf;
        let counters = if matches!(version, 0 | 0xf) { 0 } else { PMCR_EL0.get() >> 11 & 0x1f };
        let intid = intid.filter(|intid| (16..32).contains(intid))?;
        (counters > 1).then_some(Monitor { counter: counters as u8 - 1, intid })
    }

    /// Takes the counter for EL2, on this processor.
    pub fn configure(self) {
        MDCR_EL2.modify(MDCR_EL2::HPMN.val(u64::from(self.counter)) + MDCR_EL2::HPME::SET);
        PMCNTENCLR_EL0.set(u64::MAX);
        PMINTENCLR_EL1.set(u64::MAX);
        PMOVSCLR_EL0.set(u64::MAX);
        // Guests reach none of these registers, so this stays.
        PMSELR_EL0.set(u64::from(self.counter));
        step::isb();
        PMINTENSET_EL1.set(self.bit());
        // E is EL1's counters' alone, of which none is on; but some machines raise no interrupt without it.
        PMCR_EL0.set(1);
    }

    fn bit(self) -> u64 {
        1 << self.counter
    }

    /// Whether the processor says that it counts this event (PMCEID0_EL0 and PMCEID1_EL0).
    pub fn counts(self, event: u64) -> bool {
        let [low, high] = [PMCEID0_EL0.get(), PMCEID1_EL0.get()];
        let bit = event & 31;
        match event {
            0x00..0x20 => low >> bit & 1 != 0,
            0x20..0x40 => high >> bit & 1 != 0,
            0x4000..0x4020 => low >> 32 >> bit & 1 != 0,
            0x4020..0x4040 => high >> 32 >> bit & 1 != 0,
            _ => false,
        }
    }

    /// The event that stands for memory traffic here.
    pub fn traffic(self) -> Option<u64> {
        TRAFFIC.into_iter().find(|event| self.counts(*event))
    }

    /// Counts on this processor; after `run` events the interrupt comes.
    pub fn start(self, event: u64, run: u64) {
        PMXEVTYPER_EL0.set(event & 0xffff | COUNT_EL2);
        PMXEVCNTR_EL0.set((1 << 32) - run.clamp(1, RUN_MAX));
        PMOVSCLR_EL0.set(self.bit());
        PMCNTENSET_EL0.set(self.bit());
        step::isb();
    }

    /// Counts no more. → how many there were since it was started to count `run`.
    pub fn stop(self, run: u64) -> u64 {
        PMCNTENCLR_EL0.set(self.bit());
        step::isb();
        let counted = PMXEVCNTR_EL0.get() & 0xffff_ffff;
        PMOVSCLR_EL0.set(self.bit());
        step::isb();
        counted.wrapping_add(run.clamp(1, RUN_MAX)) & 0xffff_ffff
    }

    /// The interrupt has come, and goes.
    pub fn quiet(self) {
        PMOVSCLR_EL0.set(self.bit());
        step::isb();
    }
}
