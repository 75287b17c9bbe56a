//! Events: latched, never queued or counted (seed Partitions, [0063]).

use bitflags::bitflags;

use crate::Port;

bitflags! {
    /// Why a port's event fired. Causes add up until the event is taken.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Causes: u32 {
        /// The channel is connected: the request was accepted.
        const CONNECTED = 1 << 0;
        /// A message reached an empty port.
        const MESSAGE = 1 << 1;
        /// The peer destroyed its port; messages already sent can still be received.
        const PEER_CLOSED = 1 << 2;
        /// The request was refused; `PortStatus` tells why.
        const REFUSED = 1 << 3;
        /// A full queue has room again.
        const SPACE = 1 << 4;
        /// The peer called `EventSend`; on port 0, a control signal reached an empty queue.
        const SIGNAL = 1 << 5;
        /// The request had no answer in time, and is withdrawn.
        const TIMED_OUT = 1 << 6;
    }
}

/// A pending event, as `EventNext` returns it: port in bits 23:0, causes in 63:32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Whose event it is; [`Port::CONTROL`] for control signals.
    pub port: Port,
    /// All that happened since it was last taken.
    pub causes: Causes,
}

impl Event {
    /// From `x1`.
    #[must_use]
    pub const fn from_register(value: u64) -> Event {
        Event {
            port: Port::new((value & 0xff_ffff) as u32),
            causes: Causes::from_bits_retain((value >> 32) as u32),
        }
    }

    /// To `x1`.
    #[must_use]
    pub const fn to_register(self) -> u64 {
        self.port.get() as u64 | (self.causes.bits() as u64) << 32
    }
}
