//! What random calls reach too seldom.

mod machine;

use handover_abi::{
    Account, Causes, EndReason, Error, MessageWord, Name, PartitionId, PartitionState, Port, SignalKind,
    layout,
};
use handover_core::{Failure, Ipa, Machine, PAGE, Partition, PartitionIndex, Phase, Progress, System};
use machine::Model;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const AT: u64 = layout::WINDOW_BASE;

struct World {
    system: System,
    machine: Model,
}

fn error(result: Result<impl Sized, Failure>) -> Error {
    match result {
        Ok(_) => panic!("it should have failed"),
        Err(failure) => failure.error,
    }
}

impl World {
    fn new(chunks: usize) -> World {
        World { system: System::new(), machine: Model::new(chunks, true) }
    }

    fn partition(&mut self, creator: Option<PartitionIndex>) -> PartitionIndex {
        let shell = Box::leak(Box::new(Partition::new()));
        let name = Name::new("scenario").unwrap();
        let id = self.system.create(&mut self.machine, creator, name, 1, shell, 2 * PAGE);
        let id = id.map_err(|(failure, _)| failure).unwrap();
        for &account in Account::ALL {
            self.system.set_limit(&self.machine, id, account as u64, u64::MAX).unwrap();
        }
        let ix = self.system.find(id).unwrap();
        self.system.start(ix).unwrap();
        ix
    }

    fn id(&self, ix: PartitionIndex) -> PartitionId {
        self.system.partition(ix).unwrap().id()
    }

    fn join(&mut self, client: PartitionIndex, server: PartitionIndex) -> (Port, Port) {
        let id = u64::from(self.id(server).get());
        let port = self.system.connect(&mut self.machine, client, id, 1).unwrap();
        let token = self.system.signal_next(server).unwrap().token;
        (port, self.system.accept(&mut self.machine, server, token).unwrap())
    }

    fn receive(&mut self, who: PartitionIndex, port: Port) -> Result<MessageWord, Failure> {
        self.system.receive(&mut self.machine, who, u64::from(port.get()), 0, &mut [0; 16])
    }

    fn used(&self, who: PartitionIndex, account: Account) -> u64 {
        self.system.partition(who).unwrap().accounts().used(account)
    }

    fn finish(&mut self, ix: PartitionIndex) -> u32 {
        self.system.end(&mut self.machine, ix, EndReason::Exited, 3);
        (1..).find(|_| self.system.reap(&mut self.machine, ix) == Progress::Done).unwrap()
    }

    fn finish_all(&mut self, all: &[PartitionIndex]) {
        for &ix in all {
            self.finish(ix);
        }
        for &ix in all {
            let id = self.id(ix);
            self.system.destroy(&mut self.machine, id).unwrap();
        }
        assert_eq!(self.machine.allocated_bytes(), 0);
        self.machine.check_total();
    }
}

#[test]
fn what_an_ending_partition_sent_cannot_be_received_in_halves() {
    let mut w = World::new(40);
    let (a, b) = (w.partition(None), w.partition(None));
    let (from, to) = w.join(a, b);
    let region = w.system.region_create(&mut w.machine, a, 8 * MIB, 0).unwrap();
    w.system.send(&mut w.machine, a, MessageWord::new(from, Some(region), 0), &[0; 16]).unwrap();
    w.system.end(&mut w.machine, a, EndReason::Stopped, 0);
    while w.machine.zeroed < MIB {
        assert_eq!(w.system.reap(&mut w.machine, a), Progress::Again);
    }
    assert_eq!(error(w.receive(b, to)), Error::PeerClosed);
    let (causes, peer, _) = w.system.port_status(b, u64::from(to.get())).unwrap();
    assert_eq!((causes, peer), (Causes::PEER_CLOSED, w.id(a)));
    // The other side may go at the same time, and both work at the same region.
    let closing = w.system.disconnect(&mut w.machine, b, u64::from(to.get())).unwrap();
    assert_eq!(closing, Progress::Again);
    assert_eq!(w.system.reap(&mut w.machine, a), Progress::Again);
    while w.system.disconnect(&mut w.machine, b, u64::from(to.get())) == Ok(Progress::Again) {}
    assert_eq!(w.machine.zeroed, 8 * MIB);
    w.finish_all(&[a, b]);
}

