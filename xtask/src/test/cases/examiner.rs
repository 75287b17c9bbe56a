//! The privileged interface, by a program in system-control's place.

use crate::test::machine::{
    Case,
    Line::{self, Count, Has, Lacks},
};

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
const SHARED: &[Line] = &[
    Has("system-control", "examiner: shares ok"),
    Lacks("", "panic"),
    Lacks("rest", "worker: "),
    Lacks("pair", "worker: "),
    Lacks("eight", "worker: "),
];

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
const EXAMINED_DEVICES: &[Line] = &[
    Has("system-control", "examiner: devices ok"),
    Has("storm", "a touch of the registers is a fault"),
    Count("alarm", "rtc: alarm ok", 5),
    Lacks("", "panic"),
    Lacks("", "nobody asked for"),
];

pub(super) fn cases() -> Vec<Case> {
    vec![
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
    ]
}
