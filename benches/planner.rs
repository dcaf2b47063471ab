//! The provisioner's planner: deciding what an operation needs, over an application as it comes from the database.
#![expect(clippy::unwrap_used, reason = "a bench ends where it cannot be set up")]

use std::hint::black_box;
use std::time::Duration;

use authsome_benches::db;
use authsome_contract::model::{AppStatus, Step};
use authsome_contract::wire::job::JobKind;
use authsome_core::clock::{Clock, SystemClock};
use authsome_provisioner::db::intent;
use authsome_provisioner::plan::{Decision, Intent, StepStatus, decide};
use authsome_testkit::fresh_database;
use criterion::{Criterion, criterion_group, criterion_main};
use sqlx::{Connection, PgConnection};

async fn application() -> Intent {
    let database = fresh_database(&authsome_db::MIGRATOR).await.unwrap();
    let mut connection = PgConnection::connect_with(&database.options).await.unwrap();
    let id = db::application(&mut connection).await;
    let mut intent = intent::load(&mut connection, id).await.unwrap().unwrap();
    intent.status = AppStatus::Updating;
    intent.desired = Intent::desired(intent.status, true);
    intent
}

fn planner(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let intent = runtime.block_on(application());
    let now = SystemClock.now();
    let deadline = now + Duration::from_mins(10);
    let half_done: Vec<(Step, StepStatus)> = Step::PROVISION
        .iter()
        .enumerate()
        .map(|(n, step)| {
            let status = if n < Step::PROVISION.len() / 2 {
                StepStatus::Done
            } else {
                StepStatus::Pending
            };
            (*step, status)
        })
        .collect();
    let plan = |ledger: &[(Step, StepStatus)]| {
        decide(
            black_box(&intent),
            JobKind::Provision,
            intent.generation,
            ledger,
            deadline,
            now,
        )
    };
    assert!(matches!(plan(&half_done), Decision::Run(_)));
    let mut group = c.benchmark_group("planner");
    group.bench_function("a new operation", |b| b.iter(|| plan(black_box(&[]))));
    group.bench_function("an operation that was interrupted", |b| {
        b.iter(|| plan(black_box(&half_done)));
    });
    group.finish();
}

criterion_group!(benches, planner);
criterion_main!(benches);
