//! The rules once more, as plainly as they can be said: everything is a collection, nothing is bounded, long calls are over at once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use handover_abi::{Account, Causes, EndReason, Error, SignalKind, layout};
use handover_core::QUEUE_DEPTH;

pub const MIB: u64 = 1 << 20;
pub const GIB: u64 = 1 << 30;

#[derive(Clone, Debug)]
pub struct Region {
    pub size: u64,
    /// Where it is mapped, or 0.
    pub at: u64,
    /// What a guest wrote last into its first page.
    pub stamp: u64,
    /// The leaves' addresses, known from the first time it is mapped.
    pub leaves: Option<Vec<u64>>,
}

impl Region {
    pub fn leaf(&self) -> u64 {
        if self.size < 2 * MIB { 4096 } else { 2 * MIB }
    }
}

/// An end's part in shared memory.
#[derive(Clone, Copy, Debug)]
pub struct End {
    /// Which memory.
    pub memory: u32,
    pub size: u64,
    /// Where it is mapped, or 0.
    pub at: u64,
    pub writes: bool,
    pub peer_writes: bool,
}

#[derive(Clone, Debug)]
pub struct Message {
    pub data: [u64; 16],
    pub length: u8,
    pub region: Option<Region>,
}

/// Addresses that a region takes where it is mapped.
fn slot(size: u64) -> u64 {
    if size > 2 * MIB { GIB } else { 2 * MIB }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Requested,
    Delivered,
    Refused,
    TimedOut,
    Connected,
    Severed,
    Lingering,
}

#[derive(Clone, Debug)]
pub struct Port {
    pub state: State,
    pub peer: Option<(u32, u32)>,
    pub peer_id: u32,
    pub reason: u32,
    pub word: u64,
    pub token: u64,
    pub queue: VecDeque<Message>,
    /// When its request is given up, and in which order.
    pub due: Option<(u64, u64)>,
    /// Whether messages come here.
    pub messages: bool,
    /// Whether events may be sent from here.
    pub signals: bool,
    /// The interrupt that events raise at once.
    pub intid: u8,
    pub shared: Option<End>,
}

/// A port set.
#[derive(Debug)]
pub struct Set {
    pub intid: u8,
    pub pending: VecDeque<(u32, Causes)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    Connect(u32, u32),
    Ended(u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Created,
    Active,
    Terminated,
}

#[derive(Debug)]
pub struct Partition {
    pub phase: Phase,
    pub paused: bool,
    /// It has its page of stolen times.
    pub told: bool,
    /// What a shutdown request says that was not taken.
    pub shutdown: Option<u64>,
    pub reason: EndReason,
    /// Promised processor time.
    pub time: u32,
    pub creator: u32,
    /// Where it has granules of memory.
    pub memory: BTreeSet<u64>,
    pub memory_limit: u64,
    pub space_limit: u64,
    pub ports_limit: u64,
    pub regions: BTreeMap<u32, Region>,
    pub ports: BTreeMap<u32, Port>,
    pub pending: VecDeque<(u32, Causes)>,
    pub sets: BTreeMap<u32, Set>,
    /// Ports in sets.
    pub members: BTreeMap<u32, u32>,
    /// Masked ports, and what is latched there.
    pub masked: BTreeMap<u32, Causes>,
    pub queued: VecDeque<Signal>,
    pub delivered: Vec<(u32, u32)>,
    /// GiBs of the window that have a table for small regions.
    pub small: BTreeSet<u64>,
}

impl Partition {
    /// What is mapped in its window: address and size.
    pub fn mapped(&self) -> impl Iterator<Item = (u64, u64)> {
        let shared = self.ports.values().filter_map(|port| port.shared).map(|end| (end.at, end.size));
        self.regions.values().map(|region| (region.at, region.size)).chain(shared).filter(|(at, _)| *at != 0)
    }
}

#[derive(Default)]
pub struct Naive {
    /// What guests have written last into the first page of shared memory, and its leaves, known from the first time it is mapped.
    pub shared: BTreeMap<u32, (u64, Option<Vec<u64>>)>,
    pub partitions: BTreeMap<u32, Partition>,
    /// Whose interrupts were raised, in order; 0 is the event interrupt.
    pub interrupts: Vec<(u32, u8)>,
}

impl Naive {
    pub fn p(&mut self, id: u32) -> &mut Partition {
        self.partitions.get_mut(&id).unwrap()
    }

