//! The machine: its partitions, and the privileged calls by name.

use std::{fmt, fs::File, io::Read, sync::Arc};

use handover_abi::{
    Account, BusLimit, Call, EndReason, Error as ControlError, Name, PartitionId, ProcessorClaim,
    TrafficLimit, Unsupported,
    device::{DeviceState, Text},
};
use handover_loader::{
    control::{Control, Device as LoaderDevice},
    device_tree::{Description, Provided, Seeds, Used, build},
    partition::{Content, limits, load},
};

use crate::{Calls, Cause, Device, Error, Partition, REGISTERS, Service};

/// The machine, as system-control may use it. Cheap to clone.
#[derive(Clone)]
pub struct Machine {
    calls: Arc<dyn Calls>,
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Machine")
    }
}

/// What the machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MachineInfo {
    /// Physical processors.
    pub processors: u32,
    /// Bytes of memory that nobody has.
    pub free_memory: u64,
}

/// What a new partition is given.
#[derive(Clone, Debug)]
pub struct Setup {
    /// 1 to 15 bytes of `a-z`, `0-9` and `-`: its console's label.
    pub name: String,
    /// Logical processors, 1 to 8.
    pub processors: u32,
    /// Bytes of memory, a multiple of 2 MiB.
    pub memory: u64,
    /// Limits other than [`Setup::limits`] says, by account.
    pub limits: Vec<(Account, u64)>,
    /// What a guest finds as its command line.
    pub command_line: Option<String>,
    /// Services it may use: name, service and provider go into its device tree.
    pub uses: Vec<Service>,
    /// Services it provides: name and number.
    pub provides: Vec<(String, handover_abi::ServiceId)>,
}

impl Setup {
    /// A partition with the usual limits and no services.
    #[must_use]
    pub fn new(name: &str, processors: u32, memory: u64) -> Setup {
        Setup {
            name: name.to_owned(),
            processors,
            memory,
            limits: Vec::new(),
            command_line: None,
            uses: Vec::new(),
            provides: Vec::new(),
        }
    }

    /// The limits it is given: the usual ones for its memory, with those of `limits` in their place.
    #[must_use]
    pub fn all_limits(&self) -> Vec<(Account, u64)> {
        let mut limits = limits(&handover_manifest::Partition::plain(
            &self.name,
            self.processors,
            handover_manifest::MemorySize(self.memory),
        ))
        .to_vec();
        for &(account, limit) in &self.limits {
            limits.retain(|(other, _)| *other != account);
            limits.push((account, limit));
        }
        limits
    }
}

impl Machine {
    /// The machine that this runs on.
    ///
    /// # Errors
    ///
    /// Not in system-control, or without the device's permission.
    pub fn open() -> Result<Machine, Error> {
        match Device::open() {
            Ok(device) => Ok(Machine::with(Arc::new(device))),
            Err(error) => {
                Err(Error { what: "use the machine".into(), partition: None, cause: Cause::System(error) })
            }
        }
    }

    /// A machine behind something else that carries out calls: for tests.
    #[must_use]
    pub fn with(calls: Arc<dyn Calls>) -> Machine {
        Machine { calls }
    }

    /// What the machine has.
    ///
    /// # Errors
    ///
    /// Those of the call.
    pub fn info(&self) -> Result<MachineInfo, Error> {
        let [processors, free_memory, ..] = self.call("ask for the machine", None, Call::MachineInfo, &[])?;
        Ok(MachineInfo { processors: processors as u32, free_memory })
    }

    /// System-control's own partition.
    ///
    /// # Errors
    ///
    /// Those of the call.
    pub fn own(&self) -> Result<Partition, Error> {
        let [id, ..] = self.call("ask who this is", None, Call::Identify, &[])?;
        Ok(self.partition(PartitionId::new(id as u32)))
    }

    /// The partition of this id; whether there is one shows when it is used.
    #[must_use]
    pub fn partition(&self, id: PartitionId) -> Partition {
        Partition { machine: self.clone(), id, entry: None }
    }

