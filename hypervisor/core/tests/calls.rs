//! Direct calls against a naive model: who waits for whom, in plain maps. After each step nobody may wait for ever for somebody who waits for ever.

mod machine;

use std::collections::{BTreeMap, BTreeSet};

use handover_abi::{Account, EndReason, Error, MessageWord, Name, Port, RegionHandle, layout};
use handover_core::{
    Delivered, Failure, Handed, PAGE, Partition, PartitionIndex, Phase, Progress, System, VcpuId, Waited,
};
use machine::{Model, Random};

const PROCESSORS: u8 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Off,
    Free,
    Waiting,
    /// In the queue of this partition, having come to this port of it.
    Queued(PartitionIndex, Port),
    /// By this processor.
    Served(VcpuId),
}

/// A channel as the client sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Channel {
    client: (PartitionIndex, Port),
    server: (PartitionIndex, Port),
}

/// What a caller lends until its call is over.
#[derive(Clone, Copy)]
struct Loan {
    region: RegionHandle,
    /// Where it is mapped, or was and will be.
    at: u64,
    /// Who has it, and under which name.
    view: Option<(PartitionIndex, RegionHandle)>,
    /// It waits with the call: whoever takes that gets it.
    offered: bool,
}

#[derive(Default)]
struct Naive {
    roles: BTreeMap<VcpuId, Role>,
    /// Server to caller.
    claims: BTreeMap<VcpuId, VcpuId>,
    queues: BTreeMap<PartitionIndex, Vec<VcpuId>>,
    /// Through which of its ports a blocked one called, and with which region.
    through: BTreeMap<VcpuId, (Port, Option<RegionHandle>)>,
    regions: BTreeMap<PartitionIndex, BTreeSet<u32>>,
    /// Where regions that come through a port are mapped, and how long its calls wait.
    setups: BTreeMap<(PartitionIndex, Port), (u64, u64)>,
    loans: BTreeMap<VcpuId, Loan>,
    /// Views that nobody gave back: zeroes may be there.
    left: Vec<(PartitionIndex, RegionHandle)>,
}

impl Naive {
    fn blocked(&self, id: VcpuId) -> bool {
        matches!(self.roles[&id], Role::Queued(..) | Role::Served(_))
    }

    /// Who can get on sooner or later, found by growing the set until it grows no more.
    fn live(&self) -> BTreeSet<VcpuId> {
        let mut live = BTreeSet::new();
        loop {
            let before = live.len();
            for (&id, role) in &self.roles {
                let alive = match *role {
                    Role::Off => false,
                    Role::Free | Role::Waiting => true,
                    Role::Queued(server, _) => live.iter().any(|other: &VcpuId| other.partition == server),
                    Role::Served(holder) => live.contains(&holder),
                };
                if alive {
                    live.insert(id);
                }
            }
            if live.len() == before {
                return live;
            }
        }
    }

    /// Everyone who is blocked and cannot get on.
    fn stuck(&self) -> Vec<VcpuId> {
        let live = self.live();
        self.roles.keys().copied().filter(|id| self.blocked(*id) && !live.contains(id)).collect()
    }

    fn waiting(&self, partition: PartitionIndex) -> Option<VcpuId> {
        let mut found =
            self.roles.iter().filter(|(id, role)| id.partition == partition && **role == Role::Waiting);
        found.next().map(|(id, _)| *id)
    }

    /// Takes a call back. → the region that comes back with it.
    fn withdraw(&mut self, caller: VcpuId) -> Option<RegionHandle> {
        let (_, region) = self.through.remove(&caller)?;
        if let Some(loan) = self.loans.remove(&caller) {
            self.regions.get_mut(&caller.partition).unwrap().insert(loan.region.get());
            self.left.extend(loan.view);
        }
        let queued = matches!(self.roles[&caller], Role::Queued(..));
        for queue in self.queues.values_mut() {
            queue.retain(|queued| *queued != caller);
        }
        self.claims.retain(|_, claimed| *claimed != caller);
        self.roles.insert(caller, Role::Free);
        region.filter(|_| queued).inspect(|region| {
            self.regions.get_mut(&caller.partition).unwrap().insert(region.get());
        })
    }

