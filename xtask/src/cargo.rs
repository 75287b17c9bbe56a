//! Building the packages that run on the machine.

use crate::{command, workspace::Workspace};
use anyhow::{Context, Result, bail};
use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The target of everything that runs without an operating system.
pub(crate) const BARE_METAL: &str = "aarch64-unknown-none-softfloat";
/// The target of programs for Linux guests.
pub(crate) const LINUX: &str = "aarch64-unknown-linux-musl";

/// The package of the control OS.
pub(crate) const CONTROL_OS: &str = "handover";

/// The cargo that runs us, else the one in `PATH`.
pub(crate) fn cargo() -> Command {
    Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")))
}

/// A package of this workspace for cargo's `--package`. By its version too: a program may be called as a library is.
pub(crate) fn specification(package: &str) -> String {
    format!("{package}@{}", env!("CARGO_PKG_VERSION"))
}

/// Builds packages for a target, as they ship, and returns their programs' files in the same order. A program has its package's name
/// unless `binary` says otherwise.
pub(crate) fn build(workspace: &Workspace, target: &str, packages: &[Package<'_>]) -> Result<Vec<PathBuf>> {
    for package in packages {
        // One at a time: cargo would unite their dependencies' features otherwise, and hand `alloc` to an image that has no heap.
        let mut command = cargo();
        command.current_dir(workspace.source("")).args(["build", "--release", "--target", target]);
        command.arg("--target-dir").arg(workspace.target()).args(["--package", &specification(package.name)]);
        if package.name == CONTROL_OS {
            // Instead of the configured ones, which ask for frame pointers: guests' frames are followed when they have ended, the control OS's by nobody.
            command.env("CARGO_ENCODED_RUSTFLAGS", "");
        }
        // Standard output is the partitions'.
        command.stdout(Stdio::null());
        if env::var_os("CARGO_TERM_VERBOSE").is_none_or(|value| value != "true") {
            command.arg("--quiet");
        }
        command::pass_through(&mut command)?;
    }
    let folder = workspace.target().join(target).join("release");
    packages
        .iter()
        .map(|package| {
            let file = folder.join(package.binary);
            if !file.is_file() {
                bail!("the package `{}` built no program `{}`", package.name, package.binary);
            }
            Ok(file)
        })
        .collect()
}

/// Builds the package in a folder, of whatever workspace, and returns its one program's file.
pub(crate) fn build_folder(workspace: &Workspace, folder: &Path, target: &str) -> Result<PathBuf> {
    let mut command = cargo();
    // The folder may be anywhere, and the linker is that of this workspace.
    command.arg("--config").arg(workspace.source(".cargo/config.toml"));
    command.current_dir(folder).args(["build", "--release", "--target", target]);
    command.arg("--message-format=json-render-diagnostics").stderr(Stdio::inherit());
    let output = command.output().with_context(|| format!("cannot run {}", command::shown(&command)))?;
    if !output.status.success() {
        bail!("{} does not build for {target}", folder.display());
    }
    let folder = fs::canonicalize(folder)?;
    let manifest = folder.join("Cargo.toml");
    let program = |line: &str| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let ours = Path::new(message.get("manifest_path")?.as_str()?) == manifest;
        Some(PathBuf::from(message.get("executable")?.as_str()?)).filter(|_| ours)
    };
    let text = String::from_utf8_lossy(&output.stdout);
    match text.lines().filter_map(program).collect::<Vec<_>>().as_slice() {
        [program] => Ok(program.clone()),
        [] => bail!("{} has no program: a `src/main.rs` makes one", folder.display()),
        programs => bail!("{} has {} programs, but one is wanted", folder.display(), programs.len()),
    }
}

/// A package and its program.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Package<'a> {
    name: &'a str,
    binary: &'a str,
}

impl<'a> Package<'a> {
    /// A package whose program has its name.
    pub(crate) const fn new(name: &'a str) -> Self {
        Self { name, binary: name }
    }

    /// A package whose program is called `binary`.
    pub(crate) const fn with_binary(name: &'a str, binary: &'a str) -> Self {
        Self { name, binary }
    }
}

/// The bare-metal guests of this workspace: folders of `guests` with a `Cargo.toml`.
pub(crate) fn guests(workspace: &Workspace) -> Result<Vec<String>> {
    packages_in(workspace, "guests")
}

/// System-control's programs: folders of `system-control/programs` with a `Cargo.toml`.
pub(crate) fn programs(workspace: &Workspace) -> Result<Vec<String>> {
    packages_in(workspace, "system-control/programs")
}

fn packages_in(workspace: &Workspace, folder: &str) -> Result<Vec<String>> {
    let folder = workspace.source(folder);
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let entry = entry?;
        if entry.path().join("Cargo.toml").is_file() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}
