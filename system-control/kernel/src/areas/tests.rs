use super::*;
use std::{collections::BTreeMap as Model, vec};

/// A file's offset, or nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stuff {
    Zeroes,
    File(u64),
}

impl Backing for Stuff {
    fn advance(&self, bytes: u64) -> Stuff {
        match self {
            Stuff::Zeroes => Stuff::Zeroes,
            Stuff::File(offset) => Stuff::File(offset + bytes),
        }
    }

    fn continues(&self, bytes: u64, next: &Stuff) -> bool {
        self.advance(bytes) == *next
    }
}

const BASE: u64 = 0x10_0000;

fn pages(first: u64, count: u64) -> Range<u64> {
    BASE + first * PAGE..BASE + (first + count) * PAGE
}

const RW: Protection = Protection::READ.union(Protection::WRITE);

#[test]
fn neighbours_that_belong_together_are_one() {
    let mut areas = Areas::default();
    areas.insert(pages(0, 2), RW, Stuff::Zeroes).unwrap();
    areas.insert(pages(4, 2), RW, Stuff::Zeroes).unwrap();
    areas.insert(pages(2, 2), RW, Stuff::Zeroes).unwrap();
    assert_eq!(areas.iter().count(), 1);
    areas.insert(pages(6, 1), RW, Stuff::File(0)).unwrap();
    areas.insert(pages(7, 1), RW, Stuff::File(PAGE)).unwrap();
    areas.insert(pages(8, 1), RW, Stuff::File(PAGE)).unwrap();
    assert_eq!(areas.iter().count(), 3);
    assert_eq!(areas.insert(pages(5, 2), RW, Stuff::Zeroes), Err(Errno::EXIST));
    assert_eq!(areas.bytes(), 9 * PAGE);
}

#[test]
fn a_hole_splits_and_a_file_goes_on_behind_it() {
    let mut areas = Areas::default();
    areas.insert(pages(0, 8), RW, Stuff::File(PAGE)).unwrap();
    let removed = areas.remove(&pages(3, 2)).unwrap();
    assert_eq!(
        removed,
        vec![(
            pages(3, 2).start,
            Area { end: pages(3, 2).end, protection: RW, backing: Stuff::File(4 * PAGE) }
        )]
    );
    assert_eq!(areas.find(pages(5, 1).start).unwrap().1.backing, Stuff::File(6 * PAGE));
    assert!(areas.find(pages(3, 1).start).is_none());
    let within = |first, count| {
        areas.within(&pages(first, count)).map(|(start, _)| (start - BASE) / PAGE).collect::<Vec<_>>()
    };
    assert_eq!((within(2, 4), within(3, 2), within(4, 2)), (vec![0, 5], vec![], vec![5]));
    assert!(!areas.covers(&pages(0, 8)) && areas.covers(&pages(5, 3)));
    assert_eq!(areas.protect(&pages(2, 2), Protection::READ), Err(Errno::NOMEM));
}

#[test]
fn protecting_splits_and_undoing_it_joins() {
    let mut areas = Areas::default();
    areas.insert(pages(0, 8), RW, Stuff::Zeroes).unwrap();
    areas.protect(&pages(2, 3), Protection::empty()).unwrap();
    assert_eq!(areas.iter().count(), 3);
    areas.protect(&pages(0, 8), RW).unwrap();
    assert_eq!(areas.iter().count(), 1);
}

#[test]
fn gaps_are_taken_from_the_top() {
    let mut areas = Areas::default();
    let top = pages(10, 0).start;
    assert_eq!(areas.gap(2 * PAGE, PAGE, top), Some(pages(8, 2)));
    areas.insert(pages(8, 2), RW, Stuff::Zeroes).unwrap();
    areas.insert(pages(5, 1), RW, Stuff::Zeroes).unwrap();
    assert_eq!(areas.gap(2 * PAGE, PAGE, top), Some(pages(6, 2)));
    assert_eq!(areas.gap(3 * PAGE, PAGE, top), Some(pages(2, 3)));
    assert_eq!(areas.gap(1 << 30, PAGE, top), None);
    assert_eq!(areas.gap(PAGE, PAGE, pages(9, 0).start), Some(pages(7, 1)));
    assert_eq!(areas.gap(PAGE, 8 * PAGE, top), Some(pages(0, 1)));
    assert_eq!(areas.gap(PAGE, 4 * PAGE, pages(8, 0).start), Some(pages(4, 1)));
}

#[test]
fn ranges_are_checked() {
    assert_eq!(user_range(1, PAGE), Err(Errno::INVAL));
    assert_eq!(user_range(BASE, 0), Err(Errno::INVAL));
    assert_eq!(user_range(0, PAGE), Err(Errno::NOMEM));
    assert_eq!(user_range(BASE, u64::MAX), Err(Errno::NOMEM));
    assert_eq!(user_range(USER_END - PAGE, 2 * PAGE), Err(Errno::NOMEM));
    assert_eq!(user_range(BASE, 1), Ok(BASE..BASE + PAGE));
    assert_eq!(Protection::new(6), Err(Errno::ACCES));
    assert_eq!(Protection::new(8), Err(Errno::INVAL));
}

/// A model of single pages goes through the same random operations.
#[test]
fn like_a_model_of_single_pages() {
    const PAGES: u64 = 40;
    let mut areas = Areas::default();
    let mut model: Model<u64, (Protection, Stuff)> = Model::new();
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    for step in 0..20_000 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let [a, b, c, d] = [random >> 33, random >> 40, random >> 48, random >> 56];
        let first = a % PAGES;
        let count = 1 + b % (PAGES - first).min(7);
        let range = pages(first, count);
        let numbers = first..first + count;
        let protection = if c & 1 == 0 { RW } else { Protection::READ };
        match d % 3 {
            0 => {
                let stuff = if c & 2 == 0 { Stuff::Zeroes } else { Stuff::File(first * PAGE) };
                let free = numbers.clone().all(|page| !model.contains_key(&page));
                assert_eq!(areas.insert(range, protection, stuff).is_ok(), free, "{step}");
                if free {
                    model.extend(
                        numbers.map(|page| (page, (protection, stuff.advance((page - first) * PAGE)))),
                    );
                }
            }
            1 => {
                let removed = areas.remove(&range).unwrap();
                let mut bytes = 0;
                for page in numbers {
                    bytes += model.remove(&page).map_or(0, |_| PAGE);
                }
                assert_eq!(removed.iter().map(|(start, area)| area.end - start).sum::<u64>(), bytes);
            }
            _ => {
                let covered = numbers.clone().all(|page| model.contains_key(&page));
                assert_eq!(areas.protect(&range, protection).is_ok(), covered, "{step}");
                if covered {
                    numbers.for_each(|page| model.get_mut(&page).unwrap().0 = protection);
                }
            }
        }
        for page in 0..PAGES {
            let address = pages(page, 1).start;
            let found = areas
                .find(address + 7)
                .map(|(start, area)| (area.protection, area.backing.advance(address - start)));
            assert_eq!(found, model.get(&page).copied(), "{step}");
        }
        assert_eq!(areas.bytes(), model.len() as u64 * PAGE);
    }
}
