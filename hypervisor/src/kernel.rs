//! All state that the processors share, behind one lock. Every hold of it is bounded: the rules work in bounded steps.

use core::arch::asm;

use handover_abi::layout::EVENT_INTID;
use handover_abi::{Counter, Error, MessageWord, Port, RegionHandle};
use handover_core::maintenance::{CacheStep, Capabilities as MaintenanceCapabilities, Step, Steps};
use handover_core::schedule::Schedule;
use handover_core::vgic::Kick;
use handover_core::{
    CacheMaintenance, Colours, Interrupt, Ipa, Machine, Maintenance, PARTITION_PLACES, Pa, PartitionIndex,
    Progress, System, VcpuId,
};

use crate::arch;
use crate::arch::features::Capabilities;
use crate::arch::stage2::{self, step};
use crate::bus::Restrained;
use crate::console::Consoles;
use crate::device::DeviceInterrupts;
use crate::drivers::gic::Gic;
use crate::lock::{Guard, ShortLock};
use crate::memory::Memory;
use crate::partition::Shell;
use crate::processor::{self, PROCESSORS_MAX};
use crate::schedule::Requests;
use crate::vcpu::{VcpuKey, VcpuRecords};
use crate::watchdog::Watchdogs;

/// See the module.
#[repr(C)]
pub struct Kernel {
    /// All but the rules' state. First, since it is looked at most.
    pub hardware: Hardware,
    /// The rules' state.
    pub system: System,
}

/// The outermost lock.
pub static KERNEL: KernelLock =
    KernelLock(ShortLock::new(Kernel { system: System::new(), hardware: Hardware::new() }));

/// See [`KERNEL`].
#[repr(transparent)]
pub struct KernelLock(ShortLock<Kernel>);

impl KernelLock {
    /// Takes it.
    #[inline(always)]
    pub fn lock(&'static self) -> Guard<Kernel> {
        let at: *const KernelLock;
        // SAFETY: the address of a static. It is within the 1 MiB that one instruction reaches, or the image does not link; the compiler would take two.
        unsafe {
            asm!("adr {}, {}", out(reg) at, sym KERNEL, options(pure, nomem, nostack, preserves_flags));
            (*at).0.lock()
        }
    }
}

/// Everything but the rules' own state.
pub struct Hardware {
    /// Memory that nobody has, and how it is given out.
    pub memory: Memory,
    shells: [Option<&'static mut Shell>; PARTITION_PLACES],
    /// Who runs where.
    pub schedule: Schedule<VcpuKey>,
    /// What it keeps of each logical processor.
    pub records: VcpuRecords,
    /// Each physical processor's timer: what it is set to, `u64::MAX` when it is off.
    pub programmed: [u64; PROCESSORS_MAX],
    /// Bit n: that of processor n has fired, and it has not been looked at since what is due next.
    pub fired: u16,
    /// Partitions that have ended and hold things still: bit n for index n.
    pub reaping: u128,
    /// Requests with timeouts.
    pub requests: Requests,
    /// When watchdogs bite.
    pub watchdogs: Watchdogs,
    /// Direct calls that have a time limit.
    pub timeouts: u32,
    /// Which physical processors limits of the bus are kept on.
    pub restrained: Restrained,
    /// Consoles.
    pub consoles: Consoles,
    /// What the processors can do. All are taken to be alike.
    pub capabilities: Capabilities,
    /// List registers of each processor.
    pub list_registers: usize,
    /// The device tree's INTID of the UART.
    pub uart_intid: u32,
    /// The interrupt controller.
    pub gic: Gic,
    /// Whose the interrupts of devices are.
    pub device_interrupts: DeviceInterrupts,
    /// System-control.
    pub privileged: Option<PartitionIndex>,
}

impl Hardware {
    const fn new() -> Hardware {
        Hardware {
            memory: Memory::empty(),
            shells: [const { None }; PARTITION_PLACES],
            schedule: Schedule::new(),
            // SAFETY: this is called once, for `KERNEL`.
            records: unsafe { VcpuRecords::new() },
            programmed: [u64::MAX; PROCESSORS_MAX],
            fired: 0,
            reaping: 0,
            requests: Requests { deadline: u64::MAX, processor: 0 },
            watchdogs: Watchdogs { deadline: u64::MAX, processor: 0 },
            timeouts: 0,
            restrained: Restrained::NONE,
            consoles: Consoles::new(),
            capabilities: Capabilities::NONE,
            list_registers: 0,
            uart_intid: 0,
            gic: Gic::NONE,
            device_interrupts: DeviceInterrupts::new(),
            privileged: None,
        }
    }

