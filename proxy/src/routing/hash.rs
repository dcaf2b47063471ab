//! One multiplication instead of SipHash: the names in the table are uniform already (SHA-256 digests, random bits of
//! UUIDs), so hashing only has to be seeded, lest a stranger who can make digests aims them at one bucket.

use std::hash::{BuildHasher, Hasher};

use authsome_core::entropy::Entropy;

/// Makes seeded hashers for names whose last eight bytes are uniform.
#[derive(Debug, Clone)]
pub(super) struct UniformState {
    add: u64,
    multiply: u64,
}

impl UniformState {
    pub(super) fn new(entropy: &dyn Entropy) -> Self {
        Self {
            add: entropy.next_u64(),
            multiply: entropy.next_u64() | 1,
        }
    }
}

impl BuildHasher for UniformState {
    type Hasher = UniformHasher;

    fn build_hasher(&self) -> UniformHasher {
        UniformHasher {
            state: self.add,
            multiply: self.multiply,
        }
    }
}

/// Folds each word into 128 bits and back.
#[derive(Debug)]
pub(super) struct UniformHasher {
    state: u64,
    multiply: u64,
}

impl Hasher for UniformHasher {
    fn finish(&self) -> u64 {
        self.state
    }

    fn write_u64(&mut self, word: u64) {
        let wide = u128::from(self.state ^ word) * u128::from(self.multiply);
        let [low, high] = [wide & u128::from(u64::MAX), wide >> 64].map(|half| u64::try_from(half).unwrap_or(0));
        self.state = low ^ high;
    }

    /// The length prefix of an array is the same for every name of a kind.
    fn write_usize(&mut self, _: usize) {}

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use authsome_core::entropy::SeededEntropy;
    use authsome_core::key::Digest;

    use super::*;

    #[test]
    fn digests_that_share_their_low_bits_do_not_share_a_bucket() {
        let state = UniformState::new(&SeededEntropy::new(3));
        let buckets: HashSet<u64> = (0..1000_u64)
            .map(|n| {
                let mut bytes = [0; 32];
                bytes[..8].copy_from_slice(&(n << 32).to_be_bytes());
                state.hash_one(Digest::from_bytes(bytes)) % 1024
            })
            .collect();
        assert!(
            buckets.len() > 500,
            "{} of 1024 buckets used by 1000 names",
            buckets.len()
        );
    }

    #[test]
    fn another_seed_gives_other_hashes() {
        let digest = Digest::of(b"x");
        let one = UniformState::new(&SeededEntropy::new(1)).hash_one(digest);
        assert_ne!(one, UniformState::new(&SeededEntropy::new(2)).hash_one(digest));
    }
}
