//! The side of the store: fills misses, follows the feed, keeps house. Runs in the store's runtime, whose sockets it owns.
//!
//! A fill that panics tells those who wait for it and nobody else; a feed that ends is started again.

use std::sync::Arc;
use std::time::Duration;

use authsome_core::id::ApplicationId;
use authsome_core::key::Digest;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::entry::{AppSlot, KeyEntry};
use super::fill::Filler;
use super::flight::Landing;
use super::host::HostEntry;
use super::postgres::{PostgresAddressError, PostgresSource, WholeSource};
use super::redis::RedisSource;
use super::watch::watch as keep_watch;
use super::{Shared, Sources, Unavailable, compare, feed, mend, snapshot};
use crate::redis::RedisAddressError;

/// How often the metrics of the table are brought up to date and moka's put-off work is done.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

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

/// A miss, and those who wait for it.
pub(super) enum Job {
    Key(Landing<Digest, Arc<KeyEntry>>),
    App(Landing<ApplicationId, Arc<AppSlot>>),
    Host(Landing<Arc<str>, Arc<HostEntry>>),
}

/// The side of the store.
pub struct Backend {
    pub(super) shared: Arc<Shared>,
    pub(super) jobs: mpsc::Receiver<Job>,
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
        let whole = Arc::new(WholeSource::connect(&sources.postgres)?);
        let _upkeep = self.upkeep(&whole, &filler, &nats);
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
        snapshot::write_aside(&self.shared).await;
        Ok(())
    }

    /// What loads the whole table and keeps it right.
    fn upkeep(&self, whole: &Arc<WholeSource>, filler: &Arc<Filler>, nats: &async_nats::Client) -> Vec<AbortOnDrop> {
        let mending = mend::mend(Arc::clone(filler), Arc::clone(whole));
        let mut tasks = vec![AbortOnDrop(tokio::spawn(mending))];
        if let Some(settings) = self.shared.settings.snapshot.clone() {
            let shared = Arc::clone(&self.shared);
            tasks.push(AbortOnDrop(tokio::spawn(snapshot::keep(shared, settings))));
        }
        if self.shared.settings.whole {
            let watching = keep_watch(Arc::clone(&self.shared), Arc::clone(whole), nats.clone());
            tasks.push(AbortOnDrop(tokio::spawn(watching)));
            let comparing = compare::compare(Arc::clone(filler), Arc::clone(whole));
            tasks.push(AbortOnDrop(tokio::spawn(comparing)));
        }
        tasks
    }

    fn keep_house(&self) {
        let shared = &self.shared;
        shared.table.tidy();
        shared.metrics.set_sizes(
            &shared.table.sizes(),
            shared.keys.len() + shared.apps.len() + shared.hosts.len(),
        );
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
        Job::Host(landing) => {
            let outcome = tokio::time::timeout(deadline, filler.host(&landing.name())).await;
            landing.land(outcome.unwrap_or(Err(Unavailable)));
        }
    }
}
