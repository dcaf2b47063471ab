//! Each kind of operation takes its own steps and leaves the application as it was asked for.

use std::sync::Arc;
use std::time::Duration;

use authsome_contract::model::{AppStatus, Step};
use authsome_contract::wire::job::JobKind;
use authsome_core::clock::{Clock, SystemClock};
use authsome_core::id::{ApplicationId, OperationId};
use authsome_db::operation::OperationStatus;
use authsome_provisioner::execution::Execution;
use authsome_provisioner::reconcile::Reconciler;
use time::ext::NumericalDuration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::engine::{Control, REGION};
use crate::script::{Fault, World};

/// An application whose intent of generation 2 has this status, and the operation that makes it so.
async fn asked(control: &Control, kind: JobKind, status: AppStatus, served: bool) -> (ApplicationId, OperationId) {
    let id = control.application(AppStatus::Active).await;
    sqlx::query(
        "UPDATE applications SET status = $2, generation = 2, deleted_at = CASE WHEN $2 IN ('deleting', 'purging') THEN now() END,
                activated_at = CASE WHEN $3 THEN activated_at END
         WHERE id = $1",
    )
    .bind(id)
    .bind(status.as_str())
    .bind(served)
    .execute(&control.pool)
    .await
    .unwrap();
    let deadline = SystemClock.now() + 10.minutes();
    (id, control.operation(id, kind, 2, deadline).await)
}

#[tokio::test]
async fn each_kind_takes_its_steps_and_leaves_the_status_that_was_asked_for() {
    let control = Control::start().await;
    for (kind, from, to) in [
        (JobKind::Update, AppStatus::Updating, "active"),
        (JobKind::Restart, AppStatus::Restarting, "active"),
        (JobKind::Resume, AppStatus::Updating, "active"),
        (JobKind::Undelete, AppStatus::Updating, "active"),
        (JobKind::Suspend, AppStatus::Suspended, "suspended"),
        (JobKind::Delete, AppStatus::Deleting, "deleting"),
    ] {
        let world = World::new();
        let (id, operation) = asked(&control, kind, from, true).await;
        assert_eq!(
            control.worker(&world).execute(operation).await,
            Execution::Over,
            "{kind}"
        );
        assert_eq!(
            control.load(operation).await.status,
            OperationStatus::Succeeded,
            "{kind}"
        );
        assert_eq!(control.column(id, "status").await.unwrap(), to, "{kind}");
        assert_eq!(control.column(id, "observed_generation").await.unwrap(), "2", "{kind}");
        assert_eq!(world.applied(), Step::of(kind), "{kind}");
    }
}

#[tokio::test]
async fn stopping_what_never_served_does_not_make_it_one_that_did() {
    let control = Control::start().await;
    for (kind, status) in [
        (JobKind::Suspend, AppStatus::Suspended),
        (JobKind::Delete, AppStatus::Deleting),
    ] {
        let (id, operation) = asked(&control, kind, status, false).await;
        control.worker(&World::new()).execute(operation).await;
        assert_eq!(
            control.load(operation).await.status,
            OperationStatus::Succeeded,
            "{kind}"
        );
        assert_eq!(control.column(id, "activated_at").await, None, "{kind}");
    }
}

#[tokio::test]
async fn a_stop_that_was_taken_back_is_superseded() {
    let control = Control::start().await;
    let world = World::new();
    let (id, operation) = asked(&control, JobKind::Suspend, AppStatus::Suspended, true).await;
    sqlx::query("UPDATE applications SET status = 'updating', generation = 3 WHERE id = $1")
        .bind(id)
        .execute(&control.pool)
        .await
        .unwrap();
    assert_eq!(control.worker(&world).execute(operation).await, Execution::Over);
    assert_eq!(control.load(operation).await.status, OperationStatus::Superseded);
    assert!(world.applied().is_empty());
}

#[tokio::test]
async fn what_takes_something_away_is_tried_until_it_is_done_even_past_its_deadline() {
    let control = Control::start().await;
    for (kind, status, step, to) in [
        (JobKind::Suspend, AppStatus::Suspended, Step::Instance, "suspended"),
        (JobKind::Delete, AppStatus::Deleting, Step::Instance, "deleting"),
        (JobKind::Purge, AppStatus::Purging, Step::Database, "deleted"),
    ] {
        let world = World::new();
        let (id, operation) = asked(&control, kind, status, true).await;
        world.fault(step, [Fault::Retry, Fault::Fatal].repeat(4));
        let worker = control.worker(&world);
        for number in 1..=8 {
            if number == 5 {
                sqlx::query("UPDATE operations SET deadline_at = now() - interval '1 minute' WHERE id = $1")
                    .bind(operation)
                    .execute(&control.pool)
                    .await
                    .unwrap();
            }
            let execution = worker.execute(operation).await;
            assert!(
                matches!(execution, Execution::Later(_)),
                "{kind} {number}: {execution:?}"
            );
            let tried = control.load(operation).await;
            assert_eq!(
                (tried.status, tried.attempts),
                (OperationStatus::Queued, number),
                "{kind}"
            );
            let why = if number % 2 == 1 {
                "was not available"
            } else {
                "cannot be made"
            };
            assert!(tried.reason.unwrap().contains(why), "it says why it has not ended");
        }
        // Nobody but the reconciler takes it up.
        let reconciler = Reconciler {
            engine: Arc::clone(&worker.0),
            region: REGION.to_owned(),
            permits: Arc::new(Semaphore::new(1)),
            tick: Duration::from_secs(1),
        };
        let mut executions = JoinSet::new();
        reconciler.look(&mut executions).await;
        executions.join_all().await;
        let ended = control.load(operation).await;
        assert_eq!(
            (ended.status, ended.reason),
            (OperationStatus::Succeeded, None),
            "{kind}"
        );
        assert_eq!(control.column(id, "status").await.unwrap(), to);
    }
}

#[tokio::test]
async fn past_its_deadline_what_takes_something_away_still_waits_between_attempts() {
    let control = Control::start().await;
    let world = World::new();
    let (_, operation) = asked(&control, JobKind::Purge, AppStatus::Purging, true).await;
    sqlx::query(
        "UPDATE operations SET deadline_at = now() - interval '1 minute', next_attempt_at = now() + interval '1 hour'
         WHERE id = $1",
    )
    .bind(operation)
    .execute(&control.pool)
    .await
    .unwrap();
    let worker = control.worker(&world);
    let due = authsome_provisioner::db::ledger::due(&control.pool, REGION, 10)
        .await
        .unwrap();
    assert!(due.is_empty(), "{due:?}");
    assert!(matches!(worker.execute(operation).await, Execution::Later(_)));
}
