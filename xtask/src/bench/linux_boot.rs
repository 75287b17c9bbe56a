//! How much more a Linux guest's boot costs than the same boot on the bare machine.
//!
//! Kernel, initramfs, command line, memory and device tree are the same: the guest tells its device tree, and the bare
//! machine gets that. The counter starts with the kernel both times.

use super::{Figures, Row, measure};
use crate::{
    cargo::{self, LINUX, Package},
    command::Host,
    image,
    initramfs::Archive,
    machine::{self, BareLinux},
    provision::{self, qemu::Qemu},
    workspace::{Workspace, write_if_changed},
};
use anyhow::{Context, Result, bail};
use std::fs;

const NAME: &str = "linux_boot";
const COMMAND_LINE: &str = "console=ttyAMA0 quiet";

/// Measures both boots.
pub(super) fn run(workspace: &Workspace, qemu: &Qemu, figures: &mut Figures) -> Result<()> {
    let linux = provision::linux::find(&Host::this(), &workspace.output_folder("provision")?)?;
    let folder = workspace.output_folder("bench")?;
    let initramfs = folder.join("linux-boot.cpio");
    let tool = cargo::build(workspace, LINUX, &[Package::with_binary("handover-tool", "handover")])?;
    let mut archive = Archive::new();
    for folder in ["bin", "dev", "proc", "sys"] {
        archive.folder(folder)?;
    }
    archive.character_device("dev/console", 5, 1)?;
    archive.file("bin/busybox", &fs::read(&linux.busybox).context("cannot read busybox")?)?;
    archive.link("bin/sh", "busybox")?;
    archive.file("bin/handover", &fs::read(&tool[0]).context("cannot read the tool")?)?;
    archive.file("init", include_bytes!("init"))?;
    write_if_changed(&initramfs, &archive.finish()?)?;

    let manifest = format!(
        "[machine]\nprocessors = 1\nmemory = \"1 GiB\"\n[[partition]]\nname = \"linux\"\nkernel = \"debian\"\n\
         initramfs = \"{}\"\ncommand-line = \"{COMMAND_LINE}\"\nprocessors = 1\nmemory = \"256 MiB\"\n",
        initramfs.display()
    );
    let manifest = handover_manifest::parse(&manifest, &folder.join("linux-boot.toml"))?;
    let image = image::make(workspace, &manifest, &folder, "bench/linux-boot")?;
    let how = machine::Options { icount: true, gdb: None };
    let guest =
        measure(workspace, "linux-boot", false, machine::command(qemu, &image, &manifest.machine, how))?;
    let instructions = guest.only(NAME)?;

    let tree = folder.join("linux-boot.dtb");
    fs::write(&tree, guest.device_tree.context("the guest told no device tree")?)?;
    let bare = BareLinux {
        kernel: &linux.kernel,
        initramfs: &initramfs,
        command_line: COMMAND_LINE,
        device_tree: &tree,
    };
    let partition = &manifest.partitions[0];
    let resources = handover_manifest::Machine { processors: partition.processors, memory: partition.memory };
    let bare =
        measure(workspace, "linux-boot-bare", true, machine::bare_command(qemu, &bare, &resources, how))?;
    let bare = bare.only(NAME)?;
    if bare == 0 {
        bail!("the bare machine's counter stood still");
    }
    let ratio = instructions as f64 / bare as f64;
    figures.rows.push(Row { name: NAME.to_owned(), instructions, ratio: Some(ratio) });
    Ok(())
}
