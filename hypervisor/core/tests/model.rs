//! The rules against the same rules said naively: random calls, each with the result, the events and interrupts, the signals, the messages with their
//! bytes and regions, the mappings and the accounts that the naive ones say, after every single call.

#[path = "model/life.rs"]
mod life;
mod machine;
#[path = "model/naive.rs"]
mod naive;

use std::collections::BTreeMap;

use handover_abi::{
    Account, Causes, EndReason, Error, Event, MessageWord, Name, PartitionId, RegionHandle, RequestFlags,
    SharedAccess, SignalKind, layout, region_order,
};
use handover_core::{Failure, Ipa, Pa, Partition, PartitionIndex, Progress, QUEUE_DEPTH, System, Timeout};
use machine::{Model, Random};
use naive::{End, GIB, MIB, Message, Naive, Phase, Port, Region, Set, Signal, State};

/// In millionths of a processor.
const TIME_LIMIT: u32 = 1_000_000;

struct Pair {
    system: System,
    machine: Model,
    naive: Naive,
    random: Random,
    now: u64,
    requests: u32,
    /// How often each call came out how.
    seen: BTreeMap<String, u32>,
}

impl Pair {
    fn new(seed: u64) -> Pair {
        let mut pair = Pair {
            system: System::new(),
            machine: Model::new(512, seed.is_multiple_of(2)),
            naive: Naive::default(),
            random: Random::new(seed),
            now: 0,
            requests: 0,
            seen: BTreeMap::new(),
        };
        pair.populate();
        pair
    }

    fn ix(&self, id: u32) -> PartitionIndex {
        self.system.find(PartitionId::new(id)).unwrap()
    }

    /// The result is what the naive rules allow: success if nothing speaks against it, otherwise one of the reasons.
    fn agree<T>(&mut self, what: &str, result: Result<T, Failure>, reasons: &[Error]) -> Option<T> {
        let outcome = result.as_ref().map_or_else(|failure| failure.error.text(), |_| "done");
        *self.seen.entry(format!("{what}: {outcome}")).or_default() += 1;
        match result {
            Ok(value) => {
                assert_eq!(reasons, [], "{what} should have failed");
                Some(value)
            }
            Err(failure) => {
                assert!(reasons.contains(&failure.error), "{what}: {failure:?}, expected {reasons:?}");
                None
            }
        }
    }

    fn any(&mut self) -> u32 {
        let ids: Vec<u32> = self.naive.partitions.keys().copied().collect();
        self.random.pick(&ids).unwrap()
    }

    fn create(&mut self) {
        let creator = match self.naive.partitions.is_empty() {
            true => 0,
            false => self.any(),
        };
        if creator != 0 && self.naive.p(creator).phase != Phase::Active {
            return;
        }
        let shell = Box::leak(Box::new(Partition::new()));
        let by = (creator != 0).then(|| self.ix(creator));
        let name = Name::new("model").unwrap();
        let id = self.system.create(&mut self.machine, by, name, 1, shell, 4096);
        let id = id.map_err(|(failure, _)| failure).unwrap();
        let (memory_limit, ports_limit) = match self.random.chance(2) {
            true => (u64::MAX, u64::MAX),
            false => (self.random.next() % 12 * MIB, self.random.next() % 6),
        };
        let space_limit = match self.random.chance(2) {
            true => layout::WINDOW_SIZE,
            false => self.random.next() % 10 * MIB + self.random.next() % 2 * GIB,
        };
        for (account, limit) in [
            (Account::AddressSpace, space_limit),
            (Account::Memory, memory_limit),
            (Account::Ports, ports_limit),
            (Account::ControlMemory, u64::MAX),
            (Account::ProcessorTime, u64::from(TIME_LIMIT)),
        ] {
            self.system.set_limit(&self.machine, id, account as u64, limit).unwrap();
        }
        let ix = self.system.find(id).unwrap();
        let size = self.random.next() % 3 * 2 * MIB;
        let at = layout::MEMORY_BASE + GIB - 2 * MIB;
        let expected = match size {
            0 => vec![Error::InvalidArgument],
            size if size > memory_limit.min(space_limit) => vec![Error::Limit],
            _ => vec![],
        };
        let added = self.system.add_memory(&mut self.machine, ix, Ipa::new(at), size);
        let granules = match self.agree("add_memory", added, &expected) {
            Some(()) => (at..at + size).step_by(2 * MIB as usize).collect(),
            None => Default::default(),
        };
        let phase = if self.random.chance(8) { Phase::Created } else { Phase::Active };
        if phase == Phase::Active {
            self.system.start(ix).unwrap();
        }
        self.naive.partitions.insert(
            id.get(),
            naive::Partition {
                phase,
                paused: false,
                told: false,
                shutdown: None,
                reason: EndReason::None,
                time: 0,
                creator,
                memory: granules,
                memory_limit,
                space_limit,
                ports_limit,
                regions: Default::default(),
                ports: Default::default(),
                pending: Default::default(),
                sets: Default::default(),
                members: Default::default(),
                masked: Default::default(),
                queued: Default::default(),
                delivered: Default::default(),
                small: Default::default(),
            },
        );
    }

