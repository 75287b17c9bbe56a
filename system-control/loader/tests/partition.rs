//! Makes, fills and starts a manifest's partitions on a model of the control OS.
#![allow(missing_docs, reason = "a test binary has no readers of its documentation")]

use cpio::newc::{Builder, trailer};
use fdt::Fdt;
use handover_abi::{
    Account, BusLimit, EndReason, Error, Name, PartitionId, ProcessorClaim, TrafficLimit, Unsupported,
    device::{Compatible, NodeName},
    layout::{ADD_MEMORY_MAX, DEVICE_BASE, DEVICE_INTID, MEMORY_BASE, WRITE_MAX},
};
use handover_loader::{
    archive::{Failure, open},
    control::{Control, Device},
    device_tree::Seeds,
    devices::give_next,
    partition::{self, Content},
};
use std::{collections::BTreeMap, fmt, path::Path};

const MIB: u64 = 1 << 20;

const MANIFEST: &str = r#"
end-with = ["linux"]
machine = { processors = 2, memory = "1 GiB" }

[[partition]]
name = "linux"
kernel = "debian"
initramfs = "demo"
command-line = "quiet"
processors = 2
memory = "256 MiB"
uses = ["echo"]

[[partition]]
name = "echo"
kernel = "debian"
processors = 1
memory = "16 MiB"
provides = ["echo"]
"#;

struct Partition {
    name: String,
    limits: BTreeMap<u64, u64>,
    claims: BTreeMap<u32, ProcessorClaim>,
    colours: (u64, u64),
    bus: Option<BusLimit>,
    traffic: Option<TrafficLimit>,
    memory: Vec<u8>,
    started: Option<(u64, u64)>,
    watchdog: u64,
}

/// Cache colours of the machine.
const COLOURS: u32 = 16;

/// The control OS's side: what it would hold, its rules as far as they matter here, and what was said.
struct Model {
    partitions: BTreeMap<u32, Partition>,
    last_id: u32,
    free: u64,
    lines: Vec<String>,
    /// Who has which device, and where.
    given: BTreeMap<u64, (PartitionId, u64, u32)>,
}

impl Model {
    fn new(free: u64) -> Model {
        // System-control is partition 1.
        let (partitions, given) = (BTreeMap::new(), BTreeMap::new());
        Model { partitions, last_id: 1, free, lines: vec![], given }
    }

    fn partition(&mut self, id: PartitionId) -> Result<&mut Partition, Error> {
        self.partitions.get_mut(&id.get()).ok_or(Error::BadHandle)
    }

    fn new_one(&mut self, id: PartitionId) -> Result<&mut Partition, Error> {
        Some(self.partition(id)?).filter(|partition| partition.started.is_none()).ok_or(Error::WrongState)
    }

    fn ids(&self) -> Vec<(u32, &str)> {
        self.partitions.iter().map(|(id, partition)| (*id, partition.name.as_str())).collect()
    }

    /// The provider of `echo` in a started partition's device tree.
    fn echo_in_tree_of(&self, id: u32) -> u32 {
        let partition = &self.partitions[&id];
        let at = partition.started.unwrap().1 - MEMORY_BASE;
        let tree = Fdt::new(&partition.memory[at as usize..]).unwrap();
        let service = tree.find_node("/hypervisor/service@1").unwrap();
        service.property("partition").unwrap().as_usize().unwrap() as u32
    }
}

impl Control for Model {
    fn own_id(&mut self) -> Result<PartitionId, Error> {
        Ok(PartitionId::new(1))
    }

    fn create(&mut self, name: Name, processors: u32) -> Result<PartitionId, Error> {
        assert!(processors > 0);
        self.last_id += 1;
        let partition = Partition {
            name: name.to_string(),
            limits: BTreeMap::new(),
            claims: BTreeMap::new(),
            colours: (0, 0),
            bus: None,
            traffic: None,
            memory: vec![],
            started: None,
            watchdog: 0,
        };
        self.partitions.insert(self.last_id, partition);
        Ok(PartitionId::new(self.last_id))
    }

    fn set_limit(&mut self, id: PartitionId, account: Account, limit: u64) -> Result<(), Error> {
        self.new_one(id)?.limits.insert(account as u64, limit);
        Ok(())
    }

    fn claim(&mut self, id: PartitionId, processor: u32, claim: ProcessorClaim) -> Result<(), Error> {
        self.new_one(id)?.claims.insert(processor, claim);
        Ok(())
    }

