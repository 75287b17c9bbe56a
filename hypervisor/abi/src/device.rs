//! The machine's devices, as system-control sees them.

use crate::Error;

/// Most bytes of a device's registers that can be given to a partition.
pub const REGISTERS_MAX: u64 = 0x1_0000;
/// Most interrupts of such a device.
pub const INTERRUPTS_MAX: usize = 8;

/// Text in registers: ASCII, padded with zeroes, cut off where it is longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Text<const WORDS: usize>(pub [u64; WORDS]);

/// A device tree node's name, like `pl031@9010000`.
pub type NodeName = Text<3>;
/// What a device is compatible with first of all, like `arm,pl031`.
pub type Compatible = Text<4>;

impl<const WORDS: usize> Text<WORDS> {
    /// No text.
    pub const EMPTY: Text<WORDS> = Text([0; WORDS]);

    /// As much of `text` as fits.
    #[must_use]
    pub fn new(text: &str) -> Text<WORDS> {
        let mut words = [0; WORDS];
        for (word, chunk) in words.iter_mut().zip(text.as_bytes().chunks(8)) {
            *word = chunk.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte));
        }
        Text(words)
    }

    /// Its bytes.
    pub fn bytes(&self) -> impl Iterator<Item = u8> {
        self.0.iter().flat_map(|word| word.to_le_bytes()).take_while(|byte| *byte != 0)
    }

    /// Whether it is `text`, as far as it fits.
    #[must_use]
    pub fn is(&self, text: &str) -> bool {
        *self == Text::new(text)
    }
}

impl<const WORDS: usize> core::fmt::Display for Text<WORDS> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.bytes().try_for_each(|byte| write!(f, "{}", char::from(byte)))
    }
}

/// `x3` of `DeviceInfo`: interrupts in bits 7:0, in bits 15:8 why it cannot be given to a partition ([`Unsupported`]) or 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceState {
    /// How many interrupts it has.
    pub interrupts: u8,
    /// Why it cannot be given to a partition.
    pub refused: Option<Unsupported>,
}

impl DeviceState {
    /// To `x3`.
    #[must_use]
    pub fn to_register(self) -> u64 {
        u64::from(self.interrupts) | self.refused.map_or(0, |reason| reason as u64) << 8
    }

    /// From `x3`.
    #[must_use]
    pub fn from_register(value: u64) -> DeviceState {
        DeviceState { interrupts: value as u8, refused: Unsupported::try_from(value >> 8 & 0xff).ok() }
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal;)*) => {
        /// `x1` of [`Error::NotSupported`] where a call says so: why the control OS cannot do it on this machine.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u64)]
        pub enum Unsupported { $($(#[$doc])* $name = $number,)* }

        impl Unsupported {
            /// Every reason, in numeric order.
            pub const ALL: &[Unsupported] = &[$(Unsupported::$name,)*];

            /// A short phrase for people.
            #[must_use]
            pub fn text(self) -> &'static str {
                match self { $(Unsupported::$name => $text,)* }
            }
        }

        impl TryFrom<u64> for Unsupported {
            type Error = Error;

            fn try_from(value: u64) -> Result<Unsupported, Error> {
                match value { $($number => Ok(Unsupported::$name),)* _ => Err(Error::InvalidArgument) }
            }
        }
    };
}

reasons! {
    /// The device can do DMA, or nobody knows that it cannot: that needs an SMMU, which the control OS does not use.
    Dma = 1, "can do DMA: needs an SMMU";
    /// The device has more registers or interrupts than a partition can be given.
    Size = 2, "too many registers or interrupts";
    /// Another device, or the control OS, has the same interrupt; or the machine's interrupt controller does not have it.
    Interrupt = 3, "its interrupt is not its alone";
    /// The processors have no counter for this: no performance monitors, or none that count memory traffic, or not this event.
    Traffic = 4, "the processors do not count it";
}

impl core::fmt::Display for Unsupported {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.pad(self.text())
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::string::ToString;

    use super::*;

    #[test]
    fn text_in_registers() {
        let name = NodeName::new("pl031@9010000");
        assert_eq!(name.to_string(), "pl031@9010000");
        assert_eq!(name.0[0].to_le_bytes(), *b"pl031@90");
        assert!(name.is("pl031@9010000") && !name.is("pl031@901000"));
        assert_eq!(
            NodeName::new("0123456789abcdef01234567-and-more").to_string(),
            "0123456789abcdef01234567"
        );
        assert_eq!(Compatible::new("").bytes().count(), 0);
    }

    #[test]
    fn states_round_trip() {
        for refused in [None, Some(Unsupported::Dma), Some(Unsupported::Size)] {
            let state = DeviceState { interrupts: 3, refused };
            assert_eq!(DeviceState::from_register(state.to_register()), state);
        }
        for &reason in Unsupported::ALL {
            assert_eq!(Unsupported::try_from(reason as u64), Ok(reason));
        }
    }
}
