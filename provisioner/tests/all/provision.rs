//! Operations converge, whatever happens on the way.

use std::sync::Arc;
use std::time::Duration;

use authsome_contract::model::{AppStatus, Step};
use authsome_contract::wire::job::JobKind;
use authsome_core::clock::{Clock, SystemClock};
use authsome_core::retry::Backoff;
use authsome_db::operation::OperationStatus;
use authsome_provisioner::execution::Execution;
use authsome_provisioner::reconcile::Reconciler;
use authsome_testkit::{ChaosProxy, Mode, shared_postgres, wait_for};
use sqlx::postgres::PgPoolOptions;
use time::ext::NumericalDuration;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::engine::{Control, REGION, Settings};
use crate::lease::run_out;
use crate::script::{Fault, World, skips};

#[tokio::test]
async fn an_application_that_is_wanted_becomes_active() {
    let (control, world) = (Control::start().await, World::new());
    let wanted = control.wanted().await;
    assert_eq!(control.worker(&world).execute(wanted.operation).await, Execution::Over);

    let operation = control.load(wanted.operation).await;
    assert_eq!((operation.status, operation.attempts), (OperationStatus::Succeeded, 1));
    assert!(operation.started_at.is_some() && operation.finished_at.is_some() && operation.reason.is_none());
    assert_eq!(world.applied(), Step::PROVISION);
    for row in control.steps(wanted.operation).await {
        assert_eq!(
            row.status,
            if skips(row.step) { "skipped" } else { "done" },
            "{}",
            row.step
        );
        assert!(row.attempts == 1 && row.started_at.is_some() && row.finished_at.is_some() && row.detail.is_some());
    }
    assert_eq!(control.column(wanted.application, "status").await.unwrap(), "active");
    assert_eq!(control.column(wanted.application, "status_deadline").await, None);
    assert_eq!(
        control.column(wanted.application, "observed_generation").await.unwrap(),
        "1"
    );
    assert!(control.column(wanted.application, "activated_at").await.is_some());
    let audited = [("application.provision".to_owned(), "success".to_owned())];
    assert_eq!(control.audit(wanted.application).await, audited);
}

#[tokio::test]
async fn a_step_that_fails_anywhere_is_made_up_for_by_the_next_attempt() {
    let control = Control::start().await;
    for &step in Step::PROVISION {
        for fault in [Fault::Retry, Fault::RetryAfterEffect, Fault::Panic] {
            if skips(step) && fault == Fault::RetryAfterEffect {
                continue;
            }
            let (world, wanted) = (World::new(), control.wanted().await);
            world.fault(step, [fault]);
            let worker = control.worker(&world);
            assert!(
                matches!(worker.execute(wanted.operation).await, Execution::Later(_)),
                "{step} {fault:?}"
            );
            let failed = control
                .steps(wanted.operation)
                .await
                .into_iter()
                .find(|row| row.step == step)
                .unwrap();
            assert_eq!(failed.status, "failed");
            assert!(
                !failed.detail.unwrap().contains("10.0.0.7"),
                "what happened inside is not for the customer"
            );

            worker.finish(wanted.operation).await;
            let operation = control.load(wanted.operation).await;
            assert_eq!(
                (operation.status, operation.attempts),
                (OperationStatus::Succeeded, 2),
                "{step} {fault:?}"
            );
            assert!(world.is_complete());
            assert_eq!(control.column(wanted.application, "status").await.unwrap(), "active");
            for &other in Step::PROVISION
                .iter()
                .filter(|other| **other != step && !skips(**other))
            {
                assert_eq!(
                    world.applications(other),
                    1,
                    "{other} was applied again after {step} failed"
                );
            }
        }
    }
}

#[tokio::test]
async fn a_worker_killed_anywhere_is_made_up_for_by_the_next_worker_and_burns_no_attempt() {
    let control = Control::start().await;
    for &step in Step::PROVISION {
        for fault in [Fault::Hang, Fault::HangAfterEffect] {
            if skips(step) && fault == Fault::HangAfterEffect {
                continue;
            }
            let (world, wanted) = (World::new(), control.wanted().await);
            world.fault(step, [fault]);
            let killed = control.worker(&world).spawn(wanted.operation);
            world.hanging.notified().await;
            killed.abort();
            assert!(killed.await.unwrap_err().is_cancelled());

            let second = control.worker(&world);
            assert!(
                matches!(second.execute(wanted.operation).await, Execution::Busy(_)),
                "its lease has not run out"
            );
            run_out(&control.pool, wanted.application).await;
            second.finish(wanted.operation).await;

            let operation = control.load(wanted.operation).await;
            assert_eq!(
                (operation.status, operation.attempts),
                (OperationStatus::Succeeded, 1),
                "{step} {fault:?}"
            );
            assert!(world.is_complete() && !world.overlapped());
            let again = usize::from(fault == Fault::Hang);
            assert_eq!(
                world.applications(step),
                1 + again,
                "what took effect is found, not made again"
            );
            for &other in Step::PROVISION
                .iter()
                .filter(|other| **other != step && !skips(**other))
            {
                assert_eq!(
                    world.applications(other),
                    1,
                    "{other} was applied again after a kill in {step}"
                );
            }
        }
    }
}

