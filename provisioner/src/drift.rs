//! Drift: instances that should run and do not.
//!
//! Every few seconds, and at once at start, the instances of all applications that serve are looked at. One that is not as
//! it should be is started again under the application's lease, by the same actions that started it first. With the local
//! runtime this is also how instances come back after a restart of the provisioner, whose children they are. An
//! application under another worker's lease is left to that worker. Without Postgres nothing is started, since nobody's
//! lease could be known; what runs goes on running. An instance that does not come back is tried again ever less often, up
//! to once a minute.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use authsome_contract::model::Step;
use authsome_core::error::Chain;
use authsome_core::id::ApplicationId;
use authsome_core::retry::Backoff;
use authsome_db::DbError;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::db;
use crate::execution::{Engine, caught};
use crate::lease::{Fence, Lease, Taken};
use crate::plan::Intent;
use crate::runtime::Site;
use crate::step::{Observed, StepError};

/// What brings an application back, in this order; those steps that the runtime leaves out are left out here too.
const RECOVERY: [Step; 7] = [
    Step::Namespace,
    Step::Database,
    Step::Redis,
    Step::Instance,
    Step::Rollout,
    Step::Monitoring,
    Step::Activate,
];
/// How long one look at an instance, or at Postgres, may take.
const LOOK: Duration = Duration::from_secs(10);
/// How long starting an instance again may take.
const RECOVER: Duration = Duration::from_mins(3);
/// The wait after a recovery that failed.
const AGAIN: Backoff = Backoff {
    base: Duration::from_secs(2),
    factor: 2.0,
    max: Duration::from_mins(1),
};
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

/// What a look at one application came to.
#[derive(Debug)]
enum Found {
    /// It is as it should be, or not ours to change right now.
    Fine,
    /// It was not, and is again.
    Recovered,
    /// It was not, and still is not.
    Failed(String),
}

/// Applications that are looked at right now, and those whose recovery failed.
#[derive(Default)]
struct Known {
    looks: JoinSet<(ApplicationId, Found)>,
    under_way: HashSet<ApplicationId>,
    failures: HashMap<ApplicationId, (u32, Instant)>,
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

    /// One look at every application that serves.
    async fn look(&self, permits: &Arc<Semaphore>, known: &mut Known) -> Result<(), DbError> {
        let mut after = None;
        loop {
            let page = bounded(db::intent::running(&self.engine.pool, &self.region, after, PAGE)).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.application_id);
            for intent in page {
                self.gather(known);
                if known.may_look(intent.application_id) {
                    self.begin(intent, permits, known).await;
                }
            }
        }
    }

    /// The runtime says that the instances of an application moved: no waiting for the next look, nor for the wait after a
    /// failure.
    async fn look_at_one(&self, id: ApplicationId, permits: &Arc<Semaphore>, known: &mut Known) -> Result<(), DbError> {
        self.gather(known);
        match bounded(self.engine.intent(id)).await? {
            Some(intent) if intent.region == self.region && !known.under_way.contains(&id) => {
                self.begin(intent, permits, known).await;
            }
            _ => {}
        }
        Ok(())
    }

    async fn begin(&self, intent: Intent, permits: &Arc<Semaphore>, known: &mut Known) {
        if !intent.serves() {
            return;
        }
        let permit = Arc::clone(permits).acquire_owned().await;
        let engine = Arc::clone(&self.engine);
        known.under_way.insert(intent.application_id);
        known.looks.spawn(async move {
            let found = look_at(&engine, &intent).await;
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
                    known.failures.remove(&id);
                }
                Found::Recovered => {
                    known.failures.remove(&id);
                    self.engine.metrics.instance_recovered(true);
                    tracing::info!(application = %id, "instance runs again");
                }
                Found::Failed(error) => {
                    let (count, next) = known.failures.entry(id).or_insert((0, Instant::now()));
                    let delay = AGAIN.bound(*count);
                    (*count, *next) = (*count + 1, Instant::now() + delay);
                    self.engine.metrics.instance_recovered(false);
                    tracing::warn!(application = %id, error, retry_in = ?delay, "instance does not run");
                }
            }
        }
    }
}

