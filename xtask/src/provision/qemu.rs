//! QEMU 10 or newer: named by `HANDOVER_QEMU`, installed, or unpacked from Debian's package.

use super::apt::Apt;
use crate::{
    command::{self, Host},
    progress::Step,
};
use anyhow::{Context, Result, anyhow, bail};
use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const PROGRAM: &str = "qemu-system-aarch64";
/// What emulates processes, by the names that distributions have for it.
const USER_PROGRAMS: [&str; 2] = ["qemu-aarch64", "qemu-aarch64-static"];
/// Older ones run Linux guests at EL1 under `-cpu max` wrongly, and count time differently.
const OLDEST: u32 = 10;

/// A QEMU that is new enough.
#[derive(Clone, Debug)]
pub(crate) struct Qemu {
    pub(crate) program: PathBuf,
    pub(crate) version: String,
    libraries: Option<OsString>,
}

impl Qemu {
    /// A command that runs it.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        if let Some(libraries) = &self.libraries {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        command
    }
}

/// Finds QEMU, and fetches it where there is none or only an old one.
pub(crate) fn find(host: &Host, folder: &Path) -> Result<Qemu> {
    if let Some(program) = host.variables.get("HANDOVER_QEMU") {
        return match examine(host, program, None)? {
            (qemu, major) if major >= OLDEST => Ok(qemu),
            (qemu, _) => bail!(
                "HANDOVER_QEMU names {} of version {}, but {OLDEST}.0 or newer is needed",
                program.display(),
                qemu.version
            ),
        };
    }
    if let Some(program) = host.find(PROGRAM)
        && let (qemu, OLDEST..) = examine(host, &program, None)?
    {
        return Ok(qemu);
    }
    let root = folder.join("qemu");
    let program = root.join("usr/bin").join(PROGRAM);
    if !root.join("versions.json").exists() {
        fetch(host, folder, &root)?;
    }
    match examine(host, &program, Some(libraries(&root)))? {
        (qemu, OLDEST..) => Ok(qemu),
        (qemu, _) => bail!(
            "this Debian offers QEMU {}, but {OLDEST}.0 or newer is needed\n  what to do: set HANDOVER_QEMU to a newer one's \
             qemu-system-aarch64",
            qemu.version
        ),
    }
}

/// Finds QEMU's emulation of processes, of any version, and fetches it where there is none.
pub(crate) fn find_user(host: &Host, folder: &Path) -> Result<Qemu> {
    let named = host.variables.get("HANDOVER_QEMU_USER").map(PathBuf::from);
    if let Some(program) = named.or_else(|| USER_PROGRAMS.iter().find_map(|program| host.find(program))) {
        return Ok(Qemu { program, version: String::new(), libraries: None });
    }
    let root = folder.join("qemu-user");
    if !root.join("versions.json").exists() {
        let apt = Apt::open(host, folder)?;
        let step = Step::begin("Fetching QEMU's emulation of processes");
        let versions = apt
            .unpack_programs(&["qemu-user"], &root)
            .context("it cannot be fetched\n  what to do: set HANDOVER_QEMU_USER to a qemu-aarch64")?;
        step.done("Fetched QEMU's emulation of processes");
        fs::write(root.join("versions.json"), serde_json::to_string_pretty(&versions)?)?;
    }
    let program = root.join("usr/bin").join(USER_PROGRAMS[0]);
    Ok(Qemu { program, version: String::new(), libraries: Some(libraries(&root)) })
}

fn fetch(host: &Host, folder: &Path, root: &Path) -> Result<()> {
    let apt = Apt::open(host, folder)?;
    let step = Step::begin("Fetching QEMU");
    let versions = apt.unpack_programs(&["qemu-system-arm"], root).context("QEMU cannot be fetched")?;
    let version = versions.get("qemu-system-arm").context("apt fetched no QEMU")?;
    step.done(&format!("Fetched QEMU {version}"));
    fs::write(root.join("versions.json"), serde_json::to_string_pretty(&versions)?)?;
    Ok(())
}

/// Asks a QEMU for its version.
fn examine(host: &Host, program: &Path, libraries: Option<OsString>) -> Result<(Qemu, u32)> {
    let mut ask = host.command(program);
    ask.arg("--version");
    if let Some(libraries) = &libraries {
        ask.env("LD_LIBRARY_PATH", libraries);
    }
    let answer = command::output(&mut ask)
        .map_err(|failure| anyhow!("{} does not run: {failure}", program.display()))?;
    let version = answer.split_whitespace().skip_while(|word| *word != "version").nth(1);
    let major = version.and_then(|version| version.split('.').next()?.parse().ok());
    match (version, major) {
        (Some(version), Some(major)) => {
            Ok((Qemu { program: program.to_owned(), version: version.to_owned(), libraries }, major))
        }
        _ => bail!("{} does not tell its version, but says: {}", program.display(), answer.trim()),
    }
}

/// Where unpacked packages have their shared libraries, as `LD_LIBRARY_PATH`.
pub(crate) fn libraries(root: &Path) -> OsString {
    let mut folders = Vec::new();
    for base in ["usr/lib", "lib"] {
        folders.extend(["x86_64-linux-gnu", "aarch64-linux-gnu"].map(|triple| root.join(base).join(triple)));
    }
    folders.retain(|folder| folder.is_dir());
    env::join_paths(folders).unwrap_or_default()
}
