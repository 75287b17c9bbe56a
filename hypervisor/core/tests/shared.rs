//! Shared memory: consent, what each end may do, what stays behind, what it costs whom, and what the TLBs are told.

mod machine;

use handover_abi::{
    Account, Causes, EndReason, Error, MessageWord, Name, PartitionId, Port, RequestFlags, RequestWord,
    ServiceId, SharedAccess, layout,
};
use handover_core::{Failure, Ipa, PAGE, Pa, Palette, Partition, PartitionIndex, Progress, System};
use machine::{Model, PALETTE, books};

const WINDOW: u64 = layout::WINDOW_BASE;
const MIB: u64 = 1 << 20;
const BOTH: RequestFlags = RequestFlags::empty();
const CLIENT: RequestFlags = RequestFlags::SEND_ONLY;
const SERVER: RequestFlags = RequestFlags::RECEIVE_ONLY;

struct World {
    system: System,
    machine: Model,
}

fn error<T>(result: Result<T, Failure>) -> Error {
    match result {
        Ok(_) => panic!("it should have failed"),
        Err(failure) => failure.error,
    }
}

fn word(order: u8, flags: RequestFlags) -> u64 {
    RequestWord { service: ServiceId::new(3), flags: flags | RequestFlags::MEMORY, order }.to_register()
}

impl World {
    fn new(chunks: usize) -> World {
        let mut world = World { system: System::new(), machine: Model::new(chunks, true) };
        world.system.set_palette(PALETTE);
        world
    }

    fn made(&mut self) -> PartitionIndex {
        let shell = Box::leak(Box::new(Partition::new()));
        let name = Name::new("shared").unwrap();
        let id = self.system.create(&mut self.machine, None, name, 1, shell, 2 * PAGE);
        let id = id.map_err(|(failure, _)| failure).unwrap();
        for &account in Account::ALL {
            self.system.set_limit(&self.machine, id, account as u64, u64::MAX).unwrap();
        }
        self.system.find(id).unwrap()
    }

    fn partition(&mut self) -> PartitionIndex {
        let ix = self.made();
        self.system.start(ix).unwrap();
        ix
    }

    fn id(&self, ix: PartitionIndex) -> PartitionId {
        self.system.partition(ix).unwrap().id()
    }

    fn limit(&mut self, ix: PartitionIndex, account: Account, limit: u64) {
        let id = self.id(ix);
        self.system.set_limit(&self.machine, id, account as u64, limit).unwrap();
    }

    fn used(&self, ix: PartitionIndex, account: Account) -> u64 {
        self.system.partition(ix).unwrap().accounts().used(account)
    }

    fn ask(&mut self, client: PartitionIndex, server: PartitionIndex, word: u64) -> Result<u64, Failure> {
        let id = u64::from(self.id(server).get());
        self.system.connect(&mut self.machine, client, id, word).map(|port| u64::from(port.get()))
    }

    fn accept(&mut self, server: PartitionIndex) -> Result<u64, Failure> {
        let signal = self.system.signal_next(server).unwrap();
        self.system.accept(&mut self.machine, server, signal.token).map(|port| u64::from(port.get()))
    }

    fn join(
        &mut self,
        client: PartitionIndex,
        server: PartitionIndex,
        order: u8,
        flags: RequestFlags,
    ) -> [u64; 2] {
        let asked = self.ask(client, server, word(order, flags)).unwrap();
        [asked, self.accept(server).unwrap()]
    }

    fn map(&mut self, who: PartitionIndex, port: u64, at: u64) -> Result<(), Failure> {
        self.system.shared_map(&mut self.machine, who, port, at)
    }

    fn disconnect(&mut self, who: PartitionIndex, port: u64) -> u32 {
        let mut steps = 1;
        while self.system.disconnect(&mut self.machine, who, port).unwrap() == Progress::Again {
            steps += 1;
        }
        steps
    }

    /// A guest's store, if it may.
    fn write(&mut self, who: PartitionIndex, at: u64, value: u64) -> bool {
        let span = self.system.translate(&self.machine, who, Ipa::new(at)).expect("it is mapped");
        if span.writable {
            self.machine.write(span.pa, value);
        }
        span.writable
    }

    fn read(&self, who: PartitionIndex, at: u64) -> u64 {
        self.machine.read(self.system.translate(&self.machine, who, Ipa::new(at)).expect("it is mapped").pa)
    }

