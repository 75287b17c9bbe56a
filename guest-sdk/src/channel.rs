//! Message channels.

use core::{fmt, hint::cold_path, num::NonZeroU64};

use handover_abi::{Call, Error, PartitionId, Port, ServiceId, region_order};

use crate::{
    Region, Service, Short,
    calls::{Caller, Landing, Server},
    events,
    hvc::{self, Failure},
    lent::Loan,
    window::{HOME, Home, Place, SLOT_ORDER, WINDOW},
};

mod connecting;
pub use connecting::{ConnectError, Connecting};

/// What is sent and received: a region, or up to 128 bytes, or both.
#[derive(Debug)]
pub struct Message {
    /// The region, which moves.
    pub region: Option<Region>,
    /// The bytes, which are copied.
    pub short: Short,
}

impl From<Region> for Message {
    #[inline]
    fn from(region: Region) -> Message {
        Message { region: Some(region), short: Short::EMPTY }
    }
}

impl From<Short> for Message {
    #[inline]
    fn from(short: Short) -> Message {
        Message { region: None, short }
    }
}

impl From<(Region, Short)> for Message {
    #[inline]
    fn from((region, short): (Region, Short)) -> Message {
        Message { region: Some(region), short }
    }
}

impl<const N: usize> From<&[u8; N]> for Message {
    fn from(bytes: &[u8; N]) -> Message {
        Short::from(bytes).into()
    }
}

/// A message that was not sent.
#[derive(Debug)]
pub struct SendError {
    /// Why.
    pub error: Error,
    /// The message's region, if it had one.
    pub region: Option<Region>,
}

impl From<SendError> for Error {
    fn from(error: SendError) -> Error {
        error.error
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "message not sent: {}", self.error)
    }
}

impl core::error::Error for SendError {}

/// The numbers of a channel's calls on either side of its port: one load fetches a number and the port.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct Registers {
    send: u64,
    port: u64,
    receive: u64,
}

/// One end of a channel to another partition, or to this one. Dropping it disconnects.
#[derive(Debug)]
pub struct Channel {
    registers: Registers,
    /// Where the next region that is received is mapped, if it is free: the home, or room that has been made.
    next: Place,
    /// The channel's own slot.
    home: Option<Home>,
    /// Where the next region is mapped if `next` is taken, or none of the homes is left.
    slot: Option<NonZeroU64>,
    /// What direct calls by it start with.
    pub(crate) caller: Caller,
    /// The same of answers to those that come by it.
    pub(crate) server: Server,
    /// Where regions come by direct calls.
    pub(crate) landing: Landing,
    /// Nanoseconds that direct calls wait, or 0.
    pub(crate) patience: u64,
    /// What has come by a call and is lent.
    pub(crate) loan: Option<Loan>,
}

impl Channel {
    /// Asks for a channel to a service and waits for the answer.
    ///
    /// # Errors
    ///
    /// [`ConnectError::Refused`] by the other side, [`ConnectError::Failed`] when it is not there or a limit is reached.
    pub fn connect(service: Service) -> Result<Channel, ConnectError> {
        Channel::request(service.partition, service.service)?.wait()
    }

    /// Asks for a channel to a service of a partition.
    ///
    /// # Errors
    ///
    /// Those of the call.
    pub fn request(partition: PartitionId, service: ServiceId) -> Result<Connecting, Error> {
        Ok(Connecting(Channel::from_port(hvc::connect(partition, service)?)))
    }

    pub(crate) fn from_port(port: Port) -> Channel {
        Channel {
            registers: Registers {
                send: Call::Send as u64,
                port: port.get().into(),
                receive: Call::Receive as u64,
            },
            next: Place::NONE,
            home: None,
            slot: None,
            caller: Caller::new(Call::Call, port),
            server: Server::new(port),
            landing: Landing::NONE,
            patience: 0,
            loan: None,
        }
    }

    /// The port, by which events name this end.
    #[inline]
    #[must_use]
    pub fn port(&self) -> Port {
        Port::new(self.registers.port as u32)
    }

