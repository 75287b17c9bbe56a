//! The device tree a guest finds: what its partition has, in the standard bindings, at the addresses of [`handover_abi::layout`].

use alloc::{format, string::String, vec::Vec};
use core::ops::Range;
use handover_abi::layout;
use vm_fdt::{Error, FdtWriter};

use crate::control::Device;

pub use vm_fdt::Error as DeviceTreeError;

const PHANDLE_GIC: u32 = 1;
const PHANDLE_CLOCK: u32 = 2;

/// Interrupt specifiers of the GICv3 binding: type, number within the type, trigger.
const SPI: u32 = 0;
const PPI: u32 = 1;
const EDGE_RISING: u32 = 1;
const LEVEL_HIGH: u32 = 4;
/// INTIDs before the first PPI, and before the first SPI.
const PPI_BASE: u32 = 16;
const SPI_BASE: u32 = 32;
/// PPIs of the timers that a guest at EL1 does not have, but the binding lists (Arm BSA, 3.8.1).
const SECURE_TIMER_INTID: u32 = 29;
const HYPERVISOR_TIMER_INTID: u32 = 26;

/// Random bytes for the guest's own generator.
#[derive(Clone, Copy, Debug)]
pub struct Seeds {
    /// Where Linux places its kernel's virtual addresses.
    pub kaslr: u64,
    /// What it credits as 256 bits of entropy.
    pub random: [u8; 32],
}

/// A service the guest may connect to.
#[derive(Clone, Copy, Debug)]
pub struct Used<'a> {
    /// Service id.
    pub id: u32,
    /// Its name.
    pub name: &'a str,
    /// The id of the partition that offers it.
    pub provider: u32,
}

/// A service the guest itself offers.
#[derive(Clone, Copy, Debug)]
pub struct Provided<'a> {
    /// Service id.
    pub id: u32,
    /// Its name.
    pub name: &'a str,
}

/// What a device tree tells.
#[derive(Clone, Debug, Default)]
pub struct Description<'a> {
    /// Logical processors.
    pub processors: u32,
    /// Bytes of memory from [`layout::MEMORY_BASE`] on.
    pub memory: u64,
    /// The kernel's command line.
    pub command_line: Option<&'a str>,
    /// Where the initramfs is.
    pub initramfs: Option<Range<u64>>,
    /// Absent where the machine has no source of entropy: guests then know that they have been given none.
    pub seeds: Option<Seeds>,
    /// In the manifest's order.
    pub uses: Vec<Used<'a>>,
    /// In the manifest's order.
    pub provides: Vec<Provided<'a>>,
    /// Devices of the machine that the partition has.
    pub devices: Vec<Device>,
    /// Those that it may ask for, where it would have them.
    pub devices_on_request: Vec<Device>,
}

/// The flattened device tree. Fails only where a string holds a zero byte.
pub fn build(description: &Description<'_>) -> Result<Vec<u8>, Error> {
    let mut tree = FdtWriter::new()?;
    let root = tree.begin_node("")?;
    tree.property_u32("#address-cells", 2)?;
    tree.property_u32("#size-cells", 2)?;
    tree.property_u32("interrupt-parent", PHANDLE_GIC)?;
    tree.property_string("model", "Handover")?;
    strings(&mut tree, "compatible", &["handover,virt", "linux,dummy-virt"])?;
    chosen(&mut tree, description)?;
    processors(&mut tree, description.processors)?;
    interrupts_and_timer(&mut tree, description.processors)?;
    console(&mut tree)?;

    let memory = tree.begin_node(&format!("memory@{:x}", layout::MEMORY_BASE))?;
    tree.property_string("device_type", "memory")?;
    tree.property_array_u64("reg", &[layout::MEMORY_BASE, description.memory])?;
    tree.end_node(memory)?;

    for given in &description.devices {
        device(&mut tree, given, true)?;
    }
    for possible in &description.devices_on_request {
        device(&mut tree, possible, false)?;
    }
    hypervisor(&mut tree, description)?;
    tree.end_node(root)?;
    tree.finish()
}

fn chosen(tree: &mut FdtWriter, description: &Description<'_>) -> Result<(), Error> {
    let aliases = tree.begin_node("aliases")?;
    tree.property_string("serial0", &console_path())?;
    tree.end_node(aliases)?;

    let chosen = tree.begin_node("chosen")?;
    tree.property_string("stdout-path", "serial0")?;
    if let Some(command_line) = description.command_line {
        tree.property_string("bootargs", command_line)?;
    }
    if let Some(initramfs) = &description.initramfs {
        tree.property_u64("linux,initrd-start", initramfs.start)?;
        tree.property_u64("linux,initrd-end", initramfs.end)?;
    }
    if let Some(seeds) = &description.seeds {
        tree.property_u64("kaslr-seed", seeds.kaslr)?;
        tree.property("rng-seed", &seeds.random)?;
    }
    tree.end_node(chosen)
}

fn processors(tree: &mut FdtWriter, count: u32) -> Result<(), Error> {
    let cpus = tree.begin_node("cpus")?;
    tree.property_u32("#address-cells", 1)?;
    tree.property_u32("#size-cells", 0)?;
    for index in 0..count {
        let cpu = tree.begin_node(&format!("cpu@{index:x}"))?;
        tree.property_string("device_type", "cpu")?;
        tree.property_string("compatible", "arm,armv8")?;
        tree.property_u32("reg", index)?;
        tree.property_string("enable-method", "psci")?;
        tree.end_node(cpu)?;
    }
    tree.end_node(cpus)?;

    let psci = tree.begin_node("psci")?;
    strings(tree, "compatible", &["arm,psci-1.0", "arm,psci-0.2"])?;
    tree.property_string("method", "hvc")?;
    tree.end_node(psci)
}

