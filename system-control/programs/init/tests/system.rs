//! Runs manifests on a model of the control OS.
#![allow(missing_docs, reason = "a test binary has no readers of its documentation")]

use std::{
    cell::RefCell,
    path::Path,
    time::{Duration, Instant},
};

use fdt::Fdt;
use handover_control::{
    Account, EndReason, PartitionId,
    abi::{layout::MEMORY_BASE, resources},
    model::Model,
};
use handover_loader::{archive::Failure, partition::Content};
use handover_manifest::Manifest;
use init::{
    memory::Memory,
    supervise::{STATUS_FAULT, STATUS_NOT_STARTED},
    system::System,
};

const MIB: u64 = 1 << 20;

const MANIFEST: &str = r#"
end-with = ["linux"]
machine = { processors = 2, memory = "1 GiB" }

[[partition]]
name = "linux"
kernel = "debian"
command-line = "quiet"
processors = 2
memory = "256 MiB"
uses = ["echo", "requests", "log"]

[[partition]]
name = "echo"
kernel = "debian"
processors = 1
memory = "16 MiB"
provides = ["echo"]
restart = "on-failure"
restart-limit = 1

[[program]]
path = "program:log"
provides = ["log"]
"#;

thread_local! {
    static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

fn say(line: &str) {
    LINES.with_borrow_mut(|lines| lines.push(line.to_owned()));
}

fn lines() -> Vec<String> {
    LINES.take()
}

fn manifest(text: &str) -> Manifest {
    handover_manifest::parse(text, Path::new("m.toml")).unwrap()
}

/// A kernel of 100 KiB in the arm64 Image format, not all zeroes, that needs 1 MiB.
fn kernel() -> Vec<u8> {
    let mut file: Vec<u8> = (0..100 << 10).map(|index| (index / 7) as u8).collect();
    file[8..16].fill(0);
    file[16..24].copy_from_slice(&MIB.to_le_bytes());
    file[56..60].copy_from_slice(b"ARM\x64");
    file
}

fn contents<'a>(manifest: &Manifest, kernel: &'a [u8]) -> Vec<Content<'a>> {
    let initramfs = |name: &str| (name == "linux").then_some(&b"initramfs"[..]);
    let content = |partition: &handover_manifest::Partition| {
        Content::plan(kernel, initramfs(&partition.name), partition.memory.0).unwrap()
    };
    manifest.partitions.iter().map(content).collect()
}

fn boot<'a>(model: &Model, manifest: &'a Manifest, kernel: &'a [u8]) -> Result<System<'a>, Failure> {
    let mut system = make(model, manifest, kernel, &Memory::default())?;
    assert_eq!(system.advance(Instant::now())?, None);
    Ok(system)
}

fn make<'a>(
    model: &Model,
    manifest: &'a Manifest,
    kernel: &'a [u8],
    known: &Memory,
) -> Result<System<'a>, Failure> {
    System::make(model.machine(), manifest, contents(manifest, kernel), known, say, |_| {})
}

/// A service's provider in a started partition's device tree.
fn provider(model: &Model, id: u32, service: u32) -> u32 {
    let partition = model.partition(id);
    let at = partition.started.unwrap().1 - MEMORY_BASE;
    let tree = Fdt::new(&partition.memory[at as usize..]).unwrap();
    let service = tree.find_node(&format!("/hypervisor/service@{service:x}")).unwrap();
    service.property("partition").unwrap().as_usize().unwrap() as u32
}

fn names(model: &Model) -> Vec<(u32, String)> {
    model.names()
}

#[test]
fn boots_all_partitions() {
    let (model, manifest, kernel) = (Model::new(1 << 30), manifest(MANIFEST), kernel());
    let system = boot(&model, &manifest, &kernel).unwrap();
    assert_eq!(names(&model), [(2, "linux".into()), (3, "echo".into())]);
    assert_eq!(provider(&model, 2, 1), 3);
    // System-control itself has the log's program, and takes requests.
    assert_eq!((provider(&model, 2, 2), provider(&model, 2, resources::SERVICE.get())), (1, 1));
    assert_eq!(model.free(), (1 << 30) - 272 * MIB);
    assert_eq!(
        system.services().to_string(),
        format!("echo 1 3\nlog 2 1\nrequests {} 1\n", resources::SERVICE)
    );

    let linux = model.partition(2);
    assert_eq!(linux.started, Some((MEMORY_BASE + 2 * MIB, MEMORY_BASE)));
    assert_eq!(linux.memory[2 << 20..(2 << 20) + (100 << 10)], kernel);
    assert_eq!(&linux.memory[4 << 20..(4 << 20) + 10], b"initramfs\0");
    assert!(linux.limits[Account::Memory as usize] > 256 * MIB);
    assert!(linux.limits[Account::ControlMemory as usize] > 0 && linux.limits[Account::Ports as usize] > 0);
    let tree = Fdt::new(&linux.memory).unwrap();
    let chosen = tree.find_node("/chosen").unwrap();
    assert_eq!(chosen.property("linux,initrd-start").unwrap().value, (MEMORY_BASE + 4 * MIB).to_be_bytes());
    assert_eq!(chosen.property("linux,initrd-end").unwrap().value, (MEMORY_BASE + 4 * MIB + 9).to_be_bytes());
    assert!(lines().is_empty());
}

