//! The routing table: which application a key or an id leads to, and how it is to be served.
//!
//! [`Routing`] is the side of the requests: a look-up is one read in memory; a miss waits for the store's answer with a
//! deadline. [`Backend`] is the side of the store and runs in its runtime: it owns Redis, Postgres, the feed and the
//! snapshot. The whole table is loaded at the start, from the stream, the snapshot or Postgres. Without NATS Postgres is
//! asked each second for what has changed; without Redis misses go to Postgres; without Postgres misses get
//! [`Unavailable`], and what is known is served on, for up to a day.

mod backend;
mod circuit;
mod claim;
mod compare;
mod database_clock;
mod entry;
mod feed;
mod fence;
mod fill;
mod flight;
mod freshness;
mod hash;
mod host;
mod key;
mod loaded;
mod mend;
mod metrics;
mod postgres;
mod pulse;
mod redis;
mod report;
mod settings;
mod snapshot;
mod stats;
mod table;
mod uses;
mod walk;
mod watch;

use std::sync::Arc;

use authsome_contract::model::is_host_name;
use authsome_contract::wire::Change;
use authsome_core::clock::Clock;
use authsome_core::entropy::Entropy;
use authsome_core::id::ApplicationId;
use authsome_core::key::Digest;
use authsome_core::secret::SecretUrl;
use tokio::sync::mpsc;

use crate::meter::Meter;
use backend::Job;
use flight::{Flights, Joined, Landing, Outcome, Wait};
use metrics::{LookupOutcome, TableName};
use table::Table;

pub use backend::{Backend, BackendError};
pub use entry::{AppEntry, AppHeaders, AppSlot, KeyEntry, Lookup};
pub use host::HostEntry;
pub use key::{HeldKey, KeyHeaders};
pub use loaded::LoadedFrom;
pub use metrics::{FillTotals, RoutingMetrics};
pub use postgres::PostgresAddressError;
pub use report::{EdgeName, Reporter};
pub use settings::RoutingSettings;
pub use snapshot::{FileError as SnapshotFileError, SnapshotError, SnapshotSettings};
pub use stats::{FeedStats, RoutingStats};

/// Where the backend reads.
#[derive(Debug, Clone)]
pub struct Sources {
    /// The control database (the edge needs SELECT on `edge_apps`, `edge_keys`, `edge_hosts`, `outbox`, `outbox_position`, `platform`).
    pub postgres: SecretUrl,
    /// The platform's Redis (the edge needs read access to its own keys).
    pub redis: SecretUrl,
}

/// No source gave an answer in time. Says nothing about whether the name exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no routing source answered in time")]
pub struct Unavailable;

/// What both sides share.
struct Shared {
    table: Table,
    settings: RoutingSettings,
    clock: Arc<dyn Clock>,
    metrics: RoutingMetrics,
    keys: Flights<Digest, Arc<KeyEntry>>,
    apps: Flights<ApplicationId, Arc<AppSlot>>,
    hosts: Flights<Arc<str>, Arc<HostEntry>>,
    uses: uses::Noted,
    loaded: loaded::Loaded,
}

/// Makes an empty table and its two sides.
pub fn new(
    settings: RoutingSettings,
    meter: Meter,
    clock: Arc<dyn Clock>,
    entropy: &dyn Entropy,
    metrics: RoutingMetrics,
) -> (Routing, Backend) {
    // Room for every flight there may be, so a job is refused only when the backend is gone.
    let (sender, jobs) = mpsc::channel(3 * settings.fills);
    let shared = Arc::new(Shared {
        table: Table::new(&settings, meter, entropy, &metrics),
        keys: Flights::new(settings.fills),
        apps: Flights::new(settings.fills),
        hosts: Flights::new(settings.fills),
        settings,
        clock,
        metrics,
        uses: uses::Noted::new(),
        loaded: loaded::Loaded::default(),
    });
    (
        Routing {
            shared: Arc::clone(&shared),
            jobs: sender,
        },
        Backend { shared, jobs },
    )
}

/// The side of the requests. Clones share one table.
#[derive(Clone)]
pub struct Routing {
    shared: Arc<Shared>,
    jobs: mpsc::Sender<Job>,
}

impl std::fmt::Debug for Routing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Routing").field("stats", &self.stats()).finish()
    }
}

impl Routing {
    /// The key with this digest, from memory. A revoked or expired key is a hit: ask its record. `now_ms`: milliseconds
    /// since the Unix epoch.
    pub fn key(&self, digest: &Digest, now_ms: i64) -> Lookup<Arc<KeyEntry>> {
        self.counted(TableName::Key, self.shared.table.key(digest, now_ms))
    }

    /// The application with this id, from memory.
    pub fn app(&self, id: &ApplicationId, now_ms: i64) -> Lookup<Arc<AppEntry>> {
        self.counted(TableName::App, self.shared.table.app(id, now_ms))
    }

    /// As [`Self::key`], not counted: for who looks again and again.
    pub fn peek_key(&self, digest: &Digest, now_ms: i64) -> Lookup<Arc<KeyEntry>> {
        self.shared.table.key(digest, now_ms)
    }

    /// As [`Self::app`], not counted: for who looks again and again.
    pub fn peek_app(&self, id: &ApplicationId, now_ms: i64) -> Lookup<Arc<AppEntry>> {
        self.shared.table.app(id, now_ms)
    }

    /// The key with this digest, from the sources; `None` does not exist. For a look-up that was
    /// [`Lookup::Unknown`].
    ///
    /// # Errors
    /// [`Unavailable`] when nothing answered within [`RoutingSettings::fill_deadline`] and nothing is known from before.
    pub async fn resolve_key(&self, digest: Digest) -> Result<Option<Arc<KeyEntry>>, Unavailable> {
        let known = self
            .shared
            .table
            .last_known_key(&digest, self.shared.clock.unix_millis());
        self.resolve(TableName::Key, self.shared.keys.join(digest), Job::Key, known)
            .await
    }

