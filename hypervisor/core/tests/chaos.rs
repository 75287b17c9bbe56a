//! Anything at any time: partitions that create, map, send, receive, connect, accept, refuse, disconnect, end and are reaped, each long call cut off
//! wherever it likes and taken up again later or never, under limits and with memory that runs out.
//!
//! What must hold whatever happens: each byte of the machine is free or allocated, once; what is allocated is what the accounts say; no frame is in two
//! translations; free memory is zero; no TLB is stale; a call that fails has changed nothing; in the end everything is back.

#[path = "chaos/calls.rs"]
mod calls;
#[path = "chaos/control.rs"]
mod control;
#[path = "chaos/devices.rs"]
mod devices;
mod machine;

use std::collections::{BTreeMap, BTreeSet};

use handover_abi::{
    Account, BusLimit, EndReason, Error, MessageWord, Name, PartitionId, Port, RegionHandle, layout,
};
use handover_core::{
    Attributes, Failure, Ipa, PAGE, Pa, Partition, PartitionIndex, Phase, Progress, System, Timeout,
};
use machine::{Model, PALETTE, Random, books};

const SHELL: u64 = 2 * PAGE;
const MIB: u64 = 1 << 20;

struct Chaos {
    system: System,
    machine: Model,
    random: Random,
    now: u64,
    shells: Vec<&'static mut Partition>,
    /// Tokens that were given out.
    tokens: Vec<(PartitionIndex, u64)>,
    creators: BTreeMap<u32, u32>,
    /// Calls to be made again.
    unfinished: Vec<(PartitionIndex, Unfinished)>,
    processors: calls::Processors,
    /// Steps of handing regions over, before the last.
    steps: u32,
    /// Calls that succeeded, by name.
    done: BTreeMap<&'static str, u32>,
}

#[derive(Clone, Copy)]
enum Unfinished {
    Destroy(u64),
    Disconnect(u64),
    RemoveMemory(u64, u64),
}

/// What a failed call must leave as it was, as far as it can be seen from outside: the machine, and each partition's use.
type State = ((u64, u64, usize, usize), Vec<(PartitionId, Vec<u64>)>, devices::State);

/// A call that may go in steps, until it is done or for as long as its caller likes.
fn in_steps<T>(
    random: &mut Random,
    steps: &mut u32,
    mut call: impl FnMut() -> Result<T, Failure>,
) -> Result<T, Failure> {
    loop {
        let result = call();
        *steps += u32::from(matches!(result, Err(Failure::AGAIN)));
        if !matches!(result, Err(Failure::AGAIN)) || random.chance(8) {
            return result;
        }
    }
}

impl Chaos {
    fn new(seed: u64, chunks: usize) -> Chaos {
        let mut chaos = Chaos {
            system: System::new(),
            machine: Model::new(chunks, seed.is_multiple_of(2)),
            random: Random::new(seed),
            now: 0,
            shells: Vec::new(),
            tokens: Vec::new(),
            creators: BTreeMap::new(),
            unfinished: Vec::new(),
            processors: calls::Processors::default(),
            steps: 0,
            done: BTreeMap::new(),
        };
        // Some see regions go in steps.
        let fwb = seed % 4 < 2;
        chaos.machine.capabilities.forced_write_back = fwb;
        chaos.system.set_attributes(Attributes { fwb });
        chaos.add_devices();
        chaos.system.set_palette(PALETTE);
        chaos.system.prepare_lending(&mut chaos.machine).unwrap();
        chaos.create(None);
        chaos
    }

    fn indexes(&self) -> Vec<PartitionIndex> {
        (0..handover_core::PARTITIONS_MAX)
            .filter_map(PartitionIndex::new)
            .filter(|ix| self.system.partition(*ix).is_some())
            .collect()
    }

    fn phase(&self, ix: PartitionIndex) -> Phase {
        self.system.partition(ix).unwrap().phase()
    }

    fn id(&self, ix: PartitionIndex) -> PartitionId {
        self.system.partition(ix).unwrap().id()
    }

