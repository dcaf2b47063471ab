//! Secret keys where every log on the way has read them: in a URL, or in a subprotocol that a page's script chose.
//!
//! Owns the alert: a counter for each place and a log line with the masked key and the application, so that an operator can tell
//! the customer to roll it. Lines are limited to one a second, since anybody can send what looks like a key; the counter misses none.

use std::sync::atomic::{AtomicI64, Ordering};

use authsome_core::id::ApplicationId;
use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

const PAUSE_MS: i64 = 1000;

/// Where a secret key was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeakedIn {
    /// In the query of the request target.
    Query,
    /// As a WebSocket subprotocol.
    Subprotocol,
}

const PLACES: [&str; 2] = ["query", "subprotocol"];

/// A secret key that was sent where it must not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaked {
    /// Where it stood.
    pub place: LeakedIn,
    /// Its masked form; `None` if it is not a whole key.
    pub masked: Option<String>,
}

/// Counts and tells.
#[derive(Debug)]
pub struct LeakAlert {
    counts: [IntCounter; 2],
    told_ms: AtomicI64,
}

impl LeakAlert {
    /// Registers `authsome_edge_leaked_keys_total`.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let family = IntCounterVec::new(
            Opts::new(
                "authsome_edge_leaked_keys_total",
                "Secret keys that were sent where logs read them",
            ),
            &["place"],
        )?;
        registry.register(Box::new(family.clone()))?;
        Ok(Self {
            counts: PLACES.map(|place| family.with_label_values(&[place])),
            told_ms: AtomicI64::new(i64::MIN),
        })
    }

    /// A secret key of this application has leaked.
    pub fn raise(&self, leaked: &Leaked, app: ApplicationId, now_ms: i64) {
        self.counts[leaked.place as usize].inc();
        let told = self.told_ms.load(Ordering::Relaxed);
        let is_due = now_ms.saturating_sub(told) >= PAUSE_MS || now_ms < told;
        if is_due
            && self
                .told_ms
                .compare_exchange(told, now_ms, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        {
            tracing::warn!(
                target: "authsome_proxy::leak",
                %app,
                key = leaked.masked.as_deref().unwrap_or("(incomplete)"),
                place = PLACES[leaked.place as usize],
                "a secret key was sent where logs read it; it should be rolled"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use authsome_core::clock::ManualClock;
    use authsome_core::entropy::SeededEntropy;

    use super::*;

    #[test]
    fn every_leak_is_counted_by_its_place() {
        let registry = Registry::new();
        let alert = LeakAlert::register(&registry).unwrap();
        let app = ApplicationId::generate(&ManualClock::default(), &SeededEntropy::new(1));
        for (place, times) in [(LeakedIn::Query, 3), (LeakedIn::Subprotocol, 2)] {
            for now_ms in 0..times {
                alert.raise(&Leaked { place, masked: None }, app, now_ms);
            }
            assert_eq!(alert.counts[place as usize].get(), times.unsigned_abs());
        }
    }
}
