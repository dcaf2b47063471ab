//! What the aggregator measures.

use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

/// The aggregator's metrics. Clones count together.
#[derive(Debug, Clone)]
pub struct AggregatorMetrics {
    pub(super) reports: IntCounter,
    pub(super) confirmed: IntCounter,
    pub(super) failures: IntCounter,
    refused: IntCounterVec,
}

impl AggregatorMetrics {
    /// Registers them.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            reports: IntCounter::new("authsome_usage_reports_total", "Usage reports taken from the stream")?,
            confirmed: IntCounter::new(
                "authsome_usage_confirmed_total",
                "Final counters confirmed to their writers",
            )?,
            failures: IntCounter::new(
                "authsome_usage_failures_total",
                "Batches of usage reports that must come again",
            )?,
            refused: IntCounterVec::new(
                Opts::new(
                    "authsome_usage_refused_total",
                    "Reports and counters that cannot be billed, by reason",
                ),
                &["reason"],
            )?,
        };
        registry.register(Box::new(metrics.reports.clone()))?;
        registry.register(Box::new(metrics.confirmed.clone()))?;
        registry.register(Box::new(metrics.failures.clone()))?;
        registry.register(Box::new(metrics.refused.clone()))?;
        for reason in ["undecodable", "implausible", "unknown_application", "database"] {
            metrics.refused.with_label_values(&[reason]);
        }
        Ok(metrics)
    }

    pub(super) fn refused(&self, reason: &str) {
        self.refused.with_label_values(&[reason]).inc();
    }
}