#[tokio::test]
async fn many_kills_leave_all_attempts_for_real_failures() {
    let (control, world) = (Control::start().await, World::new());
    let wanted = control.wanted().await;
    world.fault(Step::Redis, [Fault::Hang; 5]);
    for _ in 0..5 {
        let killed = control.worker(&world).spawn(wanted.operation);
        world.hanging.notified().await;
        killed.abort();
        let _ = killed.await;
        run_out(&control.pool, wanted.application).await;
    }
    world.fault(Step::Redis, [Fault::Retry; 2]);
    control.worker(&world).finish(wanted.operation).await;
    let operation = control.load(wanted.operation).await;
    assert_eq!((operation.status, operation.attempts), (OperationStatus::Succeeded, 3));
}

#[tokio::test]
async fn three_failures_fail_the_operation_with_a_reason_a_remediation_and_an_audit_event() {
    let (control, world) = (Control::start().await, World::new());
    let wanted = control.wanted().await;
    world.fault(Step::Database, [Fault::Retry; 9]);
    let worker = control.worker(&world);
    worker.finish(wanted.operation).await;

    let operation = control.load(wanted.operation).await;
    assert_eq!((operation.status, operation.attempts), (OperationStatus::Failed, 3));
    assert_eq!(operation.reason.as_deref(), Some("The database was not available."));
    assert!(operation.remediation.unwrap().contains("Try the operation again"));
    assert_eq!(world.applications(Step::Database), 3);
    assert_eq!(control.column(wanted.application, "status").await.unwrap(), "failed");
    assert_eq!(control.column(wanted.application, "activated_at").await, None);
    let reason = control.column(wanted.application, "failure_reason").await.unwrap();
    assert_eq!(reason, "The database was not available.");
    assert!(
        control
            .column(wanted.application, "failure_remediation")
            .await
            .is_some()
    );
    let log = control.column(wanted.application, "error_log").await.unwrap();
    assert_eq!(
        log.matches("connection refused by 10.0.0.7").count(),
        3,
        "operators read every attempt: {log}"
    );
    let audited = [("application.provision".to_owned(), "failure".to_owned())];
    assert_eq!(control.audit(wanted.application).await, audited);
    // A late message finds nothing to do.
    assert_eq!(worker.execute(wanted.operation).await, Execution::Over);
    assert_eq!(world.applications(Step::Database), 3);
}

#[tokio::test]
async fn what_cannot_work_fails_at_once() {
    let (control, world) = (Control::start().await, World::new());
    let wanted = control.wanted().await;
    world.fault(Step::Preflight, [Fault::Fatal]);
    assert_eq!(control.worker(&world).execute(wanted.operation).await, Execution::Over);
    let operation = control.load(wanted.operation).await;
    assert_eq!((operation.status, operation.attempts), (OperationStatus::Failed, 1));
    assert_eq!(operation.remediation.as_deref(), Some("Choose another region."));
    assert!(!operation.reason.unwrap().contains("permission denied"));
}

#[tokio::test]
async fn between_attempts_an_operation_waits() {
    let (control, world) = (Control::start().await, World::new());
    let wanted = control.wanted().await;
    world.fault(Step::Redis, [Fault::Retry]);
    let retry = Backoff {
        base: Duration::from_hours(1),
        factor: 1.0,
        max: Duration::from_hours(1),
    };
    let worker = control.worker_with(
        &world,
        Settings {
            retry,
            ..Settings::default()
        },
    );
    let Execution::Later(delay) = worker.execute(wanted.operation).await else {
        panic!("not later")
    };
    let Execution::Later(left) = worker.execute(wanted.operation).await else {
        panic!("not later")
    };
    assert!(left <= delay);
    assert_eq!(
        (
            world.applications(Step::Redis),
            control.load(wanted.operation).await.attempts
        ),
        (1, 1)
    );
}

