//! One worker at a time, and a worker that lost its lease knows.

use std::sync::Arc;
use std::time::Duration;

use authsome_contract::model::AppStatus;
use authsome_core::id::ApplicationId;
use authsome_provisioner::lease::{CallError, Fenced, Lease, Taken};
use authsome_testkit::{ChaosProxy, Mode, shared_postgres, wait_for};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;

use crate::engine::Control;

const LONG: Duration = Duration::from_mins(1);

pub async fn take(pool: &PgPool, id: ApplicationId, holder: &str, lifetime: Duration) -> Option<Lease> {
    match Lease::take(pool, id, &Arc::from(holder), lifetime).await.unwrap() {
        Taken::Lease(lease) => Some(lease),
        Taken::Busy(remaining) => {
            assert!(remaining <= lifetime.max(LONG));
            None
        }
    }
}

/// Lets the time of an application's lease be over.
pub async fn run_out(pool: &PgPool, id: ApplicationId) {
    let ended =
        sqlx::query("UPDATE application_leases SET expires_at = now() - interval '1 second' WHERE application_id = $1")
            .bind(id)
            .execute(pool)
            .await
            .unwrap();
    assert_eq!(ended.rows_affected(), 1);
}

/// Seconds that an application's lease has left.
async fn left(pool: &PgPool, id: ApplicationId) -> f64 {
    sqlx::query_scalar(
        "SELECT extract(epoch FROM expires_at - clock_timestamp())::float8 FROM application_leases WHERE application_id = $1",
    )
    .bind(id)
    .fetch_one(pool)
    .await
    .unwrap()
}

#[tokio::test]
async fn of_many_workers_that_ask_at_once_one_gets_the_lease() {
    let control = Control::start().await;
    let id = control.application(AppStatus::Provisioning).await;
    let names: Vec<String> = (0..12).map(|number| format!("worker-{number}")).collect();
    let asking = names.iter().map(|name| take(&control.pool, id, name, LONG));
    let got = futures::future::join_all(asking).await;
    assert_eq!(got.iter().flatten().count(), 1);
}

#[tokio::test]
async fn epochs_grow_with_every_taking_and_a_lease_given_back_is_free_at_once() {
    let control = Control::start().await;
    let id = control.application(AppStatus::Provisioning).await;
    let first = take(&control.pool, id, "a", LONG).await.unwrap();
    assert_eq!(first.fence().epoch(), 1);
    assert!(
        take(&control.pool, id, "a", LONG).await.is_none(),
        "not even its holder takes a lease twice"
    );
    first.release().await;
    let second = take(&control.pool, id, "b", LONG).await.unwrap();
    assert_eq!(second.fence().epoch(), 2);
    drop(second);
    assert!(
        take(&control.pool, id, "c", LONG).await.is_none(),
        "a killed worker's lease lasts until it runs out"
    );
    run_out(&control.pool, id).await;
    assert_eq!(take(&control.pool, id, "c", LONG).await.unwrap().fence().epoch(), 3);
}

#[tokio::test]
async fn a_held_lease_outlives_its_lifetime() {
    let control = Control::start().await;
    let id = control.application(AppStatus::Provisioning).await;
    let lifetime = Duration::from_secs(2);
    let lease = take(&control.pool, id, "a", lifetime).await.unwrap();
    let begun = tokio::time::Instant::now();
    wait_for(
        "the lease to be held for twice its lifetime",
        Duration::from_secs(20),
        async || {
            assert!(left(&control.pool, id).await > 0.0, "it ran out");
            assert!(lease.fence().check(Duration::ZERO).is_ok());
            (begun.elapsed() > lifetime * 2).then_some(())
        },
    )
    .await
    .unwrap();
}

#[tokio::test]
async fn a_worker_whose_lease_was_taken_over_is_told_and_makes_no_more_calls() {
    let control = Control::start().await;
    let id = control.application(AppStatus::Provisioning).await;
    let first = take(&control.pool, id, "a", Duration::from_secs(3)).await.unwrap();
    let fence = first.fence().clone();
    let call = tokio::spawn(async move { fence.call(Duration::from_secs(2), std::future::pending::<()>()).await });
    run_out(&control.pool, id).await;
    let second = take(&control.pool, id, "b", LONG).await.unwrap();
    assert_eq!(second.fence().epoch(), 2);
    // Its next renewal finds out, after a second.
    tokio::time::timeout(Duration::from_secs(10), first.fence().lost())
        .await
        .unwrap();
    assert_eq!(first.fence().check(Duration::ZERO), Err(Fenced));
    assert_eq!(call.await.unwrap(), Err(CallError::Fenced(Fenced)));
    first.release().await;
    assert!(
        left(&control.pool, id).await > 30.0,
        "giving back a lost lease leaves the new one alone"
    );
}

#[tokio::test]
async fn without_postgres_a_lease_closes_before_it_ends_in_the_database() {
    let control = Control::start().await;
    let id = control.application(AppStatus::Provisioning).await;
    let server = shared_postgres().await.unwrap();
    let proxy = ChaosProxy::start(server.address()).await.unwrap();
    let far = PgPoolOptions::new()
        .acquire_timeout(Duration::from_secs(1))
        .connect(&proxy.in_place_of(&control.database.url))
        .await
        .unwrap();
    let lease = take(&far, id, "a", Duration::from_secs(3)).await.unwrap();
    proxy.set(Mode::Blackhole).await;
    tokio::time::timeout(Duration::from_secs(10), lease.fence().lost())
        .await
        .unwrap();
    assert_eq!(lease.fence().remaining(), Duration::ZERO);
    // What was seen here first is then true there: nobody has to wait longer than the lease lasts.
    wait_for("another worker to get the lease", Duration::from_secs(5), async || {
        take(&control.pool, id, "b", LONG).await
    })
    .await
    .unwrap();
}
