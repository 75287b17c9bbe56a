//! Partitions with everything under way.

use std::cell::Cell;
use std::collections::BTreeMap;

use handover_abi::{
    Account, EndReason, MessageWord, Name, PartitionId, Port, RegionHandle, SharedAccess, layout,
};
use handover_core::{
    Device, Failure, Handed, Interrupt, Ipa, PAGE, Pa, Partition, PartitionIndex, Progress, System, Timeout,
    VcpuId, Waited,
};

use crate::machine::{Model, PALETTE, books, devices};

pub const SHELL: u64 = 3 * PAGE;
pub const MIB: u64 = 1 << 20;
pub const GIB: u64 = 1 << 30;
pub const MEMORY: u64 = layout::MEMORY_BASE;
pub const WINDOW: u64 = layout::WINDOW_BASE;
/// A GiB of the window that nobody has a table for.
pub const FRESH: u64 = WINDOW + 9 * GIB;

pub type Outcome = Result<Progress, Failure>;
pub type Operation = fn(&mut World) -> Outcome;

thread_local! {
    /// Memory of partitions, for one world after the other.
    static SHELLS: Cell<Vec<&'static mut Partition>> = const { Cell::new(Vec::new()) };
}

/// Partitions in a ring, each with a channel to the next; the first has made the others.
pub struct World {
    pub system: System,
    pub machine: Model,
    pub ring: Vec<PartitionIndex>,
    /// Each one's port to the next, and the next one's to it.
    pub ports: Vec<(Port, Port)>,
    pub creators: BTreeMap<PartitionId, PartitionId>,
    pub shells: Vec<&'static mut Partition>,
    /// Who makes the call, and the one that its channel leads to.
    pub actor: PartitionIndex,
    pub peer: PartitionIndex,
    /// Of the actor: the port to the peer; a port that has much to drain; regions, mapped and not.
    pub port: u64,
    pub crowded: u64,
    pub mapped: u64,
    pub loose: u64,
    /// A request that the actor has taken and not answered.
    pub token: u64,
    /// Of the actor: ports of memory that it shares with the peer and both have mapped; where it can only read; that is its own; and that it has and not mapped.
    pub shared: u64,
    pub read: u64,
    pub alone: u64,
    pub unmapped: u64,
    /// A request for shared memory that the actor has taken and not answered.
    pub share_token: u64,
    /// Of the actor: ports for direct calls to the peer and to itself.
    pub calls: Port,
    pub own: Port,
    /// What the peer's processor 2 has lent to the actor with its call.
    pub lent: u64,
    /// Made and not started; ended and not forgotten.
    pub newborn: PartitionIndex,
    pub dead: PartitionIndex,
    /// Confined to colours, for the operations that say so: it is the last of the ring and serves the actor.
    pub tinted: PartitionIndex,
    /// Made and without memory.
    pub blank: PartitionIndex,
    /// The tinted one's port to the actor, and a region for that.
    pub tinted_port: u64,
    pub tinted_region: u64,
    /// Of the actor: a set with an interrupt of its own; its member, that has a message; a set without members; a port that is masked and has
    /// something latched; one for events alone, that has one.
    pub set: u64,
    pub member: u64,
    pub empty: u64,
    pub masked: u64,
    pub bell: u64,
    /// Of the actor: requests that the peer has not taken, that it has taken and not answered, and that have a time.
    pub asked: u64,
    pub taken: u64,
    pub timed: u64,
}

