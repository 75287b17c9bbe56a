//! Where a guest came from: its chain of frame records (AAPCS64, "The Frame Pointer"), which is its own to corrupt.

/// Callers shown at most.
pub const CALLERS_MAX: usize = 16;

/// Bits of a virtual address below the sign; what lies above may be a pointer's authentication code.
const ADDRESS_BITS: u32 = 48;
/// Chooses the half of the address space, with or without an authentication code.
const HALF: u64 = 1 << 55;

/// The next step up a guest's stack: one frame record at a time.
#[derive(Clone, Copy, Debug)]
pub struct Backtrace {
    frame: u64,
    left: usize,
}

impl Backtrace {
    /// From the frame pointer, x29.
    #[must_use]
    pub const fn new(frame: u64) -> Backtrace {
        Backtrace { frame, left: CALLERS_MAX }
    }

    /// The return address in the next frame record. `read` is asked for the record's two words, each once. `None` at the end of the chain: a zero,
    /// a record that is not aligned or not above the one before, or one that cannot be read.
    pub fn next(&mut self, mut read: impl FnMut(u64) -> Option<u64>) -> Option<u64> {
        let frame = self.frame;
        if self.left == 0 || frame == 0 || !frame.is_multiple_of(16) {
            return None;
        }
        let caller = read(frame)?;
        let address = read(frame.checked_add(8)?)?;
        self.left = self.left.saturating_sub(1);
        self.frame = if caller > frame { caller } else { 0 };
        (address != 0).then(|| without_code(address))
    }
}

/// A return address without the authentication code that the guest may have put into it.
fn without_code(address: u64) -> u64 {
    let upper = u64::MAX << ADDRESS_BITS;
    if address & HALF == 0 { address & !upper } else { address | upper }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::{Backtrace, CALLERS_MAX};
    use std::collections::BTreeMap;
    use std::vec::Vec;

    /// The callers that a stack of these words shows, and how often each word was read.
    fn callers(frame: u64, words: &[(u64, u64)]) -> (Vec<u64>, BTreeMap<u64, usize>) {
        let words: BTreeMap<u64, u64> = words.iter().copied().collect();
        let (mut reads, mut found) = (BTreeMap::new(), Vec::new());
        let mut backtrace = Backtrace::new(frame);
        while let Some(address) = backtrace.next(|at| {
            *reads.entry(at).or_default() += 1;
            words.get(&at).copied()
        }) {
            found.push(address);
        }
        (found, reads)
    }

    #[test]
    fn goes_up_to_the_zero_and_reads_each_word_once() {
        let stack = [(0x1000, 0x1040), (0x1008, 0x4020_0010), (0x1040, 0), (0x1048, 0x4020_0020)];
        let (found, reads) = callers(0x1000, &stack);
        assert_eq!(found, [0x4020_0010, 0x4020_0020]);
        assert_eq!(reads.len(), 4);
        assert!(reads.values().all(|count| *count == 1));
    }

    #[test]
    fn ends_where_a_record_is_none() {
        assert_eq!(callers(0, &[(0, 0x10), (8, 1)]).0, []);
        // Not aligned, out of reach, half out of reach, and at the end of the address space.
        assert_eq!(callers(0x1008, &[(0x1008, 0), (0x1010, 1)]).0, []);
        assert_eq!(callers(0x1000, &[]).0, []);
        assert_eq!(callers(0x1000, &[(0x1000, 0x2000)]).0, []);
        assert_eq!(callers(!0xf, &[(!0xf, 0), (!0x7, 1)]).0, [1]);
        // A loop, and a chain that goes down.
        assert_eq!(callers(0x1000, &[(0x1000, 0x1000), (0x1008, 1)]).0, [1]);
        assert_eq!(callers(0x1000, &[(0x1000, 0x800), (0x1008, 1), (0x800, 0), (0x808, 2)]).0, [1]);
    }

    #[test]
    fn is_bounded() {
        let stack: Vec<_> = (1..1000).flat_map(|n| [(n << 4, (n + 1) << 4), ((n << 4) + 8, n)]).collect();
        assert_eq!(callers(1 << 4, &stack).0.len(), CALLERS_MAX);
    }

    #[test]
    fn authentication_codes_are_not_shown() {
        let stack =
            [(0x1000, 0x1010), (0x1008, 0x002a_ffff_8000_1234), (0x1010, 0), (0x1018, 0x00aa_8000_8000_1234)];
        assert_eq!(callers(0x1000, &stack).0, [0xffff_8000_1234, 0xffff_8000_8000_1234]);
    }
}
