//! System-control's programs on their way into the boot archive.

use crate::{
    cargo::{self, LINUX, Package},
    elf,
    image::{Files, read},
    provision::linux::Linux,
    workspace::Workspace,
};
use anyhow::{Context, Result, bail};
use handover_manifest::{BUSYBOX, Manifest, ProgramSource};
use std::path::Path;

/// The program that follows the manifest.
const INIT: &str = "init";
/// The archive's folder of programs.
const FOLDER: &str = "bin";
/// The names that busybox has there.
const APPLETS: [&str; 35] = [
    "ash", "cat", "chmod", "cp", "date", "dd", "df", "echo", "env", "false", "find", "free", "grep", "head",
    "hexdump", "kill", "ln", "ls", "mkdir", "mv", "ps", "pwd", "rm", "rmdir", "seq", "sh", "sleep", "sort",
    "tail", "test", "top", "touch", "true", "uname", "wc",
];

/// Where programs come from.
pub(crate) struct Sources<'a> {
    pub(crate) workspace: &'a Workspace,
    /// Where the manifest's paths start.
    pub(crate) folder: &'a Path,
    pub(crate) linux: Option<&'a Linux>,
}

/// Builds what the manifest runs in system-control, and puts it into `/bin`; the manifest's paths then name these files.
pub(crate) fn add(sources: &Sources<'_>, manifest: &mut Manifest, files: &mut Files) -> Result<()> {
    if !manifest.system_control.runs_programs() {
        return Ok(());
    }
    files.archive.folder(FOLDER)?;
    if manifest.system_control.has_init() {
        sources.packaged(INIT, files)?;
    }
    if manifest.has_busybox() {
        sources.busybox(files)?;
    }
    for name in manifest.system_control.programs.iter().filter(|name| *name != BUSYBOX) {
        sources.packaged(name, files)?;
    }
    for program in &mut manifest.programs {
        let name = match ProgramSource::new(&program.path) {
            ProgramSource::Program(name) => sources.packaged(name, files)?,
            ProgramSource::Busybox => format!("{FOLDER}/{BUSYBOX}"),
            ProgramSource::Path(path) => sources.folder_or_file(path, files)?,
        };
        // Its name came from its path.
        program.name = Some(program.name().to_owned());
        program.path = format!("/{name}");
    }
    Ok(())
}

impl Sources<'_> {
    /// A program of this workspace's.
    fn packaged(&self, name: &str, files: &mut Files) -> Result<String> {
        let known = cargo::programs(self.workspace)?;
        if !known.iter().any(|program| program == name) {
            bail!("there is no program `{name}` for system-control, but: {BUSYBOX}, {}", known.join(", "));
        }
        eprintln!("  Building the program {name}");
        let built = cargo::build(self.workspace, LINUX, &[Package::new(name)])?;
        self.built(name, built.first().context("nothing was built")?, files)
    }

    /// A cargo package's folder, or a built program.
    fn folder_or_file(&self, path: &str, files: &mut Files) -> Result<String> {
        let file = self.folder.join(path);
        if !file.is_dir() {
            return self.built(path, &file, files);
        }
        eprintln!("  Building the program in {}", file.display());
        let program = cargo::build_folder(self.workspace, &file, LINUX)?;
        self.built(path, &program, files)
    }

    fn built(&self, source: &str, file: &Path, files: &mut Files) -> Result<String> {
        let program =
            elf::strip(&read(file)?).with_context(|| format!("{} cannot be packed", file.display()))?;
        files.add(FOLDER, source, &program)
    }

    fn busybox(&self, files: &mut Files) -> Result<()> {
        let linux = self.linux.context("Linux was not provisioned")?;
        files.add(FOLDER, BUSYBOX, &read(&linux.busybox)?)?;
        for applet in APPLETS {
            files.archive.link(&format!("{FOLDER}/{applet}"), BUSYBOX)?;
        }
        Ok(())
    }
}
