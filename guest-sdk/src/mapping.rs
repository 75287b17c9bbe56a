//! Where the start code maps intermediate physical addresses.
//!
//! A guest has them where they are. A program with user programs below it (feature `upper`) lives in the upper half of the address
//! space, so that TTBR0_EL1 is theirs.

/// What is added to an intermediate physical address: 0, or the start of the upper 39 bits (T1SZ 25).
pub const OFFSET: u64 = if cfg!(feature = "upper") { 0xffff_ff80_0000_0000 } else { 0 };

/// The address at which the program finds an intermediate physical address.
#[inline]
#[must_use]
pub const fn address(ipa: u64) -> usize {
    (ipa + OFFSET) as usize
}

/// The intermediate physical address of what the program has at `address`.
#[inline]
#[must_use]
pub const fn ipa(address: usize) -> u64 {
    address as u64 - OFFSET
}
