//! What should run and does not is started again, and nothing else is.

use std::sync::Arc;
use std::time::Duration;

use authsome_contract::model::{AppStatus, Step};
use authsome_contract::wire::job::JobKind;
use authsome_core::clock::{Clock, SystemClock};
use authsome_core::id::{ApplicationId, OperationId};
use authsome_db::operation::OperationStatus;
use authsome_provisioner::drift::Drift;
use authsome_provisioner::execution::Execution;
use authsome_testkit::wait_for;
use time::ext::NumericalDuration;
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

/// To a region that is another provisioner's.
async fn move_away(control: &Control, id: ApplicationId) {
    sqlx::query("UPDATE applications SET region = 'elsewhere' WHERE id = $1")
        .bind(id)
        .execute(&control.pool)
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
    move_away(&control, control.application(AppStatus::Active).await).await;
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

/// Waits until a worker without a drift has carried out the operation, as the reconciler does: again and again until it gets
/// the lease.
async fn carried_out(worker: &Worker, id: OperationId) {
    wait_for("the operation to get the lease", Duration::from_secs(15), async || {
        let execution = worker.execute(id).await;
        if execution == Execution::Over {
            Ok(())
        } else {
            Err(format!("{execution:?}"))
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_recovery_that_waits_gives_way_to_the_operation_of_whoever_changes_the_application() {
    let control = Control::start().await;
    for (status, kind) in [
        (AppStatus::Updating, JobKind::Update),
        (AppStatus::Suspended, JobKind::Suspend),
        (AppStatus::Deleting, JobKind::Delete),
        (AppStatus::Purging, JobKind::Purge),
    ] {
        let world = World::new();
        let id = control.application(AppStatus::Active).await;
        // Instances that do not come up: far longer than anybody waits here.
        world.fault(Step::Rollout, [Fault::Hang]);
        let watched = watch(&control.worker(&world));
        world.hanging.notified().await;
        let change = "UPDATE applications
                      SET status = $2, generation = generation + 1, status_deadline = now() + interval '1 hour',
                          deleted_at = CASE WHEN $2 IN ('deleting', 'purging') THEN now() END
                      WHERE id = $1";
        sqlx::query(change)
            .bind(id)
            .bind(status.as_str())
            .execute(&control.pool)
            .await
            .unwrap();
        let deadline = SystemClock.now() + 10.minutes();
        let operation = control.operation(id, kind, 2, deadline).await;
        carried_out(&control.worker(&world), operation).await;
        assert_eq!(
            control.load(operation).await.status,
            OperationStatus::Succeeded,
            "{kind}"
        );
        watched.stop().await;
        assert!(!world.overlapped(), "{kind}");
        // Nobody looks at it in the world of the next.
        move_away(&control, id).await;
    }
}

#[tokio::test]
async fn a_recovery_goes_on_while_what_is_wanted_stays_the_same() {
    let (control, world) = (Control::start().await, World::new());
    control.application(AppStatus::Active).await;
    world.fault(Step::Rollout, [Fault::Hang]);
    let watched = watch(&control.worker(&world));
    world.hanging.notified().await;
    // Several looks at the intent later.
    tokio::time::timeout(Duration::from_secs(4), world.hanging.notified())
        .await
        .expect_err("it was left and begun anew");
    world.go_on.notify_one();
    runs(&world).await;
    watched.stop().await;
    assert_eq!(world.applications(Step::Rollout), 1);
}
