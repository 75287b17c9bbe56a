//! Reads manifests as a person writes them, right and wrong.
#![allow(missing_docs, reason = "a test binary has no readers of its documentation")]

use handover_manifest::{
    Bus, Duration, Manifest, MemorySize, Provider, Ready, Restart, Service, Traffic, UnpackError, Verdict,
    colour_set, parse, read,
};
use std::{fs, path::Path};

const GOOD: &str = r#"
end-with = ["linux"]

[machine]
processors = 2
memory = "1 GiB"

[[partition]]
name = "echo"
kernel = "guest:echo"
processors = 1
memory = "16 MiB"
provides = ["echo", "upper"]

[[partition]]
name = "linux"
kernel = "debian"
initramfs = "demo"
command-line = "quiet"
processors = 2
memory = "256 MiB"
provides = ["files"]
uses = ["echo"]
"#;

fn good() -> Manifest {
    parse(GOOD, Path::new("good.toml")).unwrap()
}

/// The error for `GOOD` with one piece of it replaced.
fn error_with(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from} is not in the manifest");
    parse(&GOOD.replacen(from, to, 1), Path::new("m.toml")).unwrap_err().to_string()
}

#[track_caller]
fn refuses(from: &str, to: &str, line: usize, what: &str) {
    let error = error_with(from, to);
    assert!(error.starts_with(&format!("m.toml:{line}: ")), "{error}");
    assert!(error.contains(what), "{error}");
}

#[test]
fn reads_a_manifest() {
    let manifest = good();
    assert_eq!(manifest.machine.memory, MemorySize(1 << 30));
    assert_eq!(manifest.end_with, ["linux"]);
    assert!(!manifest.stay);
    let linux = &manifest.partitions[1];
    assert_eq!((linux.processors, linux.command_line.as_deref()), (2, Some("quiet")));
    assert_eq!(manifest.partitions[0].initramfs, None);
}

#[test]
fn numbers_services_in_manifest_order() {
    let manifest = good();
    let services: Vec<_> = manifest.services().collect();
    assert_eq!(services[0], Service { id: 1, name: "echo", provider: Provider::Partition(0) });
    assert_eq!(services[1], Service { id: 2, name: "upper", provider: Provider::Partition(0) });
    assert_eq!(services[2], Service { id: 3, name: "files", provider: Provider::Partition(1) });
    assert_eq!(manifest.service("files"), Some(services[2]));
    assert_eq!(manifest.service("none"), None);
}

#[test]
fn reads_rights_to_the_bus() {
    let with = |keys: &str| GOOD.replacen("[[partition]]", &format!("[[partition]]\n{keys}"), 1);
    let text =
        with("bus = { operations = 100, period = \"10 ms\" }\ntraffic = { events = 5, period = \"1 s\" }");
    let echo = parse(&text, Path::new("m.toml")).unwrap().partitions.remove(0);
    assert_eq!(echo.bus, Some(Bus { operations: 100, period: Duration(10_000_000) }));
    assert_eq!(echo.traffic, Some(Traffic { events: 5, period: Duration(1_000_000_000), event: None }));
    for (keys, what) in [
        ("bus = { operations = 0, period = \"10 ms\" }", "could not go on"),
        ("bus = { operations = 1, period = \"1001 ms\" }", "a period of 1001 ms cannot be had"),
        ("bus = { operations = 1 }", "period"),
        ("traffic = { events = 1, period = \"0 s\", event = 17 }", "cannot be had"),
    ] {
        let error = parse(&with(keys), Path::new("m.toml")).unwrap_err().to_string();
        assert!(error.starts_with("m.toml:9: ") && error.contains(what), "{error}");
    }
}

#[test]
fn reads_colours() {
    let text = GOOD.replacen("[[partition]]", "[[partition]]\ncolours = [0, 3]\nchannel-colours = [63]", 1);
    let manifest = parse(&text, Path::new("m.toml")).unwrap();
    let echo = &manifest.partitions[0];
    assert_eq!((colour_set(&echo.colours), colour_set(&echo.channel_colours)), (0b1001, 1 << 63));
    assert!(manifest.partitions[1].colours.is_empty());
    assert_eq!(Manifest::unpack(&manifest.pack()), Ok(manifest));
}

#[test]
fn refuses_colours_that_no_machine_has() {
    refuses("[[partition]]", "[[partition]]\ncolours = [\n0,\n64]", 11, "there is no colour 64");
    refuses("[[partition]]", "[[partition]]\nchannel-colours = [64]", 9, "counted from 0 to 63");
    refuses("[[partition]]", "[[partition]]\ncolours = [1, 2, 1]", 9, "colour 1 is there twice");
    refuses("[[partition]]", "[[partition]]\ncolours = [-1]", 9, "expected u32");
}

