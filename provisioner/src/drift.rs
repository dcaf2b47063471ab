//! Drift: instances that should run and do not.
//!
//! Every few seconds, and at once at start, the instances of all applications that serve are looked at. One that is not as
//! it should be is started again under the application's lease, by the same actions that started it first. With the local
//! runtime this is also how instances come back after a restart of the provisioner, whose children they are. An
//! application under another worker's lease is left to that worker. Without Postgres nothing is started, since nobody's
//! lease could be known; what runs goes on running. An instance that does not come back is tried again ever less often, up
//! to once a minute.
//!
//! Applications that are stopped while their data is kept are looked at as well: they stay closed and apart, their own servers
//! stay, and no instance runs, whoever started one.
//!
//! What somebody wants goes first: a recovery is about the intent that it began with, gives way as soon as there is another,
//! and leaves the application alone for a moment, so that the operation that waits for the lease gets it.

mod recovery;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use authsome_core::error::Chain;
use authsome_core::id::ApplicationId;
use authsome_core::retry::Backoff;
use authsome_db::DbError;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::db;
use crate::execution::Engine;
use crate::plan::Intent;
use recovery::Found;

/// How long one look at an instance, or at Postgres, may take.
const LOOK: Duration = Duration::from_secs(10);
/// The wait after a recovery that failed.
const AGAIN: Backoff = Backoff {
    base: Duration::from_secs(2),
    factor: 2.0,
    max: Duration::from_mins(1),
};
/// How long an application is left alone after a recovery gave way: more than a job waits before it asks for the lease again.
const LEFT_ALONE: Duration = Duration::from_secs(15);
/// Applications read at a time.
const PAGE: i64 = 500;

/// Keeps instances running.
pub struct Drift {
    /// Steps and what they work with.
    pub engine: Arc<Engine>,
    /// The region whose applications are this provisioner's.
    pub region: String,
    /// Instances looked at or started at a time.
    pub concurrency: usize,
    /// Time between two looks.
    pub interval: Duration,
}

/// Applications that are looked at right now, and those that are not looked at for a while: after how many failures, and until
/// when.
#[derive(Default)]
struct Known {
    looks: JoinSet<(ApplicationId, Found)>,
    under_way: HashSet<ApplicationId>,
    waits: HashMap<ApplicationId, (u32, Instant)>,
}

impl Drift {
    /// Looks until `soft`, then waits for what was begun.
    pub async fn run(self, soft: CancellationToken) {
        let permits = Arc::new(Semaphore::new(self.concurrency));
        let mut known = Known::default();
        let runtime = Arc::clone(&self.engine.facilities.runtime);
        let mut next_look = Instant::now();
        loop {
            let moved = tokio::select! {
                biased;
                () = soft.cancelled() => break,
                () = tokio::time::sleep_until(next_look) => None,
                moved = runtime.moved() => Some(moved),
            };
            let looking = async {
                match moved {
                    Some(id) => self.look_at_one(id, &permits, &mut known).await,
                    None => self.look(&permits, &mut known).await,
                }
            };
            if let Some(Err(error)) = soft.run_until_cancelled(Box::pin(looking)).await {
                self.engine.metrics.error("drift");
                tracing::warn!(error = %Chain(&error), "cannot look at instances; looking again");
            }
            if moved.is_none() {
                next_look = Instant::now() + self.interval;
            }
        }
        while known.looks.join_next().await.is_some() {}
    }

    /// One look at every application that is to be kept as it is.
    async fn look(&self, permits: &Arc<Semaphore>, known: &mut Known) -> Result<(), DbError> {
        let mut after = None;
        loop {
            let page = bounded(db::intent::kept(&self.engine.pool, &self.region, after, PAGE)).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.application_id);
            for intent in page {
                self.gather(known);
                if known.may_look(&intent) {
                    self.begin(intent, permits, known).await;
                }
            }
        }
    }

    /// The runtime says that the instances of an application moved: no waiting for the next look, nor for the wait after a
    /// failure. While an operation is waited for, what moves is its business.
    async fn look_at_one(&self, id: ApplicationId, permits: &Arc<Semaphore>, known: &mut Known) -> Result<(), DbError> {
        self.gather(known);
        match bounded(self.engine.intent(id)).await? {
            Some(intent) if intent.region == self.region && known.may_look_again(&intent) => {
                self.begin(intent, permits, known).await;
            }
            _ => {}
        }
        Ok(())
    }

    async fn begin(&self, intent: Intent, permits: &Arc<Semaphore>, known: &mut Known) {
        if !intent.is_kept() {
            return;
        }
        let permit = Arc::clone(permits).acquire_owned().await;
        let engine = Arc::clone(&self.engine);
        known.under_way.insert(intent.application_id);
        known.looks.spawn(async move {
            let found = recovery::look_at(&engine, &intent).await;
            drop(permit);
            (intent.application_id, found)
        });
    }

    /// Takes in what the looks so far came to.
    fn gather(&self, known: &mut Known) {
        while let Some(joined) = known.looks.try_join_next() {
            // Steps cannot panic through, and nobody aborts a look.
            let Ok((id, found)) = joined else { continue };
            known.under_way.remove(&id);
            match found {
                Found::Fine => {
                    known.waits.remove(&id);
                }
                Found::Recovered => {
                    known.waits.remove(&id);
                    self.engine.metrics.instance_recovered(true);
                    tracing::info!(application = %id, "application is as it should be again");
                }
                Found::GaveWay => {
                    known.waits.insert(id, (0, Instant::now() + LEFT_ALONE));
                    tracing::info!(application = %id, "the intent is another by now; its instances are left to the operation");
                }
                Found::Failed(error) => {
                    let (count, next) = known.waits.entry(id).or_insert((0, Instant::now()));
                    let delay = AGAIN.bound(*count);
                    (*count, *next) = (*count + 1, Instant::now() + delay);
                    self.engine.metrics.instance_recovered(false);
                    tracing::warn!(application = %id, error, retry_in = ?delay, "application is not as it should be");
                }
            }
        }
    }
}

impl Known {
    /// Without the wait after a failure, but not while the application is left to an operation.
    fn may_look_again(&self, intent: &Intent) -> bool {
        !self.under_way.contains(&intent.application_id) && !self.is_left(intent)
    }

    fn may_look(&self, intent: &Intent) -> bool {
        let id = &intent.application_id;
        let waits = |(failures, until): &(u32, Instant)| *failures > 0 && *until > Instant::now();
        self.may_look_again(intent) && !self.waits.get(id).is_some_and(waits)
    }

    /// After a recovery gave way: until what is wanted by now is there, and not for ever.
    fn is_left(&self, intent: &Intent) -> bool {
        let is_left = |(failures, until): &(u32, Instant)| *failures == 0 && *until > Instant::now();
        intent.observed_generation < intent.generation && self.waits.get(&intent.application_id).is_some_and(is_left)
    }
}

/// Bounds a look at Postgres that no lease bounds.
async fn bounded<T>(looking: impl Future<Output = Result<T, DbError>>) -> Result<T, DbError> {
    tokio::time::timeout(LOOK, looking)
        .await
        .unwrap_or(Err(DbError::Unavailable(sqlx::Error::PoolTimedOut)))
}
