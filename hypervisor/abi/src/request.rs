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
    }
}

/// What `Connect` asks for, and what a server learns of it: service id in bits 31:0, [`RequestFlags`] in bits 63:32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestWord {
    /// Which service.
    pub service: ServiceId,
    /// What kind of connection.
    pub flags: RequestFlags,
}

impl RequestWord {
    /// Timeouts in nanoseconds that are longer (78 hours) count as this one.
    pub const TIMEOUT_MAX: u64 = 1 << 48;

    /// From a register; `None` for flags that nobody knows.
    #[must_use]
    pub const fn from_register(value: u64) -> Option<RequestWord> {
        match RequestFlags::from_bits((value >> 32) as u32) {
            Some(flags) => Some(RequestWord { service: ServiceId::new(value as u32), flags }),
            None => None,
        }
    }

    /// To a register.
    #[must_use]
    pub const fn to_register(self) -> u64 {
        self.service.get() as u64 | (self.flags.bits() as u64) << 32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_round_trip_and_unknown_flags_do_not() {
        let word = RequestWord { service: ServiceId::new(u32::MAX), flags: RequestFlags::SEND_ONLY };
        assert_eq!(word.to_register(), 0x2_ffff_ffff);
        assert_eq!(RequestWord::from_register(word.to_register()), Some(word));
        assert_eq!(RequestWord::from_register(7).map(|word| word.flags), Some(RequestFlags::empty()));
        for unknown in [RequestFlags::all().bits() + 1, 1 << 31] {
            assert_eq!(RequestWord::from_register(u64::from(unknown) << 32), None);
        }
    }
}
