//! How the table is doing, as the admin port shows it.

use super::Shared;
use super::loaded::LoadedFrom;
use super::metrics::{FillTotals, LookupOutcome, Source};

/// How the table is doing. Counts are since the start of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RoutingStats {
    /// Keys held.
    pub keys: u64,
    /// Their weight, bytes.
    pub keys_bytes: u64,
    /// Applications held.
    pub apps: u64,
    /// Their weight, bytes.
    pub apps_bytes: u64,
    /// Hosts held.
    pub hosts: u64,
    /// Their weight, bytes.
    pub hosts_bytes: u64,
    /// Names remembered as not existing.
    pub absent: u64,
    /// Look-ups that met an entry.
    pub hits: u64,
    /// Look-ups that met a name remembered as not existing.
    pub absent_hits: u64,
    /// Look-ups that had to ask.
    pub misses: u64,
    /// Entries served past their bound because nothing answered.
    pub stale_served: u64,
    /// What Redis was asked.
    pub redis: FillTotals,
    /// What Postgres was asked.
    pub postgres: FillTotals,
    /// What the whole table was first loaded from; absent while it is not.
    pub loaded_from: Option<LoadedFrom>,
    /// Entries that differed from Postgres and were repaired.
    pub differences: u64,
    /// The feed.
    pub feed: FeedStats,
}

/// How the feed is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FeedStats {
    /// Known to be complete and up to date.
    pub live: bool,
    /// A consumer is attached to the stream.
    pub following: bool,
    /// Restore epoch of the last heartbeat.
    pub epoch: u64,
    /// Outbox position up to which everything is applied.
    pub position: u64,
    /// Stream sequence of the last change that was applied.
    pub sequence: u64,
    /// Raised each time the feed began anew.
    pub generation: u32,
}

impl RoutingStats {
    pub(super) fn of(shared: &Shared) -> Self {
        let (sizes, pulse) = (shared.table.sizes(), shared.table.pulse());
        let (epoch, position) = pulse.covered();
        Self {
            keys: sizes.keys,
            keys_bytes: sizes.keys_bytes,
            apps: sizes.apps,
            apps_bytes: sizes.apps_bytes,
            hosts: sizes.hosts,
            hosts_bytes: sizes.hosts_bytes,
            absent: sizes.absent,
            hits: shared.metrics.lookup_total(LookupOutcome::Hit),
            absent_hits: shared.metrics.lookup_total(LookupOutcome::Absent),
            misses: shared.metrics.lookup_total(LookupOutcome::Unknown),
            stale_served: shared.metrics.stale_total(),
            redis: shared.metrics.fill_totals(Source::Redis),
            postgres: shared.metrics.fill_totals(Source::Postgres),
            loaded_from: shared.loaded.from(),
            differences: shared.metrics.upkeep.differences(),
            feed: FeedStats {
                live: pulse.is_live(shared.clock.unix_millis()),
                following: pulse.is_following(),
                epoch,
                position,
                sequence: pulse.sequence(),
                generation: pulse.generation(),
            },
        }
    }
}
