//! The cases that run on the machine.

use super::damage;
use super::machine::{
    Case,
    Line::{Count, Has, Lacks, Same, Types},
};

/// All cases, short ones first.
pub(crate) fn all() -> Vec<Case> {
    [bare_metal(), damage::cases(), linux()].concat()
}

/// The cases on processors where stage 2 does not force write-back (FEAT_S2FWB): regions are cleaned before they go to another partition. Nor can broadcasts
/// of TLB maintenance be told from the rest of it (FEAT_EVT).
const OLDER: &[&str] = &["messages-cleaned", "calls-cleaned", "fuzz-cleaned", "examine-bus-trapped"];

/// QEMU's name for the processors of a case.
pub(super) fn cpu(case: &str) -> &'static str {
    if OLDER.contains(&case) { "cortex-a76" } else { crate::machine::CPU }
}

/// Two bare-metal guests that measure messages, as other cases' bystanders; they need two partitions' 16 MiB each.
macro_rules! bench_pair {
    () => {
        r#"
[[partition]]
name = "server"
kernel = "guest:bench"
command-line = "role=server"
processors = 1
memory = "16 MiB"
provides = ["bench"]

[[partition]]
name = "client"
kernel = "guest:bench"
command-line = "role=client"
processors = 1
memory = "16 MiB"
uses = ["bench"]
"#
    };
}

/// A machine of two processors with partitions that end with these.
macro_rules! machine {
    ($memory:literal, $end_with:literal) => {
        concat!("end-with = ", $end_with, "\n[machine]\nprocessors = 2\nmemory = \"", $memory, "\"\n")
    };
}

/// A partition that runs a case of the hostile guest's.
macro_rules! hostile {
    ($name:literal, $case:literal, $processors:literal) => {
        concat!(
            "[[partition]]\nname = \"",
            $name,
            "\"\nkernel = \"guest:hostile\"\ncommand-line = \"case=",
            $case,
            "\"\nprocessors = ",
            $processors,
            "\nmemory = \"8 MiB\"\n"
        )
    };
}

/// A caller, a server that passes calls on, and two at the end of it, one of which dies.
macro_rules! calls {
    ($processors:literal) => {
        concat!(
            "end-with = [\"front\"]\n[machine]\nprocessors = ",
            $processors,
            "\nmemory = \"160 MiB\"\n",
            calls!("back", "back", 1, "provides = [\"back\"]"),
            calls!("second", "back", 1, "provides = [\"second\"]"),
            calls!("middle", "middle", 1, "provides = [\"middle\"]\nuses = [\"back\"]"),
            calls!("keeper", "back", 1, "provides = [\"keeper\"]"),
            calls!("victim", "victim", 2, "uses = [\"keeper\"]"),
            calls!("front", "front", 1, "uses = [\"middle\", \"second\"]"),
        )
    };
    ($name:literal, $role:literal, $processors:literal, $services:literal) => {
        concat!(
            "[[partition]]\nname = \"",
            $name,
            "\"\nkernel = \"guest:calls\"\ncommand-line = \"role=",
            $role,
            "\"\nprocessors = ",
            $processors,
            "\nmemory = \"8 MiB\"\n",
            $services,
            "\n"
        )
    };
}

/// What the caller must say.
const CALLED: &[super::machine::Line] = &[
    Has("front", "calls: turned Ok(())"),
    Has("front", "calls: forwarded Ok(())"),
    Has("front", "calls: asked for Ok(())"),
    Has("front", "calls: to itself Ok(())"),
    Has("front", "calls: late Ok(())"),
    Has("front", "calls: lent Ok(())"),
    Has("front", "calls: lent on Ok(())"),
    Has("front", "calls: lent too long Ok(())"),
    Has("front", "calls: lent to one that ends Ok(())"),
    Has("second", "calls: zeroes have taken its place, at both ends of 4194304 bytes"),
    Has("keeper", "calls: zeroes have taken its place, at both ends of 1048576 bytes"),
    Has("system-control", "victim has exited with status 6"),
    Has("front", "calls: ended Ok(())"),
    Has("front", "calls: all ok"),
    Has("system-control", "second has exited with status 5"),
    Lacks("", "panic"),
];

/// A partition that shares memory with one that it asks and with one that asks it.
macro_rules! shared {
    ($processors:literal) => {
        concat!(
            "end-with = [\"survivor\"]\n[machine]\nprocessors = ",
            $processors,
            "\nmemory = \"160 MiB\"\n",
            shared!("mortal", "provides = [\"mortal\"]"),
            shared!("survivor", "provides = [\"pond\"]\nuses = [\"mortal\"]"),
            shared!("visitor", "uses = [\"pond\"]"),
        )
    };
    ($name:literal, $services:literal) => {
        concat!(
            "[[partition]]\nname = \"",
            $name,
            "\"\nkernel = \"guest:shared\"\ncommand-line = \"role=",
            $name,
            "\"\nprocessors = 1\nmemory = \"8 MiB\"\n",
            $services,
            "\n"
        )
    };
}

/// What the one that outlives the others must say.
const OUTLIVED: &[super::machine::Line] = &[
    Has("survivor", "shared: reading alone Ok(())"),
    Has("survivor", "shared: 4096 bytes Ok(())"),
    Has("survivor", "shared: 1048576 bytes Ok(())"),
    Has("survivor", "shared: 2097152 bytes Ok(())"),
    Has("survivor", "shared: who was asked has gone Ok(())"),
    Has("survivor", "shared: who asked has gone Ok(())"),
    Has("survivor", "shared: memory is back true"),
    Has("survivor", "shared: over"),
    Has("system-control", "mortal has exited with status 5"),
    Lacks("", "panic"),
];

/// A machine whose privileged partition is the examiner, with one template for it to make partitions of.
macro_rules! examine {
    ($processors:literal, $command_line:literal, $name:literal, $kernel:literal) => {
        concat!(
            "[system-control]\nkernel = \"guest:examiner\"\ncommand-line = \"",
            $command_line,
            "\"\n[machine]\nprocessors = ",
            $processors,
            "\nmemory = \"128 MiB\"\n[[partition]]\nname = \"",
            $name,
            "\"\nkernel = \"",
            $kernel,
            "\"\nprocessors = 1\nmemory = \"4 MiB\"\n",
        )
    };
}

/// The same, with a partition of so many processors that does what it is told.
macro_rules! examine_subject {
    ($processors:literal, $subject:literal, $case:literal) => {
        concat!(
            "[system-control]\nkernel = \"guest:examiner\"\ncommand-line = \"case=",
            $case,
            "\"\n[machine]\nprocessors = ",
            $processors,
            "\nmemory = \"128 MiB\"\n[[partition]]\nname = \"subject\"\nkernel = \"guest:subject\"\nmemory = \"4 MiB\"\nprocessors = ",
            $subject,
            "\n",
        )
    };
}

/// The examiner has logical processors spend time on a machine with so many physical ones.
macro_rules! shares {
    ($processors:literal) => {
        concat!(
            "[system-control]\nkernel = \"guest:examiner\"\ncommand-line = \"case=shares\"\n[machine]\nprocessors = ",
            $processors,
            "\nmemory = \"128 MiB\"\n",
            shares!("rest", 4),
            shares!("pair", 2),
            shares!("eight", 8),
        )
    };
    ($name:literal, $processors:literal) => {
        concat!(
            "[[partition]]\nname = \"",
            $name,
            "\"\nkernel = \"guest:worker\"\nmemory = \"4 MiB\"\nprocessors = ",
            $processors,
            "\n"
        )
    };
}

/// What it must say.
const SHARED: &[super::machine::Line] = &[
    Has("system-control", "examiner: shares ok"),
    Lacks("", "panic"),
    Lacks("rest", "worker: "),
    Lacks("pair", "worker: "),
    Lacks("eight", "worker: "),
];

/// A partition that uses a device of the machine: which, and what it does (`guests/rtc`).
macro_rules! device_user {
    ($name:literal, $device:literal, $command_line:literal) => {
        concat!(
            "[[partition]]\nname = \"",
            $name,
            "\"\nkernel = \"guest:rtc\"\ncommand-line = \"",
            $command_line,
            "\"\nprocessors = 1\nmemory = \"4 MiB\"\n",
            $device
        )
    };
}

