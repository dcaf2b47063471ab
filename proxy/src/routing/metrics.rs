//! What the table counts. Every series exists from the start, so that a rate is right from the first event on; label values
//! are closed sets. Counting never fails and never waits.

use std::time::Duration;

use moka::notification::RemovalCause;
use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use super::table::{Applied, TableSizes};

mod upkeep;

pub(super) use upkeep::UpkeepMetrics;

/// A table, as a label.
#[derive(Debug, Clone, Copy)]
pub(super) enum TableName {
    Key,
    App,
    Host,
}

impl TableName {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::App => "app",
            Self::Host => "host",
        }
    }
}

/// A source of fills, as a label.
#[derive(Debug, Clone, Copy)]
pub(super) enum Source {
    Redis,
    Postgres,
}

/// How asking a source ended, as a label.
#[derive(Debug, Clone, Copy)]
pub(super) enum FillOutcome {
    Found,
    Absent,
    Untrusted,
    RefusedStale,
    Inconsistent,
    Unavailable,
}

/// How a look-up ended.
#[derive(Debug, Clone, Copy)]
pub(super) enum LookupOutcome {
    Hit,
    Absent,
    Unknown,
}

const TABLES: [&str; 3] = ["key", "app", "host"];
const SOURCES: [&str; 2] = ["redis", "postgres"];
const FILL_OUTCOMES: [&str; 6] = [
    "found",
    "absent",
    "untrusted",
    "refused_stale",
    "inconsistent",
    "unavailable",
];
const LOOKUPS: [&str; 3] = ["hit", "absent", "unknown"];
const CAUSES: [&str; 4] = ["expired", "explicit", "replaced", "size"];
const CHANGES: [&str; 5] = ["updated", "not_held", "known", "ignored", "undecodable"];

/// Counters of the routing table, registered once a process.
#[derive(Debug, Clone)]
pub struct RoutingMetrics {
    lookups: [[IntCounter; 3]; 3],
    fills: [[[IntCounter; 6]; 2]; 3],
    evictions: IntCounterVec,
    resolve_seconds: [Histogram; 3],
    stale_served: [IntCounter; 3],
    refused: [IntCounter; 3],
    changes: [IntCounter; 5],
    resyncs: IntCounterVec,
    entries: IntGaugeVec,
    bytes: IntGaugeVec,
    fills_under_way: IntGauge,
    live: IntGauge,
    position: IntGauge,
    sequence: IntGauge,
    pub(super) upkeep: UpkeepMetrics,
}

