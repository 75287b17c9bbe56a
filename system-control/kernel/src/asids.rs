//! Address space identifiers, of which each address space has one while it lives.

use alloc::vec::Vec;

/// The free ones.
pub struct Asids {
    free: Vec<u16>,
    spaces: u64,
}

impl Asids {
    /// All but 0, of 8 bits.
    pub fn new() -> Asids {
        Asids { free: (1..=255).rev().collect(), spaces: 0 }
    }

    /// One, and a number that no other address space ever had.
    pub fn take(&mut self) -> Option<(u16, u64)> {
        let asid = self.free.pop()?;
        self.spaces += 1;
        Some((asid, self.spaces))
    }

    /// Gives one back. No translation under it may be left in a TLB.
    pub fn release(&mut self, asid: u16) {
        self.free.push(asid);
    }
}