    fn serve(&mut self, caller: VcpuId, server: VcpuId) {
        self.roles.insert(caller, Role::Served(server));
        self.roles.insert(server, Role::Free);
        self.claims.insert(server, caller);
    }
}

struct World {
    system: System,
    machine: Model,
    naive: Naive,
    channels: Vec<Channel>,
    partitions: Vec<PartitionIndex>,
    /// What the calls that ended since the last look should have been told.
    expected: Vec<(VcpuId, Error, Option<RegionHandle>)>,
    random: Random,
    seen: BTreeMap<&'static str, u32>,
}

impl World {
    fn new(seed: u64, count: usize) -> World {
        let mut world = World {
            system: System::new(),
            machine: Model::new(64, true),
            naive: Naive::default(),
            channels: Vec::new(),
            partitions: Vec::new(),
            expected: Vec::new(),
            random: Random::new(seed),
            seen: BTreeMap::new(),
        };
        world.system.prepare_lending(&mut world.machine).unwrap();
        for _ in 0..count {
            let shell = Box::leak(Box::new(Partition::new()));
            let name = Name::new("party").unwrap();
            let id =
                world.system.create(&mut world.machine, None, name, u32::from(PROCESSORS), shell, 2 * PAGE);
            let id = id.map_err(|(failure, _)| failure).unwrap();
            for &account in Account::ALL {
                world.system.set_limit(&world.machine, id, account as u64, u64::MAX).unwrap();
            }
            let partition = world.system.find(id).unwrap();
            world.system.start(partition).unwrap();
            world.naive.queues.insert(partition, Vec::new());
            world.naive.regions.insert(partition, BTreeSet::new());
            for index in 0..PROCESSORS {
                world.naive.roles.insert(VcpuId { partition, index }, Role::Off);
            }
            world.switch(VcpuId { partition, index: 0 }, true);
            world.partitions.push(partition);
        }
        for client in world.partitions.clone() {
            for server in world.partitions.clone() {
                world.join(client, server);
            }
        }
        world
    }

    fn join(&mut self, client: PartitionIndex, server: PartitionIndex) {
        let id = u64::from(self.system.partition(server).unwrap().id().get());
        let port = self.system.connect(&mut self.machine, client, id, 1).unwrap();
        let token = self.system.signal_next(server).unwrap().token;
        let theirs = self.system.accept(&mut self.machine, server, token).unwrap();
        self.channels.push(Channel { client: (client, port), server: (server, theirs) });
        if self.random.chance(2) {
            let landing = layout::WINDOW_BASE + (self.random.below(64) as u64) * layout::WINDOW_SLOT;
            self.system.call_setup(server, u64::from(theirs.get()), landing, 0).unwrap();
            self.naive.setups.insert((server, theirs), (landing, 0));
        }
    }

    fn switch(&mut self, id: VcpuId, on: bool) {
        if on {
            self.system.vcpu_on(id);
            self.naive.roles.insert(id, Role::Free);
            return;
        }
        self.system.vcpu_off(&mut self.machine, id);
        if let Some(caller) = self.naive.claims.get(&id).copied() {
            self.fails(caller, Error::PeerClosed);
        }
        self.naive.roles.insert(id, Role::Off);
        for caller in self.naive.stuck() {
            // Those who are stuck only because of others get on once these have failed.
            if matches!(self.naive.roles[&caller], Role::Queued(server, _) if server == id.partition) {
                self.fails(caller, Error::Deadlock);
            }
        }
    }

    fn fails(&mut self, caller: VcpuId, error: Error) {
        let region = self.naive.withdraw(caller);
        self.expected.push((caller, error, region));
    }

