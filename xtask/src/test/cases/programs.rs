//! Programs on system-control's kernel.

use super::CONFORMANCE;
use crate::test::machine::{
    Case,
    Line::{Count, Has, Lacks, Same},
};

/// What comes of privileged calls through `/dev/control`.
const PRIVILEGED: &str = include_str!("../../../../system-control/programs/privileged/expected.txt");

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
const RECKLESS: &str = include_str!("../../../../system-control/programs/reckless/expected.txt");

/// What comes of message channels within system-control.
const SOCKETS: &str = include_str!("../../../../system-control/programs/sockets/expected.txt");

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

pub(super) fn cases() -> Vec<Case> {
    vec![
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
            manifest: include_str!("../../../../manifests/bench-system.toml"),
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
    ]
}
