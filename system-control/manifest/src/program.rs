//! Programs of system-control's, and what becomes of the requests that they decide.

use alloc::{format, string::String, vec::Vec};
use core::{fmt, str::FromStr};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

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

/// A length of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// In milliseconds.
    pub milliseconds: u64,
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.milliseconds {
            ms if ms != 0 && ms.is_multiple_of(1000) => write!(f, "{} s", ms / 1000),
            ms => write!(f, "{ms} ms"),
        }
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Span, String> {
        let wanted =
            || format!("`{text}` is no length of time: write a whole number and ms or s, like `500 ms`");
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let factor = match unit.trim_start() {
            "ms" => 1,
            "s" => 1000,
            _ => return Err(wanted()),
        };
        let number: u64 = number.parse().map_err(|_| wanted())?;
        let milliseconds = number.checked_mul(factor).ok_or_else(wanted)?;
        Ok(Span { milliseconds })
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            serializer.serialize_u64(self.milliseconds)
        }
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Span, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
        } else {
            u64::deserialize(deserializer).map(|milliseconds| Span { milliseconds })
        }
    }
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
    /// It decides guests' requests for resources. One program at most does.
    #[serde(default)]
    pub decides: bool,
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
    /// A cargo package's folder or a built program, seen from the manifest's folder.
    Path(&'a str),
}

impl<'a> ProgramSource<'a> {
    /// Reads the value of the key `path`.
    #[must_use]
    pub fn new(text: &'a str) -> Self {
        text.strip_prefix("program:").map_or(Self::Path(text), Self::Program)
    }
}

/// What becomes of guests' requests for resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Requests {
    /// What a request gets that no program decides in time.
    pub default: Verdict,
    /// How long a program may take to decide.
    pub timeout: Span,
}

impl Default for Requests {
    fn default() -> Requests {
        Requests { default: Verdict::default(), timeout: Span { milliseconds: 1000 } }
    }
}

pub(crate) fn restart_limit() -> u32 {
    RESTART_LIMIT
}

pub(crate) fn ready_timeout() -> Span {
    Span { milliseconds: 10_000 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn lengths_of_time() {
        for (text, milliseconds) in [("500 ms", 500), ("5 s", 5000), ("0 ms", 0), ("1500 ms", 1500)] {
            let span = Span { milliseconds };
            assert_eq!(text.parse(), Ok(span));
            assert_eq!(span.to_string(), text);
        }
        for text in ["", "5", "s", "5 m", "-1 s", "1.5 s", "18446744073709551615 s"] {
            assert!(text.parse::<Span>().unwrap_err().contains("ms or s"), "{text}");
        }
    }

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
            decides: false,
        };
        assert_eq!(program("program:monitor").name(), "monitor");
        assert_eq!(program("../my-policy/").name(), "my-policy");
        assert_eq!(Program { name: Some("x".into()), ..program("a/b") }.name(), "x");
    }
}
