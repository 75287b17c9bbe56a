//! Messages in registers.

use crate::{Port, RegionHandle};

/// Bytes of a short message: what `x2` to `x17` hold (seed Buffers, the 128-byte limit).
pub const SHORT_MAX: usize = 128;
/// Registers of a short message.
pub const SHORT_WORDS: usize = SHORT_MAX / 8;

/// The order of a region: log2 of its size in bytes. `None` unless `size` is a power of two from 4 KiB to 1 GiB.
#[must_use]
pub const fn region_order(size: u64) -> Option<u8> {
    if size.is_power_of_two() && size >= crate::layout::REGION_MIN && size <= crate::layout::REGION_MAX {
        Some(size.trailing_zeros() as u8)
    } else {
        None
    }
}

/// What one register says of a message: port in bits 23:0, region handle in 47:24 (0: none), bytes of the short message in
/// 55:48 (0 to 128), and, when received, the region's order (log2 of its size) in 61:56. When it came by a direct call, bit 62 says that it is mapped at the port's
/// landing.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct MessageWord(u64);

impl MessageWord {
    /// What a sender passes.
    #[must_use]
    pub const fn new(port: Port, region: Option<RegionHandle>, length: u8) -> MessageWord {
        let region = match region {
            Some(handle) => handle.get(),
            None => 0,
        };
        MessageWord(port.get() as u64 | (region as u64) << 24 | (length as u64) << 48)
    }

    /// The same with the region's order, as a receiver gets it.
    #[must_use]
    pub const fn with_order(self, order: u8) -> MessageWord {
        MessageWord(self.0 | ((order & 0x3f) as u64) << 56)
    }

    /// The same, mapped where `CallSetup` has said.
    #[must_use]
    pub const fn landed(self) -> MessageWord {
        MessageWord(self.0 | 1 << 62)
    }

    /// Whether a region that came by a direct call is mapped where `CallSetup` has said.
    #[must_use]
    pub const fn is_landed(self) -> bool {
        self.0 & 1 << 62 != 0
    }

    /// The same with its region lent: in a call, until that is over; as a server gets it, by whoever called.
    #[must_use]
    pub const fn lent(self) -> MessageWord {
        MessageWord(self.0 | 1 << 63)
    }

    /// Whether the region is lent.
    #[must_use]
    pub const fn is_lent(self) -> bool {
        self.0 & 1 << 63 != 0
    }

    /// The same with the region that is lent in reach of its holder meanwhile.
    #[must_use]
    pub const fn kept(self) -> MessageWord {
        MessageWord(self.0 | 1 << 62)
    }

    /// Whether the caller goes on touching what it lends.
    #[must_use]
    pub const fn is_kept(self) -> bool {
        self.0 & 1 << 62 != 0
    }

    /// From a register, as it is.
    #[must_use]
    pub const fn from_register(value: u64) -> MessageWord {
        MessageWord(value)
    }

    /// To a register.
    #[must_use]
    pub const fn to_register(self) -> u64 {
        self.0
    }

    /// The port.
    #[must_use]
    pub const fn port(self) -> Port {
        Port::new((self.0 & 0xff_ffff) as u32)
    }

    /// The region, if one goes with the message.
    #[must_use]
    pub const fn region(self) -> Option<RegionHandle> {
        match (self.0 >> 24) as u32 & 0xff_ffff {
            0 => None,
            handle => Some(RegionHandle::new(handle)),
        }
    }

    /// Bytes of the short message as claimed; more than [`SHORT_MAX`] is an invalid argument.
    #[must_use]
    pub const fn length(self) -> u8 {
        (self.0 >> 48) as u8
    }

    /// log2 of the region's size.
    #[must_use]
    pub const fn order(self) -> u8 {
        (self.0 >> 56) as u8 & 0x3f
    }

    /// Bytes of a received message: the short one's and the region's.
    #[must_use]
    #[inline]
    pub const fn bytes(self) -> u64 {
        // An order of 0 says that there is no region.
        (self.length() as u64).wrapping_add(1u64.wrapping_shl(self.order() as u32) & !1)
    }
}

impl core::fmt::Debug for MessageWord {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("MessageWord")
            .field("port", &self.port())
            .field("region", &self.region())
            .field("length", &self.length())
            .field("order", &self.order())
            .finish()
    }
}

/// A message as the registers carry it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// `x1`.
    pub word: MessageWord,
    /// `x2` to `x17`; bytes beyond the length are zero when received, unless it is 0.
    pub data: [u64; SHORT_WORDS],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_do_not_overlap() {
        let word =
            MessageWord::new(Port::new(0xab_cdef), Some(RegionHandle::new(0x12_3456)), 128).with_order(30);
        assert_eq!(word.port().get(), 0xab_cdef);
        assert_eq!(word.region().map(RegionHandle::get), Some(0x12_3456));
        assert_eq!(word.length(), 128);
        assert_eq!(word.order(), 30);
        assert_eq!(MessageWord::new(Port::new(7), None, 0).to_register(), 7);
    }

    #[test]
    fn orders() {
        assert_eq!(region_order(4096), Some(12));
        assert_eq!(region_order(1 << 30), Some(30));
        for bad in [0, 1, 2048, 4097, 12288, 1 << 31, 1 << 63, u64::MAX] {
            assert_eq!(region_order(bad), None, "{bad:#x}");
        }
    }
}
