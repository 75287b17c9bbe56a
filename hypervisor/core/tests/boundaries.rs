//! Every operation, cut at every boundary it has, by the end of every partition.
//!
//! An operation runs under one lock from its first check to its last store, so another processor's kill takes effect between two of its
//! steps; what can go wrong inside a step is memory running out, and other processors walking the tables meanwhile. So for each operation, among
//! two to eight partitions that have regions, channels, requests and messages of all kinds under way: each machine call inside it is a
//! boundary at which all trees must be sound; each allocation fails once; after each step each partition is killed; and after each step of
//! that partition's end another one is. After each, the books are balanced, and in the end nothing is left.

mod machine;

use std::{cell::Cell, collections::BTreeMap};

use handover_abi::{
    Account, EndReason, Error, MessageWord, Name, PartitionId, Port, RegionHandle, SharedAccess, layout,
};
use handover_core::{
    Failure, Handed, Ipa, PAGE, Pa, Partition, PartitionIndex, Phase, Progress, System, VcpuId, Waited,
};
use machine::{Model, PALETTE, books};

const SHELL: u64 = 3 * PAGE;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const MEMORY: u64 = layout::MEMORY_BASE;
const WINDOW: u64 = layout::WINDOW_BASE;
/// A GiB of the window that nobody has a table for.
const FRESH: u64 = WINDOW + 9 * GIB;

type Outcome = Result<Progress, Failure>;
type Operation = fn(&mut World) -> Outcome;

thread_local! {
    /// Memory of partitions, for one world after the other.
    static SHELLS: Cell<Vec<&'static mut Partition>> = const { Cell::new(Vec::new()) };
}

/// Partitions in a ring, each with a channel to the next; the first has made the others.
struct World {
    system: System,
    machine: Model,
    ring: Vec<PartitionIndex>,
    /// Each one's port to the next, and the next one's to it.
    ports: Vec<(Port, Port)>,
    creators: BTreeMap<PartitionId, PartitionId>,
    shells: Vec<&'static mut Partition>,
    /// Who makes the call, and the one that its channel leads to.
    actor: PartitionIndex,
    peer: PartitionIndex,
    /// Of the actor: the port to the peer; a port that has much to drain; regions, mapped and not.
    port: u64,
    crowded: u64,
    mapped: u64,
    loose: u64,
    /// A request that the actor has taken and not answered.
    token: u64,
    /// Of the actor: ports of memory that it shares with the peer and both have mapped; where it can only read; that is its own; and that it has and not mapped.
    shared: u64,
    read: u64,
    alone: u64,
    unmapped: u64,
    /// A request for shared memory that the actor has taken and not answered.
    share_token: u64,
    /// Of the actor: ports for direct calls to the peer and to itself.
    calls: Port,
    own: Port,
    /// Made and not started; ended and not forgotten.
    newborn: PartitionIndex,
    dead: PartitionIndex,
    /// Confined to colours, for the operations that say so: it is the last of the ring and serves the actor.
    tinted: PartitionIndex,
    /// Made and without memory.
    blank: PartitionIndex,
    /// The tinted one's port to the actor, and a region for that.
    tinted_port: u64,
    tinted_region: u64,
}

impl World {
    fn new(count: usize) -> World {
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
            newborn: nobody,
            dead: nobody,
            tinted: nobody,
            blank: nobody,
            tinted_port: 0,
            tinted_region: 0,
        };
        w.system.set_palette(PALETTE);
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

    fn id(&self, ix: PartitionIndex) -> u64 {
        u64::from(self.system.partition(ix).unwrap().id().get())
    }