    pub fn port(&mut self, (id, port): (u32, u32)) -> &mut Port {
        self.p(id).ports.get_mut(&port).unwrap()
    }

    pub fn raise(&mut self, id: u32, port: u32, causes: Causes) {
        let p = self.p(id);
        if let Some(latched) = p.masked.get_mut(&port) {
            *latched |= causes;
            return;
        }
        let (pending, intid) = match p.members.get(&port) {
            Some(set) => match p.sets.get_mut(set) {
                Some(set) => (&mut set.pending, set.intid),
                // It went first when the partition ended.
                None => return,
            },
            None => (&mut p.pending, 0),
        };
        match pending.iter_mut().find(|(pending, _)| *pending == port) {
            Some((_, latched)) => *latched |= causes,
            None => {
                pending.push_back((port, causes));
                self.interrupts.push((id, intid));
            }
        }
    }

    /// What is latched at a port.
    pub fn latched(&self, id: u32, port: u32) -> Causes {
        let p = &self.partitions[&id];
        let sets = p.sets.values().flat_map(|set| &set.pending);
        let mut pending = p.pending.iter().chain(sets);
        let pending = pending.find(|(pending, _)| *pending == port).map(|(_, causes)| *causes);
        pending.or(p.masked.get(&port).copied()).unwrap_or(Causes::empty())
    }

    /// What a cause told of is over.
    pub fn retract(&mut self, id: u32, port: u32, causes: Causes) {
        let p = self.p(id);
        if let Some(latched) = p.masked.get_mut(&port) {
            *latched -= causes;
        }
        let sets = p.sets.values_mut().map(|set| &mut set.pending);
        for pending in sets.chain([&mut p.pending]) {
            pending.retain_mut(|(pending, latched)| {
                if *pending == port {
                    *latched -= causes;
                }
                !latched.is_empty()
            });
        }
    }

    /// Takes a port out of every list. → what was latched.
    fn delist(&mut self, id: u32, port: u32) -> Causes {
        let latched = self.latched(id, port);
        let p = self.p(id);
        let sets = p.sets.values_mut().map(|set| &mut set.pending);
        for pending in sets.chain([&mut p.pending]) {
            pending.retain(|(pending, _)| *pending != port);
        }
        latched
    }

    /// What a port has latched is told of: anew, since it has come from elsewhere.
    fn deliver(&mut self, id: u32, port: u32, mut causes: Causes) {
        let intid = self.p(id).ports.get(&port).map_or(0, |port| port.intid);
        let bound = intid != 0 && causes.contains(Causes::SIGNAL);
        causes.set(Causes::SIGNAL, causes.contains(Causes::SIGNAL) && !bound);
        if !causes.is_empty() {
            self.raise(id, port, causes);
        }
        if bound {
            self.interrupts.push((id, intid));
        }
    }

    pub fn mask(&mut self, id: u32, port: u32) {
        let causes = self.delist(id, port);
        self.p(id).masked.insert(port, causes);
    }

    pub fn unmask(&mut self, id: u32, port: u32) {
        if let Some(causes) = self.p(id).masked.remove(&port) {
            self.deliver(id, port, causes);
        }
    }

    pub fn bind(&mut self, id: u32, port: u32, intid: u8) {
        self.port((id, port)).intid = intid;
        if intid != 0 && !self.p(id).masked.contains_key(&port) {
            let causes = self.delist(id, port);
            self.deliver(id, port, causes);
        }
    }

    pub fn change_set(&mut self, id: u32, port: u32, set: Option<u32>) {
        let causes = self.delist(id, port);
        match set {
            Some(set) => self.p(id).members.insert(port, set),
            None => self.p(id).members.remove(&port),
        };
        if !causes.is_empty() && !self.p(id).masked.contains_key(&port) {
            self.raise(id, port, causes);
        }
    }

