//! When an entry was last known to be the truth, and by which generation of the feed it is kept so. Nothing here fails or
//! waits.

use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};

/// See the module.
#[derive(Debug)]
pub(super) struct Freshness {
    generation: AtomicU32,
    confirmed_ms: AtomicI64,
}

impl Freshness {
    pub(super) fn new(generation: u32, confirmed_ms: i64) -> Self {
        Self {
            generation: AtomicU32::new(generation),
            confirmed_ms: AtomicI64::new(confirmed_ms),
        }
    }

    pub(super) fn generation(&self) -> u32 {
        self.generation.load(Ordering::Relaxed)
    }

    pub(super) fn confirmed_ms(&self) -> i64 {
        self.confirmed_ms.load(Ordering::Relaxed)
    }

    /// Was it confirmed by something that was read at `at_ms` or later?
    pub(super) fn is_younger_than(&self, at_ms: i64) -> bool {
        self.confirmed_ms() >= at_ms
    }

    /// Never confirmed: nothing may be done with the entry before it is read.
    pub(super) const fn never() -> Self {
        Self {
            generation: AtomicU32::new(0),
            confirmed_ms: AtomicI64::new(0),
        }
    }

    /// Confirmed as this other one is.
    pub(super) fn confirm_like(&self, other: &Self) {
        self.confirm(other.generation(), other.confirmed_ms());
    }

    /// Read again from a source at `now_ms`, with the feed in `generation` when the reading began.
    pub(super) fn confirm(&self, generation: u32, now_ms: i64) {
        // Only forwards: a slow reading must not take back what a later one has confirmed.
        self.confirmed_ms.fetch_max(now_ms, Ordering::Relaxed);
        self.generation.fetch_max(generation, Ordering::Relaxed);
    }
}