impl World {
    pub fn new(count: usize) -> World {
        let nobody = PartitionIndex::new(0).unwrap();
        let mut w = World {
            system: System::new(),
            machine: Model::new(48, true),
            ring: Vec::new(),
            ports: Vec::new(),
            creators: BTreeMap::new(),
            shells: SHELLS.take(),
            actor: nobody,
            peer: nobody,
            port: 0,
            crowded: 0,
            mapped: 0,
            loose: 0,
            token: 0,
            shared: 0,
            read: 0,
            alone: 0,
            unmapped: 0,
            share_token: 0,
            calls: Port::CONTROL,
            own: Port::CONTROL,
            lent: 0,
            newborn: nobody,
            dead: nobody,
            tinted: nobody,
            blank: nobody,
            tinted_port: 0,
            tinted_region: 0,
            set: 0,
            member: 0,
            empty: 0,
            masked: 0,
            bell: 0,
            asked: 0,
            taken: 0,
            timed: 0,
        };
        w.system.set_palette(PALETTE);
        w.system.prepare_lending(&mut w.machine).unwrap();
        for number in 0..count {
            let creator = (number > 0).then(|| w.ring[0]);
            let ix = w.partition(creator).unwrap();
            w.ring.push(ix);
            w.system.add_memory(&mut w.machine, ix, Ipa::new(MEMORY), 2 * MIB).unwrap();
            w.write(ix, MEMORY);
            w.system.start(ix).unwrap();
        }
        // As system-control has them.
        let files = w.partition(None).unwrap();
        let (at, from) = (Ipa::new(layout::ARCHIVE_BASE), Pa::new(0x4800_1000));
        w.system.map_files(&mut w.machine, files, at, from, 3 * PAGE).unwrap();
        for number in 0..count {
            let ports = w.join(w.ring[number], w.ring[(number + 1) % count]);
            w.ports.push(ports);
        }
        for number in 0..count {
            w.fill(number);
        }
        // Neither the one that all were made by nor the one that it talks to is always the first.
        w.actor = w.ring[count / 2];
        w.peer = w.ring[(count / 2 + 1) % count];
        w.port = u64::from(w.ports[count / 2].0.get());
        w.equip();
        w
    }

    pub fn id(&self, ix: PartitionIndex) -> u64 {
        u64::from(self.system.partition(ix).unwrap().id().get())
    }

    pub fn partition(&mut self, creator: Option<PartitionIndex>) -> Result<PartitionIndex, Failure> {
        let shell = self.shells.pop().unwrap_or_else(|| Box::leak(Box::new(Partition::new())));
        let name = Name::new("boundary").unwrap();
        match self.system.create(&mut self.machine, creator, name, 2, shell, SHELL) {
            Ok(id) => {
                let creator = creator
                    .map_or(PartitionId::new(0), |creator| self.system.partition(creator).unwrap().id());
                self.creators.insert(id, creator);
                for &account in Account::ALL {
                    self.system.set_limit(&self.machine, id, account as u64, u64::MAX).unwrap();
                }
                self.system.find(id)
            }
            Err((failure, shell)) => {
                self.shells.push(shell);
                Err(failure)
            }
        }
    }

    pub fn join(&mut self, client: PartitionIndex, server: PartitionIndex) -> (Port, Port) {
        let id = self.id(server);
        let port = self.system.connect(&mut self.machine, client, id, 1).unwrap();
        let token = self.system.signal_next(server).unwrap().token;
        (port, self.system.accept(&mut self.machine, server, token).unwrap())
    }

    /// A guest's store.
    pub fn write(&mut self, who: PartitionIndex, at: u64) {
        let span = self.system.translate(&self.machine, who, Ipa::new(at)).unwrap();
        self.machine.write(span.pa, at | 1);
    }

    pub fn region(&mut self, who: PartitionIndex, size: u64, at: u64) -> RegionHandle {
        let region = self.system.region_create(&mut self.machine, who, size, at).unwrap();
        if at != 0 {
            self.write(who, at);
        }
        region
    }

    pub fn send(&mut self, who: PartitionIndex, port: Port, region: Option<RegionHandle>) {
        let word = MessageWord::new(port, region, 24);
        self.system.send(&mut self.machine, who, word, &[u64::MAX; 16]).unwrap();
    }

    /// Messages under way in both directions, and regions in all states.
    pub fn fill(&mut self, number: usize) {
        let count = self.ring.len();
        let (here, next) = (self.ring[number], self.ring[(number + 1) % count]);
        let (out, back) = self.ports[number];
        let region = self.region(here, 64 << 10, WINDOW + 2 * MIB);
        self.send(here, out, Some(region));
        self.send(here, out, None);
        let region = self.region(next, 4 << 10, WINDOW + 4 * MIB);
        self.send(next, back, Some(region));
        self.region(here, 4 << 10, 0);
        // One request that is not taken, and one that is not answered.
        let id = self.id(next);
        self.system.connect(&mut self.machine, here, id, 2).unwrap();
        self.system.connect(&mut self.machine, here, id, 3).unwrap();
        while self.system.signal_next(next).unwrap().argument != 2 {}
    }

