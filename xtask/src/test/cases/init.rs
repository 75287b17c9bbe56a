//! Init: what it makes of a manifest, of ends and of requests; programs that decide; the console.

use crate::test::machine::{
    Case,
    Line::{Count, Has, Lacks, Types},
};

/// A program that decides guests' requests.
macro_rules! decides {
    ($path:literal, $arguments:literal) => {
        concat!("[[program]]\npath = \"", $path, "\"\narguments = ", $arguments, "\ndecides = true\n")
    };
}

pub(super) fn cases() -> Vec<Case> {
    vec![
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
            manifest: include_str!("../../../../docs/policy.md"),
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
    ]
}
