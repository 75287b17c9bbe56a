//! Regions lent for the length of a call: who reaches what while it is on, and that it comes back whatever ends it.

mod machine;
#[path = "lend/world.rs"]
mod world;

use handover_abi::{Account, Error, MessageWord, Port};
use handover_core::{Delivered, Failure, Handed, PAGE, Progress, VcpuId, Waited};
use machine::Model;
use world::{AT, FIRST, GIB, LANDING, LENDER, MIB, SECOND, WIDE, World};

/// One of each shape: a table of one page, of many, a block, a table of blocks.
const SIZES: &[u64] = if cfg!(miri) { &[PAGE, PAGES] } else { &[PAGE, PAGES, 2 * MIB, 4 * MIB] };
/// Those of many: two steps to clear at least.
const PAGES: u64 = if cfg!(miri) { 32 * PAGE } else { MIB };

fn place(size: u64) -> (u64, u64) {
    // Where the lender has it, and where a server can have it.
    if size > 2 * MIB { (WIDE, WIDE + GIB) } else { (AT, LANDING) }
}

#[test]
fn the_server_reads_and_the_lender_gets_it_back_where_it_was() {
    for &size in SIZES {
        for kept in [false, true] {
            let mut w = World::new();
            let (at, landing) = place(size);
            w.land(landing);
            let region = w.region(size);
            let last = at + size - PAGE;
            let pa = w.reach(LENDER, last).unwrap().0;
            for _ in 0..2 {
                let view = w.lent(region, kept);
                w.check();
                assert_eq!(w.reads(FIRST, landing), Some(17));
                assert_eq!(w.reach(FIRST, landing + size - PAGE), Some((pa, false)), "to read alone");
                assert_eq!(w.info(FIRST, view), Ok((size, landing)));
                let expected = kept.then_some((pa, true));
                assert_eq!(w.reach(LENDER, last), expected, "the lender reaches it if it has said so");
                // It has no name and its place is taken.
                assert_eq!(w.info(LENDER, region), Err(Error::BadHandle.into()));
                assert_eq!(
                    w.system.region_create(&mut w.machine, w.partitions[LENDER], size, at).map(|_| ()),
                    Err(Error::InUse.into())
                );
                assert!(w.reply(FIRST, None).unwrap().word.region().is_none());
                w.check();
                assert_eq!(w.reach(LENDER, last), Some((pa, true)));
                assert_eq!(w.info(LENDER, region), Ok((size, at)));
                assert_eq!(w.reach(FIRST, landing), None);
                assert_eq!(w.info(FIRST, view), Err(Error::BadHandle.into()));
            }
            w.finish();
        }
    }
}

#[test]
fn it_waits_with_its_call() {
    for kept in [false, true] {
        let mut w = World::new();
        w.land(LANDING);
        let region = w.region(PAGE);
        assert_eq!(w.lend(0, region, kept), Ok(Handed::Queued));
        w.check();
        assert_eq!(w.reads(LENDER, AT), kept.then_some(17));
        let Waited::Call(Delivered { word, .. }) = w.wait(FIRST) else { panic!("no call") };
        assert!(word.is_lent() && word.is_landed());
        w.check();
        assert_eq!(w.reads(FIRST, LANDING), Some(17));
        w.reply(FIRST, None).unwrap();
        assert_eq!(w.reads(LENDER, AT), Some(17));
        // Nobody takes it: it is there again, with the name that it had.
        assert_eq!(w.lend(0, region, kept), Ok(Handed::Queued));
        let caller = w.vcpu(LENDER);
        w.system.call_expired(&mut w.machine, caller);
        assert_eq!(w.failed(), [Error::TimedOut]);
        assert_eq!(w.reads(LENDER, AT), Some(17));
        assert_eq!(w.info(LENDER, region), Ok((PAGE, AT)));
        w.check();
        w.finish();
    }
}

#[test]
fn what_is_unmapped_is_lent_and_comes_back_unmapped() {
    let mut w = World::new();
    w.land(0);
    let region = w.region(PAGE);
    w.system.region_unmap(&mut w.machine, w.partitions[LENDER], u64::from(region.get())).unwrap();
    let view = w.lent(region, false);
    assert_eq!(w.info(FIRST, view), Ok((PAGE, 0)));
    // The server maps it where it likes, and takes it out again.
    let server = w.partitions[FIRST];
    let name = u64::from(view.get());
    w.system.region_map(&mut w.machine, server, name, AT).unwrap();
    w.check();
    assert_eq!(w.reads(FIRST, AT), Some(17));
    w.system.region_unmap(&mut w.machine, server, name).unwrap();
    w.check();
    assert_eq!(w.reads(FIRST, AT), None);
    w.system.region_map(&mut w.machine, server, name, LANDING).unwrap();
    w.reply(FIRST, None).unwrap();
    w.check();
    assert_eq!(w.reads(FIRST, LANDING), None);
    assert_eq!(w.info(LENDER, region), Ok((PAGE, 0)));
    w.finish();
}

