//! Listeners.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd},
};

use rustix::io::retry_on_intr;

use crate::{Channel, Handover, Service, uapi};

/// Takes requests for channels to one service of this partition. Dropping it refuses those that wait. Its descriptor can be polled.
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
}

impl Listener {
    /// Starts to listen. [`io::ErrorKind::AddrInUse`]: somebody does already.
    pub fn listen(handover: &Handover, service: &Service) -> io::Result<Listener> {
        Listener::listen_for(handover, service.id)
    }

    /// The same by number.
    pub fn listen_for(handover: &Handover, service: u32) -> io::Result<Listener> {
        let mut listen = uapi::Listen { service, flags: 0, fd: -1, reserved: 0 };
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
        Ok(Request { id: raw.request, partition: raw.partition, service: raw.service })
    }

    /// Says yes. [`io::ErrorKind::ConnectionAborted`]: who asked has gone. After any other error the request is refused when the
    /// listener is dropped.
    pub fn accept(&self, request: Request) -> io::Result<Channel> {
        let mut raw = uapi::Accept { request: request.id, flags: 0, fd: -1, partition: 0 };
        retry_on_intr(|| uapi::exchange::<{ uapi::ACCEPT }, _>(self, &mut raw))?;
        // SAFETY: the driver has just opened this descriptor for us.
        Ok(Channel::from_fd(unsafe { OwnedFd::from_raw_fd(raw.fd) }))
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