    /// Some partitions, one of which at least runs.
    fn populate(&mut self) {
        while self.naive.partitions.len() < 3 {
            self.create();
            let mut all = self.naive.partitions.iter();
            if let Some((&id, _)) = all.find(|(_, p)| p.phase == Phase::Created) {
                self.end(id);
                self.destroy(id);
            }
        }
    }

    fn any_place(&mut self) -> u64 {
        let slot = self.random.next() % 4 * (2 * MIB) + self.random.next() % 3 * GIB;
        match self.random.below(14) {
            0..5 => 0,
            5..12 => layout::WINDOW_BASE + slot,
            12 => layout::WINDOW_BASE + slot + 4096,
            _ => layout::MEMORY_BASE,
        }
    }

    fn any_number(&mut self) -> u32 {
        if self.random.chance(15) { 77 } else { 1 + self.random.below(4) as u32 }
    }

    /// A port that fits, if there is one and luck will have it.
    fn likely_port(&mut self, id: u32, fits: fn(&Port) -> bool) -> u32 {
        let ports: Vec<u32> =
            self.naive.p(id).ports.iter().filter(|(_, port)| fits(port)).map(|(port, _)| *port).collect();
        match self.random.pick(&ports) {
            Some(port) if !self.random.chance(4) => port,
            _ => self.any_number(),
        }
    }

    fn likely_region(&mut self, id: u32) -> u32 {
        let regions: Vec<u32> = self.naive.p(id).regions.keys().copied().collect();
        match self.random.pick(&regions) {
            Some(region) if !self.random.chance(4) => region,
            _ => self.any_number(),
        }
    }

    fn limit(&self, id: u32, more: u64) -> Vec<Error> {
        let limit = self.naive.partitions[&id].memory_limit;
        if self.naive.memory(id) + more > limit { vec![Error::Limit] } else { vec![] }
    }

    fn call(&mut self, id: u32) {
        let (who, number, at) = (self.ix(id), self.any_number(), self.any_place());
        let what = if self.random.chance(3) { 17 + self.random.below(17) } else { self.random.below(18) };
        let (system, machine) = (&mut self.system, &mut self.machine);
        let register = u64::from(number);
        let region = self.naive.partitions[&id].regions.get(&number).cloned();
        let no_region = if region.is_none() { vec![Error::BadHandle] } else { vec![] };
        match what {
            25..28 => self.memory(id),
            28.. => self.shared(id, at),
            0..2 => {
                let order = self.random.pick(&[12, 12, 12, 13, 16, 21, 21, 22, 23]).unwrap();
                let size = (1u64 << order) + u64::from(self.random.chance(20));
                let result = system.region_create(machine, who, size, at);
                let mut why = self.limit(id, size);
                if region_order(size).is_none() {
                    why.push(Error::InvalidArgument);
                }
                if at != 0 {
                    why.extend(self.naive.place(id, size, at));
                }
                if let Some(handle) = self.agree("region_create", result, &why) {
                    let mut region = Region { size, at: 0, stamp: 0, leaves: None };
                    self.naive.place_region(id, &mut region, at);
                    assert!(self.naive.p(id).regions.insert(handle.get(), region).is_none());
                }
            }
            2 => {
                let mut result = system.region_destroy(machine, who, register);
                while let Ok(Progress::Again) = result {
                    result = system.region_destroy(machine, who, register);
                }
                self.agree("region_destroy", result, &no_region);
                self.naive.p(id).regions.remove(&number);
            }
            3 => {
                let result = system.region_map(machine, who, register, at);
                let mut why = no_region;
                if let Some(region) = &region {
                    why.extend(self.naive.place(id, region.size, at));
                    if region.at != 0 {
                        why.push(Error::InUse);
                    }
                }
                if self.agree("region_map", result, &why).is_some() {
                    let mut region = region.unwrap();
                    self.naive.place_region(id, &mut region, at);
                    self.naive.p(id).regions.insert(number, region);
                }
            }
            4 => {
                let result = system.region_unmap(machine, who, register);
                let mut why = no_region;
                if region.as_ref().is_some_and(|region| region.at == 0) {
                    why.push(Error::WrongState);
                }
                if self.agree("region_unmap", result, &why).is_some() {
                    self.naive.p(id).regions.get_mut(&number).unwrap().at = 0;
                }
            }
            5..7 => self.connect(id),
            7 => {
                let result = system.signal_next(who);
                let expected = self.naive.signal_next(id);
                let why = if expected.is_none() { vec![Error::WouldBlock] } else { vec![] };
                if let Some(signal) = self.agree("signal_next", result, &why) {
                    let found = (signal.kind, signal.partition.get(), signal.argument);
                    assert_eq!(Some(found), expected);
                    if signal.kind == SignalKind::Connect {
                        let client = *self.naive.p(id).delivered.last().unwrap();
                        self.naive.port(client).token = signal.token;
                    }
                }
            }
            8..10 => self.answer(id),
            10 => {
                let mut result = system.disconnect(machine, who, register);
                while let Ok(Progress::Again) = result {
                    result = system.disconnect(machine, who, register);
                }
                let why = self.naive.visible(id, number).err();
                if self.agree("disconnect", result, why.as_slice()).is_some() {
                    self.naive.close((id, number), false);
                }
            }
            11..13 => {
                let times = if self.random.chance(25) { QUEUE_DEPTH + 2 } else { 1 };
                let port = self.likely_port(id, |port| port.state == State::Connected);
                for _ in 0..times {
                    self.send(id, port);
                }
            }
            13..16 => {
                let port = self.likely_port(id, |port| !port.queue.is_empty());
                self.receive(id, port, at);
            }
            16 => {
                let result = system.event_next(who);
                let expected = self.naive.p(id).pending.pop_front();
                let why = if expected.is_none() { vec![Error::WouldBlock] } else { vec![] };
                if let Some(Event { port, causes }) = self.agree("event_next", result, &why) {
                    assert_eq!(Some((port.get(), causes)), expected);
                }
            }
            17..19 => {
                let number = self.likely_port(id, |port| port.state == State::Connected);
                let result = self.system.event_send(&mut self.machine, who, u64::from(number));
                let peer = self.naive.sendable(id, number);
                let mut why = Vec::from_iter(peer.err());
                if peer.is_ok() && !self.naive.port((id, number)).signals {
                    why.push(Error::Denied);
                }
                if self.agree("event_send", result, &why).is_some() {
                    self.naive.event_send(peer.unwrap());
                }
            }
            19..21 => self.set_call(id),
            21 => self.mask(id),
            22 => self.bind(id),
            23 => {
                // Time passes.
                self.now += self.random.next() % 40_000;
                while self.system.expire(&mut self.machine, self.now) == Progress::Again {}
                self.naive.expire(self.now);
            }
            24 => {
                let sets: Vec<u32> = self.naive.p(id).sets.keys().copied().collect();
                let set = self.random.pick(&sets).unwrap_or(number);
                let result = self.system.set_next(who, u64::from(set));
                let (mut why, mut expected) = (vec![Error::BadHandle], None);
                if let Some(set) = self.naive.p(id).sets.get_mut(&set) {
                    expected = set.pending.pop_front();
                    why = if expected.is_none() { vec![Error::WouldBlock] } else { vec![] };
                }
                if let Some(Event { port, causes }) = self.agree("set_next", result, &why) {
                    assert_eq!(Some((port.get(), causes)), expected);
                }
            }
        }
    }

