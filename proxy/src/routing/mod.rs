//! The routing table: which application a key or an id leads to, and how it is to be served.
//!
//! [`Routing`] is the side of the requests: a look-up is one read in memory; a miss waits for the store's answer with a
//! deadline. [`Backend`] is the side of the store and runs in its runtime: it owns Redis, Postgres and the feed. Without
//! NATS entries are read again every ten seconds; without Redis misses go to Postgres; without Postgres misses get
//! [`Unavailable`], and what is known is served on, for up to a day.

mod circuit;
mod entry;
mod feed;
mod fence;
mod fill;
mod flight;
mod hash;
mod metrics;
mod postgres;
mod pulse;
mod redis;
mod table;

use std::sync::Arc;
use std::time::Duration;

use authsome_contract::wire::Change;
use authsome_core::clock::Clock;
use authsome_core::entropy::Entropy;
use authsome_core::id::ApplicationId;
use authsome_core::key::Digest;
use authsome_core::secret::SecretUrl;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::meter::Meter;
use fill::Filler;
use flight::{Flights, Joined, Landing, Outcome, Wait};
use metrics::{LookupOutcome, Source, TableName};
use postgres::PostgresSource;
use redis::RedisSource;
use table::Table;

pub use entry::{AppEntry, AppHeaders, AppSlot, KeyEntry, KeyHeaders, Lookup};
pub use metrics::{FillTotals, RoutingMetrics};
pub use postgres::PostgresAddressError;
pub use redis::RedisAddressError;

/// How often the metrics of the table are brought up to date and moka's put-off work is done.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

/// Bounds of the table and of its sources.
#[derive(Debug, Clone)]
pub struct RoutingSettings {
    /// Memory for keys, bytes.
    pub keys_bytes: u64,
    /// Memory for applications, bytes.
    pub apps_bytes: u64,
    /// Names remembered as not existing, of each kind.
    pub negative_entries: u64,
    /// For how long.
    pub negative_ttl: Duration,
    /// Names whose newest version is remembered though they are not held, of each kind.
    pub floors: u64,
    /// For how long.
    pub floor_ttl: Duration,
    /// How long a miss may take.
    pub fill_deadline: Duration,
    /// How long a request waits for an entry to be read again before it uses the old one.
    pub stale_patience: Duration,
    /// For how long old entries are used without asking after nothing answered.
    pub hold: Duration,
    /// Misses under way at once.
    pub fills: usize,
    /// Queries to Postgres at once.
    pub postgres_permits: u32,
    /// How old the relay's mark in Redis may be.
    pub redis_trust: Duration,
    /// While the feed is silent: how long an entry is good since it was last confirmed.
    pub stale_bound: Duration,
    /// How old an entry may be when nothing answers.
    pub max_staleness: Duration,
}

impl Default for RoutingSettings {
    fn default() -> Self {
        Self {
            keys_bytes: 512 << 20,
            apps_bytes: 128 << 20,
            negative_entries: 100_000,
            negative_ttl: Duration::from_secs(3),
            floors: 100_000,
            floor_ttl: Duration::from_secs(300),
            fill_deadline: Duration::from_millis(1500),
            stale_patience: Duration::from_millis(100),
            hold: Duration::from_secs(1),
            fills: 4096,
            postgres_permits: 8,
            redis_trust: Duration::from_secs(5),
            stale_bound: Duration::from_secs(10),
            max_staleness: Duration::from_hours(24),
        }
    }
}

/// Where the backend reads.
#[derive(Debug, Clone)]
pub struct Sources {
    /// The control database (the edge needs SELECT on its two views).
    pub postgres: SecretUrl,
    /// The platform's Redis (the edge needs read access to its own keys).
    pub redis: SecretUrl,
}

/// No source gave an answer in time. Says nothing about whether the name exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no routing source answered in time")]
pub struct Unavailable;