    /// What the operations work on.
    pub fn equip(&mut self) {
        let (actor, peer) = (self.actor, self.peer);
        self.mapped = u64::from(self.region(actor, 128 << 10, WINDOW + 8 * MIB).get());
        self.loose = u64::from(self.region(actor, 8 << 10, 0).get());
        let (crowded, from) = self.join_last(actor, peer);
        for _ in 0..3 {
            let region = self.region(peer, 64 << 10, WINDOW + 12 * MIB);
            self.send(peer, from, Some(region));
        }
        self.send(peer, from, None);
        self.crowded = u64::from(crowded.get());
        let id = self.id(actor);
        self.system.connect(&mut self.machine, peer, id, 7).unwrap();
        self.token = self.signal(actor, 7);
        self.system.connect(&mut self.machine, peer, id, 8).unwrap();
        self.ring_up();
        self.newborn = self.partition(Some(actor)).unwrap();
        self.system.add_memory(&mut self.machine, self.newborn, Ipa::new(MEMORY), 2 * MIB).unwrap();
        self.dead = self.partition(Some(actor)).unwrap();
        self.end(self.dead);
        self.finish(self.dead);
    }

    /// Shared memory in all states.
    pub fn share(&mut self) {
        let (actor, peer) = (self.actor, self.peer);
        let (here, there) = (self.id(actor), self.id(peer));
        self.shared = self.join_for(actor, peer, memory(17, 0), Some(WINDOW + 16 * MIB)).0;
        self.read = self.join_for(actor, peer, memory(16, RECEIVE_ONLY), Some(WINDOW + 18 * MIB)).0;
        self.join_for(peer, actor, memory(14, SEND_ONLY), Some(WINDOW + 22 * MIB));
        self.unmapped = self.join_for(actor, peer, memory(13, RECEIVE_ONLY), None).0;
        let alone = self.system.connect(&mut self.machine, actor, there, memory(17, 0)).unwrap();
        self.alone = u64::from(alone.get());
        self.system.shared_map(&mut self.machine, actor, self.alone, WINDOW + 20 * MIB).unwrap();
        self.write(actor, WINDOW + 20 * MIB + 16 * PAGE);
        self.system.connect(&mut self.machine, peer, here, memory(14, SEND_ONLY)).unwrap();
        self.share_token = self.signal(actor, memory(14, SEND_ONLY));
    }

    pub fn signal(&mut self, server: PartitionIndex, word: u64) -> u64 {
        loop {
            let signal = self.system.signal_next(server).unwrap();
            if signal.argument == word {
                return signal.token;
            }
        }
    }

    /// Memory for two, mapped by both and written to. → their ports.
    pub fn join_for(
        &mut self,
        client: PartitionIndex,
        server: PartitionIndex,
        word: u64,
        at: Option<u64>,
    ) -> (u64, u64) {
        let id = self.id(server);
        let port = u64::from(self.system.connect(&mut self.machine, client, id, word).unwrap().get());
        let token = self.signal(server, word);
        let accepted = u64::from(self.system.accept(&mut self.machine, server, token).unwrap().get());
        let Some(at) = at else { return (port, accepted) };
        for (who, port) in [(client, port), (server, accepted)] {
            self.system.shared_map(&mut self.machine, who, port, at).unwrap();
            if self.system.shared_info(who, port).unwrap().2.contains(SharedAccess::OWN) {
                self.write(who, at);
            }
        }
        (port, accepted)
    }

    /// A world for an operation.
    pub fn of(name: &str, count: usize) -> World {
        let mut w = World::new(count);
        if name.contains("shared") {
            w.share();
        }
        if name.contains("colours") {
            w.tint();
        }
        if name.starts_with("event_") || name.starts_with("set_") {
            w.listen();
        }
        if name.contains("request") {
            w.ask();
        }
        if name.contains("device") {
            w.furnish();
        }
        w
    }

    /// Sets, and ports whose events go other ways.
    fn listen(&mut self) {
        const EVENTS: u64 = 8;
        let (actor, peer) = (self.actor, self.peer);
        let (member, from) = self.join_last(actor, peer);
        let (masked, to_masked) = self.join_last(actor, peer);
        let bell = self.join_for(actor, peer, (EVENTS | RECEIVE_ONLY) << 32 | 10, None);
        (self.member, self.masked, self.bell) = (u64::from(member.get()), u64::from(masked.get()), bell.0);
        let m = &mut self.machine;
        self.set = u64::from(self.system.set_create(m, actor, 200, 1).unwrap().get());
        self.empty = u64::from(self.system.set_create(m, actor, 0, 0).unwrap().get());
        self.system.set_add(m, actor, self.set, self.member).unwrap();
        self.system.event_mask(actor, self.masked).unwrap();
        self.system.event_send(m, peer, u64::from(to_masked.get())).unwrap();
        self.system.event_send(m, peer, bell.1).unwrap();
        self.send(peer, from, None);
    }