    pub fn event_send(&mut self, (peer, port): (u32, u32)) {
        let intid = self.port((peer, port)).intid;
        if intid != 0 && !self.p(peer).masked.contains_key(&port) {
            self.interrupts.push((peer, intid));
        } else {
            self.raise(peer, port, Causes::SIGNAL);
        }
    }

    /// Gives up the requests whose time has come.
    pub fn expire(&mut self, now: u64) {
        let all = self
            .partitions
            .iter()
            .flat_map(|(id, p)| p.ports.iter().map(|(port, record)| ((*id, *port), record)));
        let due = all.filter_map(|(at, record)| Some((record.due.filter(|(due, _)| *due <= now)?, at)));
        let due: BTreeMap<_, _> = due.collect();
        for at in due.into_values() {
            self.withdraw(at);
            let port = self.port(at);
            (port.state, port.peer) = (State::TimedOut, None);
            self.raise(at.0, at.1, Causes::TIMED_OUT);
        }
    }

    /// A request is none any more.
    pub fn withdraw(&mut self, at: (u32, u32)) {
        let record = self.port(at);
        record.due = None;
        let server = record.peer_id;
        if let Some(server) = self.partitions.get_mut(&server) {
            server.queued.retain(|signal| *signal != Signal::Connect(at.0, at.1));
            server.delivered.retain(|request| *request != at);
        }
    }

    /// Bytes of memory a partition pays for: its own, its regions, and what it has sent and nobody received.
    pub fn memory(&self, id: u32) -> u64 {
        let p = &self.partitions[&id];
        let sent = self.partitions.values().flat_map(|q| q.ports.values());
        let sent = sent.filter(|port| port.peer.is_some_and(|(peer, _)| peer == id));
        let sent = sent.flat_map(|port| &port.queue).filter_map(|message| message.region.as_ref());
        p.memory.len() as u64 * 2 * MIB
            + p.regions.values().chain(sent).map(|region| region.size).sum::<u64>()
            + p.ports.values().filter_map(|port| port.shared).map(|end| end.size).sum::<u64>()
    }

    /// Bytes of addresses in use.
    pub fn space(&self, id: u32) -> u64 {
        let p = &self.partitions[&id];
        p.memory.len() as u64 * 2 * MIB + p.mapped().map(|(_, size)| slot(size)).sum::<u64>()
    }

    /// Why memory cannot be added, or removed, whatever is there already.
    pub fn range(at: u64, size: u64) -> Vec<Error> {
        let mut why = Vec::new();
        if size == 0
            || size > layout::MEMORY_CALL_MAX
            || !size.is_multiple_of(2 * MIB)
            || !at.is_multiple_of(2 * MIB)
        {
            why.push(Error::InvalidArgument);
        }
        if at < layout::MEMORY_BASE || u128::from(at) + u128::from(size) > u128::from(layout::MEMORY_END) {
            why.push(Error::BadAddress);
        }
        why
    }

    /// Why a region cannot be placed there.
    pub fn place(&self, id: u32, size: u64, at: u64) -> Vec<Error> {
        let p = &self.partitions[&id];
        let gib = at / GIB;
        let mut why = Vec::new();
        if self.space(id) + slot(size) > p.space_limit {
            why.push(Error::Limit);
        }
        if !at.is_multiple_of(2 * MIB) {
            why.push(Error::InvalidArgument);
        }
        if !(layout::WINDOW_BASE..layout::WINDOW_BASE + layout::WINDOW_SIZE).contains(&at) {
            why.push(Error::BadAddress);
        }
        let mut mapped = p.mapped();
        if size > 2 * MIB {
            if !at.is_multiple_of(GIB) {
                why.push(Error::TooLarge);
            }
            if p.small.contains(&gib) || mapped.any(|(at, _)| at / GIB == gib) {
                why.push(Error::InUse);
            }
        } else if mapped.any(|(other, size)| other == at || size > 2 * MIB && other / GIB == gib) {
            why.push(Error::InUse);
        }
        why
    }

