//! What the machine's device tree tells: the only source of what there is. It comes from the boot loader, and is trusted.

use fdt::Fdt;
use fdt::node::FdtNode;
use handover_abi::Unsupported;
use handover_core::{Device, Interrupt};

use crate::drivers::gic::Gic;
use crate::memory::{RANGES_MAX, Range};
use crate::processor::PROCESSORS_MAX;

/// The machine.
pub struct Description {
    /// Memory.
    pub memory: [Range; RANGES_MAX],
    /// What of it is reserved.
    pub reserved: [Range; RANGES_MAX],
    /// Affinities of the processors; `None` beyond the last.
    pub processors: [Option<u64>; PROCESSORS_MAX],
    /// Interrupt controller.
    pub gic: Gic,
    /// UART registers.
    pub uart: usize,
    /// UART interrupt.
    pub uart_intid: u32,
    /// The performance monitors' interrupt, private to each processor.
    pub monitor_intid: Option<u32>,
    /// The boot archive.
    pub archive: Range,
    /// `/chosen/rng-seed`.
    pub seed: [u8; 64],
    /// Bytes of it there are.
    pub seed_size: usize,
}

fn cells(bytes: &[u8], count: usize) -> u64 {
    bytes.iter().take(4 * count).fold(0, |value, &byte| value << 8 | u64::from(byte))
}

fn number(node: &FdtNode, name: &str) -> Option<u64> {
    let value = node.property(name)?.value;
    Some(cells(value, value.len() / 4))
}

/// The GIC's PPI in such a property.
fn private_interrupt(node: &FdtNode) -> Option<u32> {
    let value = node.property("interrupts")?.value;
    const PPI: u64 = 1;
    (value.len() >= 12 && cells(value, 1) == PPI).then(|| cells(&value[4..], 1) as u32 + 16)
}

/// The GIC's SPI in an `interrupts` property of three cells (fdt 0.1.5 knows one and two).
fn shared_interrupt(node: &FdtNode) -> Option<u32> {
    let value = node.property("interrupts")?.value;
    const SPI: u64 = 0;
    (value.len() >= 12 && cells(value, 1) == SPI).then(|| cells(&value[4..], 1) as u32 + 32)
}

fn fill(ranges: &mut [Range], found: impl Iterator<Item = Range>) -> Result<(), &'static str> {
    let mut slots = ranges.iter_mut();
    for range in found.filter(|range| range.start < range.end) {
        *slots.next().ok_or("more ranges of memory than the control OS keeps count of")? = range;
    }
    Ok(())
}

/// Reads what the control OS needs; what is missing otherwise.
pub fn read(fdt: &Fdt) -> Result<Description, &'static str> {
    let mut memory = [Range::default(); RANGES_MAX];
    let banks = fdt.find_all_nodes("/memory").filter_map(|node| node.reg()).flatten();
    fill(
        &mut memory,
        banks.map(|bank| {
            let start = bank.starting_address as u64;
            Range { start, end: start + bank.size.unwrap_or(0) as u64 }
        }),
    )?;
    let mut reserved = [Range::default(); RANGES_MAX];
    let listed = fdt.memory_reservations().map(|r| Range {
        start: r.address() as u64,
        end: (r.address() as u64).saturating_add(r.size() as u64),
    });
    let nodes = fdt.find_node("/reserved-memory").into_iter().flat_map(|node| node.children());
    let nodes = nodes.filter_map(|node| node.reg()).flatten().map(|region| {
        let start = region.starting_address as u64;
        Range { start, end: start + region.size.unwrap_or(0) as u64 }
    });
    fill(&mut reserved, listed.chain(nodes))?;

    let mut processors = [None; PROCESSORS_MAX];
    for (slot, cpu) in processors.iter_mut().zip(fdt.cpus()) {
        *slot = Some(cpu.ids().first() as u64);
    }

    let psci = fdt.find_compatible(&["arm,psci-1.0", "arm,psci-0.2", "arm,psci"]).ok_or("no PSCI")?;
    let method = psci.property("method").and_then(|method| method.as_str());
    if method != Some("smc") {
        return Err("PSCI by SMC");
    }

    let node = fdt.find_compatible(&["arm,gic-v3"]).ok_or("no GICv3")?;
    let mut frames = node.reg().ok_or("a GICv3 without registers")?;
    let distributor = frames.next().ok_or("a GICv3 without registers")?.starting_address as usize;
    let region_count = number(&node, "#redistributor-regions").unwrap_or(1) as usize;
    let mut gic = Gic { distributor, ..Gic::default() };
    for (slot, frame) in gic.redistributors.iter_mut().zip(frames.take(region_count)) {
        *slot = (frame.starting_address as usize, frame.size.unwrap_or(0));
    }

    let chosen = fdt.find_node("/chosen").ok_or("no /chosen")?;
    let uart = fdt
        .chosen()
        .stdout()
        .filter(|node| node.compatible().is_some_and(|names| names.all().any(|name| name == "arm,pl011")))
        .or_else(|| fdt.find_compatible(&["arm,pl011"]))
        .ok_or("no PL011 UART")?;
    let uart_base = uart.reg().and_then(|mut reg| reg.next()).ok_or("a UART without registers")?;

    let monitor = fdt.find_compatible(&["arm,armv8-pmuv3"]);
    let monitor_intid = monitor.as_ref().and_then(private_interrupt);

    let archive = Range {
        start: number(&chosen, "linux,initrd-start").ok_or("no boot archive (-initrd)")?,
        end: number(&chosen, "linux,initrd-end").ok_or("no boot archive (-initrd)")?,
    };
    let mut seed = [0; 64];
    let given = chosen.property("rng-seed").map_or(&[][..], |property| property.value);
    let seed_size = given.len().min(seed.len());
    seed[..seed_size].copy_from_slice(&given[..seed_size]);

    Ok(Description {
        memory,
        reserved,
        processors,
        gic,
        uart: uart_base.starting_address as usize,
        uart_intid: shared_interrupt(&uart).ok_or("a UART without an interrupt")?,
        monitor_intid,
        archive,
        seed,
        seed_size,
    })
}