    fn causes(&mut self, who: PartitionIndex) -> Causes {
        let mut all = Causes::empty();
        while let Ok(event) = self.system.event_next(who) {
            all |= event.causes;
        }
        all
    }

    fn check(&mut self) {
        let touched = books::balance(&self.system, &self.machine, 2 * PAGE, |_| PartitionId::new(0), true);
        self.machine.touch(touched);
        self.machine.check_tlb();
    }

    fn end(&mut self, ix: PartitionIndex) {
        self.system.end(&mut self.machine, ix, EndReason::Exited, 0);
        while self.system.reap(&mut self.machine, ix) == Progress::Again {}
    }

    fn finish(mut self) {
        self.check();
        for ix in books::partitions(&self.system) {
            self.end(ix);
            self.check();
        }
        for ix in books::partitions(&self.system) {
            let id = self.id(ix);
            self.machine.tlb.touched.clear();
            self.system.destroy(&mut self.machine, id).unwrap();
        }
        assert_eq!((self.machine.allocated_bytes(), self.machine.dirty.len()), (0, 0));
    }
}

#[test]
fn each_end_sees_what_the_other_writes_as_far_as_it_may() {
    for order in [12, 16, 21, 22] {
        for (flags, writes) in [(BOTH, [true, true]), (CLIENT, [true, false]), (SERVER, [false, true])] {
            let mut w = World::new(16);
            let ends = [w.partition(), w.partition()];
            let ports = w.join(ends[0], ends[1], order, flags);
            let (size, last) = (1u64 << order, (1u64 << order) - PAGE);
            for at in [0, 1] {
                assert_eq!(w.map(ends[at], ports[at], WINDOW + GIB * at as u64), Ok(()));
                let access = w.system.shared_info(ends[at], ports[at]).unwrap();
                let mut expected = SharedAccess::empty();
                expected.set(SharedAccess::OWN, writes[at]);
                expected.set(SharedAccess::PEER, writes[1 - at]);
                assert_eq!(access, (size, WINDOW + GIB * at as u64, expected));
            }
            for at in [0, 1] {
                let place = |end: usize| WINDOW + GIB * end as u64 + last;
                assert_eq!(w.write(ends[at], place(at), 40 + at as u64), writes[at]);
                if writes[at] {
                    assert_eq!(w.read(ends[1 - at], place(1 - at)), 40 + at as u64);
                }
            }
            w.finish();
        }
    }
}

const GIB: u64 = 1 << 30;

#[test]
fn whoever_stays_keeps_its_mapping_and_finds_zeroes() {
    for order in [12, 17, 21, 22] {
        for (who, ends_partition) in [(0, false), (1, false), (0, true), (1, true)] {
            let mut w = World::new(16);
            let ends = [w.partition(), w.partition()];
            let ports = w.join(ends[0], ends[1], order, BOTH);
            let last = WINDOW + (1 << order) - PAGE;
            for at in [0, 1] {
                w.map(ends[at], ports[at], WINDOW).unwrap();
                w.write(ends[at], last, 7);
            }
            let (goes, stays) = (ends[who], ends[1 - who]);
            w.check();
            w.causes(stays);
            let roots = books::partitions(&w.system).into_iter();
            w.machine.watched = roots.map(|ix| w.system.partition(ix).unwrap().root()).collect();
            if ends_partition {
                w.end(goes);
            } else {
                let steps = w.disconnect(goes, ports[who]);
                assert_eq!(u64::from(steps), (1u64 << order).div_ceil(16 * PAGE), "64 KiB a step");
            }
            assert_eq!(w.causes(stays), Causes::PEER_CLOSED);
            assert_eq!(w.used(goes, Account::Memory), 0);
            assert_eq!(w.used(stays, Account::Memory), 1 << order);
            assert_eq!(w.read(stays, last), 0);
            assert!(w.write(stays, last, 9), "it goes on");
            assert_eq!(w.read(stays, last), 9);
            w.machine.watched.clear();
            w.check();
            w.disconnect(stays, ports[1 - who]);
            assert_eq!(w.used(stays, Account::Memory), 0);
            w.finish();
        }
    }
}