#[test]
fn who_is_paused_can_be_written_to_and_ended() {
    let mut w = World::new(40);
    let (a, b) = (w.partition(None), w.partition(None));
    let (from, to) = w.join(a, b);
    w.system.pause(b).unwrap();
    w.system.pause(b).unwrap();
    assert_eq!(w.system.partition(b).unwrap().state(), PartitionState::Paused);
    let region = w.system.region_create(&mut w.machine, a, 8 * MIB, 0).unwrap();
    w.system.send(&mut w.machine, a, MessageWord::new(from, Some(region), 0), &[0; 16]).unwrap();
    w.system.resume(b).unwrap();
    assert_eq!(error(w.system.resume(b)), Error::WrongState);
    assert_eq!(w.receive(b, to).unwrap().order(), 23);
    w.system.pause(b).unwrap();
    // A request that it has not seen, and one that it makes no answer to, end with it.
    let id = u64::from(w.id(b).get());
    let asked = w.system.connect(&mut w.machine, a, id, 2).unwrap();
    w.finish(b);
    assert_eq!(error(w.system.pause(b)), Error::WrongState);
    assert_eq!(error(w.system.resume(b)), Error::WrongState);
    assert_eq!(w.system.partition(b).unwrap().state(), PartitionState::Terminated);
    for port in [from, asked] {
        let (causes, ..) = w.system.port_status(a, u64::from(port.get())).unwrap();
        assert_eq!(causes, Causes::PEER_CLOSED);
    }
    w.finish_all(&[a, b]);
}

#[test]
fn what_was_sent_before_a_disconnect_stays_readable() {
    let mut w = World::new(8);
    let (a, b) = (w.partition(None), w.partition(None));
    let (from, to) = w.join(a, b);
    let region = w.system.region_create(&mut w.machine, a, 4096, AT).unwrap();
    let word = MessageWord::new(from, Some(region), 0);
    w.system.send(&mut w.machine, a, word, &[0; 16]).unwrap();
    // The region does not name anything any more.
    assert_eq!(error(w.system.send(&mut w.machine, a, word, &[0; 16])), Error::BadHandle);
    assert_eq!(w.system.disconnect(&mut w.machine, a, u64::from(from.get())), Ok(Progress::Done));
    assert_eq!(error(w.system.disconnect(&mut w.machine, a, u64::from(from.get()))), Error::BadHandle);
    // It still costs: the port because the message, the message because nobody took it.
    assert_eq!((w.used(a, Account::Ports), w.used(a, Account::Memory)), (1, 4096));
    assert_eq!(w.system.event_next(b).unwrap().port, Port::CONTROL);
    let event = w.system.event_next(b).unwrap();
    assert_eq!(event.causes, Causes::CONNECTED | Causes::MESSAGE | Causes::PEER_CLOSED);
    let send = MessageWord::new(to, None, 0);
    assert_eq!(error(w.system.send(&mut w.machine, b, send, &[0; 16])), Error::PeerClosed);
    assert_eq!(w.receive(b, to).unwrap().order(), 12);
    assert_eq!((w.used(a, Account::Ports), w.used(a, Account::Memory)), (0, 0));
    assert_eq!(error(w.receive(b, to)), Error::PeerClosed);
    w.finish_all(&[a, b]);
}