/// Why a backend cannot run at all.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// The address of Postgres.
    #[error(transparent)]
    Postgres(#[from] PostgresAddressError),
    /// The address of Redis.
    #[error(transparent)]
    Redis(#[from] RedisAddressError),
}

/// What both sides share.
struct Shared {
    table: Table,
    settings: RoutingSettings,
    clock: Arc<dyn Clock>,
    metrics: RoutingMetrics,
    keys: Flights<Digest, Arc<KeyEntry>>,
    apps: Flights<ApplicationId, Arc<AppSlot>>,
}

enum Job {
    Key(Landing<Digest, Arc<KeyEntry>>),
    App(Landing<ApplicationId, Arc<AppSlot>>),
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
    let (sender, jobs) = mpsc::channel(2 * settings.fills);
    let shared = Arc::new(Shared {
        table: Table::new(&settings, meter, entropy, &metrics),
        keys: Flights::new(settings.fills),
        apps: Flights::new(settings.fills),
        settings,
        clock,
        metrics,
    });
    (Routing { shared: Arc::clone(&shared), jobs: sender }, Backend { shared, jobs })
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

    /// The key with this digest, from the sources; `None` does not exist. For a look-up that was
    /// [`Lookup::Unknown`].
    ///
    /// # Errors
    /// [`Unavailable`] when nothing answered within [`RoutingSettings::fill_deadline`] and nothing is known from before.
    pub async fn resolve_key(&self, digest: Digest) -> Result<Option<Arc<KeyEntry>>, Unavailable> {
        let known = self.shared.table.last_known_key(&digest, self.shared.clock.unix_millis());
        self.resolve(TableName::Key, self.shared.keys.join(digest), Job::Key, known).await
    }

    /// The application with this id, from the sources; `None` does not exist. For a look-up that was
    /// [`Lookup::Unknown`].
    ///
    /// # Errors
    /// As [`Self::resolve_key`].
    pub async fn resolve_app(&self, id: ApplicationId) -> Result<Option<Arc<AppEntry>>, Unavailable> {
        let known = self.shared.table.last_known_app(&id, self.shared.clock.unix_millis());
        let slot = self.resolve(TableName::App, self.shared.apps.join(id), Job::App, known).await?;
        Ok(slot.and_then(|slot| slot.load()))
    }

    async fn resolve<K: Eq + std::hash::Hash + Copy, T: Clone>(
        &self,
        table: TableName,
        joined: Joined<K, T>,
        job: impl FnOnce(Landing<K, T>) -> Job,
        known: Option<T>,
    ) -> Outcome<T> {
        let began = tokio::time::Instant::now();
        let settings = &self.shared.settings;
        let patience = if known.is_some() { settings.stale_patience } else { settings.fill_deadline };
        let outcome = match self.depart(joined, job) {
            Some(wait) => tokio::time::timeout(patience, wait.outcome()).await.unwrap_or(Err(Unavailable)),
            None => Err(Unavailable),
        };
        self.shared.metrics.resolved(table, began.elapsed());
        match (outcome, known) {
            (Err(Unavailable), Some(known)) => {
                let hold = i64::try_from(settings.hold.as_millis()).unwrap_or(0);
                self.shared.table.pulse().hold(self.shared.clock.unix_millis().saturating_add(hold));
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

    fn depart<K: Eq + std::hash::Hash + Copy, T: Clone>(
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

    /// Puts a record into the table whether or not it is held: what the loading of the whole table consists of.
    /// Applications come before their keys; a key whose application is not held is left out. Returns whether it was taken.
    pub fn install(&self, change: Change) -> bool {
        let now_ms = self.shared.clock.unix_millis();
        matches!(self.shared.table.apply(change, now_ms, true), table::Applied::Updated)
    }

    /// How the table is doing, for the admin port.
    pub fn stats(&self) -> RoutingStats {
        let shared = &self.shared;
        let (sizes, pulse) = (shared.table.sizes(), shared.table.pulse());
        let (epoch, position) = pulse.covered();
        RoutingStats {
            keys: sizes.keys,
            keys_bytes: sizes.keys_bytes,
            apps: sizes.apps,
            apps_bytes: sizes.apps_bytes,
            absent: sizes.absent,
            hits: shared.metrics.lookup_total(LookupOutcome::Hit),
            absent_hits: shared.metrics.lookup_total(LookupOutcome::Absent),
            misses: shared.metrics.lookup_total(LookupOutcome::Unknown),
            stale_served: shared.metrics.stale_total(),
            redis: shared.metrics.fill_totals(Source::Redis),
            postgres: shared.metrics.fill_totals(Source::Postgres),
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

/// The side of the store.
pub struct Backend {
    shared: Arc<Shared>,
    jobs: mpsc::Receiver<Job>,
}

impl std::fmt::Debug for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Backend").finish_non_exhaustive()
    }
}

impl Backend {
    /// Fills misses and follows the feed until `shutdown` holds true (or its sender is gone). Servers that are away are
    /// waited for in the background.
    ///
    /// # Errors
    /// An address that cannot be used.
    pub async fn run(
        mut self,
        sources: Sources,
        nats: async_nats::Client,
        mut shutdown: watch::Receiver<bool>,
    ) -> Result<(), BackendError> {
        let settings = &self.shared.settings;
        let filler = Arc::new(Filler {
            redis: RedisSource::connect(&sources.redis)?,
            postgres: PostgresSource::connect(&sources.postgres, settings.postgres_permits, settings.fill_deadline)?,
            shared: Arc::clone(&self.shared),
        });
        let mut tasks = JoinSet::new();
        let shared = Arc::clone(&self.shared);
        let feed = || tokio::spawn(feed::follow(Arc::clone(&shared), nats.clone()));
        let mut following = AbortOnDrop(feed());
        let mut housekeeping = tokio::time::interval(HOUSEKEEPING);
        housekeeping.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stopped(&mut shutdown) => break,
                job = self.jobs.recv() => match job {
                    Some(job) => { tasks.spawn(fill(Arc::clone(&filler), job)); }
                    None => break,
                },
                ended = &mut following.0 => {
                    // It never ends by itself; without it the table notices the silence and reads again.
                    tracing::error!(?ended, "the routing feed ended early and is started again");
                    following = AbortOnDrop(feed());
                }
                Some(ended) = tasks.join_next() => if let Err(error) = ended {
                    // The waiting were told when the task dropped its landing.
                    tracing::error!(%error, "a routing task ended early");
                },
                _ = housekeeping.tick() => self.keep_house(),
            }
        }
        tasks.shutdown().await;
        Ok(())
    }

    fn keep_house(&self) {
        let shared = &self.shared;
        shared.table.tidy();
        shared.metrics.set_sizes(&shared.table.sizes(), shared.keys.len() + shared.apps.len());
        let pulse = shared.table.pulse();
        let live = pulse.is_live(shared.clock.unix_millis());
        shared.metrics.set_feed(live, pulse.covered().1, pulse.sequence());
    }
}

/// Returns once the flag is true or its owner is gone.
async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    let _ = shutdown.wait_for(|stop| *stop).await;
}

/// A task that ends with its owner.
struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn fill(filler: Arc<Filler>, job: Job) {
    let deadline = filler.shared.settings.fill_deadline;
    match job {
        Job::Key(landing) => {
            let outcome = tokio::time::timeout(deadline, filler.key(landing.name())).await;
            landing.land(outcome.unwrap_or(Err(Unavailable)));
        }
        Job::App(landing) => {
            let outcome = tokio::time::timeout(deadline, filler.app(landing.name())).await;
            landing.land(outcome.unwrap_or(Err(Unavailable)));
        }
    }
}
