//! Holds the library to the SDK for bare-metal guests: what a program calls things is the same in both.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// What the SDK has and this library has not, and why.
const ABSENT: &[(&str, &[&str])] = &[
    (
        "a Linux program is not called: `handover_linux::calls` says why",
        &["Called", "Lent", "Lent::read", "Lent::size", "Lent::words"],
    ),
    ("interrupts are the kernel's", &["EventReceiver::bind", "PortSet::with_interrupt"]),
    (
        "a system call copies a short message, and the driver makes room for regions",
        &[
            "Channel::make_room",
            "Channel::receive_into",
            "Channel::send_from",
            "Short::from_words",
            "Short::words",
        ],
    ),
    (
        "a region is a descriptor, and its bytes are a slice",
        &["Region::first_word", "Region::first_word_mut", "Region::handle"],
    ),
    ("the driver maps shared memory when it is answered", &["Shared::address", "Shared::request"]),
    ("`std::io::Error` with the same meanings", &["StreamError"]),
];

/// The types that both are to have, whichever modules they are in.
const TYPES: &[&str] = &[
    "CallError",
    "Called",
    "Channel",
    "ConnectError",
    "Connecting",
    "Event",
    "EventReceiver",
    "EventSender",
    "Lent",
    "Listener",
    "Message",
    "PortSet",
    "ReadHalf",
    "ReadWord",
    "Region",
    "Request",
    "SendError",
    "Sending",
    "Shared",
    "Short",
    "Stream",
    "StreamError",
    "WriteHalf",
    "Writers",
];

fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

/// The name that a declaration gives, behind one of these words.
fn declared<'a>(line: &'a str, words: &[&str]) -> Option<&'a str> {
    let rest = words.iter().find_map(|word| line.strip_prefix(word))?;
    rest.split(|letter: char| !letter.is_alphanumeric() && letter != '_').next()
}

/// `Type` and `Type::method`, of every public one that a source declares. It is rustfmt's: what is at the left edge is an item.
fn names(source: &str, into: &mut BTreeSet<String>) {
    let mut of = None;
    for line in source.lines() {
        if let Some(name) = declared(line, &["pub struct ", "pub enum "]) {
            into.insert(name.to_owned());
        } else if line.starts_with("impl") {
            // `impl<'a> Type<'a> {`, and not `impl Trait for Type {`.
            let head = line.trim_start_matches("impl").trim_end_matches(" {");
            let head =
                if head.starts_with('<') { head.split_once("> ").map_or("", |(_, head)| head) } else { head };
            of = declared(head.trim_start(), &[""]).filter(|_| !head.contains(" for "));
        } else if line.starts_with('}') {
            of = None;
        } else if let (Some(of), Some(line)) = (of, line.strip_prefix("    "))
            && let Some(name) =
                declared(line, &["pub fn ", "pub const fn ", "pub async fn ", "pub unsafe fn "])
        {
            into.insert(format!("{of}::{name}"));
        }
    }
}

/// Of a crate, those of the types above.
fn of_crate(folder: &str) -> BTreeSet<String> {
    let mut paths = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut paths);
    let mut all = BTreeSet::new();
    for path in paths {
        names(&fs::read_to_string(path).unwrap(), &mut all);
    }
    all.retain(|name| TYPES.contains(&name.split("::").next().unwrap_or(name)));
    all
}

#[test]
fn what_the_sdk_has_is_here_under_the_same_name_or_said_to_be_absent() {
    let (sdk, here) = (of_crate("../../../guest-sdk/src"), of_crate("src"));
    assert!(sdk.len() > 80 && here.len() > 80, "{} and {} names found", sdk.len(), here.len());
    let absent: BTreeSet<String> =
        ABSENT.iter().flat_map(|(_, names)| *names).map(|name| (*name).to_owned()).collect();
    let missing: Vec<_> = sdk.difference(&here).filter(|name| !absent.contains(*name)).collect();
    assert!(missing.is_empty(), "neither here nor said to be absent: {missing:?}");
    let present: Vec<_> = absent.intersection(&here).collect();
    assert!(present.is_empty(), "said to be absent: {present:?}");
    let unknown: Vec<_> = absent.difference(&sdk).collect();
    assert!(unknown.is_empty(), "said to be absent, and the SDK has no such: {unknown:?}");
}

#[test]
fn names_are_found_in_source() {
    let mut found = BTreeSet::new();
    names(
        "pub struct A<'a> {\n    pub field: u8,\n}\nimpl<'a> A<'a> {\n    pub const fn one() {\n    }\n    fn two() {\n    }\n}\n\
         impl Drop for A<'_> {\n    pub fn three() {\n    }\n}\nimpl B {\n    pub async fn four(&self) {}\n}\npub enum C {\n}\n",
        &mut found,
    );
    assert_eq!(found.iter().map(String::as_str).collect::<Vec<_>>(), ["A", "A::one", "B::four", "C"]);
}