/// The examiner gives devices away and takes them back, on a machine with so many processors.
macro_rules! examine_devices {
    ($processors:literal) => {
        concat!(
            "[system-control]\nkernel = \"guest:examiner\"\ncommand-line = \"case=devices\"\n[machine]\nprocessors = ",
            $processors,
            "\nmemory = \"128 MiB\"\n",
            device_user!("bare", "", "case=alarm"),
            device_user!("alarm", "devices = [\"arm,pl031\"]\n", "case=alarm"),
            device_user!("pending", "devices = [\"arm,pl031\"]\n", "case=pending"),
            device_user!("storm", "devices = [\"arm,pl031\"]\n", "case=storm tell=1"),
        )
    };
}

/// What it must say.
const EXAMINED_DEVICES: &[super::machine::Line] = &[
    Has("system-control", "examiner: devices ok"),
    Has("storm", "a touch of the registers is a fault"),
    Count("alarm", "rtc: alarm ok", 5),
    Lacks("", "panic"),
    Lacks("", "nobody asked for"),
];

/// Partitions that end while a processor of theirs is switched on, on a machine with so many processors.
macro_rules! end_while_switching {
    ($machine:literal, $partition:literal) => {
        concat!(
            "end-with = []\n[machine]\nprocessors = ",
            $machine,
            "\nmemory = \"128 MiB\"\n",
            hostile!("first", "end-while-switching", $partition),
            hostile!("second", "end-while-switching", $partition),
            hostile!("third", "end-while-switching", $partition),
            hostile!("fourth", "end-while-switching", $partition),
            hostile!("witness", "witness", 1),
        )
    };
}

/// They end as they asked to, and nobody runs in them afterwards.
const ENDED_WHILE_SWITCHING: &[super::machine::Line] = &[
    Has("witness", "hostile: witness ok"),
    Count("system-control", " has exited with status 0", 5),
    Lacks("", "cannot go on"),
    Lacks("", "panic"),
];

/// A partition that fuzzes with so many processors, all that it needs, and a pair that must not lose a message.
macro_rules! fuzz {
    ($processors:literal, $first:literal, $second:literal) => {
        concat!(
            "end-with = [\"fuzz\", \"second\", \"checker\"]\n[machine]\nprocessors = ",
            $processors,
            "\nmemory = \"116 MiB\"\n[[partition]]\nname = \"echo\"\nkernel = \"guest:echo\"\nprocessors = 1\n\
             memory = \"4 MiB\"\nprovides = [\"echo\"]\n",
            fuzz!("checker", 1, "", "provides = [\"checked\"]\nuses = [\"echo\"]\n"),
            fuzz!("partner", 1, "", "provides = [\"partner\"]\n"),
            fuzz!("fuzz", $processors, $first, "uses = [\"second\", \"partner\", \"checked\"]\n"),
            fuzz!("second", 1, $second, "provides = [\"second\"]\n"),
        )
    };
    ($role:literal, $processors:literal, $arguments:literal, $services:literal) => {
        concat!(
            "[[partition]]\nname = \"",
            $role,
            "\"\nkernel = \"guest:fuzz\"\ncommand-line = \"role=",
            $role,
            " ",
            $arguments,
            "\"\nprocessors = ",
            $processors,
            "\nmemory = \"4 MiB\"\n",
            $services
        )
    };
}

/// What every run of it must say.
const FUZZED: &[super::machine::Line] = &[
    Has("fuzz", " results occurred"),
    Has("fuzz", "fuzz: ok"),
    Has("second", "fuzz: ok"),
    Has("checker", " 0 lost, 0 wrong"),
    Has("system-control", "echo was stopped"),
    Lacks("", "panic"),
    Lacks("", "error"),
    Lacks("system-control", "panic"),
    Lacks("system-control", "error"),
];

/// A Linux guest with the demonstration's initramfs and what its init is told.
macro_rules! linux {
    ($name:literal, $processors:literal, $tell:literal, $services:literal) => {
        concat!(
            "\n[[partition]]\nname = \"",
            $name,
            "\"\nkernel = \"debian\"\ninitramfs = \"demo\"\nprocessors = ",
            $processors,
            "\nmemory = \"192 MiB\"\ncommand-line = \"console=ttyAMA0 quiet panic=-1 iomem=relaxed ",
            $tell,
            "\"\n",
            $services,
            "\n"
        )
    };
}

/// What the program prints on every kernel.
pub(super) const CONFORMANCE: &str =
    include_str!("../../../system-control/programs/conformance/expected.txt");

/// What comes of privileged calls through `/dev/control`.
const PRIVILEGED: &str = include_str!("../../../system-control/programs/privileged/expected.txt");

/// A machine of two processors whose partitions init looks after, with busybox for programs.
macro_rules! init {
    ($end_with:literal) => {
        concat!(
            "end-with = ",
            $end_with,
            "\n[system-control]\nprograms = [\"busybox\"]\n[machine]\nprocessors = 2\nmemory = \"256 MiB\"\n"
        )
    };
}

/// A program that serves messages as files and as mappings, for guests that check every byte.
macro_rules! mirror {
    ($memory:literal, $end_with:literal, $together:literal) => {
        concat!(
            "end-with = ",
            $end_with,
            "\n[system-control]\n[machine]\nprocessors = 2\nmemory = \"",
            $memory,
            "\"\n[[program]]\npath = \"program:mirror\"\narguments = [\"as-file=files\", \"as-memory=mapping\", \"together=",
            $together,
            "\"]\n\
             provides = [\"as-file\", \"as-memory\"]\n"
        )
    };
}

/// A bare-metal guest that sends messages to one of them.
macro_rules! sender {
    ($name:expr, $service:literal, $memory:literal, $arguments:literal) => {
        concat!(
            "[[partition]]\nname = \"",
            $name,
            "\"\nkernel = \"guest:sender\"\ncommand-line = \"",
            $arguments,
            "\"\nprocessors = 1\nmemory = \"",
            $memory,
            "\"\nuses = [\"",
            $service,
            "\"]\n"
        )
    };
}

/// Two guests for each name.
macro_rules! senders {
    ($($name:literal)*) => {
        concat!($(
            sender!(concat!("f-", $name), "as-file", "4 MiB", "count=44 max=65536"),
            sender!(concat!("m-", $name), "as-memory", "4 MiB", "count=44 max=65536"),
        )*)
    };
}

/// How programs end that misbehave, and how those do that come after them.
const RECKLESS: &str = include_str!("../../../system-control/programs/reckless/expected.txt");

/// What comes of message channels within system-control.
const SOCKETS: &str = include_str!("../../../system-control/programs/sockets/expected.txt");

/// A partition that asks system-control for something, and what else its table says.
macro_rules! petitioner {
    ($name:literal, $role:literal, $more:literal) => {
        concat!(
            "\n[[partition]]\nname = \"",
            $name,
            "\"\nkernel = \"guest:petitioner\"\ncommand-line = \"role=",
            $role,
            "\"\nprocessors = 1\nmemory = \"8 MiB\"\n",
            $more,
            "\n"
        )
    };
}

/// A program that takes what it can get, and keeps it, before the partitions start.
macro_rules! reckless {
    ($name:literal, $way:literal, $more:literal) => {
        concat!(
            "[[program]]\npath = \"program:reckless\"\nname = \"",
            $name,
            "\"\nprovides = [\"",
            $name,
            "\"]\narguments = [\"keep\", \"",
            $way,
            "\"]\n",
            $more,
            "\n"
        )
    };
}

/// A program that decides guests' requests.
macro_rules! decides {
    ($path:literal, $arguments:literal) => {
        concat!("[[program]]\npath = \"", $path, "\"\narguments = ", $arguments, "\ndecides = true\n")
    };
}

/// System-control's kernel with these programs, of which it runs one, and nothing beside it.
macro_rules! unix {
    ($programs:literal, $command_line:literal) => {
        concat!(
            "[system-control]\nprograms = [",
            $programs,
            "]\ncommand-line = \"",
            $command_line,
            "\"\n[machine]\nprocessors = 1\nmemory = \"128 MiB\"\n"
        )
    };
}

