//! Who provides which service now.

use std::{
    fmt, fs,
    io::{self, ErrorKind},
    path::Path,
    str::FromStr,
};

use handover_abi::{PartitionId, ServiceId};

/// Where init keeps the list: a line for each service, with its name, its number and its provider's partition.
pub const SERVICES: &str = "/run/services";

/// A service that somebody provides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its name in the manifest.
    pub name: String,
    /// Its number.
    pub id: ServiceId,
    /// Who provides it; 0 where nobody does now.
    pub partition: PartitionId,
}

/// All services of the manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Services(pub Vec<Service>);

impl Service {
    /// The service of that name, as init lists it at this moment. A provider that is started anew has another id: look again after
    /// a channel was closed.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`]: no such service in the manifest, or nobody provides it now. Those of reading [`SERVICES`].
    pub fn find(name: &str) -> io::Result<Service> {
        Services::read(Path::new(SERVICES))?.find(name)
    }
}

impl Services {
    /// Reads a list.
    ///
    /// # Errors
    ///
    /// Those of reading a file; [`ErrorKind::InvalidData`] for a line that is no service.
    pub fn read(path: &Path) -> io::Result<Services> {
        fs::read_to_string(path)?.parse()
    }

    /// Writes the list, so that whoever reads it sees the former or the new one.
    ///
    /// # Errors
    ///
    /// Those of writing and renaming a file.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let new = path.with_extension("new");
        fs::write(&new, self.to_string())?;
        fs::rename(&new, path)
    }

    /// The service of that name that somebody provides.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`].
    pub fn find(&self, name: &str) -> io::Result<Service> {
        let found = self.0.iter().find(|service| service.name == name);
        let provided = found.filter(|service| service.partition.get() != 0).cloned();
        provided.ok_or_else(|| {
            let what = match found {
                Some(_) => format!("nobody provides the service `{name}` now"),
                None => format!("the manifest has no service `{name}`"),
            };
            io::Error::new(ErrorKind::NotFound, what)
        })
    }
}

impl fmt::Display for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|Service { name, id, partition }| writeln!(f, "{name} {id} {partition}"))
    }
}

impl FromStr for Services {
    type Err = io::Error;

    fn from_str(text: &str) -> io::Result<Services> {
        let service = |line: &str| {
            let mut words = line.split_ascii_whitespace();
            let name = words.next()?.to_owned();
            let id = ServiceId::new(words.next()?.parse().ok()?);
            let partition = PartitionId::new(words.next()?.parse().ok()?);
            words.next().is_none().then_some(Service { name, id, partition })
        };
        let wrong = |line: &str| io::Error::new(ErrorKind::InvalidData, format!("`{line}` is no service"));
        text.lines()
            .map(|line| service(line).ok_or_else(|| wrong(line)))
            .collect::<io::Result<_>>()
            .map(Services)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        let text = "echo 1 4\nlog 2 0\n";
        let services: Services = text.parse().unwrap();
        assert_eq!(services.to_string(), text);
        let echo = services.find("echo").unwrap();
        assert_eq!((echo.id.get(), echo.partition.get()), (1, 4));
        assert!(services.find("log").unwrap_err().to_string().contains("nobody provides"));
        assert!(services.find("lo").unwrap_err().to_string().contains("the manifest has no service `lo`"));
        for wrong in ["echo", "echo 1", "echo 1 x", "echo 1 2 3", "\n"] {
            assert!(wrong.parse::<Services>().is_err(), "{wrong:?}");
        }
    }
}
