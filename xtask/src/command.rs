//! Running other programs, with errors that say what was tried and what came of it.

use anyhow::{Context, Result, anyhow, bail};
use std::{
    collections::BTreeMap,
    env,
    ffi::{OsStr, OsString},
    io::ErrorKind,
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// Lines of a failed program's output that an error shows.
const SHOWN_LINES: usize = 15;

/// The programs and system files of the machine this runs on; tests put stand-ins in their place.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    /// Where programs are looked for, as in `PATH`.
    pub(crate) search_path: OsString,
    /// The user's own folder, where it is not what our own environment says.
    pub(crate) home: Option<PathBuf>,
    /// The file that names the distribution.
    pub(crate) os_release: PathBuf,
    /// The variables of our environment by which a user names files of his own.
    pub(crate) variables: BTreeMap<&'static str, PathBuf>,
}

/// What a user may name instead of having it fetched.
const VARIABLES: [&str; 4] = ["HANDOVER_QEMU", "HANDOVER_KERNEL", "HANDOVER_MODULE", "HANDOVER_BUSYBOX"];

impl Host {
    /// This machine as it is.
    pub(crate) fn this() -> Self {
        let named = |name: &'static str| env::var_os(name).map(|value| (name, PathBuf::from(value)));
        Self {
            search_path: env::var_os("PATH").unwrap_or_default(),
            home: None,
            os_release: "/etc/os-release".into(),
            variables: VARIABLES.into_iter().filter_map(named).collect(),
        }
    }

    /// A command that runs `program`, found as a shell would find it.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env("PATH", &self.search_path);
        if let Some(home) = &self.home {
            command.env("HOME", home);
        }
        command
    }

    /// Where a shell would find `program`.
    pub(crate) fn find(&self, program: &str) -> Option<PathBuf> {
        env::split_paths(&self.search_path).map(|folder| folder.join(program)).find(|file| file.is_file())
    }

    /// The value of `key` in the file that names the distribution, like `VERSION_CODENAME`.
    pub(crate) fn os_release(&self, key: &str) -> Option<String> {
        let text = std::fs::read_to_string(&self.os_release).ok()?;
        let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
        Some(value.trim_matches('"').to_owned())
    }
}

/// A program that could not be run, or that failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It is not installed.
    Missing(OsString),
    /// It ended so; the last of what it said, and all of it.
    Failed {
        /// The command and the last lines.
        summary: String,
        /// Standard output, then standard error.
        output: String,
    },
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Missing(program) => {
                let program = Path::new(program).file_name().unwrap_or(program).to_string_lossy();
                let hint = match &*program {
                    "make" => "; install the package `make`",
                    "rustup" => "; see https://rustup.rs",
                    "dpkg-deb" | "dpkg" => "; install the package `dpkg`",
                    _ => "",
                };
                write!(f, "the program `{program}` is not installed{hint}")
            }
            Self::Failed { summary, .. } => f.write_str(summary),
        }
    }
}

impl std::error::Error for Failure {}

impl Failure {
    /// Everything the program said.
    pub(crate) fn whole_output(&self) -> &str {
        match self {
            Self::Missing(_) => "",
            Self::Failed { output, .. } => output,
        }
    }
}

/// Runs a command to its end and returns what it wrote to its standard output.
pub(crate) fn output(command: &mut Command) -> Result<String, Failure> {
    let Output { status, stdout, stderr } = command.output().map_err(|error| match error.kind() {
        ErrorKind::NotFound => Failure::Missing(command.get_program().to_owned()),
        _ => Failure::Failed {
            summary: format!("{} cannot be run: {error}", shown(command)),
            output: String::new(),
        },
    })?;
    let text = String::from_utf8_lossy(&stdout);
    if status.success() {
        return Ok(text.into_owned());
    }
    let stderr = String::from_utf8_lossy(&stderr);
    let said: Vec<&str> = text.lines().chain(stderr.lines()).filter(|line| !line.trim().is_empty()).collect();
    let last = said[said.len().saturating_sub(SHOWN_LINES)..].join("\n    ");
    Err(Failure::Failed {
        summary: format!("`{}` failed ({status}):\n    {last}", shown(command)),
        output: format!("{text}{stderr}"),
    })
}

/// Runs a command with our own output as its own.
pub(crate) fn pass_through(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("`{}` cannot be run", shown(command)))?;
    if !status.success() {
        bail!("`{}` failed ({status})", shown(command));
    }
    Ok(())
}

/// Runs a command for its effect.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    output(command).map(drop).map_err(|failure| anyhow!(failure))
}

/// The command as one would type it.
pub(crate) fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let quoted = words.map(|word| {
        let word = word.to_string_lossy();
        if word.contains([' ', '\'', '"', '$', '(']) { format!("'{word}'") } else { word.into_owned() }
    });
    quoted.collect::<Vec<_>>().join(" ")
}
