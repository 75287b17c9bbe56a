//! Port sets, and ports for events alone.

use core::time::Duration;

use handover_abi::{Call, Causes, Error, Event, PartitionId, Port, RequestFlags, RequestWord, ServiceId};

use crate::{Channel, Connecting, calls::Caller, events, hvc, interrupts};

/// Ports whose events are taken together, apart from all others', in the order of arrival. Dropping it puts nothing back: ports that are members
/// still keep the set.
#[derive(Debug)]
pub struct PortSet(Port);

impl PortSet {
    /// A set whose events raise the event interrupt.
    ///
    /// # Errors
    ///
    /// [`Error::Limit`]: ports, or control memory.
    pub fn create() -> Result<PortSet, Error> {
        hvc::port_set_create(0, 0).map(PortSet)
    }

    /// A set whose events raise an interrupt of its own, on that logical processor. Enable it there as an edge.
    ///
    /// # Errors
    ///
    /// As for [`create`](PortSet::create); [`Error::InvalidArgument`] unless `intid` is one that may be
    /// [chosen](handover_abi::layout::CHOSEN_INTID_FIRST).
    pub fn with_interrupt(intid: u32, processor: usize) -> Result<PortSet, Error> {
        hvc::port_set_create(intid, processor).map(PortSet)
    }

    /// Adds a port, or [`Port::CONTROL`].
    ///
    /// # Errors
    ///
    /// [`Error::InUse`] if it is in a set.
    pub fn add(&self, port: Port) -> Result<(), Error> {
        hvc::port_set_add(self.0, port)
    }

    /// Takes a port out of its set, whichever that is.
    ///
    /// # Errors
    ///
    /// [`Error::WrongState`] if it is in none.
    pub fn remove(port: Port) -> Result<(), Error> {
        hvc::port_set_remove(port)
    }

    /// Takes the next pending event of a member, if there is one.
    ///
    /// # Errors
    ///
    /// Those of the call.
    #[inline]
    pub fn next(&self) -> Result<Option<Event>, Error> {
        hvc::port_set_next(self.0)
    }

    /// Waits for an event of a member and takes it. Interrupts must be masked, and the set's enabled on this processor.
    ///
    /// # Errors
    ///
    /// Those of the call.
    pub fn wait(&self) -> Result<Event, Error> {
        loop {
            if let Some(event) = self.next()? {
                return Ok(event);
            }
            interrupts::wait();
        }
    }
}

impl Drop for PortSet {
    fn drop(&mut self) {
        // With members it stays.
        let _in_use: Result<(), Error> = hvc::port_set_destroy(self.0);
    }
}

/// The end of an event port that sends. Dropping it disconnects.
#[derive(Debug)]
pub struct EventSender {
    channel: Channel,
    sender: Caller,
}

impl EventSender {
    /// Asks a partition for a port that it gets events by, and waits for the answer.
    ///
    /// # Errors
    ///
    /// As for [`Channel::connect`]; [`Error::TimedOut`].
    pub fn connect(
        partition: PartitionId,
        service: ServiceId,
        timeout: Option<Duration>,
    ) -> Result<EventSender, crate::ConnectError> {
        let flags = RequestFlags::EVENTS | RequestFlags::SEND_ONLY;
        Connecting::request(partition, RequestWord::new(service, flags), timeout)?
            .wait()
            .map(EventSender::from_channel)
    }

    /// This end of what was connected: the other one gets the events.
    #[must_use]
    pub fn from_channel(channel: Channel) -> EventSender {
        EventSender { sender: Caller::new(Call::EventSend, channel.port()), channel }
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> Port {
        self.channel.port()
    }

    /// Sends an event. One that was not taken yet swallows it.
    ///
    /// # Errors
    ///
    /// [`Error::PeerClosed`].
    #[inline]
    pub fn send(&self) -> Result<(), Error> {
        hvc::event_send_by(self.sender.number, self.sender.port)
    }
}

/// The end of an event port that gets events. Dropping it disconnects.
#[derive(Debug)]
pub struct EventReceiver(Channel);

impl EventReceiver {
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

    /// Has events raise an interrupt at once, on that logical processor, or (0) be taken as others.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] unless `intid` is one that may be [chosen](handover_abi::layout::CHOSEN_INTID_FIRST).
    pub fn bind(&self, intid: u32, processor: usize) -> Result<(), Error> {
        hvc::event_bind(self.port(), intid, processor)
    }

    /// Keeps events back, until [`unmask`](EventReceiver::unmask).
    ///
    /// # Errors
    ///
    /// Those of the call.
    pub fn mask(&self) -> Result<(), Error> {
        hvc::event_mask(self.port())
    }

    /// Lets events through again.
    ///
    /// # Errors
    ///
    /// Those of the call.
    pub fn unmask(&self) -> Result<(), Error> {
        hvc::event_unmask(self.port())
    }

    /// Waits for an event of a port that is neither bound nor in a set.
    ///
    /// # Errors
    ///
    /// [`Error::PeerClosed`]; those of [`events::wait_for`].
    pub fn wait(&self) -> Result<(), Error> {
        loop {
            let causes = events::wait_for(self.port())?;
            if causes.contains(Causes::SIGNAL) {
                return Ok(());
            }
            if causes.contains(Causes::PEER_CLOSED) {
                return Err(Error::PeerClosed);
            }
        }
    }
}
