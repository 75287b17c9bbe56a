//! Provisioning for real, in a root of its own that holds nothing but a minimal Debian.

use super::Count;
use crate::{
    command::{self, Host},
    linux_module::copy_sources,
    progress::Step,
    provision::apt::Apt,
    workspace::Workspace,
};
use anyhow::{Context, Result, bail};
use std::{env, fs, path::Path};

/// Provisions QEMU and a Linux guest in a scratch root, where this host can make one.
pub(crate) fn provision(workspace: &Workspace) -> Count {
    let host = Host::this();
    if !rustix::process::geteuid().is_root() {
        println!("skipped provision in a scratch root: only root can make one");
        return Count::default();
    }
    if host.os_release("ID").is_none_or(|id| id != "debian") {
        println!("skipped provision in a scratch root: this is not Debian");
        return Count::default();
    }
    match in_scratch_root(workspace, &host) {
        Ok(()) => {
            println!("ok      provision in a scratch root");
            Count::PASSED
        }
        Err(error) => {
            println!("FAILED  provision in a scratch root: {error:#}");
            Count::FAILED
        }
    }
}

fn in_scratch_root(workspace: &Workspace, host: &Host) -> Result<()> {
    let folder = workspace.output_folder("test/scratch-root")?;
    fs::remove_dir_all(&folder)?;
    fs::create_dir_all(&folder)?;
    let root = folder.join("root");
    make_root(host, &folder, &root)?;

    let step = Step::begin("Provisioning in the scratch root");
    let program = env::current_exe().context("this program does not know where it is")?;
    fs::copy(program, root.join("xtask")).context("cannot copy this program to the scratch root")?;
    let provision = |what: &str| {
        let mut chroot = host.command("chroot");
        chroot
            .arg(&root)
            .args(["/xtask", "provision", what])
            .env("CARGO_TARGET_DIR", "/target")
            .env("HOME", "/nowhere");
        command::output(&mut chroot)
    };
    let driver = workspace.source("guests/linux/driver");
    copy_sources(&driver, &root.join(driver.strip_prefix("/")?))?;
    for (what, tells) in [
        ("qemu", "/target/provision/qemu/usr/bin/qemu-system-aarch64"),
        ("linux", "/target/provision/linux/guest/boot/vmlinuz-"),
    ] {
        let first = provision(what)?;
        if !first.contains(tells) {
            bail!("provisioning {what} did not tell of {tells}, but said: {first}");
        }
        // Without the mirror: nothing is fetched a second time.
        fs::rename(root.join("etc/apt"), root.join("etc/apt-away"))?;
        let second = provision(what)?;
        fs::rename(root.join("etc/apt-away"), root.join("etc/apt"))?;
        if first != second {
            bail!("provisioning {what} a second time said something else: {second}");
        }
    }
    step.done("Provisioned in the scratch root");
    fs::remove_dir_all(&folder)?;
    Ok(())
}

/// A minimal Debian of the host's own release, from the host's own mirror.
fn make_root(host: &Host, folder: &Path, root: &Path) -> Result<()> {
    let apt = Apt::open(host, folder)?;
    apt.unpack(&["debootstrap".to_owned()], folder)?;
    let step = Step::begin("Making a scratch root");
    let scripts = folder.join("usr/share/debootstrap");
    let mut debootstrap = host.command(folder.join("usr/sbin/debootstrap"));
    debootstrap.env("DEBOOTSTRAP_DIR", &scripts).args([
        "--variant=minbase",
        "--include=ca-certificates",
        apt.codename(),
    ]);
    debootstrap.arg(root).arg(apt.mirror());
    command::run(&mut debootstrap).context("no scratch root can be made")?;
    step.done("Made a scratch root");
    Ok(())
}
