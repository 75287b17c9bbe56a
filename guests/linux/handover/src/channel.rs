//! Channels.

use std::{
    fmt, io,
    os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::{Errno, retry_on_intr},
};

use crate::{Handover, Message, Region, SHORT_MAX, Service, Short, uapi};

/// Time between two attempts of [`Channel::connect_within`].
const CONNECT_INTERVAL: Duration = Duration::from_millis(20);

/// One end of a two-way channel to another partition. Dropping it disconnects.
///
/// Several threads may send and receive on it. Its descriptor can be polled.
#[derive(Debug)]
pub struct Channel {
    fd: OwnedFd,
}

/// What holds for a channel now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// The peer's partition id.
    pub partition: u32,
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
    /// Asks a service for a channel, and waits for the answer.
    pub fn connect(handover: &Handover, service: &Service) -> Result<Channel, ConnectError> {
        Channel::connect_to(handover, service.partition, service.id)
    }

    /// The same, and asks again for up to `patience` while nobody listens for the service or its partition has not started: client and
    /// server may start in any order.
    pub fn connect_within(
        handover: &Handover,
        service: &Service,
        patience: Duration,
    ) -> Result<Channel, ConnectError> {
        let start = Instant::now();
        loop {
            match Channel::connect(handover, service) {
                Err(error) if error.is_early() && start.elapsed() < patience => {
                    thread::sleep(CONNECT_INTERVAL.min(patience.saturating_sub(start.elapsed())));
                }
                answer => return answer,
            }
        }
    }

    /// The same by numbers.
    pub fn connect_to(handover: &Handover, partition: u32, service: u32) -> Result<Channel, ConnectError> {
        let mut connect = uapi::Connect { partition, service, flags: 0, fd: -1, reason: 0, reserved: 0 };
        match retry_on_intr(|| uapi::exchange::<{ uapi::CONNECT }, _>(handover, &mut connect)) {
            // SAFETY: the driver has just opened this descriptor for us.
            Ok(()) => Ok(Channel { fd: unsafe { OwnedFd::from_raw_fd(connect.fd) } }),
            Err(Errno::CONNREFUSED) => Err(ConnectError::Refused { reason: connect.reason }),
            Err(error) => Err(ConnectError::Failed(error.into())),
        }
    }

    pub(crate) fn from_fd(fd: OwnedFd) -> Channel {
        Channel { fd }
    }

    /// Sends a message, and waits for room in the peer's queue. A region that goes with it is the peer's then; after an error the
    /// message is in the [`SendError`], region and all.
    pub fn send(&self, message: impl Into<Message>) -> Result<(), SendError> {
        self.send_flagged(message.into(), 0)
    }

    /// The same without waiting: [`io::ErrorKind::WouldBlock`] if there is no room.
    pub fn try_send(&self, message: impl Into<Message>) -> Result<(), SendError> {
        self.send_flagged(message.into(), uapi::NONBLOCK)
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
            Err(error) => Err(SendError { error: error.into(), message: Box::new(message) }),
        }
    }

    /// Waits for the next message and takes it. [`io::ErrorKind::UnexpectedEof`]: the peer has gone, and nothing is left.
    pub fn receive(&self) -> io::Result<Message> {
        self.receive_flagged(0)
    }

    /// Takes the next message; [`io::ErrorKind::WouldBlock`] if there is none.
    pub fn try_receive(&self) -> io::Result<Message> {
        self.receive_flagged(uapi::NONBLOCK)
    }

    /// Waits for the next message, but not longer: [`io::ErrorKind::TimedOut`].
    pub fn receive_timeout(&self, timeout: Duration) -> io::Result<Message> {
        let deadline = Instant::now().checked_add(timeout);
        loop {
            match self.try_receive() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => return other,
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
        status(&self.fd)
    }

    /// Destroys this end; the peer learns it. What it sent and we did not receive is lost.
    pub fn disconnect(self) {}
}

/// What holds for a port now.
pub(crate) fn status(fd: &OwnedFd) -> io::Result<Status> {
    let status: uapi::Status = uapi::ask::<{ uapi::STATUS }, _>(fd)?;
    let holds = |bit: u32| status.state & bit != 0;
    Ok(Status {
        partition: status.partition,
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
        self.fd.as_fd()
    }
}

/// Why there is no channel.
#[derive(Debug)]
pub enum ConnectError {
    /// The server refused.
    Refused {
        /// Its reason, or one of `REASON_*` in [`uapi`].
        reason: u32,
    },
    /// The request could not be made.
    Failed(io::Error),
}

impl ConnectError {
    /// Whether the same request can succeed a little later: nobody listens yet, or the partition has not started (`ENOTCONN`).
    pub fn is_early(&self) -> bool {
        match self {
            ConnectError::Refused { reason } => *reason == uapi::REASON_NO_LISTENER,
            ConnectError::Failed(error) => error.kind() == io::ErrorKind::NotConnected,
        }
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConnectError::Refused { reason: uapi::REASON_NO_LISTENER } => {
                f.write_str("refused: nobody listens for the service")
            }
            ConnectError::Refused { reason: uapi::REASON_BACKLOG } => {
                f.write_str("refused: too many requests wait already")
            }
            ConnectError::Refused { reason: uapi::REASON_CLOSED } => {
                f.write_str("refused: the listener was closed")
            }
            ConnectError::Refused { reason } => write!(f, "refused, with reason {reason}"),
            ConnectError::Failed(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ConnectError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ConnectError::Refused { .. } => None,
            ConnectError::Failed(error) => Some(error),
        }
    }
}

impl From<ConnectError> for io::Error {
    fn from(error: ConnectError) -> io::Error {
        match error {
            ConnectError::Failed(error) => error,
            refused => io::Error::new(io::ErrorKind::ConnectionRefused, refused),
        }
    }
}

/// A message that could not be sent: it is still the caller's.
#[derive(Debug)]
pub struct SendError {
    /// Why.
    pub error: io::Error,
    /// The message.
    pub message: Box<Message>,
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
    /// The message is dropped.
    fn from(failed: SendError) -> io::Error {
        failed.error
    }
}