#[test]
fn a_borrower_may_do_nothing_else_with_it() {
    let mut w = World::new();
    w.land(LANDING);
    let region = w.region(PAGE);
    let view = w.lent(region, false);
    let (server, name) = (w.partitions[FIRST], u64::from(view.get()));
    let denied = Failure::from(Error::Denied);
    let word = MessageWord::new(w.channels[2].0, Some(view), 0);
    assert_eq!(w.system.send(&mut w.machine, server, word, &[0; 16]), Err(denied));
    let caller = w.vcpu(FIRST);
    assert_eq!(w.system.call(&mut w.machine, caller, word), Err(denied));
    assert_eq!(w.system.call(&mut w.machine, caller, word.lent()), Err(denied));
    assert_eq!(w.reply(FIRST, Some(view)).map(|_| ()), Err(denied));
    assert_eq!(w.system.region_destroy(&mut w.machine, server, name), Err(denied));
    w.check();
    assert_eq!(w.reads(FIRST, LANDING), Some(17));
    w.reply(FIRST, None).unwrap();
    w.finish();
}

#[test]
fn the_claim_takes_it_along_if_the_server_says_so() {
    for waits in [false, true] {
        for named in [false, true] {
            let mut w = World::new();
            w.land(LANDING);
            let region = w.region(PAGE);
            let view = w.lent(region, false);
            if waits {
                assert_eq!(w.wait(SECOND), Waited::Waiting);
            }
            let server = w.vcpu(FIRST);
            let word = MessageWord::new(w.channels[2].0, named.then_some(view), 8);
            let (_, handed) = w.system.forward(&mut w.machine, server, word).unwrap();
            w.check();
            let word = match (handed, waits) {
                (Handed::To(_, word), true) => word,
                (Handed::Queued, false) => {
                    assert_eq!(w.reads(SECOND, LANDING), None);
                    let Waited::Call(Delivered { word, .. }) = w.wait(SECOND) else { panic!("no call") };
                    word
                }
                other => panic!("{other:?}"),
            };
            w.check();
            assert_eq!((word.region().is_some(), word.is_lent()), (named, named));
            assert_eq!(w.reads(FIRST, LANDING), None, "it has let go of it");
            assert_eq!(w.reads(SECOND, LANDING), named.then_some(17));
            assert_eq!(w.reads(LENDER, AT), None);
            w.reply(SECOND, None).unwrap();
            w.check();
            assert_eq!(w.reads(SECOND, LANDING), None);
            assert_eq!(w.reads(LENDER, AT), Some(17));
            w.finish();
        }
    }
}

/// What may end a call that is being served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    TimeOut,
    LenderClosesItsPort,
    LenderEnds,
    ServersProcessorIsOff,
    ServerEnds,
}

const CAUSES: [Cause; 5] = [
    Cause::TimeOut,
    Cause::LenderClosesItsPort,
    Cause::LenderEnds,
    Cause::ServersProcessorIsOff,
    Cause::ServerEnds,
];

impl World {
    fn cause(&mut self, cause: Cause) {
        match cause {
            Cause::TimeOut => {
                let caller = self.vcpu(LENDER);
                self.system.call_expired(&mut self.machine, caller);
            }
            Cause::LenderClosesItsPort => {
                let port = u64::from(self.channels[0].0.get());
                let lender = self.partitions[LENDER];
                while self.system.disconnect(&mut self.machine, lender, port).unwrap() == Progress::Again {}
            }
            Cause::LenderEnds => self.end(LENDER),
            Cause::ServersProcessorIsOff => {
                let server = self.vcpu(FIRST);
                self.system.vcpu_off(&mut self.machine, server);
            }
            Cause::ServerEnds => self.end(FIRST),
        }
    }
}

