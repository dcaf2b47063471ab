//! What is measured of the response cache.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// How a response came about that the cache had a part in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// From the cache, fresh.
    Hit,
    /// From the cache, past its time: the instance failed, or is being asked meanwhile.
    Stale,
    /// From the cache, after the instance said that it still holds.
    Revalidated,
    /// From the instance.
    Miss,
}

impl Outcome {
    const ALL: [Self; 4] = [Self::Hit, Self::Stale, Self::Revalidated, Self::Miss];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Stale => "stale",
            Self::Revalidated => "revalidated",
            Self::Miss => "miss",
        }
    }
}

/// The metrics. Clones count together.
#[derive(Debug, Clone)]
pub struct CacheMetrics {
    outcomes: [IntCounter; 4],
    refused_size: IntCounter,
    refused_share: IntCounter,
    evicted: IntCounter,
    invalidated: IntCounter,
    objects: IntGauge,
    bytes: IntGauge,
}

impl CacheMetrics {
    /// Registers them.
    ///
    /// # Errors
    /// If a metric of the same name is registered.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let outcomes = IntCounterVec::new(
            Opts::new(
                "authsome_edge_cache_responses_total",
                "Responses that the cache gave or could have given",
            ),
            &["outcome"],
        )?;
        let refused = IntCounterVec::new(
            Opts::new(
                "authsome_edge_cache_refused_total",
                "Responses that were not kept: too large, or the application's share is full",
            ),
            &["reason"],
        )?;
        let evicted = IntCounter::new(
            "authsome_edge_cache_evicted_total",
            "Responses that left the cache for want of room",
        )?;
        let invalidated = IntCounter::new(
            "authsome_edge_cache_invalidated_total",
            "Times that an unsafe request made the cache forget a response",
        )?;
        let objects = IntGauge::new("authsome_edge_cache_objects", "Responses in the cache")?;
        let bytes = IntGauge::new("authsome_edge_cache_bytes", "Memory that they take, bytes")?;
        registry.register(Box::new(outcomes.clone()))?;
        registry.register(Box::new(refused.clone()))?;
        registry.register(Box::new(evicted.clone()))?;
        registry.register(Box::new(invalidated.clone()))?;
        registry.register(Box::new(objects.clone()))?;
        registry.register(Box::new(bytes.clone()))?;
        Ok(Self {
            outcomes: Outcome::ALL.map(|outcome| outcomes.with_label_values(&[outcome.as_str()])),
            refused_size: refused.with_label_values(&["size"]),
            refused_share: refused.with_label_values(&["share"]),
            evicted,
            invalidated,
            objects,
            bytes,
        })
    }

    pub(super) fn answered(&self, outcome: Outcome) {
        self.outcomes[outcome as usize].inc();
    }

    pub(super) fn refused_size(&self) {
        self.refused_size.inc();
    }

    pub(super) fn refused_share(&self) {
        self.refused_share.inc();
    }

    pub(super) fn evicted(&self) {
        self.evicted.inc();
    }

    pub(super) fn invalidated(&self) {
        self.invalidated.inc();
    }

    pub(super) fn entered(&self, bytes: u64) {
        self.objects.inc();
        self.bytes.add(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    pub(super) fn left(&self, bytes: u64) {
        self.objects.dec();
        self.bytes.sub(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}