    /// A partition's shell.
    #[inline]
    pub fn shell(&self, partition: PartitionIndex) -> Option<&Shell> {
        self.shells[partition.get()].as_deref()
    }

    /// The same, to change.
    #[inline]
    pub fn shell_mut(&mut self, partition: PartitionIndex) -> Option<&mut Shell> {
        self.shells[partition.get()].as_deref_mut()
    }

    /// Keeps a new partition's shell.
    pub fn insert_shell(&mut self, partition: PartitionIndex, shell: &'static mut Shell) {
        self.shells[partition.get()] = Some(shell);
    }

    /// Gives a partition's shell up.
    pub fn remove_shell(&mut self, partition: PartitionIndex) -> Option<&'static mut Shell> {
        self.shells[partition.get()].take()
    }

    /// Carries out what the interrupt controller asks: somebody must look at new interrupts.
    #[inline]
    pub fn kick(&mut self, partition: PartitionIndex, kick: Kick) {
        for index in kick.processors() {
            self.attend(partition, index);
        }
    }

    /// The same for what one interrupt asks: most often one processor.
    #[inline(always)]
    fn kick_one(&mut self, partition: PartitionIndex, kick: Kick) {
        if kick.mask().is_power_of_two() {
            self.attend_here(partition, kick.mask().trailing_zeros() as usize);
        } else {
            self.kick(partition, kick);
        }
    }

    /// Where another VMID is loaded, or there are no range instructions. Each of its arguments is in a register: the operation itself would be put together in
    /// memory before it is known whether it is needed.
    #[inline(never)]
    fn unlink_elsewhere(&mut self, vmid: u16, at: Ipa, order: u8, entries: u16) {
        self.maintain_rest(vmid, Maintenance::Unlink { at, order, entries });
    }

    #[inline(never)]
    fn maintain_rest(&mut self, vmid: u16, op: Maintenance) {
        let capabilities = self.maintenance();
        if matches!(op, Maintenance::Unlink { .. } | Maintenance::All)
            && let Some(Some(shell)) = self.shells.get_mut(usize::from(vmid).wrapping_sub(1))
        {
            match op {
                Maintenance::All => shell.flushes += 1,
                _ => shell.unlinks += 1,
            }
        }
        if !op.needs_vmid() {
            op.perform(capabilities, Tlb);
        } else {
            // The root does not matter to a TLBI, only the VMID does.
            stage2::with_vmid(vmid, || op.perform(capabilities, Tlb));
        }
    }

    fn maintenance(&self) -> MaintenanceCapabilities {
        MaintenanceCapabilities {
            tlb_range: self.capabilities.tlb_range,
            forced_write_back: self.capabilities.forced_write_back,
            cache_line: arch::cache::line(),
        }
    }
}

/// Operand of TLBI RIPAS2E1IS (Arm ARM C5.5, FEAT_TLBIRANGE): 4 KiB granule, any level.
const fn range_operand(at: u64, scale: u8, num: u8) -> u64 {
    (at >> 12 & 0x1f_ffff_ffff) | 1 << 46 | (scale as u64 & 3) << 44 | (num as u64 & 31) << 39
}

/// What a TLB's maintenance asks for where there are range instructions.
const RANGES: MaintenanceCapabilities =
    MaintenanceCapabilities { tlb_range: true, forced_write_back: true, cache_line: 64 };

/// Carries out steps of TLB maintenance on this processor.
struct Tlb;

impl Steps for Tlb {
    #[inline(always)]
    fn step(&mut self, maintenance_step: Step) {
        match maintenance_step {
            Step::DsbIshst => step::dsb_ishst(),
            Step::DsbIsh => step::dsb_ish(),
            Step::Isb => step::isb(),
            Step::TlbiIpas2 { at } => step::tlbi_ipas2e1(at.get() >> 12),
            Step::TlbiIpas2Range { at, scale, num } => {
                step::tlbi_ripas2e1(range_operand(at.get(), scale, num))
            }
            Step::TlbiVmalls12 => step::tlbi_vmalls12e1(),
            Step::TlbiVmalle1 => step::tlbi_vmalle1(),
        }
    }
}

impl Machine for Hardware {
    fn allocate(&mut self, order: u8) -> Option<Pa> {
        self.memory.allocate(order)
    }

    fn allocate_coloured(&mut self, colours: Colours) -> Option<Pa> {
        self.memory.allocate_coloured(colours)
    }

    fn free(&mut self, pa: Pa, order: u8) {
        self.memory.free(pa, order);
    }

    fn zero(&mut self, pa: Pa, size: u64) {
        // SAFETY: the rules pass memory that `allocate` handed out; EL2 maps it writable and has no reference into it. A guest reaches it only if it is
        // shared memory that the other end leaves, and then has to expect that its bytes change.
        unsafe { arch::zero(pa.get(), size) };
        if !self.capabilities.forced_write_back {
            self.clean(CacheMaintenance::Range { at: pa, size });
            self.clean(CacheMaintenance::Complete);
        }
    }