    /// Sends a message: a [`Region`], a [`Short`] (`b"bytes"` makes one), or both as a pair.
    ///
    /// # Errors
    ///
    /// [`Error::QueueFull`] when the peer has to receive first, [`Error::PeerClosed`], [`Error::Limit`]; the region comes back.
    #[inline(always)]
    pub fn send(&self, message: impl Into<Message>) -> Result<(), SendError> {
        // The bytes are sent from where they are.
        let mut message = message.into();
        let region = message.region.take();
        self.send_from(region, &message.short)
    }

    /// [`send`](Channel::send) without moving the bytes about in memory.
    ///
    /// # Errors
    ///
    /// As for [`send`](Channel::send).
    #[inline(always)]
    pub fn send_from(&self, region: Option<Region>, short: &Short) -> Result<(), SendError> {
        let Registers { send, port, .. } = self.registers;
        // SAFETY: `region` is owned here, so nothing refers into it, and it is forgotten when it has been sent.
        let sent = unsafe {
            if short.is_empty() {
                hvc::send_word_by(send, Region::word(region.as_ref(), port, &Short::EMPTY))
            } else {
                hvc::send_by(send, Region::word(region.as_ref(), port, short), short.registers())
            }
        };
        match sent {
            Ok(()) => {
                if let Some(region) = region {
                    region.gone();
                }
                Ok(())
            }
            Err(error) => Err(SendError { error, region }),
        }
    }

    /// Sends a message, waiting while the peer's queue is full.
    ///
    /// # Errors
    ///
    /// As for [`send`](Channel::send), and those of [`events::wait_for`].
    pub fn send_wait(&self, message: impl Into<Message>) -> Result<(), SendError> {
        let mut message = message.into();
        let mut region = message.region.take();
        loop {
            region = match self.send_from(region, &message.short) {
                Err(SendError { error: Error::QueueFull, region }) => region,
                done => return done,
            };
            if let Err(error) = events::wait_for(self.port()) {
                return Err(SendError { error, region });
            }
        }
    }

