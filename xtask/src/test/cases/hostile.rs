//! Guests that do what they must not, use devices, or end at any moment.

use crate::test::machine::{
    Case,
    Line::{self, Count, Has, Lacks},
};

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
const ENDED_WHILE_SWITCHING: &[Line] = &[
    Has("witness", "hostile: witness ok"),
    Count("system-control", " has exited with status 0", 5),
    Lacks("", "cannot go on"),
    Lacks("", "panic"),
];

/// Partitions on one processor, with registers that must stay what they are.
const REGISTERS: &str = concat!(
    "[machine]\nprocessors = 1\nmemory = \"112 MiB\"\n",
    hostile!("first", "registers-watched", 2),
    hostile!("second", "registers-watched", 3),
    hostile!("third", "registers-kept", 2),
);

/// They do.
const REGISTERS_KEPT: &[Line] = &[
    Has("first", "hostile: registers-watched ok"),
    Has("second", "hostile: registers-watched ok"),
    Has("third", "hostile: registers-kept ok"),
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
const FUZZED: &[Line] = &[
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

pub(super) fn cases() -> Vec<Case> {
    vec![
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
            icount: true,
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
            name: "registers",
            manifest: REGISTERS,
            lines: REGISTERS_KEPT,
            status: 0,
            limit: 240,
            icount: true,
        },
        Case {
            name: "registers-saved",
            manifest: REGISTERS,
            lines: REGISTERS_KEPT,
            status: 0,
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
