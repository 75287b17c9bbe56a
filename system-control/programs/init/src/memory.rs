//! What one init leaves for the next, should it die: a file.

use std::{fmt, fs, io, path::Path, str::FromStr};

use handover_control::PartitionId;

use crate::supervise::Past;

/// Where it is kept.
pub const MEMORY: &str = "/run/partitions";

/// A partition, as far as it has to be remembered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Its id, unless it has ended for good.
    pub id: Option<PartitionId>,
    /// Its past.
    pub past: Past,
}

/// Everything that has to be remembered. As text: `status` and the status, then a line for each partition with its name, its id or `-`,
/// its restarts, and `runs` or `ended`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// The first exit status that was not zero.
    pub status: u64,
    /// Each partition's name and state, in the manifest's order.
    pub partitions: Vec<(String, Known)>,
}

impl Memory {
    /// What the former init left; `None` if there was none.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub fn read(path: &Path) -> io::Result<Option<Memory>> {
        match fs::read_to_string(path) {
            Ok(text) => text.parse().map(Some).map_err(|line| {
                io::Error::new(io::ErrorKind::InvalidData, format!("{}: `{line}`", path.display()))
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Leaves it, whole or not at all.
    ///
    /// # Errors
    ///
    /// Those of writing and renaming a file.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let new = path.with_extension("new");
        fs::write(&new, self.to_string())?;
        fs::rename(&new, path)
    }

    /// The partition of this name.
    #[must_use]
    pub fn partition(&self, name: &str) -> Option<Known> {
        self.partitions.iter().find(|(known, _)| known == name).map(|(_, known)| *known)
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "status {}", self.status)?;
        for (name, Known { id, past: Past { restarts, ended } }) in &self.partitions {
            let id = id.map_or_else(|| "-".into(), |id| id.to_string());
            writeln!(f, "{name} {id} {restarts} {}", if *ended { "ended" } else { "runs" })?;
        }
        Ok(())
    }
}

impl FromStr for Memory {
    /// The line that is not what it should be.
    type Err = String;

    fn from_str(text: &str) -> Result<Memory, String> {
        let mut lines = text.lines();
        let first = lines.next().unwrap_or_default();
        let status = first.strip_prefix("status ").and_then(|status| status.parse().ok()).ok_or(first)?;
        let partition = |line: &str| {
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
            words.next().is_none().then_some((name, Known { id, past: Past { restarts, ended } }))
        };
        let partitions =
            lines.map(|line| partition(line).ok_or_else(|| line.to_owned())).collect::<Result<_, _>>()?;
        Ok(Memory { status, partitions })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("partitions");
        assert_eq!(Memory::read(&path).unwrap(), None);
        let past = Past { restarts: 2, ended: true };
        let known = Known { id: Some(PartitionId::new(7)), past: Past::default() };
        let memory = Memory {
            status: 3,
            partitions: vec![("a".into(), Known { id: None, past }), ("b".into(), known)],
        };
        memory.write(&path).unwrap();
        assert_eq!(Memory::read(&path).unwrap(), Some(memory.clone()));
        assert_eq!(memory.to_string(), "status 3\na - 2 ended\nb 7 0 runs\n");
        assert_eq!(memory.partition("b"), Some(known));
        for wrong in [
            "",
            "status x",
            "status 0\na",
            "status 0\na b 0 runs",
            "status 0\na 1 0 walks",
            "status 0\na 1 0 runs x",
        ] {
            assert!(wrong.parse::<Memory>().is_err(), "{wrong:?}");
        }
    }
}
