//! Where stage 2 does not force write-back: whatever way memory goes from one partition to another, it is seen as it was handed over, by whatever attributes,
//! and every step of the cache maintenance is needed for it.

mod machine;
#[path = "lend/world.rs"]
mod world;

use handover_abi::{EndReason, Error, MessageWord, RegionHandle, layout};
use handover_core::maintenance::CacheStep;
use handover_core::{Failure, Handed, PAGE, Pa, Progress, Waited};
use machine::Model;
use machine::cache::View;
use world::{AT, FIRST, GIB, LANDING, LENDER, MIB, SECOND, WIDE, World};

const SECRET: u64 = 0x5ec7e7;
const MESSAGE: u64 = 17;

/// One of each shape: a table of one page, of many, a block, a table of blocks.
const SIZES: &[u64] = if cfg!(miri) { &[PAGE] } else { &[PAGE, 32 * PAGE, 2 * MIB, 4 * MIB] };
/// Those of which every step is left out once.
const SMALL: &[u64] = if cfg!(miri) { &[PAGE] } else { &[PAGE, 16 * PAGE, 32 * PAGE] };

fn world() -> World {
    let mut machine = Model::new(64, true);
    machine.capabilities.forced_write_back = false;
    World::with(machine)
}

fn at(size: u64) -> (u64, u64) {
    if size > 2 * MIB { (WIDE, WIDE + GIB) } else { (AT, LANDING) }
}

/// How the sender comes to what it sends, after something else was there.
#[derive(Clone, Copy, Debug)]
enum History {
    /// All by the caches.
    WriteBack,
    /// It cleans its own lines, and goes on past the caches.
    NonCacheable,
}

/// The second has all in it that the first has, and a world takes Miri some ten seconds.
const HISTORIES: &[History] =
    if cfg!(miri) { &[History::NonCacheable] } else { &[History::WriteBack, History::NonCacheable] };

fn write(w: &mut World, pages: &[Pa], history: History) {
    for &pa in pages {
        w.machine.write(pa, SECRET);
        if let History::NonCacheable = history {
            w.machine.cache.execute(CacheStep::CleanInvalidate { at: pa });
            w.machine.cache.execute(CacheStep::DsbSy);
        }
        let view = match history {
            History::WriteBack => View::WriteBack,
            History::NonCacheable => View::NonCacheable,
        };
        w.machine.write_through(pa, MESSAGE, view);
    }
}

/// Where each of a mapped region's pages is.
fn pages(w: &World, of: usize, at: u64, size: u64) -> Vec<Pa> {
    (at..at + size).step_by(PAGE as usize).map(|page| w.reach(of, page).unwrap().0).collect()
}

/// What is wrong with them: somebody may find something else there than `expected`.
fn verdict(w: &World, pages: &[Pa], expected: u64) -> Result<(), String> {
    for &pa in pages {
        for view in [View::WriteBack, View::NonCacheable] {
            let found = w.machine.cache.loads(pa, view);
            if found.iter().any(|value| *value != expected) {
                return Err(format!("{pa:x?} by {view:?}: {found:x?}"));
            }
        }
    }
    if w.machine.freed_early { Err("freed early".into()) } else { Ok(()) }
}

/// Calls until it is done, each time on another processor, and each time after `between`.
fn until_done<T>(
    w: &mut World,
    mut call: impl FnMut(&mut World) -> Result<T, Failure>,
    mut between: impl FnMut(&mut World),
) -> Result<T, Failure> {
    loop {
        match call(w) {
            Err(Failure::AGAIN) => {
                w.machine.cache.processor += 1;
                between(w);
            }
            result => return result,
        }
    }
}

fn send(w: &mut World, region: RegionHandle) -> Result<u64, Failure> {
    let (who, word) = (w.partitions[LENDER], MessageWord::new(w.channels[0].0, Some(region), 0));
    w.system.send(&mut w.machine, who, word, &[0; 16])
}

fn call(w: &mut World, region: RegionHandle) -> Result<Handed, Failure> {
    let (caller, word) = (w.vcpu(LENDER), MessageWord::new(w.channels[0].0, Some(region), 8));
    w.system.call(&mut w.machine, caller, word)
}

fn forward(w: &mut World, region: RegionHandle) -> Result<Handed, Failure> {
    let (server, word) = (w.vcpu(FIRST), MessageWord::new(w.channels[2].0, Some(region), 8));
    w.system.forward(&mut w.machine, server, word).map(|(_, handed)| handed)
}

/// Hands a region of the lender's to somebody, who has it when this returns.
type Way = fn(&mut World, RegionHandle, u64);