#[test]
fn more_memory_than_one_call_gives() {
    let manifest =
        manifest(&MANIFEST.replace("\"1 GiB\"", "\"4 GiB\"").replace("\"256 MiB\"", "\"1026 MiB\""));
    let (model, kernel) = (Model::new(4 << 30), kernel());
    boot(&model, &manifest, &kernel).unwrap();
    assert_eq!(model.free(), (4 << 30) - 1042 * MIB);
}

#[test]
fn follows_partitions_to_the_end() {
    let (model, manifest, kernel) = (Model::new(1 << 30), manifest(MANIFEST), kernel());
    let mut system = boot(&model, &manifest, &kernel).unwrap();
    for _twice in 0..2 {
        model.end(3, EndReason::Fault, 0);
        assert_eq!(system.ended(PartitionId::new(3)), None);
    }
    // Being told again is harmless.
    assert_eq!(system.ended(PartitionId::new(3)), None);
    // What it held is back.
    assert_eq!(model.free(), (1 << 30) - 256 * MIB);
    assert_eq!(
        system.services().to_string(),
        format!("echo 1 0\nlog 2 1\nrequests {} 1\n", resources::SERVICE)
    );
    model.end(2, EndReason::Exited, 3);
    assert_eq!(system.ended(PartitionId::new(2)), Some(3));
    let died = "echo died: fatal fault (the control OS's console tells where)";
    assert_eq!(lines(), [died, "echo runs again, as partition 3", died, "linux has exited with status 3"]);
}

#[test]
fn stops_the_rest() {
    let text =
        MANIFEST.replace("[\"linux\"]", "[\"echo\"]").replace("restart-limit = 1", "restart-limit = 0");
    let (model, manifest, kernel) = (Model::new(1 << 30), manifest(&text), kernel());
    let mut system = boot(&model, &manifest, &kernel).unwrap();
    model.end(3, EndReason::Fault, 0);
    assert_eq!(system.ended(PartitionId::new(3)), Some(STATUS_FAULT));
    for running in system.running() {
        system.stop(running.partition);
    }
    assert_eq!(model.partition(2).end, Some((EndReason::Stopped, 0)));
    assert_eq!(lines().last().unwrap(), "linux was stopped");
}

#[test]
fn restarts_under_the_same_id() {
    let (model, manifest, kernel) = (Model::new(1 << 30), manifest(MANIFEST), kernel());
    let mut system = boot(&model, &manifest, &kernel).unwrap();
    model.end(3, EndReason::Reset, 0);
    assert_eq!(system.ended(PartitionId::new(3)), None);
    assert_eq!(names(&model), [(2, "linux".into()), (3, "echo".into())]);
    assert_eq!(model.partition(3).memory[2 << 20..(2 << 20) + (100 << 10)], kernel);
    assert!(model.partition(3).started.is_some());
    assert_eq!(lines(), ["echo has asked for a reset", "echo runs again, as partition 3"]);
    assert_eq!(model.free(), (1 << 30) - 272 * MIB);
}

#[test]
fn a_restart_that_fails_is_an_end_and_leaves_nothing() {
    let (model, manifest, kernel) = (Model::new(272 * MIB), manifest(MANIFEST), kernel());
    let mut system = boot(&model, &manifest, &kernel).unwrap();
    model.end(3, EndReason::Fault, 0);
    // Another one takes what it held before it can have it again.
    model.machine().partition(PartitionId::new(3)).reset().unwrap();
    model.end(3, EndReason::Fault, 0);
    model.set_free(0);
    assert_eq!(system.ended(PartitionId::new(3)), None);
    assert_eq!(names(&model), [(2, "linux".into())]);
    let said = lines();
    assert!(said[1].contains("echo cannot be given 16 MiB of memory: out of memory"), "{said:?}");
    model.end(2, EndReason::Exited, 0);
    assert_eq!(system.ended(PartitionId::new(2)), Some(0));
    let text = MANIFEST.replace("[\"linux\"]", "[\"echo\"]");
    let (model, manifest) = (Model::new(272 * MIB), self::manifest(&text));
    let mut system = boot(&model, &manifest, &kernel).unwrap();
    model.end(3, EndReason::Reset, 0);
    model.machine().partition(PartitionId::new(3)).destroy().unwrap();
    assert_eq!(system.ended(PartitionId::new(3)), Some(STATUS_NOT_STARTED));
}

