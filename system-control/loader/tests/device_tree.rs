//! Reads the device tree back, with one parser of its own and with dtc.
#![allow(missing_docs, reason = "a test binary has no readers of its documentation")]

use fdt::{Fdt, node::FdtNode};
use handover_abi::{
    PartitionId,
    device::{Compatible, NodeName},
    layout,
};
use handover_loader::control::Device;
use handover_loader::device_tree::{Description, Provided, Seeds, Used, build};
use std::{
    io::Write,
    process::{Command, Stdio},
};

fn device(name: &str, compatible: &str, address: u64, interrupts: u32) -> Device {
    Device {
        base: 0x901_0000,
        size: 0x1000,
        interrupts,
        name: NodeName::new(name),
        compatible: Compatible::new(compatible),
        holder: Some(PartitionId::new(2)),
        address,
        intid: layout::DEVICE_INTID,
    }
}

fn linux() -> Description<'static> {
    Description {
        processors: 2,
        memory: 256 << 20,
        command_line: Some("console=ttyAMA0 quiet"),
        initramfs: Some(0x4400_0000..0x4412_3456),
        seeds: Some(Seeds { kaslr: 0x0123_4567_89ab_cdef, random: [0xa5; 32] }),
        uses: vec![Used { id: 1, name: "echo", provider: 2 }, Used { id: 26, name: "files", provider: 3 }],
        provides: vec![Provided { id: 4, name: "shell" }],
        devices_on_request: vec![],
        devices: vec![
            device("pl031@9010000", "arm,pl031", layout::DEVICE_BASE, 1),
            device("gpio", "arm,pl061", layout::DEVICE_BASE + 0x1_0000, 2),
        ],
    }
}

fn cells(node: &FdtNode<'_, '_>, name: &str) -> Vec<u32> {
    let value = node.property(name).unwrap_or_else(|| panic!("no {name}")).value;
    assert!(value.len().is_multiple_of(4), "{name}");
    value.chunks(4).map(|cell| u32::from_be_bytes(cell.try_into().unwrap())).collect()
}

fn text<'a>(node: &FdtNode<'_, 'a>, name: &str) -> &'a str {
    node.property(name).and_then(|property| property.as_str()).unwrap_or_else(|| panic!("no {name}"))
}

fn reg(node: &FdtNode<'_, '_>) -> Vec<(u64, u64)> {
    let range = |range: fdt::standard_nodes::MemoryRegion| {
        (range.starting_address as u64, range.size.unwrap_or(0) as u64)
    };
    node.reg().expect("reg").map(range).collect()
}

#[test]
fn what_the_machine_has() {
    let blob = build(&linux()).unwrap();
    let tree = Fdt::new(&blob).unwrap();
    let node = |path: &str| tree.find_node(path).unwrap_or_else(|| panic!("no {path}"));

    assert!(tree.root().compatible().all().eq(["handover,virt", "linux,dummy-virt"]));
    assert_eq!(tree.cpus().map(|cpu| cpu.ids().first()).collect::<Vec<_>>(), [0, 1]);
    assert!(tree.cpus().all(|cpu| cpu.property("enable-method").unwrap().as_str() == Some("psci")));
    assert_eq!(text(&node("/psci"), "method"), "hvc");
    assert_eq!(reg(&node("/memory@40000000")), [(layout::MEMORY_BASE, 256 << 20)]);

    let gic = node("/intc@8000000");
    assert_eq!(reg(&gic), [(layout::GICD_BASE, 0x1_0000), (layout::GICR_BASE, 0x4_0000)]);
    assert_eq!(cells(&node("/"), "interrupt-parent"), cells(&gic, "phandle"));
    assert_eq!(cells(&node("/timer"), "interrupts"), [1, 13, 4, 1, 14, 4, 1, 11, 4, 1, 10, 4]);

    let uart = tree.chosen().stdout().expect("stdout-path finds the console");
    assert!(uart.compatible().unwrap().all().eq(["arm,pl011", "arm,primecell"]));
    assert_eq!(reg(&uart), [(layout::UART_BASE, layout::UART_SIZE)]);
    assert_eq!(cells(&uart, "interrupts"), [0, 1, 4]);
    let clock = cells(&node("/apb-pclk"), "phandle")[0];
    assert_eq!(cells(&uart, "clocks"), [clock, clock]);
}

