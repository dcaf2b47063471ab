//! What the relay measures.

use prometheus::{GaugeVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use crate::db::outbox::Target;

/// The relay's metrics. Clones count together.
#[derive(Debug, Clone)]
pub struct RelayMetrics {
    pub(super) leader: IntGauge,
    lag_rows: IntGaugeVec,
    lag_seconds: GaugeVec,
    delivered: IntCounterVec,
    failures: IntCounterVec,
    fills: IntCounterVec,
    pub(super) inconsistent: IntCounter,
    pub(super) pruned: IntCounter,
    pub(super) tombstones: IntCounter,
}

impl RelayMetrics {
    /// Registers them.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let target = &["target"];
        let metrics = Self {
            leader: IntGauge::new("authsome_relay_leader", "1 while this process leads the relay")?,
            lag_rows: IntGaugeVec::new(
                Opts::new(
                    "authsome_relay_lag_rows",
                    "Outbox entries that the target has not received (leader only)",
                ),
                target,
            )?,
            lag_seconds: GaugeVec::new(
                Opts::new("authsome_relay_lag_seconds", "Age of the oldest of them"),
                target,
            )?,
            delivered: IntCounterVec::new(
                Opts::new(
                    "authsome_relay_delivered_total",
                    "Outbox entries that the target has received",
                ),
                target,
            )?,
            failures: IntCounterVec::new(
                Opts::new("authsome_relay_failures_total", "Attempts to deliver that failed"),
                target,
            )?,
            fills: IntCounterVec::new(
                Opts::new(
                    "authsome_relay_fills_total",
                    "Times that the whole table was written to the target",
                ),
                target,
            )?,
            inconsistent: IntCounter::new(
                "authsome_relay_inconsistent_rows_total",
                "Rows that could not be understood and travelled as tombstones",
            )?,
            pruned: IntCounter::new("authsome_relay_pruned_total", "Outbox entries deleted after delivery")?,
            tombstones: IntCounter::new(
                "authsome_relay_tombstones_dropped_total",
                "Tombstones dropped because nothing older can remain",
            )?,
        };
        registry.register(Box::new(metrics.leader.clone()))?;
        registry.register(Box::new(metrics.tombstones.clone()))?;
        registry.register(Box::new(metrics.lag_rows.clone()))?;
        registry.register(Box::new(metrics.lag_seconds.clone()))?;
        registry.register(Box::new(metrics.delivered.clone()))?;
        registry.register(Box::new(metrics.failures.clone()))?;
        registry.register(Box::new(metrics.fills.clone()))?;
        registry.register(Box::new(metrics.inconsistent.clone()))?;
        registry.register(Box::new(metrics.pruned.clone()))?;
        for target in Target::ALL {
            metrics.delivered.with_label_values(&[target.as_str()]);
            metrics.failures.with_label_values(&[target.as_str()]);
        }
        Ok(metrics)
    }

    pub(super) fn delivered(&self, target: Target, entries: usize) {
        self.delivered
            .with_label_values(&[target.as_str()])
            .inc_by(entries as u64);
    }

    pub(super) fn failed(&self, target: Target) {
        self.failures.with_label_values(&[target.as_str()]).inc();
    }

    pub(super) fn filled(&self, target: Target) {
        self.fills.with_label_values(&[target.as_str()]).inc();
    }

    pub(super) fn lag(&self, target: &str, rows: i64, seconds: f64) {
        self.lag_rows.with_label_values(&[target]).set(rows);
        self.lag_seconds.with_label_values(&[target]).set(seconds);
    }

    /// Only a leader knows the lag; a former one must not go on showing its last.
    pub(super) fn forget_lag(&self) {
        self.lag_rows.reset();
        self.lag_seconds.reset();
    }
}