impl Known {
    fn may_look(&self, id: ApplicationId) -> bool {
        !self.under_way.contains(&id) && self.failures.get(&id).is_none_or(|(_, next)| *next <= Instant::now())
    }
}

/// Bounds a look at Postgres that no lease bounds.
async fn bounded<T>(looking: impl Future<Output = Result<T, DbError>>) -> Result<T, DbError> {
    tokio::time::timeout(LOOK, looking)
        .await
        .unwrap_or(Err(DbError::Unavailable(sqlx::Error::PoolTimedOut)))
}

async fn look_at(engine: &Engine, intent: &Intent) -> Found {
    if is_fine(engine, intent).await {
        return Found::Fine;
    }
    let taking = Lease::take(
        &engine.pool,
        intent.application_id,
        &engine.holder,
        engine.lease_lifetime,
    );
    let lease = match tokio::time::timeout(LOOK, taking).await {
        Ok(Ok(Taken::Lease(lease))) => lease,
        Ok(Ok(Taken::Busy(_))) => return Found::Fine,
        Ok(Err(error)) => return Found::Failed(Chain(&error).to_string()),
        Err(_) => return Found::Failed(format!("no lease within {LOOK:?}")),
    };
    let fence = lease.fence().clone();
    let found = tokio::select! {
        biased;
        () = fence.lost() => Found::Failed("the lease was lost".to_owned()),
        found = tokio::time::timeout(RECOVER, recover(engine, intent, &fence)) => {
            found.unwrap_or_else(|_| Found::Failed(format!("not within {RECOVER:?}")))
        }
    };
    lease.release().await;
    found
}

/// The steps worth a look: servers of an application's own are watched, and those that many share are nobody's to repair.
fn recovery(engine: &Engine, intent: &Intent, fence: &Fence) -> impl Iterator<Item = Step> {
    let (facilities, site) = (&engine.facilities, Site::of(intent, fence));
    RECOVERY.into_iter().filter(move |step| match step {
        Step::Database => facilities.databases.of(intent).is_ok_and(|one| !one.is_verified(&site)),
        Step::Redis => facilities.caches.of(intent).is_ok_and(|one| !one.is_verified(&site)),
        step => facilities.runtime.skips(*step).is_none(),
    })
}

/// Looks without a lease: most of the time there is nothing to do.
async fn is_fine(engine: &Engine, intent: &Intent) -> bool {
    let fence = Fence::observer(intent.application_id, engine.lease_lifetime);
    let cx = engine.context(intent, &fence);
    let looking = async {
        for step in recovery(engine, intent, &fence) {
            if !matches!(caught(engine.actions.of(step).observe(&cx)).await, Ok(Observed::Done)) {
                return false;
            }
        }
        true
    };
    tokio::time::timeout(LOOK, looking).await.unwrap_or(false)
}

/// Under the lease: reads the intent anew, looks again, and starts what is missing.
async fn recover(engine: &Engine, intent: &Intent, fence: &Fence) -> Found {
    let mut recovered = false;
    for step in recovery(engine, intent, fence) {
        let intent = match engine.intent(fence.application_id()).await {
            Ok(Some(intent)) if intent.serves() && !engine.stop.is_cancelled() => intent,
            Ok(_) => return Found::Fine,
            Err(error) => return Found::Failed(Chain(&error).to_string()),
        };
        let (action, cx) = (engine.actions.of(step), engine.context(&intent, fence));
        let settled: Result<(), StepError> = async {
            if let Observed::Needed(why) = caught(action.observe(&cx)).await? {
                tracing::info!(application = %intent.application_id, %step, why, "instance is not as it should be");
                caught(action.apply(&cx)).await?;
                recovered = true;
            }
            Ok(())
        }
        .await;
        if let Err(error) = settled {
            return Found::Failed(format!("{step}: {}", Chain(&error)));
        }
    }
    if recovered { Found::Recovered } else { Found::Fine }
}