    /// Makes a partition with its limits and its memory, and puts a guest in it. [`Partition::start`] starts that.
    /// After a failure nothing is left of it.
    ///
    /// # Errors
    ///
    /// The kernel or the initramfs cannot be used or does not fit; a limit; those of the calls.
    pub fn create(&self, setup: &Setup, kernel: &[u8], initramfs: Option<&[u8]>) -> Result<Partition, Error> {
        let unfit = |text: String| Error {
            what: format!("create {}", setup.name),
            partition: None,
            cause: Cause::Content(text),
        };
        let content =
            Content::plan(kernel, initramfs, setup.memory).map_err(|error| unfit(error.to_string()))?;
        let mut partition = self.create_empty(setup)?;
        partition.entry = Some(content.entry());
        let filled = self.fill(setup, &partition, &content);
        if filled.is_err() {
            let _nothing_else_to_do = partition.destroy();
        }
        filled.map(|()| partition)
    }

    /// Makes a partition with its limits and its memory, all zeroes.
    ///
    /// # Errors
    ///
    /// The name, a limit, those of the calls.
    pub fn create_empty(&self, setup: &Setup) -> Result<Partition, Error> {
        let what = format!("create {}", setup.name);
        let name = Name::new(&setup.name).ok_or_else(|| Error {
            what: what.clone(),
            partition: None,
            cause: Cause::Control(ControlError::InvalidArgument),
        })?;
        let [low, high] = name.to_registers();
        let processors = u64::from(setup.processors);
        let [id, ..] = self.call(&what, None, Call::PartitionCreate, &[low, high, processors])?;
        let partition = self.partition(PartitionId::new(id as u32));
        let given = setup
            .all_limits()
            .into_iter()
            .try_for_each(|(account, limit)| partition.set_limit(account, limit))
            .and_then(|()| partition.add_memory(handover_abi::layout::MEMORY_BASE, setup.memory));
        if given.is_err() {
            let _nothing_else_to_do = partition.destroy();
        }
        given.map(|()| partition)
    }

    fn fill(&self, setup: &Setup, partition: &Partition, content: &Content<'_>) -> Result<(), Error> {
        let failed =
            |cause| Error { what: format!("fill {}", setup.name), partition: Some(partition.id), cause };
        let used = setup.uses.iter().map(|service| Used {
            id: service.id.get(),
            name: &service.name,
            provider: service.partition.get(),
        });
        let provided = setup.provides.iter().map(|(name, id)| Provided { id: id.get(), name });
        let description = Description {
            processors: setup.processors,
            memory: setup.memory,
            command_line: setup.command_line.as_deref(),
            initramfs: content.initramfs(),
            seeds: seeds(),
            uses: used.collect(),
            provides: provided.collect(),
            devices: Vec::new(),
            devices_on_request: Vec::new(),
        };
        let tree = build(&description).map_err(|error| failed(Cause::Content(error.to_string())))?;
        let mut control = self;
        load(&mut control, partition.id, content, &tree).map_err(|(_, error)| failed(Cause::Control(error)))
    }

    /// Ends the machine with a status, at most 255. Returns only with an error.
    #[must_use]
    pub fn off(&self, status: u64) -> Error {
        match self.call("end the machine", None, Call::MachineOff, &[status]) {
            Err(error) => error,
            Ok(_) => Error {
                what: "end the machine".into(),
                partition: None,
                cause: Cause::Control(ControlError::NotSupported),
            },
        }
    }