    fn create(&mut self, creator: Option<PartitionIndex>) {
        let shell = self.shells.pop().unwrap_or_else(|| Box::leak(Box::new(Partition::new())));
        let name = Name::new("chaos").unwrap();
        let before = self.state();
        match self.system.create(&mut self.machine, creator, name, calls::PROCESSORS, shell, SHELL) {
            Ok(id) => {
                self.count("create");
                let ix = self.system.find(id).unwrap();
                let creator_id = creator.map_or(0, |creator| self.id(creator).get());
                self.creators.insert(id.get(), creator_id);
                let plenty = creator.is_none() || self.random.chance(3);
                for &account in Account::ALL {
                    let limit = match account {
                        _ if plenty => u64::MAX,
                        Account::Ports => self.random.next() % 12,
                        Account::Devices => self.random.next() % 3,
                        Account::CacheColours => self.random.next() % 20,
                        Account::ControlMemory => self.random.next() % 40 * PAGE,
                        // The period is a second.
                        Account::Bus => 1 + self.random.next() % 40,
                        Account::AddressSpace if self.random.chance(2) => layout::WINDOW_SIZE,
                        Account::AddressSpace => self.random.next() % 24 * MIB,
                        _ => self.random.next() % 12 * MIB,
                    };
                    self.system.set_limit(&self.machine, id, account as u64, limit).unwrap();
                }
                if self.random.chance(3) {
                    self.set_colours(id);
                }
                for _ in 0..self.random.below(3) {
                    let at = layout::MEMORY_BASE + self.random.next() % 600 * (2 * MIB);
                    let size = self.random.next() % 3 * 2 * MIB;
                    let before = self.state();
                    let result = self.system.add_memory(&mut self.machine, ix, Ipa::new(at), size);
                    self.judge("add_memory", result, &before);
                }
                if creator.is_none() {
                    let (at, from) = (Ipa::new(layout::ARCHIVE_BASE), Pa::new(0x4800_1000));
                    let size = if cfg!(miri) { 5 } else { 3 * MIB + 5 };
                    self.system.map_files(&mut self.machine, ix, at, from, size).unwrap();
                }
                if creator.is_none() || !self.random.chance(8) {
                    self.start(ix);
                }
            }
            Err((failure, shell)) => {
                self.shells.push(shell);
                self.judge::<()>("create", Err(failure), &before);
            }
        }
    }

    fn set_colours(&mut self, id: PartitionId) {
        let own = self.random.pick(&[0, 0x00ff, 0xff00, 0x0ff0, PALETTE.all(), 1 << 16]).unwrap();
        let channels = self.random.pick(&[0, 0, 0xf000, 0xff00, PALETTE.all()]).unwrap();
        let before = self.state();
        let result = self.system.set_colours(&mut self.machine, id, own, channels);
        self.judge("set_colours", result, &before);
    }

    fn state(&self) -> State {
        let accounts = self.indexes().into_iter().map(|ix| {
            let p = self.system.partition(ix).unwrap();
            let used = Account::ALL.iter().map(|account| p.accounts().used(*account));
            (p.id(), used.chain(self.system.bus(ix).map(|bus| bus.used(self.machine.now))).collect())
        });
        (self.machine.digest(), accounts.collect(), self.device_state())
    }

    fn judge<T>(&mut self, name: &'static str, result: Result<T, Failure>, before: &State) -> Option<T> {
        match result {
            Ok(value) => {
                *self.done.entry(name).or_default() += 1;
                Some(value)
            }
            Err(Failure::AGAIN) => None,
            Err(failure) => {
                let mut states = [self.state(), before.clone()];
                if !self.machine.capabilities.forced_write_back {
                    // A region that was taken out of reach to be handed over is back, which the bus was used for.
                    for (machine, accounts, _) in &mut states {
                        *machine = Default::default();
                        accounts.iter_mut().for_each(|(_, used)| used[Account::Bus as usize] = 0);
                    }
                }
                let [after, before] = states;
                assert_eq!(after, before, "{name} failed with {failure:?} and changed something");
                if failure.error == Error::Throttled {
                    *self.done.entry("throttled").or_default() += 1;
                    assert!(failure.detail > 0, "{name} may be done at once");
                    return None;
                }
                let detailed = matches!(failure.error, Error::Limit | Error::TooLarge | Error::NotSupported);
                assert!(detailed || failure.detail == 0);
                None
            }
        }
    }