#[test]
fn what_the_other_could_only_read_stays_as_it_is() {
    for (flags, reader) in [(CLIENT, 1), (SERVER, 0)] {
        let mut w = World::new(8);
        let ends = [w.partition(), w.partition()];
        let ports = w.join(ends[0], ends[1], 20, flags);
        let writer = 1 - reader;
        w.map(ends[writer], ports[writer], WINDOW).unwrap();
        w.map(ends[reader], ports[reader], WINDOW).unwrap();
        w.write(ends[writer], WINDOW + 5 * PAGE, 3);
        assert_eq!(w.disconnect(ends[reader], ports[reader]), 1, "nothing is to be zeroed");
        assert_eq!(w.read(ends[writer], WINDOW + 5 * PAGE), 3);
        w.finish();
    }
}

#[test]
fn the_event_comes_when_all_is_zero() {
    let mut w = World::new(8);
    let ends = [w.partition(), w.partition()];
    let ports = w.join(ends[0], ends[1], 18, BOTH);
    for at in [0, 1] {
        w.map(ends[at], ports[at], WINDOW).unwrap();
    }
    for page in 0..64 {
        w.write(ends[0], WINDOW + page * PAGE, 5);
    }
    w.causes(ends[1]);
    for step in 1..4 {
        assert_eq!(w.system.disconnect(&mut w.machine, ends[0], ports[0]), Ok(Progress::Again));
        assert_eq!(w.causes(ends[1]), Causes::empty(), "not yet");
        assert_eq!(w.system.port_status(ends[1], ports[1]).unwrap().0, Causes::empty(), "not yet");
        assert_eq!(w.read(ends[1], WINDOW + (16 * step - 1) * PAGE), 0);
        assert_eq!(w.read(ends[1], WINDOW + 16 * step * PAGE), 5);
        assert_eq!(error(w.system.event_send(&mut w.machine, ends[1], ports[1])), Error::PeerClosed);
    }
    // The other one goes in the middle of it: whoever was first frees all of it.
    assert_eq!(w.disconnect(ends[1], ports[1]), 1);
    assert_eq!(w.disconnect(ends[0], ports[0]), 4);
    w.finish();
}

#[test]
fn both_pay_for_all_of_it_and_each_for_its_own_tables() {
    let mut w = World::new(16);
    let [client, server] = [w.partition(), w.partition()];
    let control = |w: &World, ix| w.used(ix, Account::ControlMemory);
    // Ports' pages and window tables are there already.
    let first = w.join(client, server, 12, BOTH);
    for (ix, port) in [(client, first[0]), (server, first[1])] {
        w.map(ix, port, WINDOW).unwrap();
        w.disconnect(ix, port);
    }
    let before = [control(&w, client), control(&w, server)];
    for (order, flags, tables) in [
        (16, BOTH, [1, 1]),
        (16, CLIENT, [1, 2]),
        (16, SERVER, [2, 1]),
        (21, SERVER, [0, 0]),
        (22, CLIENT, [1, 2]),
    ] {
        let asked = w.ask(client, server, word(order, flags)).unwrap();
        assert_eq!((w.used(client, Account::Memory), w.used(server, Account::Memory)), (1 << order, 0));
        let accepted = w.accept(server).unwrap();
        for (ix, port, at) in [(client, asked, 0), (server, accepted, 1)] {
            assert_eq!(w.used(ix, Account::Memory), 1 << order);
            assert_eq!(control(&w, ix), before[at] + tables[at] * PAGE, "order {order}");
            assert_eq!(w.used(ix, Account::AddressSpace), 0);
            let (place, slot) = if order > 21 { (WINDOW + GIB, GIB) } else { (WINDOW, 2 * MIB) };
            w.map(ix, port, place).unwrap();
            assert_eq!(w.used(ix, Account::AddressSpace), slot);
        }
        w.check();
        w.disconnect(server, accepted);
        w.disconnect(client, asked);
        assert_eq!([control(&w, client), control(&w, server)], before);
    }
    w.finish();
}

