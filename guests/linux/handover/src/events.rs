//! Event ports: events alone, from one end to the other.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    time::Duration,
};

use handover_abi::{RequestFlags, RequestWord};
use rustix::io::{Errno, retry_on_intr};

use crate::{Channel, ConnectError, Connecting, Handover, Port, Service, uapi};

/// The end of an event port that sends. Dropping it disconnects.
///
/// ```no_run
/// use handover_linux::{EventSender, Handover};
///
/// let handover = Handover::open()?;
/// let bell = EventSender::connect(&handover, &handover.service("bell")?, None)?;
/// bell.send()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct EventSender(Channel);

/// Asks for an event port of which this end does what the flags say.
fn connect(
    handover: &Handover,
    service: &Service,
    flags: RequestFlags,
    timeout: Option<Duration>,
) -> Result<Channel, ConnectError> {
    let word = RequestWord::new(service.service, RequestFlags::EVENTS | flags);
    Connecting::request(handover, service.partition, word, timeout).map_err(ConnectError::Failed)?.wait()
}

impl EventSender {
    /// Asks a service for a port that it gets events by, and waits for the answer: [`io::ErrorKind::TimedOut`] if there is none in time.
    pub fn connect(
        handover: &Handover,
        service: &Service,
        timeout: Option<Duration>,
    ) -> Result<EventSender, ConnectError> {
        connect(handover, service, RequestFlags::SEND_ONLY, timeout).map(EventSender)
    }

    /// This end of what was connected: the other one gets the events.
    #[must_use]
    pub fn from_channel(channel: Channel) -> EventSender {
        EventSender(channel)
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> Port {
        self.0.port()
    }

    /// Sends an event. One that was not taken yet swallows it. [`io::ErrorKind::BrokenPipe`]: the receiver has gone.
    pub fn send(&self) -> io::Result<()> {
        self.0.signal()
    }
}

impl AsFd for EventSender {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The end of an event port that gets events. Dropping it disconnects. Its descriptor is read and polled as an eventfd's.
///
/// ```no_run
/// use handover_linux::{EventReceiver, Handover, Listener};
///
/// let handover = Handover::open()?;
/// let listener = Listener::for_events(&handover, &handover.provided("bell")?)?;
/// let bell = EventReceiver::from_channel(listener.request_wait()?.accept()?);
/// while bell.wait().is_ok() {
///     println!("it rings");
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct EventReceiver(Channel);

impl EventReceiver {
    /// Asks a service for a port that it sends events by, and waits for the answer: [`io::ErrorKind::TimedOut`] if there is none in time.
    pub fn connect(
        handover: &Handover,
        service: &Service,
        timeout: Option<Duration>,
    ) -> Result<EventReceiver, ConnectError> {
        connect(handover, service, RequestFlags::RECEIVE_ONLY, timeout).map(EventReceiver)
    }

    /// This end of what was connected: the other one sends.
    #[must_use]
    pub fn from_channel(channel: Channel) -> EventReceiver {
        EventReceiver(channel)
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> Port {
        self.0.port()
    }

    /// Keeps events back, until [`unmask`](EventReceiver::unmask). One that has come before may still be told of.
    pub fn mask(&self) -> io::Result<()> {
        Ok(uapi::tell::<{ uapi::MASK }>(self)?)
    }

    /// Lets events through again: one that came meanwhile comes now.
    pub fn unmask(&self) -> io::Result<()> {
        Ok(uapi::tell::<{ uapi::UNMASK }>(self)?)
    }

    /// Waits for an event of a port that is in no set, and takes it. [`io::ErrorKind::UnexpectedEof`]: the sender has gone, and no event is left.
    pub fn wait(&self) -> io::Result<()> {
        match retry_on_intr(|| uapi::tell::<{ uapi::SIGNAL_WAIT }>(self)) {
            Err(Errno::NODATA) => {
                Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the sender of events has gone"))
            }
            result => Ok(result?),
        }
    }
}

impl AsFd for EventReceiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