#[test]
fn a_receiver_without_room_leaves_the_message() {
    let mut w = World::new(8);
    let (a, b) = (w.partition(None), w.partition(None));
    let (from, to) = w.join(a, b);
    w.system.set_limit(&w.machine, w.id(b), Account::Memory as u64, 4095).unwrap();
    let region = w.system.region_create(&mut w.machine, a, 4096, 0).unwrap();
    w.system.send(&mut w.machine, a, MessageWord::new(from, Some(region), 0), &[0; 16]).unwrap();
    assert_eq!(w.receive(b, to), Err(Failure { error: Error::Limit, detail: Account::Memory as u64 }));
    w.system.set_limit(&w.machine, w.id(b), Account::Memory as u64, 4096).unwrap();
    w.machine.allowance = Some(0);
    assert_eq!(error(w.receive(b, to)), Error::NoMemory);
    w.machine.allowance = None;
    w.receive(b, to).unwrap();
    assert_eq!((w.used(a, Account::Memory), w.used(b, Account::Memory)), (0, 4096));
    w.finish_all(&[a, b]);
}

#[test]
#[cfg_attr(miri, ignore = "zeroes gigabytes")]
fn a_gibibyte_is_a_block_or_in_pieces() {
    let mut w = World::new(1024 + 512 - 1);
    let a = w.partition(None);
    let control = w.used(a, Account::ControlMemory);
    let whole = w.system.region_create(&mut w.machine, a, GIB, AT).unwrap();
    assert_eq!(w.used(a, Account::ControlMemory), control + PAGE, "a page of records, no table");
    assert_eq!(w.system.translate(&w.machine, a, Ipa::new(AT + MIB)).unwrap().size, GIB - MIB);
    // Half of it, and not in one piece.
    let held: Vec<_> = (0..600).map_while(|_| w.machine.allocate(21)).collect();
    for pa in held.iter().filter(|pa| pa.get() >> 21 & 1 == 1) {
        w.machine.free(*pa, 21);
    }
    let size = held.len() as u64 / 2 * (2 * MIB);
    assert!(size > GIB / 4);
    let pieces = w.system.region_create(&mut w.machine, a, GIB / 2, AT + GIB).unwrap();
    assert_eq!(w.used(a, Account::ControlMemory), control + 2 * PAGE);
    let span = w.system.translate(&w.machine, a, Ipa::new(AT + GIB + GIB / 2 - PAGE)).unwrap();
    assert_eq!(span.size, PAGE);
    assert!(w.system.translate(&w.machine, a, Ipa::new(AT + GIB + GIB / 2)).is_none());
    for region in [whole, pieces] {
        let mut steps = 1;
        while w.system.region_destroy(&mut w.machine, a, u64::from(region.get())) == Ok(Progress::Again) {
            steps += 1;
        }
        assert!(steps == GIB >> 16 || steps == GIB >> 17, "{steps} steps of 64 KiB");
    }
    for pa in held.iter().filter(|pa| pa.get() >> 21 & 1 == 0) {
        w.machine.free(*pa, 21);
    }
    w.finish_all(&[a]);
}

#[test]
#[cfg_attr(miri, ignore = "zeroes gigabytes")]
fn a_gibibyte_in_pieces_needs_its_table_paid() {
    let mut w = World::new(3 * 512);
    let a = w.partition(None);
    let first = w.system.region_create(&mut w.machine, a, 4096, 0).unwrap();
    // No GiB is whole any more.
    let held: Vec<_> = (0..3 * 512).map_while(|_| w.machine.allocate(21)).collect();
    for pa in held.iter().filter(|pa| pa.get() % GIB != 0) {
        w.machine.free(*pa, 21);
    }
    let used = w.used(a, Account::ControlMemory);
    w.system.set_limit(&w.machine, w.id(a), Account::ControlMemory as u64, used).unwrap();
    let result = w.system.region_create(&mut w.machine, a, GIB, 0);
    assert_eq!(result, Err(Failure { error: Error::Limit, detail: Account::ControlMemory as u64 }));
    w.system.set_limit(&w.machine, w.id(a), Account::ControlMemory as u64, used + PAGE).unwrap();
    let pieces = w.system.region_create(&mut w.machine, a, GIB, 0).unwrap();
    assert_eq!(w.used(a, Account::ControlMemory), used + PAGE);
    let at = AT + 7 * GIB;
    w.system.region_map(&mut w.machine, a, u64::from(pieces.get()), at).unwrap();
    assert_eq!(w.system.translate(&w.machine, a, Ipa::new(at + GIB - 1)).unwrap().size, 1);
    assert_eq!(error(w.system.region_map(&mut w.machine, a, u64::from(first.get()), at)), Error::InUse);
    for pa in held.iter().filter(|pa| pa.get() % GIB == 0) {
        w.machine.free(*pa, 21);
    }
    w.finish_all(&[a]);
}

