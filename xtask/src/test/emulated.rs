//! The program `conformance` on the Linux of this machine, by QEMU's emulation of a process: another kernel than Debian's for arm64 to compare with.

use super::{Count, cases::CONFORMANCE};
use crate::{
    cargo::{self, LINUX, Package},
    command::{self, Host},
    provision::qemu,
    workspace::Workspace,
};
use anyhow::{Result, bail};
use std::process::Command;

/// The test's name.
pub(super) const NAME: &str = "conformance-emulated";

/// Runs it, and compares what it prints.
pub(super) fn run(workspace: &Workspace) -> Count {
    match compare(workspace) {
        Ok(()) => {
            println!("ok      {NAME}");
            Count::PASSED
        }
        Err(error) => {
            println!("FAILED  {NAME}: {error:#}");
            Count::FAILED
        }
    }
}

fn compare(workspace: &Workspace) -> Result<()> {
    let user = qemu::find_user(&Host::this(), &workspace.output_folder("provision")?)?;
    let program = cargo::build(workspace, LINUX, &[Package::new("conformance")])?;
    let mut command: Command = user.command();
    command.args(program).env("CONFORMANCE_EMULATOR", &user.program).env("RUST_BACKTRACE", "0");
    let printed = command::output(&mut command).map_err(|failure| anyhow::anyhow!(failure))?;
    match CONFORMANCE.lines().zip(printed.lines()).find(|(wanted, said)| wanted != said) {
        Some((wanted, said)) => bail!("it said `{said}`, not `{wanted}`"),
        None if CONFORMANCE.lines().count() != printed.lines().count() => {
            bail!("it said {} lines, not {}", printed.lines().count(), CONFORMANCE.lines().count())
        }
        None => Ok(()),
    }
}