#[test]
fn too_little_memory_is_said() {
    let (model, manifest, kernel) = (Model::new(100 * MIB), manifest(MANIFEST), kernel());
    let Failure(text) = boot(&model, &manifest, &kernel).unwrap_err();
    assert!(
        text.contains("linux cannot be given 256 MiB of memory: out of memory (100 MiB are free)"),
        "{text}"
    );
}

#[test]
fn waits_until_one_is_ready() {
    let ready = |value| {
        MANIFEST
            .replace(
                "[[partition]]\nname = \"echo\"",
                "[[partition]]\nready = \"VALUE\"\nready-timeout = \"50 ms\"\nname = \"echo\"",
            )
            .replace("VALUE", value)
    };
    // The one that is waited for comes first.
    let swapped = |value| {
        let text = ready(value);
        let (head, rest) = text.split_once("[[partition]]").unwrap();
        let (linux, rest) = rest.split_once("[[partition]]").unwrap();
        let (echo, programs) = rest.split_once("[[program]]").unwrap();
        manifest(&format!("{head}[[partition]]{echo}[[partition]]{linux}[[program]]{programs}"))
    };
    let kernel = kernel();
    let now = Instant::now();
    for value in ["service", "told"] {
        let (model, manifest) = (Model::new(1 << 30), swapped(value));
        let mut system = make(&model, &manifest, &kernel, &Memory::default()).unwrap();
        let watch = system.advance(now).unwrap().unwrap();
        let services: Vec<_> =
            watch.services.iter().map(|service| (service.id.get(), service.partition.get())).collect();
        assert_eq!((watch.index, services), (0, if value == "service" { vec![(1, 2)] } else { vec![] }));
        let started = |id| model.partition(id).started.is_some();
        assert!(started(2) && !started(3));
        // Too early, and not from who is waited for.
        assert_eq!(system.advance(now + Duration::from_millis(49)).unwrap(), None);
        system.told_ready(PartitionId::new(3));
        assert_eq!(system.advance(now).unwrap(), None);
        assert!(!started(3));
        if value == "service" {
            system.told_ready(PartitionId::new(2));
            assert_eq!(system.advance(now).unwrap(), None);
            assert!(!started(3));
            system.ready(0);
        } else {
            system.told_ready(PartitionId::new(2));
        }
        assert_eq!(system.advance(now).unwrap(), None);
        assert!(started(3));
        assert!(lines().is_empty());
    }
    // One that is never ready holds nobody up for good.
    let (model, manifest) = (Model::new(1 << 30), swapped("told"));
    let mut system = make(&model, &manifest, &kernel, &Memory::default()).unwrap();
    assert!(system.advance(now).unwrap().is_some());
    assert_eq!(system.advance(system.deadline().unwrap()).unwrap(), None);
    assert!(model.partition(3).started.is_some());
    assert_eq!(lines(), ["echo is not ready after 50 ms: the next one starts all the same"]);
}

#[test]
fn the_next_init_takes_over() {
    let (model, manifest, kernel) = (Model::new(1 << 30), manifest(MANIFEST), kernel());
    let mut first = boot(&model, &manifest, &kernel).unwrap();
    model.end(3, EndReason::Fault, 0);
    assert_eq!(first.ended(PartitionId::new(3)), None);
    let memory = first.memory();
    drop(first);
    // While nobody looks, one ends for the second time.
    model.end(3, EndReason::Exited, 9);
    let mut second = make(&model, &manifest, &kernel, &memory).unwrap();
    assert_eq!(second.advance(Instant::now()).unwrap(), None);
    assert_eq!(second.catch_up(), None);
    assert_eq!(
        (second.name_of(PartitionId::new(2)), second.name_of(PartitionId::new(3))),
        (Some("linux"), None)
    );
    model.end(2, EndReason::Exited, 0);
    assert_eq!(second.ended(PartitionId::new(2)), Some(0));
    // The third finds nothing left to do but end the machine.
    let mut third = make(&model, &manifest, &kernel, &second.memory()).unwrap();
    assert_eq!(third.catch_up(), Some(0));
}

