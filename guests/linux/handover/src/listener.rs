//! Listeners.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd},
    sync::{Arc, Weak},
};

use handover_abi::{PartitionId, RequestFlags, ServiceId};
use rustix::io::retry_on_intr;

use crate::{Channel, Handover, Port, Service, ports::End, uapi};

/// Takes requests to one service of this partition: for channels, for those whose messages go one way, for shared memory, or for event ports. Dropping it refuses those that wait, and those
/// that were taken and have no answer. Its descriptor can be polled.
#[derive(Debug)]
pub struct Listener {
    end: Arc<End>,
    kind: u32,
}

/// Somebody asks for a channel. Dropping it refuses with reason 0.
#[derive(Debug)]
#[must_use = "who asked waits for the answer"]
pub struct Request {
    listener: Weak<End>,
    /// 0: it is answered.
    id: u32,
    /// Who asks.
    pub partition: PartitionId,
    /// What for.
    pub service: ServiceId,
    /// What kind of connection.
    pub flags: RequestFlags,
    /// Bytes of shared memory; 0: another kind of connection.
    pub memory: usize,
}

impl Listener {
    /// Starts to listen for requests for channels that go both ways. [`io::ErrorKind::AddrInUse`]: somebody does already.
    pub fn new(handover: &Handover, service: &Service) -> io::Result<Listener> {
        Listener::listen(handover, service.service, 0)
    }

    /// The same by number.
    pub fn for_service(handover: &Handover, service: ServiceId) -> io::Result<Listener> {
        Listener::listen(handover, service, 0)
    }

    /// For requests for shared memory: [`Shared::from_channel`](crate::Shared::from_channel) makes it of what is accepted.
    pub fn for_shared(handover: &Handover, service: &Service) -> io::Result<Listener> {
        Listener::listen(handover, service.service, uapi::LISTEN_SHARED)
    }

    /// For requests for channels whose messages go one way: with [`RequestFlags::SEND_ONLY`] what is accepted receives, with
    /// [`RequestFlags::RECEIVE_ONLY`] it sends. The other fails with [`io::ErrorKind::PermissionDenied`].
    pub fn for_one_way(handover: &Handover, service: &Service) -> io::Result<Listener> {
        Listener::listen(handover, service.service, uapi::LISTEN_ONE_WAY)
    }

    /// For requests for event ports: with [`RequestFlags::SEND_ONLY`] what is accepted is an [`EventReceiver`](crate::EventReceiver), with
    /// [`RequestFlags::RECEIVE_ONLY`] an [`EventSender`](crate::EventSender).
    pub fn for_events(handover: &Handover, service: &Service) -> io::Result<Listener> {
        Listener::listen(handover, service.service, uapi::EVENTS)
    }

    fn listen(handover: &Handover, service: ServiceId, kind: u32) -> io::Result<Listener> {
        let mut listen = uapi::Listen { service: service.get(), flags: kind, fd: -1, reserved: 0 };
        uapi::exchange::<{ uapi::LISTEN }, _>(handover, &mut listen)?;
        // SAFETY: the driver has just opened this descriptor for us.
        Ok(Listener { end: End::listening(unsafe { OwnedFd::from_raw_fd(listen.fd) }), kind })
    }

    /// The port, by which a [`PortSet`](crate::PortSet) names it.
    #[must_use]
    pub fn port(&self) -> Port {
        self.end.port()
    }

    /// Takes the next request, if there is one.
    pub fn request(&self) -> io::Result<Option<Request>> {
        match self.request_flagged(uapi::NONBLOCK) {
            Ok(request) => Ok(Some(request)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Takes the next request, waiting for it.
    pub fn request_wait(&self) -> io::Result<Request> {
        self.request_flagged(0)
    }

    fn request_flagged(&self, flags: u32) -> io::Result<Request> {
        let mut raw = uapi::Request { flags, request: 0, partition: 0, service: 0 };
        retry_on_intr(|| uapi::exchange::<{ uapi::REQUEST }, _>(self, &mut raw))?;
        let (flags, memory) = asked(self.kind, raw.flags);
        Ok(Request {
            listener: Arc::downgrade(&self.end),
            id: raw.request,
            partition: PartitionId::new(raw.partition),
            service: ServiceId::new(raw.service),
            flags,
            memory,
        })
    }
}

/// What the driver's word means, of a request that a listener of this kind has taken.
fn asked(kind: u32, word: u32) -> (RequestFlags, usize) {
    match kind {
        uapi::LISTEN_SHARED => (RequestFlags::MEMORY, 1 << (word & 63)),
        uapi::EVENTS => (RequestFlags::EVENTS | direction(word), 0),
        uapi::LISTEN_ONE_WAY => (direction(word), 0),
        _ => (RequestFlags::empty(), 0),
    }
}

/// Of what goes one way: which.
fn direction(word: u32) -> RequestFlags {
    if word & uapi::SEND_ONLY != 0 { RequestFlags::SEND_ONLY } else { RequestFlags::RECEIVE_ONLY }
}

impl Request {
    /// Accepts: this end of the channel, or of whatever else is asked for. [`io::ErrorKind::ConnectionAborted`]: who asked has gone, or the listener. After any
    /// other error the request is refused.
    pub fn accept(mut self) -> io::Result<Channel> {
        let listener = self.listener.upgrade().ok_or(io::ErrorKind::ConnectionAborted)?;
        let mut raw = uapi::Accept { request: self.id, flags: 0, fd: -1, partition: 0 };
        retry_on_intr(|| uapi::exchange::<{ uapi::ACCEPT }, _>(&*listener, &mut raw))?;
        self.id = 0;
        // SAFETY: the driver has just opened this descriptor for us.
        Ok(Channel::from_fd(unsafe { OwnedFd::from_raw_fd(raw.fd) }))
    }

    /// Refuses, for a reason that the other side can read.
    pub fn refuse(mut self, reason: u32) -> io::Result<()> {
        Ok(self.answer_no(reason)?)
    }

    fn answer_no(&mut self, reason: u32) -> rustix::io::Result<()> {
        let request = std::mem::take(&mut self.id);
        match self.listener.upgrade() {
            Some(listener) if request != 0 => {
                uapi::give::<{ uapi::REFUSE }, _>(&*listener, uapi::Refuse { request, reason })
            }
            // It is answered; a listener that goes refuses.
            _ => Ok(()),
        }
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        // Fails only if the asker has gone.
        let _gone: rustix::io::Result<()> = self.answer_no(0);
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.end.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_depends_on_who_listens() {
        assert_eq!(asked(uapi::LISTEN_SHARED, 12), (RequestFlags::MEMORY, 4096));
        assert_eq!(asked(0, 0), (RequestFlags::empty(), 0));
        let (sends, receives) = (RequestFlags::SEND_ONLY, RequestFlags::RECEIVE_ONLY);
        assert_eq!(asked(uapi::EVENTS, uapi::SEND_ONLY), (RequestFlags::EVENTS | sends, 0));
        assert_eq!(asked(uapi::EVENTS, uapi::RECEIVE_ONLY), (RequestFlags::EVENTS | receives, 0));
        assert_eq!(asked(uapi::LISTEN_ONE_WAY, uapi::SEND_ONLY), (sends, 0));
        assert_eq!(asked(uapi::LISTEN_ONE_WAY, uapi::RECEIVE_ONLY), (receives, 0));
    }
}
