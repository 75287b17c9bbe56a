//! From the boot loader to the first guest.

use core::sync::atomic::{AtomicUsize, Ordering};

use fdt::Fdt;
use handover_abi::archive::Header;
use handover_abi::boot::{BootInfo, MAGIC};
use handover_abi::layout::{ADD_MEMORY_MAX, ARCHIVE_BASE, MEMORY_BASE};
use handover_abi::{Account, Name, Unsupported};
use handover_core::{Attributes, Ipa, PAGE, Pa};
use zerocopy::IntoBytes;

use crate::arch::features::Capabilities;
use crate::arch::monitor::Monitor;
use crate::arch::registers::{CNTFRQ_EL0, CNTPCT_EL0, MPIDR_EL1};
use crate::arch::smc;
use crate::arch::stage1::{Access, Mapper, publish_translation};
use crate::arch::start::{Image, configure, secondary_entry};
use crate::devicetree::{self, Description};
use crate::drivers::gic;
use crate::interrupt::PRIVATE;
use crate::kernel::{KERNEL, Kernel};
use crate::memory::{RANGES_MAX, Range};
use crate::processor::{self, PROCESSORS_MAX, Processor, STACK_GUARD, stack_guards};
use crate::schedule::{Leave, schedule};
use crate::uart::UART;
use crate::{arch, entropy, life, uart};

/// What MPIDR_EL1 says of where a processor is.
const AFFINITY: u64 = 0xff_00ff_ffff;
/// The most a device tree may take.
const DEVICE_TREE_MAX: u64 = 2 << 20;
/// Processors that are up.
static UP: AtomicUsize = AtomicUsize::new(0);

fn page_down(address: u64) -> u64 {
    address & !(PAGE - 1)
}

fn page_up(address: u64) -> u64 {
    address.next_multiple_of(PAGE)
}

/// The boot processor, MMU off, on its stack (`start.s`).
pub extern "C" fn boot_main(device_tree: u64) -> ! {
    let image = Image::find();
    // SAFETY: the boot processor, once.
    let mut mapper = unsafe { Mapper::new() };
    mapper.map(image.start, image.rodata, Access::Execute);
    mapper.map(image.rodata, image.data, Access::Read);
    // A stack that runs over must fault, not run into the next one.
    let mut at = image.data;
    for guard in stack_guards() {
        mapper.map(at, guard, Access::Write);
        at = guard + STACK_GUARD as u64;
    }
    mapper.map(at, image.end, Access::Write);
    let tree_start = page_down(device_tree);
    mapper.map(tree_start, page_up(device_tree + DEVICE_TREE_MAX), Access::Read);
    mapper.enable();
    // SAFETY: the first, before all others have started.
    unsafe { processor::prepare() };

    // SAFETY: the boot protocol has the device tree's address in x0; it is mapped, and `fdt` checks its magic.
    let tree = unsafe { Fdt::from_ptr(device_tree as *const u8) };
    let Ok(tree) = tree else { panic!("no device tree at {device_tree:#x}") };
    let machine = match devicetree::read(&tree) {
        Ok(machine) => machine,
        Err(missing) => panic!("the device tree lacks something the control OS needs: {missing}"),
    };
    let tree_range = Range { start: device_tree, end: device_tree + tree.total_size() as u64 };
    start(&mut mapper, &image, (&tree, tree_range), &machine)
}