fn bare_metal() -> Vec<Case> {
    vec![
        Case {
            name: "messages",
            manifest: include_str!("../../../manifests/bench.toml"),
            lines: &[
                Has("client", "bench: short_round_trip "),
                Has("client", "bench: echo_2m "),
                Has("client", "bench: region_destroy_2m "),
                Has("system-control", "client has exited with status 0"),
            ],
            status: 0,
            limit: 240,
            icount: false,
        },
        Case {
            name: "messages-cleaned",
            manifest: include_str!("../../../manifests/bench.toml"),
            lines: &[
                Has("", "caches are cleaned at each move"),
                Has("client", "bench: echo_2m "),
                Has("client", "bench: echo_64m "),
                Has("client", "bench: direct_echo_2m "),
                Has("system-control", "client has exited with status 0"),
            ],
            status: 0,
            limit: 600,
            icount: false,
        },
        Case {
            name: "one-dies",
            manifest: concat!(
                machine!("256 MiB", "[]"),
                "[[partition]]\nname = \"victim\"\nkernel = \"guest:crash\"\nprocessors = 1\nmemory = \"4 MiB\"\n",
                bench_pair!()
            ),
            lines: &[
                Has("victim", "crash: branching to address 0"),
                Has("victim", "exception that nothing catches: EC=0x21"),
                Has("system-control", "victim has exited with status 102"),
                Has("client", "bench: region_destroy_2m "),
                Has("system-control", "client has exited with status 0"),
            ],
            status: 102,
            limit: 240,
            icount: false,
        },
        Case {
            name: "one-is-ended",
            manifest: concat!(
                machine!("256 MiB", "[]"),
                "[[partition]]\nname = \"victim\"\nkernel = \"guest:crash\"\ncommand-line = \"lost\"\nprocessors = 1\n\
                 memory = \"4 MiB\"\n",
                bench_pair!()
            ),
            lines: &[
                Has("victim", "crash: branching to address 0"),
                Has("", "victim: processor 0 cannot go on: its exception vector is nowhere in its memory"),
                Has(
                    "",
                    "victim: instruction abort from a lower level: translation fault, level 1, on a fetch",
                ),
                Has("", "victim: PC 0x0000000000000000"),
                Has("", "victim: nothing of its own at IPA 0x0"),
                Has("", "victim: has taken no exception itself"),
                Has("", "victim: at 0x0000000000000000"),
                Has("", "(guests/crash/src/main.rs:"),
                Has("system-control", "victim died: fatal fault"),
                Has("client", "bench: region_destroy_2m "),
                Has("system-control", "client has exited with status 0"),
            ],
            status: 70,
            limit: 240,
            icount: false,
        },
        Case { name: "shared", manifest: shared!(2), lines: OUTLIVED, status: 0, limit: 240, icount: false },
        Case {
            name: "shared-in-turn",
            manifest: shared!(1),
            lines: OUTLIVED,
            status: 0,
            limit: 240,
            icount: false,
        },
        Case { name: "calls", manifest: calls!(2), lines: CALLED, status: 0, limit: 240, icount: false },
        Case {
            name: "calls-cleaned",
            manifest: calls!(2),
            lines: CALLED,
            status: 0,
            limit: 240,
            icount: false,
        },
        Case {
            name: "calls-in-turn",
            manifest: calls!(1),
            lines: CALLED,
            status: 0,
            limit: 240,
            icount: false,
        },
        Case {
            name: "streams",
            manifest: include_str!("../../../manifests/streams.toml"),
            lines: &[
                Has("client", "streams: 4 channels, 1048576 bytes each way on each"),
                Has("client", "streams: to itself, 2097152 bytes each way"),
                Has("client", "streams: blocking ok"),
                Has("client", "streams: dropped futures ok"),
                Has("client", "streams: all ok"),
                Count("server", "a client has closed: Ok(1048576) bytes", 4),
                Count("server", "a client has closed: Err(Malformed) bytes", 1),
                Lacks("client", "FAILED"),
            ],
            status: 0,
            limit: 240,
            icount: false,
        },
        Case {
            name: "more-processors-than-there-are",
            manifest: concat!(
                machine!("512 MiB", "[\"client\", \"hostile\"]"),
                "[[partition]]\nname = \"hostile\"\nkernel = \"guest:hostile\"\ncommand-line = \"case=hammer\"\n\
                 processors = 2\nmemory = \"32 MiB\"\n",
                "[[partition]]\nname = \"echo\"\nkernel = \"guest:echo\"\ncommand-line = \"prove\"\n\
                 processors = 1\nmemory = \"16 MiB\"\nprovides = [\"echo\"]\n",
                bench_pair!()
            ),
            lines: &[
                Has("hostile", "hostile: hammer ok"),
                Has("echo", "echo: received back, all 4096 bytes as they were sent"),
                Has("client", "bench: region_destroy_2m "),
                Has("system-control", "echo was stopped"),
            ],
            status: 0,
            limit: 360,
            icount: false,
        },
        Case {
            name: "hostile",
            manifest: concat!(
                machine!("512 MiB", "[\"client\", \"hostile\"]"),
                "[[partition]]\nname = \"hostile\"\nkernel = \"guest:hostile\"\ncommand-line = \"case=all\"\n\
                 processors = 2\nmemory = \"32 MiB\"\n",
                bench_pair!()
            ),
            lines: &[
                Has("hostile", "hostile: uart-flood ok"),
                Has("hostile", "hostile: hammer ok"),
                Has("hostile", " cases, 0 failed"),
                Lacks("hostile", "FAILED"),
                Has("client", "bench: region_destroy_2m "),
                // What a guest writes stays on its own console, whatever frames it forges.
                Lacks("system-control", "is not for a guest to say"),
                Lacks("", "is not for a guest to say"),
            ],
            status: 0,
            limit: 480,
            icount: false,
        },
        Case {
            name: "examine-lifecycle",
            manifest: examine!("2", "case=lifecycle rounds=3", "crash", "guest:crash"),
            lines: &[Has("system-control", "examiner: lifecycle ok")],
            status: 0,
            limit: 240,
            icount: false,
        },
        Case {
            name: "examine-pause",
            manifest: examine_subject!(4, 4, "pause"),
            lines: &[Has("system-control", "examiner: pause ok"), Lacks("", "panic")],
            status: 0,
            limit: 240,
            icount: false,
        },
        Case {
            name: "copies",
            manifest: examine!("1", "case=copies", "subject", "guest:subject"),
            lines: &[Has("system-control", "examiner: copies ok"), Lacks("", "panic")],
            status: 0,
            limit: 240,
            icount: false,
        },
        Case {
            name: "examine-counters",
            manifest: examine_subject!(4, 4, "counters"),
            lines: &[Has("system-control", "examiner: counters ok"), Lacks("", "panic")],
            status: 0,
            limit: 240,
            icount: false,
        },
        Case {
            name: "examine-exits",
            manifest: examine_subject!(1, 1, "exits"),
            lines: &[Has("system-control", "examiner: exits ok"), Lacks("", "panic")],
            status: 0,
            limit: 240,
            icount: true,
        },
        Case {
            name: "examine-verbs",
            manifest: examine_subject!(2, 2, "verbs"),
            lines: &[Has("system-control", "examiner: verbs ok"), Lacks("", "panic")],
            status: 0,
            limit: 240,
            icount: false,
        },
        Case {
            name: "examine-bus",
            manifest: examine_subject!(2, 1, "bus"),
            lines: &[
                Has("system-control", "examiner: maintenance of its own processor traps: false"),
                Has("system-control", "examiner: bus ok"),
                Lacks("", "panic"),
            ],
            status: 0,
            limit: 240,
            icount: true,
        },
        Case {
            name: "examine-bus-trapped",
            manifest: examine_subject!(2, 1, "bus"),
            lines: &[
                Has("system-control", "examiner: maintenance of its own processor traps: true"),
                Has("system-control", "examiner: bus ok"),
                Lacks("", "panic"),
            ],
            status: 0,
            limit: 240,
            icount: true,
        },
        Case {
            name: "examine-steal",
            manifest: examine_subject!(2, 1, "steal"),
            lines: &[Has("system-control", "examiner: steal ok"), Lacks("", "panic")],
            status: 0,
            limit: 240,
            icount: true,
        },
        Case {
            name: "examine-alone",
            manifest: concat!(examine_subject!(2, 1, "alone"), hostile!("spinning", "spin", 3)),
            lines: &[Has("system-control", "examiner: alone ok"), Lacks("", "panic")],
            status: 0,
            limit: 240,
            icount: true,
        },
        Case {
            name: "examine-claims",
            manifest: concat!(examine_subject!(2, 1, "claims"), hostile!("spinning", "spin", 1)),
            lines: &[Has("system-control", "examiner: claims ok"), Lacks("", "panic")],
            status: 0,
            limit: 240,
            icount: true,
        },
        Case {
            name: "examine-wakes",
            manifest: examine_subject!(1, 2, "wakes"),
            lines: &[Has("system-control", "examiner: wakes ok"), Lacks("", "panic")],
            status: 0,
            limit: 240,
            icount: true,
        },
        Case {
            name: "examine-traffic",
            manifest: examine_subject!(1, 4, "traffic"),
            lines: &[Has("system-control", "examiner: traffic ok"), Lacks("", "panic")],
            status: 0,
            limit: 240,
            icount: true,
        },
        Case {
            name: "examine-storm",
            manifest: "[system-control]\nkernel = \"guest:examiner\"\ncommand-line = \"case=storm\"\n\
                 [machine]\nprocessors = 1\nmemory = \"128 MiB\"\n\
                 [[partition]]\nname = \"storm\"\nkernel = \"guest:hostile\"\ncommand-line = \"case=endless-storm\"\n\
                 processors = 3\nmemory = \"8 MiB\"\n",
            lines: &[Has("system-control", "examiner: storm ok"), Lacks("", "panic")],
            status: 0,
            limit: 240,
            icount: true,
        },
        Case {
            name: "storm",
            manifest: concat!(
                "end-with = [\"storm\", \"forms\", \"witness\"]\n[machine]\nprocessors = 4\nmemory = \"160 MiB\"\n",
                hostile!("storm", "storm rounds=60 limited=1", 4),
                "bus = { operations = 300, period = \"10 ms\" }\n",
                hostile!("forms", "broadcasts", 1),
                "bus = { operations = 50, period = \"1 ms\" }\n",
                hostile!("witness", "witness", 1),
            ),
            lines: &[
                Has("storm", "hostile: storm ok"),
                Has("forms", "hostile: broadcasts ok"),
                Has("witness", "hostile: witness ok"),
                Lacks("", "panic"),
            ],
            status: 0,
            limit: 240,
            icount: false,
        },
        Case {
            name: "examine-pause-in-turn",
            manifest: examine_subject!(1, 1, "pause"),
            lines: &[Has("system-control", "examiner: pause ok"), Lacks("", "panic")],
            status: 0,
            limit: 240,
            icount: false,
        },
        Case {
            name: "examine-colours",
            manifest: "[system-control]\nkernel = \"guest:examiner\"\ncommand-line = \"case=colours\"\n\
                 [machine]\nprocessors = 2\nmemory = \"128 MiB\"\n\
                 [[partition]]\nname = \"subject\"\nkernel = \"guest:subject\"\nprocessors = 2\nmemory = \"4 MiB\"\n\
                 colours = [0, 1, 5]\n\
                 [[partition]]\nname = \"echo\"\nkernel = \"guest:echo\"\nprocessors = 1\nmemory = \"4 MiB\"\n\
                 provides = [\"echo\"]\ncolours = [2, 3]\nchannel-colours = [4]\n",
            lines: &[
                Has("system-control", " cache colours"),
                Has("echo", "echo: serving"),
                Has("system-control", "examiner: colours ok"),
                Lacks("", "panic"),
            ],
            status: 0,
            limit: 240,
            icount: false,
        },
        Case {
            name: "shares-on-one",
            manifest: shares!(1),
            lines: SHARED,
            status: 0,
            limit: 600,
            icount: true,
        },
        Case {
            name: "shares-on-two",
            manifest: shares!(2),
            lines: SHARED,
            status: 0,
            limit: 600,
            icount: true,
        },
        Case {
            name: "shares-on-four",
            manifest: shares!(4),
            lines: SHARED,
            status: 0,
            limit: 600,
            icount: true,
        },
        Case {
            name: "cycles",
            manifest: "[system-control]\nkernel = \"guest:examiner\"\n\
                 command-line = \"case=cycles rounds=2000 alive=3 longest=1000\"\n\
                 [machine]\nprocessors = 4\nmemory = \"256 MiB\"\n\
                 [[partition]]\nname = \"victim\"\nkernel = \"guest:hostile\"\ncommand-line = \"case=rampage\"\n\
                 processors = 3\nmemory = \"4 MiB\"\n",
            lines: &[
                Has("system-control", "examiner: Call: "),
                Has("system-control", "examiner: 2000 partitions killed"),
                Has("system-control", "examiner: cycles ok"),
                Lacks("", "panic"),
            ],
            status: 0,
            limit: 900,
            icount: false,
        },
        Case {
            name: "examine-devices",
            manifest: examine_devices!(2),
            lines: EXAMINED_DEVICES,
            status: 0,
            limit: 240,
            icount: false,
        },
        Case {
            name: "examine-devices-in-turn",
            manifest: examine_devices!(1),
            lines: EXAMINED_DEVICES,
            status: 0,
            limit: 240,
            icount: false,
        },
        Case {
            name: "device-storm",
            manifest: concat!(
                "end-with = [\"witness\", \"counted\"]\n[machine]\nprocessors = 1\nmemory = \"128 MiB\"\n",
                device_user!("storm", "devices = [\"pl061@9030000\"]\n", "case=storm"),
                device_user!("counted", "devices = [\"pl031@9010000\"]\n", "case=storm count=20000"),
                hostile!("witness", "witness", 1),
            ),
            lines: &[
                Has("witness", "hostile: witness ok"),
                Has("counted", "rtc: 20000 interrupts of one cause"),
                Has("system-control", "storm was stopped"),
                Lacks("", "panic"),
                Lacks("", "nobody asked for"),
            ],
            status: 0,
            limit: 240,
            icount: false,
        },
        Case {
            name: "device-with-dma",
            manifest: concat!(
                "[machine]\nprocessors = 1\nmemory = \"128 MiB\"\n",
                device_user!("disk", "devices = [\"virtio_mmio@a000000\"]\n", "case=alarm"),
            ),
            lines: &[Has("system-control", "(virtio,mmio): can do DMA: needs an SMMU")],
            status: 78,
            limit: 240,
            icount: false,
        },
        Case {
            name: "neighbours",
            manifest: concat!(
                "end-with = [\"witness\"]\n[machine]\nprocessors = 1\nmemory = \"144 MiB\"\n",
                hostile!("active", "active-priorities", 1),
                hostile!("deferred", "deferred-errors", 1),
                hostile!("line", "endless-line", 1),
                hostile!("sgis-end", "sgis-then-end", 1),
                hostile!("sgis-wait", "sgis-then-wait", 1),
                hostile!("witness", "witness", 1),
            ),
            lines: &[
                Has("active", "hostile: active-priorities ok"),
                Has("deferred", "hostile: deferred-errors ok"),
                // The last of 15 letters, a hundred times each.
                Has(
                    "line",
                    concat!(
                        "n",
                        "ooooooooooooooooooooooooo",
                        "ooooooooooooooooooooooooo",
                        "ooooooooooooooooooooooooo",
                        "ooooooooooooooooooooooooo"
                    ),
                ),
                Has("system-control", "sgis-end has exited with status 0"),
                Has("system-control", "witness has exited with status 0"),
                Has("witness", "hostile: witness ok"),
                Count("system-control", " was stopped", 2),
                Lacks("", "panic"),
            ],
            status: 0,
            limit: 240,
            icount: false,
        },
        Case {
            name: "end-while-switching",
            manifest: end_while_switching!(2, 2),
            lines: ENDED_WHILE_SWITCHING,
            status: 0,
            limit: 240,
            icount: false,
        },
        Case {
            name: "end-while-switching-a-third",
            manifest: end_while_switching!(4, 3),
            lines: ENDED_WHILE_SWITCHING,
            status: 0,
            limit: 240,
            icount: false,
        },
        Case {
            name: "fuzz",
            manifest: fuzz!(2, "seed=11 steps=60000", "seed=12 steps=30000"),
            lines: FUZZED,
            status: 0,
            limit: 600,
            icount: false,
        },
        Case {
            name: "fuzz-cleaned",
            manifest: fuzz!(2, "seed=31 steps=60000", "seed=32 steps=30000"),
            lines: FUZZED,
            status: 0,
            limit: 600,
            icount: false,
        },
        Case {
            name: "fuzz-confined",
            manifest: concat!(
                machine!("96 MiB", "[\"confined\"]"),
                fuzz!(
                    "confined",
                    3,
                    "",
                    "colours = [0, 1, 2, 3, 4, 5, 6, 7]\nchannel-colours = [8, 9, 10, 11]\nbus = { operations = 1, period = \"1 s\" }\n"
                )
            ),
            lines: &[
                Has("confined", " results occurred in a confined partition"),
                Has("confined", "fuzz: ok"),
                Lacks("", "panic"),
            ],
            status: 0,
            limit: 300,
            icount: false,
        },
        Case {
            name: "fuzz-in-turn",
            manifest: fuzz!(1, "seed=21 steps=30000", "seed=22 steps=15000"),
            lines: FUZZED,
            status: 0,
            limit: 600,
            icount: false,
        },
    ]
}

