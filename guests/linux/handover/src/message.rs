//! What a message consists of.

use std::{fmt, ops::Deref};

use crate::Region;

/// Bytes of a short message.
pub const SHORT_MAX: usize = 128;

/// A short message: at most [`SHORT_MAX`] bytes, carried in registers.
#[derive(Clone, Copy)]
pub struct Short {
    length: usize,
    data: [u8; SHORT_MAX],
}

impl Short {
    /// No bytes.
    pub const EMPTY: Short = Short { length: 0, data: [0; SHORT_MAX] };

    /// Copies the bytes; [`TooLong`] if they are more than [`SHORT_MAX`].
    pub fn new(bytes: &[u8]) -> Result<Short, TooLong> {
        let mut short = Short { length: bytes.len(), ..Short::EMPTY };
        short.data.get_mut(..bytes.len()).ok_or(TooLong(bytes.len()))?.copy_from_slice(bytes);
        Ok(short)
    }

    pub(crate) fn from_driver(length: u32, data: [u8; SHORT_MAX]) -> Short {
        Short { length: SHORT_MAX.min(length as usize), data }
    }

    pub(crate) fn padded(&self) -> [u8; SHORT_MAX] {
        self.data
    }
}

impl Short {
    /// Number of bytes.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.length
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The bytes, to change in place.
    pub fn as_mut_bytes(&mut self) -> &mut [u8] {
        &mut self.data[..self.length]
    }
}

impl Deref for Short {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.data[..self.length]
    }
}

impl fmt::Debug for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Short({:02x?})", &**self)
    }
}

impl PartialEq for Short {
    fn eq(&self, other: &Short) -> bool {
        **self == **other
    }
}

impl Eq for Short {}

/// This many bytes are too long for a short message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong(pub usize);

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes do not fit in a short message of at most {SHORT_MAX}", self.0)
    }
}

impl std::error::Error for TooLong {}

/// A message: a short part, and a region if one goes with it.
#[derive(Debug)]
pub struct Message {
    /// The region; it is the receiver's.
    pub region: Option<Region>,
    /// The short part.
    pub short: Short,
}

impl From<Short> for Message {
    fn from(short: Short) -> Message {
        Message { region: None, short }
    }
}

impl From<Region> for Message {
    fn from(region: Region) -> Message {
        Message { region: Some(region), short: Short::EMPTY }
    }
}

impl From<(Region, Short)> for Message {
    fn from((region, short): (Region, Short)) -> Message {
        Message { region: Some(region), short }
    }
}

impl<const N: usize> From<[u8; N]> for Message {
    /// A short message; more than [`SHORT_MAX`] bytes do not compile.
    fn from(bytes: [u8; N]) -> Message {
        Short::from(bytes).into()
    }
}

impl<const N: usize> From<&[u8; N]> for Message {
    fn from(bytes: &[u8; N]) -> Message {
        Short::from(bytes).into()
    }
}

impl<const N: usize> From<(Region, [u8; N])> for Message {
    fn from((region, bytes): (Region, [u8; N])) -> Message {
        (region, Short::from(bytes)).into()
    }
}

impl<const N: usize> From<[u8; N]> for Short {
    fn from(bytes: [u8; N]) -> Short {
        const { assert!(N <= SHORT_MAX, "more bytes than a short message holds") };
        let mut short = Short { length: N, ..Short::EMPTY };
        short.data[..N].copy_from_slice(&bytes);
        short
    }
}

impl<const N: usize> From<&[u8; N]> for Short {
    fn from(bytes: &[u8; N]) -> Short {
        Short::from(*bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_message_holds_128_bytes_and_no_more() {
        for length in [0, 1, 127, 128] {
            let bytes: Vec<u8> = (0..length as u8).collect();
            assert_eq!(*Short::new(&bytes).unwrap(), *bytes);
        }
        assert_eq!(Short::new(&[0; 129]), Err(TooLong(129)));
    }

    #[test]
    fn a_claimed_length_above_the_maximum_is_cut() {
        assert_eq!(Short::from_driver(200, [7; SHORT_MAX]).len(), SHORT_MAX);
        assert_eq!(*Short::from_driver(2, [7; SHORT_MAX]), [7, 7]);
    }
}