fn start(mapper: &mut Mapper, image: &Image, (fdt, tree): (&Fdt, Range), machine: &Description) -> ! {
    mapper.map(page_down(machine.uart as u64), page_up(machine.uart as u64 + 1), Access::Device);
    // SAFETY: the device tree says so, and it has just been mapped.
    unsafe { UART.lock().attach(machine.uart) };
    uart::start_log();
    let capabilities = Capabilities::read();
    log::info!(
        "Handover {}, interface {}.{}",
        env!("CARGO_PKG_VERSION"),
        handover_abi::REVISION.0,
        handover_abi::REVISION.1
    );

    map_devices(mapper, machine);
    let mapped = [
        Range { start: image.start, end: image.end },
        Range { start: page_down(tree.start), end: page_up(tree.start + DEVICE_TREE_MAX) },
    ];
    for range in &machine.memory {
        map_memory(mapper, *range, &mapped);
    }
    publish_translation();

    let mut taken = [Range::default(); RANGES_MAX + 3];
    taken[..RANGES_MAX].copy_from_slice(&machine.reserved);
    taken[RANGES_MAX] = mapped[0];
    // All of what is mapped read-only for the device tree: it cannot be given out.
    taken[RANGES_MAX + 1] = mapped[1];
    taken[RANGES_MAX + 2] = machine.archive;

    let palette = arch::cache::palette();
    let processor = Processor::adopt(0);
    let mpidr = MPIDR_EL1.get() & AFFINITY;
    processor.set_mpidr(mpidr);
    {
        let mut kernel = KERNEL.lock();
        let kernel: &mut Kernel = &mut kernel;
        let hardware = &mut kernel.hardware;
        hardware.capabilities = capabilities;
        hardware.uart_intid = machine.uart_intid;
        hardware.gic = machine.gic;
        hardware.restrained.monitor = Monitor::find(machine.monitor_intid);
        kernel.system.set_attributes(Attributes { fwb: capabilities.forced_write_back });
        kernel.system.set_palette(palette);
        // SAFETY: the device tree's memory, all of it mapped above, less everything that is used.
        unsafe { hardware.memory.add(&machine.memory, &taken, !capabilities.forced_write_back, palette) };
        kernel
            .system
            .prepare_lending(hardware)
            .unwrap_or_else(|_| panic!("no memory for the control OS's own records"));
    }
    find_devices(fdt, machine);
    entropy::start(&machine.seed[..machine.seed_size], capabilities.random);
    start_interrupts(machine, processor, &capabilities);
    let count = start_processors(machine, mpidr);
    KERNEL.lock().hardware.schedule.start(count, CNTFRQ_EL0.get());
    log::info!(
        "{count} processors, {} MiB of memory free, {}",
        KERNEL.lock().hardware.memory.free_bytes() >> 20,
        if capabilities.forced_write_back {
            "stage 2 forces write-back"
        } else {
            "caches are cleaned at each move"
        },
    );

    {
        let mut kernel = KERNEL.lock();
        if let Err(problem) = start_system_control(&mut kernel, machine.archive) {
            panic!("system-control cannot be started: {problem}");
        }
    }
    if let Some(device) = UART.lock().device() {
        device.listen(true);
    }
    log::info!("system-control starts at tick {}", CNTPCT_EL0.get());
    run()
}

fn map_devices(mapper: &mut Mapper, machine: &Description) {
    let base = machine.gic.distributor as u64;
    mapper.map(base, base + 0x1_0000, Access::Device);
    for (base, size) in machine.gic.redistributors {
        let (start, end) = (page_down(base as u64), page_up((base + size) as u64));
        mapper.map(start, end, Access::Device);
    }
}

/// Notes the devices that partitions may hold: all but those that the control OS uses.
fn find_devices(fdt: &Fdt, machine: &Description) {
    let distributor = (machine.gic.distributor as u64, 0x1_0000);
    let redistributors = machine.gic.redistributors.map(|(base, size)| (base as u64, size as u64));
    let uart = (machine.uart as u64, 1);
    let memory = machine.memory.map(|range| (range.start, range.end - range.start));
    let used = || redistributors.into_iter().chain(memory).chain([distributor, uart]);
    let mut kernel = KERNEL.lock();
    devicetree::devices(fdt, |mut device| {
        if used().any(|(base, size)| device.meets(page_down(base), page_up(base + size))) {
            return;
        }
        let ours = |intid| intid == machine.uart_intid || !machine.gic.has_shared(intid);
        if device.interrupts().iter().any(|interrupt| ours(u32::from(interrupt.intid))) {
            device.refuse(Unsupported::Interrupt);
        }
        if !kernel.system.add_device(device) {
            log::warn!("{} and what follows: more devices than the control OS keeps count of", device.name());
        }
    });
}

/// Maps memory but for what is mapped already.
fn map_memory(mapper: &mut Mapper, range: Range, mapped: &[Range]) {
    let mut at = page_up(range.start);
    let end = page_down(range.end);
    while at < end {
        let inside = mapped.iter().find(|m| m.start <= at && at < m.end);
        if let Some(inside) = inside {
            at = inside.end;
            continue;
        }
        let next = mapped.iter().map(|m| m.start).filter(|&start| start > at).min().unwrap_or(end).min(end);
        mapper.map(at, next, Access::Write);
        at = next;
    }
}

fn start_interrupts(machine: &Description, processor: &Processor, capabilities: &Capabilities) {
    machine.gic.start();
    let Some(redistributor) = machine.gic.find_redistributor(processor.mpidr()) else {
        panic!("no redistributor for the boot processor");
    };
    processor.set_redistributor(redistributor);
    start_processor(processor, capabilities);
    let list_registers = gic::list_register_count();
    if list_registers < 2 || gic::has_more_priorities() {
        panic!(
            "this GIC's virtual interface has {list_registers} list registers, or more than 32 priorities: not supported"
        );
    }
    KERNEL.lock().hardware.list_registers = list_registers;
    machine.gic.enable_shared(machine.uart_intid);
}

/// Sets this processor up for guests.
fn start_processor(processor: &Processor, capabilities: &Capabilities) {
    let monitor = KERNEL.lock().hardware.restrained.monitor;
    gic::start_processor(processor, PRIVATE | monitor.map_or(0, |monitor| 1 << monitor.intid));
    configure(capabilities);
    if let Some(monitor) = monitor {
        monitor.configure();
    }
}