#[test]
fn unpacks_what_it_packs() {
    let manifest = good();
    let packed = manifest.pack();
    assert_eq!(Manifest::unpack(&packed), Ok(manifest));
    let damaged: Result<_, UnpackError> = Manifest::unpack(&packed[..packed.len() - 1]);
    assert!(damaged.unwrap_err().to_string().contains("cannot be read"));
}

#[test]
fn refuses_an_unknown_key() {
    refuses("command-line", "commandline", 19, "unknown field `commandline`");
    refuses("[machine]", "[machine]\nspeed = 3", 5, "unknown field `speed`");
    refuses("end-with = [\"linux\"]", "end_with = []", 2, "unknown field `end_with`");
}

#[test]
fn refuses_broken_toml_and_wrong_types() {
    refuses("processors = 2", "processors = ", 5, "");
    refuses("processors = 2", "processors = \"two\"", 5, "expected u32");
    refuses("processors = 2", "processors = -2", 5, "expected u32");
    refuses("memory = \"1 GiB\"", "memory = \"1 GB\"", 6, "KiB, MiB or GiB");
    refuses("kernel = \"debian\"\n", "", 15, "missing field `kernel`");
}

#[test]
fn refuses_names_that_repeat_or_do_not_fit() {
    refuses("name = \"linux\"", "name = \"echo\"", 16, "partition 1 is called `echo` already");
    refuses("name = \"linux\"", "name = \"Linux\"", 16, "`Linux` cannot be the name of a partition");
    refuses("name = \"linux\"", "name = \"system-control\"", 16, "part of the system");
    refuses("name = \"linux\"", "name = \"\"", 16, "1 to 15");
    refuses("name = \"linux\"", "name = \"sixteen-letters-\"", 16, "1 to 15");
    refuses("\"files\"", "\"fi les\"", 22, "`fi les` cannot be the name of a service");
}

#[test]
fn refuses_services_that_do_not_meet() {
    refuses("\"files\"", "\"echo\"", 22, "`echo` provides a service `echo` already");
    refuses("\"upper\"", "\"echo\"", 13, "`echo` provides a service `echo` already");
    refuses(
        "uses = [\"echo\"]",
        "uses = [\"disk\"]",
        23,
        "`linux` uses `disk`, which no partition or program provides",
    );
    refuses("uses = [\"echo\"]", "uses = [\n\"echo\",\n\"echo\"]", 25, "`linux` uses `echo` twice");
    refuses("end-with = [\"linux\"]", "end-with = [\"unix\"]", 2, "no partition has this name");
}

#[test]
fn refuses_what_the_machine_has_not() {
    refuses("processors = 2", "processors = 0", 5, "at least one processor");
    refuses("processors = 1", "processors = 0", 11, "`echo` needs at least one processor");
    refuses("processors = 1", "processors = 1\nbudget = \"2 ms\"", 12, "a `budget` needs a `period` too");
    refuses("processors = 1", "processors = 1\nperiod = \"2 ms\"", 12, "a `period` needs a `budget` too");
    for (budget, period, what) in [
        ("99 us", "2 ms", "99 us is too short: 100 us is the least"),
        ("1 ms", "1001 ms", "1001 ms is too long: 1 s is the most"),
        ("3 ms", "2 ms", "3 ms is more than the period of 2 ms"),
        ("3 min", "2 ms", "write a whole number and us, ms or s"),
    ] {
        let error = error_with(
            "processors = 1",
            &format!("processors = 1\nbudget = \"{budget}\"\nperiod = \"{period}\""),
        );
        assert!(error.contains(what), "{error}");
    }
    refuses("processors = 1", "processors = 1\nwork-conserving = true", 12, "without `budget` it takes");
    refuses(
        "processors = 1",
        "processors = 1\nowns = [0]",
        12,
        "physical processor 0 cannot be had: write 1 to 1",
    );
    refuses("processors = 1", "processors = 1\nbound-to = [0, 2]", 12, "physical processor 2 cannot be had");
    refuses("processors = 1", "processors = 1\nbound-to = [1, 1]", 12, "physical processor 1 is there twice");
    refuses("processors = 1", "processors = 9", 11, "at most 8");
    refuses("\"256 MiB\"", "\"3 MiB\"", 21, "3 MiB is not a multiple of 2 MiB");
    refuses("\"16 MiB\"", "\"0 MiB\"", 12, "not a multiple of 2 MiB");
    refuses("\"256 MiB\"", "\"930 MiB\"", 21, "the partitions take 1026 MiB");
    assert!(parse(&GOOD.replace("256 MiB", "928 MiB"), Path::new("m.toml")).is_ok());
}