    /// One of its ports, or port 0, or something else; and whether events reach it.
    fn likely_listener(&mut self, id: u32) -> (u32, Vec<Error>) {
        let number = if self.random.chance(6) { 0 } else { self.likely_port(id, |_| true) };
        let there = number == 0 || self.naive.visible(id, number).is_ok();
        (number, if there { vec![] } else { vec![Error::BadHandle] })
    }

    fn any_choice(&mut self) -> (u64, u64, Vec<Error>) {
        let intid = self.random.pick(&[0, 0, 191, 192, 200, 255, 256]).unwrap();
        let processor = u64::from(self.random.chance(8));
        let wrong = intid != 0 && (!(192..256).contains(&intid) || processor > 0);
        (intid, processor, if wrong { vec![Error::InvalidArgument] } else { vec![] })
    }

    fn set_call(&mut self, id: u32) {
        let who = self.ix(id);
        let sets: Vec<u32> = self.naive.p(id).sets.keys().copied().collect();
        let set = self.random.pick(&sets).unwrap_or(9);
        match self.random.below(8) {
            0..2 => {
                let (intid, processor, mut why) = self.any_choice();
                let result = self.system.set_create(&mut self.machine, who, intid, processor);
                why.extend(self.naive.room_for_port(id));
                if let Some(set) = self.agree("set_create", result, &why) {
                    let record = Set { intid: intid as u8, pending: Default::default() };
                    assert!(self.naive.p(id).sets.insert(set.get(), record).is_none());
                }
            }
            2 => {
                let result = self.system.set_destroy(who, u64::from(set));
                let p = self.naive.p(id);
                let why = match p.sets.contains_key(&set) {
                    false => vec![Error::BadHandle],
                    true if p.members.values().any(|of| *of == set) => vec![Error::InUse],
                    true => vec![],
                };
                if self.agree("set_destroy", result, &why).is_some() {
                    self.naive.p(id).sets.remove(&set);
                }
            }
            3..7 => {
                let (port, mut why) = self.likely_listener(id);
                let result = self.system.set_add(&mut self.machine, who, u64::from(set), u64::from(port));
                let p = self.naive.p(id);
                if !p.sets.contains_key(&set) {
                    why.push(Error::BadHandle);
                }
                if p.members.contains_key(&port) {
                    why.push(Error::InUse);
                }
                if self.agree("set_add", result, &why).is_some() {
                    self.naive.change_set(id, port, Some(set));
                }
            }
            _ => {
                let (port, mut why) = self.likely_listener(id);
                let result = self.system.set_remove(&mut self.machine, who, u64::from(port));
                if !self.naive.p(id).members.contains_key(&port) {
                    why.push(Error::WrongState);
                }
                if self.agree("set_remove", result, &why).is_some() {
                    self.naive.change_set(id, port, None);
                }
            }
        }
    }

