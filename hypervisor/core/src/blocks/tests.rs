//! The allocator against collections, and what it costs.

extern crate std;
use std::boxed::Box;
use std::collections::BTreeMap;
use std::vec::Vec;

use super::*;

/// Aligned to no more than a chunk.
const BASE: u64 = 0x4000_0000 + 3 * BLOCK;

fn setup(chunks: u64) -> Blocks {
    let records = Box::leak(std::vec![BlockRecord::default(); chunks as usize].into_boxed_slice());
    let mut blocks = Blocks::new(Pa::new(BASE), records);
    for chunk in 0..chunks {
        blocks.give(Pa::new(BASE + chunk * BLOCK), SMALLEST);
    }
    assert_eq!(blocks.free_bytes(), chunks * BLOCK);
    blocks
}

fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state >> 8
}

/// How many blocks of the largest size there are at once.
fn whole(blocks: &mut Blocks) -> usize {
    let all: Vec<Pa> = std::iter::from_fn(|| blocks.take(LARGEST)).collect();
    all.iter().for_each(|pa| blocks.give(*pa, LARGEST));
    all.len()
}

#[test]
fn blocks_are_aligned_apart_and_join_again() {
    let chunks = if cfg!(miri) { 600 } else { 2100 };
    let mut blocks = setup(chunks);
    let largest = whole(&mut blocks);
    assert_eq!(largest as u64, (BASE + chunks * BLOCK) / (1 << LARGEST) - BASE.div_ceil(1 << LARGEST));
    let mut held = BTreeMap::<u64, u8>::new();
    let mut seed = 0x1234_5678_9abc_def1;
    let (mut taken, mut refused) = ([0; ORDERS], 0);
    for step in 0..if cfg!(miri) { 300 } else { 60_000 } {
        // By waves, so that it runs full and empty.
        let fill = step / 3_000 % 2 == 0;
        if random(&mut seed) % 8 < if fill { 6 } else { 2 } {
            let large = random(&mut seed).is_multiple_of(4);
            let order = if !large { SMALLEST } else { SMALLEST + (random(&mut seed) % ORDERS as u64) as u8 };
            let Some(pa) = blocks.take(order) else {
                refused += 1;
                continue;
            };
            taken[usize::from(order - SMALLEST)] += 1;
            let (at, size) = (pa.get(), 1u64 << order);
            assert!(at.is_multiple_of(size) && at >= BASE && at + size <= BASE + chunks * BLOCK);
            let before = held.range(..at + size).next_back();
            assert!(before.is_none_or(|(other, order)| other + (1 << order) <= at), "{at:#x} is given twice");
            held.insert(at, order);
        } else if !held.is_empty() {
            let at = random(&mut seed) as usize % held.len();
            let (&at, &order) = held.iter().nth(at).unwrap();
            held.remove(&at);
            blocks.give(Pa::new(at), order);
        }
        let used: u64 = held.values().map(|order| 1u64 << order).sum();
        assert_eq!(blocks.free_bytes(), chunks * BLOCK - used);
    }
    assert!(
        cfg!(miri) || refused > 100 && taken.iter().all(|taken| *taken > 10),
        "{taken:?}, {refused} refused"
    );
    held.iter().for_each(|(at, order)| blocks.give(Pa::new(*at), *order));
    assert_eq!((blocks.free_bytes(), whole(&mut blocks)), (chunks * BLOCK, largest));
}

#[test]
fn what_is_nowhere_is_not_taken_back() {
    let mut blocks = setup(5);
    for pa in [0, BASE - BLOCK, BASE, BASE + 5 * BLOCK, !(BLOCK - 1)] {
        blocks.give(Pa::new(pa), SMALLEST);
    }
    blocks.give(Pa::new(BASE + 3 * BLOCK), LARGEST);
    assert_eq!(blocks.free_bytes(), 5 * BLOCK);
    assert_eq!((0..9).filter_map(|_| blocks.take(SMALLEST)).count(), 5);
    assert_eq!(blocks.take(SMALLEST), None);
}

#[test]
fn cost_does_not_grow_with_fragments() {
    let fragments = if cfg!(miri) { 1_000 } else { 100_000 };
    let mut blocks = setup(2 * fragments);
    let mut all: Vec<Pa> = std::iter::from_fn(|| blocks.take(SMALLEST)).collect();
    assert_eq!(all.len() as u64, 2 * fragments);
    all.sort();
    // Free every second one: as many fragments as there can be.
    all.iter().step_by(2).for_each(|pa| blocks.give(*pa, SMALLEST));
    let mut most = 0;
    let mut measure = |blocks: &mut Blocks, what: &mut dyn FnMut(&mut Blocks)| {
        let before = blocks.records.looks;
        what(blocks);
        most = most.max(blocks.records.looks - before);
    };
    for &pa in all.iter().skip(1).step_by(2) {
        // It joins what lies beside it; another one goes in its place.
        measure(&mut blocks, &mut |blocks| blocks.give(pa, SMALLEST));
        measure(&mut blocks, &mut |blocks| assert!(blocks.take(SMALLEST).is_some()));
    }
    // One that everything is cut for, and joined again.
    let mut blocks = setup(2048);
    let pa = blocks.take(SMALLEST).unwrap();
    let rest: Vec<Pa> = std::iter::from_fn(|| blocks.take(LARGEST)).collect();
    assert!(!rest.is_empty());
    measure(&mut blocks, &mut |blocks| blocks.give(pa, SMALLEST));
    rest.iter().for_each(|pa| blocks.give(*pa, LARGEST));
    measure(&mut blocks, &mut |blocks| assert!(blocks.take(SMALLEST).is_some()));
    assert!(most <= 6 * ORDERS as u64, "{most} records looked at");
}