#[test]
fn limits_are_each_ends_own() {
    let mut w = World::new(16);
    let [client, server] = [w.partition(), w.partition()];
    let server_id = u64::from(w.id(server).get());
    w.limit(client, Account::Memory, MIB - 1);
    let limit = |account| Failure { error: Error::Limit, detail: account as u64 };
    assert_eq!(w.ask(client, server, word(20, BOTH)), Err(limit(Account::Memory)));
    w.limit(client, Account::Memory, MIB);
    w.limit(client, Account::ControlMemory, 2 * PAGE);
    // A page of ports, the table, and one to read by.
    assert_eq!(w.ask(client, server, word(20, SERVER)), Err(limit(Account::ControlMemory)));
    let asked = w.ask(client, server, word(20, CLIENT)).unwrap();
    w.limit(server, Account::Memory, MIB - 1);
    let token = w.system.signal_next(server).unwrap().token;
    let accepted = w.system.accept(&mut w.machine, server, token);
    assert_eq!(accepted.map(|_| ()), Err(limit(Account::Memory)));
    w.limit(server, Account::Memory, MIB);
    w.limit(server, Account::ControlMemory, 2 * PAGE);
    let accepted = w.system.accept(&mut w.machine, server, token);
    assert_eq!(accepted.map(|_| ()), Err(limit(Account::ControlMemory)));
    w.limit(server, Account::ControlMemory, 3 * PAGE);
    let accepted = w.system.accept(&mut w.machine, server, token).unwrap();
    // No window table fits any more.
    assert_eq!(w.map(server, u64::from(accepted.get()), WINDOW), Err(limit(Account::ControlMemory)));
    w.limit(server, Account::ControlMemory, 4 * PAGE);
    w.limit(server, Account::AddressSpace, 2 * MIB - 1);
    assert_eq!(w.map(server, u64::from(accepted.get()), WINDOW), Err(limit(Account::AddressSpace)));
    assert_eq!(
        w.system.shared_unmap(&mut w.machine, client, asked).map_err(|f| f.error),
        Err(Error::WrongState)
    );
    assert!(server_id > 0);
    w.finish();
}

#[test]
fn who_is_not_answered_keeps_it_alone() {
    let mut w = World::new(8);
    let [client, server] = [w.partition(), w.partition()];
    let refused = w.ask(client, server, word(16, SERVER)).unwrap();
    let token = w.system.signal_next(server).unwrap().token;
    w.map(client, refused, WINDOW).unwrap();
    w.system.refuse(&mut w.machine, server, token, 4).unwrap();
    assert_eq!(w.read(client, WINDOW), 0);
    let abandoned = w.ask(client, server, word(16, BOTH)).unwrap();
    w.map(client, abandoned, WINDOW + 2 * MIB).unwrap();
    assert!(w.write(client, WINDOW + 2 * MIB, 6));
    w.end(server);
    assert_eq!(w.read(client, WINDOW + 2 * MIB), 6, "nobody else ever had it");
    assert!(w.causes(client).contains(Causes::REFUSED | Causes::PEER_CLOSED));
    w.check();
    for port in [refused, abandoned] {
        w.disconnect(client, port);
    }
    assert_eq!(w.used(client, Account::Memory), 0);
    w.finish();
}

#[test]
fn no_message_and_no_call_goes_where_memory_is_shared() {
    let mut w = World::new(8);
    let me = w.partition();
    let [here, there] = w.join(me, me, 12, BOTH);
    for port in [here, there] {
        let word = MessageWord::new(Port::new(port as u32), None, 8);
        assert_eq!(error(w.system.send(&mut w.machine, me, word, &[0; 16])), Error::Denied);
        assert_eq!(error(w.system.receive(&mut w.machine, me, port, 0, &mut [0; 16])), Error::Denied);
        let caller = handover_core::VcpuId { partition: me, index: 0 };
        assert_eq!(error(w.system.call(&mut w.machine, caller, word)), Error::Denied);
        assert_eq!(error(w.system.event_bind(&mut w.machine, me, port, 200, 0)), Error::WrongState);
        w.system.event_send(&mut w.machine, me, port).unwrap();
    }
    assert!(w.causes(me).contains(Causes::SIGNAL));
    // Twice in one window.
    w.map(me, here, WINDOW).unwrap();
    w.map(me, there, WINDOW + 2 * MIB).unwrap();
    w.write(me, WINDOW, 8);
    assert_eq!(w.read(me, WINDOW + 2 * MIB), 8);
    assert_eq!(w.used(me, Account::Memory), 2 * PAGE);
    w.finish();
}

