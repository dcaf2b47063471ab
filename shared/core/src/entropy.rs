//! Randomness, as a parameter.
//!
//! Owns the one place that asks the operating system for random bytes. If the operating system cannot give any, the
//! process ends: see [`SystemEntropy`].

use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering};

use ring::rand::{SecureRandom, SystemRandom};

/// A source of random bytes.
pub trait Entropy: Send + Sync + Debug {
    /// Fills all of `out`.
    fn fill(&self, out: &mut [u8]);

    /// Sixty-four random bits.
    fn next_u64(&self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }
}

/// `N` random bytes.
pub fn bytes<const N: usize>(entropy: &dyn Entropy) -> [u8; N] {
    let mut out = [0; N];
    entropy.fill(&mut out);
    out
}

/// The operating system's cryptographic random generator (`getrandom` on Linux).
///
/// # Panics
/// `fill` panics if the operating system has no random generator at all. After boot `getrandom` cannot fail, so this is
/// an environment in which no key, nonce or id could be made safely, and there is nothing better to do than stop.
#[derive(Debug, Clone)]
pub struct SystemEntropy(SystemRandom);

impl SystemEntropy {
    /// The operating system's generator. Holds no state.
    pub fn new() -> Self {
        Self(SystemRandom::new())
    }
}

impl Default for SystemEntropy {
    fn default() -> Self {
        Self::new()
    }
}

impl Entropy for SystemEntropy {
    fn fill(&self, out: &mut [u8]) {
        assert!(self.0.fill(out).is_ok(), "the operating system gave no random bytes");
    }
}

/// A reproducible stream of bytes (SplitMix64); for tests, never for secrets.
///
/// The same seed gives the same sequence of `fill` calls. It may be shared between threads, whose calls then interleave.
#[derive(Debug)]
pub struct SeededEntropy(AtomicU64);

impl SeededEntropy {
    /// A stream that depends on the seed only.
    pub fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }
}

impl Entropy for SeededEntropy {
    fn fill(&self, out: &mut [u8]) {
        const GOLDEN_GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;
        for chunk in out.chunks_mut(8) {
            let mut z = self
                .0
                .fetch_add(GOLDEN_GAMMA, Ordering::Relaxed)
                .wrapping_add(GOLDEN_GAMMA);
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            z ^= z >> 31;
            chunk.copy_from_slice(&z.to_le_bytes()[..chunk.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_bytes() {
        let (a, b) = (SeededEntropy::new(7), SeededEntropy::new(7));
        assert_eq!(bytes::<37>(&a), bytes::<37>(&b));
        assert_ne!(bytes::<37>(&a), bytes::<37>(&SeededEntropy::new(8)));
    }

    #[test]
    fn seeded_matches_the_published_splitmix64_sequence() {
        let entropy = SeededEntropy::new(1_234_567);
        assert_eq!(entropy.next_u64(), 6_457_827_717_110_365_317);
        assert_eq!(entropy.next_u64(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn system_bytes_differ_between_calls() {
        let entropy = SystemEntropy::new();
        assert_ne!(bytes::<32>(&entropy), bytes::<32>(&entropy));
    }
}
