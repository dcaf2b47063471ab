//! What addresses have sent that deserves no answer: refused credentials, and requests without a key.
//!
//! Owns two bounded tables of exact cells, by network. The least recently used cell makes room for another, so that a flood
//! from many addresses costs the flood its memory of the few, and nobody else anything. Nothing here fails or waits.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use authsome_core::id::ApplicationId;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;

use super::gcra::{self, Allowance, Moment, Share, Verdict};
use super::network::Network;

/// Cells in each table: about 20 MB at most.
const CELLS: u64 = 100_000;
/// A cell that was not used for so long is whole again by any limit that these tables know.
const IDLE: Duration = Duration::from_mins(10);
/// Of the refusals of credentials, so many seconds' worth may come at once.
const REFUSALS_SECONDS: u32 = 10;

type Cells<K> = Cache<K, Arc<AtomicU64>>;

/// The two tables.
#[derive(Debug)]
pub(super) struct Addresses {
    refusals: Cells<Network>,
    refused: Allowance,
    keyless: Cells<(ApplicationId, Network)>,
}

impl Addresses {
    /// With so many refusals of credentials a second for each network.
    pub(super) fn new(refusals_per_second: NonZeroU32) -> Self {
        let burst = refusals_per_second.saturating_mul(NonZeroU32::MIN.saturating_add(REFUSALS_SECONDS - 1));
        Self {
            refusals: table(),
            refused: Allowance::new(refusals_per_second, burst),
            keyless: table(),
        }
    }

    /// Credentials from this address were refused.
    pub(super) fn refused(&self, address: IpAddr, now: Moment) -> Verdict {
        take(&self.refusals, address.into(), self.refused, now)
    }

    /// A request without a key came to this application from this address.
    pub(super) fn keyless(&self, app: ApplicationId, address: IpAddr, allowance: Allowance, now: Moment) -> Verdict {
        take(&self.keyless, (app, address.into()), allowance, now)
    }
}

fn table<K: std::hash::Hash + Eq + Send + Sync + 'static>() -> Cells<K> {
    Cache::builder()
        .max_capacity(CELLS)
        .time_to_idle(IDLE)
        .eviction_policy(EvictionPolicy::lru())
        .build()
}

fn take<K: std::hash::Hash + Eq + Send + Sync + 'static>(
    cells: &Cells<K>,
    name: K,
    allowance: Allowance,
    now: Moment,
) -> Verdict {
    let cell = cells.get_with(name, || Arc::new(AtomicU64::new(gcra::fresh(now))));
    let mut word = cell.load(Ordering::Relaxed);
    loop {
        let step = gcra::step(word, allowance, Share::WHOLE, now);
        if !step.verdict.admitted {
            return step.verdict;
        }
        match cell.compare_exchange_weak(word, step.word, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => return step.verdict,
            Err(newer) => word = newer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Moment = Moment::after_nanos(0);

    fn refusals(addresses: &Addresses, address: &str) -> usize {
        let address = address.parse().unwrap();
        (0..100).filter(|_| addresses.refused(address, NOW).admitted).count()
    }

    #[test]
    fn an_address_has_ten_seconds_worth_and_its_network_no_more() {
        let addresses = Addresses::new(NonZeroU32::new(3).unwrap());
        assert_eq!(refusals(&addresses, "192.0.2.1"), 30);
        assert_eq!(refusals(&addresses, "::ffff:192.0.2.1"), 0);
        assert_eq!(refusals(&addresses, "192.0.2.2"), 30);
        assert_eq!(refusals(&addresses, "2001:db8::1"), 30);
        assert_eq!(refusals(&addresses, "2001:db8::2"), 0);
    }

    #[test]
    fn an_address_that_was_just_refused_is_still_known_after_a_flood_of_others() {
        let addresses = Addresses::new(NonZeroU32::new(1).unwrap());
        let known = "198.51.100.1".parse().unwrap();
        while addresses.refused(known, NOW).admitted {}
        for n in 0..2 * u32::try_from(CELLS).unwrap() {
            addresses.refused(IpAddr::V4(n.into()), NOW);
            if n % 10_000 == 0 {
                assert!(!addresses.refused(known, NOW).admitted, "forgotten after {n}");
            }
        }
        addresses.refusals.run_pending_tasks();
        assert!(addresses.refusals.entry_count() <= CELLS);
    }
}