    fn count(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    fn ready(&mut self) -> Option<VcpuId> {
        let ready: Vec<_> =
            self.naive.roles.iter().filter(|(_, role)| **role == Role::Free).map(|(id, _)| *id).collect();
        self.random.pick(&ready)
    }

    /// A region of the partition's to send along, sometimes.
    fn region(&mut self, partition: PartitionIndex) -> Option<RegionHandle> {
        if !self.random.chance(3) {
            return None;
        }
        let held: Vec<u32> = self.naive.regions[&partition].iter().copied().collect();
        if held.is_empty() || self.random.chance(2) {
            let at = if self.random.chance(2) {
                0
            } else {
                layout::WINDOW_BASE + (self.random.below(64) as u64) * layout::WINDOW_SLOT
            };
            let made = self.system.region_create(&mut self.machine, partition, 4096, at).ok()?;
            self.naive.regions.get_mut(&partition).unwrap().insert(made.get());
            return Some(made);
        }
        self.random.pick(&held).map(RegionHandle::new)
    }

    fn word(&mut self, port: Port, region: Option<RegionHandle>) -> MessageWord {
        MessageWord::new(port, region, self.random.below(129) as u8)
    }

    /// What a receiver is told must be what was sent; the region changes hands.
    fn arrives(
        &mut self,
        sent: MessageWord,
        from: PartitionIndex,
        got: MessageWord,
        to: (PartitionIndex, Port),
    ) {
        assert_eq!((got.port(), got.length()), (to.1, sent.length()));
        assert_eq!(got.region().is_some(), sent.region().is_some());
        if let (Some(sent), Some(got)) = (sent.region(), got.region()) {
            self.naive.regions.get_mut(&from).unwrap().remove(&sent.get());
            let place = |region: u32| self.system.region_info(to.0, u64::from(region)).unwrap().1;
            let landing = self.naive.setups.get(&to).map_or(0, |setup| setup.0);
            let mut taken = self.naive.regions[&to.0].iter().any(|other| place(*other) == landing);
            for (lender, loan) in &self.naive.loans {
                taken |= lender.partition == to.0 && loan.at == landing;
                let theirs = loan.view.filter(|(partition, _)| *partition == to.0);
                taken |= theirs.is_some_and(|(_, view)| self.info(to.0, view) == Ok((4096, landing)));
            }
            let found = place(got.get());
            // What a partition hands to itself may still be where it is to land.
            let may_stay_out = taken || from == to.0;
            assert!(found == landing && !taken || found == 0 && may_stay_out, "it landed at {found:#x}");
            self.naive.regions.get_mut(&to.0).unwrap().insert(got.get());
            self.count(if found == 0 { "region passed" } else { "region landed" });
        }
    }

    fn channel(&mut self, client: PartitionIndex) -> Option<Channel> {
        let own: Vec<_> =
            self.channels.iter().copied().filter(|channel| channel.client.0 == client).collect();
        self.random.pick(&own)
    }

    /// A port is prepared for calls, or is not.
    fn setup(&mut self) {
        let Some(channel) = self.random.pick(&self.channels) else { return };
        let (partition, port) = if self.random.chance(2) { channel.client } else { channel.server };
        let slot = layout::WINDOW_BASE + (self.random.below(64) as u64) * layout::WINDOW_SLOT;
        let (landing, patience) =
            (self.random.pick(&[0, slot, slot, slot + PAGE, PAGE << 9]).unwrap(), self.random.next());
        let result = self.system.call_setup(partition, u64::from(port.get()), landing, patience);
        let expected = match landing {
            landing if !landing.is_multiple_of(layout::WINDOW_SLOT) => Err(Error::InvalidArgument.into()),
            landing if landing != 0 && landing != slot => Err(Error::BadAddress.into()),
            _ => Ok(()),
        };
        assert_eq!(result, expected);
        if result.is_ok() {
            self.naive.setups.insert((partition, port), (landing, patience));
            self.count("setup");
        }
    }

    fn call(&mut self, caller: VcpuId) {
        let Some(channel) = self.channel(caller.partition) else { return };
        let region = self.region(caller.partition);
        let lent = region.filter(|_| self.random.chance(2));
        let at = lent.map_or(0, |region| self.info(caller.partition, region).unwrap().1);
        let word = self.word(channel.client.1, region);
        let word = match lent {
            Some(_) if self.random.chance(3) => word.lent().kept(),
            Some(_) => word.lent(),
            None => word,
        };
        let setup = self.naive.setups.get(&channel.client).map_or(0, |setup| setup.1);
        let result = if lent.is_some() {
            self.system.call(&mut self.machine, caller, word)
        } else {
            self.system.call_within(&mut self.machine, caller, word).map(|(handed, patience)| {
                assert_eq!(patience, setup);
                handed
            })
        };
        if let Some(server) = self.naive.waiting(channel.server.0) {
            let Ok(Handed::To(to, got)) = result else { panic!("{server:?} waits, but {result:?}") };
            assert_eq!(to, server);
            assert_eq!(got.is_lent(), lent.is_some());
            match lent {
                Some(region) => {
                    self.lends(caller, region, at, Some((server.partition, got.region().unwrap())))
                }
                None => self.arrives(word, caller.partition, got, channel.server),
            }
            self.naive.through.insert(caller, (channel.client.1, None));
            self.naive.serve(caller, server);
            self.count("call taken at once");
            return;
        }
        self.naive.roles.insert(caller, Role::Queued(channel.server.0, channel.server.1));
        if self.naive.live().contains(&caller) {
            assert_eq!(result, Ok(Handed::Queued));
            self.naive.queues.get_mut(&channel.server.0).unwrap().push(caller);
            self.naive.through.insert(caller, (channel.client.1, region.filter(|_| lent.is_none())));
            if let Some(region) = lent {
                self.lends(caller, region, at, None);
            } else if let Some(region) = region {
                self.naive.regions.get_mut(&caller.partition).unwrap().remove(&region.get());
                assert!(self.system.region_info(caller.partition, u64::from(region.get())).is_err());
            }
            self.count("call queued");
        } else {
            assert_eq!(result, Err(Error::Deadlock.into()));
            self.naive.roles.insert(caller, Role::Free);
            self.count("deadlock");
        }
    }

    fn info(&self, of: PartitionIndex, region: RegionHandle) -> Result<(u64, u64), Failure> {
        self.system.region_info(of, u64::from(region.get()))
    }

    fn lends(
        &mut self,
        caller: VcpuId,
        region: RegionHandle,
        at: u64,
        view: Option<(PartitionIndex, RegionHandle)>,
    ) {
        self.naive.regions.get_mut(&caller.partition).unwrap().remove(&region.get());
        self.naive.loans.insert(caller, Loan { region, at, view, offered: view.is_none() });
        self.count("lent");
    }

    /// What has been lent to this processor, to be passed on, sometimes.
    fn borrowed(&mut self, server: VcpuId) -> Option<RegionHandle> {
        let caller = self.naive.claims.get(&server)?;
        let view = self.naive.loans.get(caller)?.view?.1;
        self.random.chance(2).then_some(view)
    }

    fn forward(&mut self, server: VcpuId) {
        let Some(channel) = self.channel(server.partition) else { return };
        let borrowed = self.borrowed(server);
        let region = if borrowed.is_some() { None } else { self.region(server.partition) };
        let word = self.word(channel.client.1, borrowed.or(region));
        let result = self.system.forward(&mut self.machine, server, word);
        let Some(caller) = self.naive.claims.get(&server).copied() else {
            return assert_eq!(result, Err(Error::BadHandle.into()));
        };
        if let Some(next) = self.naive.waiting(channel.server.0) {
            let Ok((who, Handed::To(to, got))) = result else { panic!("{next:?} waits, but {result:?}") };
            assert_eq!((who, to), (caller, next));
            assert_eq!(got.is_lent(), borrowed.is_some());
            let passed = got.region().filter(|_| got.is_lent()).map(|view| (next.partition, view));
            if borrowed.is_none() {
                self.arrives(word, server.partition, got, channel.server);
            } else {
                self.count("passed on what was lent");
            }
            if let Some(loan) = self.naive.loans.get_mut(&caller) {
                loan.view = passed;
            }
            self.naive.claims.remove(&server);
            self.naive.serve(caller, next);
            self.count("forward taken at once");
            return;
        }
        let held = self.naive.roles.insert(caller, Role::Queued(channel.server.0, channel.server.1)).unwrap();
        if self.naive.live().contains(&caller) {
            assert_eq!(result, Ok((caller, Handed::Queued)));
            if let Some(loan) = self.naive.loans.get_mut(&caller) {
                (loan.view, loan.offered) = (None, borrowed.is_some());
            }
            self.naive.claims.remove(&server);
            self.naive.queues.get_mut(&channel.server.0).unwrap().push(caller);
            let port = self.naive.through[&caller].0;
            let mut waits = None;
            if let Some(region) = region {
                // It is the caller's now, under a name that nobody knows until the call fails.
                self.naive.regions.get_mut(&server.partition).unwrap().remove(&region.get());
                waits = Some(RegionHandle::new(0));
                self.count("region forwarded to a queue");
            }
            self.naive.through.insert(caller, (port, waits));
            self.count("forward queued");
        } else {
            assert_eq!(result, Err(Error::Deadlock.into()));
            self.naive.roles.insert(caller, held);
            self.count("forward into a ring");
        }
    }

    fn taken(&mut self, server: VcpuId, waited: Waited) {
        let queue = self.naive.queues.get_mut(&server.partition).unwrap();
        if queue.is_empty() {
            assert_eq!(waited, Waited::Waiting);
            self.naive.roles.insert(server, Role::Waiting);
            return;
        }
        let caller = queue.remove(0);
        let Waited::Call(Delivered { caller: got, word }) = waited else { panic!("{waited:?}") };
        let Role::Queued(_, port) = self.naive.roles[&caller] else { panic!("in a queue, but not queued") };
        assert_eq!((got, word.port()), (caller, port));
        let through = self.naive.through.get_mut(&caller).unwrap();
        let moved = through.1.take().is_some();
        let loan = self.naive.loans.get_mut(&caller).filter(|loan| loan.offered);
        assert_eq!((moved, loan.is_some()), (word.region().is_some() && !word.is_lent(), word.is_lent()));
        if let Some(loan) = loan {
            (loan.view, loan.offered) = (word.region().map(|view| (server.partition, view)), false);
            self.count("lent out of a queue");
        } else if let Some(region) = word.region() {
            self.naive.regions.get_mut(&server.partition).unwrap().insert(region.get());
            self.count("region taken from a queue");
        }
        self.naive.serve(caller, server);
        self.count("call taken from a queue");
    }

    fn wait(&mut self, server: VcpuId) {
        let result = self.system.call_wait(&mut self.machine, server);
        if self.naive.claims.contains_key(&server) {
            return assert_eq!(result, Err(Error::WrongState.into()));
        }
        self.taken(server, result.unwrap());
    }

    fn reply(&mut self, server: VcpuId, wait: bool) {
        let region = self.region(server.partition);
        let word = self.word(Port::new(0), region);
        let result = match wait {
            false => self.system.reply(&mut self.machine, server, word).map(|delivered| (delivered, None)),
            true => {
                let result = self.system.reply_and_wait(&mut self.machine, server, word);
                result.map(|(delivered, waited)| (delivered, Some(waited)))
            }
        };
        let Some(caller) = self.naive.claims.remove(&server) else {
            return assert_eq!(result, Err(Error::BadHandle.into()));
        };
        let (delivered, waited) = result.unwrap();
        assert_eq!(delivered.caller, caller);
        let (port, _) = self.naive.through.remove(&caller).unwrap();
        // The reply's region comes before what was lent goes.
        let loan = self.naive.loans.get(&caller).copied();
        self.arrives(word, server.partition, delivered.word, (caller.partition, port));
        if let Some(loan) = loan {
            self.naive.loans.remove(&caller);
            self.naive.regions.get_mut(&caller.partition).unwrap().insert(loan.region.get());
            self.count("loan given back");
        }
        self.naive.roles.insert(caller, Role::Free);
        self.count("reply");
        if let Some(waited) = waited {
            self.taken(server, waited);
        }
    }

    fn close(&mut self) {
        let at = self.random.below(self.channels.len());
        let channel = self.channels.swap_remove(at);
        let ((partition, port), others) = match self.random.chance(2) {
            true => (channel.client, Some(channel.server)),
            false => (channel.server, None),
        };
        while self.system.disconnect(&mut self.machine, partition, u64::from(port.get())).unwrap()
            == Progress::Again
        {}
        let blocked: Vec<_> = self.naive.through.iter().map(|(id, (port, _))| (*id, *port)).collect();
        for (caller, through) in blocked {
            let own = caller.partition == partition && through == port;
            if own || self.naive.roles[&caller] == Role::Queued(partition, port) {
                self.fails(caller, Error::PeerClosed);
            }
        }
        // The other end can still be named, and goes too.
        let (partition, port) = others.unwrap_or(channel.client);
        while self.system.disconnect(&mut self.machine, partition, u64::from(port.get())).unwrap()
            == Progress::Again
        {}
        let blocked: Vec<_> = self.naive.through.iter().map(|(id, (port, _))| (*id, *port)).collect();
        for (caller, through) in blocked {
            let own = caller.partition == partition && through == port;
            if own || self.naive.roles[&caller] == Role::Queued(partition, port) {
                self.fails(caller, Error::PeerClosed);
            }
        }
        for end in [channel.client, channel.server] {
            self.naive.setups.remove(&end);
        }
        self.count("channel closed");
        // So that there is always one to choose from.
        self.join(channel.client.0, channel.server.0);
    }

    fn end(&mut self) {
        let at = self.random.below(self.partitions.len());
        let partition = self.partitions.swap_remove(at);
        self.system.end(&mut self.machine, partition, EndReason::Stopped, 0);
        let own: Vec<_> = self.naive.roles.keys().copied().filter(|id| id.partition == partition).collect();
        for &id in &own {
            let _gone = self.naive.withdraw(id);
        }
        for &id in &own {
            if let Some(caller) = self.naive.claims.get(&id).copied() {
                self.fails(caller, Error::PeerClosed);
            }
            self.naive.roles.remove(&id);
        }
        while self.system.reap(&mut self.machine, partition) == Progress::Again {}
        assert_eq!(self.system.partition(partition).unwrap().phase(), Phase::Terminated);
        for caller in self.naive.queues.remove(&partition).unwrap() {
            self.fails(caller, Error::PeerClosed);
        }
        self.naive.regions.remove(&partition);
        // What was joined to it is severed; the others forget their ports.
        let (gone, kept) = self
            .channels
            .drain(..)
            .partition(|channel| channel.client.0 == partition || channel.server.0 == partition);
        self.channels = kept;
        let gone: Vec<Channel> = gone;
        for (owner, port) in gone.iter().flat_map(|channel| [channel.client, channel.server]) {
            if owner != partition {
                let number = u64::from(port.get());
                while self.system.disconnect(&mut self.machine, owner, number).unwrap() == Progress::Again {}
                let blocked: Vec<_> = self.naive.through.iter().map(|(id, (port, _))| (*id, *port)).collect();
                for (caller, through) in blocked {
                    let own = caller.partition == owner && through == port;
                    if own || self.naive.roles[&caller] == Role::Queued(owner, port) {
                        self.fails(caller, Error::PeerClosed);
                    }
                }
            }
        }
        let id = self.system.partition(partition).unwrap().id();
        self.system.destroy(&mut self.machine, id).unwrap();
        self.count("partition ended");
    }

    fn step(&mut self) {
        match self.random.below(40) {
            0 if self.random.chance(2) => self.setup(),
            0 => self.close(),
            1 => {
                let all: Vec<_> = self.naive.roles.iter().map(|(id, role)| (*id, *role)).collect();
                match self.random.pick(&all) {
                    Some((id, Role::Off)) => self.switch(id, true),
                    // Only a processor that runs can switch itself off.
                    Some((id, Role::Free)) => self.switch(id, false),
                    _ => {}
                }
            }
            2 => {
                let blocked: Vec<_> = self.naive.through.keys().copied().collect();
                if let Some(caller) = self.random.pick(&blocked) {
                    self.system.call_expired(&mut self.machine, caller);
                    self.fails(caller, Error::TimedOut);
                    self.count("timed out");
                }
            }
            3 => {
                let waiting: Vec<_> = self
                    .naive
                    .roles
                    .iter()
                    .filter(|(_, role)| **role == Role::Waiting)
                    .map(|(id, _)| *id)
                    .collect();
                if let Some(server) = self.random.pick(&waiting) {
                    assert!(self.system.call_interrupted(server));
                    self.naive.roles.insert(server, Role::Free);
                }
            }
            4 if self.partitions.len() > 2 && self.random.chance(8) => self.end(),
            5..=16 => self.on_ready(World::call),
            17..=24 => self.on_ready(World::wait),
            25..=29 => self.on_ready(World::forward),
            30..=33 => self.on_ready(|world, id| world.reply(id, false)),
            _ => self.on_ready(|world, id| world.reply(id, true)),
        }
        self.check();
    }

    fn on_ready(&mut self, what: impl FnOnce(&mut World, VcpuId)) {
        if let Some(id) = self.ready() {
            what(self, id);
        }
    }

    /// Zeroes that have taken the place of what was lent are given back, where there are any.
    fn give_back_zeroes(&mut self) {
        for (partition, view) in std::mem::take(&mut self.naive.left) {
            let mine = self.naive.regions.get(&partition).is_some_and(|held| held.contains(&view.get()));
            let other = self.naive.loans.values().any(|loan| loan.view == Some((partition, view)));
            if !mine && !other && self.info(partition, view).is_ok() {
                let name = u64::from(view.get());
                let done = self.system.region_destroy(&mut self.machine, partition, name);
                assert_eq!(done, Ok(Progress::Done));
                self.count("zeroes given back");
            }
        }
    }

    fn check(&mut self) {
        self.give_back_zeroes();
        assert_eq!(self.naive.stuck(), [], "they wait for ever");
        let mut failed = std::mem::take(&mut self.machine.failed_calls);
        let mut expected = std::mem::take(&mut self.expected);
        failed.sort_by_key(|(id, ..)| *id);
        expected.sort_by_key(|(id, ..)| *id);
        assert_eq!(failed.len(), expected.len(), "{failed:?} {expected:?} {:?}", self.seen);
        for ((id, error, region), (naive_id, naive_error, naive_region)) in failed.into_iter().zip(expected) {
            assert_eq!((id, error, region.is_some()), (naive_id, naive_error, naive_region.is_some()));
            if let (Some(region), Some(naive_region)) = (region, naive_region) {
                // One that was forwarded had no name the model knew.
                let held = self.naive.regions.get_mut(&id.partition).unwrap();
                held.remove(&naive_region.get());
                held.insert(region.get());
            }
        }
        for (&partition, held) in &self.naive.regions {
            for &handle in held {
                let info = self.system.region_info(partition, u64::from(handle));
                assert!(info.is_ok(), "{partition:?} does not hold its region {handle}");
            }
            let waiting = self
                .naive
                .through
                .iter()
                .filter(|(id, (_, region))| id.partition == partition && region.is_some());
            let lent = self.naive.loans.keys().filter(|caller| caller.partition == partition);
            let used = self.system.partition(partition).unwrap().accounts().used(Account::Memory);
            assert_eq!(used, (held.len() + waiting.count() + lent.count()) as u64 * 4096);
        }
        for (caller, loan) in &self.naive.loans {
            assert!(self.info(caller.partition, loan.region).is_err(), "lent, and has a name");
            if let Some((partition, view)) = loan.view {
                assert!(self.info(partition, view).is_ok(), "nobody has it");
            }
        }
        for (&id, role) in &self.naive.roles {
            assert_eq!(self.system.is_calling(id), matches!(role, Role::Queued(..) | Role::Served(_)));
        }
        self.machine.check_tlb();
    }

    fn finish(mut self) -> BTreeMap<&'static str, u32> {
        while self.partitions.len() > 1 {
            self.end();
            self.check();
        }
        self.end();
        assert_eq!(self.machine.allocated_bytes(), machine::books::zeroes(&self.system).len() as u64 * PAGE);
        self.machine.check_total();
        self.seen
    }
}

#[test]
fn nobody_waits_for_ever_and_nothing_is_lost() {
    let (seeds, steps) = if cfg!(miri) { (1, 100) } else { (60, 3000) };
    let mut seen: BTreeMap<&'static str, u32> = BTreeMap::new();
    for seed in 1..=seeds {
        let mut world = World::new(seed, 2 + seed as usize % 4);
        for _ in 0..steps {
            world.step();
        }
        for (what, count) in world.finish() {
            *seen.entry(what).or_default() += count;
        }
    }
    let all = [
        "call queued",
        "call taken at once",
        "call taken from a queue",
        "channel closed",
        "deadlock",
        "forward into a ring",
        "forward queued",
        "forward taken at once",
        "lent",
        "lent out of a queue",
        "loan given back",
        "partition ended",
        "passed on what was lent",
        "region forwarded to a queue",
        "region landed",
        "region passed",
        "region taken from a queue",
        "reply",
        "setup",
        "timed out",
        "zeroes given back",
    ];
    if !cfg!(miri) {
        assert!(
            all.iter().all(|what| seen.get(what).is_some_and(|count| *count > 10)),
            "too seldom: {seen:?}"
        );
    }
}
