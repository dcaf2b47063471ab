//! A look at one application, and its recovery: without a lease while there is nothing to do, under the lease otherwise.

use std::time::Duration;

use authsome_contract::model::Step;
use authsome_core::error::Chain;

use super::{LOOK, bounded};
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
/// What keeps an application that is stopped as it should be: closed and apart, with its own servers, and without an instance.
const KEEPING: [Step; 4] = [Step::Namespace, Step::Database, Step::Redis, Step::Instance];
/// How long starting an instance again may take.
const RECOVER: Duration = Duration::from_mins(3);
/// How often a recovery that lasts looks whether something else is wanted by now.
const GLANCE: Duration = Duration::from_secs(1);

/// What a look at one application came to.
#[derive(Debug)]
pub(super) enum Found {
    /// It is as it should be, or not ours to change right now.
    Fine,
    /// It was not, and is again.
    Recovered,
    /// It was not, and the intent became another before it was again.
    GaveWay,
    /// It was not, and still is not.
    Failed(String),
}

/// Looks at one application, and brings it back where it is not as it should be and nobody works on it.
pub(super) async fn look_at(engine: &Engine, intent: &Intent) -> Found {
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
        found = tokio::time::timeout(RECOVER, under_lease(engine, &fence)) => {
            found.unwrap_or_else(|_| Found::Failed(format!("not within {RECOVER:?}")))
        }
    };
    lease.release().await;
    found
}

/// The steps worth a look: servers of an application's own are watched, and those that many share are nobody's to repair.
fn recovery(engine: &Engine, intent: &Intent, fence: &Fence) -> impl Iterator<Item = Step> {
    let (facilities, site) = (&engine.facilities, Site::of(intent, fence));
    let steps: &[Step] = if intent.serves() { &RECOVERY } else { &KEEPING };
    steps.iter().copied().filter(move |step| match step {
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

/// Under the lease: reads anew what is wanted, and brings that back unless something else is wanted meanwhile. Steps may be left
/// at any moment.
async fn under_lease(engine: &Engine, fence: &Fence) -> Found {
    let begun = match engine.intent(fence.application_id()).await {
        Ok(Some(intent)) if intent.is_kept() => intent,
        Ok(_) => return Found::Fine,
        Err(error) => return Found::Failed(Chain(&error).to_string()),
    };
    tokio::select! {
        biased;
        () = overtaken(engine, &begun) => Found::GaveWay,
        found = recover(engine, &begun, fence) => found,
    }
}

/// Is what a recovery began with still wanted?
fn is_still_wanted(begun: &Intent, now: Option<&Intent>) -> bool {
    now.is_some_and(|now| now.is_kept() && (now.generation, now.status) == (begun.generation, begun.status))
}

/// Waits until something else is wanted. While Postgres cannot say, nothing else is known to be; the lease bounds that.
async fn overtaken(engine: &Engine, begun: &Intent) {
    loop {
        tokio::time::sleep(GLANCE).await;
        match bounded(engine.intent(begun.application_id)).await {
            Ok(now) if !is_still_wanted(begun, now.as_ref()) => return,
            Ok(_) => {}
            Err(error) => tracing::debug!(error = %Chain(&error), "cannot look whether something else is wanted"),
        }
    }
}

/// Looks again, and starts what is missing. The intent is read before every step, since what one step writes the next one
/// reads.
async fn recover(engine: &Engine, begun: &Intent, fence: &Fence) -> Found {
    let mut recovered = false;
    for step in recovery(engine, begun, fence) {
        let intent = match engine.intent(fence.application_id()).await {
            Ok(_) if engine.stop.is_cancelled() => return Found::Fine,
            Ok(Some(intent)) if is_still_wanted(begun, Some(&intent)) => intent,
            Ok(_) => return Found::GaveWay,
            Err(error) => return Found::Failed(Chain(&error).to_string()),
        };
        let (action, cx) = (engine.actions.of(step), engine.context(&intent, fence));
        let settled: Result<(), StepError> = async {
            if let Observed::Needed(why) = caught(action.observe(&cx)).await? {
                tracing::info!(application = %intent.application_id, %step, why, "application is not as it should be");
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
