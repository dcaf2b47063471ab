//! What should run and does not is started again, and nothing else is.

use std::sync::Arc;
use std::time::Duration;

use authsome_contract::model::{AppStatus, Step};
use authsome_provisioner::drift::Drift;
use authsome_testkit::wait_for;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::engine::{Control, REGION, Worker};
use crate::lease::take;
use crate::script::{Fault, World};

const SOON: Duration = Duration::from_secs(30);

struct Watched {
    soft: CancellationToken,
    task: JoinHandle<()>,
}

fn watch(worker: &Worker) -> Watched {
    let soft = CancellationToken::new();
    let drift = Drift {
        engine: Arc::clone(&worker.0),
        region: REGION.to_owned(),
        concurrency: 2,
        interval: Duration::from_millis(20),
    };
    Watched {
        task: tokio::spawn(drift.run(soft.clone())),
        soft,
    }
}

impl Watched {
    async fn stop(self) {
        self.soft.cancel();
        tokio::time::timeout(SOON, self.task).await.unwrap().unwrap();
    }
}

/// Waits until all applications were looked at a few times more.
async fn looked(world: &World) {
    let before = world.observed().len();
    wait_for("more looks", SOON, async || {
        (world.observed().len() > before + 12).then_some(())
    })
    .await
    .unwrap();
}

async fn runs(world: &World) {
    wait_for("the instance to run", SOON, async || {
        let missing: Vec<_> = [Step::Instance, Step::Rollout, Step::Activate]
            .into_iter()
            .filter(|step| !world.has(*step))
            .collect();
        if missing.is_empty() {
            Ok(())
        } else {
            Err(format!("{missing:?} missing"))
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn an_instance_that_is_lost_is_started_again_and_one_that_runs_is_left_alone() {
    let (control, world) = (Control::start().await, World::new());
    control.application(AppStatus::Active).await;
    let watched = watch(&control.worker(&world));
    runs(&world).await;
    looked(&world).await;
    assert_eq!(world.applied(), [Step::Instance, Step::Rollout, Step::Activate]);
    world.lose(Step::Instance);
    runs(&world).await;
    looked(&world).await;
    assert_eq!(world.applications(Step::Instance), 2);
    watched.stop().await;
    assert!(!world.overlapped());
}

#[tokio::test]
async fn only_what_serves_is_started() {
    let (control, world) = (Control::start().await, World::new());
    for status in [AppStatus::Provisioning, AppStatus::Suspended] {
        control.application(status).await;
    }
    // Failed before it ever served.
    let failed = control.application(AppStatus::Provisioning).await;
    sqlx::query("UPDATE applications SET status = 'failed' WHERE id = $1")
        .bind(failed)
        .execute(&control.pool)
        .await
        .unwrap();
    let elsewhere = control.application(AppStatus::Active).await;
    sqlx::query("UPDATE applications SET region = 'elsewhere' WHERE id = $1")
        .bind(elsewhere)
        .execute(&control.pool)
        .await
        .unwrap();
    let watched = watch(&control.worker(&world));
    // A marker: once it runs, everything before it was looked at, or was not.
    control.application(AppStatus::Restarting).await;
    runs(&world).await;
    watched.stop().await;
    assert_eq!(world.applications(Step::Instance), 1);
}

#[tokio::test]
async fn an_application_under_another_workers_lease_is_left_to_that_worker() {
    let (control, world) = (Control::start().await, World::new());
    let id = control.application(AppStatus::Updating).await;
    let lease = take(&control.pool, id, "another", Duration::from_mins(1))
        .await
        .unwrap();
    let watched = watch(&control.worker(&world));
    looked(&world).await;
    assert!(world.applied().is_empty());
    lease.release().await;
    runs(&world).await;
    watched.stop().await;
}

#[tokio::test]
async fn an_instance_that_does_not_come_back_is_tried_again() {
    let (control, world) = (Control::start().await, World::new());
    control.application(AppStatus::Active).await;
    world.fault(Step::Rollout, [Fault::Retry, Fault::Panic]);
    let watched = watch(&control.worker(&world));
    runs(&world).await;
    watched.stop().await;
    assert_eq!(
        (world.applications(Step::Instance), world.applications(Step::Rollout)),
        (1, 3)
    );
}
