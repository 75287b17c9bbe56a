//! Holds `docs/kernel.md` against the code: which system calls there are, and how much of everything.

use std::collections::BTreeSet;

use handover_files::Descriptors;
use handover_kernel::{
    areas::AREAS_MAX,
    calls::SystemCall,
    limits::{PROCESSES_MAX, THREADS_MAX},
};

const PAGE: &str = include_str!("../../../docs/kernel.md");

/// What stands between the headings `title` and the next one.
fn section(title: &str) -> &'static str {
    let (_, rest) = PAGE.split_once(&format!("\n## {title}\n")).expect("the section");
    rest.split_once("\n## ").map_or(rest, |(section, _)| section)
}

/// The words in backquotes.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn system_calls() {
    let rows = section("System calls").lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" | "));
    let mut listed = BTreeSet::new();
    for (group, calls) in rows {
        // What is in parentheses tells about the call before.
        let mut depth = 0;
        let bare: String = calls
            .chars()
            .filter(|&letter| {
                depth += i32::from(letter == '(');
                let outside = depth == 0;
                depth -= i32::from(letter == ')');
                outside
            })
            .collect();
        for name in quoted(&bare) {
            assert!(listed.insert(name.to_owned()), "{group}: `{name}` is there twice");
        }
    }
    let all: BTreeSet<String> = SystemCall::ALL.iter().map(|call| call.name().to_owned()).collect();
    assert_eq!(listed, all);
}

#[test]
fn numbers_lead_to_their_calls() {
    let found: Vec<SystemCall> = (0..1000).filter_map(SystemCall::of).collect();
    assert_eq!(found.len(), SystemCall::ALL.len());
    assert!(SystemCall::ALL.iter().all(|call| found.contains(call)));
    let find = |name| SystemCall::ALL.iter().find(|call| call.name() == name);
    assert!(
        find("getpid").is_some_and(|call| !call.takes_memory())
            && find("openat").is_some_and(|call| call.takes_memory())
    );
    assert_eq!(SystemCall::of(u32::MAX), None);
}

#[test]
fn limits() {
    let text = section("How it works").replace("\n  ", " ");
    for (count, what) in [
        (PROCESSES_MAX, "processes"),
        (THREADS_MAX, "threads"),
        (AREAS_MAX, "areas in an address space"),
        (Descriptors::LIMIT, "descriptors in a process"),
    ] {
        assert!(text.contains(&format!("{count} {what}")), "{count} {what}");
    }
}
