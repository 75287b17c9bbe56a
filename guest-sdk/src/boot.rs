//! What the partition has: its device tree.

use core::ops::Range;

use fdt::{Fdt, node::FdtNode};
use handover_abi::{PartitionId, ServiceId};

/// A service of another partition (or of this one) that this partition may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Service {
    /// Who provides it.
    pub partition: PartitionId,
    /// Its number.
    pub service: ServiceId,
}

/// A device of the machine that this partition has, or may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    /// First address of its registers, which are mapped as Device memory.
    pub address: u64,
    /// Bytes of them.
    pub size: u64,
    /// Its first interrupt (level).
    pub intid: Option<u32>,
}

/// The device tree that the partition was started with.
#[derive(Clone, Copy)]
pub struct Boot {
    tree: Fdt<'static>,
}

impl Boot {
    /// Reads a device tree blob.
    ///
    /// # Errors
    ///
    /// A text that says what is wrong with it.
    pub fn new(blob: &'static [u8]) -> Result<Boot, &'static str> {
        match Fdt::new(blob) {
            Ok(tree) => Ok(Boot { tree }),
            Err(_) => Err("no device tree where x0 points"),
        }
    }

    /// The tree itself.
    #[must_use]
    pub fn tree(&self) -> &Fdt<'static> {
        &self.tree
    }

    /// The memory, as intermediate physical addresses.
    #[must_use]
    pub fn memory(&self) -> Range<u64> {
        self.range("/memory").unwrap_or(0..0)
    }

    /// Bytes of memory.
    #[must_use]
    pub fn memory_size(&self) -> u64 {
        let memory = self.memory();
        memory.end - memory.start
    }

    /// The message window; `None` where there is no control OS.
    #[must_use]
    pub fn window(&self) -> Option<Range<u64>> {
        self.range("/hypervisor")
    }

    /// Logical processors.
    #[must_use]
    pub fn processors(&self) -> usize {
        let cpus = self.tree.find_node("/cpus");
        cpus.map_or(1, |cpus| cpus.children().filter(|node| node.name.starts_with("cpu@")).count())
    }

    /// The arguments the partition was started with, in one string.
    #[must_use]
    pub fn arguments(&self) -> &'static str {
        self.node("/chosen").and_then(|chosen| text(chosen, "bootargs")).unwrap_or("")
    }

    /// The value of the argument `name=value`; an empty string for `name` alone.
    #[must_use]
    pub fn argument(&self, name: &str) -> Option<&'static str> {
        self.arguments().split_ascii_whitespace().find_map(|word| match word.split_once('=') {
            Some((key, value)) => (key == name).then_some(value),
            None => (word == name).then_some(""),
        })
    }

    /// The service of that name that this partition may ask for.
    #[must_use]
    pub fn service(&self, name: &str) -> Option<Service> {
        self.services().find_map(|(found, service)| (found == name).then_some(service))
    }

    /// All services that this partition may ask for.
    pub fn services(&self) -> impl Iterator<Item = (&'static str, Service)> {
        self.children("service@").filter_map(|node| {
            let partition = PartitionId::new(number(node, "partition")?);
            let service = ServiceId::new(number(node, "service")?);
            Some((text(node, "service-name")?, Service { partition, service }))
        })
    }

    /// The number of a service that this partition provides.
    #[must_use]
    pub fn provided(&self, name: &str) -> Option<ServiceId> {
        self.children("provides@")
            .filter(|node| text(*node, "service-name") == Some(name))
            .find_map(|node| number(node, "service").map(ServiceId::new))
    }

    /// The first device that is compatible with `model`. One that may be asked for ([`Account::Devices`](handover_abi::Account::Devices) of
    /// [`Requests::more`](crate::requests::Requests::more)) is there from when that is granted.
    #[must_use]
    pub fn device(&self, model: &str) -> Option<Device> {
        let node = self.tree.find_compatible(&[model])?;
        let registers = node.reg()?.next()?;
        let interrupts = node.property("interrupts").map_or(&[][..], |property| property.value);
        // GICv3: type (0: SPI), number, flags.
        let cell = |n: usize| interrupts.get(4 * n..4 * n + 4)?.try_into().ok().map(u32::from_be_bytes);
        let intid = cell(1).filter(|_| cell(0) == Some(0)).map(|number| number + 32);
        let address = registers.starting_address.addr() as u64;
        Some(Device { address, size: registers.size? as u64, intid })
    }

    fn node(&self, path: &str) -> Option<FdtNode<'_, 'static>> {
        self.tree.find_node(path)
    }

    fn range(&self, path: &str) -> Option<Range<u64>> {
        let register = self.node(path)?.reg()?.next()?;
        let start = register.starting_address.addr() as u64;
        Some(start..start.checked_add(register.size? as u64)?)
    }

    fn children(&self, prefix: &'static str) -> impl Iterator<Item = FdtNode<'_, 'static>> {
        let node = self.node("/hypervisor");
        node.into_iter().flat_map(|node| node.children()).filter(move |node| node.name.starts_with(prefix))
    }
}

