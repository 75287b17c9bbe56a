//! Short messages.

use core::{fmt, ops::Deref};

use handover_abi::{Error, SHORT_MAX, SHORT_WORDS};
#[cfg(target_os = "none")]
use handover_abi::{MessageWord, Port};
use zerocopy::IntoBytes;

/// Up to 128 bytes that travel in registers. Dereferences to the bytes.
#[derive(Clone, Copy)]
pub struct Short {
    /// If there are no bytes, these are what was there before: what comes without bytes is not stored.
    words: [u64; SHORT_WORDS],
    /// At most 255, and more than 128 count as 128.
    length: u64,
}

/// What [`Short::words`] are if there are no bytes.
static ZEROES: [u64; SHORT_WORDS] = [0; SHORT_WORDS];

impl Short {
    /// No bytes.
    pub const EMPTY: Short = Short { words: [0; SHORT_WORDS], length: 0 };

    /// A copy of `bytes`.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] for more than 128 bytes.
    #[inline]
    pub fn new(bytes: &[u8]) -> Result<Short, Error> {
        let mut short = Short::EMPTY;
        let destination = short.words.as_mut_bytes().get_mut(..bytes.len()).ok_or(Error::InvalidArgument)?;
        destination.copy_from_slice(bytes);
        short.length = bytes.len() as u64;
        Ok(short)
    }

    /// All 128 bytes, as the registers hold them (little-endian).
    #[inline]
    #[must_use]
    pub const fn from_words(words: [u64; SHORT_WORDS]) -> Short {
        Short { words, length: SHORT_MAX as u64 }
    }

    /// The registers, to receive into. [`Short::received`] must follow.
    #[inline]
    #[cfg_attr(
        not(target_os = "none"),
        expect(dead_code, reason = "its user is built for the machine alone")
    )]
    pub(crate) const fn words_mut(&mut self) -> &mut [u64; SHORT_WORDS] {
        &mut self.words
    }

    /// How many bytes were received, up to 255, more than 128 counting as 128; of none, the registers were not stored.
    #[inline(always)]
    #[cfg(any(target_os = "none", test))]
    pub(crate) fn received(&mut self, length: u64) {
        self.length = length;
    }

    /// What a call loads into registers, if there are bytes.
    #[inline(always)]
    #[cfg(target_os = "none")]
    pub(crate) const fn registers(&self) -> &[u64; SHORT_WORDS] {
        &self.words
    }

    /// The registers' contents; bytes beyond the length are zero.
    #[inline]
    #[must_use]
    pub const fn words(&self) -> &[u64; SHORT_WORDS] {
        if self.is_empty() { &ZEROES } else { &self.words }
    }

    /// Number of bytes, as a message word has it.
    #[inline]
    #[cfg(target_os = "none")]
    pub(crate) const fn length(&self) -> u8 {
        self.length as u8
    }

    /// The same, for a register.
    #[inline(always)]
    #[cfg(target_os = "none")]
    pub(crate) const fn register(&self) -> u64 {
        self.length
    }

    /// Its part of a message word: the length, in its place there.
    #[inline(always)]
    #[cfg(target_os = "none")]
    pub(crate) const fn part(&self) -> u64 {
        const ONE: u64 = MessageWord::new(Port::CONTROL, None, 1).to_register();
        // A shift: the field's lowest bit times what fits into the field.
        self.length.wrapping_mul(ONE)
    }

    /// Number of bytes.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        (self.length as usize).min(SHORT_MAX)
    }

    /// Whether there are no bytes.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The bytes, to change in place.
    #[inline]
    pub fn as_mut_bytes(&mut self) -> &mut [u8] {
        let length = self.len();
        &mut self.words.as_mut_bytes()[..length]
    }
}

impl Deref for Short {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.words.as_bytes()[..self.len()]
    }
}

impl PartialEq for Short {
    fn eq(&self, other: &Short) -> bool {
        **self == **other
    }
}

impl Eq for Short {}

impl fmt::Debug for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<const N: usize> From<&[u8; N]> for Short {
    fn from(bytes: &[u8; N]) -> Short {
        const { assert!(N <= SHORT_MAX, "a short message has 128 bytes at most") };
        let mut short = Short::EMPTY;
        short.words.as_mut_bytes()[..N].copy_from_slice(bytes);
        short.length = N as u64;
        short
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_become_registers_and_back() {
        let short = Short::from(b"\x01\x02\x03\x04\x05\x06\x07\x08\x09");
        assert_eq!(short.words()[..3], [0x0807_0605_0403_0201, 9, 0]);
        assert_eq!(&*short, b"\x01\x02\x03\x04\x05\x06\x07\x08\x09");
        let mut short = Short::from_words(*short.words());
        short.received(9);
        assert_eq!(&*short, b"\x01\x02\x03\x04\x05\x06\x07\x08\x09");
        short.received(255);
        assert_eq!(short.len(), SHORT_MAX);
        // Nothing is stored of a message without bytes.
        short.received(0);
        assert_eq!(short, Short::EMPTY);
        assert_eq!(short.words(), &[0; SHORT_WORDS]);
    }

    #[test]
    fn length_is_checked() {
        assert_eq!(Short::new(&[7; SHORT_MAX]).map(|short| short.len()), Ok(SHORT_MAX));
        assert_eq!(Short::new(&[7; SHORT_MAX + 1]), Err(Error::InvalidArgument));
        assert!(Short::EMPTY.is_empty());
    }
}