    fn check(&mut self) {
        self.machine.zeroes = books::zeroes(&self.system);
        let clearing = !self.unfinished.is_empty();
        let creator = |id: PartitionId| PartitionId::new(self.creators[&id.get()]);
        let touched = books::balance(&self.system, &self.machine, SHELL, creator, !clearing);
        self.machine.touch(touched);
        self.machine.check_tlb();
    }

    /// A region handle or a port that may well be good: numbers start at 1 and are used again.
    fn any_number(&mut self) -> u64 {
        match self.random.below(20) {
            0 => self.random.pick(&[0, 1 << 24, u64::MAX, 0xff_ffff, 200]).unwrap(),
            1..8 => 1,
            _ => 1 + self.random.below(6) as u64,
        }
    }

    fn any_id(&mut self) -> u64 {
        let all = self.indexes();
        match self.random.pick(&all) {
            Some(ix) if !self.random.chance(20) => u64::from(self.id(ix).get()),
            _ => self.random.next() % 50,
        }
    }

    /// A place in the window, or nearly.
    fn any_place(&mut self) -> u64 {
        let slot = self.random.next() % 6 * (2 * MIB) + self.random.next() % 3 * (1 << 30);
        match self.random.below(12) {
            0..4 => 0,
            4..10 => layout::WINDOW_BASE + slot,
            10 => layout::WINDOW_BASE + slot + PAGE,
            _ => self.random.pick(&[1 << 21, u64::MAX - (2 * MIB - 1), layout::MEMORY_BASE]).unwrap(),
        }
    }

    /// Some granules of memory, or nearly.
    fn any_memory(&mut self) -> (u64, u64) {
        let at = layout::MEMORY_BASE + self.random.next() % 8 * (2 * MIB);
        let size = self.random.next() % 4 * 2 * MIB;
        match self.random.below(12) {
            0 => (at + PAGE, size),
            1 => (at, layout::MEMORY_CALL_MAX + 2 * MIB),
            2 => (self.random.pick(&[0, layout::MEMORY_END, u64::MAX - (2 * MIB - 1)]).unwrap(), size),
            // The end of a table.
            3..6 => (layout::MEMORY_BASE + (1 << 30) - 2 * MIB, size),
            _ => (at, size),
        }
    }

    fn guest_writes(&mut self, who: PartitionIndex) {
        let at = if self.random.chance(4) { self.any_memory().0 } else { self.any_place() };
        let span = self.system.translate(&self.machine, who, Ipa::new(at));
        if let Some(span) = span.filter(|span| span.writable) {
            let value = self.random.next() | 1;
            for page in 0..(span.size / PAGE).min(3) {
                self.machine.write(Pa::new(span.pa.get() + page * PAGE), value);
            }
        }
    }

