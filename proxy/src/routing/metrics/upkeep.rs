//! What loading the table and keeping it right counts.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// Counters of loading, asking Postgres, comparing and writing snapshots.
#[derive(Debug, Clone)]
pub(in crate::routing) struct UpkeepMetrics {
    loads: IntCounterVec,
    polls: IntCounterVec,
    snapshots: IntCounterVec,
    /// Wall time of the last snapshot that was written, seconds since the Unix epoch.
    pub(in crate::routing) snapshot_time: IntGauge,
    /// Comparisons of the whole table that came to their end.
    pub(in crate::routing) comparisons: IntCounter,
    differences: IntCounterVec,
}

const LOADS: [&str; 2] = ["snapshot", "postgres"];
const OUTCOMES: [&str; 2] = ["ok", "failed"];
const DIFFERENCES: [&str; 4] = ["missing", "behind", "ahead", "gone"];

impl UpkeepMetrics {
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counters = |name: &str, help: &str, labels: &[&str]| {
            let vec = IntCounterVec::new(Opts::new(format!("authsome_edge_routing_{name}"), help), labels)?;
            registry.register(Box::new(vec.clone())).map(|()| vec)
        };
        let metrics = Self {
            loads: counters("loads_total", "Whole tables that were read", &["source", "outcome"])?,
            polls: counters(
                "polls_total",
                "Questions to Postgres for what has changed",
                &["outcome"],
            )?,
            snapshots: counters("snapshots_total", "Snapshots that were written to disk", &["outcome"])?,
            snapshot_time: IntGauge::new(
                "authsome_edge_routing_snapshot_time_seconds",
                "When the last snapshot was written, as Unix time",
            )?,
            comparisons: IntCounter::new(
                "authsome_edge_routing_comparisons_total",
                "Comparisons of the whole table with Postgres",
            )?,
            differences: counters(
                "differences_total",
                "Entries that differed from Postgres and were repaired",
                &["table", "kind"],
            )?,
        };
        registry.register(Box::new(metrics.snapshot_time.clone()))?;
        registry.register(Box::new(metrics.comparisons.clone()))?;
        for outcome in OUTCOMES {
            metrics.polls.with_label_values(&[outcome]);
            metrics.snapshots.with_label_values(&[outcome]);
            for source in LOADS {
                metrics.loads.with_label_values(&[source, outcome]);
            }
        }
        for table in super::TABLES {
            for kind in DIFFERENCES {
                metrics.differences.with_label_values(&[table, kind]);
            }
        }
        Ok(metrics)
    }

    pub(in crate::routing) fn loaded(&self, source: &'static str, ok: bool) {
        self.loads.with_label_values(&[source, outcome(ok)]).inc();
    }

    pub(in crate::routing) fn polled(&self, ok: bool) {
        self.polls.with_label_values(&[outcome(ok)]).inc();
    }

    pub(in crate::routing) fn snapshot_written(&self, ok: bool) {
        self.snapshots.with_label_values(&[outcome(ok)]).inc();
    }

    pub(in crate::routing) fn differed(&self, table: &'static str, kind: &'static str) {
        self.differences.with_label_values(&[table, kind]).inc();
    }

    /// Of all kinds and tables.
    pub(in crate::routing) fn differences(&self) -> u64 {
        let kinds = |table| DIFFERENCES.map(|kind| self.differences.with_label_values(&[table, kind]).get());
        super::TABLES.into_iter().flat_map(kinds).sum()
    }
}

const fn outcome(ok: bool) -> &'static str {
    if ok { "ok" } else { "failed" }
}
