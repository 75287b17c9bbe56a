//! Fetching what a fresh machine lacks. Nothing is installed: packages are unpacked under `target/provision`, and root is not needed.

mod apt;
pub(crate) mod linux;
pub(crate) mod qemu;
pub(crate) mod rust;

use crate::{command::Host, workspace::Workspace};
use anyhow::Result;
use std::fs;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Fetch everything again, in the newest version
    #[arg(long)]
    renew: bool,
}

/// Fetches everything that any task needs.
pub(crate) fn provision(workspace: &Workspace, options: &Options) -> Result<()> {
    let host = Host::this();
    let folder = workspace.output_folder("provision")?;
    if options.renew {
        fs::remove_dir_all(&folder)?;
        fs::create_dir_all(&folder)?;
    }
    rust::targets(&host)?;
    let qemu = qemu::find(&host, &folder)?;
    println!("QEMU {}: {}", qemu.version, qemu.program.display());
    let linux = linux::find(&host, &folder)?;
    println!("{linux}");
    Ok(())
}