    /// One call of one partition.
    fn call(&mut self, who: PartitionIndex) {
        let (region, port, at, id) = (self.any_number(), self.any_number(), self.any_place(), self.any_id());
        let before = self.state();
        let (system, machine) = (&mut self.system, &mut self.machine);
        match self.random.below(41) {
            37..39 => {
                let port = if self.random.chance(4) { port } else { self.likely_shared(who) };
                let result = self.system.shared_map(&mut self.machine, who, port, at);
                self.judge("shared_map", result, &before);
            }
            39 => {
                let port = if self.random.chance(4) { port } else { self.likely_shared(who) };
                let result = self.system.shared_unmap(&mut self.machine, who, port);
                self.judge("shared_unmap", result, &before);
                let before = self.state();
                let result = self.system.shared_info(who, port);
                self.judge("shared_info", result, &before);
            }
            33..35 => {
                let (at, size) = self.any_memory();
                let result = self.system.memory_add(&mut self.machine, who, at, size);
                self.judge("memory_add", result, &before);
            }
            35 => {
                let (at, size) = self.any_memory();
                let result = self.system.memory_remove(&mut self.machine, who, at, size);
                if let Some(Progress::Again) = self.judge("memory_remove", result, &before) {
                    self.unfinished.push((who, Unfinished::RemoveMemory(at, size)));
                }
            }
            36 => {
                let (at, _) = self.any_memory();
                let result = self.system.memory_info(&self.machine, who, at);
                if let Some((there, end)) = self.judge("memory_info", result, &before) {
                    let mapped = |at| self.system.translate(&self.machine, who, Ipa::new(at)).is_some();
                    assert!((at..end).step_by(2 * MIB as usize).all(|at| mapped(at) == there));
                    assert!(end.is_multiple_of(1 << 30) || mapped(end) != there);
                }
            }
            40 => {
                let result = self.system.stolen_time_page(&mut self.machine, who);
                if let Some(page) = self.judge("stolen_time_page", result, &before) {
                    let at = Ipa::new(layout::STOLEN_TIME_BASE);
                    let span = self.system.translate(&self.machine, who, at).unwrap();
                    assert_eq!((span.pa, span.size, span.writable), (page, PAGE, false));
                }
            }
            0..3 => {
                let order =
                    self.random.pick(&[12, 12, 12, 12, 13, 13, 16, 17, 20, 21, 21, 22, 23, 30]).unwrap();
                let size = (1u64 << order) + u64::from(self.random.chance(20));
                let size = if self.random.chance(4) { size | port << 32 } else { size };
                let result = system.region_create(machine, who, size, at);
                self.judge("region_create", result, &before);
            }
            3 => {
                let result = system.region_destroy(machine, who, region);
                if let Some(Progress::Again) = self.judge("region_destroy", result, &before) {
                    self.unfinished.push((who, Unfinished::Destroy(region)));
                }
            }
            4 => {
                let result = system.region_map(machine, who, region, at);
                self.judge("region_map", result, &before);
            }
            5 => {
                let result = system.region_unmap(machine, who, region);
                self.judge("region_unmap", result, &before);
            }
            6..8 => {
                let flags =
                    self.random.pick(&[0, 0, 0, 0, 2, 4, 8, 10, 12, 14, 16, 18, 20, 16, 18, 20]).unwrap();
                let sizes = [12, 12, 12, 13, 13, 14, 16, 17, 21, 22, 30, 11];
                let order = if flags & 16 != 0 { self.random.pick(&sizes).unwrap() } else { 0 };
                let flags = flags | order << 24;
                let timeout = Timeout { now: self.now, after: self.random.next() >> self.random.below(48) };
                let timeout = self.random.chance(4).then_some(timeout);
                let result = system.connect_within(machine, who, id, id & 0xff | flags << 32, timeout);
                self.judge(if order == 0 { "connect" } else { "connect, for memory" }, result, &before);
            }
            8..10 => {
                let result = system.signal_next(who);
                if let Some(signal) = self.judge("signal_next", result, &before) {
                    self.tokens.push((who, signal.token));
                }
            }
            10..12 => {
                // The latest one may still be good.
                let mut tokens = self.tokens.iter().rev();
                let token = tokens.find(|(to, _)| *to == who || self.random.chance(30)).map_or(0, |t| t.1);
                let result = system.accept(machine, who, token);
                self.judge("accept", result, &before);
            }
            12 => {
                let token = self.random.pick(&self.tokens).map_or(u64::MAX, |token| token.1);
                let result = system.refuse(machine, who, token, 7);
                self.judge("refuse", result, &before);
            }
            13 => {
                if self.random.chance(3) {
                    let result = system.disconnect(machine, who, port);
                    if let Some(Progress::Again) = self.judge("disconnect", result, &before) {
                        self.unfinished.push((who, Unfinished::Disconnect(port)));
                    }
                }
            }
            14..18 => {
                let region = if self.random.chance(3) { 0 } else { region };
                let handle = RegionHandle::from_register(region).filter(|handle| handle.get() != 0);
                let length = (self.random.next() % 130) as u8;
                let word = MessageWord::new(Port::new(port as u32), handle, length);
                let name = if handle.is_some() { "send a region" } else { "send" };
                let result = in_steps(&mut self.random, &mut self.steps, || {
                    system.send(machine, who, word, &[u64::MAX; 16])
                });
                let sent = self.judge(name, result, &before).is_some();
                if sent && self.random.chance(20) {
                    self.fill(who, MessageWord::new(Port::new(port as u32), None, length));
                }
            }
            18..22 => {
                let mut data = [0; 16];
                let result = system.receive(machine, who, port, at, &mut data);
                if let Some(word) = self.judge("receive", result, &before) {
                    if word.region().is_some() {
                        *self.done.entry("receive a region").or_default() += 1;
                    }
                    for (byte, value) in data.iter().flat_map(|word| word.to_le_bytes()).enumerate() {
                        assert_eq!(value, if byte < usize::from(word.length()) { 255 } else { 0 });
                    }
                }
            }
            22 => {
                let result = system.event_next(who);
                self.judge("event_next", result, &before);
            }
            23 => {
                let result = system.event_send(machine, who, port);
                self.judge("event_send", result, &before);
            }
            24 => {
                let intid = self.random.pick(&[0, 0, 7, 200, 256]).unwrap();
                let result = system.set_create(machine, who, intid, 0);
                self.judge("set_create", result, &before);
            }
            25 => {
                let result = system.set_destroy(who, port);
                self.judge("set_destroy", result, &before);
            }
            26..28 => {
                let (set, port) = (1 + self.random.next() % 6, if self.random.chance(4) { 0 } else { port });
                let result = system.set_add(machine, who, set, port);
                self.judge("set_add", result, &before);
            }
            28 => {
                let result = system.set_remove(machine, who, port);
                self.judge("set_remove", result, &before);
            }
            29 => {
                let result = system.set_next(who, port);
                self.judge("set_next", result, &before);
                for set in 1..7 {
                    let before = self.state();
                    let result = self.system.set_next(who, set);
                    self.judge("set_next", result, &before);
                }
            }
            30 => {
                let result = system.event_mask(who, port);
                self.judge("event_mask", result, &before);
                let before = self.state();
                let result = self.system.event_unmask(&mut self.machine, who, id);
                self.judge("event_unmask", result, &before);
            }
            31 => {
                let intid = self.random.pick(&[0, 192, 255, 300]).unwrap();
                for port in 1..7 {
                    let before = self.state();
                    let result = self.system.event_bind(&mut self.machine, who, port, intid, 0);
                    self.judge("event_bind", result, &before);
                }
            }
            _ => {
                let result = system.port_status(who, port);
                self.judge("port_status", result, &before);
                let result = self.system.region_info(who, region);
                self.judge("region_info", result, &before);
            }
        }
    }