fn done<T>(w: &mut World, call: impl FnMut(&mut World) -> Result<T, Failure>) -> T {
    until_done(w, call, |_| ()).unwrap()
}

fn taken(w: &mut World, of: usize) {
    assert!(matches!(w.wait(of), Waited::Call(_)));
}

fn by_message(w: &mut World, region: RegionHandle, size: u64) {
    done(w, |w| send(w, region));
    let (who, port) = (w.partitions[FIRST], u64::from(w.channels[0].1.get()));
    w.system.receive(&mut w.machine, who, port, at(size).1, &mut [0; 16]).unwrap();
}

fn by_call(w: &mut World, region: RegionHandle, _: u64) {
    assert_eq!(w.wait(FIRST), Waited::Waiting);
    assert!(matches!(done(w, |w| call(w, region)), Handed::To(..)));
}

fn by_queued_call(w: &mut World, region: RegionHandle, _: u64) {
    assert_eq!(done(w, |w| call(w, region)), Handed::Queued);
    taken(w, FIRST);
}

/// The lender answers a call of the second server's with it.
fn by_reply(w: &mut World, region: RegionHandle, _: u64) {
    w.join(SECOND, LENDER);
    assert_eq!(w.wait(LENDER), Waited::Waiting);
    let (caller, port) = (w.vcpu(SECOND), w.channels[3].0);
    w.system.call(&mut w.machine, caller, MessageWord::new(port, None, 0)).unwrap();
    done(w, |w| w.reply(LENDER, Some(region)));
}

fn by_loan(w: &mut World, region: RegionHandle, _: u64) {
    assert_eq!(w.wait(FIRST), Waited::Waiting);
    done(w, |w| w.lend(0, region, false));
}

fn by_queued_loan(w: &mut World, region: RegionHandle, _: u64) {
    assert_eq!(done(w, |w| w.lend(0, region, false)), Handed::Queued);
    taken(w, FIRST);
}

fn by_shown_loan(w: &mut World, region: RegionHandle, _: u64) {
    assert_eq!(w.wait(FIRST), Waited::Waiting);
    done(w, |w| w.lend(0, region, true));
}

const WAYS: [(&str, Way); 7] = [
    ("message", by_message),
    ("call", by_call),
    ("queued call", by_queued_call),
    ("reply", by_reply),
    ("loan", by_loan),
    ("queued loan", by_queued_loan),
    ("shown loan", by_shown_loan),
];

/// A region goes that way, without the step `omit`. → what is wrong, and how many steps of cache maintenance were taken.
fn go(way: Way, size: u64, history: History, omit: Option<u64>) -> (Result<(), String>, u64) {
    let mut w = world();
    w.land(at(size).1);
    let region = w.region(size);
    let pages = pages(&w, LENDER, at(size).0, size);
    write(&mut w, &pages, history);
    let before = w.machine.cache_steps;
    w.machine.omit_cache = omit.map(|step| before + step);
    way(&mut w, region, size);
    let steps = w.machine.cache_steps - before;
    w.check();
    let verdict = verdict(&w, &pages, MESSAGE);
    if omit.is_none() {
        w.finish();
    }
    (verdict, steps)
}

#[test]
fn what_is_handed_over_is_seen_as_it_is_by_whatever_attributes() {
    for (name, way) in WAYS {
        for &size in SIZES {
            for &history in HISTORIES {
                let (verdict, steps) = go(way, size, history, None);
                assert_eq!(verdict, Ok(()), "{name}, {size:#x} bytes, {history:?}");
                assert_eq!(steps, size / PAGE + size.div_ceil(16 * PAGE), "{name}, {size:#x} bytes");
            }
        }
    }
}

#[test]
fn no_step_of_handing_over_can_be_left_out() {
    for (name, way) in WAYS {
        for &size in SMALL {
            for &history in HISTORIES {
                for omit in 0..size / PAGE + size.div_ceil(16 * PAGE) {
                    let (verdict, _) = go(way, size, history, Some(omit));
                    assert!(verdict.is_err(), "{name}, {size:#x} bytes, {history:?}: {omit} does nothing");
                }
            }
        }
    }
}

/// The first server passes on to the second what it got and wrote into.
fn passed_on(size: u64, waits: bool, omit: Option<u64>) -> (Result<(), String>, u64) {
    let mut w = world();
    w.land(at(size).1);
    let region = w.region(size);
    let pages = pages(&w, LENDER, at(size).0, size);
    assert_eq!(w.wait(FIRST), Waited::Waiting);
    let Handed::To(_, word) = done(&mut w, |w| call(w, region)) else { panic!("nobody took it") };
    write(&mut w, &pages, History::WriteBack);
    if waits {
        assert_eq!(w.wait(SECOND), Waited::Waiting);
    }
    let before = w.machine.cache_steps;
    w.machine.omit_cache = omit.map(|step| before + step);
    let handed = done(&mut w, |w| forward(w, word.region().unwrap()));
    if handed == Handed::Queued {
        taken(&mut w, SECOND);
    }
    let steps = w.machine.cache_steps - before;
    let verdict = verdict(&w, &pages, MESSAGE);
    w.check();
    if omit.is_none() {
        w.finish();
    }
    (verdict, steps)
}

