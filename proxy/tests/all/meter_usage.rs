//! Usage counters on their way to the aggregator and back, over a real JetStream.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream;
use authsome_contract::wire::{UsageConfirmation, UsageCounter, UsageReport, names};
use authsome_core::clock::{Clock, ManualClock};
use authsome_core::entropy::SystemEntropy;
use authsome_core::id::ApplicationId;
use authsome_proxy::meter::{Meter, MeterMetrics, MeterSettings, Publisher, Tally};
use authsome_testkit::{NatsOptions, NatsServer, wait_for};
use futures::StreamExt;
use prometheus::Registry;
use tokio::sync::watch;

use crate::routing_fixture::{SOON, connect};

/// Longer than an hour takes to settle.
const ROUNDS: Duration = Duration::from_secs(30);
const ONE: Tally = Tally {
    requests: 1,
    errors: 1,
    bytes_in: 10,
    bytes_out: 20,
};

pub(crate) fn open(directory: &Path, clock: &ManualClock) -> (Meter, Publisher) {
    open_counted(directory, clock, &Registry::new())
}

fn open_counted(directory: &Path, clock: &ManualClock, registry: &Registry) -> (Meter, Publisher) {
    Meter::open(
        MeterSettings {
            directory: directory.to_owned(),
            capacity: 256,
        },
        Arc::new(clock.clone()),
        Arc::new(SystemEntropy::new()),
        MeterMetrics::register(registry).unwrap(),
    )
}

/// What the aggregator does: keeps the greatest values and says so.
pub(crate) struct Aggregator {
    client: async_nats::Client,
    messages: jetstream::consumer::pull::Stream,
    pub(crate) greatest: HashMap<(uuid::Uuid, ApplicationId, u32), UsageCounter>,
}

impl Aggregator {
    pub(crate) async fn start(server: &NatsServer) -> Self {
        let client = connect(server).await;
        let context = jetstream::new(client.clone());
        let config = jetstream::stream::Config {
            name: names::USAGE_STREAM.to_owned(),
            subjects: vec![names::USAGE_SUBJECTS.to_owned()],
            retention: jetstream::stream::RetentionPolicy::WorkQueue,
            ..Default::default()
        };
        let stream = context.get_or_create_stream(config).await.unwrap();
        let config = jetstream::consumer::pull::Config {
            durable_name: Some(names::USAGE_CONSUMER.to_owned()),
            ..Default::default()
        };
        let consumer = stream
            .get_or_create_consumer(names::USAGE_CONSUMER, config)
            .await
            .unwrap();
        let messages = consumer.messages().await.unwrap();
        Self {
            client,
            messages,
            greatest: HashMap::new(),
        }
    }

    /// The next report, taken into account and confirmed.
    pub(crate) async fn next(&mut self) -> UsageReport {
        let message = tokio::time::timeout(ROUNDS, self.messages.next())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        let report: UsageReport = serde_json::from_slice(&message.payload).unwrap();
        for counter in &report.counters {
            let name = (report.writer, counter.application_id, counter.hour);
            let greatest = self.greatest.entry(name).or_insert(*counter);
            if counter.requests >= greatest.requests {
                *greatest = *counter;
            }
        }
        message.ack().await.unwrap();
        let confirmation = serde_json::to_vec(&UsageConfirmation {
            counters: report.counters.clone(),
        })
        .unwrap();
        self.client
            .publish(names::usage_confirmed(report.writer), confirmation.into())
            .await
            .unwrap();
        self.client.flush().await.unwrap();
        report
    }

    pub(crate) fn requests(&self) -> u64 {
        self.greatest.values().map(|counter| counter.requests).sum()
    }

    pub(crate) async fn until(&mut self, requests: u64) {
        while self.requests() < requests {
            self.next().await;
        }
        assert_eq!(self.requests(), requests);
    }
}

fn failed_reports(registry: &Registry) -> u64 {
    let text = prometheus::TextEncoder::new()
        .encode_to_string(&registry.gather())
        .unwrap();
    let series = "authsome_edge_meter_reports_total{outcome=\"failed\"} ";
    text.lines()
        .find_map(|line| line.strip_prefix(series)?.parse().ok())
        .unwrap()
}

pub(crate) fn some_app() -> ApplicationId {
    ApplicationId::generate(&ManualClock::default(), &SystemEntropy::new())
}

