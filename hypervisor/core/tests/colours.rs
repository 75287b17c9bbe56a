//! Cache colours, seen from a cache: partitions with disjoint colours share no set of it, and a channel's regions meet others in the channel's
//! colours alone.

mod machine;

use std::collections::BTreeSet;

use handover_abi::{
    Account, Causes, EndReason, Error, MessageWord, Name, PartitionId, Port, RegionHandle, layout,
};
use handover_core::colour::{last_level, way_bytes};
use handover_core::{
    Failure, Handed, Ipa, PAGE, Pa, Palette, Partition, PartitionIndex, Progress, System, VcpuId,
};
use machine::{Model, PALETTE, books};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const MEMORY: u64 = layout::MEMORY_BASE;
const AT: u64 = layout::WINDOW_BASE;

/// Under Miri a page takes milliseconds: lines are longer, regions smaller, and who is confined has no memory.
const FEW: bool = cfg!(miri);

/// A set-associative cache, physically indexed, that throws out what was touched longest ago.
struct Cache {
    sets: Vec<Vec<(u64, u32)>>,
    ways: usize,
    /// Lines that somebody else's took the place of.
    conflicts: u64,
}

impl Cache {
    const LINE: u64 = if FEW { 1024 } else { 64 };

    /// One whose ways are as large as the model's colours want it.
    fn new(ways: usize) -> Cache {
        let sets = u64::from(PALETTE.count()) * PAGE / Cache::LINE;
        Cache { sets: vec![Vec::new(); sets as usize], ways, conflicts: 0 }
    }

    fn set(&self, pa: u64) -> usize {
        (pa / Cache::LINE) as usize % self.sets.len()
    }

    fn touch(&mut self, who: u32, pa: u64) {
        let (at, line) = (self.set(pa), pa / Cache::LINE);
        let set = &mut self.sets[at];
        set.retain(|(held, _)| *held != line);
        if set.len() == self.ways {
            let (_, victim) = set.remove(0);
            self.conflicts += u64::from(victim != who);
        }
        set.push((line, who));
    }

    fn touch_pages(&mut self, who: u32, pages: &BTreeSet<u64>) {
        for page in pages {
            (0..PAGE).step_by(Cache::LINE as usize).for_each(|line| self.touch(who, page + line));
        }
    }

    /// The sets that some pages use.
    fn used(&self, pages: &BTreeSet<u64>) -> BTreeSet<usize> {
        let lines = |page: &u64| (*page..page + PAGE).step_by(Cache::LINE as usize);
        pages.iter().flat_map(lines).map(|line| self.set(line)).collect()
    }
}

struct World {
    system: System,
    machine: Model,
}

fn error(result: Result<impl Sized, Failure>) -> Failure {
    match result {
        Ok(_) => panic!("it should have failed"),
        Err(failure) => failure,
    }
}

impl World {
    fn new(chunks: usize) -> World {
        let mut system = System::new();
        system.set_palette(PALETTE);
        World { system, machine: Model::new(chunks, true) }
    }

    fn make(&mut self) -> (PartitionIndex, PartitionId) {
        let shell = Box::leak(Box::new(Partition::new()));
        let name = Name::new("colours").unwrap();
        let id = self.system.create(&mut self.machine, None, name, 1, shell, PAGE);
        let id = id.map_err(|(failure, _)| failure).unwrap();
        for &account in Account::ALL {
            self.system.set_limit(&self.machine, id, account as u64, u64::MAX).unwrap();
        }
        (self.system.find(id).unwrap(), id)
    }

    /// One with colours, 4 MiB of memory in pieces, and started.
    fn run(&mut self, own: u64, channels: u64) -> PartitionIndex {
        let (ix, id) = self.make();
        self.system.set_colours(&mut self.machine, id, own, channels).unwrap();
        let confined = ![0, PALETTE.all()].contains(&own);
        for at in [MEMORY, MEMORY + 2 * MIB].into_iter().filter(|_| !FEW || !confined) {
            self.system.add_memory(&mut self.machine, ix, Ipa::new(at), 2 * MIB).unwrap();
        }
        self.system.start(ix).unwrap();
        ix
    }