fn text(node: FdtNode<'_, 'static>, name: &str) -> Option<&'static str> {
    node.property(name)?.as_str()
}

fn number(node: FdtNode<'_, 'static>, name: &str) -> Option<u32> {
    let bytes = node.property(name)?.value;
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use handover_abi::layout::{MEMORY_BASE, WINDOW_BASE, WINDOW_SIZE};
    use vm_fdt::{Error, FdtWriter};

    use super::*;

    fn tree(arguments: &str) -> Result<Boot, Error> {
        let mut fdt = FdtWriter::new()?;
        let root = fdt.begin_node("")?;
        fdt.property_u32("#address-cells", 2)?;
        fdt.property_u32("#size-cells", 2)?;
        let chosen = fdt.begin_node("chosen")?;
        fdt.property_string("bootargs", arguments)?;
        fdt.end_node(chosen)?;
        let memory = fdt.begin_node("memory@40000000")?;
        fdt.property_array_u64("reg", &[MEMORY_BASE, 64 << 20])?;
        fdt.end_node(memory)?;
        let cpus = fdt.begin_node("cpus")?;
        fdt.property_u32("#address-cells", 1)?;
        fdt.property_u32("#size-cells", 0)?;
        for index in 0..3 {
            let cpu = fdt.begin_node(&format!("cpu@{index}"))?;
            fdt.property_u32("reg", index)?;
            fdt.end_node(cpu)?;
        }
        fdt.end_node(cpus)?;
        let hypervisor = fdt.begin_node("hypervisor")?;
        fdt.property_array_u64("reg", &[WINDOW_BASE, WINDOW_SIZE])?;
        for (node, name, partition, service) in [
            ("service@0", "echo", Some(3), 7),
            ("service@1", "clock", Some(4), 7),
            ("provides@0", "echo", None, 9),
        ] {
            let node = fdt.begin_node(node)?;
            fdt.property_string("service-name", name)?;
            if let Some(partition) = partition {
                fdt.property_u32("partition", partition)?;
            }
            fdt.property_u32("service", service)?;
            fdt.end_node(node)?;
        }
        fdt.end_node(hypervisor)?;
        fdt.end_node(root)?;
        Ok(Boot::new(fdt.finish()?.leak()).expect("the writer wrote a device tree"))
    }

    #[test]
    fn what_the_partition_has() {
        let boot = tree("").unwrap();
        assert_eq!(boot.memory(), MEMORY_BASE..MEMORY_BASE + (64 << 20));
        assert_eq!(boot.memory_size(), 64 << 20);
        assert_eq!(boot.window(), Some(WINDOW_BASE..WINDOW_BASE + WINDOW_SIZE));
        assert_eq!(boot.processors(), 3);
        assert_eq!(boot.arguments(), "");
    }

    #[test]
    fn services_by_name() {
        let boot = tree("").unwrap();
        let echo = Service { partition: PartitionId::new(3), service: ServiceId::new(7) };
        assert_eq!(boot.service("echo"), Some(echo));
        assert_eq!(boot.service("ech"), None);
        assert_eq!(boot.services().map(|(name, _)| name).collect::<Vec<_>>(), ["echo", "clock"]);
        assert_eq!(boot.provided("echo"), Some(ServiceId::new(9)));
        assert_eq!(boot.provided("clock"), None);
    }

    #[test]
    fn arguments_by_name() {
        let boot = tree("  role=client prove seed=  x=y=z").unwrap();
        assert_eq!(boot.argument("role"), Some("client"));
        assert_eq!(boot.argument("prove"), Some(""));
        assert_eq!(boot.argument("seed"), Some(""));
        assert_eq!(boot.argument("x"), Some("y=z"));
        assert_eq!(boot.argument("rol"), None);
    }

    #[test]
    fn no_device_tree() {
        assert!(Boot::new(&[0; 64]).is_err());
        assert!(Boot::new(&[]).is_err());
    }
}
