//! What the types alone cannot say about a manifest: names are unique, services meet, everything fits the machine.

use crate::{
    BUDGET_MIN, COLOURS, Duration, KernelSource, MAX_DEVICES, MAX_NAME, MAX_PHYSICAL, MAX_PROCESSORS,
    MAX_PROGRAMS, MEMORY_GRANULE, Manifest, MemorySize, PERIOD_MAX, Partition, Program, REQUESTS,
};
use alloc::{format, string::String};

/// Names that consoles, logs and records use for what no manifest lists.
const RESERVED_NAMES: [&str; 2] = ["control-os", "system-control"];

/// One thing that is wrong with a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// What was found there, and what to do.
    pub what: String,
}

/// A place in a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The manifest as a whole.
    Manifest(Key),
    /// The machine.
    Machine(Key),
    /// The privileged partition.
    SystemControl(Key),
    /// The partition of this index.
    Partition(usize, Key),
    /// The program of this index.
    Program(usize, Key),
}

/// A key at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// The table itself.
    Table,
    /// The key of this name.
    Value(&'static str),
    /// An element of the list of this name.
    Element(&'static str, usize),
}

impl Manifest {
    /// The first thing that is wrong. Whether the files it names exist and are kernels is not looked at here.
    pub fn check(&self) -> Result<(), Problem> {
        self.check_machine()?;
        self.check_system_control()?;
        let alone = self.stay || self.system_control.runs_programs() && !self.system_control.has_init();
        if self.partitions.is_empty() && !alone {
            return wrong(Place::Manifest(Key::Table), "there is no `[[partition]]`: name at least one");
        }
        for (index, partition) in self.partitions.iter().enumerate() {
            self.check_partition(index, partition)?;
            check_colours(index, "colours", &partition.colours)?;
            check_colours(index, "channel-colours", &partition.channel_colours)?;
            let bus = partition.bus.map(|bus| ("bus", bus.operations, bus.period));
            let traffic = partition.traffic.map(|traffic| ("traffic", traffic.events, traffic.period));
            for (key, count, period) in [bus, traffic].into_iter().flatten() {
                check_rate(Place::Partition(index, Key::Value(key)), count, period)?;
            }
        }
        for (index, program) in self.programs.iter().enumerate() {
            self.check_program(index, program)?;
        }
        self.check_services()?;
        self.check_devices()?;
        self.check_memory()?;
        for (index, name) in self.end_with.iter().enumerate() {
            if self.partition(name).is_none() {
                let what = format!("`end-with` names `{name}`, but no partition has this name");
                return wrong(Place::Manifest(Key::Element("end-with", index)), what);
            }
        }
        Ok(())
    }

    fn check_machine(&self) -> Result<(), Problem> {
        if self.machine.processors == 0 {
            return wrong(Place::Machine(Key::Value("processors")), "a machine needs at least one processor");
        }
        check_granule(self.machine.memory, Place::Machine(Key::Value("memory")))
    }

    fn check_system_control(&self) -> Result<(), Problem> {
        let control = &self.system_control;
        let at = |key| Place::SystemControl(Key::Value(key));
        if let Some(kernel) = &control.kernel
            && !matches!(KernelSource::new(kernel), KernelSource::Guest(_))
        {
            let what =
                format!("`{kernel}` cannot take the place of system-control's kernel: write `guest:NAME`");
            return wrong(at("kernel"), what);
        }
        if !control.programs.is_empty() && !control.runs_programs() {
            return wrong(at("programs"), "a guest in the place of system-control's kernel runs no programs");
        }
        match control.memory {
            Some(memory) => check_granule(memory, at("memory")),
            None => Ok(()),
        }
    }

    fn check_partition(&self, index: usize, partition: &Partition) -> Result<(), Problem> {
        let at = |key| Place::Partition(index, Key::Value(key));
        let name = &partition.name;
        check_name(name, "partition", at("name"))?;
        if RESERVED_NAMES.contains(&name.as_str()) {
            return wrong(
                at("name"),
                format!("`{name}` is the name of a part of the system: choose another"),
            );
        }
        if let Some(first) = self.partitions[..index].iter().position(|other| other.name == *name) {
            let what = format!("partition {} is called `{name}` already: names are unique", first + 1);
            return wrong(at("name"), what);
        }
        if partition.watchdog.is_some_and(|time| time.0 == 0) {
            let what = format!(
                "`{name}` would die as it starts: leave `watchdog` out, or give it time, like `10 s`"
            );
            return wrong(at("watchdog"), what);
        }
        if partition.kernel.is_empty() {
            return wrong(at("kernel"), "write `guest:NAME`, `debian` or the path of a kernel");
        }
        match partition.processors {
            0 => wrong(at("processors"), format!("`{name}` needs at least one processor")),
            n if n > MAX_PROCESSORS => {
                let what =
                    format!("`{name}` asks for {n} processors, a partition has at most {MAX_PROCESSORS}");
                wrong(at("processors"), what)
            }
            _ => check_granule(partition.memory, at("memory")),
        }?;
        self.check_time(index, partition)
    }

    fn check_time(&self, index: usize, partition: &Partition) -> Result<(), Problem> {
        let at = |key| Place::Partition(index, Key::Value(key));
        match (partition.budget, partition.period) {
            (None, None) if partition.work_conserving => {
                return wrong(at("work-conserving"), "without `budget` it takes what others leave anyway");
            }
            (None, None) => {}
            (Some(_), None) => return wrong(at("budget"), "a `budget` needs a `period` too"),
            (None, Some(_)) => return wrong(at("period"), "a `period` needs a `budget` too"),
            (Some(budget), Some(_)) if budget < BUDGET_MIN => {
                return wrong(at("budget"), format!("{budget} is too short: {BUDGET_MIN} is the least"));
            }
            (Some(_), Some(period)) if period > PERIOD_MAX => {
                return wrong(at("period"), format!("{period} is too long: {PERIOD_MAX} is the most"));
            }
            (Some(budget), Some(period)) if budget > period => {
                return wrong(at("budget"), format!("{budget} is more than the period of {period}"));
            }
            (Some(_), Some(_)) => {}
        }
        let machine = self.machine.processors.min(MAX_PHYSICAL);
        for (key, list, least) in [("bound-to", &partition.bound_to, 0), ("owns", &partition.owns, 1)] {
            for (element, &number) in list.iter().enumerate() {
                let place = Place::Partition(index, Key::Element(key, element));
                if number < least || number >= machine {
                    let what = format!(
                        "physical processor {number} cannot be had: write {least} to {}",
                        machine.saturating_sub(1)
                    );
                    return wrong(place, what);
                }
                if list[..element].contains(&number) {
                    return wrong(place, format!("physical processor {number} is there twice"));
                }
            }
        }
        if partition.owns.len() > partition.processors as usize {
            let what = format!(
                "`{}` has only {} logical processors to own with",
                partition.name, partition.processors
            );
            return wrong(at("owns"), what);
        }
        Ok(())
    }

    fn check_program(&self, index: usize, program: &Program) -> Result<(), Problem> {
        let at = |key| Place::Program(index, Key::Value(key));
        if index >= MAX_PROGRAMS {
            return wrong(
                Place::Program(index, Key::Table),
                format!("there can be {MAX_PROGRAMS} programs at most"),
            );
        }
        if program.memory.is_some_and(|memory| memory.0 == 0 || memory.0 > self.system_control.memory_size())
        {
            let what = format!(
                "system-control has {} for all its programs",
                MemorySize(self.system_control.memory_size())
            );
            return wrong(at("memory"), what);
        }
        let name = program.name();
        let key = if program.name.is_some() { "name" } else { "path" };
        check_name(name, "program", at(key))?;
        if let Some(first) = self.programs[..index].iter().position(|other| other.name() == name) {
            let what =
                format!("program {} is called `{name}` already: give this one another `name`", first + 1);
            return wrong(at(key), what);
        }
        if program.console
            && let Some(first) = self.programs[..index].iter().find(|other| other.console)
        {
            let what = format!("`{}` reads the console already: only one program can", first.name());
            return wrong(at("console"), what);
        }
        if program.decides
            && let Some(first) = self.programs[..index].iter().find(|other| other.decides)
        {
            let what = format!("`{}` decides guests' requests already: only one program can", first.name());
            return wrong(at("decides"), what);
        }
        Ok(())
    }

    fn check_services(&self) -> Result<(), Problem> {
        type AtIndex = fn(usize, Key) -> Place;
        let partitions = self.partitions.iter().enumerate();
        let partitions = partitions.map(|(index, one)| {
            (Place::Partition as AtIndex, index, one.name.as_str(), &one.provides, &one.uses)
        });
        let programs = self.programs.iter().enumerate();
        let programs = programs
            .map(|(index, one)| (Place::Program as AtIndex, index, one.name(), &one.provides, &one.uses));
        let mut ahead = 0;
        for (place, index, who, provides, uses) in partitions.chain(programs) {
            for (element, service) in provides.iter().enumerate() {
                let place = place(index, Key::Element("provides", element));
                check_name(service, "service", place)?;
                if service == REQUESTS {
                    return wrong(
                        place,
                        format!("system-control itself provides `{REQUESTS}`: choose another name"),
                    );
                }
                // `service` finds the first of a name, so a later one of that name finds somebody else.
                ahead += 1;
                if let Some(first) = self.service(service)
                    && first.id != ahead
                {
                    let provider = self.provider_name(first.provider);
                    let what =
                        format!("`{provider}` provides a service `{service}` already: names are unique");
                    return wrong(place, what);
                }
            }
            for (element, service) in uses.iter().enumerate() {
                let place = place(index, Key::Element("uses", element));
                if uses[..element].contains(service) {
                    return wrong(place, format!("`{who}` uses `{service}` twice"));
                }
                if service != REQUESTS && self.service(service).is_none() {
                    let what = format!("`{who}` uses `{service}`, which no partition or program provides");
                    return wrong(place, what);
                }
            }
        }
        Ok(())
    }

    /// A device has one holder. Which devices there are, only the machine knows.
    fn check_devices(&self) -> Result<(), Problem> {
        for (index, partition) in self.partitions.iter().enumerate() {
            let place = |element| Place::Partition(index, Key::Element("devices", element));
            for (element, device) in partition.devices.iter().enumerate() {
                let named = device.contains('@');
                let other = self.partitions[..index].iter().find(|other| other.devices.contains(device));
                if named && let Some(other) = other {
                    let what =
                        format!("`{}` is given `{device}` already: a device has one holder", other.name);
                    return wrong(place(element), what);
                }
                if named && partition.devices[..element].contains(device) {
                    return wrong(place(element), format!("`{}` is given `{device}` twice", partition.name));
                }
                if !named && !device.contains(',') {
                    let what = format!("`{device}` names no device: write `NODE@ADDRESS` or `VENDOR,MODEL`");
                    return wrong(place(element), what);
                }
            }
            // Who is given it as it is asked for, nobody knows yet.
            for (element, device) in partition.devices_on_request.iter().enumerate() {
                let place = Place::Partition(index, Key::Element("devices-on-request", element));
                if !device.contains(['@', ',']) {
                    let what = format!("`{device}` names no device: write `NODE@ADDRESS` or `VENDOR,MODEL`");
                    return wrong(place, what);
                }
                if partition.devices.len() + element >= MAX_DEVICES {
                    let what = format!("`{}` may have more than {MAX_DEVICES} devices", partition.name);
                    return wrong(place, what);
                }
            }
            if partition.devices.len() > MAX_DEVICES {
                let what = format!("`{}` is given more than {MAX_DEVICES} devices", partition.name);
                return wrong(place(MAX_DEVICES), what);
            }
        }
        Ok(())
    }

    fn check_memory(&self) -> Result<(), Problem> {
        let mut used = self.reserved_memory();
        for (index, partition) in self.partitions.iter().enumerate() {
            used = used.saturating_add(partition.memory.0);
            if used > self.machine.memory.0 {
                let what = format!(
                    "with `{}` the partitions take {}, {} for the control OS and system-control included, but the machine has {}",
                    partition.name,
                    MemorySize(used),
                    MemorySize(self.reserved_memory()),
                    self.machine.memory
                );
                return wrong(Place::Partition(index, Key::Value("memory")), what);
            }
        }
        Ok(())
    }
}

fn check_name(name: &str, of: &str, place: Place) -> Result<(), Problem> {
    let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
    if (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(allowed) {
        return Ok(());
    }
    wrong(
        place,
        format!("`{name}` cannot be the name of a {of}: use 1 to {MAX_NAME} of `a-z`, `0-9` and `-`"),
    )
}

fn check_colours(partition: usize, key: &'static str, colours: &[u32]) -> Result<(), Problem> {
    for (index, colour) in colours.iter().enumerate() {
        let place = Place::Partition(partition, Key::Element(key, index));
        if *colour >= COLOURS {
            return wrong(
                place,
                format!("there is no colour {colour}: they are counted from 0 to {} at most", COLOURS - 1),
            );
        }
        if colours[..index].contains(colour) {
            return wrong(place, format!("colour {colour} is there twice"));
        }
    }
    Ok(())
}

fn check_rate(place: Place, count: u64, period: Duration) -> Result<(), Problem> {
    if count == 0 {
        return wrong(place, "with nothing in a period it could not go on: allow one at least");
    }
    if period == Duration(0) || period > PERIOD_MAX {
        return wrong(place, format!("a period of {period} cannot be had: {PERIOD_MAX} is the most"));
    }
    Ok(())
}

fn check_granule(memory: MemorySize, place: Place) -> Result<(), Problem> {
    if memory.0 != 0 && memory.0.is_multiple_of(MEMORY_GRANULE) {
        return Ok(());
    }
    wrong(place, format!("{memory} is not a multiple of {}", MemorySize(MEMORY_GRANULE)))
}

fn wrong<T>(place: Place, what: impl Into<String>) -> Result<T, Problem> {
    Err(Problem { place, what: what.into() })
}