#[test]
fn what_is_no_request_for_memory() {
    let mut w = World::new(8);
    let [client, server] = [w.partition(), w.partition()];
    for wrong in [
        word(11, BOTH),
        word(31, BOTH),
        word(0, BOTH),
        word(12, CLIENT | SERVER),
        word(12, CLIENT | RequestFlags::EVENTS),
        12 << 56,
    ] {
        assert_eq!(error(w.ask(client, server, wrong)), Error::InvalidArgument, "{wrong:#x}");
    }
    let channel = w.ask(client, server, 3).unwrap();
    assert_eq!(error(w.map(client, channel, WINDOW)), Error::BadHandle);
    assert_eq!(error(w.system.shared_info(client, channel)), Error::BadHandle);
    assert_eq!(error(w.system.shared_unmap(&mut w.machine, client, channel)), Error::BadHandle);
    w.finish();
}

#[test]
fn colours_are_the_servers_or_the_clients() {
    let mut w = World::new(24);
    let [client, plain] = [w.made(), w.partition()];
    let server = w.made();
    let (client_id, server_id) = (w.id(client), w.id(server));
    w.system.set_colours(&mut w.machine, client_id, 0x00ff, 0).unwrap();
    w.system.set_colours(&mut w.machine, server_id, 0x0f00, 0xf000).unwrap();
    w.system.start(client).unwrap();
    w.system.start(server).unwrap();
    for (to, colours) in [(server, 0xf000u64), (plain, 0x00ff)] {
        let order = if SHARE > 1 { 16 } else { 21 };
        let [port, _] = w.join(client, to, order, BOTH);
        w.map(client, port, WINDOW + 4 * MIB * u64::from(to == plain)).unwrap();
        for page in 0..1 << (order - 12) {
            let at = WINDOW + 4 * MIB * u64::from(to == plain) + page * PAGE;
            let span = w.system.translate(&w.machine, client, Ipa::new(at)).unwrap();
            assert!(colours >> Palette::of(PALETTE, span.pa) & 1 != 0);
        }
        assert_eq!(error(w.ask(client, to, word(22, BOTH))), Error::TooLarge);
    }
    w.finish();
}

/// Takes shared memory that guests have touched away from one of them, without the step `omit`. → what the TLB says, and how many steps were taken.
fn take_away(order: u8, flags: RequestFlags, end: bool, omit: Option<u64>) -> (Result<(), String>, u64) {
    let mut w = World::new(16);
    let ends = [w.partition(), w.partition()];
    let ports = w.join(ends[0], ends[1], order, flags);
    let mut touched: Vec<(u16, Pa, Ipa)> = Vec::new();
    for at in [0, 1] {
        w.map(ends[at], ports[at], WINDOW).unwrap();
        let p = w.system.partition(ends[at]).unwrap();
        let leaf = if order > 21 { 2 * MIB } else { PAGE };
        touched.extend((0..(1 << order) / leaf).map(|n| (p.vmid(), p.root(), Ipa::new(WINDOW + n * leaf))));
    }
    w.machine.touch(touched);
    assert_eq!(w.machine.tlb.check(&w.machine.tables), Ok(()));
    let before = w.machine.steps;
    w.machine.omit = omit.map(|step| before + step);
    if end {
        let _: Progress = w.system.disconnect(&mut w.machine, ends[0], ports[0]).unwrap();
    } else {
        w.system.shared_unmap(&mut w.machine, ends[0], ports[0]).unwrap();
    }
    let verdict = match w.machine.freed_early {
        true => Err("a table freed too early".into()),
        false => w.machine.tlb.check(&w.machine.tables),
    };
    (verdict, w.machine.steps - before)
}

/// Of so many steps one is left out under Miri, and regions are small: touching a page of them takes it tenths of a second.
const SHARE: usize = if cfg!(miri) { 4 } else { 1 };

#[test]
fn no_step_of_taking_shared_memory_away_can_be_left_out() {
    for order in [12, 16, 21, 22].into_iter().filter(|order| SHARE == 1 || *order < 21) {
        for (flags, end) in [(BOTH, false), (BOTH, true), (SERVER, false), (SERVER, true)] {
            let (verdict, steps) = take_away(order, flags, end, None);
            assert_eq!(verdict, Ok(()), "order {order}, {flags:?}");
            for omit in (0..steps).step_by(SHARE) {
                let (verdict, _) = take_away(order, flags, end, Some(omit));
                assert!(verdict.is_err(), "order {order}, {flags:?}, end {end}: {omit} does nothing");
            }
        }
    }
}
