//! Every operation, cut at every boundary it has, by the end of every partition.
//!
//! An operation runs under one lock from its first check to its last store, so another processor's kill takes effect between two of its
//! steps; what can go wrong inside a step is memory running out, and other processors walking the tables meanwhile. So for each operation, among
//! two to eight partitions that have regions, channels, requests and messages of all kinds under way: each machine call inside it is a
//! boundary at which all trees must be sound; each allocation fails once; after each step each partition is killed; and after each step of
//! that partition's end another one is. After each, the books are balanced, and in the end nothing is left.

#[path = "boundaries/control.rs"]
mod control;
mod machine;
#[path = "boundaries/operations.rs"]
mod operations;
#[path = "boundaries/world.rs"]
mod world;

use std::collections::BTreeMap;

use handover_abi::{Call, Error};
use handover_core::{Phase, Progress};
use machine::interface;
use world::{Operation, World};

/// Of so many operations one is cut, among two partitions: a world takes Miri half a minute, and there are hundreds of thousands.
const SHARE: usize = if cfg!(miri) { 24 } else { 1 };

/// All that the rules do.
fn operations() -> impl Iterator<Item = &'static (&'static str, Operation)> {
    operations::OPERATIONS.iter().chain(control::OPERATIONS)
}

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
fn advance(name: &str, w: &mut World, operation: Operation, steps: u32) -> bool {
    for _ in 0..steps {
        match operation(w) {
            Ok(Progress::Again) => {}
            Ok(Progress::Done) => return true,
            Err(failure) => panic!("{name}: {failure:?}"),
        }
    }
    false
}

/// One step more of what may have been cut off: who has ended makes no call, and what was there may be gone.
fn go_on(name: &str, w: &mut World, operation: Operation, over: &mut bool) {
    if !*over {
        match operation(w) {
            Ok(Progress::Again) => {}
            Ok(Progress::Done) => *over = true,
            Err(failure) => {
                let expected = [Error::WrongState, Error::BadHandle, Error::PeerClosed, Error::NotConnected];
                assert!(expected.contains(&failure.error), "{name}: {failure:?}");
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
    let mut over = advance(name, &mut w, operation, steps);
    let victim = w.ring[victim];
    w.end(victim);
    w.check(false);
    let mut reaped = 1;
    while w.system.reap(&mut w.machine, victim) == Progress::Again {
        reaped += 1;
        go_on(name, &mut w, operation, &mut over);
    }
    while !over {
        go_on(name, &mut w, operation, &mut over);
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
    let mut over = advance(name, &mut w, operation, steps);
    let (first, second) = (w.ring[first], w.ring[second]);
    w.end(first);
    for _ in 0..reaped {
        let _: Progress = w.system.reap(&mut w.machine, first);
    }
    w.end(second);
    w.check(false);
    loop {
        let progress = [first, second].map(|victim| w.system.reap(&mut w.machine, victim));
        go_on(name, &mut w, operation, &mut over);
        if progress == [Progress::Done; 2] {
            break;
        }
    }
    while !over {
        go_on(name, &mut w, operation, &mut over);
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
fn every_boundary_of_every_operation_among_two_to_eight_partitions() {
    let mut driven = BTreeMap::<&str, Driven>::new();
    for count in 2..=if SHARE > 1 { 2 } else { 8 } {
        let of_colours = |name: &str| name.contains("colours");
        let (actor, peer) = (count / 2, (count / 2 + 1) % count);
        // What is made page by page has hundreds of boundaries alike.
        for &(name, operation) in
            operations().step_by(SHARE).filter(|(name, _)| count < 4 || !of_colours(name))
        {
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
    if SHARE > 1 {
        return assert!(driven.values().all(|driven| driven.kills > 0), "{driven:?}");
    }
    for (name, driven) in &driven {
        println!("{name}: {driven:?}");
        let worlds = if name.contains("colours") { 2 } else { 7 };
        assert!(driven.steps >= 2 * worlds && driven.kills >= 3 * u64::from(worlds), "{name}: {driven:?}");
    }
    let total = |of: fn(&Driven) -> u64| driven.values().map(of).sum::<u64>();
    assert_eq!(driven.len(), operations().count());
    assert!(total(|driven| driven.calls) > 1000 && total(|driven| u64::from(driven.allocations)) > 300);
}

#[test]
#[cfg_attr(miri, ignore = "takes hours, and is twice what the other does")]
fn every_step_of_an_end_is_a_boundary_for_another_end() {
    let count = 3;
    let (actor, peer) = (count / 2, (count / 2 + 1) % count);
    let mut driven = Driven::default();
    for &(name, operation) in operations().filter(|(name, _)| !name.contains("colours")) {
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

#[test]
fn every_call_is_an_operation() {
    let driven = |rule: &str| operations().any(|(name, _)| name.split([' ', ',']).next() == Some(rule));
    for &call in Call::ALL {
        for rule in interface::rules(call) {
            assert!(driven(rule), "{call:?} is carried out by `{rule}`, which is cut nowhere");
        }
    }
}
