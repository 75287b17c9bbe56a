//! The allocator against collections, and what it costs.

extern crate std;
use std::boxed::Box;
use std::collections::BTreeSet;
use std::vec::Vec;

use super::*;
use crate::Colours;

struct Pool {
    chunks: BTreeSet<Pa>,
}

impl Chunks for Pool {
    fn take(&mut self, order: u8) -> Option<Pa> {
        assert_eq!(order, ORDER);
        self.chunks.pop_first()
    }
    fn give(&mut self, pa: Pa, order: u8) {
        assert_eq!(order, ORDER);
        assert!(pa.is_aligned(BLOCK));
        assert!(self.chunks.insert(pa), "given back twice");
    }
}

const BASE: u64 = 0x4000_0000;

fn setup(chunks: u32) -> (Frames, Pool) {
    setup_coloured(chunks, 16)
}

fn setup_coloured(chunks: u32, colours: u32) -> (Frames, Pool) {
    let records = Box::leak(std::vec![ChunkRecord::default(); chunks as usize].into_boxed_slice());
    let pool = Pool { chunks: (0..u64::from(chunks)).map(|n| Pa::new(BASE + n * BLOCK)).collect() };
    let coloured = Box::leak(std::vec![ColourRecord::default(); chunks as usize].into_boxed_slice());
    (Frames::with_colours(Pa::new(BASE), records, Palette::new(colours), coloured), pool)
}

#[test]
fn every_frame_once_and_all_back() {
    let (mut frames, mut pool) = setup(3);
    let mut all: Vec<Pa> = std::iter::from_fn(|| frames.allocate(&mut pool)).collect();
    assert_eq!(all.len(), 3 * 512);
    assert_eq!(frames.free_frames(), 0);
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 3 * 512);
    assert!(all.iter().all(|pa| pa.is_aligned(PAGE) && pa.get() >= BASE && pa.get() < BASE + 3 * BLOCK));
    // Every second one first, so that all chunks are partly free at once.
    for &pa in all.iter().step_by(2).chain(all.iter().skip(1).step_by(2)) {
        frames.free(&mut pool, pa).unwrap();
    }
    assert_eq!(pool.chunks.len(), 2);
    assert_eq!(frames.free_frames(), 512);
    frames.trim(&mut pool);
    assert_eq!((pool.chunks.len(), frames.free_frames()), (3, 0));
}

#[test]
fn what_is_not_allocated_cannot_be_freed() {
    let (mut frames, mut pool) = setup(2);
    let pa = frames.allocate(&mut pool).unwrap();
    for bad in [0, BASE - PAGE, BASE + 1, BASE + PAGE * 3, BASE + BLOCK, BASE + 2 * BLOCK, !0xfff] {
        assert_eq!(frames.free(&mut pool, Pa::new(bad)), Err(NotAllocated(Pa::new(bad))), "{bad:#x}");
    }
    frames.free(&mut pool, pa).unwrap();
    assert_eq!(frames.free(&mut pool, pa), Err(NotAllocated(pa)));
    frames.trim(&mut pool);
    assert_eq!(frames.free(&mut pool, pa), Err(NotAllocated(pa)));
}

#[test]
fn one_frame_to_and_fro_takes_one_chunk() {
    let (mut frames, mut pool) = setup(2);
    for _ in 0..10 {
        let pa = frames.allocate(&mut pool).unwrap();
        frames.free(&mut pool, pa).unwrap();
        assert_eq!(pool.chunks.len(), 1);
    }
}

#[test]
fn cost_does_not_grow_with_fragments() {
    let fragments = if cfg!(miri) { 2_000 } else { 100_000 };
    let (mut frames, mut pool) = setup(2 * fragments / 512 + 2);
    let all: Vec<Pa> = (0..2 * fragments).map(|_| frames.allocate(&mut pool).unwrap()).collect();
    // Free every second frame: as many fragments as there can be.
    for &pa in all.iter().step_by(2) {
        frames.free(&mut pool, pa).unwrap();
    }
    let mut most = 0;
    for _ in 0..fragments {
        let before = frames.records.looks;
        let pa = frames.allocate(&mut pool).unwrap();
        let allocated = frames.records.looks;
        frames.free(&mut pool, pa).unwrap();
        let freed = frames.records.looks;
        most = most.max(allocated - before).max(freed - allocated);
        // The next round meets another fragment.
        frames.allocate(&mut pool).unwrap();
    }
    assert!(most <= 5, "{most} records looked at");
}

/// xorshift64
fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state >> 8
}