    fn join(&mut self, client: PartitionIndex, server: PartitionIndex) -> (u64, u64) {
        let id = u64::from(self.system.partition(server).unwrap().id().get());
        let port = self.system.connect(&mut self.machine, client, id, 1).unwrap();
        let token = self.system.signal_next(server).unwrap().token;
        let other = self.system.accept(&mut self.machine, server, token).unwrap();
        (u64::from(port.get()), u64::from(other.get()))
    }

    fn create(
        &mut self,
        who: PartitionIndex,
        size: u64,
        port: u64,
        at: u64,
    ) -> Result<RegionHandle, Failure> {
        self.system.region_create(&mut self.machine, who, size | port << 32, at)
    }

    fn send(&mut self, who: PartitionIndex, port: u64, region: Option<RegionHandle>) -> Result<u64, Failure> {
        let word = MessageWord::new(Port::new(port as u32), region, 8);
        self.system.send(&mut self.machine, who, word, &[7; 16])
    }

    /// All frames that a partition's accesses and its walks reach: what is its own, and what it has mapped of regions.
    fn frames(&self, ix: PartitionIndex) -> (BTreeSet<u64>, BTreeSet<u64>) {
        let tree = books::Tree::of(&self.machine.tables, self.system.partition(ix).unwrap().root());
        let leaves = tree.leaves.iter().flat_map(|(pa, size)| (*pa..pa + size).step_by(PAGE as usize));
        let all: BTreeSet<u64> = leaves.chain(tree.tables).collect();
        let own = tree.own.iter().flat_map(|(pa, size)| (*pa..pa + size).step_by(PAGE as usize));
        let own: BTreeSet<u64> = own.collect();
        let regions = all.difference(&own).copied().collect();
        (own, regions)
    }

    fn used(&self, ix: PartitionIndex, account: Account) -> u64 {
        self.system.partition(ix).unwrap().accounts().used(account)
    }

    fn check(&mut self) {
        self.check_books(true);
    }

    /// `rest`: no call is half done.
    fn check_books(&mut self, rest: bool) {
        let touched = books::balance(&self.system, &self.machine, PAGE, |_| PartitionId::new(0), rest);
        self.machine.touch(touched);
        self.machine.check_tlb();
    }

    fn end(&mut self, ix: PartitionIndex) {
        self.system.end(&mut self.machine, ix, EndReason::Exited, 0);
        while self.system.reap(&mut self.machine, ix) == Progress::Again {}
        for &account in Account::ALL {
            assert_eq!(self.used(ix, account), 0, "{account} after the end");
        }
        let id = self.system.partition(ix).unwrap().id();
        self.machine.tlb.touched.clear();
        self.system.destroy(&mut self.machine, id).unwrap();
    }

    fn end_all(mut self) {
        for ix in books::partitions(&self.system) {
            self.end(ix);
        }
        assert_eq!(self.machine.allocated_bytes(), 0);
        self.machine.check_total();
    }
}

/// Sets of the cache that two partitions with 4 MiB each have in common, and how often they throw out each other's lines.
fn meet(own: [u64; 2]) -> (usize, u64) {
    let mut w = World::new(16);
    let [a, b] = own.map(|own| w.run(own, 0));
    w.check();
    let cache = Cache::new(8);
    let [first, second] = [a, b].map(|ix| w.frames(ix).0);
    let common = cache.used(&first).intersection(&cache.used(&second)).count();
    let mut cache = cache;
    for _ in 0..3 {
        cache.touch_pages(1, &first);
        cache.touch_pages(2, &second);
    }
    w.end_all();
    (common, cache.conflicts)
}

#[test]
#[cfg_attr(miri, ignore = "memory page by page takes minutes")]
fn disjoint_colours_share_no_set() {
    let sets = Cache::new(8).sets.len();
    assert_eq!(meet([0x000f, 0x00f0]), (0, 0));
    assert_eq!(meet([0x5555, 0xaaaa]), (0, 0));
    // One colour of four is the other's too: a quarter of its sets.
    let (common, conflicts) = meet([0x000f, 0x0078]);
    assert_eq!(common, sets / 16);
    assert!(conflicts > 0);
    let (common, conflicts) = meet([0, 0]);
    assert_eq!(common, sets, "without colours every set is met in");
    assert!(conflicts > 10_000, "{conflicts}");
}