#[test]
fn a_creator_learns_of_an_end_once() {
    let mut w = World::new(8);
    let a = w.partition(None);
    let control = w.used(a, Account::ControlMemory);
    let (b, c) = (w.partition(Some(a)), w.partition(Some(a)));
    assert_eq!(w.used(a, Account::ControlMemory), control + 2 * 3 * PAGE);
    w.finish(b);
    w.finish(c);
    // One that is forgotten before the signal was taken takes it along.
    let (b_id, c_id) = (w.id(b), w.id(c));
    w.system.destroy(&mut w.machine, b_id).unwrap();
    assert_eq!(error(w.system.find(b_id)), Error::BadHandle);
    let signal = w.system.signal_next(a).unwrap();
    assert_eq!((signal.kind, signal.token, signal.partition), (SignalKind::PartitionEnded, 0, c_id));
    assert_eq!(signal.argument, EndReason::Exited as u64);
    assert_eq!(error(w.system.signal_next(a)), Error::WouldBlock);
    assert_eq!(w.used(a, Account::ControlMemory), control + 3 * PAGE);
    assert_eq!(
        (w.system.partition(c).unwrap().status(), w.system.partition(c).unwrap().phase()),
        (3, Phase::Terminated)
    );
    w.finish(a);
    // Children outlive who made them, and nobody is told of their end.
    w.system.destroy(&mut w.machine, c_id).unwrap();
    let id = w.id(a);
    w.system.destroy(&mut w.machine, id).unwrap();
    assert_eq!(w.machine.allocated_bytes(), 0);
}

#[test]
fn ids_are_never_used_again_and_places_are() {
    let mut w = World::new(8);
    let a = w.partition(None);
    let first = w.partition(None);
    let id = w.id(first);
    w.finish(first);
    w.system.destroy(&mut w.machine, id).unwrap();
    let second = w.partition(None);
    assert_eq!((first, first.vmid()), (second, second.vmid()));
    assert!(w.id(second) > id);
    assert_eq!(error(w.system.connect(&mut w.machine, a, u64::from(id.get()), 1)), Error::BadHandle);
    w.finish_all(&[a, second]);
}

#[test]
fn reaping_takes_steps_in_proportion_and_no_longer() {
    let mut w = World::new(40);
    let a = w.partition(None);
    let idle = w.finish(a);
    let shell = Box::leak(Box::new(Partition::new()));
    let name = Name::new("large").unwrap();
    let id = w.system.create(&mut w.machine, None, name, 1, shell, PAGE).map_err(|(f, _)| f).unwrap();
    let b = w.system.find(id).unwrap();
    for account in [Account::Memory, Account::ControlMemory, Account::AddressSpace] {
        w.system.set_limit(&w.machine, id, account as u64, u64::MAX).unwrap();
    }
    w.system.add_memory(&mut w.machine, b, Ipa::new(layout::MEMORY_BASE), 32 * MIB).unwrap();
    let before = w.machine.zeroed;
    let steps = w.finish(b);
    assert_eq!(w.machine.zeroed - before, 32 * MIB + PAGE);
    assert!(steps <= idle + 32 * 16 + 2, "{steps} steps");
    for ix in [a, b] {
        let id = w.id(ix);
        w.system.destroy(&mut w.machine, id).unwrap();
    }
    assert_eq!(w.machine.allocated_bytes(), 0);
}