    fn partition(&mut self, creator: Option<PartitionIndex>) -> Result<PartitionIndex, Failure> {
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

    fn join(&mut self, client: PartitionIndex, server: PartitionIndex) -> (Port, Port) {
        let id = self.id(server);
        let port = self.system.connect(&mut self.machine, client, id, 1).unwrap();
        let token = self.system.signal_next(server).unwrap().token;
        (port, self.system.accept(&mut self.machine, server, token).unwrap())
    }

    /// A guest's store.
    fn write(&mut self, who: PartitionIndex, at: u64) {
        let span = self.system.translate(&self.machine, who, Ipa::new(at)).unwrap();
        self.machine.write(span.pa, at | 1);
    }

    fn region(&mut self, who: PartitionIndex, size: u64, at: u64) -> RegionHandle {
        let region = self.system.region_create(&mut self.machine, who, size, at).unwrap();
        if at != 0 {
            self.write(who, at);
        }
        region
    }

    fn send(&mut self, who: PartitionIndex, port: Port, region: Option<RegionHandle>) {
        let word = MessageWord::new(port, region, 24);
        self.system.send(&mut self.machine, who, word, &[u64::MAX; 16]).unwrap();
    }

    /// Messages under way in both directions, and regions in all states.
    fn fill(&mut self, number: usize) {
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
    fn equip(&mut self) {
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
    fn share(&mut self) {
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

    fn signal(&mut self, server: PartitionIndex, word: u64) -> u64 {
        loop {
            let signal = self.system.signal_next(server).unwrap();
            if signal.argument == word {
                return signal.token;
            }
        }
    }

    /// Memory for two, mapped by both and written to. → their ports.
    fn join_for(
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
    fn of(name: &str, count: usize) -> World {
        let mut w = World::new(count);
        if name.contains("shared") {
            w.share();
        }
        if name.contains("colours") {
            w.tint();
        }
        w
    }

    fn tint(&mut self) {
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

    /// Direct calls under way: the peer's processor 1 waits for one, its processor 2 has a reply to come from the actor's processor 1, and its processor 3 waits in
    /// the actor's queue with a region.
    fn ring_up(&mut self) {
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
        let word = MessageWord::new(back, None, 8);
        self.system.call(m, VcpuId { partition: peer, index: 2 }, word).unwrap();
        let region = self.region(peer, 64 << 10, WINDOW + 14 * MIB);
        let word = MessageWord::new(back, Some(region), 8);
        let queued = self.system.call(&mut self.machine, VcpuId { partition: peer, index: 3 }, word);
        assert_eq!(queued, Ok(Handed::Queued));
        let number = u64::from(out.get());
        self.system.call_setup(actor, number, FRESH, 0).unwrap();
        self.system.call_setup(peer, u64::from(back.get()), FRESH, 0).unwrap();
    }

    /// The same as [`World::join`] where other requests wait.
    fn join_last(&mut self, client: PartitionIndex, server: PartitionIndex) -> (Port, Port) {
        let id = self.id(server);
        let port = self.system.connect(&mut self.machine, client, id, 9).unwrap();
        let token = self.signal(server, 9);
        (port, self.system.accept(&mut self.machine, server, token).unwrap())
    }

    fn end(&mut self, ix: PartitionIndex) {
        self.system.end(&mut self.machine, ix, EndReason::Stopped, 0);
    }

    fn finish(&mut self, ix: PartitionIndex) {
        while self.system.reap(&mut self.machine, ix) == Progress::Again {}
    }

    fn check(&mut self, rest: bool) {
        let none = PartitionId::new(0);
        let creator = |id: PartitionId| self.creators.get(&id).copied().unwrap_or(none);
        let touched = books::balance(&self.system, &self.machine, SHELL, creator, rest);
        self.machine.touch(touched);
        self.machine.check_tlb();
    }

    /// All that can be seen of it from outside.
    fn state(&self) -> impl PartialEq + std::fmt::Debug + use<> {
        let used = |ix: PartitionIndex| {
            let p = self.system.partition(ix).unwrap();
            let ports: Vec<_> = (0..8).map(|port| self.system.port_status(ix, port)).collect();
            (p.id(), p.phase(), p.accounts().clone(), ports)
        };
        (self.machine.digest(), books::partitions(&self.system).into_iter().map(used).collect::<Vec<_>>())
    }

    fn watch(&mut self) {
        let roots = books::partitions(&self.system).into_iter();
        self.machine.watched = roots.map(|ix| self.system.partition(ix).unwrap().root()).collect();
    }

    /// Ends all that is left, one after the other.
    fn close(mut self) {
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
        assert_eq!((self.machine.allocated_bytes(), self.machine.dirty.len()), (0, 0), "something is left");
        assert!(self.machine.record_frames().is_empty());
        self.machine.check_total();
    }
}

fn held(system: &System, ix: PartitionIndex) -> impl Iterator<Item = u64> {
    Account::ALL.iter().map(move |account| system.partition(ix).unwrap().accounts().used(*account))
}

fn done<T>(result: Result<T, Failure>) -> Outcome {
    result.map(|_| Progress::Done)
}

fn send(w: &mut World, region: u64) -> Outcome {
    let region = RegionHandle::from_register(region).filter(|region| region.get() != 0);
    let word = MessageWord::new(Port::new(w.port as u32), region, 128);
    done(w.system.send(&mut w.machine, w.actor, word, &[7; 16]))
}

fn word(port: Port, region: Option<u64>) -> MessageWord {
    MessageWord::new(port, region.and_then(RegionHandle::from_register), 16)
}

fn call(w: &mut World, port: Port, region: Option<u64>) -> Outcome {
    done(w.system.call(&mut w.machine, VcpuId { partition: w.actor, index: 0 }, word(port, region)))
}

fn forward(w: &mut World, port: Port, region: Option<u64>) -> Outcome {
    done(w.system.forward(&mut w.machine, VcpuId { partition: w.actor, index: 1 }, word(port, region)))
}

fn receive(w: &mut World, port: u64, at: u64) -> Outcome {
    done(w.system.receive(&mut w.machine, w.actor, port, at, &mut [0; 16]))
}

fn create_region(w: &mut World, size: u64, at: u64) -> Outcome {
    done(w.system.region_create(&mut w.machine, w.actor, size, at))
}

const SEND_ONLY: u64 = 2;
const RECEIVE_ONLY: u64 = 4;

/// A request for shared memory of `1 << order` bytes.
fn memory(order: u64, flags: u64) -> u64 {
    order << 56 | (16 | flags) << 32 | 11
}

fn request_memory(w: &mut World, order: u64, flags: u64) -> Outcome {
    let id = w.id(w.peer);
    done(w.system.connect(&mut w.machine, w.actor, id, memory(order, flags)))
}

/// All that the rules do.
const OPERATIONS: &[(&str, Operation)] = &[
    ("create", |w| done(w.partition(Some(w.actor)))),
    ("set_limit", |w| {
        let id = w.system.partition(w.peer).unwrap().id();
        w.system.set_limit(&w.machine, id, Account::Memory as u64, 0).map(|()| Progress::Done)
    }),
    ("add_memory, before the start", |w| {
        done(w.system.add_memory(&mut w.machine, w.newborn, Ipa::new(MEMORY + GIB - 2 * MIB), 6 * MIB))
    }),
    ("add_memory, to one that runs", |w| {
        done(w.system.add_memory(&mut w.machine, w.peer, Ipa::new(MEMORY + GIB - 2 * MIB), 6 * MIB))
    }),
    ("start", |w| done(w.system.start(w.newborn))),
    ("pause", |w| done(w.system.pause(w.peer))),
    ("pause and resume", |w| {
        w.system.pause(w.peer)?;
        done(w.system.resume(w.peer))
    }),
    ("end", |w| {
        w.end(w.peer);
        Ok(Progress::Done)
    }),
    ("reap", |w| {
        w.end(w.peer);
        Ok(w.system.reap(&mut w.machine, w.peer))
    }),
    ("destroy", |w| {
        let id = w.system.partition(w.dead).unwrap().id();
        let shell = w.system.destroy(&mut w.machine, id)?.0;
        w.shells.push(shell);
        Ok(Progress::Done)
    }),
    ("region_create 4 KiB", |w| create_region(w, 4 << 10, 0)),
    ("region_create 64 KiB, mapped", |w| create_region(w, 64 << 10, FRESH)),
    ("region_create 2 MiB, mapped", |w| create_region(w, 2 * MIB, FRESH)),
    ("region_create 8 MiB, mapped", |w| create_region(w, 8 * MIB, FRESH)),
    ("region_destroy", |w| w.system.region_destroy(&mut w.machine, w.actor, w.mapped)),
    ("region_map", |w| done(w.system.region_map(&mut w.machine, w.actor, w.loose, FRESH))),
    ("region_unmap", |w| done(w.system.region_unmap(&mut w.machine, w.actor, w.mapped))),
    ("region_info", |w| done(w.system.region_info(w.actor, w.mapped))),
    ("connect", |w| {
        let id = w.id(w.peer);
        done(w.system.connect(&mut w.machine, w.actor, id, 5))
    }),
    ("accept", |w| done(w.system.accept(&mut w.machine, w.actor, w.token))),
    ("refuse", |w| done(w.system.refuse(&mut w.machine, w.actor, w.token, 4))),
    ("disconnect", |w| w.system.disconnect(&mut w.machine, w.actor, w.crowded)),
    ("port_status", |w| done(w.system.port_status(w.actor, w.port))),
    ("send", |w| send(w, 0)),
    ("send a region", |w| send(w, w.mapped)),
    ("send a region that is not mapped", |w| send(w, w.loose)),
    ("receive a region", |w| receive(w, w.crowded, 0)),
    ("receive a region, mapped", |w| receive(w, w.crowded, FRESH)),
    ("receive", |w| {
        // The message behind the regions.
        (0..3).try_for_each(|_| receive(w, w.crowded, 0).map(|_| ())).and_then(|()| receive(w, w.crowded, 0))
    }),
    ("event_next", |w| done(w.system.event_next(w.actor))),
    ("event_send", |w| done(w.system.event_send(&mut w.machine, w.actor, w.port))),
    ("signal_next", |w| done(w.system.signal_next(w.actor))),
    ("call that is taken", |w| call(w, w.calls, None)),
    ("call that is taken, with a region", |w| call(w, w.calls, Some(w.mapped))),
    ("call that is queued", |w| call(w, w.own, None)),
    ("call that is queued, with a region", |w| call(w, w.own, Some(w.mapped))),
    ("call_setup", |w| done(w.system.call_setup(w.actor, u64::from(w.calls.get()), FRESH, 5))),
    ("call_wait", |w| done(w.system.call_wait(&mut w.machine, VcpuId { partition: w.actor, index: 0 }))),
    ("call_expired", |w| {
        w.system.call_expired(&mut w.machine, VcpuId { partition: w.peer, index: 3 });
        Ok(Progress::Done)
    }),
    ("reply", |w| {
        done(w.system.reply(
            &mut w.machine,
            VcpuId { partition: w.actor, index: 1 },
            word(Port::CONTROL, None),
        ))
    }),
    ("reply with a region", |w| {
        done(w.system.reply(
            &mut w.machine,
            VcpuId { partition: w.actor, index: 1 },
            word(Port::CONTROL, Some(w.mapped)),
        ))
    }),
    ("reply_and_wait", |w| {
        done(w.system.reply_and_wait(
            &mut w.machine,
            VcpuId { partition: w.actor, index: 1 },
            word(Port::CONTROL, Some(w.loose)),
        ))
    }),
    ("forward that is taken", |w| forward(w, w.calls, None)),
    ("forward that is taken, with a region", |w| forward(w, w.calls, Some(w.mapped))),
    ("forward that is queued, with a region", |w| forward(w, w.own, Some(w.mapped))),
    ("vcpu_off", |w| {
        w.system.vcpu_off(&mut w.machine, VcpuId { partition: w.actor, index: 1 });
        Ok(Progress::Done)
    }),
    ("memory_add", |w| done(w.system.memory_add(&mut w.machine, w.actor, MEMORY + GIB - 2 * MIB, 6 * MIB))),
    ("memory_remove", |w| w.system.memory_remove(&mut w.machine, w.actor, MEMORY, 2 * MIB)),
    ("set_colours", |w| {
        let id = w.system.partition(w.blank).unwrap().id();
        done(w.system.set_colours(&mut w.machine, id, 0xf0, 0x300))
    }),
    ("add_memory, of colours", |w| {
        done(w.system.add_memory(&mut w.machine, w.tinted, Ipa::new(MEMORY + GIB), 2 * MIB))
    }),
    ("memory_remove, of colours", |w| w.system.memory_remove(&mut w.machine, w.tinted, MEMORY, 2 * MIB)),
    ("region_create 2 MiB, of colours", |w| {
        done(w.system.region_create(&mut w.machine, w.tinted, 2 * MIB, FRESH))
    }),
    ("region_create for a channel, of colours", |w| {
        let size = w.tinted_port << 32 | 64 << 10;
        done(w.system.region_create(&mut w.machine, w.tinted, size, FRESH))
    }),
    ("send a region, of colours", |w| {
        let region = RegionHandle::from_register(w.tinted_region);
        let word = MessageWord::new(Port::new(w.tinted_port as u32), region, 128);
        done(w.system.send(&mut w.machine, w.tinted, word, &[7; 16]))
    }),
    ("connect for shared memory", |w| request_memory(w, 15, 0)),
    ("connect for shared memory to read", |w| request_memory(w, 15, RECEIVE_ONLY)),
    ("connect for shared memory, of colours", |w| {
        let id = w.id(w.actor);
        done(w.system.connect(&mut w.machine, w.tinted, id, memory(14, RECEIVE_ONLY)))
    }),
    ("accept shared memory to read", |w| done(w.system.accept(&mut w.machine, w.actor, w.share_token))),
    ("refuse shared memory", |w| done(w.system.refuse(&mut w.machine, w.actor, w.share_token, 4))),
    ("shared_map", |w| done(w.system.shared_map(&mut w.machine, w.actor, w.unmapped, FRESH))),
    ("shared_unmap", |w| done(w.system.shared_unmap(&mut w.machine, w.actor, w.shared))),
    ("shared_info", |w| done(w.system.shared_info(w.actor, w.shared))),
    ("disconnect from shared memory", |w| w.system.disconnect(&mut w.machine, w.actor, w.shared)),
    ("disconnect from shared memory to read", |w| w.system.disconnect(&mut w.machine, w.actor, w.read)),
    ("disconnect from shared memory alone", |w| w.system.disconnect(&mut w.machine, w.actor, w.alone)),
    ("stolen_time_page", |w| done(w.system.stolen_time_page(&mut w.machine, w.actor))),
    ("stolen_time_page, of colours", |w| done(w.system.stolen_time_page(&mut w.machine, w.tinted))),
    ("memory_info", |w| done(w.system.memory_info(&w.machine, w.actor, MEMORY))),
];

/// How many boundaries of each kind were driven.
#[derive(Clone, Copy, Debug, Default)]
struct Driven {
    calls: u64,
    allocations: u32,
    steps: u32,
    kills: u64,
    double_kills: u64,
}

/// Runs an operation to its end, all trees being watched. → what boundaries it has.
fn measure(name: &str, count: usize, operation: Operation) -> Driven {
    let mut w = World::of(name, count);
    w.check(true);
    w.watch();
    (w.machine.calls, w.machine.allocations) = (0, 0);
    let mut steps = 1;
    while operation(&mut w).unwrap() == Progress::Again {
        steps += 1;
    }
    let driven =
        Driven { calls: w.machine.calls, allocations: w.machine.allocations, steps, ..Driven::default() };
    w.machine.watched.clear();
    w.check(true);
    w.close();
    driven
}

/// Makes an operation's allocation number `nth` fail: it fails, and has done nothing. Then `victim` is killed.
fn starve(name: &str, count: usize, operation: Operation, nth: u32, victim: usize) {
    let mut w = World::of(name, count);
    w.watch();
    let before = w.state();
    w.machine.allowance = Some(nth);
    match operation(&mut w) {
        Err(failure) => {
            assert_eq!(failure.error, Error::NoMemory, "{name}, allocation {nth}");
            assert!(before == w.state(), "{name}, allocation {nth}: it failed and changed something");
        }
        // Its first half is done, and its second has to be asked for again.
        Ok(_) => assert_eq!(name, "reply_and_wait"),
    }
    w.machine.allowance = None;
    let victim = w.ring[victim];
    w.end(victim);
    w.finish(victim);
    w.machine.watched.clear();
    w.check(true);
    w.close();
}

/// Takes so many steps of an operation. → whether it is over.
fn advance(w: &mut World, operation: Operation, steps: u32) -> bool {
    for _ in 0..steps {
        match operation(w) {
            Ok(Progress::Again) => {}
            Ok(Progress::Done) => return true,
            Err(failure) => panic!("{failure:?}"),
        }
    }
    false
}

/// One step more of what may have been cut off: who has ended makes no call, and what was there may be gone.
fn go_on(w: &mut World, operation: Operation, over: &mut bool) {
    if !*over {
        match operation(w) {
            Ok(Progress::Again) => {}
            Ok(Progress::Done) => *over = true,
            Err(failure) => {
                let expected = [Error::WrongState, Error::BadHandle, Error::PeerClosed, Error::NotConnected];
                assert!(expected.contains(&failure.error), "{failure:?}");
                *over = true;
            }
        }
    }
}

/// Kills `victim` after `steps` steps of an operation, which then goes on if it can, between the steps of the victim's end. → how many those are.
fn kill(name: &str, count: usize, operation: Operation, steps: u32, victim: usize) -> u32 {
    let mut w = World::of(name, count);
    // More partitions do not make other boundaries inside a step, and the trees of colours are large.
    if count == 3 && w.blank == w.tinted {
        w.watch();
    }
    let mut over = advance(&mut w, operation, steps);
    let victim = w.ring[victim];
    w.end(victim);
    w.check(false);
    let mut reaped = 1;
    while w.system.reap(&mut w.machine, victim) == Progress::Again {
        reaped += 1;
        go_on(&mut w, operation, &mut over);
    }
    while !over {
        go_on(&mut w, operation, &mut over);
    }
    w.machine.watched.clear();
    w.check(true);
    assert_eq!(w.system.partition(victim).unwrap().phase(), Phase::Terminated);
    w.close();
    reaped
}

/// Kills `first` after `steps` steps of an operation, and `second` after `reaped` steps of that end; then both ends go on by turns.
fn kill_twice(
    name: &str,
    operation: Operation,
    count: usize,
    steps: u32,
    [first, second]: [usize; 2],
    reaped: u32,
) {
    let mut w = World::of(name, count);
    let mut over = advance(&mut w, operation, steps);
    let (first, second) = (w.ring[first], w.ring[second]);
    w.end(first);
    for _ in 0..reaped {
        let _: Progress = w.system.reap(&mut w.machine, first);
    }
    w.end(second);
    w.check(false);
    loop {
        let progress = [first, second].map(|victim| w.system.reap(&mut w.machine, victim));
        go_on(&mut w, operation, &mut over);
        if progress == [Progress::Done; 2] {
            break;
        }
    }
    while !over {
        go_on(&mut w, operation, &mut over);
    }
    w.machine.watched.clear();
    w.check(true);
    w.close();
}

/// All numbers below `end`, or, of very many alike, the first and last ones and some between.
fn some(end: u32, few: bool) -> impl Iterator<Item = u32> {
    (0..end).filter(move |number| !few || *number < 4 || *number + 3 > end || number.is_multiple_of(101))
}

#[test]
#[cfg_attr(miri, ignore = "takes hours")]
fn every_boundary_of_every_operation_among_two_to_eight_partitions() {
    let mut driven = BTreeMap::<&str, Driven>::new();
    for count in 2..=8 {
        let of_colours = |name: &str| name.contains("colours");
        let (actor, peer) = (count / 2, (count / 2 + 1) % count);
        // What is made page by page has hundreds of boundaries alike.
        for &(name, operation) in OPERATIONS.iter().filter(|(name, _)| count < 4 || !of_colours(name)) {
            let has = measure(name, count, operation);
            let colours = of_colours(name);
            let sum = driven.entry(name).or_default();
            sum.calls += has.calls;
            for nth in some(has.allocations, colours) {
                for victim in [actor, peer] {
                    starve(name, count, operation, nth, victim);
                    sum.allocations += 1;
                }
            }
            for steps in some(has.steps + 1, colours) {
                // Beside these two all are alike, but for the one that made them.
                let mut victims = vec![actor, peer, 0, (peer + 1) % count];
                if colours {
                    victims.push(count);
                }
                victims.sort();
                victims.dedup();
                for victim in victims {
                    kill(name, count, operation, steps, victim);
                    sum.kills += 1;
                }
                sum.steps += 1;
            }
        }
    }
    for (name, driven) in &driven {
        println!("{name}: {driven:?}");
        let worlds = if name.contains("colours") { 2 } else { 7 };
        assert!(driven.steps >= 2 * worlds && driven.kills >= 3 * u64::from(worlds), "{name}: {driven:?}");
    }
    let total = |of: fn(&Driven) -> u64| driven.values().map(of).sum::<u64>();
    assert_eq!(driven.len(), OPERATIONS.len());
    assert!(total(|driven| driven.calls) > 1000 && total(|driven| u64::from(driven.allocations)) > 300);
}

#[test]
#[cfg_attr(miri, ignore = "takes hours")]
fn every_step_of_an_end_is_a_boundary_for_another_end() {
    let count = 3;
    let (actor, peer) = (count / 2, (count / 2 + 1) % count);
    let mut driven = Driven::default();
    for &(name, operation) in OPERATIONS.iter().filter(|(name, _)| !name.contains("colours")) {
        let has = measure(name, count, operation);
        // Before the first step, after the first, and after the last; what lies between is the same operation cut elsewhere.
        let mut cuts = vec![0, 1, has.steps];
        cuts.dedup();
        for steps in cuts {
            for victims in [[actor, peer], [peer, actor]] {
                let end = kill(name, count, operation, steps, victims[0]);
                for reaped in 0..=end {
                    kill_twice(name, operation, count, steps, victims, reaped);
                    driven.double_kills += 1;
                }
            }
        }
    }
    assert!(driven.double_kills > 2000, "{driven:?}");
}
