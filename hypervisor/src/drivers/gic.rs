//! The machine's GICv3 (Arm IHI 0069): the control OS takes every interrupt, drops its priority and deactivates it apart
//! (EOImode 1), so that a guest's end of interrupt can do the latter for its timer.

use crate::arch::registers::*;
use crate::arch::stage2::step;
use crate::processor::{self, Processor};

/// One processor asks another to look at its work.
pub const SGI_ATTENTION: u32 = 0;
/// A processor that has panicked stops the others.
pub const SGI_STOP: u32 = 1;

const GICD_CTLR: usize = 0x0000;
const GICD_TYPER: usize = 0x0004;
const GICD_IGROUPR: usize = 0x0080;
const GICD_ISENABLER: usize = 0x0100;
const GICD_ICENABLER: usize = 0x0180;
const GICD_ICPENDR: usize = 0x0280;
const GICD_ICACTIVER: usize = 0x0380;
const GICD_IPRIORITYR: usize = 0x0400;
const GICD_ICFGR: usize = 0x0c00;
const GICD_IROUTER: usize = 0x6000;
const GICR_WAKER: usize = 0x0014;
const GICR_TYPER: usize = 0x0008;
/// The SGI frame follows the RD frame.
const SGI_FRAME: usize = 0x1_0000;
const GICR_ISACTIVER0: usize = SGI_FRAME + 0x0300;

/// GICD_CTLR: affinity routing and group 1, where there is one security state or we are in the non-secure one.
const ENABLE_GROUP1_ARE: u32 = 1 << 4 | 1 << 1;
const RWP: u32 = 1 << 31;
const PRIORITY: u32 = 0x8080_8080;

/// Where the frames are.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gic {
    /// Distributor.
    pub distributor: usize,
    /// Redistributor regions: base and bytes.
    pub redistributors: [(usize, usize); 4],
}

fn read(address: usize) -> u32 {
    // SAFETY: only called with addresses inside the frames that `Gic` names, which are mapped as device memory.
    unsafe { (address as *const u32).read_volatile() }
}

fn write(address: usize, value: u32) {
    // SAFETY: as for `read`; the GIC's registers change which interrupts are taken, not memory.
    unsafe { (address as *mut u32).write_volatile(value) }
}

impl Gic {
    /// Before it is known where they are.
    pub const NONE: Gic = Gic { distributor: 0, redistributors: [(0, 0); 4] };

    /// Sets the distributor up: every shared interrupt off, group 1, inactive.
    pub fn start(&self) {
        let base = self.distributor;
        write(base + GICD_CTLR, 0);
        self.wait_for_writes();
        let lines = (read(base + GICD_TYPER) & 0x1f) as usize + 1;
        for word in 1..lines.min(31) {
            write(base + GICD_ICENABLER + 4 * word, u32::MAX);
            write(base + GICD_ICACTIVER + 4 * word, u32::MAX);
            write(base + GICD_IGROUPR + 4 * word, u32::MAX);
        }
        for word in 8..(lines * 8).min(255) {
            write(base + GICD_IPRIORITYR + 4 * word, PRIORITY);
        }
        write(base + GICD_CTLR, ENABLE_GROUP1_ARE);
        self.wait_for_writes();
    }

    fn wait_for_writes(&self) {
        while read(self.distributor + GICD_CTLR) & RWP != 0 {
            <crate::lock::Relax as spin::RelaxStrategy>::relax();
        }
    }

    /// The redistributor whose GICR_TYPER has this affinity.
    pub fn find_redistributor(&self, mpidr: u64) -> Option<usize> {
        let affinity = (mpidr & 0xff_ffff | mpidr >> 8 & 0xff00_0000) as u32;
        for (base, size) in self.redistributors {
            let mut frame = base;
            while frame + 2 * SGI_FRAME <= base + size {
                let typer = read(frame + GICR_TYPER);
                if read(frame + GICR_TYPER + 4) == affinity {
                    return Some(frame);
                }
                const LAST: u32 = 1 << 4;
                const VLPIS: u32 = 1 << 1;
                if typer & LAST != 0 {
                    break;
                }
                frame += if typer & VLPIS != 0 { 4 * SGI_FRAME } else { 2 * SGI_FRAME };
            }
        }
        None
    }

    /// Takes a shared interrupt, to this processor.
    pub fn enable_shared(&self, intid: u32) {
        self.route(intid, processor::this());
        self.write_bit(GICD_ISENABLER, intid);
    }

    /// Has a shared interrupt go to a processor from now on.
    pub fn route(&self, intid: u32, to: &Processor) {
        let n = intid as usize;
        let mpidr = to.mpidr();
        write(self.distributor + GICD_IROUTER + 8 * n, mpidr as u32 & 0xff_ffff);
        write(self.distributor + GICD_IROUTER + 8 * n + 4, (mpidr >> 32) as u32);
    }

    /// Takes a device's interrupt, which is off and inactive, to a processor.
    pub fn connect(&self, intid: u32, edge: bool, to: &Processor) {
        let config = self.distributor + GICD_ICFGR + 4 * (intid as usize / 16);
        let bit = 2 << (2 * (intid % 16));
        let others = read(config) & !bit;
        write(config, if edge { others | bit } else { others });
        self.route(intid, to);
        // An edge from before is nobody's news; a level comes again by itself.
        self.write_bit(GICD_ICPENDR, intid);
        self.write_bit(GICD_ISENABLER, intid);
    }