#[test]
fn no_step_of_passing_on_can_be_left_out() {
    for (size, waits) in SMALL.iter().flat_map(|&size| [(size, false), (size, true)]) {
        let (verdict, steps) = passed_on(size, waits, None);
        assert_eq!((verdict, steps), (Ok(()), size / PAGE + size.div_ceil(16 * PAGE)));
        for omit in 0..steps {
            assert!(passed_on(size, waits, Some(omit)).0.is_err(), "{size:#x} bytes: {omit} does nothing");
        }
    }
}

/// Takes memory that the lender has written from it.
type Taking = fn(&mut World, RegionHandle);

fn destroy(w: &mut World, region: RegionHandle) {
    let who = w.partitions[LENDER];
    while w.system.region_destroy(&mut w.machine, who, u64::from(region.get())) == Ok(Progress::Again) {
        w.machine.cache.processor += 1;
    }
}

fn end(w: &mut World, _: RegionHandle) {
    let who = w.partitions[LENDER];
    w.system.end(&mut w.machine, who, EndReason::Stopped, 0);
    while w.system.reap(&mut w.machine, who) == Progress::Again {
        w.machine.cache.processor += 1;
    }
}

/// Without the step `omit` of those that the taking took. → what is wrong, and how many they were.
fn take(taking: Taking, size: u64, history: History, omit: Option<u64>) -> (Result<(), String>, u64) {
    let mut w = world();
    let region = w.region(size);
    let pages = pages(&w, LENDER, at(size).0, size);
    write(&mut w, &pages, history);
    let before = w.machine.cache_steps;
    w.machine.omit_cache = omit.map(|step| before + step);
    taking(&mut w, region);
    (verdict(&w, &pages, 0), w.machine.cache_steps - before)
}

