//! The asynchronous forms of what channels do. Each is cancel-safe: one that is dropped before it has ended has taken nothing.

use std::{
    future::{Future, poll_fn},
    io,
    pin::Pin,
    task::{Context, Poll},
};

use rustix::{
    event::epoll::EventFlags,
    time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    },
};

use crate::{
    Channel, ConnectError, Connecting, Handover, Listener, Message, Region, Request, SendError, Service,
    Short, Stream,
    task::{Waiter, poll_until, until},
};

impl Channel {
    /// Asks for a channel to a service and waits for the answer. Dropping it takes the request back, or closes the channel if it was accepted already.
    pub async fn connect_async(handover: &Handover, service: &Service) -> Result<Channel, ConnectError> {
        Channel::request(handover, service).map_err(ConnectError::Failed)?.wait_async().await
    }

    /// Waits for the next message and takes it. Errors as for [`receive`](Channel::receive).
    pub async fn receive_async(&self) -> io::Result<Message> {
        until(self, EventFlags::IN, || self.receive()).await
    }

    /// Sends a message, waiting while the peer's queue is full. Until it ends, the message is [`Sending`]'s and nobody else has seen it;
    /// [`into_message`](Sending::into_message) gives it back.
    pub fn send_async(&self, message: impl Into<Message>) -> Sending<'_> {
        let Message { region, short } = message.into();
        Sending { channel: self, region, short, waiter: None }
    }

    /// Waits until the peer's queue has room, or the peer is gone. If nobody else sends on this channel, [`send`](Channel::send) finds no full queue after it.
    pub async fn room_async(&self) -> io::Result<()> {
        until(self, EventFlags::OUT, || Ok(self.has_room()?.then_some(()))).await
    }
}

/// A message that waits for room; see [`Channel::send_async`]. It fails as [`Channel::send_wait`] does, and the region comes back.
#[derive(Debug)]
#[must_use = "futures do nothing unless they are awaited"]
pub struct Sending<'a> {
    channel: &'a Channel,
    region: Option<Region>,
    short: Short,
    waiter: Option<Waiter>,
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
        let Sending { channel, region, short, waiter } = &mut *self;
        let sent = poll_until(waiter, *channel, EventFlags::OUT, context, || {
            match channel.send(Message { region: region.take(), short: *short }) {
                Ok(()) => Ok(Some(())),
                Err(failed) => {
                    *region = failed.region;
                    if failed.error.kind() == io::ErrorKind::WouldBlock {
                        Ok(None)
                    } else {
                        Err(failed.error)
                    }
                }
            }
        });
        sent.map(|sent| sent.map_err(|error| SendError { error, region: region.take() }))
    }
}

impl Connecting {
    /// Waits for the answer. Dropping it takes the request back.
    pub async fn wait_async(self) -> Result<Channel, ConnectError> {
        let port = self.port();
        let end = port.end().map_err(ConnectError::Failed)?;
        let (mut answer, mut timer) = (None, None);
        let time = self.left().map(timer_of).transpose().map_err(ConnectError::Failed)?;
        let mut connecting = Some(self);
        let answered = poll_fn(|context| {
            if let (Some(time), true) = (&time, timer.is_none()) {
                match Waiter::new(time, EventFlags::IN)
                    .and_then(|waits| waits.wait(context.waker()).map(|()| waits))
                {
                    Ok(waits) => timer = Some(waits),
                    Err(error) => return Poll::Ready(Err(error)),
                }
            }
            poll_until(&mut answer, &*end, EventFlags::OUT, context, || {
                let Some(this) = connecting.take() else { return Ok(None) };
                match this.poll() {
                    Ok(Ok(channel)) => Ok(Some(Ok(channel))),
                    Ok(Err(this)) => {
                        connecting = Some(this);
                        Ok(None)
                    }
                    Err(error) => Ok(Some(Err(error))),
                }
            })
        });
        answered.await.map_err(ConnectError::Failed)?
    }
}

/// A descriptor that is readable after so much time.
fn timer_of(time: std::time::Duration) -> io::Result<std::os::fd::OwnedFd> {
    let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC)?;
    // 0 would disarm it.
    let value = Timespec::try_from(time.max(std::time::Duration::from_nanos(1))).map_err(io::Error::other)?;
    let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
    timerfd_settime(&timer, TimerfdTimerFlags::empty(), &once)?;
    Ok(timer)
}

impl Listener {
    /// Waits for the next request and takes it.
    pub async fn request_async(&self) -> io::Result<Request> {
        until(self, EventFlags::IN, || self.request()).await
    }
}

impl Stream {
    /// A stream to a service. Dropping the future takes the request back.
    pub async fn connect_async(handover: &Handover, service: &Service) -> Result<Stream, ConnectError> {
        Stream::new(Channel::connect_async(handover, service).await?).map_err(ConnectError::Failed)
    }
}
