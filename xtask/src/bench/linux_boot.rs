//! How much more a Linux guest's boot costs than the same boot on the bare machine.
//!
//! Kernel, initramfs, command line, memory and device tree are the same: one guest tells its device tree, and the bare machine
//! gets that. The demonstration's init prints the counter where user space begins. The processor is not quite the same: the kernel
//! also sets up what a partition does not show it (SVE, SME, performance counters and more), so the ratio can fall below 1.

use super::{Figures, measure};
use crate::{
    command::Host,
    image,
    machine::{self, BareLinux},
    provision::{self, qemu::Qemu},
    workspace::Workspace,
};
use anyhow::{Context, Result, bail};
use handover_manifest::{Machine, Manifest};
use std::{fs, path::Path};

const NAME: &str = "linux_boot";
/// A panic ends the machine, which does not start again.
const COMMAND_LINE: &str = "console=ttyAMA0 quiet panic=-1";
/// What init does in the boot that is measured.
const MEASURE: &str = "handover.bench";
/// What it does in a boot before that: tells the device tree as hexadecimal bytes.
const TELL: &str = "handover.run=od+-An+-v+-tx1+/sys/firmware/fdt";
/// First bytes of a device tree (Devicetree Specification 5.2), before its size.
const MAGIC: [u8; 4] = [0xd0, 0x0d, 0xfe, 0xed];

/// Measures both boots.
pub(super) fn run(workspace: &Workspace, qemu: &Qemu, figures: &mut Figures) -> Result<()> {
    let linux = provision::linux::find(&Host::this(), &workspace.output_folder("provision")?)?;
    let folder = workspace.output_folder("bench")?;
    let how = machine::Options { icount: true, ..machine::Options::PLAIN };
    let in_partition = |name: &str, word: &str| {
        let manifest = manifest(word)?;
        let image = image::make(workspace, &manifest, &folder, &format!("bench/{name}"))?;
        measure(workspace, name, false, machine::command(qemu, &image, &manifest.machine, how))
    };
    let tree = folder.join("linux-boot.dtb");
    fs::write(&tree, device_tree(in_partition("linux-tree", TELL)?.lines("linux"))?)?;
    let figure = in_partition("linux-boot", MEASURE)?.only(NAME)?;

    let manifest = manifest(MEASURE)?;
    let partition = &manifest.partitions[0];
    let initramfs = folder.join("linux-boot.cpio");
    fs::write(&initramfs, image::demo(workspace, &Host::this(), &linux, &[])?)
        .context("cannot write the initramfs")?;
    let bare = BareLinux {
        kernel: &linux.kernel,
        initramfs: &initramfs,
        command_line: partition.command_line.as_deref().unwrap_or_default(),
        device_tree: &tree,
    };
    let resources = Machine { processors: partition.processors, memory: partition.memory };
    let command = machine::bare_command(qemu, &bare, &resources, how);
    let bare = measure(workspace, "linux-boot-bare", true, command)?.only(NAME)?;
    if bare.value == 0 {
        bail!("the bare machine's counter stood still");
    }
    let ratio = figure.value as f64 / bare.value as f64;
    figures.add_with_ratio(figure, ratio);
    Ok(())
}

/// One Linux guest, whose init finds this word.
fn manifest(word: &str) -> Result<Manifest> {
    let text = format!(
        "[machine]\nprocessors = 1\nmemory = \"1 GiB\"\n[[partition]]\nname = \"linux\"\nkernel = \"debian\"\n\
         initramfs = \"demo\"\ncommand-line = \"{COMMAND_LINE} {word}\"\nprocessors = 1\nmemory = \"256 MiB\"\n"
    );
    Ok(handover_manifest::parse(&text, Path::new("linux-boot.toml"))?)
}

/// The device tree in the lines of `od -An -v -tx1`, between whatever else a guest says.
fn device_tree(lines: &[String]) -> Result<Vec<u8>> {
    let row = |line: &str| -> Option<Vec<u8>> {
        let byte = |digits: &str| if digits.len() == 2 { u8::from_str_radix(digits, 16).ok() } else { None };
        line.split_whitespace().map(byte).collect()
    };
    let bytes: Vec<u8> = lines.iter().filter_map(|line| row(line)).flatten().collect();
    let size = bytes.get(4..8).and_then(|size| size.try_into().ok()).map(u32::from_be_bytes);
    if !bytes.starts_with(&MAGIC) || size.is_none_or(|size| size as usize != bytes.len()) {
        bail!("the guest told {} bytes, which are no device tree", bytes.len());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_device_tree_between_other_lines() {
        let lines =
            ["init: hello", " d0 0d fe ed 00 00 00 0a", " 01 02", "", "linux is done"].map(str::to_owned);
        assert_eq!(device_tree(&lines).unwrap(), [0xd0, 0x0d, 0xfe, 0xed, 0, 0, 0, 10, 1, 2]);
        assert!(device_tree(&lines[..2]).unwrap_err().to_string().contains("8 bytes"));
        assert!(device_tree(&lines[2..]).is_err());
    }

    #[test]
    fn the_manifest_is_one() {
        assert_eq!(
            manifest(MEASURE).unwrap().partitions[0].command_line.as_deref(),
            Some("console=ttyAMA0 quiet panic=-1 handover.bench")
        );
        manifest(TELL).unwrap();
    }
}