#[test]
fn refuses_a_manifest_without_partitions() {
    let error = parse("[machine]\nprocessors = 1\nmemory = \"1 GiB\"\n", Path::new("m.toml")).unwrap_err();
    assert!(error.to_string().contains("no `[[partition]]`"), "{error}");
}

#[test]
fn looks_at_the_files_a_manifest_names() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("m.toml");
    let write = |from: &str, to: &str| fs::write(&file, GOOD.replace(from, to)).unwrap();

    write("\"debian\"", "\"Image\"");
    let error = read(&file).unwrap_err();
    assert_eq!(error.line, Some(17));
    assert!(error.what.contains("Image cannot be read: No such file"), "{error}");

    fs::write(folder.path().join("Image"), [0u8; 100]).unwrap();
    let error = read(&file).unwrap_err();
    assert!(error.what.contains("neither an arm64 Linux Image nor an AArch64 ELF"), "{error}");

    let mut image = [0u8; 64];
    image[56..60].copy_from_slice(b"ARM\x64");
    fs::write(folder.path().join("Image"), image).unwrap();
    assert!(read(&file).is_ok());

    write("\"demo\"", "\"disk.cpio\"");
    let error = read(&file).unwrap_err();
    assert_eq!(error.line, Some(18));
    assert!(error.what.contains("disk.cpio cannot be read"), "{error}");

    let error = read(&folder.path().join("none.toml")).unwrap_err();
    assert_eq!(error.line, None);
    assert!(error.to_string().contains("none.toml: the manifest cannot be read"), "{error}");
}

#[test]
fn another_program_may_take_system_controls_place() {
    let with = |kernel: &str| {
        let text = format!("{GOOD}\n[system-control]\nkernel = \"{kernel}\"\ncommand-line = \"case=x\"\n");
        parse(&text, Path::new("m.toml"))
    };
    let found = with("guest:examiner").unwrap();
    assert_eq!(found.system_control.kernel.as_deref(), Some("guest:examiner"));
    assert_eq!(found.system_control.command_line, "case=x");
    assert_eq!(good().system_control.kernel, None);
    let error = with("debian").unwrap_err().to_string();
    assert!(error.contains("`debian` cannot take the place of system-control's kernel"), "{error}");
}

#[test]
fn devices() {
    let with =
        |devices: &str| GOOD.replace("uses = [\"echo\"]", &format!("uses = [\"echo\"]\ndevices = {devices}"));
    let read = |devices: &str| parse(&with(devices), Path::new("m.toml")).map_err(|error| error.to_string());
    let manifest = read("[\"pl031@9010000\", \"arm,pl061\", \"arm,pl061\"]").unwrap();
    assert_eq!(manifest.partitions[1].devices, ["pl031@9010000", "arm,pl061", "arm,pl061"]);
    assert_eq!(manifest.partitions[0].devices, [""; 0]);
    let error = read("[\"rtc\"]").unwrap_err();
    assert!(error.starts_with("m.toml:24: ") && error.contains("names no device"), "{error}");
    let error = read("[\"rtc@1\", \"rtc@1\"]").unwrap_err();
    assert!(error.contains("`linux` is given `rtc@1` twice"), "{error}");
    let both = with("[\"rtc@1\"]").replace(
        "provides = [\"echo\", \"upper\"]",
        "provides = [\"echo\", \"upper\"]\ndevices = [\"rtc@1\"]",
    );
    let error = parse(&both, Path::new("m.toml")).unwrap_err().to_string();
    assert!(error.contains("`echo` is given `rtc@1` already"), "{error}");
    // Who asks first is given it: several may.
    let ask = |devices: &str| {
        let text = with(&format!("[\"arm,pl061\"]\ndevices-on-request = {devices}")).replace(
            "provides = [\"echo\", \"upper\"]",
            "provides = [\"echo\", \"upper\"]\ndevices-on-request = [\"rtc@1\"]",
        );
        parse(&text, Path::new("m.toml")).map_err(|error| error.to_string())
    };
    let manifest = ask("[\"rtc@1\"]").unwrap();
    assert_eq!(manifest.partitions[0].devices_on_request, manifest.partitions[1].devices_on_request);
    let error = ask("[\"rtc\"]").unwrap_err();
    assert!(error.contains("names no device"), "{error}");
    ask(&format!("{:?}", ["rtc@1"; 15])).unwrap();
    let error = ask(&format!("{:?}", ["rtc@1"; 16])).unwrap_err();
    assert!(error.contains("`linux` may have more than 16 devices"), "{error}");
}

const PROGRAMS: &str = r#"
program = [{ path = "program:policy", decides = true }]
requests = { default = "grant", timeout = "200 ms" }
machine = { processors = 1, memory = "256 MiB" }

[[partition]]
name = "echo"
kernel = "guest:echo"
processors = 1
memory = "16 MiB"
provides = ["echo"]
uses = ["requests", "log"]
restart = "on-failure"
restart-limit = 2
ready = "told"
shutdown = "3 s"