    fn mask(&mut self, id: u32) {
        let who = self.ix(id);
        let (port, why) = self.likely_listener(id);
        if self.random.chance(2) {
            let result = self.system.event_mask(who, u64::from(port));
            if self.agree("event_mask", result, &why).is_some() {
                self.naive.mask(id, port);
            }
        } else {
            let result = self.system.event_unmask(&mut self.machine, who, u64::from(port));
            if self.agree("event_unmask", result, &why).is_some() {
                self.naive.unmask(id, port);
            }
        }
    }

    fn bind(&mut self, id: u32) {
        let who = self.ix(id);
        let port = self.likely_port(id, |port| !port.messages && !port.signals);
        let (intid, processor, mut why) = self.any_choice();
        let result = self.system.event_bind(&mut self.machine, who, u64::from(port), intid, processor);
        match self.naive.visible(id, port) {
            Err(error) => why.push(error),
            Ok(port) if port.messages || port.signals => why.push(Error::WrongState),
            Ok(_) => {}
        }
        if self.agree("event_bind", result, &why).is_some() {
            self.naive.bind(id, port, intid as u8);
        }
    }

    /// Adds memory or gives some back.
    fn memory(&mut self, id: u32) {
        let who = self.ix(id);
        let at = match self.random.below(10) {
            0 => self.any_place() + 4096 * (self.random.next() % 2),
            _ => layout::MEMORY_BASE + GIB - 4 * MIB + self.random.next() % 4 * 2 * MIB,
        };
        let size = match self.random.below(10) {
            0 => layout::MEMORY_CALL_MAX + 2 * MIB * (self.random.next() % 2),
            _ => self.random.next() % 4 * 2 * MIB,
        };
        let mut why = Naive::range(at, size);
        let granules: Vec<u64> = match why.is_empty() {
            true => (at..at + size).step_by(2 * MIB as usize).collect(),
            false => vec![],
        };
        if self.random.chance(2) {
            let result = self.system.memory_add(&mut self.machine, who, at, size);
            why.extend(self.limit(id, size));
            if self.naive.space(id) + size > self.naive.p(id).space_limit {
                why.push(Error::Limit);
            }
            if granules.iter().any(|granule| self.naive.p(id).memory.contains(granule)) {
                why.push(Error::InUse);
            }
            if self.agree("memory_add", result, &why).is_some() {
                self.naive.p(id).memory.extend(granules);
            }
            return;
        }
        let mut result = self.system.memory_remove(&mut self.machine, who, at, size);
        while let Ok(Progress::Again) = result {
            let (there, _) = self.system.memory_info(&self.machine, who, at).unwrap();
            assert!(!there, "what leaves is out of reach at once");
            result = self.system.memory_remove(&mut self.machine, who, at, size);
        }
        if !granules.iter().all(|granule| self.naive.p(id).memory.contains(granule)) {
            why.push(Error::BadAddress);
        }
        if self.agree("memory_remove", result, &why).is_some() {
            self.naive.p(id).memory.retain(|granule| !granules.contains(granule));
        }
    }

    /// Calls for shared memory.
    fn shared(&mut self, id: u32, at: u64) {
        let who = self.ix(id);
        let port = self.likely_port(id, |port| port.shared.is_some());
        let end = self.naive.visible(id, port).ok().and_then(|port| port.shared);
        let mut why = if end.is_none() { vec![Error::BadHandle] } else { vec![] };
        let register = u64::from(port);
        if self.random.chance(4) {
            let result = self.system.shared_unmap(&mut self.machine, who, register);
            if end.is_some_and(|end| end.at == 0) {
                why.push(Error::WrongState);
            }
            if self.agree("shared_unmap", result, &why).is_some() {
                self.naive.port((id, port)).shared.as_mut().unwrap().at = 0;
            }
            return;
        }
        let result = self.system.shared_map(&mut self.machine, who, register, at);
        if let Some(end) = end {
            why.extend(self.naive.place(id, end.size, at));
            if end.at != 0 {
                why.push(Error::InUse);
            }
        }
        if self.agree("shared_map", result, &why).is_some() {
            let end = end.unwrap();
            self.naive.port((id, port)).shared = Some(End { at, ..end });
            if end.size <= 2 * MIB {
                self.naive.p(id).small.insert(at / GIB);
            }
        }
    }

