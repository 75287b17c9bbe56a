//! What one init leaves for the next, should it die: a file, which tells other programs too which partitions there are.

use std::{fmt, fs, io, path::Path, str::FromStr};

use handover_control::Listed;

/// Everything that has to be remembered. As text: `status` and the status, then a line for each partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// The first exit status that was not zero.
    pub status: u64,
    /// Each partition, in the manifest's order.
    pub partitions: Vec<Listed>,
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
    pub fn partition(&self, name: &str) -> Option<&Listed> {
        self.partitions.iter().find(|known| known.name == name)
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "status {}", self.status)?;
        self.partitions.iter().try_for_each(|partition| writeln!(f, "{partition}"))
    }
}

impl FromStr for Memory {
    /// The line that is not what it should be.
    type Err = String;

    fn from_str(text: &str) -> Result<Memory, String> {
        let mut lines = text.lines();
        let first = lines.next().unwrap_or_default();
        let status = first.strip_prefix("status ").and_then(|status| status.parse().ok()).ok_or(first)?;
        Ok(Memory { status, partitions: lines.map(str::parse).collect::<Result<_, _>>()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use handover_control::PartitionId;

    #[test]
    fn reads_what_it_writes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("partitions");
        assert_eq!(Memory::read(&path).unwrap(), None);
        let gone = Listed { name: "a".into(), id: None, restarts: 2, ended: true };
        let known = Listed { name: "b".into(), id: Some(PartitionId::new(7)), restarts: 0, ended: false };
        let memory = Memory { status: 3, partitions: vec![gone, known.clone()] };
        memory.write(&path).unwrap();
        assert_eq!(Memory::read(&path).unwrap(), Some(memory.clone()));
        assert_eq!(memory.to_string(), "status 3\na - 2 ended\nb 7 0 runs\n");
        assert_eq!(memory.partition("b"), Some(&known));
        for wrong in ["", "status x", "status 0\na", "status 0\na 1 0 walks"] {
            assert!(wrong.parse::<Memory>().is_err(), "{wrong:?}");
        }
    }
}
