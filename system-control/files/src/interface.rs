//! What programs know of message channels as sockets: numbers, addresses and records.
//!
//! A record that `read` yields, or `write` takes, carries one message. As a file: the name of the message's file (none without a
//! region), a zero byte, the short message. As a mapping ([`HANDOVER_MAP`]): the region's address and its bytes, eight bytes each,
//! little-endian (zeroes without a region), then the short message.

use handover_abi::{PartitionId, SHORT_MAX, ServiceId};

/// The domain of message channels, beyond those that Linux has.
pub const AF_HANDOVER: u16 = 63;
/// The level of the options below.
pub const SOL_HANDOVER: u32 = 1063;
/// Option, an `int`: messages come and go as mappings (1) instead of files (0).
pub const HANDOVER_MAP: u32 = 1;
/// Option to read, an `int`: the reason for which the other side refused.
pub const HANDOVER_REFUSAL: u32 = 2;

/// Why a request is refused: nobody listens on the service.
pub const REFUSED_UNKNOWN: u32 = 1;
/// Why a request is refused: as many wait already as the listener allows.
pub const REFUSED_BUSY: u32 = 2;
/// Why a request is refused: sockets do not have the kind of connection that it asks for.
pub const REFUSED_KIND: u32 = 3;

/// Bytes before the short message in a record of the mapping kind.
pub const MAPPED_HEADER: usize = 16;
/// A buffer of so many bytes takes any record.
pub const RECORD_MAX: usize = 256;

/// `ioctl` of `/dev/control`, `_IOWR('H', 1, [u64; 18])`: makes the control OS's call that the first word names.
pub const CONTROL_CALL: u32 = 3 << 30 | (8 * CONTROL_REGISTERS as u32) << 16 | (b'H' as u32) << 8 | 1;
/// Registers that such a call takes and leaves: `x0` to `x17`.
pub const CONTROL_REGISTERS: usize = 18;

/// The directory of message files.
pub const MESSAGES: &str = "/msg";

const _: () =
    assert!(MESSAGES.len() + 1 + 20 + 1 + SHORT_MAX <= RECORD_MAX && MAPPED_HEADER + SHORT_MAX <= RECORD_MAX);

/// `struct sockaddr` of the domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// Whose service it is; 0: this partition's.
    pub partition: PartitionId,
    /// The service.
    pub service: ServiceId,
}

impl Address {
    /// Bytes: the family (two), two zeroes, the partition (four), the service (four), little-endian.
    pub const SIZE: usize = 12;

    /// As it lies in memory.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Address::SIZE] {
        let mut bytes = [0; Address::SIZE];
        bytes[..2].copy_from_slice(&AF_HANDOVER.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.partition.get().to_le_bytes());
        bytes[8..].copy_from_slice(&self.service.get().to_le_bytes());
        bytes
    }

    /// From memory; `None` if it is too short, or another domain's.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Address> {
        let bytes = bytes.first_chunk::<{ Address::SIZE }>()?;
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let family = u16::from_le_bytes([bytes[0], bytes[1]]);
        (family == AF_HANDOVER)
            .then(|| Address { partition: PartitionId::new(word(4)), service: ServiceId::new(word(8)) })
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn request_number() {
        assert_eq!(super::CONTROL_CALL, 0xc090_4801);
    }
}
