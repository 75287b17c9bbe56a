//! Making, filling and starting one partition.

use alloc::{format, string::String, vec::Vec};
use core::{fmt, ops::Range};
use handover_abi::{
    Account, BusLimit, Error, Name, PROCESSOR_WHOLE, PartitionId, ProcessorClaim, TrafficLimit,
    layout::{ADD_MEMORY_MAX, MEMORY_BASE, MEMORY_GRANULE, WINDOW_SIZE, WRITE_MAX},
    resources,
};
use handover_manifest::{Bus, Duration, Manifest, MemorySize, Partition, Provider, Traffic, colour_set};

use crate::{
    archive::{Failure, files_of},
    control::Control,
    cpio::Archive,
    device_tree::{self, Description, DeviceTreeError, Provided, Used},
    devices,
    image::{DEVICE_TREE_MAX, Plan, PlanError, plan},
};

/// What a partition may hold in message regions, or take as memory while it runs, beside its memory: half as much again, and at least this many bytes.
const REGIONS_MIN: u64 = 32 << 20;
/// What the control OS may spend on a partition, in bytes.
const CONTROL_MEMORY: u64 = 4 << 20;
/// Ports of a partition.
const PORTS: u64 = 1024;

/// The usual limits of a partition: of each account that is not left as it is, which is at zero, or without a limit for the bus.
#[must_use]
pub fn limits(partition: &Partition) -> [(Account, u64); 7] {
    let memory = partition.memory.0;
    let memory = memory.saturating_add((memory / 2).max(REGIONS_MIN));
    let (own, channels) = colours(partition);
    // Memory of some colours takes a table for each 2 MiB.
    let tables = if own == 0 { 0 } else { memory / 512 };
    [
        // What its manifest asks for, and room for as much as it can use.
        (Account::ProcessorTime, u64::from(partition.processors) * PROCESSOR_WHOLE),
        (Account::Memory, memory),
        // All of that may be added to its memory, and the whole message window is its own to use.
        (Account::AddressSpace, memory.saturating_add(WINDOW_SIZE)),
        (Account::ControlMemory, CONTROL_MEMORY.saturating_add(tables)),
        (Account::Ports, PORTS),
        (Account::Devices, partition.devices.len() as u64),
        (Account::CacheColours, u64::from((own | channels).count_ones())),
    ]
}

/// What each of a partition's logical processors claims.
fn claims(partition: &Partition) -> impl Iterator<Item = (u32, ProcessorClaim)> + use<'_> {
    let mask = |numbers: &[u32]| numbers.iter().fold(0, |mask, number| mask | 1u16 << (number & 15));
    let owned = partition.owns.iter();
    let owned = owned.map(move |&number| ProcessorClaim {
        alone: true,
        allowed: mask(&[number]),
        ..Default::default()
    });
    let shared = ProcessorClaim {
        budget: partition.budget.unwrap_or_default().0,
        period: partition.period.unwrap_or_default().0,
        allowed: mask(&partition.bound_to),
        work_conserving: partition.work_conserving,
        alone: false,
    };
    (0..partition.processors).zip(owned.chain(core::iter::repeat(shared)))
}

/// A partition's own colours and those of the channels to it, bit by bit.
fn colours(partition: &Partition) -> (u64, u64) {
    (colour_set(&partition.colours), colour_set(&partition.channel_colours))
}

/// What a partition is filled with, at hand before it exists.
#[derive(Clone, Debug)]
pub struct Content<'a> {
    kernel: &'a [u8],
    initramfs: Option<&'a [u8]>,
    plan: Plan,
}

impl<'a> Content<'a> {
    /// Finds a partition's files and plans its memory.
    pub fn find(archive: &Archive<'a>, partition: &Partition) -> Result<Content<'a>, Failure> {
        let name = &partition.name;
        let (kernel, initramfs) = files_of(archive, partition)
            .map_err(|failure| Failure(format!("{name} cannot be started: {failure}")))?;
        Content::plan(kernel, initramfs, partition.memory.0).map_err(|error| {
            Failure(format!("{name} cannot be started from `{}`: {error}", partition.kernel))
        })
    }

    /// Plans so many bytes of memory for these files.
    pub fn plan(
        kernel: &'a [u8],
        initramfs: Option<&'a [u8]>,
        memory: u64,
    ) -> Result<Content<'a>, PlanError> {
        let size = initramfs.map(|file| file.len() as u64);
        let plan = plan(kernel, size, memory)?;
        Ok(Content { kernel, initramfs, plan })
    }