    /// Takes the next message, if there is one.
    ///
    /// # Errors
    ///
    /// [`Error::PeerClosed`] when there will be none; [`Error::InUse`] when the message window is full.
    #[inline]
    pub fn receive(&mut self) -> Result<Option<Message>, Error> {
        let mut message = Message::from(Short::EMPTY);
        match self.receive_into(&mut message.short) {
            Ok(region) => {
                message.region = region;
                Ok(Some(message))
            }
            Err(Error::WouldBlock) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// [`receive`](Channel::receive) without moving the bytes about in memory: they are in `short`, and the region is
    /// returned. `short` keeps what it holds where there is no message.
    ///
    /// # Errors
    ///
    /// [`Error::WouldBlock`] when there is no message; otherwise as for [`receive`](Channel::receive).
    #[inline(always)]
    pub fn receive_into(&mut self, short: &mut Short) -> Result<Option<Region>, Error> {
        // Copied: what points into memory would be asked for again after the call.
        let (next, Registers { port, receive, .. }) = (self.next, self.registers);
        if !next.is_free() {
            return self.receive_elsewhere(short);
        }
        match hvc::receive_by(receive, port, next.address(), self.next.kept(), short.words_mut()) {
            Ok(((word, length), address)) => {
                short.received(length);
                if word.region().is_none() {
                    // Not cold, but a branch is less than what does without one.
                    cold_path();
                    return Ok(None);
                }
                next.occupy(address);
                // SAFETY: just received, mapped at `address`; `TooLarge` would have told of one larger than a slot.
                Ok(Some(unsafe { Region::from_word(word, address) }))
            }
            Err(Failure { error: Error::TooLarge, detail }) => self.receive_large(detail, short),
            Err(Failure { error, .. }) => Err(error),
        }
    }

    /// The same where a region has taken the place that there was for it.
    #[cold]
    #[inline(never)]
    fn receive_elsewhere(&mut self, short: &mut Short) -> Result<Option<Region>, Error> {
        // What room was made is used up; but where none of the homes is left, it is `slot`.
        if self.slot.is_none()
            && let Some(home) = self.home()
        {
            self.next = home.place();
            if self.next.is_free() {
                return self.receive_into(short);
            }
        }
        let slot = self.slot.or_else(|| WINDOW.claim(SLOT_ORDER));
        let Some(address) = slot else { return Err(Error::InUse) };
        match hvc::receive_into(self.port(), address.get(), short.words_mut()) {
            Ok((word, length)) => {
                short.received(length);
                if word.region().is_none() {
                    self.slot = slot;
                    return Ok(None);
                }
                self.slot = None;
                // SAFETY: just received, mapped at `address`; `TooLarge` would have told of one larger than there is room for.
                Ok(Some(unsafe { Region::from_word(word, address.get()) }))
            }
            Err(failure) => {
                self.slot = slot;
                match failure {
                    Failure { error: Error::TooLarge, detail } => self.receive_large(detail, short),
                    Failure { error, .. } => Err(error),
                }
            }
        }
    }

    /// Keeps room for the next region to be received, of up to so many bytes, so that one of more than 2 MiB comes at once. One of less that comes
    /// instead cuts up a GiB of the window, which then holds no large one.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] for a size that no region has; [`Error::InUse`] when the message window is full.
    #[inline(always)]
    pub fn make_room(&mut self, size: usize) -> Result<(), Error> {
        let order = region_order(size as u64).ok_or(Error::InvalidArgument)?;
        let address = WINDOW.claim(order).ok_or(Error::InUse)?;
        match self.home() {
            Some(home) => {
                self.give_room();
                self.next = home.room(address.get());
            }
            None => {
                if let Some(before) = self.slot.replace(address) {
                    WINDOW.release(before.get());
                }
            }
        }
        Ok(())
    }

    /// The channel's own slot, if there are enough.
    #[inline(always)]
    fn home(&mut self) -> Option<Home> {
        if self.home.is_none() {
            self.home = WINDOW.claim_home();
        }
        self.home
    }

    /// Gives back the room that was made, if no region has come there.
    #[inline(always)]
    fn give_room(&self) {
        if self.next.is_free() && self.next.address() & HOME == 0 {
            WINDOW.release(self.next.address());
        }
    }

    /// Takes a message with a region of more than a slot.
    #[cold]
    fn receive_large(&mut self, size: u64, short: &mut Short) -> Result<Option<Region>, Error> {
        let order = region_order(size).ok_or(Error::TooLarge)?;
        let address = WINDOW.claim(order).ok_or(Error::InUse)?.get();
        let received = hvc::receive_into(self.port(), address, short.words_mut());
        let (word, length) = received.map_err(|failure| {
            WINDOW.release(address);
            failure.error
        })?;
        short.received(length);
        if word.region().is_none() {
            WINDOW.release(address);
            return Ok(None);
        }
        // SAFETY: just received, mapped at `address`, where there is room for it.
        Ok(Some(unsafe { Region::from_word(word, address) }))
    }

    /// Takes the next message, waiting for it.
    ///
    /// # Errors
    ///
    /// As for [`receive`](Channel::receive), and those of [`events::wait_for`].
    pub fn receive_wait(&mut self) -> Result<Message, Error> {
        let mut message = Message::from(Short::EMPTY);
        loop {
            match self.receive_into(&mut message.short) {
                Ok(region) => {
                    message.region = region;
                    return Ok(message);
                }
                Err(Error::WouldBlock) => _ = events::wait_for(self.port())?,
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends the peer an event ([`Causes::SIGNAL`](handover_abi::Causes::SIGNAL)) and no message.
    ///
    /// # Errors
    ///
    /// Those of the call.
    #[inline]
    pub fn signal(&self) -> Result<(), Error> {
        hvc::event_send(self.port())
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.settle();
        self.give_room();
        if let Some(home) = self.home {
            WINDOW.give_home(home);
        }
        if let Some(address) = self.slot {
            WINDOW.release(address.get());
        }
        if let Some(address) = self.landing.free() {
            WINDOW.release(address);
        }
        // Fails only if the port is not there, which is what is wanted.
        let _gone: Result<(), Error> = hvc::disconnect(self.port());
        events::forget(self.port());
    }
}