    pub fn place_region(&mut self, id: u32, region: &mut Region, at: u64) {
        region.at = at;
        if at != 0 && region.size <= 2 * MIB {
            self.p(id).small.insert(at / GIB);
        }
    }

    pub fn room_for_port(&self, id: u32) -> Vec<Error> {
        let p = &self.partitions[&id];
        if (p.ports.len() + p.sets.len()) as u64 >= p.ports_limit { vec![Error::Limit] } else { vec![] }
    }

    pub fn visible(&self, id: u32, port: u32) -> Result<&Port, Error> {
        match self.partitions[&id].ports.get(&port) {
            Some(port) if port.state != State::Lingering => Ok(port),
            _ => Err(Error::BadHandle),
        }
    }

    /// Why nothing can be sent from a port.
    pub fn sendable(&self, id: u32, port: u32) -> Result<(u32, u32), Error> {
        let port = self.visible(id, port)?;
        match port.state {
            State::Connected => Ok(port.peer.unwrap()),
            State::Severed => Err(Error::PeerClosed),
            State::TimedOut => Err(Error::TimedOut),
            _ => Err(Error::NotConnected),
        }
    }

    pub fn status(&self, id: u32, port: u32) -> Result<(Causes, u32, u32), Error> {
        let p = &self.partitions[&id];
        if port == 0 {
            let causes =
                if p.queued.is_empty() && p.shutdown.is_none() { Causes::empty() } else { Causes::SIGNAL };
            return Ok((causes, 0, 0));
        }
        let record = self.visible(id, port)?;
        let mut causes = Causes::empty();
        causes.set(Causes::REFUSED, record.state == State::Refused);
        causes.set(Causes::TIMED_OUT, record.state == State::TimedOut);
        causes.set(Causes::PEER_CLOSED, record.state == State::Severed);
        causes.set(Causes::MESSAGE, !record.queue.is_empty());
        causes.set(Causes::CONNECTED, record.state == State::Connected);
        causes.set(Causes::SIGNAL, self.latched(id, port).contains(Causes::SIGNAL));
        if let (State::Connected, Some((peer, at))) = (record.state, record.peer) {
            let peer = &self.partitions[&peer].ports[&at];
            let room = peer.messages && peer.queue.len() < QUEUE_DEPTH as usize;
            causes.set(Causes::SPACE, room);
        }
        Ok((causes, record.peer_id, record.reason))
    }

    /// After a queue ran empty: the peer's port goes if it lingered for that.
    pub fn settle(&mut self, at: (u32, u32)) {
        if let Some(peer) = self.port(at).peer
            && self.port(peer).state == State::Lingering
        {
            self.forget(peer);
            self.port(at).peer = None;
        }
    }

    fn forget(&mut self, (id, port): (u32, u32)) {
        self.p(id).ports.remove(&port);
        self.unlatch(id, port);
    }

    pub fn unlatch(&mut self, id: u32, port: u32) {
        self.delist(id, port);
        self.p(id).members.remove(&port);
        self.p(id).masked.remove(&port);
    }

    /// Destroys a port; if its partition `ended`, what it sent goes too.
    pub fn close(&mut self, at: (u32, u32), ended: bool) {
        let record = self.port(at).clone();
        match record.state {
            State::Requested | State::Delivered => self.withdraw(at),
            State::Refused | State::TimedOut => {}
            State::Connected | State::Severed | State::Lingering => {
                self.unlatch(at.0, at.1);
                if let (Some(end), Some(_)) = (record.shared, record.peer)
                    && end.writes
                {
                    // Whoever stays finds zeroes.
                    self.shared.get_mut(&end.memory).unwrap().0 = 0;
                }
                if let (State::Connected, Some(peer)) = (record.state, record.peer) {
                    self.port(peer).state = State::Severed;
                    self.raise(peer.0, peer.1, Causes::PEER_CLOSED);
                }
                self.port(at).queue.clear();
                if let Some(peer) = record.peer {
                    if self.port(peer).state == State::Lingering {
                        self.forget(peer);
                    } else {
                        if ended {
                            self.port(peer).queue.clear();
                        }
                        if !self.port(peer).queue.is_empty() {
                            self.port(at).state = State::Lingering;
                            return;
                        }
                        self.port(peer).peer = None;
                    }
                }
            }
        }
        self.forget(at);
    }