    fn connect(&mut self, id: u32) {
        let server = if self.random.chance(10) { 0 } else { self.any() };
        let service = self.random.next() & 0xffff_ffff;
        let (events, to, from) = (RequestFlags::EVENTS, RequestFlags::SEND_ONLY, RequestFlags::RECEIVE_ONLY);
        let none = RequestFlags::empty();
        let kinds = [
            to,
            from,
            to | events,
            from | events,
            to | events,
            from | events,
            events,
            to | from,
            to | from | events,
        ];
        let flags = if self.random.chance(4) { self.random.pick(&kinds).unwrap() } else { none };
        let unknown = self.random.chance(40);
        let (memory, sizes) = (RequestFlags::MEMORY, [12u8, 12, 13, 16, 21, 22, 11, 31]);
        let flags = if self.random.chance(3) { (flags - events) | memory } else { flags };
        let order = if flags.contains(memory) { self.random.pick(&sizes).unwrap() } else { 0 };
        let word =
            service | u64::from(flags.bits()) << 32 | u64::from(unknown) << 40 | u64::from(order) << 56;
        let after = 1000 + self.random.next() % 60_000;
        let timeout = self.random.chance(6).then_some(Timeout { now: self.now, after });
        let who = self.ix(id);
        let result = self.system.connect_within(&mut self.machine, who, u64::from(server), word, timeout);
        let mut why = self.naive.room_for_port(id);
        if unknown || flags.contains(to | from) || flags == events {
            why.push(Error::InvalidArgument);
        }
        let mut shared = None;
        if flags.contains(memory) {
            if !(12..=30).contains(&order) {
                why.push(Error::InvalidArgument);
            } else {
                why.extend(self.limit(id, 1 << order));
            }
            let (writes, peer_writes) = (!flags.contains(from), !flags.contains(to));
            shared = Some(End { memory: self.requests, size: 1 << order, at: 0, writes, peer_writes });
        }
        match self.naive.partitions.get(&server).map(|server| server.phase) {
            Some(Phase::Active) => {}
            Some(Phase::Created) => why.push(Error::NotConnected),
            Some(Phase::Terminated) => why.push(Error::PeerClosed),
            None => why.push(Error::BadHandle),
        }
        if let Some(port) = self.agree("connect", result, &why) {
            let record = Port {
                state: State::Requested,
                peer: None,
                peer_id: server,
                reason: 0,
                word,
                token: 0,
                queue: Default::default(),
                due: timeout.map(|_| ((((self.now + after) >> 10) + 1) << 10, u64::from(self.requests))),
                messages: !flags.intersects(to | events | memory),
                signals: !flags.contains(from | events),
                intid: 0,
                shared,
            };
            self.naive.shared.insert(self.requests, (0, None));
            self.requests += 1;
            assert!(self.naive.p(id).ports.insert(port.get(), record).is_none());
            self.naive.signal(server, Signal::Connect(id, port.get()));
        }
    }

    fn answer(&mut self, id: u32) {
        let who = self.ix(id);
        let request = self.random.below(3);
        let request = self.naive.p(id).delivered.get(request).copied();
        let token = match request {
            Some(client) => self.naive.port(client).token ^ u64::from(self.random.chance(20)) << 33,
            None => u64::from(self.any_number()) | 1 << 32,
        };
        let delivered = self.naive.p(id).delivered.clone();
        let request = delivered.into_iter().find(|client| self.naive.port(*client).token == token);
        let mut why = if request.is_none() { vec![Error::BadHandle] } else { vec![] };
        if self.random.chance(4) {
            let result = self.system.refuse(&mut self.machine, who, token, 9);
            if self.agree("refuse", result, &why).is_some() {
                let client = request.unwrap();
                self.naive.withdraw(client);
                let record = self.naive.port(client);
                (record.state, record.reason) = (State::Refused, 9);
                self.naive.raise(client.0, client.1, Causes::REFUSED);
            }
            return;
        }
        let result = self.system.accept(&mut self.machine, who, token);
        why.extend(self.naive.room_for_port(id));
        if let Some(End { size, .. }) = request.and_then(|client| self.naive.port(client).shared) {
            why.extend(self.limit(id, size));
        }
        if let Some(port) = self.agree("accept", result, &why) {
            let client = request.unwrap();
            self.naive.withdraw(client);
            let mut record = self.naive.port(client).clone();
            record.state = State::Connected;
            record.peer = Some((id, port.get()));
            *self.naive.port(client) = record.clone();
            (record.peer, record.peer_id) = (Some(client), client.0);
            let flags = RequestFlags::from_bits((record.word >> 32) as u32 & 0xff_ffff).unwrap();
            let events = RequestFlags::EVENTS;
            record.messages = !flags.intersects(RequestFlags::RECEIVE_ONLY | events | RequestFlags::MEMORY);
            record.signals = !flags.contains(RequestFlags::SEND_ONLY | events);
            record.intid = 0;
            record.shared = record.shared.map(|end| End {
                at: 0,
                writes: end.peer_writes,
                peer_writes: end.writes,
                ..end
            });
            assert!(self.naive.p(id).ports.insert(port.get(), record).is_none());
            self.naive.raise(client.0, client.1, Causes::CONNECTED);
            self.naive.raise(id, port.get(), Causes::CONNECTED);
        }
    }