#[test]
fn regions_meet_in_the_channels_colours_alone() {
    let mut w = World::new(48);
    let (client, server, bystander) = (w.run(0x000f, 0), w.run(0x00f0, 0x0300), w.run(0xf000, 0));
    let (to_server, to_client) = w.join(client, server);
    let sizes = if FEW { [PAGE, 2 * PAGE, 64 << 10, 128 << 10] } else { [PAGE, 64 << 10, MIB, 2 * MIB] };
    for (number, (who, port)) in [(client, to_server), (server, to_client)].into_iter().enumerate() {
        for slot in 0..4 {
            let at = AT + (number as u64 * 8 + slot) * 2 * MIB;
            w.create(who, sizes[slot as usize], port, at).unwrap();
        }
    }
    w.check();
    // Each sends one over, and has it mapped there.
    for (from, to, sent, received) in
        [(client, server, to_server, to_client), (server, client, to_client, to_server)]
    {
        let region = RegionHandle::new(2);
        w.send(from, sent, Some(region)).unwrap();
        w.system.receive(&mut w.machine, to, received, AT + GIB, &mut [0; 16]).unwrap();
    }
    w.check();
    let cache = Cache::new(8);
    let sets = |pages: &BTreeSet<u64>| cache.used(pages);
    let of = |colours: u64| {
        let per = PAGE / Cache::LINE;
        let all = (0..PALETTE.count()).filter(|colour| colours >> colour & 1 != 0).map(u64::from);
        all.flat_map(|colour| colour * per..(colour + 1) * per)
            .map(|set| set as usize)
            .collect::<BTreeSet<_>>()
    };
    let (own, regions) = w.frames(client);
    let (servers, servers_regions) = w.frames(server);
    assert!(sets(&own).is_subset(&of(0x000f)) && sets(&servers).is_subset(&of(0x00f0)));
    assert_eq!(sets(&regions), of(0x0300), "regions use all of the channel's sets");
    assert!(sets(&servers_regions).is_subset(&of(0x0300)));
    // So the bystander's lines stay where they are, whatever the two send each other.
    let (bystanders, _) = w.frames(bystander);
    let mut cache = Cache::new(8);
    for _ in 0..3 {
        cache.touch_pages(1, &bystanders);
        cache.touch_pages(2, &regions);
        cache.touch_pages(2, &servers_regions);
    }
    assert_eq!(cache.conflicts, 0);
    w.end_all();
}

#[test]
fn a_channel_with_colours_takes_no_other_region() {
    let mut w = World::new(40);
    let (client, server) = (w.run(0x000f, 0), w.run(0, 0x0300));
    let plain = w.run(0, 0);
    let (port, back) = w.join(client, server);
    let before = w.machine.digest();
    let limit = Failure::limit(Account::CacheColours);
    // A region of its own colours, a block, and blocks.
    let own = w.create(client, 16 << 10, 0, AT).unwrap();
    assert_eq!(error(w.send(client, port, Some(own))), limit);
    for size in [2 * MIB, 4 * MIB] {
        let block = w.create(server, size, 0, 0).unwrap();
        assert_eq!(error(w.send(server, back, Some(block))), limit);
        while w.system.region_destroy(&mut w.machine, server, u64::from(block.get())) == Ok(Progress::Again) {
        }
    }
    assert_eq!(
        w.system.region_info(client, u64::from(own.get())),
        Ok((16 << 10, AT)),
        "it stays where it was"
    );
    assert_ne!(w.machine.digest(), before);
    // Without a region there is nothing to ask, and the queue is as long as any.
    for sent in 0..handover_core::QUEUE_DEPTH {
        assert!(w.system.port_status(client, port).unwrap().0.contains(Causes::SPACE), "{sent}");
        w.send(client, port, None).unwrap();
    }
    assert_eq!(error(w.send(client, port, None)).error, Error::QueueFull);
    assert!(!w.system.port_status(client, port).unwrap().0.contains(Causes::SPACE));
    // Nobody has declared anything for this one.
    let (port, _) = w.join(client, plain);
    w.send(client, port, Some(own)).unwrap();
    // Its regions are made of the sender's colours.
    let region = w.create(client, 64 << 10, port, AT).unwrap();
    let (_, regions) = w.frames(client);
    assert!(regions.iter().all(|pa| PALETTE.of(Pa::new(*pa)) < 4));
    w.send(client, port, Some(region)).unwrap();
    assert_eq!(error(w.create(client, PAGE, 77, 0)).error, Error::BadHandle);
    w.end_all();
}

