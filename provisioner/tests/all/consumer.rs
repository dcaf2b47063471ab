//! Jobs through a real NATS server, and without one.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::{self, consumer::PullConsumer};
use authsome_contract::model::Step;
use authsome_contract::wire::names;
use authsome_core::secret::SecretUrl;
use authsome_db::operation::OperationStatus;
use authsome_provisioner::consumer::Consumer;
use authsome_provisioner::metrics::JobOutcome;
use authsome_provisioner::reconcile::Reconciler;
use authsome_testkit::{NatsOptions, NatsServer, wait_for};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::engine::{Control, REGION, Settings, Wanted, Worker};
use crate::lease::run_out;
use crate::script::{Fault, World};

const PATIENCE: Duration = Duration::from_secs(40);

/// A consumer that runs until it is dropped, as if killed.
struct Running {
    soft: CancellationToken,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn consume(worker: &Worker, nats: &NatsServer) -> Running {
    let soft = CancellationToken::new();
    let consumer = Consumer {
        engine: Arc::clone(&worker.0),
        region: REGION.to_owned(),
        nats: SecretUrl::parse(&nats.url()).unwrap(),
        permits: Arc::new(Semaphore::new(2)),
    };
    let task = tokio::spawn(consumer.run(soft.clone()));
    Running { soft, task }
}

pub async fn jetstream(nats: &NatsServer) -> jetstream::Context {
    jetstream::new(nats.connect().await.unwrap())
}

/// Publishes once the stream is there, as the relay does.
async fn publish(jetstream: &jetstream::Context, subject: String, payload: Vec<u8>) {
    wait_for("the message to be stored", PATIENCE, async || {
        let stored = jetstream
            .publish(subject.clone(), payload.clone().into())
            .await
            .map_err(|e| e.to_string())?;
        stored.await.map_err(|error| error.to_string())
    })
    .await
    .unwrap();
}

pub async fn publish_job(jetstream: &jetstream::Context, wanted: Wanted) {
    let job = wanted.job();
    publish(jetstream, job.subject(), serde_json::to_vec(&job).unwrap()).await;
}

/// Waits until no message is stored any more: each was acknowledged.
async fn drained(jetstream: &jetstream::Context) {
    wait_for("every job to be acknowledged", PATIENCE, async || {
        let stream = jetstream
            .get_stream(names::JOBS_STREAM)
            .await
            .map_err(|error| error.to_string())?;
        let stored = stream
            .get_info()
            .await
            .map_err(|error| error.to_string())?
            .state
            .messages;
        if stored == 0 {
            Ok(())
        } else {
            Err(format!("{stored} stored"))
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_job_is_carried_out_and_acknowledged() {
    let (control, world) = (Control::start().await, World::new());
    let nats = NatsServer::start(NatsOptions::default()).await.unwrap();
    let (wanted, worker) = (control.wanted().await, control.worker(&world));
    let running = consume(&worker, &nats);
    let jetstream = jetstream(&nats).await;
    publish_job(&jetstream, wanted).await;
    control.until(wanted.operation, OperationStatus::Succeeded).await;
    drained(&jetstream).await;
    assert_eq!(worker.0.metrics.jobs(JobOutcome::Done), 1);
    running.soft.cancel();
    let consumer: PullConsumer = jetstream
        .get_consumer_from_stream(names::jobs_consumer(REGION), names::JOBS_STREAM)
        .await
        .unwrap();
    let config = &consumer.cached_info().config;
    assert_eq!((config.ack_wait, config.max_deliver), (Duration::from_secs(30), -1));
    assert_eq!(config.filter_subject, names::jobs_of_region(REGION));
}

#[tokio::test]
async fn duplicates_and_jobs_of_unknown_operations_are_acknowledged_and_change_nothing() {
    let (control, world) = (Control::start().await, World::new());
    let nats = NatsServer::start(NatsOptions::default()).await.unwrap();
    let (wanted, unknown) = (control.wanted().await, control.wanted().await);
    sqlx::query("DELETE FROM operations WHERE id = $1")
        .bind(unknown.operation)
        .execute(&control.pool)
        .await
        .unwrap();
    let workers = [control.worker(&world), control.worker(&world)];
    let _running = workers.each_ref().map(|worker| consume(worker, &nats));
    let jetstream = jetstream(&nats).await;
    for _ in 0..6 {
        publish_job(&jetstream, wanted).await;
    }
    publish_job(&jetstream, unknown).await;
    drained(&jetstream).await;
    assert_eq!((world.applied(), world.overlapped()), (Step::PROVISION.to_vec(), false));
    assert_eq!(control.load(wanted.operation).await.attempts, 1);
}

#[tokio::test]
async fn a_message_that_is_no_job_is_counted_and_dropped_and_the_next_one_is_taken() {
    let (control, world) = (Control::start().await, World::new());
    let nats = NatsServer::start(NatsOptions::default()).await.unwrap();
    let (wanted, worker) = (control.wanted().await, control.worker(&world));
    let _running = consume(&worker, &nats);
    let jetstream = jetstream(&nats).await;
    for nonsense in ["", "{", r#"{"operationId":"app_x"}"#] {
        publish(&jetstream, names::job("provision", REGION), nonsense.into()).await;
    }
    publish_job(&jetstream, wanted).await;
    control.until(wanted.operation, OperationStatus::Succeeded).await;
    drained(&jetstream).await;
    assert_eq!(worker.0.metrics.jobs(JobOutcome::Undecodable), 3);
}

#[tokio::test]
async fn a_job_whose_step_fails_comes_back_until_it_is_done() {
    let (control, world) = (Control::start().await, World::new());
    let nats = NatsServer::start(NatsOptions::default()).await.unwrap();
    let (wanted, worker) = (control.wanted().await, control.worker(&world));
    world.fault(Step::Redis, [Fault::Retry, Fault::Panic]);
    let _running = consume(&worker, &nats);
    let jetstream = jetstream(&nats).await;
    publish_job(&jetstream, wanted).await;
    control.until(wanted.operation, OperationStatus::Succeeded).await;
    drained(&jetstream).await;
    assert_eq!(worker.0.metrics.jobs(JobOutcome::Returned), 2);
}

#[tokio::test]
async fn jobs_flow_again_after_nats_was_killed_and_after_its_stream_was_lost() {
    let (control, world) = (Control::start().await, World::new());
    let mut nats = NatsServer::start(NatsOptions::default()).await.unwrap();
    let worker = control.worker(&world);
    let _running = consume(&worker, &nats);
    let first = control.wanted().await;
    publish_job(&jetstream(&nats).await, first).await;
    control.until(first.operation, OperationStatus::Succeeded).await;

    nats.kill().await.unwrap();
    nats.restart().await.unwrap();
    let context = jetstream(&nats).await;
    let second = control.wanted().await;
    publish_job(&context, second).await;
    control.until(second.operation, OperationStatus::Succeeded).await;

    context.delete_stream(names::JOBS_STREAM).await.unwrap();
    let third = control.wanted().await;
    publish_job(&context, third).await;
    control.until(third.operation, OperationStatus::Succeeded).await;
}

#[tokio::test]
async fn jobs_flow_again_after_nats_was_frozen_for_longer_than_a_pull_may_take() {
    let (control, world) = (Control::start().await, World::new());
    let nats = NatsServer::start(NatsOptions::default()).await.unwrap();
    let worker = control.worker(&world);
    let _running = consume(&worker, &nats);
    let context = jetstream(&nats).await;
    let first = control.wanted().await;
    publish_job(&context, first).await;
    control.until(first.operation, OperationStatus::Succeeded).await;

    nats.pause().unwrap();
    wait_for("the consumer to notice that nothing is heard", PATIENCE, async || {
        (worker.0.metrics.errors("consumer") > 0).then_some(())
    })
    .await
    .unwrap();
    nats.resume().unwrap();
    let second = control.wanted().await;
    publish_job(&jetstream(&nats).await, second).await;
    control.until(second.operation, OperationStatus::Succeeded).await;
}

#[tokio::test]
async fn without_nats_the_reconciler_does_the_work() {
    let (control, world) = (Control::start().await, World::new());
    let mut nats = NatsServer::start(NatsOptions::default()).await.unwrap();
    nats.kill().await.unwrap();
    let (wanted, worker) = (control.wanted().await, control.worker(&world));
    let running = consume(&worker, &nats);
    let reconciler = Reconciler {
        engine: Arc::clone(&worker.0),
        region: REGION.to_owned(),
        permits: Arc::new(Semaphore::new(1)),
        tick: Duration::from_millis(100),
    };
    let reconciling = tokio::spawn(reconciler.run(running.soft.clone()));
    control.until(wanted.operation, OperationStatus::Succeeded).await;
    running.soft.cancel();
    reconciling.await.unwrap();
}

#[tokio::test]
async fn the_job_of_a_killed_worker_is_finished_by_another() {
    let (control, world) = (Control::start().await, World::new());
    let nats = NatsServer::start(NatsOptions::default()).await.unwrap();
    let wanted = control.wanted().await;
    world.fault(Step::Instance, [Fault::HangAfterEffect]);
    let killed = consume(&control.worker(&world), &nats);
    publish_job(&jetstream(&nats).await, wanted).await;
    world.hanging.notified().await;
    drop(killed);
    run_out(&control.pool, wanted.application).await;

    let settings = Settings::default();
    let second = control.worker_with(&world, settings);
    let _running = consume(&second, &nats);
    // The server delivers again once the killed worker has been silent for the acknowledgement wait of 30 seconds.
    wait_for(
        "the second worker to finish the job",
        Duration::from_mins(1),
        async || {
            let status = control.load(wanted.operation).await.status;
            if status == OperationStatus::Succeeded {
                Ok(())
            } else {
                Err(status.as_str())
            }
        },
    )
    .await
    .unwrap();
    assert!(world.is_complete() && !world.overlapped());
    assert_eq!(
        world.applications(Step::Instance),
        1,
        "what took effect is found, not made again"
    );
}

#[tokio::test]
async fn a_graceful_stop_ends_after_the_present_step_and_returns_the_job_at_once() {
    let (control, world) = (Control::start().await, World::new());
    let nats = NatsServer::start(NatsOptions::default()).await.unwrap();
    let wanted = control.wanted().await;
    world.fault(Step::Database, [Fault::Hang]);
    let first = control.worker(&world);
    let mut running = consume(&first, &nats);
    publish_job(&jetstream(&nats).await, wanted).await;
    world.hanging.notified().await;
    first.0.stop.cancel();
    running.soft.cancel();
    world.go_on.notify_one();
    tokio::time::timeout(PATIENCE, &mut running.task)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(first.0.metrics.jobs(JobOutcome::Returned), 1);
    assert_eq!(world.applied().last(), Some(&Step::Database));

    let second = control.worker(&world);
    let _running = consume(&second, &nats);
    control.until(wanted.operation, OperationStatus::Succeeded).await;
    assert_eq!(control.load(wanted.operation).await.attempts, 1);
}