    fn set_watchdog(&mut self, id: PartitionId, nanoseconds: u64) -> Result<(), Error> {
        self.new_one(id)?.watchdog = nanoseconds;
        Ok(())
    }

    fn set_colours(&mut self, id: PartitionId, own: u64, channels: u64) -> Result<(), Error> {
        let partition = self.new_one(id)?;
        assert!(partition.memory.is_empty());
        if (own | channels) >> COLOURS != 0 {
            return Err(Error::InvalidArgument);
        }
        let limit = partition.limits.get(&(Account::CacheColours as u64));
        assert_eq!(limit, Some(&u64::from((own | channels).count_ones())));
        partition.colours = (own, channels);
        Ok(())
    }

    fn set_bus(&mut self, id: PartitionId, limit: BusLimit) -> Result<(), Error> {
        self.new_one(id)?.bus = Some(limit);
        Ok(())
    }

    fn set_traffic(
        &mut self,
        id: PartitionId,
        limit: TrafficLimit,
    ) -> Result<(), (Error, Option<Unsupported>)> {
        if limit.event == 0 {
            return Err((Error::NotSupported, Some(Unsupported::Traffic)));
        }
        self.new_one(id).map_err(|error| (error, None))?.traffic = Some(limit);
        Ok(())
    }

    fn colours(&mut self) -> Result<u32, Error> {
        Ok(COLOURS)
    }

    fn add_memory(&mut self, id: PartitionId, address: u64, size: u64) -> Result<(), Error> {
        assert!(size == 2 * MIB || self.new_one(id)?.colours.0 == 0, "page by page");
        if size > ADD_MEMORY_MAX || !size.is_multiple_of(2 * MIB) {
            return Err(Error::InvalidArgument);
        }
        let free = self.free.checked_sub(size).ok_or(Error::NoMemory)?;
        let partition = self.new_one(id)?;
        assert_eq!(address, MEMORY_BASE + partition.memory.len() as u64);
        let length = partition.memory.len() + size as usize;
        if partition.limits.get(&(Account::Memory as u64)).is_none_or(|&limit| length as u64 > limit) {
            return Err(Error::Limit);
        }
        partition.memory.resize(length, 0);
        self.free = free;
        Ok(())
    }

    fn write(&mut self, id: PartitionId, address: u64, bytes: &[u8]) -> Result<(), Error> {
        if bytes.len() as u64 > WRITE_MAX {
            return Err(Error::InvalidArgument);
        }
        let at = address.checked_sub(MEMORY_BASE).ok_or(Error::BadAddress)? as usize;
        let memory = &mut self.new_one(id)?.memory;
        memory.get_mut(at..at + bytes.len()).ok_or(Error::BadAddress)?.copy_from_slice(bytes);
        Ok(())
    }

    fn start(&mut self, id: PartitionId, entry: u64, x0: u64) -> Result<(), Error> {
        self.new_one(id)?.started = Some((entry, x0));
        Ok(())
    }

    fn stop(&mut self, _: PartitionId) -> Result<(), Error> {
        unreachable!("nothing here stops a partition")
    }

    fn destroy(&mut self, id: PartitionId) -> Result<(), Error> {
        let partition = self.partition(id)?;
        if partition.started.is_some() {
            return Err(Error::WrongState);
        }
        self.free += partition.memory.len() as u64;
        self.partitions.remove(&id.get());
        self.given.retain(|_, given| given.0 != id);
        Ok(())
    }

    fn end_of(&mut self, _: PartitionId) -> Result<(EndReason, u64), Error> {
        unreachable!("nothing here asks how a partition has ended")
    }

    fn free_memory(&mut self) -> Result<u64, Error> {
        Ok(self.free)
    }

    fn device(&mut self, number: u64) -> Result<Device, Error> {
        let devices =
            [("pl031@9010000", "arm,pl031", 0x901_0000), ("virtio_mmio@a000000", "virtio,mmio", 0xa00_0000)];
        let (name, compatible, base) = *devices.get(number as usize).ok_or(Error::BadHandle)?;
        let given = self.given.get(&number);
        Ok(Device {
            base,
            size: 0x1000,
            interrupts: 1,
            name: NodeName::new(name),
            compatible: Compatible::new(compatible),
            holder: given.map(|given| given.0),
            address: given.map_or(0, |given| given.1),
            intid: given.map_or(0, |given| given.2),
        })
    }