fn interrupts_and_timer(tree: &mut FdtWriter, processors: u32) -> Result<(), Error> {
    let gic = tree.begin_node(&format!("intc@{:x}", layout::GICD_BASE))?;
    tree.property_string("compatible", "arm,gic-v3")?;
    tree.property_null("interrupt-controller")?;
    tree.property_u32("#interrupt-cells", 3)?;
    // Interrupts have no address, but a controller says so for those who translate them.
    tree.property_u32("#address-cells", 0)?;
    let redistributors = layout::GICR_STRIDE * u64::from(processors);
    tree.property_array_u64(
        "reg",
        &[layout::GICD_BASE, layout::GICD_SIZE, layout::GICR_BASE, redistributors],
    )?;
    tree.property_phandle(PHANDLE_GIC)?;
    tree.end_node(gic)?;

    let timer = tree.begin_node("timer")?;
    tree.property_string("compatible", "arm,armv8-timer")?;
    let timers = [
        SECURE_TIMER_INTID,
        layout::PHYSICAL_TIMER_INTID,
        layout::VIRTUAL_TIMER_INTID,
        HYPERVISOR_TIMER_INTID,
    ];
    let cells: Vec<u32> = timers.iter().flat_map(|intid| [PPI, intid - PPI_BASE, LEVEL_HIGH]).collect();
    tree.property_array_u32("interrupts", &cells)?;
    tree.property_null("always-on")?;
    tree.end_node(timer)
}

fn console(tree: &mut FdtWriter) -> Result<(), Error> {
    let clock = tree.begin_node("apb-pclk")?;
    tree.property_string("compatible", "fixed-clock")?;
    tree.property_u32("#clock-cells", 0)?;
    tree.property_u32("clock-frequency", 24_000_000)?;
    tree.property_string("clock-output-names", "clk24mhz")?;
    tree.property_phandle(PHANDLE_CLOCK)?;
    tree.end_node(clock)?;

    let uart = tree.begin_node(console_path().trim_start_matches('/'))?;
    strings(tree, "compatible", &["arm,pl011", "arm,primecell"])?;
    tree.property_array_u64("reg", &[layout::UART_BASE, layout::UART_SIZE])?;
    tree.property_array_u32("interrupts", &[SPI, layout::UART_INTID - SPI_BASE, LEVEL_HIGH])?;
    tree.property_array_u32("clocks", &[PHANDLE_CLOCK, PHANDLE_CLOCK])?;
    strings(tree, "clock-names", &["uartclk", "apb_pclk"])?;
    tree.end_node(uart)
}

fn console_path() -> String {
    format!("/pl011@{:x}", layout::UART_BASE)
}

/// A device of the machine's. What a binding wants beyond registers and interrupts is there for PrimeCell peripherals.
/// `there`: the partition has it.
fn device(tree: &mut FdtWriter, device: &Device, there: bool) -> Result<(), Error> {
    let name = format!("{}", device.name);
    let kind = name.split_once('@').map_or(name.as_str(), |(kind, _)| kind);
    let compatible = format!("{}", device.compatible);
    let node = tree.begin_node(&format!("{kind}@{:x}", device.address))?;
    if compatible.starts_with("arm,pl") {
        strings(tree, "compatible", &[&compatible, "arm,primecell"])?;
        tree.property_array_u32("clocks", &[PHANDLE_CLOCK])?;
        strings(tree, "clock-names", &["apb_pclk"])?;
    } else {
        tree.property_string("compatible", &compatible)?;
    }
    if compatible == "arm,pl061" {
        tree.property_null("gpio-controller")?;
        tree.property_u32("#gpio-cells", 2)?;
    }
    tree.property_array_u64("reg", &[device.address, device.size])?;
    // However the machine's line is triggered: the guest sees it pending until it has ended it, and pending anew.
    let spi = |n| [SPI, (device.intid + n) - SPI_BASE, LEVEL_HIGH];
    let cells: Vec<u32> = (0..device.interrupts).flat_map(spi).collect();
    if !cells.is_empty() {
        tree.property_array_u32("interrupts", &cells)?;
    }
    if !there {
        tree.property_string("status", "disabled")?;
    }
    tree.end_node(node)
}

/// How a guest finds the control OS, and other partitions' services.
fn hypervisor(tree: &mut FdtWriter, description: &Description<'_>) -> Result<(), Error> {
    let hypervisor = tree.begin_node("hypervisor")?;
    strings(tree, "compatible", &["handover,handover-1.0", "handover,handover"])?;
    tree.property_array_u64("reg", &[layout::WINDOW_BASE, layout::WINDOW_SIZE])?;
    tree.property_array_u32("interrupts", &[SPI, layout::EVENT_INTID - SPI_BASE, EDGE_RISING])?;
    tree.property_u32("interrupt-parent", PHANDLE_GIC)?;
    tree.property_u32("#address-cells", 1)?;
    tree.property_u32("#size-cells", 0)?;
    for service in &description.uses {
        let node = tree.begin_node(&format!("service@{:x}", service.id))?;
        tree.property_u32("reg", service.id)?;
        tree.property_string("service-name", service.name)?;
        tree.property_u32("partition", service.provider)?;
        tree.property_u32("service", service.id)?;
        tree.end_node(node)?;
    }
    for service in &description.provides {
        let node = tree.begin_node(&format!("provides@{:x}", service.id))?;
        tree.property_u32("reg", service.id)?;
        tree.property_string("service-name", service.name)?;
        tree.property_u32("service", service.id)?;
        tree.end_node(node)?;
    }
    tree.end_node(hypervisor)
}

fn strings(tree: &mut FdtWriter, name: &str, values: &[&str]) -> Result<(), Error> {
    tree.property_string_list(name, values.iter().map(|&value| value.into()).collect())
}