    fn send(&mut self, id: u32, port: u32) {
        let who = self.ix(id);
        let handle = if self.random.chance(2) { 0 } else { self.likely_region(id) };
        let length = (self.random.next() % 131) as u8;
        let data: [u64; 16] = std::array::from_fn(|_| self.random.next() << 20 | 0xfffff);
        let handle = (handle != 0).then(|| RegionHandle::new(handle));
        let word = MessageWord::new(handover_abi::Port::new(port), handle, length);
        let result = self.system.send(&mut self.machine, who, word, &data);
        let peer = self.naive.sendable(id, port);
        let mut why = Vec::from_iter(peer.err());
        if length > 128 {
            why.push(Error::InvalidArgument);
        }
        if handle.is_some_and(|handle| !self.naive.p(id).regions.contains_key(&handle.get())) {
            why.push(Error::BadHandle);
        }
        if peer.is_ok_and(|peer| self.naive.port(peer).queue.len() >= QUEUE_DEPTH as usize) {
            why.push(Error::QueueFull);
        }
        if peer.is_ok_and(|peer| !self.naive.port(peer).messages) {
            why.push(Error::Denied);
        }
        if self.agree("send", result, &why).is_some() {
            let region = handle.and_then(|handle| self.naive.p(id).regions.remove(&handle.get()));
            let region = region.map(|region| Region { at: 0, ..region });
            let peer = peer.unwrap();
            let queue = &mut self.naive.port(peer).queue;
            queue.push_back(Message { data, length, region });
            if queue.len() == 1 {
                self.naive.raise(peer.0, peer.1, Causes::MESSAGE);
            }
        }
    }

    fn receive(&mut self, id: u32, port: u32, at: u64) {
        let who = self.ix(id);
        let before = [7; 16];
        let mut data = before;
        let result = self.system.receive(&mut self.machine, who, u64::from(port), at, &mut data);
        let mut why = Vec::new();
        let mut expected = None;
        match self.naive.visible(id, port).cloned() {
            Err(error) => why.push(error),
            Ok(Port { state: State::Connected, messages: false, .. }) => why.push(Error::Denied),
            Ok(Port { state: State::TimedOut, .. }) => why.push(Error::TimedOut),
            Ok(Port { state: state @ (State::Connected | State::Severed), queue, peer, .. }) => {
                expected = queue.front().cloned();
                match &expected {
                    None if state == State::Severed => why.push(Error::PeerClosed),
                    None => why.push(Error::WouldBlock),
                    Some(Message { region: Some(region), .. }) => {
                        if peer.unwrap().0 != id {
                            why.extend(self.limit(id, region.size));
                        }
                        if at != 0 {
                            why.extend(self.naive.place(id, region.size, at));
                        }
                    }
                    Some(_) => {}
                }
            }
            Ok(_) => why.push(Error::NotConnected),
        }
        if let Err(Failure { error: Error::TooLarge, detail }) = result {
            assert_eq!(Some(detail), expected.as_ref().and_then(|e| e.region.as_ref()).map(|r| r.size));
        }
        let Some(word) = self.agree("receive", result, &why) else { return };
        let Message { data: sent, length, region } = expected.unwrap();
        assert_eq!((word.length(), word.port().get()), (length, port));
        for byte in 0..128usize {
            let of = |words: &[u64; 16]| (words[byte / 8] >> (byte % 8 * 8)) as u8;
            let expected = match length {
                // Its registers stay as they were.
                0 => of(&before),
                _ if byte < usize::from(length) => of(&sent),
                _ => 0,
            };
            assert_eq!(of(&data), expected);
        }
        assert_eq!(word.order(), region.as_ref().map_or(0, |region| region.size.trailing_zeros() as u8));
        assert_eq!(word.region().is_some(), region.is_some());
        if let (Some(handle), Some(mut region)) = (word.region(), region) {
            self.naive.place_region(id, &mut region, at);
            assert!(self.naive.p(id).regions.insert(handle.get(), region).is_none());
        }
        let record = self.naive.port((id, port));
        record.queue.pop_front();
        let (left, state, peer) = (record.queue.len(), record.state, record.peer);
        if left == 0 {
            self.naive.retract(id, port, Causes::MESSAGE);
            self.naive.settle((id, port));
        } else if left + 1 == QUEUE_DEPTH as usize && state == State::Connected {
            let (peer, at) = peer.unwrap();
            self.naive.raise(peer, at, Causes::SPACE);
        }
    }

    fn end(&mut self, id: u32) {
        if self.naive.p(id).phase == Phase::Terminated {
            return;
        }
        let ix = self.ix(id);
        self.system.end(&mut self.machine, ix, EndReason::Stopped, 5);
        while self.system.reap(&mut self.machine, ix) == Progress::Again {}
        self.naive.end(id);
    }

    fn destroy(&mut self, id: u32) {
        self.compare();
        let terminated = self.naive.p(id).phase == Phase::Terminated;
        let result = self.system.destroy(&mut self.machine, PartitionId::new(id));
        let why = if terminated { vec![] } else { vec![Error::WrongState] };
        if self.agree("destroy", result.map(|_| ()), &why).is_some() {
            self.naive.destroy(id);
            self.machine.tlb.touched.clear();
        }
    }