#[test]
fn whatever_ends_the_call_it_comes_back_and_no_reader_faults() {
    let (skipped, step) = if cfg!(miri) { (1, 3) } else { (0, 1) };
    for &size in SIZES.iter().skip(skipped) {
        for cause in CAUSES {
            for (kept, mapped) in [(false, true), (true, true), (false, false)].into_iter().step_by(step) {
                let mut w = World::new();
                let (at, landing) = place(size);
                w.land(if mapped { landing } else { 0 });
                let region = w.region(size);
                let view = w.lent(region, kept);
                w.cause(cause);
                w.check();
                if cause != Cause::LenderEnds {
                    let error = if cause == Cause::TimeOut { Error::TimedOut } else { Error::PeerClosed };
                    assert_eq!(w.failed(), [error]);
                    assert_eq!(w.reads(LENDER, at), Some(17), "{cause:?}");
                    assert_eq!(w.info(LENDER, region), Ok((size, at)));
                }
                if cause != Cause::ServerEnds {
                    // Who still reads finds zeroes, to the end of its slot, until it unmaps them.
                    let server = w.partitions[FIRST];
                    let name = u64::from(view.get());
                    for page in [0, size - PAGE] {
                        assert_eq!(w.reads(FIRST, landing + page), mapped.then_some(0), "{cause:?}");
                    }
                    let denied = w.system.region_destroy(&mut w.machine, server, name);
                    let expected = if mapped { Ok(Progress::Done) } else { Err(Error::BadHandle.into()) };
                    assert_eq!(denied, expected, "zeroes are given back like anything else");
                    assert_eq!(w.reads(FIRST, landing), None);
                    assert_eq!(w.reply(FIRST, None).map(|_| ()), Err(Error::BadHandle.into()));
                    let used = w.system.partition(server).unwrap().accounts().used(Account::AddressSpace);
                    assert_eq!(used, 0);
                }
                w.check();
                w.finish();
            }
        }
    }
}

#[test]
fn zeroes_go_when_they_are_unmapped_and_can_be_done_nothing_else_with() {
    for &size in SIZES {
        let mut w = World::new();
        let (_, landing) = place(size);
        w.land(landing);
        let region = w.region(size);
        let view = w.lent(region, false);
        w.cause(Cause::TimeOut);
        let (server, name) = (w.partitions[FIRST], u64::from(view.get()));
        let word = MessageWord::new(w.channels[2].0, Some(view), 0);
        assert_eq!(w.system.send(&mut w.machine, server, word, &[0; 16]), Err(Error::Denied.into()));
        assert_eq!(w.system.region_map(&mut w.machine, server, name, AT), Err(Error::InUse.into()));
        let slot = if size > 2 * MIB { GIB } else { 2 * MIB };
        assert_eq!(w.info(FIRST, view), Ok((slot, landing)));
        w.system.region_unmap(&mut w.machine, server, name).unwrap();
        w.check();
        assert_eq!(w.reads(FIRST, landing), None);
        assert_eq!(w.info(FIRST, view), Err(Error::BadHandle.into()));
        // The lender's is its own to send, and the table by which it was lent goes.
        let word = MessageWord::new(w.channels[0].0, Some(region), 0);
        w.system.send(&mut w.machine, w.partitions[LENDER], word, &[0; 16]).unwrap();
        w.check();
        w.finish();
    }
}

#[test]
fn lending_to_itself() {
    let mut w = World::new();
    w.join(LENDER, LENDER);
    w.land(LANDING);
    let other = VcpuId { partition: w.partitions[LENDER], index: 1 };
    w.system.vcpu_on(other);
    let region = w.region(PAGE);
    assert_eq!(w.system.call_wait(&mut w.machine, other), Ok(Waited::Waiting));
    let Ok(Handed::To(_, word)) = w.lend(3, region, false) else { panic!("nobody took it") };
    let view = word.region().unwrap();
    w.system.region_map(&mut w.machine, w.partitions[LENDER], u64::from(view.get()), LANDING).unwrap();
    w.check();
    assert_eq!((w.reads(LENDER, AT), w.reads(LENDER, LANDING)), (None, Some(17)));
    let word = MessageWord::new(Port::new(0), None, 0);
    w.system.reply(&mut w.machine, other, word).unwrap();
    w.check();
    assert_eq!((w.reads(LENDER, AT), w.reads(LENDER, LANDING)), (Some(17), None));
    w.finish();
}

#[test]
fn a_call_that_cannot_lend_changes_nothing() {
    for waits in [true, false].into_iter().take(if cfg!(miri) { 1 } else { 2 }) {
        for allowance in 0.. {
            let mut w = World::new();
            w.land(LANDING);
            let region = w.region(PAGES);
            if waits {
                assert_eq!(w.wait(FIRST), Waited::Waiting);
            }
            let before = (w.machine.digest(), w.machine.allocated_bytes());
            w.machine.allowance = Some(allowance);
            let result = w.lend(0, region, false);
            w.machine.allowance = None;
            if result.is_ok() {
                // A table to lend by; with somebody who takes it a table of regions and one for the window.
                assert_eq!(allowance, if waits { 3 } else { 1 });
                w.finish();
                break;
            }
            assert_eq!(result, Err(Error::NoMemory.into()));
            assert_eq!((w.machine.digest(), w.machine.allocated_bytes()), before);
            assert_eq!(w.reads(LENDER, AT), Some(17));
            w.check();
            w.finish();
        }
    }
}

