//! Holds `docs/system-control.md` against the tree: which files there are in `/dev` and `/proc`, and where memory is.

mod support;

use std::collections::BTreeSet;

use support::World;

const PAGE: &str = include_str!("../../../docs/system-control.md");

/// The words in backquotes in the row of the table of files that starts with this place.
fn row(place: &str) -> BTreeSet<String> {
    let start = format!("| `{place}` | ");
    let row = PAGE.lines().find_map(|line| line.strip_prefix(&start)).expect("the place's row");
    row.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn names(world: &mut World, path: &str) -> BTreeSet<String> {
    world.names(path).unwrap().into_iter().filter(|name| name != "." && name != "..").collect()
}

#[test]
fn devices() {
    let mut world = World::new(&[]);
    let mut there = names(&mut world, "/dev");
    assert!(there.remove("shm"), "it is a place of its own");
    assert_eq!(row("/dev"), there);
}

#[test]
fn processes() {
    let mut world = World::new(&[]);
    let mut there = names(&mut world, "/proc");
    there.retain(|name| name.parse::<u32>().is_err());
    let parts: Vec<String> = names(&mut world, "/proc/7").into_iter().collect();
    there.insert(format!("PID/{{{}}}", parts.join(",")));
    assert_eq!(row("/proc"), there);
}

#[test]
fn places() {
    let mut world = World::new(&[]);
    for place in ["/tmp", "/run", "/dev/shm", "/msg"] {
        assert!(PAGE.contains(&format!("`{place}`")), "{place}");
        assert!(world.names(place).is_ok(), "{place}");
    }
    let top: BTreeSet<String> = ["dev", "msg", "proc", "run", "tmp"].map(str::to_owned).into();
    assert_eq!(names(&mut world, "/"), top);
}
