//! Fetching what a fresh machine lacks. Nothing is installed: packages are unpacked under `target/provision`, and root is not needed.

pub(crate) mod apt;
pub(crate) mod linux;
pub(crate) mod qemu;
pub(crate) mod rust;
#[cfg(test)]
mod tests;

use crate::{command::Host, linux_module, workspace::Workspace};
use anyhow::{Context, Result};
use std::fs;

/// What can be fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// The Rust targets
    Rust,
    /// QEMU 10 or newer
    Qemu,
    /// The Linux guest's kernel and busybox, and what builds our driver
    Linux,
    /// Our driver, built for that kernel
    Driver,
}

#[derive(clap::Args)]
pub(crate) struct Options {
    /// What to fetch or build; everything by default
    #[arg(default_values_t = [Part::Rust, Part::Qemu, Part::Linux, Part::Driver], value_enum)]
    parts: Vec<Part>,
    /// Fetch again, in the newest version
    #[arg(long)]
    renew: bool,
}

/// Fetches what tasks need and is missing, and tells where it is.
pub(crate) fn provision(workspace: &Workspace, options: &Options) -> Result<()> {
    let host = Host::this();
    let folder = workspace.output_folder("provision")?;
    let renew = |part: &str| {
        let part = folder.join(part);
        if options.renew && part.exists() { fs::remove_dir_all(part) } else { Ok(()) }
    };
    for part in &options.parts {
        match part {
            Part::Rust => rust::targets(&host)?,
            Part::Qemu => {
                renew("qemu").context("the old QEMU cannot be removed")?;
                let qemu = qemu::find(&host, &folder)?;
                println!("QEMU {}: {}", qemu.version, qemu.program.display());
            }
            Part::Linux => {
                renew("linux").context("the old Linux guest cannot be removed")?;
                println!("{}", linux::find(&host, &folder)?);
            }
            Part::Driver => {
                let linux = linux::find(&host, &folder)?;
                println!("Linux driver: {}", linux_module::build(workspace, &host, &linux)?.display());
            }
        }
    }
    Ok(())
}
