//! Machines whose control OS is damaged before they boot, to see that a bug of ours is seen: nothing in the image as it ships could be told to have one.

use super::machine::{
    Case,
    Line::{self, Has, Lacks},
};
use crate::{elf, image::Image};
use addr2line::demangle_auto;
use anyhow::{Context, Result, ensure};
use handover_abi::archive::MAGIC;
use std::{fs, path::Path};

/// What is done to a machine.
enum Damage {
    /// This instruction stands in place of one of a function's, so many bytes behind its first one.
    Instruction(&'static str, usize, u32),
    /// The boot archive is none.
    Archive,
}

/// `udf #0`.
const UNDEFINED: u32 = 0;
/// `b .-8`: in third place it makes a function take room on its stack for ever.
const AGAIN: u32 = 0x17ff_fffe;

/// By the case's name.
const DAMAGES: &[(&str, &[Damage])] = &[
    ("bug-panic", &[Damage::Archive]),
    ("bug-undefined", &[Damage::Instruction(FATAL, 0, UNDEFINED)]),
    ("bug-stack", &[Damage::Instruction(FATAL, 8, AGAIN)]),
    ("bug-twice", &[Damage::Instruction(FATAL, 0, UNDEFINED), Damage::Instruction(REPORT, 0, UNDEFINED)]),
];

/// What a guest is ended by that cannot go on, and what reports exceptions of the control OS.
const FATAL: &str = "handover::fault::fatal";
const REPORT: &str = "handover::bug::unexpected";

/// A guest that cannot go on, beside two others; what they ended with would be 0.
const MANIFEST: &str = concat!(
    "end-with = []\n[machine]\nprocessors = 4\nmemory = \"256 MiB\"\n",
    "[[partition]]\nname = \"victim\"\nkernel = \"guest:crash\"\ncommand-line = \"lost\"\nprocessors = 1\nmemory = \"4 MiB\"\n",
    "[[partition]]\nname = \"server\"\nkernel = \"guest:bench\"\ncommand-line = \"role=server\"\nprocessors = 1\n\
     memory = \"16 MiB\"\nprovides = [\"bench\"]\n",
    "[[partition]]\nname = \"client\"\nkernel = \"guest:bench\"\ncommand-line = \"role=client\"\nprocessors = 1\n\
     memory = \"16 MiB\"\nuses = [\"bench\"]\n",
);

/// A panic; an exception; one that is the stack's fault; and one in the report of another.
pub(super) fn cases() -> Vec<Case> {
    const FOUND: Line = Has("", "handover: panic: panicked at hypervisor/src/bug.rs");
    let case = |name, lines| Case { name, manifest: MANIFEST, lines, status: 101, limit: 120, icount: false };
    vec![
        case(
            "bug-panic",
            &[
                Has("", "handover: panic: panicked at hypervisor/src/boot.rs"),
                Has("", "system-control cannot be started: no boot archive (wrong magic)"),
            ],
        ),
        case(
            "bug-undefined",
            &[
                FOUND,
                Has("", "exception in the control OS (vector 4): unknown or undefined instruction"),
                Has("", "control-os: PC 0x"),
                Has("", "control-os: x0  0x"),
                Has("", "control-os: x28 0x"),
                Has("", "control-os: SP 0x"),
                Has("", "handover::fault::fatal+0x0 (hypervisor/src/fault.rs:"),
                Has("", "(x30)"),
            ],
        ),
        case(
            "bug-stack",
            &[
                FOUND,
                Has("", "exception in the control OS (vector 4): data abort: translation fault"),
                Has("", "handover::fault::fatal+0x"),
            ],
        ),
        case("bug-twice", &[Lacks("", "panicked"), Has("", "handover: an exception while one is reported")]),
    ]
}

/// Damages what a case boots, if it is one of those.
pub(super) fn apply(case: &str, image: &Image) -> Result<()> {
    let damages = DAMAGES.iter().find(|(name, _)| *name == case).map_or(&[][..], |(_, damages)| damages);
    for damage in damages {
        match damage {
            Damage::Instruction(function, offset, instruction) => {
                let address = address_of(image, function)? + offset;
                replace(&image.kernel, address, &instruction.to_le_bytes())?;
            }
            Damage::Archive => replace(&image.archive, 0, &[0; MAGIC.len()])?,
        }
    }
    Ok(())
}

/// Where a function of the control OS is in its image.
fn address_of(image: &Image, function: &str) -> Result<usize> {
    let program = image.symbols.get("").context("the control OS has no symbols")?;
    // Behind the name there may be a hash.
    let is_it = |name: &str| {
        let name = demangle_auto(name.into(), None);
        name.strip_prefix(function).is_some_and(|rest| rest.is_empty() || rest.starts_with("::h"))
    };
    let address = elf::find_symbol(&fs::read(program)?, is_it)?;
    Ok(usize::try_from(address.with_context(|| format!("the control OS has no `{function}`"))?)?)
}

fn replace(file: &Path, at: usize, with: &[u8]) -> Result<()> {
    let mut bytes = fs::read(file)?;
    let place = bytes.get_mut(at..at + with.len()).context("beyond the end")?;
    ensure!(place != with, "{} has this at {at:#x} already", file.display());
    place.copy_from_slice(with);
    Ok(fs::write(file, bytes)?)
}
