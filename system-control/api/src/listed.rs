//! Which partitions of the manifest there are now.

use std::{fmt, fs, io, path::Path, str::FromStr};

use handover_abi::PartitionId;

/// Where init keeps the list: a line with `status` and a number, then one for each partition, as [`Listed`] is written.
pub const PARTITIONS: &str = "/run/partitions";

/// A partition of the manifest. As text: its name, its id or `-`, its restarts, and `runs` or `ended`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// Its id, which it keeps when it has ended; none, if it could not be made.
    pub id: Option<PartitionId>,
    /// How often it was made anew.
    pub restarts: u32,
    /// Whether it has ended for good.
    pub ended: bool,
}

impl Listed {
    /// All of them, in the manifest's order, as init lists them at this moment.
    ///
    /// # Errors
    ///
    /// Those of reading [`PARTITIONS`]; [`io::ErrorKind::InvalidData`] for a line that is no partition.
    pub fn all() -> io::Result<Vec<Listed>> {
        Listed::read(Path::new(PARTITIONS))
    }

    fn read(path: &Path) -> io::Result<Vec<Listed>> {
        let wrong =
            |line: String| io::Error::new(io::ErrorKind::InvalidData, format!("`{line}` is no partition"));
        let text = fs::read_to_string(path)?;
        text.lines().skip(1).map(|line| line.parse().map_err(wrong)).collect()
    }
}

impl fmt::Display for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.id.map_or_else(|| "-".into(), |id| id.to_string());
        write!(f, "{} {id} {} {}", self.name, self.restarts, if self.ended { "ended" } else { "runs" })
    }
}

impl FromStr for Listed {
    /// The line, which is not what it should be.
    type Err = String;

    fn from_str(line: &str) -> Result<Listed, String> {
        let parse = || {
            let mut words = line.split(' ');
            let name = words.next()?.to_owned();
            let id = match words.next()? {
                "-" => None,
                id => Some(PartitionId::new(id.parse().ok()?)),
            };
            let restarts = words.next()?.parse().ok()?;
            let ended = match words.next()? {
                "ended" => true,
                "runs" => false,
                _ => return None,
            };
            words.next().is_none().then_some(Listed { name, id, restarts, ended })
        };
        parse().ok_or_else(|| line.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let listed = Listed { name: "a".into(), id: Some(PartitionId::new(7)), restarts: 2, ended: false };
        assert_eq!(listed.to_string(), "a 7 2 runs");
        assert_eq!("a 7 2 runs".parse(), Ok(listed));
        let gone = Listed { name: "b".into(), ended: true, ..Listed::default() };
        assert_eq!("b - 0 ended".parse(), Ok(gone));
        for wrong in ["", "a", "a b 0 runs", "a 1 0 walks", "a 1 0 runs x"] {
            assert_eq!(wrong.parse::<Listed>(), Err(wrong.to_owned()));
        }
    }
}