    /// Takes a shared interrupt no more: when this returns, it is signalled to no processor (IHI 0069, 12.9.7: GICD_CTLR.RWP).
    pub fn disable_shared(&self, intid: u32) {
        self.write_bit(GICD_ICENABLER, intid);
        self.wait_for_writes();
    }

    /// Whether a shared interrupt of that number is there.
    pub fn has_shared(&self, intid: u32) -> bool {
        let lines = (read(self.distributor + GICD_TYPER) & 0x1f) + 1;
        (32..(32 * lines).min(1020)).contains(&intid)
    }

    /// Forgets what is left of a disabled shared interrupt.
    pub fn forget_shared(&self, intid: u32) {
        self.write_bit(GICD_ICACTIVER, intid);
        self.write_bit(GICD_ICPENDR, intid);
    }

    fn write_bit(&self, register: usize, intid: u32) {
        write(self.distributor + register + 4 * (intid as usize / 32), 1 << (intid % 32));
    }
}

/// Sets this processor's interface up, with the private interrupts `enabled` (bit n: INTID n).
pub fn start_processor(processor: &Processor, enabled: u32) {
    let frame = processor.redistributor();
    const PROCESSOR_SLEEP: u32 = 1 << 1;
    const CHILDREN_ASLEEP: u32 = 1 << 2;
    write(frame + GICR_WAKER, read(frame + GICR_WAKER) & !PROCESSOR_SLEEP);
    while read(frame + GICR_WAKER) & CHILDREN_ASLEEP != 0 {
        <crate::lock::Relax as spin::RelaxStrategy>::relax();
    }
    write(frame + SGI_FRAME + GICD_ICENABLER, u32::MAX);
    write(frame + SGI_FRAME + GICD_ICACTIVER, u32::MAX);
    write(frame + SGI_FRAME + GICD_IGROUPR, u32::MAX);
    for word in 0..8 {
        write(frame + SGI_FRAME + GICD_IPRIORITYR + 4 * word, PRIORITY);
    }
    write(frame + SGI_FRAME + GICD_ISENABLER, enabled);

    // System registers everywhere; EL1's switch for them traps (IHI 0069, 12.2.24): Enable is 0.
    ICC_SRE_EL2.set(0x7);
    step::isb();
    ICC_SRE_EL1.set(0x7);
    step::isb();
    ICC_CTLR_EL1.set(1 << 1);
    ICC_PMR_EL1.set(0xff);
    ICC_IGRPEN1_EL1.set(1);
    // The virtual interface; a guest that waits sees no maintenance interrupt.
    ICH_HCR_EL2.set(1);
    ICH_VMCR_EL2.set(0);
    let list_registers = list_register_count();
    for n in 0..list_registers {
        crate::arch::context::write_list_register(n, 0);
    }
    ICH_AP0R0_EL2.clear();
    ICH_AP1R0_EL2.clear();
    step::isb();
}

/// Whether the virtual interface needs more than one register of active priorities for each group (ICH_VTR_EL2.PREbits), which are not switched.
pub fn has_more_priorities() -> bool {
    (ICH_VTR_EL2.get() >> 26 & 7) + 1 > 5
}

/// List registers of this processor (ICH_VTR_EL2.ListRegs).
pub fn list_register_count() -> usize {
    (ICH_VTR_EL2.get() & 0x1f) as usize + 1
}

/// The next interrupt to handle; its priority stays raised until [`drop_priority`].
#[inline]
pub fn acknowledge() -> Option<u32> {
    let intid = ICC_IAR1_EL1.get() as u32 & 0xff_ffff;
    // 1020 to 1023 are special: none of ours, or none at all.
    (intid < 1020).then_some(intid)
}

/// Lets other interrupts come; this one stays active.
#[inline]
pub fn drop_priority(intid: u32) {
    ICC_EOIR1_EL1.set(u64::from(intid));
}

/// Lets this interrupt come again.
#[inline]
pub fn deactivate(intid: u32) {
    ICC_DIR_EL1.set(u64::from(intid));
}

/// Makes private interrupts of this processor active (bit n: INTID n), as if they had been taken and not ended.
pub fn activate_private(mask: u32) {
    write(processor::this().redistributor() + GICR_ISACTIVER0, mask);
}

/// Sends an SGI to the processor with index `to`.
pub fn send(intid: u32, to: usize) {
    let mpidr = processor::get(to).mpidr();
    let (aff0, aff1, aff2, aff3) = (mpidr & 0xff, mpidr >> 8 & 0xff, mpidr >> 16 & 0xff, mpidr >> 32 & 0xff);
    step::dsb_ishst();
    ICC_SGI1R_EL1.set(
        aff3 << 48 | (aff0 >> 4) << 44 | aff2 << 32 | u64::from(intid) << 24 | aff1 << 16 | 1 << (aff0 & 0xf),
    );
    step::isb();
}

/// Sends an SGI to every other processor.
pub fn send_to_others(intid: u32) {
    const IRM: u64 = 1 << 40;
    step::dsb_ishst();
    ICC_SGI1R_EL1.set(IRM | u64::from(intid) << 24);
    step::isb();
}
