//! The asynchronous forms of what channels do.

use core::{
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll},
};

use handover_abi::{Causes, Error, Port};

use crate::{
    Channel, ConnectError, Connecting, Message, Region, SendError, Service, Short, hvc, waiters::Waiter,
};

/// Waits until `attempt` has something, looking again after each event of `port` with one of `causes`.
pub(crate) fn until<T>(
    port: Port,
    causes: Causes,
    mut attempt: impl FnMut() -> Result<Option<T>, Error> + Unpin,
) -> impl Future<Output = Result<T, Error>> + Unpin {
    let mut waiter = Waiter::new();
    poll_fn(move |context| {
        if let Err(error) = waiter.wait(port, causes, context.waker()) {
            return Poll::Ready(Err(error));
        }
        match attempt() {
            Ok(Some(value)) => Poll::Ready(Ok(value)),
            Ok(None) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    })
}

/// What tells a receiver to look again.
pub(crate) const RECEIVER: Causes = Causes::MESSAGE.union(Causes::PEER_CLOSED);
/// What tells a sender to try again.
pub(crate) const SENDER: Causes = Causes::SPACE.union(Causes::PEER_CLOSED);
/// What tells a client that there is an answer.
const CLIENT: Causes =
    Causes::CONNECTED.union(Causes::REFUSED).union(Causes::PEER_CLOSED).union(Causes::TIMED_OUT);

impl Channel {
    /// Asks for a channel to a service and waits for the answer.
    ///
    /// Cancel-safe: dropping it takes the request back, or closes the channel if it was accepted already.
    ///
    /// # Errors
    ///
    /// As for [`connect`](Channel::connect); [`Error::Limit`] when 256 futures wait for events already.
    pub async fn connect_async(service: Service) -> Result<Channel, ConnectError> {
        Channel::request(service.partition, service.service)?.wait_async().await
    }

    /// Waits for the next message and takes it.
    ///
    /// Cancel-safe: it takes a message only when it ends, so that one that is dropped leaves all messages in the queue.
    ///
    #[doc = concat!("```ignore\n", include_str!("../examples/client.rs"), "```")]
    ///
    /// # Errors
    ///
    /// As for [`receive`](Channel::receive); [`Error::Limit`] when 256 futures wait for events already.
    pub fn receive_async(&mut self) -> impl Future<Output = Result<Message, Error>> + Unpin {
        until(self.port(), RECEIVER, || self.receive())
    }

    /// Sends a message, waiting while the peer's queue is full.
    ///
    /// Cancel-safe: until it ends, the message is [`Sending`]'s and nobody else has seen it.
    /// [`into_message`](Sending::into_message) gives it back; dropping it instead is dropping the message, whose region goes
    /// back to free memory. In a [`select`](crate::task::select), pass `&mut` of it, or await
    /// [`room_async`](Channel::room_async) and [`send`](Channel::send) then.
    pub fn send_async(&self, message: impl Into<Message>) -> Sending<'_> {
        let Message { region, short } = message.into();
        Sending { channel: self, region, short, waiter: Waiter::new() }
    }

    /// Waits until the peer's queue has room, or the peer is gone. If nobody else sends on this channel,
    /// [`send`](Channel::send) finds no full queue after it.
    ///
    /// Cancel-safe: it holds nothing.
    ///
    /// # Errors
    ///
    /// Those of the call; [`Error::NotConnected`] before the channel is connected; [`Error::Limit`] when 256 futures wait
    /// for events already.
    pub fn room_async(&self) -> impl Future<Output = Result<(), Error>> + Unpin {
        until(self.port(), SENDER, || Ok(self.has_room()?.then_some(())))
    }

    /// Whether [`send`](Channel::send) would find something else than a full queue.
    ///
    /// # Errors
    ///
    /// Those of the call; [`Error::NotConnected`] before the channel is connected.
    pub fn has_room(&self) -> Result<bool, Error> {
        let causes = hvc::port_status(self.port())?.causes;
        if causes.intersects(Causes::CONNECTED | Causes::PEER_CLOSED) {
            Ok(causes.intersects(SENDER))
        } else {
            Err(Error::NotConnected)
        }
    }
}

/// A message that waits for room; see [`Channel::send_async`].
///
/// # Errors
///
/// As for [`Channel::send`], but for [`Error::QueueFull`]; [`Error::Limit`] when 256 futures wait for events already. The
/// region comes back.
#[derive(Debug)]
#[must_use = "futures do nothing unless they are awaited"]
pub struct Sending<'a> {
    channel: &'a Channel,
    region: Option<Region>,
    short: Short,
    waiter: Waiter,
}

impl Sending<'_> {
    /// The message, which is not sent then. Of one that has ended, the bytes alone.
    #[must_use]
    pub fn into_message(self) -> Message {
        Message { region: self.region, short: self.short }
    }
}

impl Future for Sending<'_> {
    type Output = Result<(), SendError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let port = this.channel.port();
        if let Err(error) = this.waiter.wait(port, SENDER, context.waker()) {
            return Poll::Ready(Err(SendError { error, region: this.region.take() }));
        }
        match this.channel.send_from(this.region.take(), &this.short) {
            Err(SendError { error: Error::QueueFull, region }) => {
                this.region = region;
                Poll::Pending
            }
            done => Poll::Ready(done),
        }
    }
}

impl Connecting {
    /// Waits for the answer.
    ///
    /// Cancel-safe: dropping it takes the request back, or closes the channel if it was accepted already.
    ///
    /// # Errors
    ///
    /// As for [`Channel::connect`]; [`Error::Limit`] when 256 futures wait for events already.
    pub async fn wait_async(self) -> Result<Channel, ConnectError> {
        let mut connecting = Some(self);
        let mut waiter = Waiter::new();
        poll_fn(move |context| {
            let Some(this) = connecting.take() else { return Poll::Pending };
            if let Err(error) = waiter.wait(this.port(), CLIENT, context.waker()) {
                return Poll::Ready(Err(error.into()));
            }
            match this.poll() {
                Ok(Ok(channel)) => Poll::Ready(Ok(channel)),
                Ok(Err(this)) => {
                    connecting = Some(this);
                    Poll::Pending
                }
                Err(error) => Poll::Ready(Err(error)),
            }
        })
        .await
    }
}