#[tokio::test]
async fn of_many_workers_with_the_same_job_one_does_it_once() {
    let (control, world) = (Control::start().await, World::new());
    let wanted = control.wanted().await;
    let workers: Vec<_> = (0..8).map(|_| control.worker(&world)).collect();
    let all = futures::future::join_all(workers.iter().map(|worker| worker.execute(wanted.operation))).await;
    assert!(all.contains(&Execution::Over));
    control.until(wanted.operation, OperationStatus::Succeeded).await;
    assert_eq!((world.applied(), world.overlapped()), (Step::PROVISION.to_vec(), false));
}

#[tokio::test]
async fn a_worker_that_lost_its_lease_stops_in_the_middle_of_a_step_and_records_nothing() {
    let (control, world) = (Control::start().await, World::new());
    let wanted = control.wanted().await;
    world.fault(Step::Redis, [Fault::Hang]);
    let slow = control.worker_with(
        &world,
        Settings {
            lease_lifetime: Duration::from_secs(3),
            ..Settings::default()
        },
    );
    let execution = slow.spawn(wanted.operation);
    world.hanging.notified().await;
    run_out(&control.pool, wanted.application).await;
    // Its next renewal, within a second, is refused.
    assert_eq!(execution.await.unwrap(), Execution::Fenced);
    assert_eq!(slow.0.metrics.leases_lost(), 1);
    let redis = control
        .steps(wanted.operation)
        .await
        .into_iter()
        .find(|row| row.step == Step::Redis)
        .unwrap();
    assert_eq!(redis.status, "running");
    control.worker(&world).finish(wanted.operation).await;
    assert!(world.is_complete() && !world.overlapped());
}

#[tokio::test]
async fn a_worker_that_loses_postgres_stops_when_its_lease_ends_and_another_goes_on() {
    let (control, world) = (Control::start().await, World::new());
    let wanted = control.wanted().await;
    let proxy = ChaosProxy::start(shared_postgres().await.unwrap().address())
        .await
        .unwrap();
    let pool = PgPoolOptions::new()
        .acquire_timeout(Duration::from_secs(1))
        .connect(&proxy.in_place_of(&control.database.url))
        .await
        .unwrap();
    world.fault(Step::Redis, [Fault::HangAfterEffect]);
    let lease_lifetime = Duration::from_secs(3);
    let far = control.worker_with(
        &world,
        Settings {
            lease_lifetime,
            pool: Some(pool),
            ..Settings::default()
        },
    );
    let execution = far.spawn(wanted.operation);
    world.hanging.notified().await;
    proxy.set(Mode::Blackhole).await;
    assert_eq!(execution.await.unwrap(), Execution::Fenced);
    wait_for(
        "another worker to get the lease and finish",
        Duration::from_secs(20),
        async || {
            let near = control.worker(&world).execute(wanted.operation).await;
            if near == Execution::Over {
                Ok(())
            } else {
                Err(format!("{near:?}"))
            }
        },
    )
    .await
    .unwrap();
    let operation = control.load(wanted.operation).await;
    assert_eq!((operation.status, operation.attempts), (OperationStatus::Succeeded, 1));
    assert!(!world.overlapped() && world.applications(Step::Redis) == 1);
}

#[tokio::test]
async fn a_newer_intent_supersedes_an_operation_before_and_in_the_middle_of_it() {
    let (control, world) = (Control::start().await, World::new());
    let before = control.wanted().await;
    control.raise_generation(before.application).await;
    assert_eq!(control.worker(&world).execute(before.operation).await, Execution::Over);
    assert_eq!(control.load(before.operation).await.status, OperationStatus::Superseded);
    assert!(world.applied().is_empty() && world.observed().is_empty());

    let during = control.wanted().await;
    world.fault(Step::Redis, [Fault::Hang]);
    let execution = control.worker(&world).spawn(during.operation);
    world.hanging.notified().await;
    control.raise_generation(during.application).await;
    world.go_on.notify_one();
    assert_eq!(execution.await.unwrap(), Execution::Over);
    assert_eq!(control.load(during.operation).await.status, OperationStatus::Superseded);
    assert_eq!(world.applied().last(), Some(&Step::Redis));
    assert_eq!(
        control.column(during.application, "status").await.unwrap(),
        "provisioning"
    );
}

#[tokio::test]
async fn an_operation_on_an_application_that_was_deleted_is_superseded() {
    let (control, world) = (Control::start().await, World::new());
    let wanted = control.wanted().await;
    control.delete(wanted.application).await;
    assert_eq!(control.worker(&world).execute(wanted.operation).await, Execution::Over);
    assert_eq!(control.load(wanted.operation).await.status, OperationStatus::Superseded);
    assert!(world.applied().is_empty());
}

