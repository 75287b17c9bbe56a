//! Random numbers for guests (Arm DEN0098): ChaCha20, seeded from the processor's RNDR and the boot loader's `rng-seed`.

use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore, SeedableRng};

use crate::arch::registers::{CNTPCT_EL0, random};
use crate::lock::Lock;

/// Words given out before the generator is seeded again, where the processor has RNDR.
const RESEED: u32 = 1024;

struct Entropy {
    generator: Option<ChaCha20Rng>,
    hardware: bool,
    left: u32,
}

static ENTROPY: Lock<Entropy> = Lock::new(Entropy { generator: None, hardware: false, left: 0 });

/// RNDR may have nothing to give for a while.
fn hardware_word() -> Option<u64> {
    (0..16).find_map(|_| random())
}

fn seed(hardware: bool, mut seed: [u8; 32]) -> ([u8; 32], bool) {
    let mut good = hardware;
    for chunk in seed.chunks_exact_mut(8) {
        let word = if hardware { hardware_word() } else { None };
        good &= word.is_some();
        let mixed = word.unwrap_or(0) ^ CNTPCT_EL0.get().rotate_left(17);
        for (byte, mix) in chunk.iter_mut().zip(mixed.to_le_bytes()) {
            *byte ^= mix;
        }
    }
    (seed, good)
}

/// Starts with what the boot loader gave and, if `hardware`, what the processor gives. With neither there is no entropy to give out.
pub fn start(boot_seed: &[u8], hardware: bool) {
    let mut initial = [0; 32];
    for (n, &byte) in boot_seed.iter().enumerate() {
        initial[n % 32] ^= byte;
    }
    let (initial, good) = seed(hardware, initial);
    let mut entropy = ENTROPY.lock();
    entropy.hardware = hardware;
    entropy.left = RESEED;
    entropy.generator = (good || boot_seed.len() >= 16).then(|| ChaCha20Rng::from_seed(initial));
}

/// A word of entropy, if there is any to be had.
pub fn word() -> Option<u64> {
    let mut entropy = ENTROPY.lock();
    if entropy.left == 0 && entropy.hardware {
        let mut old = [0; 32];
        entropy.generator.as_mut()?.fill_bytes(&mut old);
        let (fresh, _) = seed(true, old);
        entropy.generator = Some(ChaCha20Rng::from_seed(fresh));
        entropy.left = RESEED;
    }
    entropy.left = entropy.left.saturating_sub(1);
    Some(entropy.generator.as_mut()?.next_u64())
}
