//! Messages, direct calls, shared memory and streams between bare-metal guests.

use crate::test::machine::{
    Case,
    Line::{self, Count, Has, Lacks},
};

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
const CALLED: &[Line] = &[
    Has("front", "calls: turned Ok(())"),
    Has("front", "calls: forwarded Ok(())"),
    Has("front", "calls: asked for Ok(())"),
    Has("front", "calls: bounced Ok(())"),
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

/// What the one that outlives the others must say.
const OUTLIVED: &[Line] = &[
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

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case {
            name: "messages",
            manifest: include_str!("../../../../manifests/bench.toml"),
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
            manifest: include_str!("../../../../manifests/bench.toml"),
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
        Case { name: "calls", manifest: calls!(2), lines: CALLED, status: 0, limit: 240, icount: true },
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
            manifest: include_str!("../../../../manifests/streams.toml"),
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
    ]
}