    fn step(&mut self) {
        let mut id = self.any();
        let active = self.naive.partitions.values().filter(|p| p.phase == Phase::Active).count();
        match self.random.below(400) {
            0..2 if active > 1 || self.random.chance(10) => self.end(id),
            2..8 if self.naive.partitions.len() > 1 => self.destroy(id),
            8..14 if self.naive.partitions.len() < 5 => self.create(),
            14..24 => self.life(id),
            n if n < 390 || self.naive.p(id).phase == Phase::Active => {
                while self.naive.p(id).phase != Phase::Active {
                    id = self.any();
                }
                self.call(id);
            }
            _ => {
                // Who does not run makes no calls.
                let who = self.ix(id);
                let result = self.system.region_create(&mut self.machine, who, 4096, 0);
                self.agree("call", result.map(|_| ()), &[Error::WrongState]);
            }
        }
        // Miri takes its time over the thousands of descriptors.
        if !cfg!(miri) || self.random.chance(10) {
            self.compare();
        }
        // With nobody left who may call, or create, start anew.
        if !self.naive.partitions.values().any(|p| p.phase == Phase::Active) {
            let ids: Vec<u32> = self.naive.partitions.keys().copied().collect();
            for id in ids {
                self.end(id);
                self.destroy(id);
            }
            assert_eq!(self.machine.allocated_bytes(), 0, "everything is back");
            self.machine.interrupts.clear();
            self.naive.interrupts.clear();
            self.populate();
        }
    }

    fn compare(&mut self) {
        let ids: Vec<u32> = self.naive.partitions.keys().copied().collect();
        let raised: Vec<_> = self.machine.interrupts.drain(..).collect();
        let expected = std::mem::take(&mut self.naive.interrupts);
        let expected: Vec<_> = expected.into_iter().map(|(id, intid)| (self.ix(id), intid)).collect();
        assert_eq!(raised, expected, "interrupts");
        let mut touched = Vec::new();
        for id in ids {
            let ix = self.ix(id);
            let (root, vmid) = {
                let p = self.system.partition(ix).unwrap();
                for account in
                    [Account::Memory, Account::Ports, Account::AddressSpace, Account::ProcessorTime]
                {
                    assert_eq!(p.accounts().used(account), self.naive.used(id, account), "{account} of {id}");
                }
                (p.root(), p.vmid())
            };
            touched.push((vmid, root, Ipa::new(0)));
            if self.naive.p(id).phase != Phase::Active {
                continue;
            }
            for port in 0..7 {
                let status = self.system.port_status(ix, u64::from(port));
                let status = status.map(|(causes, peer, reason)| (causes, peer.get(), reason));
                assert_eq!(status.map_err(|failure| failure.error), self.naive.status(id, port));
            }
            let granules: Vec<u64> = self.naive.p(id).memory.iter().copied().collect();
            for &at in &granules {
                touched.push((vmid, root, Ipa::new(at)));
                let span = self.system.translate(&self.machine, ix, Ipa::new(at)).unwrap();
                assert!(span.writable && span.size == 2 * MIB);
                if self.random.chance(20) {
                    self.machine.write(span.pa, self.random.next() | 1);
                }
            }
            let mut leaves = granules.len();
            let regions: Vec<u32> = self.naive.p(id).regions.keys().copied().collect();
            for handle in regions {
                let mut region = self.naive.p(id).regions[&handle].clone();
                let info = self.system.region_info(ix, u64::from(handle)).unwrap();
                assert_eq!(info, (region.size, region.at));
                if region.at == 0 {
                    continue;
                }
                let found: Vec<u64> = (0..region.size / region.leaf())
                    .map(|leaf| {
                        let at = Ipa::new(region.at + leaf * region.leaf());
                        touched.push((vmid, root, at));
                        let span = self.system.translate(&self.machine, ix, at).unwrap();
                        assert!(span.writable && span.size == region.leaf());
                        span.pa.get()
                    })
                    .collect();
                leaves += found.len();
                assert_eq!(region.leaves.as_ref().unwrap_or(&found), &found, "other memory");
                let first = Pa::new(found[0]);
                assert_eq!(self.machine.read(first), region.stamp, "what the guest wrote");
                if self.random.chance(20) {
                    region.stamp = self.random.next() | 1;
                    self.machine.write(first, region.stamp);
                }
                region.leaves = Some(found);
                self.naive.p(id).regions.insert(handle, region);
            }
            leaves += self.compare_shared(id, &mut touched);
            let at = Ipa::new(layout::STOLEN_TIME_BASE);
            let told = self.system.translate(&self.machine, ix, at);
            assert_eq!(
                told.map(|span| (span.size, span.writable)),
                self.naive.p(id).told.then_some((4096, false))
            );
            touched.push((vmid, root, at));
            leaves += usize::from(told.is_some());
            assert_eq!(self.leaves(root, 39), leaves, "leaves of {id}");
        }
        touched.truncate(600);
        self.machine.touch(touched);
        self.machine.check_tlb();
    }