[[program]]
path = "program:log"
name = "logger"
provides = ["log"]
uses = ["echo"]
arguments = ["--keep", "10"]
restart = "always"
"#;

fn with_programs(from: &str, to: &str) -> Result<Manifest, String> {
    // `program` can be written in one line or in tables of its own, but not both ways at once.
    let text = PROGRAMS.replacen("program = [{ path = \"program:policy\", decides = true }]", "", 1)
        + "[[program]]\npath = \"program:policy\"\ndecides = true\n";
    assert!(text.contains(from), "{from}");
    parse(&text.replacen(from, to, 1), Path::new("m.toml")).map_err(|error| error.to_string())
}

#[test]
fn programs() {
    let manifest = with_programs("", "").unwrap();
    let [log, policy] = &manifest.programs[..] else { panic!("{manifest:?}") };
    assert_eq!((log.name(), log.restart, log.restart_limit), ("logger", Restart::Always, 3));
    assert_eq!(log.arguments, ["--keep", "10"]);
    assert_eq!((policy.name(), policy.decides, policy.restart), ("policy", true, Restart::Never));
    assert_eq!(manifest.service("log"), Some(Service { id: 2, name: "log", provider: Provider::Program(0) }));
    let span = |milliseconds: u64| Duration(milliseconds * 1_000_000);
    assert_eq!((manifest.requests.default, manifest.requests.timeout), (Verdict::Grant, span(200)));
    let echo = &manifest.partitions[0];
    assert_eq!((echo.restart, echo.restart_limit), (Restart::OnFailure, Some(2)));
    assert_eq!(
        (echo.ready, echo.ready_timeout, echo.shutdown),
        (Ready::Told, span(10_000), Some(span(3000)))
    );
    assert_eq!(Manifest::unpack(&manifest.pack()).unwrap(), manifest);
    // What init finds in the boot archive is the same manifest.
    let text = toml::to_string(&manifest).unwrap();
    assert_eq!(toml::from_str::<Manifest>(&text).unwrap(), manifest);
}

#[test]
fn wrong_programs() {
    for (from, to, line, what) in [
        ("name = \"logger\"", "name = \"Logger\"", 20, "cannot be the name of a program"),
        ("name = \"logger\"", "name = \"policy\"", 26, "called `policy` already"),
        (
            "provides = [\"log\"]",
            "provides = [\"log\", \"echo\"]",
            21,
            "`echo` provides a service `echo` already",
        ),
        ("provides = [\"log\"]", "provides = [\"log\", \"requests\"]", 21, "system-control itself provides"),
        ("uses = [\"echo\"]", "uses = [\"other\"]", 22, "which no partition or program provides"),
        ("restart = \"always\"", "decides = true", 27, "`logger` decides guests' requests already"),
        ("restart = \"always\"", "restart = \"often\"", 24, "unknown variant `often`"),
        ("path = \"program:log\"", "path = \"missing\"", 19, "missing cannot be read"),
        ("path = \"program:log\"", "path = \"tests\"", 19, "a folder without a Cargo.toml"),
        ("path = \"program:log\"", "path = \"Cargo.toml\"", 19, "no 64-bit little-endian AArch64 program"),
        ("timeout = \"200 ms\"", "timeout = \"200\"", 3, "write a whole number and us, ms or s"),
        (
            "path = \"program:log\"",
            "path = \"program:log\"\nmemory = \"0 MiB\"",
            20,
            "system-control has 32 MiB for all its programs",
        ),
        (
            "path = \"program:log\"",
            "path = \"program:log\"\nmemory = \"33 MiB\"",
            20,
            "system-control has 32 MiB for all its programs",
        ),
    ] {
        let error = with_programs(from, to).unwrap_err();
        assert!(error.starts_with(&format!("m.toml:{line}: ")) && error.contains(what), "{error}");
    }
}

#[test]
fn as_toml_it_is_the_same() {
    let text = r#"
end-with = ["a"]
machine = { processors = 2, memory = "256 MiB" }
requests = { default = "grant", timeout = "20 ms" }
[system-control]
programs = ["busybox"]
[[program]]
path = "program:log"
arguments = ["--all", "with \"quotes\" and\nlines"]
provides = ["log"]
restart = "always"
decides = true
[[partition]]
name = "a"
kernel = "guest:a"
processors = 1
memory = "16 MiB"
uses = ["log", "requests"]
budget = "2 ms"
period = "10 ms"
owns = [1]
ready = "told"
shutdown = "1 s"
"#;
    let manifest = parse(text, Path::new("m.toml")).unwrap();
    assert_eq!(parse(&manifest.to_toml(), Path::new("m.toml")).unwrap(), manifest);
}
