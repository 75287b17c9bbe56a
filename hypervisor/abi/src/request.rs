//! What a request asks for.

use bitflags::bitflags;

use crate::ServiceId;

bitflags! {
    /// What kind of connection a request asks for. None of them: a channel on which both ends send.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct RequestFlags: u32 {
        /// A register of the call holds a timeout. The server does not see this flag.
        const TIMEOUT = 1 << 0;
        /// Only who asks may send.
        const SEND_ONLY = 1 << 1;
        /// Only who is asked may send.
        const RECEIVE_ONLY = 1 << 2;
        /// Events alone, no messages. They go one way, so one of the two flags before goes with it.
        const EVENTS = 1 << 3;
        /// Shared memory, of [`RequestWord::order`]. `SEND_ONLY` then says that only who asks may write, `RECEIVE_ONLY` that only who is asked may.
        const MEMORY = 1 << 4;
    }
}

bitflags! {
    /// Who may write to shared memory, as `SharedInfo` tells.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct SharedAccess: u64 {
        /// This end.
        const OWN = 1 << 0;
        /// The other end.
        const PEER = 1 << 1;
    }
}

impl SharedAccess {
    /// Of the end that asks, or of the one that is asked.
    #[must_use]
    pub fn of(flags: RequestFlags, asks: bool) -> SharedAccess {
        let (client, server) = if asks { (Self::OWN, Self::PEER) } else { (Self::PEER, Self::OWN) };
        let mut access = Self::all();
        access.set(server, !flags.contains(RequestFlags::SEND_ONLY));
        access.set(client, !flags.contains(RequestFlags::RECEIVE_ONLY));
        access
    }

    /// The same as the other end sees it.
    #[must_use]
    pub fn turned(self) -> SharedAccess {
        let mut access = SharedAccess::empty();
        access.set(SharedAccess::OWN, self.contains(SharedAccess::PEER));
        access.set(SharedAccess::PEER, self.contains(SharedAccess::OWN));
        access
    }
}

/// What `Connect` asks for, and what a server learns of it: service id in bits 31:0, [`RequestFlags`] in bits 55:32, log2 of the bytes of shared
/// memory in bits 61:56.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestWord {
    /// Which service.
    pub service: ServiceId,
    /// What kind of connection.
    pub flags: RequestFlags,
    /// log2 of the bytes of shared memory; 0 without [`RequestFlags::MEMORY`].
    pub order: u8,
}

impl RequestWord {
    /// Timeouts in nanoseconds that are longer (78 hours) count as this one.
    pub const TIMEOUT_MAX: u64 = 1 << 48;

    /// For a connection without shared memory.
    #[must_use]
    pub const fn new(service: ServiceId, flags: RequestFlags) -> RequestWord {
        RequestWord { service, flags, order: 0 }
    }

    /// From a register; `None` for flags that nobody knows, and for a size without [`RequestFlags::MEMORY`].
    #[must_use]
    pub const fn from_register(value: u64) -> Option<RequestWord> {
        let order = (value >> 56) as u8;
        match RequestFlags::from_bits((value >> 32) as u32 & 0x00ff_ffff) {
            Some(flags) if order == 0 || order < 64 && flags.contains(RequestFlags::MEMORY) => {
                Some(RequestWord { service: ServiceId::new(value as u32), flags, order })
            }
            _ => None,
        }
    }

    /// To a register.
    #[must_use]
    pub const fn to_register(self) -> u64 {
        self.service.get() as u64 | (self.flags.bits() as u64) << 32 | (self.order as u64) << 56
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_round_trip_and_unknown_flags_do_not() {
        let word = RequestWord::new(ServiceId::new(u32::MAX), RequestFlags::SEND_ONLY);
        assert_eq!(word.to_register(), 0x2_ffff_ffff);
        assert_eq!(RequestWord::from_register(word.to_register()), Some(word));
        assert_eq!(RequestWord::from_register(7).map(|word| word.flags), Some(RequestFlags::empty()));
        for unknown in [RequestFlags::all().bits() + 1, 1 << 23, 1 << 31, 12 << 24] {
            assert_eq!(RequestWord::from_register(u64::from(unknown) << 32), None);
        }
        let memory = RequestWord { service: ServiceId::new(7), flags: RequestFlags::MEMORY, order: 21 };
        assert_eq!(memory.to_register(), 0x1500_0010_0000_0007);
        assert_eq!(RequestWord::from_register(memory.to_register()), Some(memory));
        assert_eq!(RequestWord::from_register(memory.to_register() | 1 << 62), None);
    }

    #[test]
    fn both_ends_see_the_same_access() {
        let (own, peer) = (SharedAccess::OWN, SharedAccess::PEER);
        for (flags, asks) in [
            (RequestFlags::empty(), own | peer),
            (RequestFlags::SEND_ONLY, own),
            (RequestFlags::RECEIVE_ONLY, peer),
        ] {
            assert_eq!(SharedAccess::of(flags, true), asks);
            assert_eq!(SharedAccess::of(flags, false), asks.turned());
        }
    }
}
