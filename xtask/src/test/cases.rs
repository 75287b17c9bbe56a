//! The cases that run on the machine.

use super::{damage, machine::Case};

/// What the program `conformance` prints on every kernel.
pub(super) const CONFORMANCE: &str =
    include_str!("../../../system-control/programs/conformance/expected.txt");

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

mod examiner;
mod hostile;
mod init;
mod linux;
mod messages;
mod programs;

/// All cases, short ones first.
pub(crate) fn all() -> Vec<Case> {
    [
        messages::cases(),
        hostile::cases(),
        examiner::cases(),
        damage::cases(),
        programs::cases(),
        init::cases(),
        linux::cases(),
    ]
    .concat()
}

/// The cases on processors where stage 2 does not force write-back (FEAT_S2FWB): regions are cleaned before they go to another partition. Nor can broadcasts
/// of TLB maintenance be told from the rest of it (FEAT_EVT), nor writes to registers trapped (FEAT_FGT).
const OLDER: &[&str] =
    &["messages-cleaned", "calls-cleaned", "fuzz-cleaned", "examine-bus-trapped", "registers-saved"];

/// QEMU's name for the processors of a case.
pub(super) fn cpu(case: &str) -> &'static str {
    if OLDER.contains(&case) { "cortex-a76" } else { crate::machine::CPU }
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