fn linux() -> Vec<Case> {
    vec![
        Case {
            name: "linux-status",
            manifest: concat!(
                machine!("512 MiB", "[]"),
                linux!("linux", 2, "handover.run=cat+/proc/cpuinfo;exit+3", "")
            ),
            lines: &[
                Count("linux", "processor\t:", 2),
                Has("system-control", "linux has exited with status 3"),
                Lacks("linux", "WARNING"),
            ],
            status: 3,
            limit: 360,
            icount: false,
        },
        Case {
            name: "linux-shutdown",
            manifest: concat!(
                "[system-control]\nkernel = \"guest:examiner\"\ncommand-line = \"case=linux-shutdown\"\n",
                "[machine]\nprocessors = 1\nmemory = \"384 MiB\"\n",
                linux!("linux", 1, "handover.test=shutdown", "")
            ),
            lines: &[
                Has("linux", "shutdown: waits"),
                Has("linux", "poweroff: in good order"),
                Count("system-control", "examiner: Linux has switched itself off", 2),
                Has("system-control", "examiner: linux-shutdown ok"),
                Lacks("linux", "WARNING"),
            ],
            status: 0,
            limit: 480,
            icount: true,
        },
        Case {
            name: "linux-watchdog",
            manifest: concat!(
                "[system-control]\nkernel = \"guest:examiner\"\ncommand-line = \"case=linux-watchdog\"\n",
                "[machine]\nprocessors = 1\nmemory = \"384 MiB\"\n",
                linux!("linux", 1, "handover.test=watchdog", "")
            ),
            lines: &[
                Has("linux", "Handover"),
                Has("linux", "watchdog: kicked by the kernel"),
                Has("linux", "watchdog: kicked by hand"),
                Has("system-control", "examiner: linux-watchdog ok"),
                Lacks("linux", "WARNING"),
            ],
            status: 0,
            limit: 480,
            icount: true,
        },
        Case {
            name: "linux-killed",
            manifest: concat!(
                "[system-control]\nkernel = \"guest:examiner\"\ncommand-line = \"case=linux-killed\"\n",
                "[machine]\nprocessors = 2\nmemory = \"512 MiB\"\n",
                linux!("linux", 4, "", "")
            ),
            lines: &[
                Has("system-control", "when 1 of its processors had run"),
                Has("system-control", "when 4 of its processors had run"),
                Has("system-control", "examiner: linux-killed ok"),
                Lacks("", "panic"),
            ],
            status: 0,
            limit: 480,
            icount: true,
        },
        Case {
            name: "linux-four-on-two",
            manifest: concat!(
                machine!("512 MiB", "[\"linux\"]"),
                linux!("linux", 4, "handover.test=build,steal", "")
            ),
            lines: &[
                Has("linux", "build: 24 units by 4 jobs: ok"),
                Has("linux", "using stolen time PV"),
                Has("linux", "test: steal: 0"),
                Lacks("linux", "WARNING"),
                Lacks("", "panic"),
            ],
            status: 0,
            limit: 900,
            icount: false,
        },
        // The detectors are several times as strict as Linux has them: 4 s instead of 20 for a processor that does not schedule, 6 s instead of 21 for
        // one that RCU waits for. With a turn of each processor in 200 ms, stopping all of them takes Linux a second or two.
        Case {
            name: "linux-tenth",
            manifest: concat!(
                "end-with = [\"linux\"]\n[machine]\nprocessors = 1\nmemory = \"384 MiB\"\n",
                hostile!("spinning", "spin", 1),
                linux!(
                    "linux",
                    2,
                    "watchdog_thresh=2 rcupdate.rcu_cpu_stall_timeout=6 handover.test=calm,steal",
                    "budget = \"10 ms\"\nperiod = \"200 ms\""
                )
            ),
            lines: &[
                Has("linux", "calm: patience 2 s, 6 s"),
                Has("linux", "test: calm: 0"),
                Has("linux", "using stolen time PV"),
                Has("linux", "test: steal: 0"),
                Lacks("linux", "stalls on CPUs"),
                Lacks("linux", "self-detected stall"),
                Lacks("linux", "soft lockup"),
                Lacks("linux", "WARNING"),
                Lacks("", "panic"),
            ],
            status: 0,
            limit: 1800,
            icount: true,
        },
        // It waits by itself, is woken by others' messages, and nothing is stolen from it.
        Case {
            name: "linux-owns",
            manifest: concat!(
                machine!("512 MiB", "[\"linux\"]"),
                "[[partition]]\nname = \"echo\"\nkernel = \"guest:echo\"\nprocessors = 1\nmemory = \"16 MiB\"\n\
                 provides = [\"echo\"]\n",
                hostile!("spinning", "spin", 2),
                linux!(
                    "linux",
                    1,
                    "handover.run=handover+echo+--count+200+--quiet;sleep+2;set+--+$(head+-n+1+/proc/stat);echo+stolen:$9:",
                    "uses = [\"echo\"]\nowns = [1]"
                )
            ),
            lines: &[
                Has("linux", "echo: 200 messages"),
                Has("linux", "stolen:0:"),
                Lacks("linux", "WARNING"),
                Lacks("", "panic"),
            ],
            status: 0,
            limit: 600,
            icount: false,
        },
        Case {
            name: "linux-device",
            manifest: concat!(
                machine!("512 MiB", "[]"),
                linux!(
                    "linux",
                    1,
                    "handover.run=cat+/sys/class/rtc/rtc0/name;hwclock+-r;echo+$(($(cat+/sys/class/rtc/rtc0/since_epoch)-(-2)))>/sys/class/rtc/rtc0/wakealarm;sleep+5;set+--+$(grep+rtc-pl031+/proc/interrupts);echo+alarms:$2",
                    "devices = [\"arm,pl031\"]"
                )
            ),
            lines: &[
                Has("linux", "rtc-pl031 a000000.pl031"),
                Has("linux", " 20"),
                Has("linux", "alarms:1"),
                Has("system-control", "linux has exited with status 0"),
                Lacks("linux", "WARNING"),
            ],
            status: 0,
            limit: 360,
            icount: false,
        },
        Case {
            name: "linux-switches-off",
            manifest: concat!(machine!("512 MiB", "[]"), linux!("linux", 1, "handover.run=poweroff+-f", "")),
            lines: &[Has("system-control", "linux has switched itself off")],
            status: 0,
            limit: 360,
            icount: false,
        },
        Case {
            name: "linux-serves-linux",
            manifest: concat!(
                machine!("768 MiB", "[\"client\"]"),
                linux!("server", 1, "handover.run=handover+listen+mirror+--echo", "provides = [\"mirror\"]"),
                linux!(
                    "client",
                    1,
                    "handover.run=handover+echo+--service+mirror+--wait+120+--count+100+--quiet",
                    "uses = [\"mirror\"]"
                )
            ),
            lines: &[
                Has("client", "echo: 100 messages"),
                Has("system-control", "client has exited with status 0"),
                Has("system-control", "server was stopped"),
            ],
            status: 0,
            limit: 480,
            icount: false,
        },
        Case {
            name: "linux-shared",
            manifest: concat!(
                machine!("512 MiB", "[\"linux\"]"),
                shared!("mortal", "provides = [\"mortal\"]"),
                shared!("visitor", "uses = [\"pond\"]"),
                linux!(
                    "linux",
                    2,
                    "handover.test=share",
                    "uses = [\"mortal\", \"pond\"]\nprovides = [\"pond\"]"
                )
            ),
            lines: &[
                Has("linux", "share: reading alone: ok"),
                Has("linux", "share: who was asked has gone: ok"),
                Has("linux", "share: who asked has gone: ok"),
                Has("linux", "share: memory is back: ok"),
                Has("linux", "test: share: 0"),
                Lacks("linux", "Call trace"),
            ],
            status: 0,
            limit: 480,
            icount: false,
        },
        Case {
            name: "linux-driver",
            manifest: concat!(
                machine!("768 MiB", "[\"linux\"]"),
                "[[partition]]\nname = \"echo\"\nkernel = \"guest:echo\"\nprocessors = 1\nmemory = \"16 MiB\"\n\
                 provides = [\"echo\"]\n",
                linux!("linux", 2, "handover.test=stress,reload,echo", "uses = [\"echo\"]")
            ),
            lines: &[
                Has("linux", "test: stress: 0"),
                Has("linux", "test: reload: 0"),
                Has("linux", "test: echo: 0"),
                Lacks("linux", "Call trace"),
            ],
            status: 0,
            limit: 900,
            icount: false,
        },
        Case {
            name: "conformance-unix",
            manifest: unix!("\"conformance\"", "/bin/conformance"),
            lines: &[
                Same("system-control", CONFORMANCE),
                Has("system-control", "(conformance) gets signal 11 at"),
                Has("system-control", "the first program has exited with status 0"),
            ],
            status: 0,
            limit: 240,
            icount: false,
        },
        Case {
            name: "conformance-linux",
            manifest: concat!(
                machine!("512 MiB", "[\"linux\"]"),
                "[[partition]]\nname = \"linux\"\nkernel = \"debian\"\ninitramfs = \"conformance\"\nprocessors = 1\n\
                 memory = \"256 MiB\"\ncommand-line = \"console=ttyAMA0 quiet handover.run=/bin/conformance\"\n"
            ),
            lines: &[Same("linux", CONFORMANCE)],
            status: 0,
            limit: 480,
            icount: false,
        },
        Case {
            name: "unix-reckless",
            manifest: "[system-control]\nprograms = [\"reckless\"]\ncommand-line = \"/bin/reckless\"\nmemory = \"64 MiB\"\n\
                       [machine]\nprocessors = 1\nmemory = \"128 MiB\"\n",
            lines: &[Same("system-control", RECKLESS)],
            status: 0,
            limit: 240,
            icount: false,
        },
        Case {
            name: "unix-shell",
            manifest: unix!(
                "\"busybox\"",
                "/bin/sh -c echo${IFS}through|cat|wc${IFS}-c;ls${IFS}/bin|sort|head${IFS}-n${IFS}2;echo${IFS}kept>/tmp/x;\
                 cat${IFS}/tmp/x;sleep${IFS}100&kill${IFS}$!;wait${IFS}$!;echo${IFS}ended:$?;ps;exit${IFS}3"
            ),
            lines: &[
                Has("system-control", "8"),
                Has("system-control", "ash"),
                Has("system-control", "busybox"),
                Has("system-control", "kept"),
                Has("system-control", "ended:143"),
                Has("system-control", "PID"),
                Has("system-control", "/bin/sh -c"),
                Has("system-control", "the first program has exited with status 3"),
            ],
            status: 3,
            limit: 120,
            icount: false,
        },
        Case {
            name: "unix-privileged",
            manifest: unix!("\"privileged\"", "/bin/privileged"),
            lines: &[
                Same("system-control", PRIVILEGED),
                Has("system-control", "the first program has exited with status 0"),
            ],
            status: 0,
            limit: 120,
            icount: false,
        },
        Case {
            name: "init-starts-again",
            manifest: concat!(
                init!("[\"client\"]"),
                "[[partition]]\nname = \"victim\"\nkernel = \"guest:crash\"\nprocessors = 1\nmemory = \"4 MiB\"\n\
                 restart = \"on-failure\"\nrestart-limit = 2\n",
                bench_pair!()
            ),
            lines: &[
                Count("victim", "crash: branching to address 0", 3),
                Count("system-control", "victim has exited with status 102", 3),
                Count("system-control", "victim runs again, as partition 2", 2),
                Has("client", "bench: region_destroy_2m "),
                Has("system-control", "client has exited with status 0"),
            ],
            status: 0,
            limit: 240,
            icount: false,
        },
        Case {
            name: "init-dies",
            manifest: concat!(
                init!("[\"client\"]"),
                "[[program]]\npath = \"busybox\"\nname = \"killer\"\nconsole = true\n\
                 arguments = [\"sh\", \"-c\", \"for i in 1 2; do test -e /run/$i || { touch /run/$i; sleep 0.0$((i - 1)); kill -9 1; }; done\"]\n",
                bench_pair!()
            ),
            lines: &[
                Count("system-control", "system-control: init was ended by signal 9", 2),
                Count("system-control", "the former init has ended: this one goes on where it was", 2),
                Count("server", "bench: ", 0),
                Count("client", "bench: short_round_trip ", 1),
                Has("client", "bench: region_destroy_2m "),
                Has("system-control", "client has exited with status 0"),
                Lacks("", "panic"),
            ],
            status: 0,
            limit: 240,
            icount: true,
        },
        Case {
            name: "mirror-bare",
            manifest: concat!(
                mirror!("256 MiB", "[\"files\", \"memory\"]", 2),
                sender!("files", "as-file", "16 MiB", "count=10000"),
                sender!("memory", "as-memory", "16 MiB", "count=10000"),
            ),
            lines: &[
                Has("files", "sender: as-file: 10000 messages, "),
                Has("memory", "sender: as-memory: 10000 messages, "),
                Has("system-control", "mirror: 20000 answered"),
                Lacks("", "panic"),
            ],
            status: 0,
            limit: 600,
            icount: false,
        },
        Case {
            name: "mirror-64",
            manifest: concat!(
                mirror!("640 MiB", "[]", 64),
                senders!(
                    "a1" "a2" "a3" "a4" "a5" "a6" "a7" "a8" "b1" "b2" "b3" "b4" "b5" "b6" "b7" "b8" "c1" "c2" "c3" "c4" "c5" "c6" "c7" "c8" "d1" "d2" "d3" "d4" "d5" "d6" "d7" "d8"
                ),
            ),
            lines: &[
                Has("system-control", "mirror: 0 answered, 64 channels, 64 at most"),
                Has("f-a1", "sender: as-file: 44 messages, "),
                Has("m-a1", "sender: as-memory: 44 messages, "),
                Has("f-d8", "sender: as-file: 44 messages, "),
                Has("m-d8", "sender: as-memory: 44 messages, "),
                Has("system-control", "mirror: 2816 answered, 0 channels, 64 at most"),
                Count("system-control", " has exited with status 0", 64),
            ],
            status: 0,
            limit: 600,
            icount: false,
        },
        Case {
            name: "mirror-linux",
            manifest: concat!(
                mirror!("768 MiB", "[\"linux\"]", 0),
                "[[partition]]\nname = \"linux\"\nkernel = \"debian\"\ninitramfs = \"demo\"\nprocessors = 2\nmemory = \"256 MiB\"\n\
                 uses = [\"as-file\", \"as-memory\"]\ncommand-line = \"console=ttyAMA0 quiet handover.run=\
                 handover+echo+--quiet+--service+as-file+--count+10000+&&+handover+echo+--quiet+--service+as-memory+--count+10000\"\n",
            ),
            lines: &[
                Has("linux", "echo: 10000 messages, "),
                Has("linux", "echo: 10000 messages, "),
                Has("system-control", "mirror: 20000 answered"),
                Has("system-control", "linux has exited with status 0"),
                Lacks("linux", "Call trace"),
            ],
            status: 0,
            limit: 1500,
            icount: false,
        },
        Case {
            name: "unix-cost",
            manifest: include_str!("../../../manifests/bench-system.toml"),
            lines: &[
                Has("system-control", "bench: sc_syscall "),
                Has("system-control", "bench: sc_read_file_4k "),
                Has("system-control", "bench: sc_read_map_4k "),
                Has("system-control", "bench: sc_read_map_2m "),
            ],
            status: 0,
            limit: 240,
            icount: true,
        },
        Case {
            name: "unix-sockets",
            manifest: unix!("\"sockets\"", "/bin/sockets"),
            lines: &[
                Same("system-control", SOCKETS),
                Has("system-control", "the first program has exited with status 0"),
            ],
            status: 0,
            limit: 240,
            icount: false,
        },
        Case {
            name: "requests",
            manifest: concat!(
                init!("[\"greedy\", \"modest\", \"flood\"]"),
                decides!("program:fair-share", "[\"2=67108864\", \"4=1000\"]"),
                petitioner!("greedy", "greedy", "uses = [\"requests\"]"),
                petitioner!("modest", "modest", "uses = [\"requests\"]"),
                petitioner!("flood", "flood", "uses = [\"requests\"]"),
            ),
            lines: &[
                Has("greedy", "petitioner: request 1 for 1024 MiB more: Changed(33554432)"),
                Has("greedy", "petitioner: request 2 for 1024 MiB more: Refused"),
                Has("greedy", "petitioner: 32 MiB were granted, 32 MiB came"),
                Has("modest", "petitioner: Granted(8388608) after "),
                Lacks("modest", ", 0 MiB came"),
                Has("flood", "petitioner: 4 of 8 connections were served, with 400 answers"),
                Count("system-control", "fair-share: modest asks for 8388608 more of memory (uses ", 1),
                Count("system-control", "fair-share: flood asks for 1 more of ports", 400),
                Lacks("", "panic"),
            ],
            status: 0,
            limit: 240,
            icount: false,
        },
        Case {
            name: "requests-for-time",
            manifest: concat!(
                "end-with = [\"greedy\", \"modest\", \"others\"]\n[machine]\nprocessors = 1\nmemory = \"256 MiB\"\n",
                decides!("program:fair-share", "[\"0=800000\"]"),
                petitioner!("greedy", "time millionths=700000", "uses = [\"requests\"]"),
                petitioner!("modest", "time millionths=200000", "uses = [\"requests\"]"),
                petitioner!("others", "time", ""),
            ),
            lines: &[
                Has("greedy", "petitioner: 700000 more millionths of a processor: Changed(400000)"),
                Has("greedy", "petitioner: ran 40 hundredths of the time"),
                Has("modest", "petitioner: 200000 more millionths of a processor: Granted(200000)"),
                Has("modest", "petitioner: ran 20 hundredths of the time"),
                Has("others", "petitioner: ran 40 hundredths of the time"),
            ],
            status: 0,
            limit: 240,
            icount: true,
        },
        Case {
            name: "requests-for-a-device",
            manifest: concat!(
                "end-with = [\"first\", \"second\"]\n[machine]\nprocessors = 1\nmemory = \"160 MiB\"\n",
                "[requests]\ndefault = \"grant\"\n",
                device_user!(
                    "first",
                    "devices-on-request = [\"pl031@9010000\"]\nuses = [\"requests\"]\n",
                    "case=asked"
                ),
                device_user!(
                    "second",
                    "devices-on-request = [\"arm,pl031\"]\nuses = [\"requests\"]\n",
                    "case=asked"
                ),
            ),
            lines: &[
                Has("first", "rtc: asked for a device: Ok(1)"),
                Has("first", "rtc: an alarm, 1 interrupt"),
                Has("first", "rtc: asked for another: Err(BadHandle)"),
                Has("first", "rtc: asked ok"),
                Has("second", "rtc: asked for a device: Ok(1)"),
                Has("second", "rtc: an alarm, 1 interrupt"),
                Has("second", "rtc: asked ok"),
                Lacks("", "panic"),
            ],
            status: 0,
            limit: 240,
            icount: false,
        },
        Case {
            name: "init-clients-come-again",
            manifest: concat!(
                init!("[\"faithful\"]"),
                petitioner!("fleeting", "fleeting", "provides = [\"fleeting\"]\nrestart = \"on-failure\""),
                petitioner!("faithful", "faithful", "uses = [\"fleeting\"]"),
            ),
            lines: &[
                Count("faithful", " of partition 2", 3),
                Has("faithful", "petitioner: served by 3 lives"),
                Has("system-control", "fleeting has exited with status 1"),
                Has("system-control", "fleeting runs again, as partition 2"),
                Has("system-control", "fleeting has exited with status 1"),
                Has("system-control", "fleeting runs again, as partition 2"),
                Has("system-control", "faithful has exited with status 0"),
            ],
            status: 0,
            limit: 120,
            icount: false,
        },
        Case {
            name: "program-clients-come-again",
            manifest: concat!(
                "[system-control]\n[machine]\nprocessors = 2\nmemory = \"512 MiB\"\n",
                "[[program]]\npath = \"program:mirror\"\narguments = [\"mirror=files\", \"crash=60\"]\n\
                 provides = [\"mirror\"]\nrestart = \"on-failure\"\n",
                "[[program]]\npath = \"program:mirror\"\nname = \"second\"\narguments = [\"as-memory=mapping\", \"crash=60\"]\n\
                 provides = [\"as-memory\"]\nrestart = \"on-failure\"\n",
                petitioner!("bare", "stubborn", "uses = [\"mirror\"]"),
                linux!(
                    "linux",
                    1,
                    "handover.run=for+n+in+1+2+3+4+5+6+7+8+9;+do+until+handover+echo+--quiet+--service+as-memory+--count+20;\
                     +do+echo+comes+again;+done;+done;+echo+all+nine",
                    "uses = [\"as-memory\"]"
                ),
            ),
            lines: &[
                Count("system-control", "program mirror was ended by signal 6", 2),
                Count("system-control", "program second was ended by signal 6", 2),
                Has("linux", "comes again"),
                Has("bare", "petitioner: 200 answered on 3 channels"),
                Has("linux", "all nine"),
                Has("system-control", "linux has exited with status 0"),
                Lacks("linux", "Call trace"),
            ],
            status: 0,
            limit: 480,
            icount: false,
        },
        Case {
            name: "init-ends-programs",
            manifest: concat!(
                init!("[\"ready\"]"),
                "[[program]]\npath = \"busybox\"\nname = \"polite\"\narguments = [\"sh\", \"-c\", \"trap 'echo polite: told to end; exit 6' TERM; \
                 echo >&$HANDOVER_READY; sleep 1000 & wait\"]\nprovides = [\"polite\"]\n",
                "[[program]]\npath = \"busybox\"\nname = \"deaf\"\narguments = [\"sh\", \"-c\", \"trap '' TERM; echo >&$HANDOVER_READY; \
                 sleep 1000 & wait\"]\nprovides = [\"deaf\"]\n",
                petitioner!("ready", "modest", "uses = [\"requests\"]"),
            ),
            lines: &[
                Has("system-control", "ready has exited with status 0"),
                Has("system-control", "polite: told to end"),
                Has("system-control", "program polite has exited with status 6"),
                Has("system-control", "program deaf does not end when it is told to, and is killed"),
            ],
            status: 0,
            limit: 120,
            icount: false,
        },
        Case {
            name: "init-ends-linux",
            manifest: concat!(
                machine!("512 MiB", "[\"client\"]"),
                linux!(
                    "linux",
                    1,
                    "handover.run=handover+listen+mirror+--echo",
                    "provides = [\"mirror\"]\nready = \"service\"\nready-timeout = \"300 s\"\nshutdown = \"60 s\""
                ),
                sender!("client", "mirror", "16 MiB", "count=100"),
            ),
            lines: &[
                Has("client", "sender: mirror: 100 messages"),
                Has("system-control", "client has exited with status 0"),
                Has("linux", "poweroff: in good order"),
                Has("system-control", "linux has switched itself off"),
                Lacks("system-control", "linux was stopped"),
                Lacks("linux", "WARNING"),
            ],
            status: 0,
            limit: 480,
            icount: false,
        },
        Case {
            name: "init-linux-watchdog",
            manifest: concat!(
                machine!("512 MiB", "[\"linux\"]"),
                linux!(
                    "linux",
                    1,
                    "handover.test=watchdog",
                    "watchdog = \"10 s\"\nrestart = \"on-failure\"\nrestart-limit = 1"
                ),
            ),
            lines: &[
                Count("linux", "watchdog: kicked by hand", 2),
                Has("system-control", "linux died: its watchdog was not kicked in time"),
                Has("system-control", "linux runs again, as partition 2"),
                Has("system-control", "linux died: its watchdog was not kicked in time"),
                Lacks("linux", "WARNING"),
            ],
            status: 70,
            limit: 480,
            icount: true,
        },
        Case {
            name: "init-ends-in-order",
            manifest: concat!(
                init!("[\"watched\"]"),
                petitioner!("deaf", "deaf", "shutdown = \"100 ms\""),
                petitioner!("obedient", "obedient", "shutdown = \"2 s\""),
                petitioner!("never-asked", "obedient", ""),
                petitioner!(
                    "watched",
                    "watched",
                    "watchdog = \"40 ms\"\nrestart = \"on-failure\"\nrestart-limit = 1"
                ),
            ),
            lines: &[
                Count("watched", "petitioner: kicked 5 times", 2),
                Count("system-control", "watched died: its watchdog was not kicked in time", 2),
                Count("obedient", "petitioner: asked to end within 2000 ms", 1),
                Count("never-asked", "petitioner: asked to end", 0),
                Has("system-control", "watched runs again, as partition 5"),
                Has("system-control", "watched died: its watchdog was not kicked in time"),
                // The last one first, and who does not end in time is stopped.
                Has("system-control", "never-asked was stopped"),
                Has("system-control", "obedient has exited with status 4"),
                Has("system-control", "deaf does not end within 100 ms"),
                Has("system-control", "deaf was stopped"),
            ],
            status: 70,
            limit: 120,
            icount: true,
        },
        Case {
            name: "guide",
            manifest: include_str!("../../../docs/policy.md"),
            lines: &[
                Has(
                    "system-control",
                    "frugal: guest asks for 1073741824 more of memory (uses 8388608 of 41943040): Change(25165824)",
                ),
                Has(
                    "system-control",
                    "frugal: guest asks for 1073741824 more of memory (uses 8388608 of 67108864): Refuse",
                ),
                Has("guest", "petitioner: request 1 for 1024 MiB more: Changed(25165824)"),
                Has("guest", "petitioner: request 2 for 1024 MiB more: Refused"),
                Has("guest", "petitioner: 24 MiB were granted, 24 MiB came"),
                Has("system-control", "guest has exited with status 0"),
            ],
            status: 0,
            limit: 240,
            icount: false,
        },
        Case {
            name: "shell",
            manifest: concat!(
                "stay = true\n[system-control]\nprograms = [\"control\", \"monitor\"]\n",
                "[machine]\nprocessors = 2\nmemory = \"256 MiB\"\n",
                "[[program]]\npath = \"program:log\"\nprovides = [\"log\"]\n",
                "[[program]]\npath = \"busybox\"\nname = \"shell\"\narguments = [\"sh\"]\nconsole = true\nrestart = \"always\"\n",
                petitioner!("talker", "log", "uses = [\"log\"]"),
                petitioner!("obedient", "obedient", "shutdown = \"2 s\""),
                petitioner!("deaf", "deaf", "shutdown = \"100 ms\""),
            ),
            lines: &[
                Has("system-control", "talker has exited with status 0"),
                Types("system-control", "", "control list\n"),
                Has("system-control", "   2 talker                    0        0  exited with status 0"),
                Has("system-control", "   4 deaf                      8        0  active"),
                Types("system-control", "/ # ", "control pause deaf; control list\n"),
                Has("system-control", "   4 deaf                      8        0  paused"),
                Types("system-control", "/ # ", "control resume deaf; monitor\n"),
                Has("system-control", "   4 deaf            active"),
                Types("system-control", "/ # ", "control limit deaf ports 77; control accounts deaf\n"),
                Has("system-control", "ports                           0                   77"),
                Types("system-control", "/ # ", "control stop deaf\n"),
                // Whether this or the prompt comes first, is open.
                Types("system-control", "deaf was stopped", "control start deaf; control start deaf\n"),
                Has("system-control", "deaf runs again, as partition 4"),
                Has("system-control", "control: deaf has not ended"),
                Types("system-control", "/ # ", "control shutdown obedient\n"),
                Has("obedient", "petitioner: asked to end within 10000 ms"),
                Types(
                    "system-control",
                    "obedient has exited with status 4",
                    "control start obedient; control log talker | tail -n 1\n",
                ),
                Has("system-control", "obedient runs again, as partition 3"),
                Has("system-control", "] talker: line 100"),
                Types("system-control", "/ # ", "echo sle''eps; sleep 1000\n"),
                Types("system-control", "sleeps", "\x03"),
                Types("system-control", "/ # ", "echo again: $(control messages | grep -c again)\n"),
                Has("system-control", "again: 2"),
                Types("system-control", "/ # ", "exit 9\n"),
                Has("system-control", "program shell has exited with status 9"),
                Types("system-control", "/ # ", "control end 5\n"),
                Has("system-control", "deaf does not end within 100 ms"),
                Has("system-control", "deaf was stopped"),
                Has("system-control", "obedient has exited with status 4"),
                Has("obedient", "petitioner: asked to end within 2000 ms"),
            ],
            status: 5,
            limit: 120,
            icount: false,
        },
        Case {
            name: "requests-nobody-decides",
            manifest: concat!(
                init!("[\"modest\"]"),
                "[requests]\ndefault = \"grant\"\ntimeout = \"300 ms\"\n",
                decides!("busybox", "[\"sleep\", \"1000\"]"),
                petitioner!("modest", "modest", "uses = [\"requests\"]"),
            ),
            lines: &[Has("modest", "petitioner: Granted(8388608) after 3 tenths of a second, 8 MiB came")],
            status: 0,
            limit: 240,
            icount: true,
        },
        Case {
            name: "requests-nobody-is-left",
            manifest: concat!(
                init!("[\"modest\"]"),
                "[requests]\ntimeout = \"200 ms\"\n",
                decides!("busybox", "[\"false\"]"),
                petitioner!("modest", "modest", "uses = [\"requests\"]"),
            ),
            lines: &[
                Has("system-control", "program busybox has exited with status 1"),
                Has("modest", "petitioner: Refused after 2 tenths of a second, 0 MiB came"),
            ],
            status: 0,
            limit: 240,
            icount: true,
        },
        Case {
            name: "init-waits-until-ready",
            manifest: concat!(
                init!("[\"told\", \"client\"]"),
                petitioner!("told", "ready", "uses = [\"requests\"]\nready = \"told\""),
                "[[partition]]\nname = \"echo\"\nkernel = \"guest:echo\"\nprocessors = 1\nmemory = \"8 MiB\"\n\
                 provides = [\"echo\"]\nready = \"service\"\n",
                bench_pair!()
            ),
            lines: &[
                Has("told", "petitioner: ready at "),
                Has("client", "bench: region_destroy_2m "),
                Has("system-control", "client has exited with status 0"),
                Lacks("system-control", "is not ready"),
            ],
            status: 0,
            limit: 240,
            icount: false,
        },
        Case {
            name: "log-and-monitor",
            manifest: concat!(
                init!("[\"talker\"]"),
                "[[program]]\npath = \"program:log\"\nprovides = [\"log\"]\n",
                "[[program]]\npath = \"program:monitor\"\n",
                petitioner!("talker", "log", "uses = [\"log\"]"),
            ),
            lines: &[
                Count("system-control", "  ID NAME            STATE", 1),
                Count("system-control", "   2 talker          ", 1),
                Has("system-control", "] talker: first line"),
                Has("system-control", "] talker: \u{fffd}[2J\u{fffd} rings\u{fffd}and has a second line"),
                Has("system-control", "xxxxxxxxxxxxxxxxxxxx is it."),
                Has("system-control", "] talker: line 100"),
                Has("talker", "petitioner: 103 lines written"),
                Has("system-control", "talker has exited with status 0"),
            ],
            status: 0,
            limit: 240,
            icount: false,
        },
        Case {
            name: "reckless-beside",
            manifest: concat!(
                "end-with = [\"talker\"]\n[system-control]\nmemory = \"64 MiB\"\n",
                "[machine]\nprocessors = 2\nmemory = \"256 MiB\"\n",
                reckless!("one", "takes all memory", "memory = \"6 MiB\""),
                reckless!("two", "has the kernel keep what it can", ""),
                reckless!("three", "forks until it cannot, and all loop", ""),
                reckless!("four", "fills the file system", ""),
                reckless!("five", "makes sockets until it cannot", ""),
                reckless!("six", "makes messages until it cannot", ""),
                "[[program]]\npath = \"program:log\"\nprovides = [\"log\"]\nmemory = \"4 MiB\"\n",
                "[[program]]\npath = \"program:monitor\"\n",
                petitioner!("talker", "log", "uses = [\"log\"]"),
            ),
            lines: &[
                Count("system-control", "  ID NAME            STATE", 1),
                Has("system-control", "] talker: line 100"),
                Has("talker", "petitioner: 103 lines written"),
                Has("system-control", "talker has exited with status 0"),
                // They stay, and init has been able to tell.
                Lacks("system-control", "program one has"),
                Lacks("system-control", "program two has"),
                Lacks("system-control", "program three has"),
                Lacks("system-control", "program four has"),
                Lacks("system-control", "program five has"),
                Lacks("system-control", "program six has"),
                Lacks("system-control", "cannot be"),
            ],
            status: 0,
            limit: 240,
            icount: false,
        },
        Case {
            name: "unix-hello",
            manifest: unix!("\"hello\"", "/bin/hello one two"),
            lines: &[Has("system-control", "hello from process 1: /bin/hello one two")],
            status: 0,
            limit: 120,
            icount: false,
        },
        Case {
            name: "demo",
            manifest: include_str!("../../../manifests/demo.toml"),
            lines: &[
                Has("echo", "echo: received back, all 4096 bytes as they were sent"),
                Has("linux", "1000 messages"),
                Has("linux", "prove: system goes on"),
                Has("system-control", "linux has exited with status 0"),
                Lacks("linux", "Call trace"),
            ],
            status: 0,
            limit: 600,
            icount: false,
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{collections::BTreeSet, path::Path};

    #[test]
    fn every_manifest_can_be_read_and_every_name_is_unique() {
        let mut names = BTreeSet::new();
        for case in all() {
            // A page of the book is none.
            if case.name != super::super::guide::CASE {
                handover_manifest::parse(case.manifest, Path::new(case.name)).unwrap();
            }
            assert!(names.insert(case.name), "{}", case.name);
        }
    }
}
