//! Everything that two or three partitions can do, in every order: all sequences of operations up to a depth, with up to two regions or one of each, and a
//! channel from each to the next.
//!
//! A state is what is left of the rules' own records when names and addresses are numbered in the order in which they appear. States that are alike
//! are gone on from once. After every operation: the books are balanced, no TLB is stale, whoever waits for a reply can still get one, and one
//! that failed has changed nothing. `HANDOVER_STATES` says how many states to go on from (of each theme); the test prints how many there were.

#[path = "explore/alphabet.rs"]
mod alphabet;
mod machine;
#[path = "explore/world.rs"]
mod world;

use std::collections::HashSet;
use std::io::Write;

use alphabet::{Op, THEMES, Theme};
use world::World;

/// A state to go on from: how it was reached.
type Path = Vec<Op>;

#[derive(Default)]
struct Found {
    states: usize,
    operations: u64,
    failures: u64,
    /// Operations from the start, of those that all were gone on from.
    depth: usize,
    /// Whether there are no others at all.
    complete: bool,
}

/// Of so many operations that can be done one is, in the themes that begin with channels: a world takes Miri seconds.
const SHARE: usize = if cfg!(miri) { 16 } else { 1 };

fn explore(theme: &Theme, states_max: usize) -> Found {
    let mut seen: HashSet<u128> = HashSet::new();
    let mut found = Found::default();
    let mut world = World::new(theme);
    seen.insert(world.fingerprint());
    let mut level: Vec<Path> = vec![Vec::new()];
    while !level.is_empty() {
        let mut next: Vec<Path> = Vec::new();
        for path in &level {
            if found.states == states_max {
                world.finish();
                return found;
            }
            found.states += 1;
            world = go_on(theme, world, path, &mut seen, &mut next, &mut found);
        }
        found.depth += 1;
        level = next;
    }
    world.finish();
    found.complete = true;
    found
}

/// Does everything that there is to do in one state.
fn go_on(
    theme: &Theme,
    mut world: World,
    path: &Path,
    seen: &mut HashSet<u128>,
    next: &mut Vec<Path>,
    found: &mut Found,
) -> World {
    world = world.replay(theme, path);
    let before = world.fingerprint();
    world.touch();
    for op in alphabet::all(theme).into_iter().step_by(if theme.joined { SHARE } else { 1 }) {
        let quick = world.quick();
        match world.perform(op) {
            Some(true) => {}
            // There is nothing to do it with.
            None => continue,
            Some(false) => {
                found.failures += 1;
                assert_eq!(world.quick(), quick, "{op:?} failed and has changed something, after {path:?}");
                continue;
            }
        }
        found.operations += 1;
        world.check_after(op, path);
        let after = world.fingerprint();
        if seen.insert(after) {
            world.check_state(op, path);
            next.push(path.iter().copied().chain([op]).collect());
        }
        world = world.replay(theme, path);
        debug_assert!(SHARE > 1 || world.fingerprint() == before);
        world.touch();
    }
    world
}

#[test]
fn every_order_of_what_two_and_three_partitions_can_do() {
    let wanted = std::env::var("HANDOVER_STATES").ok().and_then(|text| text.parse().ok());
    std::thread::scope(|scope| {
        for theme in THEMES.iter().filter(|theme| SHARE == 1 || theme.partitions == 2) {
            let states_max = wanted.unwrap_or(if SHARE > 1 { 1 } else { 1_000 });
            scope.spawn(move || {
                let found = explore(theme, states_max);
                let Found { states, operations, failures, depth, complete } = found;
                // Past the test runner, which would keep it.
                let _shown = writeln!(
                    std::io::stderr(),
                    "{}: {states} states{}, every sequence of {depth} operations; {operations} operations done, {failures} refused",
                    theme.name,
                    if complete { ", which are all" } else { "" },
                );
                assert!(complete || states >= states_max);
                assert!(wanted.is_some() || SHARE > 1 || depth >= theme.depth_least, "{}: {depth} operations deep", theme.name);
            });
        }
    });
}