    /// A port of shared memory, if there is one.
    fn likely_shared(&mut self, who: PartitionIndex) -> u64 {
        let ports: Vec<u64> = (1..40).filter(|port| self.system.shared_info(who, *port).is_ok()).collect();
        self.random.pick(&ports).unwrap_or(1)
    }

    /// Shared memory of two partitions, mapped by both, if all goes well.
    fn share(&mut self, client: PartitionIndex, server: PartitionIndex) -> Option<()> {
        let id = u64::from(self.id(server).get());
        let word = self.random.pick(&[0x10, 0x12, 0x14]).unwrap() << 32 | (12 + self.random.next() % 4) << 56;
        let port = self.system.connect(&mut self.machine, client, id, word | 3).ok()?;
        let signal = self.system.signal_next(server).ok()?;
        let accepted = self.system.accept(&mut self.machine, server, signal.token).ok()?;
        for (who, port) in [(client, port), (server, accepted)] {
            let at = layout::WINDOW_BASE + self.random.next() % 6 * (2 * MIB);
            self.system.shared_map(&mut self.machine, who, u64::from(port.get()), at).ok()?;
        }
        *self.done.entry("share").or_default() += 1;
        Some(())
    }

    /// Sends until there is no more room, and sees to it that it ends.
    fn fill(&mut self, who: PartitionIndex, word: MessageWord) {
        for sent in 0.. {
            let before = self.state();
            let result = self.system.send(&mut self.machine, who, word, &[u64::MAX; 16]);
            let full = matches!(result, Err(Failure { error: Error::QueueFull, .. }));
            if self.judge("send", result, &before).is_none() {
                *self.done.entry("fill a queue").or_default() += u32::from(full);
                return;
            }
            assert!(sent < handover_core::QUEUE_DEPTH);
        }
    }