    /// Makes a call that this crate has no name for; `x1` and what follows, before and after.
    ///
    /// # Errors
    ///
    /// Those of the call, with the account's use and limit where one was exceeded. `what` completes "cannot".
    pub fn call(
        &self,
        what: &str,
        partition: Option<PartitionId>,
        call: Call,
        arguments: &[u64],
    ) -> Result<[u64; REGISTERS - 1], Error> {
        let failed = |cause| Error { what: what.to_owned(), partition, cause };
        let (error, x1) = match self.raw(call, arguments) {
            Ok(results) => return Ok(results),
            Err(Refused::System(error)) => return Err(failed(Cause::System(error))),
            Err(Refused::Control(error, x1)) => (error, x1),
        };
        let account = Account::try_from(x1).ok().filter(|_| error == ControlError::Limit);
        // Who pays for a partition's making is its maker.
        let payer = partition.filter(|_| call != Call::PartitionCreate);
        let exceeded = account.and_then(|account| {
            let of = payer.or_else(|| self.own().ok().map(|own| own.id))?;
            let [used, limit, ..] = self.raw(Call::AccountRead, &[of.get().into(), account as u64]).ok()?;
            Some(Cause::Limit { of, account, used, limit })
        });
        Err(failed(exceeded.unwrap_or(Cause::Control(error))))
    }

    fn raw(&self, call: Call, arguments: &[u64]) -> Result<[u64; REGISTERS - 1], Refused> {
        let mut registers = [0; REGISTERS];
        registers[0] = u64::from(call as u32);
        registers[1..=arguments.len()].copy_from_slice(arguments);
        self.calls.call(&mut registers).map_err(Refused::System)?;
        let [x0, results @ ..] = registers;
        match x0 {
            0 => Ok(results),
            x0 => Err(Refused::Control(
                ControlError::from_x0(x0).unwrap_or(ControlError::NotSupported),
                results[0],
            )),
        }
    }

    /// As [`raw`](Machine::raw), for the loader, which has its own words for failures.
    fn plain(&self, call: Call, arguments: &[u64]) -> Result<[u64; REGISTERS - 1], ControlError> {
        self.raw(call, arguments).map_err(|refused| match refused {
            Refused::Control(error, _) => error,
            Refused::System(error) => {
                eprintln!("{call:?} was not made: {error}");
                ControlError::NotSupported
            }
        })
    }
}

enum Refused {
    System(std::io::Error),
    /// With `x1`.
    Control(ControlError, u64),
}

/// Random bytes for a guest, if the kernel has any.
fn seeds() -> Option<Seeds> {
    let (mut kaslr, mut random) = ([0; 8], [0; 32]);
    let mut source = File::open("/dev/urandom").ok()?;
    source.read_exact(&mut kaslr).ok()?;
    source.read_exact(&mut random).ok()?;
    Some(Seeds { kaslr: u64::from_le_bytes(kaslr), random })
}

fn id(partition: PartitionId) -> u64 {
    partition.get().into()
}

impl Control for &Machine {
    fn own_id(&mut self) -> Result<PartitionId, ControlError> {
        self.plain(Call::Identify, &[]).map(|[own, ..]| PartitionId::new(own as u32))
    }

    fn create(&mut self, name: Name, processors: u32) -> Result<PartitionId, ControlError> {
        let [low, high] = name.to_registers();
        let [id, ..] = self.plain(Call::PartitionCreate, &[low, high, processors.into()])?;
        Ok(PartitionId::new(id as u32))
    }

    fn set_limit(
        &mut self,
        partition: PartitionId,
        account: Account,
        limit: u64,
    ) -> Result<(), ControlError> {
        self.plain(Call::PartitionSetLimit, &[id(partition), account as u64, limit]).map(drop)
    }

    fn claim(
        &mut self,
        partition: PartitionId,
        processor: u32,
        claim: ProcessorClaim,
    ) -> Result<(), ControlError> {
        let [budget, period, how] = claim.to_registers();
        self.plain(Call::ProcessorSet, &[id(partition), processor.into(), budget, period, how]).map(drop)
    }

    fn set_watchdog(&mut self, partition: PartitionId, nanoseconds: u64) -> Result<(), ControlError> {
        self.plain(Call::PartitionSetWatchdog, &[id(partition), nanoseconds]).map(drop)
    }

    fn set_colours(&mut self, partition: PartitionId, own: u64, channels: u64) -> Result<(), ControlError> {
        self.plain(Call::PartitionSetColours, &[id(partition), own, channels]).map(drop)
    }

