//! Channels.

use std::{
    fmt, io,
    os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd},
    sync::Arc,
    time::{Duration, Instant},
};

use handover_abi::PartitionId;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::{Errno, retry_on_intr},
};

use crate::{Message, Port, Region, SHORT_MAX, Short, ports::End, uapi};

/// One end of a two-way channel to another partition. Dropping it disconnects.
///
/// Several threads may send and receive on it. Its descriptor can be polled.
#[derive(Debug)]
pub struct Channel {
    end: Arc<End>,
}

/// What holds for a channel now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// The peer's partition id.
    pub partition: PartitionId,
    /// The request was accepted.
    pub connected: bool,
    /// A message can be received.
    pub message: bool,
    /// The peer has gone.
    pub peer_closed: bool,
    /// A message can be sent.
    pub space: bool,
    /// The peer has signalled.
    pub signal: bool,
    /// The server's reason, if the request was refused.
    pub refused: Option<u32>,
}

impl Channel {
    pub(crate) fn from_fd(fd: OwnedFd) -> Channel {
        Channel { end: End::new(fd) }
    }

    pub(crate) fn end(&self) -> &Arc<End> {
        &self.end
    }

    /// The port, by which events name this end.
    #[must_use]
    pub fn port(&self) -> Port {
        self.end.port()
    }

    /// Sends a message: a [`Region`], a [`Short`] (`b"bytes"` makes one), or both as a pair. [`io::ErrorKind::WouldBlock`] when the peer has to receive
    /// first, [`io::ErrorKind::BrokenPipe`] when it has gone. A region that goes along is the peer's then; after an error it is in the [`SendError`].
    pub fn send(&self, message: impl Into<Message>) -> Result<(), SendError> {
        self.send_flagged(message.into(), uapi::NONBLOCK)
    }

    /// Sends a message, waiting while the peer's queue is full.
    pub fn send_wait(&self, message: impl Into<Message>) -> Result<(), SendError> {
        self.send_flagged(message.into(), 0)
    }

    /// Whether [`send`](Channel::send) would find something else than a full queue.
    pub fn has_room(&self) -> io::Result<bool> {
        let status = self.status()?;
        if status.connected || status.peer_closed {
            Ok(status.space || status.peer_closed)
        } else {
            Err(io::ErrorKind::NotConnected.into())
        }
    }

    fn send_flagged(&self, message: Message, flags: u32) -> Result<(), SendError> {
        let raw = uapi::Message {
            region_fd: message.region.as_ref().map_or(-1, Region::raw_fd),
            length: message.short.len() as u32,
            region_size: 0,
            flags,
            reserved: 0,
            data: message.short.padded(),
        };
        match retry_on_intr(|| uapi::give::<{ uapi::SEND }, _>(self, raw)) {
            Ok(()) => Ok(()),
            Err(error) => Err(SendError { error: error.into(), region: message.region }),
        }
    }

    /// Takes the next message, if there is one. [`io::ErrorKind::UnexpectedEof`]: the peer has gone, and nothing is left.
    pub fn receive(&self) -> io::Result<Option<Message>> {
        match self.receive_flagged(uapi::NONBLOCK) {
            Ok(message) => Ok(Some(message)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Takes the next message, waiting for it. Errors as for [`receive`](Channel::receive).
    pub fn receive_wait(&self) -> io::Result<Message> {
        self.receive_flagged(0)
    }

    /// Waits for the next message, but not longer: [`io::ErrorKind::TimedOut`].
    pub fn receive_timeout(&self, timeout: Duration) -> io::Result<Message> {
        let deadline = Instant::now().checked_add(timeout);
        loop {
            if let Some(message) = self.receive()? {
                return Ok(message);
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let left = left.and_then(|left| Timespec::try_from(left).ok());
            match poll(&mut [PollFd::new(self, PollFlags::IN)], left.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn receive_flagged(&self, flags: u32) -> io::Result<Message> {
        let mut raw = uapi::Message {
            region_fd: -1,
            length: 0,
            region_size: 0,
            flags,
            reserved: 0,
            data: [0; SHORT_MAX],
        };
        match retry_on_intr(|| uapi::exchange::<{ uapi::RECEIVE }, _>(self, &mut raw)) {
            Ok(()) => {}
            Err(Errno::NODATA) => {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the peer has closed the channel"));
            }
            Err(error) => return Err(error.into()),
        }
        let region = match raw.region_fd {
            -1 => None,
            // SAFETY: the driver has just opened this descriptor for us.
            fd => Some(unsafe { Region::from_fd(OwnedFd::from_raw_fd(fd)) }?),
        };
        Ok(Message { region, short: Short::from_driver(raw.length, raw.data) })
    }

    /// Signals the peer. Signals do not add up.
    pub fn signal(&self) -> io::Result<()> {
        Ok(uapi::tell::<{ uapi::SIGNAL }>(self)?)
    }

    /// Takes the peer's signal, if there is one.
    pub fn take_signal(&self) -> io::Result<bool> {
        match uapi::tell::<{ uapi::SIGNAL_TAKE }>(self) {
            Ok(()) => Ok(true),
            Err(Errno::AGAIN) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// What holds now.
    pub fn status(&self) -> io::Result<Status> {
        status(&*self.end)
    }

    /// Destroys this end; the peer learns it. What it sent and we did not receive is lost.
    pub fn disconnect(self) {}
}

/// What holds for a port now.
pub(crate) fn status(fd: impl AsFd) -> io::Result<Status> {
    let status: uapi::Status = uapi::ask::<{ uapi::STATUS }, _>(fd)?;
    let holds = |bit: u32| status.state & bit != 0;
    Ok(Status {
        partition: PartitionId::new(status.partition),
        connected: holds(0x01),
        message: holds(0x02),
        peer_closed: holds(0x04),
        refused: holds(0x08).then_some(status.reason),
        space: holds(0x10),
        signal: holds(0x20),
    })
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.end.as_fd()
    }
}

/// A message that was not sent.
#[derive(Debug)]
pub struct SendError {
    /// Why.
    pub error: io::Error,
    /// The message's region, if it had one.
    pub region: Option<Region>,
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for SendError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

impl From<SendError> for io::Error {
    /// The region is dropped.
    fn from(failed: SendError) -> io::Error {
        failed.error
    }
}
