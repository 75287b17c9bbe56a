//! Addresses that cannot be mistaken for one another.

/// Bytes of a page, a table and a frame.
pub const PAGE: u64 = 4096;
/// Bytes of a level-2 block.
pub(crate) const BLOCK: u64 = 1 << 21;
/// Bytes of a level-1 block.
pub(crate) const GIB: u64 = 1 << 30;

macro_rules! address {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(transparent)]
        pub struct $name(u64);

        impl $name {
            /// From the plain number.
            #[must_use]
            pub const fn new(address: u64) -> $name {
                $name(address)
            }

            /// The plain number.
            #[must_use]
            pub const fn get(self) -> u64 {
                self.0
            }

            /// `bytes` further on; `None` past the end of 64 bits.
            #[must_use]
            pub const fn checked_add(self, bytes: u64) -> Option<$name> {
                match self.0.checked_add(bytes) {
                    Some(address) => Some($name(address)),
                    None => None,
                }
            }

            /// `bytes` further on, for ranges that have been checked.
            #[must_use]
            pub(crate) const fn plus(self, bytes: u64) -> $name {
                $name(self.0.wrapping_add(bytes))
            }

            /// Whether it is a multiple of `alignment`, a power of two.
            #[must_use]
            pub const fn is_aligned(self, alignment: u64) -> bool {
                self.0 & alignment.wrapping_sub(1) == 0
            }
        }
    };
}

address! {
    /// A physical address.
    Pa
}
address! {
    /// An intermediate physical address: what a guest takes for physical.
    Ipa
}