    fn set_bus(&mut self, partition: PartitionId, limit: BusLimit) -> Result<(), ControlError> {
        self.plain(Call::PartitionSetBus, &[id(partition), limit.operations, limit.period]).map(drop)
    }

    fn set_traffic(
        &mut self,
        partition: PartitionId,
        limit: TrafficLimit,
    ) -> Result<(), (ControlError, Option<Unsupported>)> {
        let TrafficLimit { event, events, period } = limit;
        match self.raw(Call::PartitionSetTraffic, &[id(partition), event, events, period]) {
            Ok(_) => Ok(()),
            Err(Refused::Control(error, x1)) => Err((error, Unsupported::try_from(x1).ok())),
            Err(Refused::System(_)) => Err((ControlError::NotSupported, None)),
        }
    }

    fn colours(&mut self) -> Result<u32, ControlError> {
        self.plain(Call::CacheInfo, &[]).map(|[colours, ..]| colours as u32)
    }

    fn add_memory(&mut self, partition: PartitionId, address: u64, size: u64) -> Result<(), ControlError> {
        self.plain(Call::PartitionAddMemory, &[id(partition), address, size]).map(drop)
    }

    fn write(&mut self, partition: PartitionId, address: u64, bytes: &[u8]) -> Result<(), ControlError> {
        let source = bytes.as_ptr().expose_provenance() as u64;
        self.plain(Call::PartitionWrite, &[id(partition), address, source, bytes.len() as u64]).map(drop)
    }

    fn start(&mut self, partition: PartitionId, entry: u64, x0: u64) -> Result<(), ControlError> {
        self.plain(Call::PartitionStart, &[id(partition), entry, x0]).map(drop)
    }

    fn stop(&mut self, partition: PartitionId) -> Result<(), ControlError> {
        self.plain(Call::PartitionStop, &[id(partition)]).map(drop)
    }

    fn destroy(&mut self, partition: PartitionId) -> Result<(), ControlError> {
        self.plain(Call::PartitionDestroy, &[id(partition)]).map(drop)
    }

    fn end_of(&mut self, partition: PartitionId) -> Result<(EndReason, u64), ControlError> {
        let [_, reason, status, ..] = self.plain(Call::PartitionStatus, &[id(partition)])?;
        Ok((EndReason::try_from(reason)?, status))
    }

    fn free_memory(&mut self) -> Result<u64, ControlError> {
        self.plain(Call::MachineInfo, &[]).map(|[_, free, ..]| free)
    }

    fn device(&mut self, number: u64) -> Result<LoaderDevice, ControlError> {
        let [base, size, state, holder, address, _, _, n0, n1, n2, c0, c1, c2, c3, intid, ..] =
            self.plain(Call::DeviceInfo, &[number])?;
        Ok(LoaderDevice {
            base,
            size,
            interrupts: DeviceState::from_register(state).interrupts.into(),
            name: Text([n0, n1, n2]),
            compatible: Text([c0, c1, c2, c3]),
            holder: (holder != 0).then(|| PartitionId::new(holder as u32)),
            address,
            intid: intid as u32,
        })
    }

    fn assign(
        &mut self,
        partition: PartitionId,
        number: u64,
        address: u64,
        intid: u32,
    ) -> Result<(), (ControlError, Option<Unsupported>)> {
        match self.raw(Call::DeviceAssign, &[id(partition), number, address, intid.into()]) {
            Ok(_) => Ok(()),
            Err(Refused::Control(ControlError::NotSupported, x1)) => {
                Err((ControlError::NotSupported, Unsupported::try_from(x1).ok()))
            }
            Err(Refused::Control(error, _)) => Err((error, None)),
            Err(Refused::System(_)) => Err((ControlError::NotSupported, None)),
        }
    }

    fn seeds(&mut self) -> Option<Seeds> {
        seeds()
    }

    fn say(&mut self, line: fmt::Arguments<'_>) {
        println!("{line}");
    }
}
