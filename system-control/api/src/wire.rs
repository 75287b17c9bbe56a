//! Message sockets, as the kernel has them: numbers, addresses, records. `handover-files` says the same; a test holds the two together.

use std::{
    io, mem,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

use handover_abi::{PartitionId, SHORT_MAX, ServiceId};

/// The domain.
pub(crate) const AF_HANDOVER: u16 = 63;
pub(crate) const SOL_HANDOVER: i32 = 1063;
/// Option: messages come and go as mappings.
pub(crate) const HANDOVER_MAP: i32 = 1;
/// Option to read: the reason of a refusal.
pub(crate) const HANDOVER_REFUSAL: i32 = 2;
/// Bytes before the short message in a record of the mapping kind: address and size.
pub(crate) const MAPPED_HEADER: usize = 16;
/// A buffer of so many bytes takes any record.
pub(crate) const RECORD_MAX: usize = 256;
/// The directory of message files.
pub(crate) const MESSAGES: &str = "/msg";

/// `struct sockaddr` of the domain.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Address {
    family: u16,
    zero: u16,
    pub(crate) partition: u32,
    pub(crate) service: u32,
}

impl Address {
    pub(crate) fn new(partition: PartitionId, service: ServiceId) -> Address {
        Address { family: AF_HANDOVER, zero: 0, partition: partition.get(), service: service.get() }
    }
}

const ADDRESS: libc::socklen_t = size_of::<Address>() as libc::socklen_t;

pub(crate) fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// A new socket of the domain.
pub(crate) fn socket() -> io::Result<OwnedFd> {
    // SAFETY: makes a descriptor and touches no memory.
    let socket =
        check(unsafe { libc::socket(AF_HANDOVER.into(), libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: just made, and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(socket) })
}

pub(crate) fn connect(socket: &OwnedFd, address: Address) -> io::Result<()> {
    // SAFETY: the address lives as long as the call and has that size.
    check(unsafe { libc::connect(socket.as_raw_fd(), (&raw const address).cast(), ADDRESS) }).map(drop)
}

pub(crate) fn bind(socket: &OwnedFd, address: Address) -> io::Result<()> {
    // SAFETY: as for `connect`.
    check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), ADDRESS) }).map(drop)
}

pub(crate) fn listen(socket: &OwnedFd, backlog: i32) -> io::Result<()> {
    // SAFETY: touches no memory.
    check(unsafe { libc::listen(socket.as_raw_fd(), backlog) }).map(drop)
}

/// The next connection, and whose it is.
pub(crate) fn accept(socket: &OwnedFd) -> io::Result<(OwnedFd, Address)> {
    // SAFETY: all zeroes are an address.
    let (mut address, mut size): (Address, _) = (unsafe { mem::zeroed() }, ADDRESS);
    // SAFETY: both live as long as the call, and `size` is that of the address.
    let accepted = check(unsafe {
        libc::accept4(socket.as_raw_fd(), (&raw mut address).cast(), &raw mut size, libc::SOCK_CLOEXEC)
    })?;
    // SAFETY: just made, and nobody else's.
    Ok((unsafe { OwnedFd::from_raw_fd(accepted) }, address))
}

pub(crate) fn set_option(socket: &OwnedFd, option: i32, value: i32) -> io::Result<()> {
    let size = size_of::<i32>() as libc::socklen_t;
    let value = (&raw const value).cast();
    // SAFETY: the value lives as long as the call and has that size.
    check(unsafe { libc::setsockopt(socket.as_raw_fd(), SOL_HANDOVER, option, value, size) }).map(drop)
}

pub(crate) fn option(socket: &OwnedFd, option: i32) -> io::Result<i32> {
    let (mut value, mut size) = (0i32, size_of::<i32>() as libc::socklen_t);
    // SAFETY: both live as long as the call, and `size` is the value's.
    check(unsafe {
        libc::getsockopt(socket.as_raw_fd(), SOL_HANDOVER, option, (&raw mut value).cast(), &raw mut size)
    })?;
    Ok(value)
}

const _: () = assert!(MAPPED_HEADER + SHORT_MAX <= RECORD_MAX);

#[cfg(test)]
mod tests {
    use super::*;
    use handover_files::interface as files;

    #[test]
    fn the_kernel_says_the_same() {
        assert_eq!(AF_HANDOVER, files::AF_HANDOVER);
        assert_eq!((SOL_HANDOVER as u32, HANDOVER_MAP as u32), (files::SOL_HANDOVER, files::HANDOVER_MAP));
        assert_eq!(HANDOVER_REFUSAL as u32, files::HANDOVER_REFUSAL);
        assert_eq!(
            (MAPPED_HEADER, RECORD_MAX, MESSAGES),
            (files::MAPPED_HEADER, files::RECORD_MAX, files::MESSAGES)
        );
        let (partition, service) = (PartitionId::new(0x0102_0304), ServiceId::new(0x1122_3344));
        let address = Address::new(partition, service);
        // SAFETY: three numbers without padding between them.
        let bytes: [u8; size_of::<Address>()] = unsafe { mem::transmute(address) };
        assert_eq!(bytes, files::Address { partition, service }.to_bytes());
    }
}
