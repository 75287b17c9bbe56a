//! What the control OS keeps of a partition beside the rules: processors, interrupt controller, console.

use handover_abi::Name;
use handover_abi::layout::{PROCESSORS_MAX, VIRTUAL_TIMER_INTID};
use handover_core::traffic::Traffic;
use handover_core::vgic::Vgic;

use crate::console::Terminal;
use crate::processor::PROCESSORS_MAX as PROCESSORS;
use crate::vcpu::{Arrival, VcpuKey};

/// Logical processors of a partition.
pub const VCPUS: usize = PROCESSORS_MAX as usize;

/// Whether a partition's logical processors may be on physical ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Halt {
    /// They may.
    No,
    /// Not until it is resumed. Those that are on one leave it soon, and wait as in WFI, but for nothing.
    Paused,
    /// Never again: it has ended.
    Ending,
}

/// What ends a partition that does not say in time that it is well.
#[derive(Clone, Copy, Default)]
pub struct Watchdog {
    /// As system-control has set it; 0 if it has not.
    pub nanoseconds: u64,
    /// The same in ticks, at least one.
    pub ticks: u64,
    /// When it bites, in the partition's own count.
    pub due: u64,
}

/// See the module. One frame.
pub struct Shell {
    /// Interrupts.
    pub vgic: Vgic,
    /// Logical processors; none for numbers it does not have.
    pub vcpus: [Option<VcpuKey>; VCPUS],
    /// Which of them each physical processor had last, plus one; 0 for none.
    pub last: [u8; PROCESSORS],
    /// Whether anything of it may run.
    pub halt: Halt,
    /// The physical count when the last of a paused partition's logical processors had left; `u64::MAX` before that.
    pub halted_at: u64,
    /// The watchdog.
    pub watchdog: Watchdog,
    /// What limits of the bus ask of a physical processor that runs it: bits of [`Restraint`](crate::bus::Restraint).
    pub restraint: u8,
    /// Its memory traffic.
    pub traffic: Traffic,
    /// Console.
    pub terminal: Terminal,
    /// How often the TLBs had to forget some addresses of its translation.
    pub unlinks: u64,
    /// And all of it.
    pub flushes: u64,
    /// Physical minus virtual count, the same on all its processors.
    pub counter_offset: u64,
}

const _: () = assert!(size_of::<Shell>() <= 4096);

impl Shell {
    /// The interrupt controller of one that has not started.
    pub fn interrupts(count: u32) -> Vgic {
        Vgic::new(count, 1 << VIRTUAL_TIMER_INTID)
    }

    /// Its logical processors.
    pub fn count(&self) -> u32 {
        self.vcpus.iter().flatten().count() as u32
    }

    /// Whether anything of it may run, from now on.
    pub fn set_halt(&mut self, halt: Halt) {
        self.halt = halt;
        self.note_arrivals();
    }

    /// Has its logical processors know what is to be looked at when one of them comes onto a physical one. To be called, under the kernel lock, after
    /// anything of that has changed: `vcpus`, `halt`, `restraint`.
    pub fn note_arrivals(&mut self) {
        let mut marks = 0;
        for (mark, set) in [
            (Arrival::SIBLINGS, self.count() > 1),
            (Arrival::RESTRAINED, self.restraint != 0),
            (Arrival::HALTED, self.halt != Halt::No),
        ] {
            marks |= if set { mark } else { 0 };
        }
        for key in self.vcpus.into_iter().flatten() {
            // SAFETY: a key names a placed frame; the field is touched under the lock alone, which the caller has.
            let arrival = unsafe { &mut (*key.as_ptr()).arrival };
            *arrival = *arrival & !Arrival::OF_PARTITION | marks;
        }
    }

    /// A partition that has not started.
    pub fn new(name: Name, count: u32) -> Shell {
        Shell {
            vgic: Shell::interrupts(count),
            vcpus: [None; VCPUS],
            last: [0; PROCESSORS],
            halt: Halt::No,
            halted_at: u64::MAX,
            watchdog: Watchdog::default(),
            restraint: 0,
            traffic: Traffic::new(),
            terminal: Terminal::new(name),
            unlinks: 0,
            flushes: 0,
            counter_offset: 0,
        }
    }
}