#[tokio::test]
async fn what_is_counted_is_told_and_told_again_as_it_grows() {
    let directory = tempfile::tempdir().unwrap();
    let server = NatsServer::start(NatsOptions::default()).await.unwrap();
    let mut aggregator = Aggregator::start(&server).await;
    let clock = ManualClock::default();
    let (meter, publisher) = open(directory.path(), &clock);
    let (stop, stopped) = watch::channel(false);
    let task = tokio::spawn(publisher.run(connect(&server).await, stopped));
    let slot = meter.slot(some_app());
    slot.count(clock.unix_millis(), ONE);
    aggregator.until(1).await;
    (0..99).for_each(|_| slot.count(clock.unix_millis(), ONE));
    aggregator.until(100).await;
    let counter = *aggregator.greatest.values().next().unwrap();
    assert_eq!((counter.errors, counter.bytes_in, counter.bytes_out), (100, 1000, 2000));
    assert!(!counter.is_final);
    // The last word is told at the end, without waiting for a round.
    slot.count(clock.unix_millis(), ONE);
    stop.send_replace(true);
    tokio::time::timeout(SOON, task).await.unwrap().unwrap();
    aggregator.until(101).await;
}

#[tokio::test]
async fn counting_goes_on_without_nats_and_without_the_stream_and_all_of_it_arrives() {
    let directory = tempfile::tempdir().unwrap();
    let mut server = NatsServer::start(NatsOptions::default()).await.unwrap();
    let clock = ManualClock::default();
    let registry = Registry::new();
    let (meter, publisher) = open_counted(directory.path(), &clock, &registry);
    let client = connect(&server).await;
    server.kill().await.unwrap();
    let (stop, stopped) = watch::channel(false);
    let task = tokio::spawn(publisher.run(client, stopped));
    let slots: Vec<_> = (0..50).map(|_| meter.slot(some_app())).collect();
    for slot in &slots {
        slot.count(clock.unix_millis(), ONE);
    }
    wait_for("a report that could not be sent", SOON, async || {
        (failed_reports(&registry) > 0).then_some(())
    })
    .await
    .unwrap();
    server.restart().await.unwrap();
    for slot in &slots {
        slot.count(clock.unix_millis(), ONE);
    }
    let mut aggregator = Aggregator::start(&server).await;
    aggregator.until(100).await;
    stop.send_replace(true);
    tokio::time::timeout(SOON, task).await.unwrap().unwrap();
}

#[tokio::test]
async fn an_hour_that_is_over_becomes_final_is_confirmed_and_its_counter_freed() {
    let directory = tempfile::tempdir().unwrap();
    let server = NatsServer::start(NatsOptions::default()).await.unwrap();
    let mut aggregator = Aggregator::start(&server).await;
    let clock = ManualClock::default();
    let (meter, publisher) = open(directory.path(), &clock);
    let (_stop, stopped) = watch::channel(false);
    let _task = tokio::spawn(publisher.run(connect(&server).await, stopped));
    meter.slot(some_app()).count(clock.unix_millis(), ONE);
    aggregator.until(1).await;
    clock.advance(Duration::from_secs(3600 + 10));
    let long = Duration::from_mins(1);
    // Ten rounds to settle, ten more before the counter may go to another.
    tokio::time::timeout(long, async {
        while !aggregator.next().await.counters[0].is_final {}
        while format!("{meter:?}").contains("counters: 1") {
            let _ = tokio::time::timeout(Duration::from_secs(1), aggregator.next()).await;
        }
    })
    .await
    .unwrap();
    assert_eq!(aggregator.requests(), 1);
}

#[tokio::test]
async fn a_file_that_no_writer_holds_is_told_as_final_and_removed() {
    let directory = tempfile::tempdir().unwrap();
    let server = NatsServer::start(NatsOptions::default()).await.unwrap();
    let mut aggregator = Aggregator::start(&server).await;
    let clock = ManualClock::default();
    let (dead, _) = open(directory.path(), &clock);
    dead.slot(some_app()).count(clock.unix_millis(), ONE);
    drop(dead);
    let (_meter, publisher) = open(directory.path(), &clock);
    let (_stop, stopped) = watch::channel(false);
    let _task = tokio::spawn(publisher.run(connect(&server).await, stopped));
    assert!(aggregator.next().await.counters[0].is_final);
    let files = || std::fs::read_dir(directory.path()).unwrap().count();
    wait_for("the file to go", SOON, async || (files() == 1).then_some(()))
        .await
        .unwrap();
}