    /// A channel between two partitions, if all goes well.
    fn join(&mut self, client: PartitionIndex, server: PartitionIndex) -> Option<()> {
        let id = u64::from(self.id(server).get());
        self.system.connect(&mut self.machine, client, id, 1).ok()?;
        let signal = self.system.signal_next(server).ok()?;
        self.system.accept(&mut self.machine, server, signal.token).ok()?;
        Some(())
    }

    fn go_on(&mut self, at: usize) {
        let (who, what) = self.unfinished[at];
        let progress = match what {
            Unfinished::Destroy(region) => self.system.region_destroy(&mut self.machine, who, region),
            Unfinished::Disconnect(port) => self.system.disconnect(&mut self.machine, who, port),
            Unfinished::RemoveMemory(at, size) => self.system.memory_remove(&mut self.machine, who, at, size),
        };
        if progress != Ok(Progress::Again) {
            self.unfinished.swap_remove(at);
        }
    }

    fn step(&mut self) {
        let all = self.indexes();
        self.machine.now += self.random.next() % if self.random.chance(50) { 1 << 28 } else { 200 };
        if self.random.chance(40) {
            self.machine.allowance = match self.random.chance(5) {
                true => Some(self.random.below(4) as u32),
                false => None,
            };
        }
        if self.random.chance(10) {
            self.now += self.random.next() >> self.random.below(48);
            let due = self.system.next_timeout().is_some_and(|due| due <= self.now);
            *self.done.entry("expire").or_default() += u32::from(due);
            let _: Progress = self.system.expire(&mut self.machine, self.now);
        }
        match self.random.below(60) {
            0 if all.len() < 8 => {
                let creator = self.random.pick(&all).unwrap();
                self.create(Some(creator));
            }
            1 if self.random.chance(10) => {
                let ix = self.random.pick(&all).unwrap();
                self.end(ix);
            }
            2..6 => {
                for ix in all {
                    if self.phase(ix) == Phase::Terminated && self.random.chance(3) {
                        if self.random.chance(4) {
                            self.reset(ix);
                        } else {
                            self.destroy(ix);
                        }
                    }
                }
            }
            6..12 if !self.unfinished.is_empty() => {
                let at = self.random.below(self.unfinished.len());
                self.go_on(at);
            }
            12 => self.device_call(),
            13 if self.random.chance(2) => self.device_call(),
            13 => self.control(),
            14..21 => {
                for ix in all {
                    if self.phase(ix) == Phase::Ending {
                        let _: Progress = self.system.reap(&mut self.machine, ix);
                        self.count("reap");
                    }
                }
            }
            21..23 => {
                let (client, server) = (self.random.pick(&all).unwrap(), self.random.pick(&all).unwrap());
                let _ = self.join(client, server);
                if self.random.chance(3) {
                    let _ = self.share(client, server);
                }
            }
            23..25 => (0..3).for_each(|_| self.direct_call()),
            25..28 => {
                let who = self.random.pick(&all).unwrap();
                self.guest_writes(who);
            }
            28 => {
                let who = self.random.pick(&all).unwrap();
                let limit =
                    BusLimit { operations: self.random.next() % 8, period: self.random.next() % 2000 };
                let limit = if self.random.chance(3) { BusLimit::NONE } else { limit };
                let before = self.state();
                let result = self.system.set_bus(&self.machine, who, limit);
                self.judge("set_bus", result, &before);
                let before = self.state();
                let result = self.system.broadcast(&self.machine, who);
                self.judge("broadcast", result, &before);
            }
            29 => {
                let who = self.random.pick(&all).unwrap();
                let before = self.state();
                let old = self.system.partition(who).unwrap().accounts().used(Account::ProcessorTime);
                let new = self.random.below(1_500_000) as u32;
                let capacity = self.random.chance(2);
                let promise = || if capacity { Ok(()) } else { Err(Error::NoCapacity.into()) };
                let result = self.system.promise_time(who, old as u32, new, promise);
                self.judge("promise_time", result, &before);
            }
            _ => {
                let who = self.random.pick(&all).unwrap();
                self.call(who);
            }
        }
        // Once in a while everything comes to rest, so that the books can be balanced to the byte.
        if self.random.chance(50) {
            self.rest();
        }
    }

