//! Linux guests.

use super::CONFORMANCE;
use crate::test::machine::{
    Case,
    Line::{Count, Has, Lacks, Same},
};

pub(super) fn cases() -> Vec<Case> {
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
        // It waits by itself, is woken by others' messages, and nothing is stolen from it. By instructions: by the host's clock, the time in which this
        // emulator gets round to waking it adds up to a tick of 10 ms now and then.
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
            icount: true,
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
            name: "linux-events",
            manifest: concat!(
                machine!("512 MiB", "[\"linux\"]"),
                "[[partition]]\nname = \"bell\"\nkernel = \"guest:streams\"\ncommand-line = \"role=bell\"\nprocessors = 1\n\
                 memory = \"16 MiB\"\nprovides = [\"bell\"]\nuses = [\"ring\"]\n",
                linux!("linux", 2, "handover.test=events", "uses = [\"bell\"]\nprovides = [\"ring\"]")
            ),
            lines: &[
                Has("linux", "events: a port that is asked for: ok"),
                Has("linux", "events: 1000 there and back: ok"),
                Has("linux", "events: swallowed and masked: ok"),
                Has("linux", "events: at wrong ends: ok"),
                Has("linux", "events: without an answer: ok"),
                Has("linux", "events: many ports, one wait: ok"),
                Has("linux", "events: channels that go one way: ok"),
                Has("bell", "its client has gone"),
                Has("linux", "test: events: 0"),
                Lacks("linux", "Call trace"),
            ],
            status: 0,
            limit: 480,
            icount: false,
        },
        Case {
            name: "linux-streams",
            manifest: concat!(
                machine!("512 MiB", "[\"linux\"]"),
                "[[partition]]\nname = \"server\"\nkernel = \"guest:streams\"\ncommand-line = \"role=server\"\nprocessors = 1\n\
                 memory = \"16 MiB\"\nprovides = [\"streams\"]\n",
                "[[partition]]\nname = \"back\"\nkernel = \"guest:calls\"\ncommand-line = \"role=back\"\nprocessors = 1\n\
                 memory = \"16 MiB\"\nprovides = [\"back\"]\n",
                "[[partition]]\nname = \"second\"\nkernel = \"guest:calls\"\ncommand-line = \"role=back\"\nprocessors = 1\n\
                 memory = \"16 MiB\"\nprovides = [\"second\"]\n",
                linux!(
                    "linux",
                    2,
                    "handover.test=streams,calls",
                    "uses = [\"streams\", \"back\", \"second\"]\nprovides = [\"mirror\"]"
                )
            ),
            lines: &[
                Has("linux", "streams: 4194304 bytes there and back: ok"),
                Has("linux", "streams: as embedded-io has it: ok"),
                Has("linux", "streams: as embedded-io-async has it: ok"),
                Has("linux", "streams: what is no stream, to the peer: ok"),
                Has("linux", "streams: futures: ok"),
                Has("linux", "streams: the end: ok"),
                Has("linux", "streams: what is no stream: ok"),
                Has("linux", "test: streams: 0"),
                Has("linux", "calls: 300 turned over: ok"),
                Has("linux", "calls: regions lent and shown: ok"),
                Has("linux", "calls: touched while they are lent: ok"),
                Has("linux", "calls: too late: ok"),
                Has("linux", "calls: to nobody: ok"),
                Has("linux", "calls: to one that ends: ok"),
                Has("linux", "calls: to one that ends with what it took: ok"),
                Has("linux", "test: calls: 0"),
                Count("back", "calls: zeroes have taken its place", 4),
                Lacks("linux", "Call trace"),
            ],
            status: 0,
            limit: 600,
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
            name: "demo",
            manifest: include_str!("../../../../manifests/demo.toml"),
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
