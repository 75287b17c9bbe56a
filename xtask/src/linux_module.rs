//! Our Linux kernel module, built for the guest's kernel.

use crate::{
    command::Host,
    progress::Step,
    provision::linux::{Linux, Module},
    workspace::{Workspace, write_if_changed},
};
use anyhow::{Context, Result, bail};
use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

/// Builds `handover.ko` out of `guests/linux/driver`, or takes the one that the user named.
pub(crate) fn build(workspace: &Workspace, host: &Host, linux: &Linux) -> Result<PathBuf> {
    let (headers, programs, libraries) = match &linux.module {
        Module::Ready(module) => return Ok(module.clone()),
        Module::Build { headers, programs, libraries } => (headers, programs, libraries),
    };
    let kernel = headers.file_name().unwrap_or_default().to_string_lossy();
    let folder = workspace.output_folder(&format!("linux-module/{kernel}"))?;
    let module = folder.join("handover.ko");
    let changed = copy_sources(&workspace.source("guests/linux/driver"), &folder)?;
    if module.is_file() {
        if !changed {
            return Ok(module);
        }
        // Should this build fail, the next one must not take the old module for its own.
        fs::remove_file(&module).with_context(|| format!("cannot remove {}", module.display()))?;
    }
    let step = Step::begin("Building the Linux driver");
    let mut make =
        host.command(if programs.join("make").is_file() { programs.join("make") } else { "make".into() });
    make.arg("-C").arg(headers).arg(assignment("M", folder.as_os_str()));
    make.args(["ARCH=arm64", "CROSS_COMPILE=aarch64-linux-gnu-", "modules"]);
    let search = [programs.clone()].into_iter().chain(env::split_paths(&host.search_path));
    make.env("PATH", env::join_paths(search)?).env("LD_LIBRARY_PATH", libraries);
    // An outer make's or cargo's choices are not for the kernel's build.
    make.env_remove("MAKEFLAGS").env_remove("CC");
    crate::command::run(&mut make).context("the Linux driver does not build")?;
    if !module.is_file() {
        bail!("building the Linux driver made no {}", module.display());
    }
    step.done("Built the Linux driver");
    Ok(module)
}

fn assignment(name: &str, value: &std::ffi::OsStr) -> OsString {
    let mut assignment = OsString::from(format!("{name}="));
    assignment.push(value);
    assignment
}

/// Copies a folder's files, those that changed; make goes by their times. Returns whether there were any.
pub(crate) fn copy_sources(from: &Path, to: &Path) -> Result<bool> {
    let mut changed = false;
    fs::create_dir_all(to).with_context(|| format!("cannot make {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot list {}", from.display()))? {
        let entry = entry?;
        let copy = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            changed |= copy_sources(&entry.path(), &copy)?;
        } else {
            changed |= write_if_changed(&copy, &fs::read(entry.path())?)?;
        }
    }
    Ok(changed)
}
