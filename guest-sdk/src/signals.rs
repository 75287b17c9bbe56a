//! Control signals: who wants to connect, and what else the control OS has to tell.

use core::{future::Future, mem};

use handover_abi::{Causes, EndReason, Error, PartitionId, Port, RequestFlags, ServiceId, SignalKind};

use crate::{Channel, asynchronous::until, hvc};

/// A control signal.
#[derive(Debug)]
pub enum Signal {
    /// Somebody asks for a channel.
    Connect(Request),
    /// A partition has ended. Sent to system-control.
    PartitionEnded {
        /// Which one.
        partition: PartitionId,
        /// Why.
        reason: EndReason,
    },
    /// This partition is asked to end by itself.
    ShutdownRequest {
        /// Nanoseconds that it has for it; 0 if that was not said.
        nanoseconds: u64,
    },
}

/// Somebody asks for a channel. Dropping it refuses with reason 0.
#[derive(Debug)]
pub struct Request {
    token: u64,
    /// Who asks.
    pub partition: PartitionId,
    /// What for.
    pub service: ServiceId,
    /// What kind of connection.
    pub flags: RequestFlags,
    /// Bytes of memory to [share](crate::Shared); 0: another kind of connection.
    pub memory: usize,
}

impl Request {
    /// Accepts: this end of the channel.
    ///
    /// # Errors
    ///
    /// Those of the call; the request is refused then.
    pub fn accept(self) -> Result<Channel, Error> {
        let port = hvc::accept(self.token)?;
        mem::forget(self);
        Ok(Channel::from_port(port))
    }

    /// Refuses, for a reason that the other side can read.
    ///
    /// # Errors
    ///
    /// Those of the call.
    pub fn refuse(self, reason: u32) -> Result<(), Error> {
        let token = self.token;
        mem::forget(self);
        hvc::refuse(token, reason)
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        // Fails only if the asker has gone.
        let _gone: Result<(), Error> = hvc::refuse(self.token, 0);
    }
}

/// Takes the next control signal, if there is one. After an event of [`Port::CONTROL`](crate::Port::CONTROL), take
/// them until there is none.
///
/// # Errors
///
/// Those of the call.
pub fn next() -> Result<Option<Signal>, Error> {
    let Some(signal) = hvc::signal_next()? else { return Ok(None) };
    Ok(Some(match signal.kind {
        SignalKind::Connect => Signal::Connect(Request {
            token: signal.token,
            partition: signal.partition,
            service: ServiceId::new(signal.argument as u32),
            flags: RequestFlags::from_bits_retain((signal.argument >> 32) as u32 & 0xff_ffff),
            memory: match signal.argument >> 56 & 63 {
                0 => 0,
                order => 1 << order,
            },
        }),
        SignalKind::ShutdownRequest => Signal::ShutdownRequest { nanoseconds: signal.argument },
        SignalKind::PartitionEnded => {
            Signal::PartitionEnded { partition: signal.partition, reason: signal.argument.try_into()? }
        }
    }))
}

/// Waits for the next control signal and takes it.
///
/// Cancel-safe: it takes a signal only when it ends.
///
/// # Errors
///
/// As for [`next`]; [`Error::Limit`] when 256 futures wait for events already.
pub fn next_async() -> impl Future<Output = Result<Signal, Error>> + Unpin {
    until(Port::CONTROL, Causes::SIGNAL, next)
}
