//! Each kind of operation takes its own steps and leaves the application as it was asked for.

use authsome_contract::model::{AppStatus, Step};
use authsome_contract::wire::job::JobKind;
use authsome_core::clock::{Clock, SystemClock};
use authsome_core::id::{ApplicationId, OperationId};
use authsome_db::operation::OperationStatus;
use authsome_provisioner::execution::Execution;
use time::ext::NumericalDuration;

use crate::engine::Control;
use crate::script::World;

/// An application whose intent of generation 2 has this status, and the operation that makes it so.
async fn asked(control: &Control, kind: JobKind, status: AppStatus, served: bool) -> (ApplicationId, OperationId) {
    let id = control.application(AppStatus::Active).await;
    sqlx::query(
        "UPDATE applications SET status = $2, generation = 2, deleted_at = CASE WHEN $2 = 'deleting' THEN now() END,
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
