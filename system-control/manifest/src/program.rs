//! Programs of system-control's, and what becomes of the requests that they decide.

use alloc::{string::String, vec::Vec};
use serde::{Deserialize, Serialize};

use crate::{BUSYBOX, Duration, MemorySize};

/// How often something is started again, unless the manifest says otherwise.
pub const RESTART_LIMIT: u32 = 3;

/// What makes a program or a partition start again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// Nothing.
    #[default]
    Never,
    /// An end with a status other than zero, or by a fault.
    OnFailure,
    /// Any end.
    Always,
}

/// When a partition counts as ready: the next one starts then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ready {
    /// Once it was started.
    #[default]
    Started,
    /// Once every service that it provides has accepted a channel.
    Service,
    /// Once it says so, by a message to the service `requests`.
    Told,
}

/// What a request gets when nobody decides it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Nothing.
    #[default]
    Refuse,
    /// All that was asked for.
    Grant,
}

/// A program that runs in system-control.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Program {
    /// In TOML where it comes from, see [`ProgramSource`]; packed, its file in the boot archive.
    pub path: String,
    /// 1 to [`MAX_NAME`](crate::MAX_NAME) bytes of `a-z`, `0-9` and `-`; without it, the last part of the path.
    #[serde(default)]
    pub name: Option<String>,
    /// Its arguments.
    #[serde(default)]
    pub arguments: Vec<String>,
    /// When it is started again.
    #[serde(default)]
    pub restart: Restart,
    /// How often.
    #[serde(default = "restart_limit")]
    pub restart_limit: u32,
    /// Services it may offer; no two in a manifest share a name.
    #[serde(default)]
    pub provides: Vec<String>,
    /// Services it may connect to.
    #[serde(default)]
    pub uses: Vec<String>,
    /// What it and those that it starts may have in memory, together; without it, as much as each other program. Of what the kernel keeps for
    /// programs, they may have as much in proportion.
    #[serde(default)]
    pub memory: Option<MemorySize>,
    /// It decides guests' requests for resources. One program at most does.
    #[serde(default)]
    pub decides: bool,
    /// It reads what is typed at system-control's console. One program at most does; the others find the end of a file.
    #[serde(default)]
    pub console: bool,
}

impl Program {
    /// A shell at the console, which comes again when it ends.
    #[must_use]
    pub fn shell() -> Program {
        Program {
            path: BUSYBOX.into(),
            name: Some("shell".into()),
            arguments: ["sh".into()].into(),
            restart: Restart::Always,
            restart_limit: u32::MAX,
            provides: Vec::new(),
            uses: Vec::new(),
            memory: None,
            decides: false,
            console: true,
        }
    }
}

impl Program {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        let path = self.path.trim_end_matches('/');
        let last = path.rsplit(['/', ':']).next().unwrap_or(path);
        self.name.as_deref().unwrap_or(last)
    }
}

/// What `path = "..."` of a program means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgramSource<'a> {
    /// `program:NAME`: the program of this name in this workspace.
    Program(&'a str),
    /// `busybox`: Debian's; what it does is its first argument.
    Busybox,
    /// A cargo package's folder or a built program, seen from the manifest's folder.
    Path(&'a str),
}

impl<'a> ProgramSource<'a> {
    /// Reads the value of the key `path`.
    #[must_use]
    pub fn new(text: &'a str) -> Self {
        match text.strip_prefix("program:") {
            Some(name) => Self::Program(name),
            None if text == BUSYBOX => Self::Busybox,
            None => Self::Path(text),
        }
    }
}

/// What becomes of guests' requests for resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Requests {
    /// What a request gets that no program decides in time.
    pub default: Verdict,
    /// How long a program may take to decide.
    pub timeout: Duration,
}

impl Default for Requests {
    fn default() -> Requests {
        Requests { default: Verdict::default(), timeout: Duration(1_000_000_000) }
    }
}

pub(crate) fn restart_limit() -> u32 {
    RESTART_LIMIT
}

pub(crate) fn ready_timeout() -> Duration {
    Duration(10_000_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_paths() {
        let program = |path: &str| Program {
            path: path.into(),
            name: None,
            arguments: Vec::new(),
            restart: Restart::Never,
            restart_limit: 0,
            provides: Vec::new(),
            uses: Vec::new(),
            memory: None,
            decides: false,
            console: false,
        };
        assert_eq!(program("program:monitor").name(), "monitor");
        assert_eq!(program("../my-policy/").name(), "my-policy");
        assert_eq!(Program { name: Some("x".into()), ..program("a/b") }.name(), "x");
    }
}
