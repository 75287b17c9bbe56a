//! `/dev/handover`: who we are, and which services there are.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use handover_abi::{PartitionId, ServiceId};
use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
};

use crate::uapi;

/// The driver, opened.
#[derive(Debug)]
pub struct Handover {
    fd: OwnedFd,
}

/// What the driver knows of the control OS and of this partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Info {
    /// Version of the hypercall interface: major and minor.
    pub version: (u16, u16),
    /// What the control OS can do, as bits.
    pub features: u64,
    /// This partition's id.
    pub partition: PartitionId,
    /// It is system-control.
    pub privileged: bool,
    /// Where regions are mapped: a physical address, 0 without `CAP_SYS_RAWIO`.
    pub window_base: u64,
    /// Bytes of the window.
    pub window_size: u64,
}

/// What this partition is charged for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Account {
    /// Memory, regions included; bytes.
    Memory = 2,
    /// Memory that the control OS spends on this partition; bytes.
    ControlMemory = 3,
    /// Ports.
    Ports = 4,
}

/// Use of an account, and its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charge {
    /// Used now.
    pub used: u64,
    /// At most.
    pub limit: u64,
}

/// Which side of a service this partition is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It may connect.
    Client,
    /// It provides the service.
    Server,
}

/// A service that this partition was told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Who provides it.
    pub partition: PartitionId,
    /// Its number.
    pub service: ServiceId,
    /// Whether we use or provide it.
    pub role: Role,
}

impl Handover {
    /// The device's path.
    pub const PATH: &str = "/dev/handover";

    /// Opens the device. Not found: the driver is not loaded, or this machine does not run under Handover.
    pub fn open() -> io::Result<Handover> {
        let fd = rustix::fs::open(Handover::PATH, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Handover { fd })
    }

    /// What the driver knows.
    pub fn info(&self) -> io::Result<Info> {
        let info: uapi::Info = uapi::ask::<{ uapi::INFO }, _>(self)?;
        Ok(Info {
            version: ((info.version >> 16) as u16, info.version as u16),
            features: info.features,
            partition: PartitionId::new(info.partition),
            privileged: info.privileged != 0,
            window_base: info.window_base,
            window_size: info.window_size,
        })
    }

    /// Every service this partition was told of, to use or to provide.
    pub fn services(&self) -> io::Result<Vec<Service>> {
        let mut services = Vec::new();
        loop {
            let mut service = uapi::Service {
                index: u32::try_from(services.len()).map_err(io::Error::other)?,
                role: 0,
                partition: 0,
                service: 0,
                name: [0; uapi::NAME_SIZE],
            };
            match uapi::exchange::<{ uapi::SERVICE }, _>(self, &mut service) {
                Ok(()) => services.push(Service::from(&service)),
                Err(Errno::NOENT) => return Ok(services),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// What an account stands at.
    pub fn account(&self, account: Account) -> io::Result<Charge> {
        let mut raw = uapi::Account { account: account as u32, reserved: 0, used: 0, limit: 0 };
        uapi::exchange::<{ uapi::ACCOUNT }, _>(self, &mut raw)?;
        Ok(Charge { used: raw.used, limit: raw.limit })
    }

    /// The service of that name that this partition may connect to.
    pub fn service(&self, name: &str) -> io::Result<Service> {
        self.find(name, Role::Client, "use")
    }

    /// The service of that name that this partition provides.
    pub fn provided(&self, name: &str) -> io::Result<Service> {
        self.find(name, Role::Server, "provide")
    }

    /// Ends the partition with a status, at once: nothing is synced or unmounted. Returns only the reason why it could not. It needs
    /// `CAP_SYS_BOOT`.
    #[must_use]
    pub fn exit(&self, status: u64) -> io::Error {
        match uapi::give::<{ uapi::EXIT }, _>(self, status) {
            Ok(()) => io::Error::other("the partition goes on after its end"),
            Err(error) => error.into(),
        }
    }

    fn find(&self, name: &str, role: Role, verb: &str) -> io::Result<Service> {
        let services: Vec<_> = self.services()?.into_iter().filter(|service| service.role == role).collect();
        services.iter().find(|service| service.name == name).cloned().ok_or_else(|| {
            let names: Vec<_> = services.iter().map(|service| service.name.as_str()).collect();
            let known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            io::Error::new(
                io::ErrorKind::NotFound,
                format!("no service `{name}` for this partition to {verb}; the manifest names: {known}"),
            )
        })
    }
}

impl AsFd for Handover {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<&uapi::Service> for Service {
    fn from(service: &uapi::Service) -> Service {
        let length = service.name.iter().position(|&byte| byte == 0).unwrap_or(service.name.len());
        Service {
            name: String::from_utf8_lossy(&service.name[..length]).into_owned(),
            partition: PartitionId::new(service.partition),
            service: ServiceId::new(service.service),
            role: if service.role == uapi::ROLE_SERVER { Role::Server } else { Role::Client },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_ends_at_its_zero_or_at_the_end_of_the_field() {
        let mut raw =
            uapi::Service { index: 0, role: 2, partition: 3, service: 4, name: [b'x'; uapi::NAME_SIZE] };
        assert_eq!(Service::from(&raw).name, "x".repeat(32));
        raw.name[4] = 0;
        let service = Service::from(&raw);
        assert_eq!(service.name, "xxxx");
        assert_eq!(
            (service.partition, service.service, service.role),
            (PartitionId::new(3), ServiceId::new(4), Role::Server)
        );
    }
}