#[test]
fn no_step_of_zeroing_can_be_left_out() {
    for &size in SMALL {
        for &history in HISTORIES {
            let (verdict, steps) = take(destroy, size, history, None);
            assert_eq!(verdict, Ok(()), "{size:#x} bytes");
            // With the table's own page.
            assert_eq!(steps, 2 * (size / PAGE), "{size:#x} bytes");
            for omit in 0..steps {
                let (verdict, _) = take(destroy, size, history, Some(omit));
                assert!(verdict.is_err(), "{size:#x} bytes, {history:?}: {omit} does nothing");
            }
            assert_eq!(take(end, size, history, None).0, Ok(()), "{size:#x} bytes, {history:?}");
        }
    }
    // Large regions take Miri an hour.
    for &history in HISTORIES.iter().filter(|_| !cfg!(miri)) {
        // A block: 16 pages and a barrier at a time.
        let (verdict, steps) = take(destroy, 2 * MIB, history, None);
        assert_eq!((verdict, steps), (Ok(()), 512 + 32));
        for omit in (0..steps).step_by(5).chain(steps - 17..steps) {
            assert!(
                take(destroy, 2 * MIB, history, Some(omit)).0.is_err(),
                "{history:?}: {omit} does nothing"
            );
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "large regions take an hour")]
fn a_partition_s_own_memory_is_zeroes_by_whatever_attributes_when_it_has_gone() {
    for &history in HISTORIES {
        let mut w = world();
        let who = w.partitions[LENDER];
        w.system.memory_add(&mut w.machine, who, layout::MEMORY_BASE, 2 * MIB).unwrap();
        let pages = pages(&w, LENDER, layout::MEMORY_BASE, 32 * PAGE);
        write(&mut w, &pages, history);
        while w.system.memory_remove(&mut w.machine, who, layout::MEMORY_BASE, 2 * MIB) == Ok(Progress::Again)
        {
            w.machine.cache.processor += 1;
        }
        assert_eq!(verdict(&w, &pages, 0), Ok(()));
        w.finish();
    }
}

#[test]
fn a_call_that_fails_puts_the_region_back_within_reach() {
    for size in [32 * PAGE, 2 * MIB, 4 * MIB] {
        if cfg!(miri) && size > MIB {
            continue;
        }
        let mut w = world();
        let region = w.region(size);
        let (who, port) = (w.partitions[LENDER], u64::from(w.channels[0].0.get()));
        let pages = pages(&w, LENDER, at(size).0, size);
        assert_eq!(send(&mut w, region), Err(Failure::AGAIN));
        assert_eq!(w.reach(LENDER, at(size).0), None, "from the first step on");
        assert_eq!(w.info(LENDER, region), Ok((size, at(size).0)));
        w.check();
        while w.system.disconnect(&mut w.machine, who, port).unwrap() == Progress::Again {}
        assert_eq!(send(&mut w, region), Err(Error::BadHandle.into()));
        assert_eq!(w.reach(LENDER, at(size).0), Some((pages[0], true)));
        w.check();
        // What is written now is cleaned from the start when it goes another way.
        write(&mut w, &pages, History::WriteBack);
        let word = MessageWord::new(w.channels[1].0, Some(region), 0);
        done(&mut w, |w| w.system.send(&mut w.machine, who, word, &[0; 16]));
        assert_eq!(verdict(&w, &pages, MESSAGE), Ok(()));
        w.check();
        w.finish();
    }
}

#[test]
fn another_call_goes_on_where_one_was_given_up() {
    let size = 64 * PAGE;
    let mut w = world();
    w.land(LANDING);
    let region = w.region(size);
    let pages = pages(&w, LENDER, AT, size);
    write(&mut w, &pages, History::WriteBack);
    let before = w.machine.cache_steps;
    assert_eq!(send(&mut w, region), Err(Failure::AGAIN));
    // Shown, it comes back within reach first, and then all of it counts.
    assert_eq!(w.wait(FIRST), Waited::Waiting);
    assert_eq!(w.lend(0, region, true), Err(Failure::AGAIN));
    assert_eq!(w.reach(LENDER, AT), Some((pages[0], true)));
    write(&mut w, &pages, History::WriteBack);
    // And out of it again.
    assert_eq!(send(&mut w, region), Err(Failure::AGAIN));
    assert_eq!(w.reach(LENDER, AT), None);
    assert_eq!(w.machine.cache_steps - before, 3 * 17);
    done(&mut w, |w| call(w, region));
    assert_eq!(w.machine.cache_steps - before, 2 * 17 + 4 * 17);
    assert_eq!(verdict(&w, &pages, MESSAGE), Ok(()));
    w.check();
    w.finish();
}

#[test]
fn regions_of_declared_colours_are_cleaned_like_all_others() {
    for way in [by_message as Way, by_call, by_queued_call, by_loan] {
        let mut machine = Model::new(64, true);
        machine.capabilities.forced_write_back = false;
        let mut w = World::declaring(machine, 0xf0);
        w.land(LANDING);
        let (who, port) = (w.partitions[LENDER], u64::from(w.channels[0].0.get()));
        let region = w.system.region_create(&mut w.machine, who, (32 * PAGE) | (port << 32), AT).unwrap();
        let pages = pages(&w, LENDER, AT, 32 * PAGE);
        write(&mut w, &pages, History::WriteBack);
        way(&mut w, region, 32 * PAGE);
        assert_eq!(verdict(&w, &pages, MESSAGE), Ok(()));
        w.check();
        w.finish();
    }
}

#[test]
#[cfg_attr(miri, ignore = "large regions take an hour")]
fn what_was_not_mapped_since_it_came_goes_on_at_once() {
    let mut w = world();
    let region = w.region(2 * MIB);
    done(&mut w, |w| send(w, region));
    let (who, port) = (w.partitions[FIRST], w.channels[0].1);
    let word = w.system.receive(&mut w.machine, who, port.get().into(), 0, &mut [0; 16]).unwrap();
    let before = w.machine.cache_steps;
    let on = MessageWord::new(w.channels[2].0, word.region(), 0);
    w.system.send(&mut w.machine, who, on, &[0; 16]).unwrap();
    assert_eq!(w.machine.cache_steps, before);
    // Nor does one that was made and never mapped wait for anything; one that was unmapped does.
    let who = w.partitions[LENDER];
    let fresh = w.system.region_create(&mut w.machine, who, 2 * MIB, 0).unwrap();
    send(&mut w, fresh).unwrap();
    let unmapped = w.region(2 * MIB);
    w.system.region_unmap(&mut w.machine, who, unmapped.get().into()).unwrap();
    assert_eq!(send(&mut w, unmapped), Err(Failure::AGAIN));
    done(&mut w, |w| send(w, unmapped));
    w.finish();
}

#[test]
#[cfg_attr(miri, ignore = "large regions take an hour")]
fn nothing_is_cleaned_where_stage_2_forces_write_back() {
    let mut w = World::new();
    let region = w.region(4 * MIB);
    send(&mut w, region).unwrap();
    assert_eq!(w.machine.cache_steps, 0);
    w.finish();
}