    /// The shared memory of a partition. → leaves that it has mapped.
    fn compare_shared(&mut self, id: u32, touched: &mut Vec<(u16, Pa, Ipa)>) -> usize {
        let ix = self.ix(id);
        let (root, vmid) = {
            let p = self.system.partition(ix).unwrap();
            (p.root(), p.vmid())
        };
        let mut leaves = 0;
        let ends: Vec<_> = self
            .naive
            .p(id)
            .ports
            .iter()
            .filter_map(|(port, record)| Some((*port, record.shared?)))
            .collect();
        for (port, end) in ends {
            let (size, at, access) = self.system.shared_info(ix, u64::from(port)).unwrap();
            assert_eq!((size, at), (end.size, end.at));
            assert_eq!(access.contains(SharedAccess::OWN), end.writes);
            assert_eq!(access.contains(SharedAccess::PEER), end.peer_writes);
            if at == 0 {
                continue;
            }
            let leaf = if size < 2 * MIB { 4096 } else { 2 * MIB };
            let found: Vec<u64> = (0..size / leaf)
                .map(|index| {
                    let at = Ipa::new(at + index * leaf);
                    touched.push((vmid, root, at));
                    let span = self.system.translate(&self.machine, ix, at).unwrap();
                    assert_eq!((span.writable, span.size), (end.writes, leaf));
                    span.pa.get()
                })
                .collect();
            leaves += found.len();
            let first = Pa::new(found[0]);
            let (stamp, known) = self.naive.shared.get_mut(&end.memory).unwrap();
            assert_eq!(known.get_or_insert_with(|| found.clone()), &found, "other memory");
            assert_eq!(self.machine.read(first), *stamp, "what either has written");
            if end.writes && self.random.chance(4) {
                *stamp = self.random.next() | 1;
                self.machine.write(first, *stamp);
            }
        }
        leaves
    }

    /// How many leaves there are under a table.
    fn leaves(&self, table: Pa, shift: u32) -> usize {
        let below = |(_, entry): (usize, u64)| match entry {
            entry if entry & 1 == 0 => 0,
            entry if shift > 21 && entry & 2 != 0 => {
                self.leaves(Pa::new(entry & 0xffff_ffff_f000), shift - 9)
            }
            _ => 1,
        };
        self.machine.tables.entries(table).map(below).sum()
    }
}

#[test]
fn the_rules_do_what_the_naive_rules_say() {
    let (seeds, steps) = if cfg!(miri) { (1, 40) } else { (16, 7_000) };
    let mut seen = BTreeMap::<String, u32>::new();
    for seed in 0..seeds {
        let mut pair = Pair::new(seed);
        for _ in 0..steps {
            pair.step();
        }
        for (outcome, count) in pair.seen {
            *seen.entry(outcome).or_default() += count;
        }
    }
    if !cfg!(miri) {
        for outcome in OUTCOMES {
            assert!(seen.get(*outcome).is_some_and(|count| *count >= 10), "{outcome} is too rare: {seen:#?}");
        }
    }
}

/// What must have happened for the test to mean something.
const OUTCOMES: &[&str] = &[
    "accept: done",
    "account: done",
    "account: invalid argument",
    "accept: limit reached",
    "accept: no such handle",
    "call: wrong state",
    "connect: closed by the peer",
    "connect: done",
    "connect: invalid argument",
    "connect: limit reached",
    "connect: not connected",
    "destroy: done",
    "destroy: wrong state",
    "disconnect: done",
    "event_bind: done",
    "event_bind: invalid argument",
    "event_bind: wrong state",
    "event_mask: done",
    "event_next: done",
    "event_send: closed by the peer",
    "event_send: done",
    "event_send: not connected",
    "memory_add: bad address",
    "memory_add: done",
    "memory_add: in use",
    "memory_add: invalid argument",
    "memory_add: limit reached",
    "memory_remove: bad address",
    "memory_remove: done",
    "memory_remove: invalid argument",
    "event_send: permission denied",
    "event_send: timed out",
    "event_unmask: done",
    "promise_time: done",
    "promise_time: limit reached",
    "promise_time: wrong state",
    "receive: closed by the peer",
    "receive: done",
    "receive: in use",
    "receive: limit reached",
    "receive: not connected",
    "receive: nothing there yet",
    "receive: permission denied",
    "receive: timed out",
    "receive: too large",
    "refuse: done",
    "pause: done",
    "request_shutdown: done",
    "request_shutdown: wrong state",
    "reset: done",
    "reset: wrong state",
    "start: done",
    "start: wrong state",
    "pause: wrong state",
    "resume: done",
    "resume: wrong state",
    "region_create: done",
    "region_create: in use",
    "region_create: invalid argument",
    "region_create: limit reached",
    "region_create: too large",
    "region_destroy: done",
    "region_map: done",
    "region_map: in use",
    "region_unmap: done",
    "region_unmap: wrong state",
    "send: closed by the peer",
    "send: done",
    "send: invalid argument",
    "send: permission denied",
    "send: queue full",
    "send: timed out",
    "shared_map: done",
    "shared_map: in use",
    "shared_map: no such handle",
    "shared_unmap: done",
    "shared_unmap: wrong state",
    "set_add: done",
    "set_add: in use",
    "set_add: no such handle",
    "set_create: done",
    "set_create: invalid argument",
    "set_create: limit reached",
    "set_destroy: done",
    "set_destroy: in use",
    "set_limit: done",
    "set_limit: invalid argument",
    "set_next: done",
    "set_next: nothing there yet",
    "set_remove: done",
    "set_remove: wrong state",
    "signal_next: done",
    "stolen_time_page: done",
    "stolen_time_page: wrong state",
];