#[test]
fn calls_bring_no_other_region_either() {
    let mut w = World::new(40);
    let [client, first, server] = [w.run(0x000f, 0), w.run(0, 0), w.run(0, 0x0300)];
    let vcpu = |partition| VcpuId { partition, index: 0 };
    for partition in [client, first, server] {
        w.system.vcpu_on(vcpu(partition));
    }
    let limit = Failure::limit(Account::CacheColours);
    let word = |port: u64, region| MessageWord::new(Port::new(port as u32), Some(region), 8);
    // Nobody waits: what could not be taken would stand before all calls that come after it.
    let (port, _) = w.join(client, server);
    let own = w.create(client, 16 << 10, 0, AT).unwrap();
    let before = w.machine.digest();
    for word in [word(port, own), word(port, own).lent()] {
        assert_eq!(w.system.call(&mut w.machine, vcpu(client), word), Err(limit));
    }
    assert_eq!(w.system.region_info(client, u64::from(own.get())), Ok((16 << 10, AT)));
    assert_eq!(w.machine.digest(), before);
    // Lent where nothing is declared, and passed on from there, to one who waits and to a queue.
    let (plain, _) = w.join(client, first);
    let (onward, _) = w.join(first, server);
    for waits in [false, true] {
        w.system.call_wait(&mut w.machine, vcpu(first)).unwrap();
        let handed = w.system.call(&mut w.machine, vcpu(client), word(plain, own).lent()).unwrap();
        let Handed::To(_, told) = handed else { panic!("nobody takes {handed:?}") };
        if waits {
            w.system.call_wait(&mut w.machine, vcpu(server)).unwrap();
        }
        let forwarded = w.system.forward(&mut w.machine, vcpu(first), word(onward, told.region().unwrap()));
        assert_eq!(forwarded, Err(limit));
        w.system.reply(&mut w.machine, vcpu(first), MessageWord::new(Port::CONTROL, None, 0)).unwrap();
    }
    w.end_all();
}

#[test]
fn a_channel_with_all_colours_takes_any_region() {
    let mut w = World::new(32);
    let (client, server) = (w.run(0x000f, 0), w.run(0, PALETTE.all()));
    let (port, back) = w.join(client, server);
    for (who, port) in [(client, port), (server, back)] {
        for own in [0, port] {
            let region = w.create(who, if FEW { 64 << 10 } else { 2 * MIB }, own, 0).unwrap();
            w.send(who, port, Some(region)).unwrap();
        }
    }
    w.end_all();
}

#[test]
#[cfg_attr(miri, ignore = "memory page by page takes minutes")]
fn what_takes_blocks_is_refused_by_its_size() {
    let mut w = World::new(16);
    let ix = w.run(0x000f, 0);
    for size in [4 * MIB, GIB] {
        assert_eq!(error(w.create(ix, size, 0, 0)), Failure::too_large(2 * MIB));
    }
    // Of 2 MiB it is made page by page, with a table that is charged.
    let control = w.used(ix, Account::ControlMemory);
    let region = w.create(ix, 2 * MIB, 0, AT).unwrap();
    // Its table, the window's, and the records' first page.
    assert_eq!(w.used(ix, Account::ControlMemory), control + 3 * PAGE);
    assert_eq!(w.system.translate(&w.machine, ix, Ipa::new(AT + 8191)).unwrap().size, 1);
    w.check();
    while w.system.region_destroy(&mut w.machine, ix, u64::from(region.get())) == Ok(Progress::Again) {}
    assert_eq!(w.used(ix, Account::ControlMemory), control + 2 * PAGE);
    let add = |w: &mut World, size| w.system.memory_add(&mut w.machine, ix, MEMORY + GIB, size);
    assert_eq!(error(add(&mut w, 4 * MIB)), Failure::too_large(2 * MIB));
    add(&mut w, 2 * MIB).unwrap();
    // A table for the GiB and one for the granule.
    assert_eq!(w.used(ix, Account::ControlMemory), control + 4 * PAGE);
    w.check();
    let mut steps = 1;
    while w.system.memory_remove(&mut w.machine, ix, MEMORY, 4 * MIB) == Ok(Progress::Again) {
        steps += 1;
        w.check_books(false);
    }
    assert!(steps > 2 * 512 / 16, "a step zeroes 64 KiB at most");
    assert_eq!(w.used(ix, Account::Memory), 2 * MIB);
    assert_eq!(w.used(ix, Account::ControlMemory), control + 2 * PAGE);
    w.end_all();
}