/// Calls `found` for each device that the tree describes, but for processors, memory, interrupt controllers and what is switched off. Those on a bus
/// of their own are left out, unless it passes addresses on unchanged.
pub fn devices(fdt: &Fdt, mut found: impl FnMut(Device)) {
    let root = fdt.find_node("/");
    let parent = root.as_ref().and_then(|root| number(root, "interrupt-parent"));
    let children = root.iter().flat_map(|root| root.children());
    for node in children {
        let is_bus = |node: &FdtNode| {
            node.compatible().is_some_and(|names| names.all().any(|name| name == "simple-bus"))
        };
        let unchanged = node.property("ranges").is_some_and(|ranges| ranges.value.is_empty());
        if is_bus(&node) && unchanged {
            let parent = number(&node, "interrupt-parent").or(parent);
            node.children().for_each(|node| add(&node, parent, &mut found));
        } else {
            add(&node, parent, &mut found);
        }
    }
}

fn add(node: &FdtNode, parent: Option<u64>, found: &mut impl FnMut(Device)) {
    let text = |name| node.property(name).and_then(|property| property.as_str());
    let of_the_system = matches!(text("device_type"), Some("memory" | "cpu"))
        || node.property("interrupt-controller").is_some() && node.property("gpio-controller").is_none();
    if of_the_system || matches!(text("status"), Some(status) if status != "okay" && status != "ok") {
        return;
    }
    let Some(registers) = node.reg() else { return };
    let regions = node.reg().map_or(0, Iterator::count);
    // Of interrupts of another controller nothing is known; neither is what such a device could do with them.
    let known = number(node, "interrupt-parent").or(parent) == parent;
    for region in registers {
        let interrupts = node.property("interrupts").map_or(&[][..], |property| property.value);
        let interrupts = interrupts.chunks_exact(12).filter_map(interrupt);
        let (base, size) = (region.starting_address as u64, region.size.unwrap_or(0) as u64);
        let names = node.compatible().filter(|_| known).map(|names| names.all());
        let mut device = Device::new(node.name, base, size, interrupts, names.into_iter().flatten());
        if regions > 1 {
            // A right to one of them would be half a device.
            device.refuse(Unsupported::Size);
        }
        found(device);
    }
}

/// An SPI of the GICv3 binding: type, number, flags, of which 1 and 2 are edges.
fn interrupt(specifier: &[u8]) -> Option<Interrupt> {
    const SPI: u64 = 0;
    let (kind, number, flags) = (cells(specifier, 1), cells(&specifier[4..], 1), cells(&specifier[8..], 1));
    let intid = u16::try_from(number.checked_add(32)?).ok()?;
    (kind == SPI).then_some(Interrupt { intid, edge: flags & 3 != 0 })
}