    fn assign(
        &mut self,
        id: PartitionId,
        number: u64,
        address: u64,
        intid: u32,
    ) -> Result<(), (Error, Option<Unsupported>)> {
        assert_eq!(self.partition(id).unwrap().limits.get(&(Account::Devices as u64)), Some(&1));
        match number {
            1 => Err((Error::NotSupported, Some(Unsupported::Dma))),
            _ if self.given.contains_key(&number) => Err((Error::InUse, None)),
            _ => {
                self.given.insert(number, (id, address, intid));
                Ok(())
            }
        }
    }

    fn seeds(&mut self) -> Option<Seeds> {
        None
    }

    fn say(&mut self, line: fmt::Arguments<'_>) {
        self.lines.push(line.to_string());
    }
}

/// A kernel of 100 KiB in the arm64 Image format, not all zeroes, that needs 1 MiB.
fn kernel() -> Vec<u8> {
    let mut file: Vec<u8> = (0..100 << 10).map(|index| (index / 7) as u8).collect();
    file[8..16].fill(0);
    file[16..24].copy_from_slice(&MIB.to_le_bytes());
    file[56..60].copy_from_slice(b"ARM\x64");
    file
}

fn archive(manifest: &str, kernel: &[u8]) -> Vec<u8> {
    let manifest = handover_manifest::parse(manifest, Path::new("m.toml")).unwrap().pack();
    let mut bytes = vec![];
    for (name, data) in [("manifest", &manifest[..]), ("debian", kernel), ("demo", b"initramfs")] {
        let mut writer = Builder::new(name).mode(0o100644).write(&mut bytes, data.len() as u32);
        std::io::Write::write_all(&mut writer, data).unwrap();
        writer.finish().unwrap();
    }
    trailer(bytes).unwrap()
}

/// Makes all partitions, fills them, and starts them.
fn boot(control: &mut Model, files: &[u8]) -> Result<(), Failure> {
    let (archive, manifest) = open(files)?;
    let partitions = &manifest.partitions;
    let contents: Result<Vec<_>, _> =
        partitions.iter().map(|partition| Content::find(&archive, partition)).collect();
    let contents = contents?;
    let mut ids = vec![];
    for partition in partitions {
        ids.push(Some(partition::create(control, partition)?));
    }
    for (index, content) in contents.iter().enumerate() {
        partition::fill(control, &manifest, index, content, &ids)?;
    }
    for ((partition, content), id) in partitions.iter().zip(&contents).zip(ids.into_iter().flatten()) {
        partition::start(control, partition, content, id)?;
    }
    Ok(())
}

fn failure(free: u64, archive: &[u8]) -> String {
    let Failure(text) = boot(&mut Model::new(free), archive).unwrap_err();
    text
}

#[test]
fn boots_all_partitions() {
    let mut model = Model::new(1 << 30);
    let archive = archive(MANIFEST, &kernel());
    boot(&mut model, &archive).unwrap();
    assert_eq!(model.ids(), [(2, "linux"), (3, "echo")]);
    assert_eq!(model.echo_in_tree_of(2), 3);
    assert_eq!(model.free, (1 << 30) - 272 * MIB);

    let linux = &model.partitions[&2];
    let entry = MEMORY_BASE + 2 * MIB;
    assert_eq!(linux.started, Some((entry, MEMORY_BASE)));
    assert_eq!(linux.memory[2 << 20..(2 << 20) + (100 << 10)], kernel());
    assert_eq!(&linux.memory[4 << 20..(4 << 20) + 10], b"initramfs\0");
    assert!(linux.limits[&(Account::Memory as u64)] > 256 * MIB);
    assert!(linux.limits[&(Account::ControlMemory as u64)] > 0 && linux.limits[&(Account::Ports as u64)] > 0);
    let tree = Fdt::new(&linux.memory).unwrap();
    let chosen = tree.find_node("/chosen").unwrap();
    assert_eq!(chosen.property("linux,initrd-start").unwrap().value, (MEMORY_BASE + 4 * MIB).to_be_bytes());
    assert_eq!(chosen.property("linux,initrd-end").unwrap().value, (MEMORY_BASE + 4 * MIB + 9).to_be_bytes());
}