    /// Ends a partition and gives back all it held.
    pub fn end(&mut self, id: u32) {
        let p = self.p(id);
        let mut ports: Vec<u32> = p.ports.keys().chain(p.sets.keys()).copied().collect();
        ports.sort_unstable();
        for port in ports {
            if self.p(id).sets.remove(&port).is_none() && self.p(id).ports.contains_key(&port) {
                self.close((id, port), true);
            }
        }
        let requests = self.p(id).queued.drain(..).filter_map(|signal| match signal {
            Signal::Connect(client, port) => Some((client, port)),
            Signal::Ended(_) => None,
        });
        let mut requests: Vec<_> = requests.collect();
        requests.append(&mut self.p(id).delivered);
        for client in requests {
            let port = self.port(client);
            port.state = State::Severed;
            port.peer = None;
            port.due = None;
            self.raise(client.0, client.1, Causes::PEER_CLOSED);
        }
        let p = self.p(id);
        p.pending.clear();
        p.sets.clear();
        p.members.clear();
        p.masked.clear();
        p.regions.clear();
        p.memory.clear();
        p.small.clear();
        p.told = false;
        p.time = 0;
        p.shutdown = None;
        p.phase = Phase::Terminated;
        p.reason = EndReason::Stopped;
        let creator = p.creator;
        if self.partitions.get(&creator).is_some_and(|creator| creator.phase == Phase::Active) {
            self.signal(creator, Signal::Ended(id));
        }
    }

    pub fn signal(&mut self, to: u32, signal: Signal) {
        self.p(to).queued.push_back(signal);
        if self.p(to).queued.len() == 1 {
            self.raise(to, 0, Causes::SIGNAL);
        }
    }

    pub fn request_shutdown(&mut self, id: u32, argument: u64) {
        let p = self.p(id);
        let first = p.queued.is_empty() && p.shutdown.is_none();
        p.shutdown = Some(argument);
        if first {
            self.raise(id, 0, Causes::SIGNAL);
        }
    }

    pub fn reset(&mut self, id: u32) {
        let p = self.p(id);
        (p.phase, p.paused, p.reason) = (Phase::Created, false, EndReason::None);
        for p in self.partitions.values_mut() {
            p.queued.retain(|signal| *signal != Signal::Ended(id));
        }
    }

    /// What `SignalNext` returns: kind, partition, argument.
    pub fn signal_next(&mut self, id: u32) -> Option<(SignalKind, u32, u64)> {
        if let Some(argument) = self.p(id).shutdown.take() {
            let from = if self.p(id).creator == 0 { id } else { self.p(id).creator };
            return Some((SignalKind::ShutdownRequest, from, argument));
        }
        match self.p(id).queued.pop_front()? {
            Signal::Ended(who) => Some((SignalKind::PartitionEnded, who, self.p(who).reason as u64)),
            Signal::Connect(client, port) => {
                self.p(id).delivered.push((client, port));
                let record = self.port((client, port));
                record.state = State::Delivered;
                Some((SignalKind::Connect, client, record.word))
            }
        }
    }

    /// Takes a partition that has ended off the books.
    pub fn destroy(&mut self, id: u32) {
        self.partitions.remove(&id);
        for p in self.partitions.values_mut() {
            p.queued.retain(|signal| *signal != Signal::Ended(id));
        }
    }

    pub fn used(&self, id: u32, account: Account) -> u64 {
        match account {
            Account::Memory => self.memory(id),
            Account::ProcessorTime => u64::from(self.partitions[&id].time),
            Account::AddressSpace => self.space(id),
            Account::Ports => (self.partitions[&id].ports.len() + self.partitions[&id].sets.len()) as u64,
            _ => 0,
        }
    }
}
