//! Listeners.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd},
};

use rustix::io::retry_on_intr;

use crate::{Channel, Handover, Service, Shared, uapi};

/// Takes requests for channels to one service of this partition, or for shared memory. Dropping it refuses those that wait. Its descriptor can be polled.
#[derive(Debug)]
pub struct Listener {
    fd: OwnedFd,
}

/// Somebody asks for a channel. Answer it by [`Listener::accept`] or [`Listener::refuse`].
#[derive(Debug)]
#[must_use = "who asked waits for the answer"]
pub struct Request {
    id: u32,
    /// Who asks.
    pub partition: u32,
    /// For which service.
    pub service: u32,
    /// Bytes of shared memory; 0: for a channel.
    pub memory: usize,
}

impl Listener {
    /// Starts to listen. [`io::ErrorKind::AddrInUse`]: somebody does already.
    pub fn listen(handover: &Handover, service: &Service) -> io::Result<Listener> {
        Listener::listen_for(handover, service.id)
    }

    /// The same by number.
    pub fn listen_for(handover: &Handover, service: u32) -> io::Result<Listener> {
        Listener::listen_flagged(handover, service, 0)
    }

    /// The same for requests for shared memory, to be answered by [`Listener::accept_shared`] or [`Listener::refuse`].
    pub fn listen_shared(handover: &Handover, service: &Service) -> io::Result<Listener> {
        Listener::listen_flagged(handover, service.id, uapi::LISTEN_SHARED)
    }

    fn listen_flagged(handover: &Handover, service: u32, flags: u32) -> io::Result<Listener> {
        let mut listen = uapi::Listen { service, flags, fd: -1, reserved: 0 };
        uapi::exchange::<{ uapi::LISTEN }, _>(handover, &mut listen)?;
        // SAFETY: the driver has just opened this descriptor for us.
        Ok(Listener { fd: unsafe { OwnedFd::from_raw_fd(listen.fd) } })
    }

    /// Waits for the next request.
    pub fn request(&self) -> io::Result<Request> {
        self.request_flagged(0)
    }

    /// The next request; [`io::ErrorKind::WouldBlock`] if there is none.
    pub fn try_request(&self) -> io::Result<Request> {
        self.request_flagged(uapi::NONBLOCK)
    }

    fn request_flagged(&self, flags: u32) -> io::Result<Request> {
        let mut raw = uapi::Request { flags, request: 0, partition: 0, service: 0 };
        retry_on_intr(|| uapi::exchange::<{ uapi::REQUEST }, _>(self, &mut raw))?;
        let memory = if raw.flags == 0 { 0 } else { 1 << (raw.flags & 63) };
        Ok(Request { id: raw.request, partition: raw.partition, service: raw.service, memory })
    }

    /// Says yes. [`io::ErrorKind::ConnectionAborted`]: who asked has gone. After any other error the request is refused when the
    /// listener is dropped.
    pub fn accept(&self, request: Request) -> io::Result<Channel> {
        self.accept_fd(&request).map(Channel::from_fd)
    }

    /// Says yes to a request for shared memory, which this partition is charged for from then on. Errors as for [`Listener::accept`].
    pub fn accept_shared(&self, request: Request) -> io::Result<Shared> {
        self.accept_fd(&request).and_then(Shared::from_fd)
    }

    fn accept_fd(&self, request: &Request) -> io::Result<OwnedFd> {
        let mut raw = uapi::Accept { request: request.id, flags: 0, fd: -1, partition: 0 };
        retry_on_intr(|| uapi::exchange::<{ uapi::ACCEPT }, _>(self, &mut raw))?;
        // SAFETY: the driver has just opened this descriptor for us.
        Ok(unsafe { OwnedFd::from_raw_fd(raw.fd) })
    }

    /// Says no, and why: a number that client and server agree on.
    pub fn refuse(&self, request: Request, reason: u32) -> io::Result<()> {
        Ok(uapi::give::<{ uapi::REFUSE }, _>(self, uapi::Refuse { request: request.id, reason })?)
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