    /// The application with this id, from the sources; `None` does not exist. For a look-up that was
    /// [`Lookup::Unknown`].
    ///
    /// # Errors
    /// As [`Self::resolve_key`].
    pub async fn resolve_app(&self, id: ApplicationId) -> Result<Option<Arc<AppEntry>>, Unavailable> {
        let known = self.shared.table.last_known_app(&id, self.shared.clock.unix_millis());
        let slot = self
            .resolve(TableName::App, self.shared.apps.join(id), Job::App, known)
            .await?;
        Ok(slot.and_then(|slot| slot.load()))
    }

    /// The host with this name (lower case, without port), from memory. The application it leads to is its slot's.
    pub fn host(&self, host: &str, now_ms: i64) -> Lookup<Arc<HostEntry>> {
        self.counted(TableName::Host, self.shared.table.host(host, now_ms))
    }

    /// The host with this name, from the sources; `None` does not exist, or is no host name as they are kept
    /// ([`is_host_name`]). For a look-up that was [`Lookup::Unknown`].
    ///
    /// # Errors
    /// As [`Self::resolve_key`].
    pub async fn resolve_host(&self, host: &str) -> Result<Option<Arc<HostEntry>>, Unavailable> {
        if !is_host_name(host) {
            return Ok(None);
        }
        let known = self.shared.table.last_known_host(host, self.shared.clock.unix_millis());
        self.resolve(TableName::Host, self.shared.hosts.join(host.into()), Job::Host, known)
            .await
    }

    async fn resolve<K: Eq + std::hash::Hash + Clone, T: Clone>(
        &self,
        table: TableName,
        joined: Joined<K, T>,
        job: impl FnOnce(Landing<K, T>) -> Job,
        known: Option<T>,
    ) -> Outcome<T> {
        let began = tokio::time::Instant::now();
        let settings = &self.shared.settings;
        let patience = if known.is_some() {
            settings.stale_patience
        } else {
            settings.fill_deadline
        };
        let outcome = match self.depart(joined, job) {
            Some(wait) => tokio::time::timeout(patience, wait.outcome())
                .await
                .unwrap_or(Err(Unavailable)),
            None => Err(Unavailable),
        };
        self.shared.metrics.resolved(table, began.elapsed());
        match (outcome, known) {
            (Err(Unavailable), Some(known)) => {
                let hold = i64::try_from(settings.hold.as_millis()).unwrap_or(0);
                self.shared
                    .table
                    .pulse()
                    .hold(self.shared.clock.unix_millis().saturating_add(hold));
                self.shared.metrics.stale_served(table);
                Ok(Some(known))
            }
            (Err(Unavailable), None) => {
                self.shared.metrics.unavailable(table);
                Err(Unavailable)
            }
            (answer, _) => answer,
        }
    }

    fn depart<K: Eq + std::hash::Hash + Clone, T: Clone>(
        &self,
        joined: Joined<K, T>,
        job: impl FnOnce(Landing<K, T>) -> Job,
    ) -> Option<Wait<T>> {
        match joined {
            Joined::First(landing, wait) => self.jobs.try_send(job(landing)).ok().map(|()| wait),
            Joined::Later(wait) => Some(wait),
            Joined::Full => None,
        }
    }

    /// Puts a record into the table whether or not it is held. A key that comes before its application is looked up again
    /// until that is here. Returns whether it was taken.
    pub fn install(&self, change: Change) -> bool {
        let now_ms = self.shared.clock.unix_millis();
        matches!(self.shared.table.apply(change, now_ms, true), table::Applied::Updated)
    }

    /// Age of the heartbeat that last proved the table complete, in milliseconds by the database's clock; `None` before the
    /// first. `now_ms` as for [`Self::key`].
    pub fn heartbeat_age_ms(&self, now_ms: i64) -> Option<i64> {
        self.shared.table.pulse().heartbeat_age_ms(now_ms)
    }

    /// The key was admitted at `now_ms`. Its team sees it, to the minute, a little later.
    pub fn used(&self, key: &KeyEntry, now_ms: i64) {
        self.shared.uses.note(key.record.id, &key.used, now_ms);
    }

    /// What the whole table was first loaded from; `None` while it is not.
    pub fn loaded_from(&self) -> Option<LoadedFrom> {
        self.shared.loaded.from()
    }

    /// Writes the table to the directory of `settings`, as the backend does each minute. Blocks.
    ///
    /// # Errors
    /// The disk.
    pub fn write_snapshot(&self, settings: &SnapshotSettings) -> Result<(), SnapshotError> {
        snapshot::write(&self.shared, settings)
    }

    /// Loads the newest usable snapshot from the directory of `settings`, as the backend does at its start. Blocks. Returns
    /// how many applications and keys it brought.
    ///
    /// # Errors
    /// There is no usable one.
    pub fn load_snapshot(&self, settings: &SnapshotSettings) -> Result<(u64, u64), SnapshotError> {
        snapshot::load(&self.shared, settings).map(|counts| (counts.apps, counts.keys))
    }

    /// How the table is doing, for the admin port.
    pub fn stats(&self) -> RoutingStats {
        RoutingStats::of(&self.shared)
    }

    fn counted<T>(&self, table: TableName, lookup: Lookup<T>) -> Lookup<T> {
        let outcome = match &lookup {
            Lookup::Hit(_) => LookupOutcome::Hit,
            Lookup::Absent => LookupOutcome::Absent,
            Lookup::Unknown => LookupOutcome::Unknown,
        };
        self.shared.metrics.lookup(table, outcome);
        lookup
    }
}