#[test]
fn an_init_that_dies_early_leaves_nothing_twice() {
    let (model, manifest, kernel) = (Model::new(1 << 30), manifest(MANIFEST), kernel());
    // It dies when it has made one of two.
    let left = RefCell::new(None);
    let keep = |system: &System<'_>| _ = left.borrow_mut().get_or_insert_with(|| system.memory());
    model.set_free(256 * MIB);
    let all = contents(&manifest, &kernel);
    System::make(model.machine(), &manifest, all, &Memory::default(), say, keep).unwrap_err();
    model.set_free(64 * MIB);
    let mut second = make(&model, &manifest, &kernel, &left.take().unwrap()).unwrap();
    assert_eq!(second.advance(Instant::now()).unwrap(), None);
    assert_eq!(names(&model), [(2, "linux".into()), (4, "echo".into())]);
    assert!(model.partition(2).started.is_some() && model.partition(4).started.is_some());
    // The next one dies when it has reset a partition and not filled it again.
    model.end(4, EndReason::Fault, 0);
    model.machine().partition(PartitionId::new(4)).reset().unwrap();
    let mut third = make(&model, &manifest, &kernel, &second.memory()).unwrap();
    assert_eq!(third.advance(Instant::now()).unwrap(), None);
    assert_eq!(third.catch_up(), None);
    assert_eq!(names(&model), [(2, "linux".into()), (4, "echo".into())]);
    assert_eq!(model.partition(4).memory[2 << 20..(2 << 20) + (100 << 10)], kernel);
    assert!(model.partition(4).started.is_some());
}

#[test]
fn the_last_one_ends_first() {
    let text = MANIFEST.replace("memory = \"256 MiB\"", "memory = \"256 MiB\"\nshutdown = \"1 s\"");
    let text =
        text.replace("memory = \"16 MiB\"", "memory = \"16 MiB\"\nshutdown = \"2 s\"\nwatchdog = \"3 s\"");
    let (model, manifest, kernel) = (Model::new(1 << 30), manifest(&text), kernel());
    let mut system = boot(&model, &manifest, &kernel).unwrap();
    let running = |system: &System<'_>| {
        let running = system.running();
        let shown =
            running.iter().map(|one| (one.partition.get(), one.shutdown.map(|span| span.0 / 1_000_000)));
        shown.collect::<Vec<_>>()
    };
    assert_eq!(running(&system), [(3, Some(2000)), (2, Some(1000))]);
    // What ends now is not restarted.
    model.end(3, EndReason::Fault, 0);
    system.ended_last(PartitionId::new(3));
    assert_eq!(running(&system), [(2, Some(1000))]);
    system.stop(PartitionId::new(3));
    system.stop(PartitionId::new(2));
    assert_eq!(
        lines(),
        ["echo died: fatal fault (the control OS's console tells where)", "linux was stopped"]
    );
    assert_eq!((model.partition(2).watchdog, model.partition(3).watchdog), (0, 3_000_000_000));
}

#[test]
fn what_has_ended_is_started_again_by_order() {
    let text = MANIFEST
        .replace("[\"linux\"]", "[\"linux\", \"echo\"]")
        .replace("restart-limit = 1", "restart-limit = 0");
    let (model, manifest, kernel) = (Model::new(272 * MIB), manifest(&text), kernel());
    let mut system = boot(&model, &manifest, &kernel).unwrap();
    let refused = |system: &mut System<'_>, name: &str| system.start(name).unwrap_err().to_string();
    assert_eq!(refused(&mut system, "echo"), "echo has not ended");
    assert_eq!(refused(&mut system, "no\n"), "no partition is called `no\\n`");
    model.end(3, EndReason::Exited, 0);
    assert_eq!(system.ended(PartitionId::new(3)), None);
    // A later init knows it too.
    let memory = system.memory();
    let mut system = make(&model, &manifest, &kernel, &memory).unwrap();
    system.start("echo").unwrap();
    assert_eq!(refused(&mut system, "echo"), "echo has not ended");
    assert!(model.partition(3).started.is_some());
    assert_eq!(system.services().find("echo").unwrap().partition, PartitionId::new(3));
    // It is awaited again.
    model.end(2, EndReason::Exited, 0);
    assert_eq!(system.ended(PartitionId::new(2)), None);
    // One that cannot be filled is gone, and comes under another id when it can.
    model.set_free(0);
    assert!(refused(&mut system, "linux").contains("out of memory"));
    assert_eq!(names(&model), [(3, "echo".into())]);
    assert_eq!(system.memory().partition("linux").unwrap().id, None);
    model.set_free(256 * MIB);
    system.start("linux").unwrap();
    assert_eq!(names(&model), [(3, "echo".into()), (4, "linux".into())]);
    assert_eq!(provider(&model, 4, 1), 3);
}