#[test]
fn colours_are_set_before_there_is_anything_to_colour() {
    let mut w = World::new(16);
    let (ix, id) = w.make();
    let set = |w: &mut World, own, channels| w.system.set_colours(&mut w.machine, id, own, channels);
    let refused = |failure: Failure| (failure.error, failure.detail);
    assert_eq!(refused(error(set(&mut w, PALETTE.all() + 1, 0))), (Error::InvalidArgument, 0));
    assert_eq!(refused(error(set(&mut w, 1, 1 << 63))), (Error::InvalidArgument, 0));
    let account = Account::CacheColours;
    w.system.set_limit(&w.machine, id, account as u64, 5).unwrap();
    assert_eq!(error(set(&mut w, 0x3f, 0)), Failure::limit(account));
    assert_eq!(error(set(&mut w, 0x07, 0x70)), Failure::limit(account));
    w.machine.allowance = Some(0);
    assert_eq!(error(set(&mut w, 0x03, 0)).error, Error::NoMemory);
    w.machine.allowance = None;
    assert_eq!(w.used(ix, account), 0);
    // A colour that is declared for the channels and its own is one.
    set(&mut w, 0x0f, 0x18).unwrap();
    assert_eq!(w.used(ix, account), 5);
    set(&mut w, 0x03, 0).unwrap();
    assert_eq!((w.used(ix, account), w.system.partition(ix).unwrap().colours().bits()), (2, 3));
    w.check();
    w.system.add_memory(&mut w.machine, ix, Ipa::new(MEMORY), 2 * MIB).unwrap();
    assert_eq!(error(set(&mut w, 0, 0)).error, Error::WrongState);
    let (running, other) = w.make();
    w.system.start(running).unwrap();
    let result = w.system.set_colours(&mut w.machine, other, 1, 0);
    assert_eq!(error(result).error, Error::WrongState);
    let nobody = PartitionId::new(99);
    assert_eq!(error(w.system.set_colours(&mut w.machine, nobody, 1, 0)).error, Error::BadHandle);
    w.end_all();
}

#[test]
fn all_colours_are_no_confinement() {
    let mut w = World::new(8);
    let ix = w.run(PALETTE.all(), 0);
    assert_eq!(w.used(ix, Account::CacheColours), u64::from(PALETTE.count()));
    assert_eq!(w.system.translate(&w.machine, ix, Ipa::new(MEMORY)).unwrap().size, 2 * MIB);
    w.end_all();
}

#[test]
fn a_machine_without_colours_says_so() {
    let mut w = World::new(8);
    w.system.set_palette(Palette::NONE);
    let (_, id) = w.make();
    assert_eq!(error(w.system.set_colours(&mut w.machine, id, 1, 0)).error, Error::NotSupported);
}

#[test]
fn registers_tell_the_colours() {
    // Two levels, the second unified: 2 MiB of 16 ways with lines of 64 bytes, in the older format; then the same in the wide one.
    let (clidr, older, wide) = (0x0a20_0023, 0x70ff_e07a, 2047 << 32 | 15 << 3 | 2);
    assert_eq!(last_level(clidr), Some(1));
    assert_eq!((way_bytes(older, false), way_bytes(wide, true)), (128 << 10, 128 << 10));
    assert_eq!(Palette::of_way(128 << 10).count(), 32);
    // One level, its data apart; instructions alone, and nothing.
    assert_eq!((last_level(0b011), last_level(0b001), last_level(0)), (Some(0), None, None));
    // A way of a page or less, no power of two, and more colours than are told apart.
    for (bytes, count) in [(4096, 1), (64, 1), (96 << 10, 1), (8192, 2), (256 << 10, 64), (1 << 20, 64)] {
        assert_eq!(Palette::of_way(bytes).count(), count, "{bytes}");
    }
    assert_eq!(Palette::new(64).all(), u64::MAX);
    assert_eq!(Palette::new(65), Palette::NONE);
}