#[test]
fn claims_the_time_that_the_manifest_says() {
    let mut model = Model::new(1 << 30);
    let manifest = MANIFEST.replace(
        "uses = [\"echo\"]",
        "watchdog = \"3 s\"\nbudget = \"2 ms\"\nperiod = \"10 ms\"\nwork-conserving = true\nowns = [1]\nbound-to = [0, 1]",
    );
    boot(&mut model, &archive(&manifest, &kernel())).unwrap();
    let owner = ProcessorClaim { alone: true, allowed: 0b10, ..Default::default() };
    let (budget, period) = (2_000_000, 10_000_000);
    let other = ProcessorClaim { budget, period, work_conserving: true, allowed: 0b11, alone: false };
    assert_eq!(model.partitions[&2].claims, BTreeMap::from([(0, owner), (1, other)]));
    assert_eq!(model.partitions[&2].limits[&(Account::ProcessorTime as u64)], 2_000_000);
    assert!(model.partitions[&3].claims.is_empty());
    assert_eq!((model.partitions[&2].watchdog, model.partitions[&3].watchdog), (3_000_000_000, 0));
}

#[test]
fn more_memory_than_one_call_gives() {
    let mut model = Model::new(4 << 30);
    let manifest = MANIFEST.replace("\"1 GiB\"", "\"4 GiB\"").replace("\"256 MiB\"", "\"1026 MiB\"");
    boot(&mut model, &archive(&manifest, &kernel())).unwrap();
    assert_eq!(model.partitions[&2].memory.len() as u64, 1026 * MIB);
}

#[test]
fn gives_devices_and_says_why_not() {
    let with = |devices: &str| {
        MANIFEST.replace("uses = [\"echo\"]", &format!("uses = [\"echo\"]\ndevices = [\"{devices}\"]"))
    };
    for wanted in ["pl031@9010000", "arm,pl031"] {
        let mut model = Model::new(1 << 30);
        let archive = archive(&with(wanted), &kernel());
        boot(&mut model, &archive).unwrap();
        assert_eq!(model.given, BTreeMap::from([(0, (PartitionId::new(2), DEVICE_BASE, DEVICE_INTID))]));
        let tree = Fdt::new(&model.partitions[&2].memory).unwrap();
        assert!(tree.find_node("/pl031@a000000").is_some());
    }
    let refused = |wanted| {
        let mut model = Model::new(1 << 30);
        let Failure(text) = boot(&mut model, &archive(&with(wanted), &kernel())).unwrap_err();
        assert_eq!((model.ids(), model.free), (vec![], 1 << 30));
        text
    };
    // Any of the devices that share a page.
    assert_eq!(
        refused("virtio_mmio@a000200"),
        "linux cannot be given virtio_mmio@a000000 (virtio,mmio): can do DMA: needs an SMMU"
    );
    assert_eq!(refused("virtio,mmio"), refused("virtio_mmio@a000200"));
    asks_for_devices();
    assert!(refused("pl031@9020000").contains("but the machine has pl031@9010000 (arm,pl031), virtio"));
}

/// The next that it may ask for each time, in its place.
fn asks_for_devices() {
    let keys = "uses = [\"echo\"]\ndevices-on-request = [\"arm,pl031\", \"virtio,mmio\"]";
    let mut model = Model::new(1 << 30);
    let archive = archive(&MANIFEST.replace("uses = [\"echo\"]", keys), &kernel());
    boot(&mut model, &archive).unwrap();
    assert!(model.given.is_empty());
    let tree = Fdt::new(&model.partitions[&2].memory).unwrap();
    for node in ["/pl031@a000000", "/virtio_mmio@a010000"] {
        let status = tree.find_node(node).unwrap().property("status").unwrap();
        assert_eq!(status.as_str(), Some("disabled"));
    }
    let (_, manifest) = open(&archive).unwrap();
    let id = PartitionId::new(2);
    model.partition(id).unwrap().limits.insert(Account::Devices as u64, 1);
    let mut next = || give_next(&mut model, &manifest.partitions[0], id);
    assert_eq!((next(), next()), (Ok(()), Err(Error::NotSupported)));
    assert_eq!(model.given, BTreeMap::from([(0, (id, DEVICE_BASE, DEVICE_INTID))]));
    // Nothing else is asked for; somebody else has it.
    let mut one = manifest.partitions[0].clone();
    one.devices_on_request.truncate(1);
    assert_eq!(give_next(&mut model, &one, id), Err(Error::BadHandle));
    let other = PartitionId::new(3);
    model.partition(other).unwrap().limits.insert(Account::Devices as u64, 1);
    assert_eq!(give_next(&mut model, &one, other), Err(Error::InUse));
}