#[test]
fn what_the_guest_was_given() {
    let blob = build(&linux()).unwrap();
    let tree = Fdt::new(&blob).unwrap();
    let chosen = tree.find_node("/chosen").unwrap();
    assert_eq!(tree.chosen().bootargs(), Some("console=ttyAMA0 quiet"));
    assert_eq!(cells(&chosen, "linux,initrd-start"), [0, 0x4400_0000]);
    assert_eq!(cells(&chosen, "linux,initrd-end"), [0, 0x4412_3456]);
    assert_eq!(cells(&chosen, "kaslr-seed"), [0x0123_4567, 0x89ab_cdef]);
    assert_eq!(chosen.property("rng-seed").unwrap().value, [0xa5; 32]);

    let bare = Description { processors: 1, memory: 2 << 20, ..Description::default() };
    let blob = build(&bare).unwrap();
    let tree = Fdt::new(&blob).unwrap();
    let chosen = tree.find_node("/chosen").unwrap();
    assert_eq!(chosen.properties().map(|property| property.name).collect::<Vec<_>>(), ["stdout-path"]);
    assert_eq!(tree.find_node("/hypervisor").unwrap().children().count(), 0);
}

#[test]
fn devices_of_the_machine() {
    let blob = build(&linux()).unwrap();
    let tree = Fdt::new(&blob).unwrap();
    let clock = cells(&tree.find_node("/apb-pclk").unwrap(), "phandle")[0];
    let rtc = tree.find_node("/pl031@a000000").expect("under the address that the guest sees");
    assert!(rtc.compatible().unwrap().all().eq(["arm,pl031", "arm,primecell"]));
    assert_eq!(reg(&rtc), [(layout::DEVICE_BASE, 0x1000)]);
    assert_eq!(cells(&rtc, "interrupts"), [0, 32, 4]);
    assert_eq!(cells(&rtc, "clocks"), [clock]);
    assert_eq!(text(&rtc, "clock-names"), "apb_pclk");
    let gpio = tree.find_node("/gpio@a010000").unwrap();
    assert_eq!(cells(&gpio, "interrupts"), [0, 32, 4, 0, 33, 4]);
    assert!(gpio.property("gpio-controller").is_some());
    assert_eq!(cells(&gpio, "#gpio-cells"), [2]);
    // What it may ask for is where it would be, and not there.
    let mut asks = linux();
    asks.devices_on_request = std::mem::take(&mut asks.devices);
    let blob = build(&asks).unwrap();
    let tree = Fdt::new(&blob).unwrap();
    let possible = tree.find_node("/pl031@a000000").unwrap();
    assert_eq!((reg(&possible), text(&possible, "status")), (reg(&rtc), "disabled"));
    assert!(rtc.property("status").is_none());
}

#[test]
fn services() {
    let blob = build(&linux()).unwrap();
    let tree = Fdt::new(&blob).unwrap();
    let hypervisor = tree.find_node("/hypervisor").unwrap();
    assert!(hypervisor.compatible().unwrap().all().eq(["handover,handover-1.0", "handover,handover"]));
    assert_eq!(cells(&hypervisor, "reg"), [0x40, 0, 0x40, 0]);
    assert_eq!(cells(&hypervisor, "interrupts"), [0, 2, 1]);
    let services: Vec<_> = hypervisor
        .children()
        .map(|node| {
            let partition = node.property("partition").map(|_| cells(&node, "partition")[0]);
            (node.name, text(&node, "service-name"), partition, cells(&node, "service")[0])
        })
        .collect();
    assert_eq!(
        services,
        [
            ("service@1", "echo", Some(2), 1),
            ("service@1a", "files", Some(3), 26),
            ("provides@4", "shell", None, 4)
        ]
    );
}

#[test]
fn a_zero_byte_in_the_command_line_is_refused() {
    assert!(build(&Description { command_line: Some("a\0b"), ..linux() }).is_err());
}

/// dtc checks what the bindings common to all trees ask for. It has one complaint by design: `/hypervisor` has a `reg` but no unit address,
/// because Linux and its tools look for a node of exactly this name.
#[test]
fn dtc_has_no_complaint() {
    let arguments = ["-I", "dtb", "-O", "dts", "-W", "no-unit_address_vs_reg", "-o", "/dev/null", "-"];
    let mut dtc =
        match Command::new("dtc").args(arguments).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn() {
            Ok(dtc) => dtc,
            Err(error) => {
                println!("not checked: dtc cannot be run ({error}); package device-tree-compiler has it");
                return;
            }
        };
    dtc.stdin.take().unwrap().write_all(&build(&linux()).unwrap()).unwrap();
    let output = dtc.wait_with_output().unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && complaints.is_empty(), "{complaints}");
}
