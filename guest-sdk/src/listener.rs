//! A service's requests, one after another.

use core::{
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use handover_abi::{Causes, Error, Port, ServiceId};

use crate::{
    events,
    signals::{self, Request, Signal},
    waiters::Waiter,
};

/// Takes the requests for channels to one service that this partition provides, and refuses all others. It takes all control
/// signals; a program with several services takes them from [`signals`] itself.
///
/// It is a `futures_core`'s [`Stream`] of requests too, which never ends.
#[doc = concat!("```ignore\n", include_str!("../examples/serve.rs"), "```")]
#[derive(Debug)]
pub struct Listener {
    service: ServiceId,
    waiter: Waiter,
}

impl Listener {
    /// Why requests for other services are refused.
    pub const UNKNOWN_SERVICE: u32 = 1;

    /// A listener for a service; its number is what [`Boot::provided`](crate::Boot::provided) says.
    #[must_use]
    pub const fn new(service: ServiceId) -> Listener {
        Listener { service, waiter: Waiter::new() }
    }

    /// Takes the next request, if there is one.
    ///
    /// # Errors
    ///
    /// Those of [`signals::next`].
    pub fn request(&mut self) -> Result<Option<Request>, Error> {
        while let Some(signal) = signals::next()? {
            match signal {
                Signal::Connect(request) if request.service == self.service && request.flags.is_empty() => {
                    return Ok(Some(request));
                }
                // Fails only if the asker has gone.
                Signal::Connect(request) => _ = request.refuse(Listener::UNKNOWN_SERVICE),
                Signal::PartitionEnded { .. } | Signal::ShutdownRequest { .. } => {}
            }
        }
        Ok(None)
    }

    /// Takes the next request, waiting for it.
    ///
    /// # Errors
    ///
    /// Those of [`signals::next`] and [`events::wait_for`].
    pub fn request_wait(&mut self) -> Result<Request, Error> {
        loop {
            if let Some(request) = self.request()? {
                return Ok(request);
            }
            events::wait_for(Port::CONTROL)?;
        }
    }

    /// Waits for the next request and takes it.
    ///
    /// Cancel-safe: it takes a request only when it ends, so that one that is dropped leaves it to the next.
    ///
    /// # Errors
    ///
    /// Those of [`signals::next`]; [`Error::Limit`] when 256 futures wait for events already.
    pub fn request_async(&mut self) -> impl Future<Output = Result<Request, Error>> + Unpin {
        poll_fn(|context| self.poll_request(context))
    }

    fn poll_request(&mut self, context: &mut Context<'_>) -> Poll<Result<Request, Error>> {
        if let Err(error) = self.waiter.wait(Port::CONTROL, Causes::SIGNAL, context.waker()) {
            return Poll::Ready(Err(error));
        }
        match self.request() {
            Ok(Some(request)) => Poll::Ready(Ok(request)),
            Ok(None) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}

impl Stream for Listener {
    type Item = Result<Request, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_request(context).map(Some)
    }
}