/// Starts the other processors, one after the other. Returns how many run in the end.
fn start_processors(machine: &Description, boot: u64) -> usize {
    UP.store(1, Ordering::Release);
    let others = machine.processors.iter().flatten().filter(|&&mpidr| mpidr != boot);
    for &mpidr in others.take(PROCESSORS_MAX - 1) {
        let index = UP.load(Ordering::Acquire);
        let Some(redistributor) = machine.gic.find_redistributor(mpidr) else {
            log::warn!("processor {mpidr:#x} has no redistributor and stays off");
            continue;
        };
        let processor = processor::get(index);
        processor.set_mpidr(mpidr);
        processor.set_redistributor(redistributor);
        if let Err(error) = smc::cpu_on(mpidr, secondary_entry(), index as u64) {
            log::warn!("processor {mpidr:#x} stays off: PSCI CPU_ON says {error}");
            continue;
        }
        while UP.load(Ordering::Acquire) == index {
            <crate::lock::Relax as spin::RelaxStrategy>::relax();
        }
        processor::set_count(index + 1);
    }
    processor::count()
}

/// Another processor, MMU on, on its stack (`start.s`).
pub extern "C" fn secondary_main(index: usize) -> ! {
    let processor = Processor::adopt(index);
    let capabilities = KERNEL.lock().hardware.capabilities;
    start_processor(processor, &capabilities);
    UP.store(index + 1, Ordering::Release);
    run()
}

fn run() -> ! {
    let guest = schedule(KERNEL.lock(), Leave::Nothing);
    processor::this().enter(guest)
}

/// Makes the first partition, out of the boot archive.
fn start_system_control(kernel: &mut Kernel, archive: Range) -> Result<(), &'static str> {
    let available = archive.end - archive.start;
    if available < PAGE || !archive.start.is_multiple_of(PAGE) {
        return Err("the boot archive is too small or not page-aligned");
    }
    // SAFETY: the boot loader's memory, mapped, and big enough; any bytes make a header.
    let header = unsafe { (archive.start as *const Header).read() };
    header.check(available)?;
    let explain = |failure: handover_core::Failure| failure.error.text();

    let name = Name::new("system-control").ok_or("a bad name")?;
    let id = life::create(kernel, None, name, header.processors).map_err(explain)?;
    let partition = kernel.system.find(id).map_err(explain)?;
    for &account in Account::ALL {
        kernel.system.set_limit(&kernel.hardware, id, account as u64, u64::MAX).map_err(explain)?;
    }
    let mut at = 0;
    while at < header.memory_size {
        let size = (header.memory_size - at).min(ADD_MEMORY_MAX);
        kernel
            .system
            .add_memory(&mut kernel.hardware, partition, Ipa::new(MEMORY_BASE + at), size)
            .map_err(explain)?;
        at += size;
    }
    let files = Pa::new(archive.start + header.files_offset);
    kernel
        .system
        .map_files(&mut kernel.hardware, partition, Ipa::new(ARCHIVE_BASE), files, page_up(header.files_size))
        .map_err(explain)?;

    // SAFETY: `check` has the image inside the archive.
    let image = unsafe {
        core::slice::from_raw_parts(
            (archive.start + header.image_offset) as *const u8,
            header.image_size as usize,
        )
    };
    put(kernel, partition, MEMORY_BASE, image)?;
    let info = BootInfo {
        magic: MAGIC,
        memory_base: MEMORY_BASE,
        memory_size: header.memory_size,
        files_base: ARCHIVE_BASE,
        files_size: header.files_size,
    };
    let info_at = MEMORY_BASE + header.memory_size - PAGE;
    put(kernel, partition, info_at, info.as_bytes())?;
    kernel.hardware.privileged = Some(partition);
    life::start(kernel, partition, MEMORY_BASE, info_at).map_err(explain)
}

/// Copies bytes into a partition's memory.
fn put(
    kernel: &Kernel,
    partition: handover_core::PartitionIndex,
    at: u64,
    bytes: &[u8],
) -> Result<(), &'static str> {
    let mut done = 0;
    while done < bytes.len() {
        let at = Ipa::new(at + done as u64);
        let span = kernel
            .system
            .translate(&kernel.hardware, partition, at)
            .ok_or("its image does not fit its memory")?;
        let count = (bytes.len() - done).min(span.size as usize);
        // SAFETY: the span is the partition's memory, `count` bytes at least, and nobody runs in it yet.
        unsafe { core::ptr::copy_nonoverlapping(bytes[done..].as_ptr(), span.pa.get() as *mut u8, count) };
        arch::clean(span.pa.get(), count as u64);
        done += count;
    }
    Ok(())
}