#[test]
fn a_frame_has_one_of_the_colours_that_were_asked_for() {
    for colours in [1, 2, 4, 8, 16, 32, 64] {
        let palette = Palette::new(colours);
        let (mut frames, mut pool) = setup_coloured(6, colours);
        let mut seed = 0x1234_5678_9abc_def1 + u64::from(colours);
        let mut held: Vec<(Pa, u64)> = Vec::new();
        let mut owned = BTreeSet::new();
        let (mut refused, mut steps) = (0, if cfg!(miri) { 200 } else { 32_000 });
        while steps > 0 {
            steps -= 1;
            let set = random(&mut seed) & palette.all();
            // By waves, so that it runs full and empty.
            let fill = steps / 8_000 % 2 == 1;
            if random(&mut seed) % 8 < if fill { 6 } else { 2 } {
                let pa = match set {
                    0 => frames.allocate(&mut pool),
                    _ => frames.allocate_coloured(&mut pool, Colours::new(set)),
                };
                let Some(pa) = pa else {
                    // Nothing of these colours is left, but in chunks that were split for any.
                    assert!(pool.chunks.is_empty());
                    refused += 1;
                    continue;
                };
                assert!(set == 0 || set >> palette.of(pa) & 1 != 0, "{pa:?} is not of {set:#x}");
                assert!(owned.insert(pa), "{pa:?} was given out twice");
                held.push((pa, set));
            } else if !held.is_empty() {
                let at = random(&mut seed) as usize % held.len();
                let (pa, _) = held.swap_remove(at);
                owned.remove(&pa);
                frames.free(&mut pool, pa).unwrap();
                assert_eq!(frames.free(&mut pool, pa), Err(NotAllocated(pa)));
            }
            assert_eq!(frames.free_frames() + owned.len() as u64, (6 - pool.chunks.len() as u64) * 512);
        }
        assert!(refused > 0 || cfg!(miri), "it never ran out");
        for (pa, _) in held {
            frames.free(&mut pool, pa).unwrap();
        }
        frames.trim(&mut pool);
        assert_eq!((pool.chunks.len(), frames.free_frames()), (6, 0));
    }
}

#[test]
fn colours_take_turns() {
    let (mut frames, mut pool) = setup_coloured(2, 32);
    let palette = Palette::new(32);
    let wanted = [3, 4, 17];
    let set = Colours::new(wanted.iter().map(|colour| 1 << colour).sum());
    let mut counts = [0; 32];
    for _ in 0..30 {
        counts[palette.of(frames.allocate_coloured(&mut pool, set).unwrap()) as usize] += 1;
    }
    assert!(wanted.iter().all(|colour| counts[*colour] == 10), "{counts:?}");
}

#[test]
fn any_frame_will_do_at_last() {
    let (mut frames, mut pool) = setup_coloured(2, 32);
    // Both chunks are split by colours; all but one colour is left to whoever wants any.
    let one = Colours::new(1 << 5);
    let coloured: Vec<Pa> = std::iter::from_fn(|| frames.allocate_coloured(&mut pool, one)).collect();
    assert_eq!(coloured.len(), 2 * 512 / 32);
    let others: Vec<Pa> = std::iter::from_fn(|| frames.allocate(&mut pool)).collect();
    assert_eq!(others.len(), 2 * 512 - coloured.len());
    for pa in coloured.into_iter().chain(others) {
        frames.free(&mut pool, pa).unwrap();
    }
    frames.trim(&mut pool);
    assert_eq!(pool.chunks.len(), 2);
}

#[test]
fn the_chunk_that_is_kept_for_any_goes_to_a_colour() {
    let (mut frames, mut pool) = setup_coloured(1, 32);
    let pa = frames.allocate(&mut pool).unwrap();
    frames.free(&mut pool, pa).unwrap();
    assert_eq!(pool.chunks.len(), 0);
    assert!(frames.allocate_coloured(&mut pool, Colours::new(1)).is_some());
}

#[test]
fn cost_of_colours_does_not_grow_with_fragments() {
    let fragments = if cfg!(miri) { 2_000 } else { 100_000 };
    let (mut frames, mut pool) = setup_coloured(2 * fragments / 512 + 2, 32);
    let all: Vec<Pa> = (0..2 * fragments)
        .map(|_| frames.allocate_coloured(&mut pool, Colours::new(u64::MAX)).unwrap())
        .collect();
    for &pa in all.iter().step_by(2) {
        frames.free(&mut pool, pa).unwrap();
    }
    let palette = Palette::new(32);
    let mut most = 0;
    // Every second frame has every second colour; half of them stay, so that no colour runs out.
    for round in 0..fragments / 2 {
        let set = Colours::new(3 << (palette.of(all[0]) + 2 * (round % 8)));
        let before = frames.records.looks;
        let pa = frames.allocate_coloured(&mut pool, set).unwrap();
        let allocated = frames.records.looks;
        frames.free(&mut pool, pa).unwrap();
        let freed = frames.records.looks;
        most = most.max(allocated - before).max(freed - allocated);
        frames.allocate_coloured(&mut pool, Colours::new(u64::MAX)).unwrap();
    }
    assert!(most <= 5, "{most} records looked at");
}