    /// Requests in all states.
    fn ask(&mut self) {
        let (actor, peer) = (self.actor, self.peer);
        let id = self.id(peer);
        let timeout = Some(Timeout { now: 0, after: 1000 });
        let m = &mut self.machine;
        self.taken = u64::from(self.system.connect(m, actor, id, 13).unwrap().get());
        self.signal(peer, 13);
        let m = &mut self.machine;
        self.asked = u64::from(self.system.connect(m, actor, id, 14).unwrap().get());
        self.timed = u64::from(self.system.connect_within(m, actor, id, 15, timeout).unwrap().get());
        for other in [self.newborn, self.ring[0]] {
            // Others wait for the same, or cannot.
            let _: Result<Port, Failure> = self.system.connect_within(m, other, id, 16, timeout);
        }
    }

    /// Devices that nobody has, the actor has, and the peer has.
    fn furnish(&mut self) {
        let devices: [(u64, &[u16]); 3] = [(1, &[34]), (3, &[40, 41]), (1, &[])];
        for (number, (pages, intids)) in (0u64..).zip(devices) {
            let interrupts = intids.iter().map(|&intid| Interrupt { intid, edge: false });
            let base = 0x900_0000 + number * (64 << 10);
            let device = Device::new("boundary", base, pages * PAGE, interrupts, ["arm,pl061"].into_iter());
            assert!(self.system.add_device(device));
        }
        let at = Ipa::new(layout::DEVICE_BASE + (64 << 10));
        let intid = u64::from(layout::DEVICE_INTID) + 2;
        let m = &mut self.machine;
        self.system.device_assign(m, self.actor, 1, at, intid).unwrap();
        self.system.device_assign(m, self.peer, 2, at, intid).unwrap();
    }

    pub fn tint(&mut self) {
        self.blank = self.partition(Some(self.actor)).unwrap();
        self.tinted = self.partition(Some(self.actor)).unwrap();
        let ix = self.tinted;
        let id = self.system.partition(ix).unwrap().id();
        self.system.set_colours(&mut self.machine, id, 0x0f, 0x30).unwrap();
        self.system.add_memory(&mut self.machine, ix, Ipa::new(MEMORY), 2 * MIB).unwrap();
        self.write(ix, MEMORY + 3 * PAGE);
        self.system.start(ix).unwrap();
        let (_, port) = self.join_last(self.actor, ix);
        self.tinted_port = u64::from(port.get());
        self.region(ix, 16 << 10, WINDOW);
        let size = self.tinted_port << 32 | 16 << 10;
        self.tinted_region = u64::from(self.region(ix, size, WINDOW + 2 * MIB).get());
        self.ring.push(ix);
    }

    /// Direct calls under way: the peer's processor 1 waits for one, its processor 2 has a reply to come from the actor's processor 1 and has lent a region, and its
    /// processor 3 waits in the actor's queue with a region.
    pub fn ring_up(&mut self) {
        let (actor, peer) = (self.actor, self.peer);
        let (out, back) = self.join_last(actor, peer);
        let (loop_out, _) = self.join_last(actor, actor);
        (self.calls, self.own) = (out, loop_out);
        for partition in [actor, peer] {
            (0..4).for_each(|index| self.system.vcpu_on(VcpuId { partition, index }));
        }
        let m = &mut self.machine;
        assert_eq!(self.system.call_wait(m, VcpuId { partition: peer, index: 1 }), Ok(Waited::Waiting));
        assert_eq!(self.system.call_wait(m, VcpuId { partition: actor, index: 1 }), Ok(Waited::Waiting));
        let number = u64::from(out.get());
        self.system.call_setup(actor, number, WINDOW + 24 * MIB, 0).unwrap();
        let region = self.region(peer, 32 << 10, WINDOW + 26 * MIB);
        let word = MessageWord::new(back, Some(region), 8).lent();
        let handed = self.system.call(&mut self.machine, VcpuId { partition: peer, index: 2 }, word);
        let Ok(Handed::To(_, word)) = handed else { panic!("{handed:?}") };
        self.lent = word.region().map_or(0, |region| u64::from(region.get()));
        let region = self.region(peer, 64 << 10, WINDOW + 14 * MIB);
        let word = MessageWord::new(back, Some(region), 8);
        let queued = self.system.call(&mut self.machine, VcpuId { partition: peer, index: 3 }, word);
        assert_eq!(queued, Ok(Handed::Queued));
        self.system.call_setup(actor, number, FRESH, 0).unwrap();
        self.system.call_setup(peer, u64::from(back.get()), FRESH, 0).unwrap();
    }