#[tokio::test]
async fn past_its_deadline_an_operation_fails_even_in_the_middle_of_a_step() {
    let (control, world) = (Control::start().await, World::new());
    for (status, hangs) in [(AppStatus::Provisioning, true), (AppStatus::Updating, false)] {
        let application = control.application(status).await;
        let deadline = SystemClock.now() + if hangs { 2.seconds() } else { (-1).seconds() };
        let operation = control.operation(application, JobKind::Provision, 1, deadline).await;
        world.fault(Step::Preflight, hangs.then_some(Fault::Hang));
        assert_eq!(control.worker(&world).execute(operation).await, Execution::Over);
        let operation = control.load(operation).await;
        assert_eq!(operation.status, OperationStatus::Failed);
        assert!(operation.reason.unwrap().contains("in the time"));
        assert_eq!(control.column(application, "status").await.unwrap(), "failed");
    }
}

#[tokio::test]
async fn what_was_lost_between_two_attempts_is_made_again() {
    let (control, world) = (Control::start().await, World::new());
    let wanted = control.wanted().await;
    world.fault(Step::Rollout, [Fault::Retry]);
    let worker = control.worker(&world);
    worker.execute(wanted.operation).await;
    world.lose(Step::Redis);
    worker.finish(wanted.operation).await;
    assert!(world.is_complete());
    assert_eq!(
        (world.applications(Step::Redis), world.applications(Step::Database)),
        (2, 1)
    );
}

#[tokio::test]
async fn a_worker_that_is_to_stop_finishes_its_step_and_leaves_the_rest_to_another() {
    let (control, world) = (Control::start().await, World::new());
    let wanted = control.wanted().await;
    world.fault(Step::Database, [Fault::Hang]);
    let stopping = control.worker(&world);
    let execution = stopping.spawn(wanted.operation);
    world.hanging.notified().await;
    stopping.0.stop.cancel();
    world.go_on.notify_one();
    assert_eq!(execution.await.unwrap(), Execution::Stopped);
    let steps = control.steps(wanted.operation).await;
    let status = |step: Step| steps.iter().find(|row| row.step == step).unwrap().status.clone();
    assert_eq!(
        (status(Step::Database), status(Step::Redis)),
        ("done".to_owned(), "pending".to_owned())
    );
    // The lease was given back: no waiting.
    assert_eq!(control.worker(&world).execute(wanted.operation).await, Execution::Over);
    let operation = control.load(wanted.operation).await;
    assert_eq!((operation.status, operation.attempts), (OperationStatus::Succeeded, 1));
    assert!(
        Step::PROVISION
            .iter()
            .all(|step| skips(*step) || world.applications(*step) == 1)
    );
}

#[tokio::test]
async fn the_reconciler_needs_no_messages() {
    let (control, world) = (Control::start().await, World::new());
    let (fresh, failing, killed) = (control.wanted().await, control.wanted().await, control.wanted().await);
    world.fault(Step::Preflight, [Fault::Hang]);
    let task = control.worker(&world).spawn(killed.operation);
    world.hanging.notified().await;
    task.abort();
    let _ = task.await;
    run_out(&control.pool, killed.application).await;
    world.fault(Step::Rollout, [Fault::Retry]);

    let soft = CancellationToken::new();
    let engine = control.worker(&world).0;
    let reconciler = Reconciler {
        engine: Arc::clone(&engine),
        region: REGION.to_owned(),
        permits: Arc::new(Semaphore::new(2)),
        tick: Duration::from_millis(50),
    };
    let running = tokio::spawn(reconciler.run(soft.clone()));
    for wanted in [fresh, failing, killed] {
        control.until(wanted.operation, OperationStatus::Succeeded).await;
    }
    soft.cancel();
    running.await.unwrap();

    // Another region's applications are not this reconciler's.
    let elsewhere = control.wanted().await;
    sqlx::query("UPDATE applications SET region = 'elsewhere' WHERE id = $1")
        .bind(elsewhere.application)
        .execute(&control.pool)
        .await
        .unwrap();
    let due = authsome_provisioner::db::ledger::due(&control.pool, REGION, 10)
        .await
        .unwrap();
    assert!(due.is_empty());
    wait_for("no lease to be left", Duration::from_secs(5), async || {
        let held: i64 =
            sqlx::query_scalar("SELECT count(*) FROM application_leases WHERE expires_at > clock_timestamp()")
                .fetch_one(&control.pool)
                .await
                .unwrap();
        if held == 0 {
            Ok(())
        } else {
            Err(format!("{held} leases"))
        }
    })
    .await
    .unwrap();
}