#[test]
fn rights_to_the_bus_are_the_manifests() {
    let with = |keys: &str| MANIFEST.replacen("[[partition]]", &format!("[[partition]]\n{keys}"), 1);
    let run = |keys: &str| {
        let mut model = Model::new(1 << 30);
        boot(&mut model, &archive(&with(keys), &kernel())).unwrap();
        let linux = &model.partitions[&2];
        (linux.bus, linux.traffic)
    };
    assert_eq!(run(""), (None, None));
    let keys = "bus = { operations = 100, period = \"10 ms\" }\n\
                traffic = { events = 7000, period = \"1 ms\", event = 17 }";
    let bus = BusLimit { operations: 100, period: 10_000_000 };
    let traffic = TrafficLimit { event: 17, events: 7000, period: 1_000_000 };
    assert_eq!(run(keys), (Some(bus), Some(traffic)));
    let text = failure(1 << 30, &archive(&with("traffic = { events = 1, period = \"1 s\" }"), &kernel()));
    assert!(text.contains("(the processors do not count it); leave `traffic` out"), "{text}");
}

#[test]
fn colours_come_before_memory_and_need_tables() {
    let with = |keys: &str| MANIFEST.replacen("[[partition]]", &format!("[[partition]]\n{keys}"), 1);
    let run = |keys: &str| {
        let mut model = Model::new(1 << 30);
        boot(&mut model, &archive(&with(keys), &kernel())).unwrap();
        let linux = &model.partitions[&2];
        (linux.colours, linux.limits[&(Account::ControlMemory as u64)])
    };
    let (none, plain) = run("");
    assert_eq!(none, (0, 0));
    assert_eq!(run("channel-colours = [5]"), ((0, 1 << 5), plain));
    let (both, more) = run("colours = [0, 15]\nchannel-colours = [15, 2]");
    assert_eq!(both, (0x8001, 0x8004));
    // A table for each 2 MiB of 256 MiB, and of half as much for regions.
    assert_eq!(more - plain, 192 * 4096);
    let text = failure(1 << 30, &archive(&with("colours = [16]"), &kernel()));
    assert!(
        text.contains("cannot be given its cache colours") && text.contains("this machine has 16"),
        "{text}"
    );
}

#[test]
fn says_what_is_wrong() {
    let good = archive(MANIFEST, &kernel());
    assert_eq!(
        failure(1 << 30, &[]),
        format!(
            "the boot archive is damaged at byte 0x0 of its files: the archive ends without its trailer; {}",
            "build it again and check what loads it"
        )
    );
    assert!(failure(1 << 30, &good[..good.len() / 2]).contains("the archive ends inside a file"));
    let find = |name: &[u8]| good.windows(name.len()).rposition(|window| window == name).unwrap();
    let renamed = |name: &str, occurrence: usize| {
        let mut bytes = good.clone();
        bytes[occurrence] = b'X';
        let text = failure(1 << 30, &bytes);
        assert!(text.contains(&format!("the boot archive has no file `{name}`")), "{text}");
    };
    renamed("manifest", find(b"manifest\0"));
    renamed("debian", find(b"debian\0"));
    renamed("demo", find(b"demo\0"));

    let unreadable = {
        let mut bytes = good.clone();
        let at = find(b"manifest\0") + 10;
        bytes[at..at + 8].fill(0xff);
        failure(1 << 30, &bytes)
    };
    assert!(unreadable.contains("the packed manifest cannot be read"), "{unreadable}");
    let text = failure(1 << 30, &archive(MANIFEST, b"#!/bin/sh"));
    assert!(
        text.starts_with("linux cannot be started from `debian`: it is neither an arm64 Linux Image nor"),
        "{text}"
    );
    let text = failure(1 << 30, &archive(&MANIFEST.replace("\"256 MiB\"", "\"2 MiB\""), &kernel()));
    assert!(text.contains("need 4 MiB, but the partition has 2 MiB: give it more `memory`"), "{text}");
    let text = failure(100 * MIB, &good);
    assert!(
        text.contains("linux cannot be given 256 MiB of memory: out of memory (100 MiB are free)"),
        "{text}"
    );
}

/// Whatever one byte of the archive is changed to, booting comes to an end.
#[test]
fn any_single_byte_of_the_manifest_may_be_wrong() {
    let good = archive(MANIFEST, &kernel());
    let end = 110 + 12 + 200;
    for offset in 0..end {
        for value in [0, 1, 0x30, 0x7f, 0x80, 0xff] {
            let mut bytes = good.clone();
            bytes[offset] = value;
            // Little memory, so that a manifest that asks for all there can be is refused soon.
            let _either = boot(&mut Model::new(MIB), &bytes);
        }
    }
}
