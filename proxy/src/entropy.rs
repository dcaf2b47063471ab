//! Randomness for what every request needs: ids and trace spans.
//!
//! One call to the operating system fills a kilobyte for each thread, which lasts for about fifty requests; the call itself
//! would be a tenth of the work of a refused request. Bytes are given out once. Not for keys.

use std::cell::RefCell;

use authsome_core::entropy::{Entropy, SystemEntropy};

const POOL: usize = 1024;

struct Pool {
    bytes: [u8; POOL],
    used: usize,
}

thread_local! {
    static THREAD_POOL: RefCell<Pool> = const { RefCell::new(Pool { bytes: [0; POOL], used: POOL }) };
}

/// The operating system's randomness, taken in larger portions.
#[derive(Debug, Default)]
pub struct PooledEntropy(SystemEntropy);

impl Entropy for PooledEntropy {
    fn fill(&self, out: &mut [u8]) {
        if out.len() > POOL {
            return self.0.fill(out);
        }
        THREAD_POOL.with_borrow_mut(|pool| {
            if pool.bytes.len() - pool.used < out.len() {
                self.0.fill(&mut pool.bytes);
                pool.used = 0;
            }
            let portion = &mut pool.bytes[pool.used..pool.used + out.len()];
            out.copy_from_slice(portion);
            portion.fill(0);
            pool.used += out.len();
        });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_portion_is_given_out_twice() {
        let entropy = PooledEntropy::default();
        let seen: HashSet<[u8; 10]> = (0..10_000).map(|_| authsome_core::entropy::bytes(&entropy)).collect();
        assert_eq!(seen.len(), 10_000);
    }

    #[test]
    fn a_portion_larger_than_the_pool_is_filled_too() {
        let mut large = [0; 3 * POOL];
        PooledEntropy::default().fill(&mut large);
        assert!(large.chunks(64).all(|chunk| chunk.iter().any(|byte| *byte != 0)));
    }
}
