//! Asking for channels.

use core::{fmt, time::Duration};

use handover_abi::{Causes, Error, PartitionId, Port, RequestWord};

use crate::{Channel, events, hvc};

/// Why there is no channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectError {
    /// The other side said no, for a reason of its own.
    Refused(u32),
    /// A call failed.
    Failed(Error),
}

impl From<Error> for ConnectError {
    fn from(error: Error) -> ConnectError {
        ConnectError::Failed(error)
    }
}

impl From<ConnectError> for Error {
    fn from(error: ConnectError) -> Error {
        match error {
            ConnectError::Refused(_) => Error::NotConnected,
            ConnectError::Failed(error) => error,
        }
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConnectError::Refused(reason) => write!(f, "connection refused, reason {reason}"),
            ConnectError::Failed(error) => write!(f, "connection failed: {error}"),
        }
    }
}

impl core::error::Error for ConnectError {}

/// A channel that was asked for and not yet answered. Dropping it takes the request back.
#[derive(Debug)]
pub struct Connecting(pub(super) Channel);

impl Connecting {
    /// Asks a partition for what the word says; the request is withdrawn when nobody has answered within `timeout`.
    ///
    /// # Errors
    ///
    /// Those of the call.
    pub fn request(
        partition: PartitionId,
        word: RequestWord,
        timeout: Option<Duration>,
    ) -> Result<Connecting, Error> {
        Ok(Connecting(Channel::from_port(hvc::request(partition, word, timeout)?)))
    }

    /// The port, whose event tells that there is an answer.
    #[must_use]
    pub fn port(&self) -> Port {
        self.0.port()
    }

    /// The channel if the other side has accepted, this again if it has not answered.
    ///
    /// # Errors
    ///
    /// As for [`Channel::connect`].
    pub fn poll(self) -> Result<Result<Channel, Connecting>, ConnectError> {
        let status = hvc::port_status(self.port())?;
        if status.causes.contains(Causes::REFUSED) {
            Err(ConnectError::Refused(status.reason))
        } else if status.causes.contains(Causes::CONNECTED) {
            Ok(Ok(self.0))
        } else if status.causes.contains(Causes::PEER_CLOSED) {
            Err(ConnectError::Failed(Error::PeerClosed))
        } else if status.causes.contains(Causes::TIMED_OUT) {
            Err(ConnectError::Failed(Error::TimedOut))
        } else {
            Ok(Err(self))
        }
    }

    /// Waits for the answer.
    ///
    /// # Errors
    ///
    /// As for [`Channel::connect`].
    pub fn wait(mut self) -> Result<Channel, ConnectError> {
        loop {
            match self.poll()? {
                Ok(channel) => return Ok(channel),
                Err(connecting) => self = connecting,
            }
            events::wait_for(self.port())?;
        }
    }
}