    fn clean(&mut self, op: CacheMaintenance) {
        op.perform(self.maintenance(), |step| match step {
            CacheStep::CleanInvalidate { at } => arch::cache::clean_invalidate(at.get()),
            CacheStep::DsbSy => arch::cache::dsb_sy(),
        });
    }

    #[inline]
    fn entry(&self, table: Pa, index: usize) -> u64 {
        // SAFETY: a table is a frame that `allocate` handed out, mapped at EL2, and `index` is below 512. Volatile, since the
        // hardware reads it too.
        unsafe { (table.get() as *const u64).add(index).read_volatile() }
    }

    #[inline]
    fn set_entry(&mut self, table: Pa, index: usize, value: u64) {
        // SAFETY: as for `entry`; the rules say what may be mapped.
        unsafe { (table.get() as *mut u64).add(index).write_volatile(value) }
    }

    #[inline(always)]
    fn maintain(&mut self, vmid: u16, op: Maintenance) {
        // What every message with a region needs. The same as below, without looking for what it is.
        match op {
            Maintenance::Link => Maintenance::Link.perform(RANGES, Tlb),
            Maintenance::Unlink { at, order, entries } => {
                if !(self.capabilities.tlb_range && stage2::has_vmid(vmid)) {
                    return self.unlink_elsewhere(vmid, at, order, entries);
                }
                if let Some(shell) = &mut self.shells[usize::from(vmid.wrapping_sub(1)) % PARTITION_PLACES] {
                    shell.unlinks = shell.unlinks.wrapping_add(1);
                }
                op.perform(RANGES, Tlb);
            }
            op => self.maintain_rest(vmid, op),
        }
    }

    #[inline(always)]
    fn unlink_here(&mut self, _vmid: u16, at: Ipa, order: u8, entries: u16) {
        // SAFETY: it runs here, so it is placed; its counters are atomic.
        unsafe { (*processor::this().current()).counters.count(Counter::TranslationUnlinks) };
        Maintenance::Unlink { at, order, entries }.perform(RANGES, Tlb);
    }

    #[inline(always)]
    fn unlinks_ranges(&self) -> bool {
        self.capabilities.tlb_range
    }

    fn nanoseconds(&self) -> u64 {
        self.now()
    }

    fn records<T: Default + 'static>(&mut self, frame: Pa) -> &'static mut [T] {
        const { assert!(size_of::<T>() > 0 && size_of::<T>() <= 4096 && align_of::<T>() <= 4096) };
        let count = 4096 / size_of::<T>();
        let first = frame.get() as *mut T;
        for n in 0..count {
            // SAFETY: the frame is 4096 bytes that `allocate` handed out for this alone.
            unsafe { first.add(n).write(T::default()) };
        }
        // SAFETY: all `count` are initialised, and nobody else has the frame until `reclaim`.
        unsafe { core::slice::from_raw_parts_mut(first, count) }
    }

    fn reclaim<T: 'static>(&mut self, page: &'static mut [T]) -> Pa {
        Pa::new(page.as_ptr() as u64)
    }

    fn call_failed(&mut self, caller: VcpuId, error: Error, region: Option<RegionHandle>) {
        Hardware::call_failed(self, caller, error, MessageWord::new(Port::CONTROL, region, 0));
    }

    #[inline(always)]
    fn interrupt(&mut self, partition: PartitionIndex) {
        if let Some(shell) = self.shell_mut(partition) {
            let kick = shell.vgic.raise(0, EVENT_INTID);
            self.kick_one(partition, kick);
        }
    }

    #[inline(always)]
    fn interrupt_chosen(&mut self, partition: PartitionIndex, intid: u8) {
        if let Some(shell) = self.shell_mut(partition) {
            let kick = shell.vgic.raise(0, u32::from(intid));
            self.kick_one(partition, kick);
        }
    }

    fn route(&mut self, partition: PartitionIndex, intid: u8, processor: u32) {
        if let Some(shell) = self.shell_mut(partition) {
            let kick = shell.vgic.route(intid, processor);
            self.kick(partition, kick);
        }
    }

    fn connect_interrupt(&mut self, interrupt: Interrupt, partition: PartitionIndex, intid: u32) {
        self.connect(interrupt, partition, intid);
    }

    fn disconnect_interrupt(
        &mut self,
        interrupt: Interrupt,
        partition: PartitionIndex,
        intid: u32,
    ) -> Progress {
        self.disconnect(interrupt, partition, intid)
    }
}