impl RoutingMetrics {
    /// Registers every series. Fails when one of the names is taken.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counters = |name: &str, help: &str, labels: &[&str]| {
            let vec = IntCounterVec::new(Opts::new(format!("authsome_edge_routing_{name}"), help), labels)?;
            registry.register(Box::new(vec.clone())).map(|()| vec)
        };
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            let vec = IntGaugeVec::new(Opts::new(format!("authsome_edge_routing_{name}"), help), labels)?;
            registry.register(Box::new(vec.clone())).map(|()| vec)
        };
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(format!("authsome_edge_routing_{name}"), help)?;
            registry.register(Box::new(gauge.clone())).map(|()| gauge)
        };
        let lookups = counters("lookups_total", "Look-ups in memory by outcome", &["table", "outcome"])?;
        let fills = counters(
            "fills_total",
            "Questions to a source by outcome",
            &["table", "source", "outcome"],
        )?;
        let evictions = counters(
            "removals_total",
            "Entries that left memory by cause",
            &["table", "cause"],
        )?;
        let stale = counters(
            "stale_served_total",
            "Entries served past their bound because nothing answered",
            &["table"],
        )?;
        let refused = counters("unavailable_total", "Callers that got no answer", &["table"])?;
        let changes = counters(
            "feed_changes_total",
            "Changes from the feed by what they met",
            &["outcome"],
        )?;
        let resyncs = counters(
            "feed_interruptions_total",
            "Times the feed stopped being live by reason",
            &["reason"],
        )?;
        let entries = gauges("entries", "Entries in memory", &["table"])?;
        let bytes = gauges("bytes", "Weight of the entries in memory", &["table"])?;
        let seconds = prometheus::HistogramVec::new(
            HistogramOpts::new(
                "authsome_edge_routing_resolve_seconds",
                "Time that a miss waited for its answer",
            )
            .buckets(vec![
                0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
            ]),
            &["table"],
        )?;
        registry.register(Box::new(seconds.clone()))?;
        for table in TABLES {
            for cause in CAUSES {
                evictions.with_label_values(&[table, cause]);
            }
        }
        for table in ["key", "app", "host", "absent", "floor"] {
            entries.with_label_values(&[table]);
        }
        for reason in super::feed::REASONS {
            resyncs.with_label_values(&[reason]);
        }
        Ok(Self {
            lookups: TABLES.map(|table| LOOKUPS.map(|outcome| lookups.with_label_values(&[table, outcome]))),
            fills: TABLES.map(|table| {
                SOURCES.map(|source| FILL_OUTCOMES.map(|outcome| fills.with_label_values(&[table, source, outcome])))
            }),
            evictions,
            resolve_seconds: TABLES.map(|table| seconds.with_label_values(&[table])),
            stale_served: TABLES.map(|table| stale.with_label_values(&[table])),
            refused: TABLES.map(|table| refused.with_label_values(&[table])),
            changes: CHANGES.map(|outcome| changes.with_label_values(&[outcome])),
            resyncs,
            entries,
            bytes,
            fills_under_way: gauge("fills_under_way", "Names that are being looked for now")?,
            live: gauge("feed_live", "1 while the feed is known to be complete and up to date")?,
            position: gauge("feed_position", "Outbox position up to which the feed is applied")?,
            upkeep: UpkeepMetrics::register(registry)?,
            sequence: gauge("feed_sequence", "Stream sequence of the last change that was applied")?,
        })
    }

    pub(super) fn lookup(&self, table: TableName, outcome: LookupOutcome) {
        self.lookups[table as usize][outcome as usize].inc();
    }

    pub(super) fn fill(&self, table: TableName, source: Source, outcome: FillOutcome) {
        self.fills[table as usize][source as usize][outcome as usize].inc();
    }

    pub(super) fn resolved(&self, table: TableName, waited: Duration) {
        self.resolve_seconds[table as usize].observe(waited.as_secs_f64());
    }

    pub(super) fn stale_served(&self, table: TableName) {
        self.stale_served[table as usize].inc();
    }

    pub(super) fn unavailable(&self, table: TableName) {
        self.refused[table as usize].inc();
    }

    pub(super) fn change(&self, applied: Option<Applied>) {
        let index = match applied {
            Some(Applied::Updated) => 0,
            Some(Applied::NotHeld) => 1,
            Some(Applied::Known) => 2,
            Some(Applied::Ignored) => 3,
            None => 4,
        };
        self.changes[index].inc();
    }

    pub(super) fn interrupted(&self, reason: &'static str) {
        self.resyncs.with_label_values(&[reason]).inc();
    }

    pub(super) fn evictions(&self, table: &'static str) -> Evictions {
        Evictions(CAUSES.map(|cause| self.evictions.with_label_values(&[table, cause])))
    }

    pub(super) fn set_sizes(&self, sizes: &TableSizes, fills: usize) {
        let int = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        for (table, count) in [
            ("key", sizes.keys),
            ("app", sizes.apps),
            ("host", sizes.hosts),
            ("absent", sizes.absent),
            ("floor", sizes.floors),
        ] {
            self.entries.with_label_values(&[table]).set(int(count));
        }
        self.bytes.with_label_values(&["key"]).set(int(sizes.keys_bytes));
        self.bytes.with_label_values(&["app"]).set(int(sizes.apps_bytes));
        self.bytes.with_label_values(&["host"]).set(int(sizes.hosts_bytes));
        self.fills_under_way.set(int(fills as u64));
    }

    pub(super) fn set_feed(&self, live: bool, position: u64, sequence: u64) {
        self.live.set(i64::from(live));
        self.position.set(i64::try_from(position).unwrap_or(i64::MAX));
        self.sequence.set(i64::try_from(sequence).unwrap_or(i64::MAX));
    }

    /// Sum over tables of one source's outcomes, for the admin port.
    pub(super) fn fill_totals(&self, source: Source) -> FillTotals {
        let sum = |outcome: FillOutcome| {
            self.fills
                .iter()
                .map(|table| table[source as usize][outcome as usize].get())
                .sum::<u64>()
        };
        FillTotals {
            found: sum(FillOutcome::Found),
            absent: sum(FillOutcome::Absent),
            untrusted: sum(FillOutcome::Untrusted),
            refused_stale: sum(FillOutcome::RefusedStale),
            inconsistent: sum(FillOutcome::Inconsistent),
            unavailable: sum(FillOutcome::Unavailable),
        }
    }

    pub(super) fn lookup_total(&self, outcome: LookupOutcome) -> u64 {
        self.lookups.iter().map(|table| table[outcome as usize].get()).sum()
    }

    pub(super) fn stale_total(&self) -> u64 {
        self.stale_served.iter().map(IntCounter::get).sum()
    }
}

/// How often a source was asked, by outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FillTotals {
    /// It had the record.
    pub found: u64,
    /// It had no such record.
    pub absent: u64,
    /// Redis: the mark did not vouch for it.
    pub untrusted: u64,
    /// It had an older version than is known to exist.
    pub refused_stale: u64,
    /// It had a record that this release does not understand.
    pub inconsistent: u64,
    /// It did not answer.
    pub unavailable: u64,
}

/// Counts what leaves one table.
#[derive(Debug, Clone)]
pub(super) struct Evictions([IntCounter; 4]);

impl Evictions {
    pub(super) fn count(&self, cause: RemovalCause) {
        let index = match cause {
            RemovalCause::Expired => 0,
            RemovalCause::Explicit => 1,
            RemovalCause::Replaced => 2,
            RemovalCause::Size => 3,
        };
        self.0[index].inc();
    }
}