#[test]
fn memory_that_leaves_goes_on_from_any_step_by_whoever_takes_it() {
    let at = layout::MEMORY_BASE;
    // The partition ends after so many steps, or another processor makes the same call.
    for stop in (0..=2 * 32 + 1).filter(|stop| !cfg!(miri) || [0, 33, 65].contains(stop)) {
        for end in [false, true] {
            let mut w = World::new(8);
            let a = w.partition(None);
            w.system.memory_add(&mut w.machine, a, at, 6 * MIB).unwrap();
            for granule in 0..3 {
                let span = w.system.translate(&w.machine, a, Ipa::new(at + granule * 2 * MIB)).unwrap();
                w.machine.write(span.pa, 7);
            }
            let steps = (0..stop)
                .take_while(|_| w.system.memory_remove(&mut w.machine, a, at, 4 * MIB) == Ok(Progress::Again))
                .count();
            assert_eq!(steps, stop.min(64));
            assert_eq!(w.system.translate(&w.machine, a, Ipa::new(at)).is_none(), stop > 0);
            if !end {
                let mut finished = stop > 64;
                while !finished {
                    // What is on its way out takes nothing new in its place.
                    let taken = w.system.memory_add(&mut w.machine, a, at + 2 * MIB, 2 * MIB);
                    assert_eq!(error(taken), Error::InUse);
                    finished = w.system.memory_remove(&mut w.machine, a, at, 4 * MIB) == Ok(Progress::Done);
                }
                assert_eq!(error(w.system.memory_remove(&mut w.machine, a, at, 4 * MIB)), Error::BadAddress);
                assert_eq!(
                    (w.used(a, Account::Memory), w.used(a, Account::AddressSpace)),
                    (2 * MIB, 2 * MIB)
                );
                assert_eq!(w.machine.zeroed, 4 * MIB);
            }
            w.finish_all(&[a]);
            assert!(w.machine.dirty.is_empty());
        }
    }
}