    fn rest(&mut self) {
        while !self.unfinished.is_empty() {
            self.go_on(0);
        }
        self.finish_revocations();
        for ix in self.indexes() {
            while self.system.reap(&mut self.machine, ix) == Progress::Again {}
        }
    }

    fn end(&mut self, ix: PartitionIndex) {
        self.unfinished.retain(|(who, _)| *who != ix);
        self.processors.forget(ix);
        self.count("end");
        self.system.end(&mut self.machine, ix, EndReason::Stopped, 0);
    }

    fn destroy(&mut self, ix: PartitionIndex) {
        let id = self.id(ix);
        let accounts = self.system.partition(ix).unwrap().accounts().clone();
        // No processor has its translation loaded any more.
        self.machine.tlb.touched.retain(|(vmid, ..)| *vmid != ix.vmid());
        let children = self.creators.iter().filter(|(_, creator)| **creator == id.get());
        let alive = children.filter(|(child, _)| self.system.find(PartitionId::new(**child)).is_ok()).count();
        for &account in Account::ALL {
            let left = match account {
                Account::ControlMemory => alive as u64 * (SHELL + PAGE),
                _ => 0,
            };
            assert_eq!(accounts.used(account), left, "{account} after the end");
        }
        let (shell, bytes) = self.system.destroy(&mut self.machine, id).unwrap();
        assert_eq!(bytes, SHELL);
        self.shells.push(shell);
        *self.done.entry("destroy").or_default() += 1;
        if self.indexes().is_empty() {
            self.machine.allowance = None;
            self.create(None);
        }
    }
}

/// → what succeeded how often.
fn run(seed: u64, steps: usize, chunks: usize) -> BTreeMap<&'static str, u32> {
    let mut chaos = Chaos::new(seed, chunks);
    for _ in 0..3 {
        let first = chaos.indexes()[0];
        chaos.create(Some(first));
    }
    for step in 0..steps {
        chaos.step();
        // Miri takes its time over the thousands of descriptors.
        if !cfg!(miri) || step % 20 == 0 {
            chaos.check();
        }
    }
    chaos.machine.allowance = None;
    chaos.rest();
    chaos.check();
    for ix in chaos.indexes() {
        chaos.end(ix);
    }
    chaos.rest();
    chaos.check();
    for ix in chaos.indexes() {
        let id = chaos.id(ix);
        chaos.system.destroy(&mut chaos.machine, id).unwrap();
    }
    assert_eq!(chaos.system.next_timeout(), None, "no request is left");
    let zeroes = books::zeroes(&chaos.system).len() as u64 * PAGE;
    assert_eq!(chaos.machine.allocated_bytes(), zeroes, "everything is back");
    assert_eq!(chaos.machine.dirty.len(), 0);
    assert_eq!(chaos.machine.record_frames(), BTreeSet::new());
    chaos.machine.check_total();
    chaos.check_devices_free();
    *chaos.done.entry("a step of handing over").or_default() += chaos.steps;
    chaos.done
}

#[test]
fn nothing_is_lost_whatever_happens() {
    let (seeds, steps) = if cfg!(miri) { (1, 40) } else { (24, 4_000) };
    let mut done = BTreeMap::<_, u32>::new();
    for seed in 0..seeds {
        for (name, count) in run(seed, steps, 40) {
            *done.entry(name).or_default() += count;
        }
    }
    if !cfg!(miri) {
        let rare: Vec<_> = done.iter().filter(|(_, count)| **count < 10).collect();
        assert!(rare.is_empty(), "hardly ever: {rare:?}");
        for what in machine::interface::all()
            .chain(["throttled", "fill a queue", "receive a region", "share"])
            .chain(["call, lending", "call, showing", "a step of handing over"])
        {
            assert!(done.contains_key(what), "`{what}` was never done: {done:?}");
        }
    }
}