#[test]
fn limits_of_either_side() {
    let mut w = World::new();
    w.land(LANDING);
    let region = w.region(PAGES);
    let set = |w: &mut World, of: usize, account, limit| {
        let id = w.system.partition(w.partitions[of]).unwrap().id();
        w.system.set_limit(&w.machine, id, account as u64, limit).unwrap();
    };
    let used = |w: &World, of: usize, account| {
        w.system.partition(w.partitions[of]).unwrap().accounts().used(account)
    };
    assert_eq!(w.wait(FIRST), Waited::Waiting);
    // The table by which it is lent is the lender's to pay.
    let control = used(&w, LENDER, Account::ControlMemory);
    set(&mut w, LENDER, Account::ControlMemory, control + PAGE - 1);
    assert_eq!(w.lend(0, region, false), Err(Failure::limit(Account::ControlMemory)));
    set(&mut w, LENDER, Account::ControlMemory, control + PAGE);
    // A name for it is the server's, which the lender need not know more of.
    let theirs = used(&w, FIRST, Account::ControlMemory);
    set(&mut w, FIRST, Account::ControlMemory, theirs + PAGE - 1);
    assert_eq!(w.lend(0, region, false), Err(Error::QueueFull.into()));
    set(&mut w, FIRST, Account::ControlMemory, theirs + PAGE);
    // No memory is asked of it, and without room for the addresses it comes unmapped.
    set(&mut w, FIRST, Account::Memory, 0);
    set(&mut w, FIRST, Account::AddressSpace, 0);
    let Ok(Handed::To(_, word)) = w.lend(0, region, false) else { panic!("nobody took it") };
    assert!(!word.is_landed());
    assert_eq!((used(&w, FIRST, Account::Memory), used(&w, LENDER, Account::Memory)), (0, PAGES));
    w.check();
    w.reply(FIRST, None).unwrap();
    // The table stays for the next time, and goes with the region.
    assert_eq!(used(&w, LENDER, Account::ControlMemory), control + PAGE);
    let (lender, handle) = (w.partitions[LENDER], u64::from(region.get()));
    while w.system.region_destroy(&mut w.machine, lender, handle).unwrap() == Progress::Again {}
    w.check();
    w.finish();
}

/// Of so many steps one is left out: a region of so many pages takes Miri seconds.
const SHARE: u64 = if cfg!(miri) { 32 } else { 1 };

#[test]
fn leaving_out_any_step_of_the_maintenance_is_noticed() {
    // Lent, taken back by force, unmapped; lent and returned: each step once left out.
    let check = |w: &mut World| {
        assert!(w.machine.all_visible());
        w.check();
    };
    let play = |omit: Option<u64>, tlb_range: bool| {
        let mut w = World::with(Model::new(64, tlb_range));
        w.land(LANDING);
        let region = w.region(MIB);
        w.check();
        let first = w.machine.steps;
        w.machine.omit = omit.map(|step| first + step);
        let view = w.lent(region, false);
        check(&mut w);
        w.cause(Cause::TimeOut);
        check(&mut w);
        let server = w.partitions[FIRST];
        w.system.region_unmap(&mut w.machine, server, u64::from(view.get())).unwrap();
        check(&mut w);
        w.lent(region, false);
        check(&mut w);
        w.reply(FIRST, None).unwrap();
        check(&mut w);
        w.machine.steps - first
    };
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let unnoticed = [true, false].map(|tlb_range| {
        let steps = play(None, tlb_range);
        let noticed = |step: &u64| std::panic::catch_unwind(|| play(Some(*step), tlb_range)).is_err();
        (0..steps).step_by(SHARE as usize).filter(|step| !noticed(step)).collect::<Vec<u64>>()
    });
    std::panic::set_hook(hook);
    // The barriers at the end of an unlinking, where the same call links something next, which ends with the same; and all of a linking before another.
    let idle: [Vec<u64>; 2] = [vec![5, 13, 14, 15, 29, 37], vec![3, 9, 10, 11, 21, 27]];
    assert_eq!(
        unnoticed,
        idle.map(|steps| steps.into_iter().filter(|step| step.is_multiple_of(SHARE)).collect::<Vec<u64>>())
    );
}