    /// The same as [`World::join`] where other requests wait.
    pub fn join_last(&mut self, client: PartitionIndex, server: PartitionIndex) -> (Port, Port) {
        let id = self.id(server);
        let port = self.system.connect(&mut self.machine, client, id, 9).unwrap();
        let token = self.signal(server, 9);
        (port, self.system.accept(&mut self.machine, server, token).unwrap())
    }

    pub fn end(&mut self, ix: PartitionIndex) {
        self.system.end(&mut self.machine, ix, EndReason::Stopped, 0);
    }

    pub fn finish(&mut self, ix: PartitionIndex) {
        while self.system.reap(&mut self.machine, ix) == Progress::Again {}
    }

    pub fn check(&mut self, rest: bool) {
        self.machine.zeroes = books::zeroes(&self.system);
        let none = PartitionId::new(0);
        let creator = |id: PartitionId| self.creators.get(&id).copied().unwrap_or(none);
        let touched = books::balance(&self.system, &self.machine, SHELL, creator, rest);
        self.machine.touch(touched);
        self.machine.check_tlb();
    }

    /// All that can be seen of it from outside.
    pub fn state(&self) -> impl PartialEq + std::fmt::Debug + use<> {
        let used = |ix: PartitionIndex| {
            let p = self.system.partition(ix).unwrap();
            let ports: Vec<_> = (0..8).map(|port| self.system.port_status(ix, port)).collect();
            (p.id(), p.phase(), p.accounts().clone(), ports)
        };
        (self.machine.digest(), books::partitions(&self.system).into_iter().map(used).collect::<Vec<_>>())
    }

    pub fn watch(&mut self) {
        self.machine.zeroes = books::zeroes(&self.system);
        let roots = books::partitions(&self.system).into_iter();
        self.machine.watched = roots.map(|ix| self.system.partition(ix).unwrap().root()).collect();
    }

    /// Ends all that is left, one after the other.
    pub fn close(mut self) {
        self.machine.watched.clear();
        self.machine.allowance = None;
        for ix in books::partitions(&self.system) {
            self.end(ix);
            self.finish(ix);
            let held: Vec<u64> = held(&self.system, ix).collect();
            let children = self.creators.iter().filter(|(child, creator)| {
                u64::from(creator.get()) == self.id(ix) && self.system.find(**child).is_ok()
            });
            let children = children.count() as u64 * (SHELL + PAGE);
            assert_eq!(held.iter().sum::<u64>(), children, "held after the end: {held:?}");
        }
        self.check(true);
        for ix in books::partitions(&self.system) {
            let id = self.system.partition(ix).unwrap().id();
            self.machine.tlb.touched.clear();
            let (shell, bytes) = self.system.destroy(&mut self.machine, id).unwrap();
            assert_eq!(bytes, SHELL);
            self.shells.push(shell);
        }
        SHELLS.set(self.shells);
        let zeroes = books::zeroes(&self.system).len() as u64 * PAGE;
        assert_eq!(
            (self.machine.allocated_bytes(), self.machine.dirty.len()),
            (zeroes, 0),
            "something is left"
        );
        assert!(self.machine.record_frames().is_empty());
        assert!(devices::are_free(&self.system, &self.machine), "a device is still somebody's");
        self.machine.check_total();
    }
}

pub fn held(system: &System, ix: PartitionIndex) -> impl Iterator<Item = u64> {
    Account::ALL.iter().map(move |account| system.partition(ix).unwrap().accounts().used(*account))
}

pub const SEND_ONLY: u64 = 2;
pub const RECEIVE_ONLY: u64 = 4;

/// A request for shared memory of `1 << order` bytes.
pub fn memory(order: u64, flags: u64) -> u64 {
    order << 56 | (16 | flags) << 32 | 11
}