#[test]
fn a_limit_below_the_use_lets_nothing_new_in_until_the_use_has_fallen() {
    let mut w = World::new(20);
    let a = w.partition(None);
    let id = w.id(a);
    let memory = layout::MEMORY_BASE;
    let limit = |account: Account| Failure { error: Error::Limit, detail: account as u64 };
    w.system.memory_add(&mut w.machine, a, memory, 4 * MIB).unwrap();
    let region = u64::from(w.system.region_create(&mut w.machine, a, 4096, AT).unwrap().get());
    let me = u64::from(id.get());
    let port = u64::from(w.system.connect(&mut w.machine, a, me, 1).unwrap().get());

    let set =
        |w: &mut World, account: Account, to| w.system.set_limit(&w.machine, id, account as u64, to).unwrap();
    for (account, more) in [(Account::Memory, 4096), (Account::AddressSpace, 2 * MIB), (Account::Ports, 1)] {
        let used = w.used(a, account);
        let grow = |w: &mut World| match account {
            Account::Memory => w.system.region_create(&mut w.machine, a, 4096, 0).map(|handle| {
                let handle = u64::from(handle.get());
                assert_eq!(w.system.region_destroy(&mut w.machine, a, handle), Ok(Progress::Done));
            }),
            Account::AddressSpace => {
                w.system.region_create(&mut w.machine, a, 4096, AT + 2 * MIB).map(|handle| {
                    let handle = u64::from(handle.get());
                    assert_eq!(w.system.region_destroy(&mut w.machine, a, handle), Ok(Progress::Done));
                })
            }
            _ => w.system.connect(&mut w.machine, a, me, 1).map(|port| {
                let port = u64::from(port.get());
                assert_eq!(w.system.disconnect(&mut w.machine, a, port), Ok(Progress::Done));
            }),
        };
        for below in [0, 1, used / 2, used - 1, used, used + more - 1] {
            set(&mut w, account, below);
            assert_eq!(grow(&mut w), Err(limit(account)), "{account} limited to {below} of {used}");
            assert_eq!(w.used(a, account), used, "nothing is taken away");
        }
        set(&mut w, account, used + more);
        assert_eq!(grow(&mut w), Ok(()));
        set(&mut w, account, u64::MAX);
    }
    // What is there can be used, sent and given back whatever the limits of what is held are; the bus's limit is one of doing.
    for &account in Account::ALL {
        set(&mut w, account, 0);
    }
    let never = Failure { error: Error::Throttled, detail: u64::MAX };
    assert_eq!(w.system.region_unmap(&mut w.machine, a, region), Err(never));
    assert_eq!(w.system.memory_remove(&mut w.machine, a, memory, 4 * MIB), Err(never));
    set(&mut w, Account::Bus, u64::MAX);
    assert_eq!(
        w.system.memory_add(&mut w.machine, a, memory + 4 * MIB, 2 * MIB),
        Err(limit(Account::Memory))
    );
    assert_eq!(w.system.region_unmap(&mut w.machine, a, region), Ok(()));
    assert_eq!(w.system.region_map(&mut w.machine, a, region, AT), Err(limit(Account::AddressSpace)));
    while w.system.memory_remove(&mut w.machine, a, memory, 4 * MIB).unwrap() == Progress::Again {}
    assert_eq!(w.system.region_destroy(&mut w.machine, a, region), Ok(Progress::Done));
    assert_eq!(w.system.disconnect(&mut w.machine, a, port), Ok(Progress::Done));
    // The use has fallen below a limit again.
    set(&mut w, Account::Memory, 2 * MIB);
    assert_eq!(w.system.memory_add(&mut w.machine, a, memory, 2 * MIB), Err(limit(Account::AddressSpace)));
    set(&mut w, Account::AddressSpace, 2 * MIB);
    w.system.memory_add(&mut w.machine, a, memory, 2 * MIB).unwrap();
    // Control memory: what the control OS keeps for it, page by page.
    let used = w.used(a, Account::ControlMemory);
    set(&mut w, Account::Ports, u64::MAX);
    set(&mut w, Account::ControlMemory, used - 1);
    let failed = (0..200).find_map(|_| w.system.connect(&mut w.machine, a, me, 1).err());
    assert_eq!((failed, w.used(a, Account::ControlMemory)), (Some(limit(Account::ControlMemory)), used));
    w.finish_all(&[a]);
}

#[test]
fn the_page_of_stolen_times_is_the_partitions_to_pay_and_to_read() {
    let mut w = World::new(4);
    let a = w.partition(None);
    let id = w.id(a);
    let at = Ipa::new(layout::STOLEN_TIME_BASE);
    let used = w.used(a, Account::ControlMemory);
    w.system.set_limit(&w.machine, id, Account::ControlMemory as u64, used + 3 * PAGE - 1).unwrap();
    let limit = Error::Limit;
    assert_eq!(error(w.system.stolen_time_page(&mut w.machine, a)), limit);
    assert_eq!(w.system.translate(&w.machine, a, at), None);
    w.system.set_limit(&w.machine, id, Account::ControlMemory as u64, used + 3 * PAGE).unwrap();
    // The page and two tables; and only once, whoever asks.
    let page = w.system.stolen_time_page(&mut w.machine, a).unwrap();
    assert_eq!(w.used(a, Account::ControlMemory), used + 3 * PAGE);
    let span = w.system.translate(&w.machine, a, at).unwrap();
    assert_eq!((span.pa, span.size, span.writable), (page, PAGE, false));
    assert_eq!(w.system.translate(&w.machine, a, Ipa::new(at.get() + PAGE)), None);
    w.system.set_limit(&w.machine, id, Account::ControlMemory as u64, 0).unwrap();
    assert_eq!(w.system.stolen_time_page(&mut w.machine, a), Ok(page));
    w.finish(a);
    assert_eq!(w.used(a, Account::ControlMemory), 0);
    assert_eq!(error(w.system.stolen_time_page(&mut w.machine, a)), Error::WrongState);
    w.system.destroy(&mut w.machine, id).unwrap();
    assert_eq!(w.machine.allocated_bytes(), 0);
}