    /// Where the initramfs is to be.
    #[must_use]
    pub fn initramfs(&self) -> Option<Range<u64>> {
        let initramfs = self.plan.initramfs.zip(self.initramfs);
        initramfs.map(|(start, bytes)| start..start + bytes.len() as u64)
    }

    /// Where processor 0 starts, and what it finds in `x0`: the device tree's address.
    #[must_use]
    pub fn entry(&self) -> (u64, u64) {
        (self.plan.entry, self.plan.device_tree)
    }
}

/// Makes a partition with its limits and its memory. After a failure nothing is left of it.
pub fn create(control: &mut impl Control, partition: &Partition) -> Result<PartitionId, Failure> {
    let name = &partition.name;
    let name_in_registers =
        Name::new(name).ok_or_else(|| Failure(format!("`{name}` is no partition's name")))?;
    let id = control.create(name_in_registers, partition.processors).map_err(|error| {
        failed(name, format_args!("created with {} processors", partition.processors), error)
    })?;
    give(control, partition, id).inspect_err(|_| forget(control, name, id))?;
    Ok(id)
}

/// Gives a partition its limits and its memory.
pub fn give(control: &mut impl Control, partition: &Partition, id: PartitionId) -> Result<(), Failure> {
    let name = &partition.name;
    for (account, limit) in limits(partition) {
        control
            .set_limit(id, account, limit)
            .map_err(|error| failed(name, format_args!("given a limit of {limit} for {account}"), error))?;
    }
    for (processor, claim) in claims(partition).filter(|(_, claim)| *claim != ProcessorClaim::default()) {
        control.claim(id, processor, claim).map_err(|error| {
            failed(name, format_args!("promised the time of processor {processor}"), error)
        })?;
    }
    if let Some(watchdog) = partition.watchdog {
        control
            .set_watchdog(id, watchdog.0)
            .map_err(|error| failed(name, format_args!("given a watchdog of {watchdog}"), error))?;
    }
    let (own, channels) = colours(partition);
    if own | channels != 0 {
        control.set_colours(id, own, channels).map_err(|error| no_colours(control, partition, error))?;
    }
    rights_to_the_bus(control, partition, id)?;
    let size = partition.memory.0;
    let most = if own == 0 { ADD_MEMORY_MAX } else { MEMORY_GRANULE };
    let mut given = 0;
    while given < size {
        let step = (size - given).min(most);
        if let Err(error) = control.add_memory(id, MEMORY_BASE + given, step) {
            return Err(no_memory(control, partition, error));
        }
        given += step;
    }
    devices::give(control, partition, id)
}

fn rights_to_the_bus(
    control: &mut impl Control,
    partition: &Partition,
    id: PartitionId,
) -> Result<(), Failure> {
    let name = &partition.name;
    if let Some(Bus { operations, period: Duration(period) }) = partition.bus {
        control
            .set_bus(id, BusLimit { operations, period })
            .map_err(|error| failed(name, format_args!("given its rights to the bus"), error))?;
    }
    let Some(Traffic { events, period: Duration(period), event }) = partition.traffic else {
        return Ok(());
    };
    let limit = TrafficLimit { event: event.unwrap_or(0).into(), events, period };
    control.set_traffic(id, limit).map_err(|(error, reason)| {
        let Failure(mut text) = failed(name, format_args!("given a limit of memory traffic"), error);
        if let Some(reason) = reason {
            text += &format!(" ({reason}); leave `traffic` out on this machine");
        }
        Failure(text)
    })
}

fn no_colours(control: &mut impl Control, partition: &Partition, error: Error) -> Failure {
    let Failure(mut text) = failed(&partition.name, format_args!("given its cache colours"), error);
    match (error, control.colours()) {
        (Error::NotSupported, _) => text += "; this machine's caches have none: leave them out",
        (Error::InvalidArgument, Ok(count)) => {
            text += &format!("; this machine has {count}, counted from 0: choose others");
        }
        _ => {}
    }
    Failure(text)
}

fn no_memory(control: &mut impl Control, partition: &Partition, error: Error) -> Failure {
    let Failure(mut text) =
        failed(&partition.name, format_args!("given {} of memory", partition.memory), error);
    if error == Error::NoMemory {
        if let Ok(free) = control.free_memory() {
            text += &format!(" ({} are free)", MemorySize(free));
        }
        text += "; raise `memory` under [machine], or lower that of the partitions";
    }
    Failure(text)
}

/// Forgets a partition that does not run.
pub fn forget(control: &mut impl Control, name: &str, id: PartitionId) {
    if let Err(error) = control.destroy(id) {
        control.say(format_args!("what {name} (partition {id}) held does not come back: {error}"));
    }
}

