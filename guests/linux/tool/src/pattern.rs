//! Bytes that can be made again from a seed.

/// SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    /// Below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// Fills the bytes from a seed.
pub(crate) fn fill(seed: u64, bytes: &mut [u8]) {
    let mut random = Random::new(seed);
    for chunk in bytes.chunks_mut(8) {
        chunk.copy_from_slice(&random.next().to_le_bytes()[..chunk.len()]);
    }
}

/// Where the bytes first differ from the inverted pattern of that seed.
pub(crate) fn mismatch(seed: u64, bytes: &[u8]) -> Option<usize> {
    let mut random = Random::new(seed);
    for (index, chunk) in bytes.chunks(8).enumerate() {
        let expected = (!random.next()).to_le_bytes();
        if *chunk != expected[..chunk.len()] {
            let within = chunk.iter().zip(expected).position(|(&found, expected)| found != expected);
            return Some(index * 8 + within.unwrap_or(0));
        }
    }
    None
}

/// Message sizes in bytes, up to `max`: first those at the edges of what the system treats differently, then random ones, as many small
/// as large.
pub(crate) struct Sizes {
    random: Random,
    index: usize,
    max: usize,
}

const EDGES: [usize; 22] = [
    1,
    127,
    128,
    129,
    4095,
    4096,
    4097,
    65_536,
    1 << 20,
    2 << 20,
    2,
    7,
    8,
    9,
    64,
    8191,
    8193,
    65_535,
    65_537,
    (1 << 20) - 1,
    (1 << 20) + 1,
    (2 << 20) - 1,
];

impl Sizes {
    pub(crate) fn new(seed: u64, max: usize) -> Sizes {
        Sizes { random: Random::new(!seed), index: 0, max: max.max(1) }
    }
}

impl Iterator for Sizes {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        while let Some(&size) = EDGES.get(self.index) {
            self.index += 1;
            if size <= self.max {
                return Some(size);
            }
        }
        let highest = self.max.ilog2();
        let order = self.random.below(u64::from(highest) + 1);
        let size = (1 << order) + self.random.below(1 << order);
        Some((size as usize).min(self.max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_inverted_pattern_matches_and_any_changed_byte_is_found() {
        for length in [0, 1, 7, 8, 9, 129, 4097] {
            let mut bytes = vec![0; length];
            fill(42, &mut bytes);
            bytes.iter_mut().for_each(|byte| *byte ^= 0xff);
            assert_eq!(mismatch(42, &bytes), None);
            for at in 0..length {
                bytes[at] ^= 0x10;
                assert_eq!(mismatch(42, &bytes), Some(at));
                bytes[at] ^= 0x10;
            }
        }
        let mut other = [0; 16];
        fill(43, &mut other);
        other.iter_mut().for_each(|byte| *byte ^= 0xff);
        assert!(mismatch(42, &other).is_some());
    }

    #[test]
    fn sizes_cover_the_edges_and_stay_in_range() {
        let max = 2 << 20;
        let sizes: Vec<usize> = Sizes::new(1, max).take(1000).collect();
        assert!(EDGES.iter().all(|edge| sizes.contains(edge)));
        assert!(sizes.iter().all(|&size| (1..=max).contains(&size)));
        assert!(sizes.iter().filter(|&&size| size <= 128).count() > 200);
        assert!(sizes.iter().filter(|&&size| size > 1 << 20).count() > 20);
        assert!(Sizes::new(1, 100).take(1000).all(|size| (1..=100).contains(&size)));
    }
}
