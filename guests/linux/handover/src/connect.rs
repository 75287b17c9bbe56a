//! How a client comes to a channel.

use std::{
    fmt, io,
    os::fd::{AsFd, FromRawFd, OwnedFd},
    thread,
    time::{Duration, Instant},
};

use handover_abi::{PartitionId, RequestFlags, RequestWord, ServiceId};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{OFlags, fcntl_getfl, fcntl_setfl},
    io::{Errno, retry_on_intr},
};

use crate::{Channel, Handover, Port, Service, uapi};

/// Time between two attempts of [`Channel::connect_within`].
const CONNECT_INTERVAL: Duration = Duration::from_millis(20);

/// A channel that was asked for and not yet answered. Dropping it takes the request back.
#[derive(Debug)]
pub struct Connecting {
    channel: Channel,
    deadline: Option<Instant>,
}

/// What the driver calls it.
fn flags(word: RequestWord) -> io::Result<u32> {
    let known = [
        (RequestFlags::SEND_ONLY, uapi::SEND_ONLY),
        (RequestFlags::RECEIVE_ONLY, uapi::RECEIVE_ONLY),
        (RequestFlags::EVENTS, uapi::EVENTS),
    ];
    let all = known.iter().fold(RequestFlags::empty(), |all, (flag, _)| all | *flag);
    if !all.contains(word.flags) || word.order != 0 {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not what a channel can be asked for by"));
    }
    Ok(known.iter().filter(|(flag, _)| word.flags.contains(*flag)).map(|(_, flag)| flag).sum())
}

impl Connecting {
    /// Asks a partition for what the word says, but for shared memory ([`Shared::connect`](crate::Shared::connect)); the request is withdrawn when nobody
    /// has answered within `timeout`.
    pub fn request(
        handover: &Handover,
        partition: PartitionId,
        word: RequestWord,
        timeout: Option<Duration>,
    ) -> io::Result<Connecting> {
        let mut connect = uapi::Connect {
            partition: partition.get(),
            service: word.service.get(),
            flags: flags(word)? | uapi::NONBLOCK,
            fd: -1,
            reason: 0,
            reserved: 0,
        };
        uapi::exchange::<{ uapi::CONNECT }, _>(handover, &mut connect)?;
        // SAFETY: the driver has just opened this descriptor for us.
        let channel = Channel::from_fd(unsafe { OwnedFd::from_raw_fd(connect.fd) });
        Ok(Connecting { channel, deadline: timeout.and_then(|timeout| Instant::now().checked_add(timeout)) })
    }

    /// The port, whose event tells that there is an answer.
    #[must_use]
    pub fn port(&self) -> Port {
        self.channel.port()
    }

    /// The channel if the other side has accepted, this again if it has not answered. [`io::ErrorKind::TimedOut`]: nor will it be asked any longer.
    pub fn poll(self) -> Result<Result<Channel, Connecting>, ConnectError> {
        let status = self.channel.status().map_err(ConnectError::Failed)?;
        if let Some(reason) = status.refused {
            Err(ConnectError::Refused(reason))
        } else if status.connected || status.peer_closed && (status.message || status.signal) {
            self.accepted().map(Ok).map_err(ConnectError::Failed)
        } else if status.peer_closed {
            Err(ConnectError::Failed(io::ErrorKind::BrokenPipe.into()))
        } else if self.left() == Some(Duration::ZERO) {
            Err(ConnectError::Failed(io::ErrorKind::TimedOut.into()))
        } else {
            Ok(Err(self))
        }
    }

    /// Waits for the answer.
    pub fn wait(mut self) -> Result<Channel, ConnectError> {
        loop {
            match self.poll()? {
                Ok(channel) => return Ok(channel),
                Err(connecting) => self = connecting,
            }
            let left = self.left().and_then(|left| Timespec::try_from(left).ok());
            match poll(&mut [PollFd::new(&self, PollFlags::IN | PollFlags::OUT)], left.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(ConnectError::Failed(error.into())),
            }
        }
    }

    pub(crate) fn left(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// The channel, whose calls wait if they are asked to.
    fn accepted(self) -> io::Result<Channel> {
        fcntl_setfl(&self.channel, fcntl_getfl(&self.channel)? - OFlags::NONBLOCK)?;
        Ok(self.channel)
    }
}

impl AsFd for Connecting {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.channel.as_fd()
    }
}

impl Channel {
    /// Asks for a channel to a service of a partition.
    pub fn request(handover: &Handover, service: &Service) -> io::Result<Connecting> {
        let word = RequestWord::new(service.service, RequestFlags::empty());
        Connecting::request(handover, service.partition, word, None)
    }

    /// Asks a service for a channel, and waits for the answer.
    pub fn connect(handover: &Handover, service: &Service) -> Result<Channel, ConnectError> {
        Channel::connect_to(handover, service.partition, service.service)
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
    pub fn connect_to(
        handover: &Handover,
        partition: PartitionId,
        service: ServiceId,
    ) -> Result<Channel, ConnectError> {
        let mut connect = uapi::Connect {
            partition: partition.get(),
            service: service.get(),
            flags: 0,
            fd: -1,
            reason: 0,
            reserved: 0,
        };
        match retry_on_intr(|| uapi::exchange::<{ uapi::CONNECT }, _>(handover, &mut connect)) {
            // SAFETY: the driver has just opened this descriptor for us.
            Ok(()) => Ok(Channel::from_fd(unsafe { OwnedFd::from_raw_fd(connect.fd) })),
            Err(Errno::CONNREFUSED) => Err(ConnectError::Refused(connect.reason)),
            Err(error) => Err(ConnectError::Failed(error.into())),
        }
    }
}

/// Why there is no channel.
#[derive(Debug)]
pub enum ConnectError {
    /// The other side said no, for a reason of its own, or one of `REASON_*` in [`uapi`].
    Refused(u32),
    /// A call failed: the request could not be made, or came to nothing.
    Failed(io::Error),
}

impl ConnectError {
    /// Whether the same request can succeed a little later: nobody listens yet, or the partition has not started (`ENOTCONN`).
    pub fn is_early(&self) -> bool {
        match self {
            ConnectError::Refused(reason) => *reason == uapi::REASON_NO_LISTENER,
            ConnectError::Failed(error) => error.kind() == io::ErrorKind::NotConnected,
        }
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConnectError::Refused(uapi::REASON_NO_LISTENER) => {
                f.write_str("refused: nobody listens for the service")
            }
            ConnectError::Refused(uapi::REASON_BACKLOG) => {
                f.write_str("refused: too many requests wait already")
            }
            ConnectError::Refused(uapi::REASON_CLOSED) => f.write_str("refused: the listener was closed"),
            ConnectError::Refused(reason) => write!(f, "refused, with reason {reason}"),
            ConnectError::Failed(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ConnectError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ConnectError::Refused(_) => None,
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