/// Fills a partition with its kernel, initramfs and device tree. `ids` are those of the manifest's partitions, as far as they exist.
pub fn fill(
    control: &mut impl Control,
    manifest: &Manifest,
    index: usize,
    content: &Content<'_>,
    ids: &[Option<PartitionId>],
) -> Result<(), Failure> {
    let partition = manifest.partitions.get(index);
    let (Some(partition), Some(&Some(id))) = (partition, ids.get(index)) else {
        return Err(Failure(format!("partition {} of the manifest does not exist", index + 1)));
    };
    let name = &partition.name;
    let tree = describe(control, manifest, (partition, id), content, ids)
        .map_err(|error| Failure(format!("{name} cannot be given its device tree: {error}")))?;
    load(control, id, content, &tree)
        .map_err(|(part, error)| failed(name, format_args!("given its {part}"), error))
}

/// Writes a kernel, an initramfs and a device tree into a partition. A failure tells which of them.
pub fn load(
    control: &mut impl Control,
    id: PartitionId,
    content: &Content<'_>,
    tree: &[u8],
) -> Result<(), (&'static str, Error)> {
    let plan = &content.plan;
    for segment in &plan.segments {
        let bytes = content.kernel.get(segment.bytes.clone()).unwrap_or_default();
        write(control, id, segment.address, bytes).map_err(|error| ("kernel", error))?;
    }
    if let (Some(address), Some(bytes)) = (plan.initramfs, content.initramfs) {
        write(control, id, address, bytes).map_err(|error| ("initramfs", error))?;
    }
    write(control, id, plan.device_tree, tree).map_err(|error| ("device tree", error))
}

/// Starts a partition that has been filled.
pub fn start(
    control: &mut impl Control,
    partition: &Partition,
    content: &Content<'_>,
    id: PartitionId,
) -> Result<(), Failure> {
    let (entry, device_tree) = content.entry();
    control
        .start(id, entry, device_tree)
        .map_err(|error| failed(&partition.name, format_args!("started at {entry:#x}"), error))
}

fn write(control: &mut impl Control, id: PartitionId, address: u64, bytes: &[u8]) -> Result<(), Error> {
    let addresses = (address..).step_by(WRITE_MAX as usize);
    bytes.chunks(WRITE_MAX as usize).zip(addresses).try_for_each(|(chunk, at)| control.write(id, at, chunk))
}

fn describe(
    control: &mut impl Control,
    manifest: &Manifest,
    (partition, id): (&Partition, PartitionId),
    content: &Content<'_>,
    ids: &[Option<PartitionId>],
) -> Result<Vec<u8>, String> {
    let own =
        control.own_id().map_err(|error| format!("system-control does not know its own id: {error}"))?;
    let used = |name: &String| {
        if name == resources::SERVICE_NAME {
            let (id, name) = (resources::SERVICE.get(), resources::SERVICE_NAME);
            return Some(Used { id, name, provider: own.get() });
        }
        let service = manifest.service(name)?;
        let provider = match service.provider {
            Provider::Partition(index) => ids.get(index).copied().flatten(),
            Provider::Program(_) => Some(own),
        };
        // 0 names nobody: the provider has ended for good.
        Some(Used { id: service.id, name: service.name, provider: provider.map_or(0, PartitionId::get) })
    };
    let provided =
        |name: &String| manifest.service(name).map(|service| Provided { id: service.id, name: service.name });
    let description = Description {
        processors: partition.processors,
        memory: partition.memory.0,
        command_line: partition.command_line.as_deref(),
        initramfs: content.initramfs(),
        seeds: control.seeds(),
        uses: partition.uses.iter().filter_map(used).collect(),
        provides: partition.provides.iter().filter_map(provided).collect(),
        devices: devices::held_by(control, id),
        devices_on_request: devices::on_request(control, partition, id)
            .into_iter()
            .map(|(_, device)| device)
            .collect(),
    };
    let tree = device_tree::build(&description).map_err(|error| match error {
        DeviceTreeError::InvalidString => "its `command-line` holds a zero byte".into(),
        error => format!("{error}"),
    })?;
    if tree.len() as u64 > DEVICE_TREE_MAX {
        return Err(format!(
            "it has {} bytes, and {DEVICE_TREE_MAX} are the most: shorten `command-line`",
            tree.len()
        ));
    }
    Ok(tree)
}

fn failed(name: &str, what: fmt::Arguments<'_>, error: Error) -> Failure {
    Failure(format!("{name} cannot be {what}: {error}"))
}
