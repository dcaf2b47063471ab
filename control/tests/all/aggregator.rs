//! The aggregator: what edges report is in Postgres exactly once, whatever is doubled, reordered or delivered again.

mod thresholds;

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_nats::jetstream;
use authsome_contract::wire::{UsageConfirmation, UsageCounter, UsageReport, names};
use authsome_control::{
    db::usage::{self, Counter},
    tasks::{
        aggregator::{Aggregator, AggregatorMetrics},
        connect,
    },
};
use authsome_core::{
    clock::SystemClock,
    entropy::{Entropy, SeededEntropy, SystemEntropy},
    id::ApplicationId,
    secret::SecretUrl,
};
use authsome_testkit::{NatsOptions, NatsServer, wait_for};
use futures::StreamExt;
use prometheus::Registry;
use sqlx::PgPool;
use time::{OffsetDateTime, macros::datetime};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::rows::{self, Rows};

const SOON: Duration = Duration::from_secs(30);

struct World {
    rows: Rows,
    server: NatsServer,
    nats: async_nats::Client,
    registry: Registry,
    tasks: Vec<JoinHandle<()>>,
}

impl World {
    async fn new(aggregators: usize) -> Self {
        let rows = Rows::new().await;
        let server = NatsServer::start(NatsOptions::default()).await.unwrap();
        let nats = connect::nats(&SecretUrl::parse(&server.url()).unwrap(), "test")
            .await
            .unwrap();
        let registry = Registry::new();
        let metrics = AggregatorMetrics::register(&registry).unwrap();
        let mut world = Self {
            rows,
            server,
            nats,
            registry,
            tasks: Vec::new(),
        };
        for _ in 0..aggregators {
            world.start(metrics.clone()).await;
        }
        wait_for("the stream", SOON, async || {
            world.jetstream().get_stream(names::USAGE_STREAM).await
        })
        .await
        .unwrap();
        world
    }

    async fn start(&mut self, metrics: AggregatorMetrics) {
        let aggregator = Aggregator {
            pool: self.rows.pool.clone(),
            nats: connect::nats(&SecretUrl::parse(&self.server.url()).unwrap(), "aggregator")
                .await
                .unwrap(),
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy::new()),
            metrics,
        };
        self.tasks.push(tokio::spawn(async move {
            aggregator.run(CancellationToken::new()).await.unwrap();
        }));
    }

    fn jetstream(&self) -> jetstream::Context {
        jetstream::new(self.nats.clone())
    }

    async fn report(&self, writer: Uuid, counters: Vec<UsageCounter>) {
        let payload = serde_json::to_vec(&UsageReport { writer, counters }).unwrap();
        self.publish(writer, payload).await;
    }

    async fn publish(&self, writer: Uuid, payload: Vec<u8>) {
        let published = self
            .jetstream()
            .publish(names::usage_counters(writer), payload.into())
            .await
            .unwrap();
        published.await.unwrap();
    }

    /// Waits until every report is taken and acknowledged.
    async fn drained(&self) {
        wait_for("the stream to be empty", SOON, async || {
            let mut stream = self.jetstream().get_stream(names::USAGE_STREAM).await.unwrap();
            let left = stream.info().await.unwrap().state.messages;
            if left == 0 {
                Ok(())
            } else {
                Err(format!("{left} reports"))
            }
        })
        .await
        .unwrap();
    }

    #[expect(clippy::cast_possible_truncation, reason = "counters are whole")]
    fn refused(&self, reason: &str) -> i64 {
        let families = self.registry.gather();
        let family = families
            .iter()
            .find(|family| family.name() == "authsome_usage_refused_total")
            .unwrap();
        let of_reason = family
            .get_metric()
            .iter()
            .find(|metric| metric.get_label()[0].value() == reason);
        of_reason.map_or(0, |metric| metric.get_counter().get_value() as i64)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Requests, errors, bytes in, bytes out of an application's month.
async fn record(pool: &PgPool, application: ApplicationId, period: &str) -> Option<(i64, i64, i64, i64)> {
    sqlx::query_as(
        "SELECT api_requests, errors, bytes_in, bandwidth_bytes FROM usage_records
         WHERE application_id = $1 AND period = $2",
    )
    .bind(application)
    .bind(period)
    .fetch_optional(pool)
    .await
    .unwrap()
}

fn counter(application_id: ApplicationId, hour: OffsetDateTime, requests: u64) -> UsageCounter {
    UsageCounter {
        application_id,
        hour: u32::try_from(hour.unix_timestamp() / 3_600).unwrap(),
        requests,
        errors: requests / 10,
        bytes_in: requests * 100,
        bytes_out: requests * 1_000,
        is_final: false,
    }
}

#[tokio::test]
async fn a_report_is_in_postgres_within_two_seconds() {
    let world = World::new(1).await;
    let app = world.rows.application().await;
    let start = std::time::Instant::now();
    world
        .report(Uuid::new_v4(), vec![counter(app, datetime!(2026-03-31 23:00 UTC), 7)])
        .await;
    wait_for("the record", Duration::from_secs(2), async || {
        record(&world.rows.pool, app, "2026-03").await
    })
    .await
    .unwrap();
    println!("report to row: {:?}", start.elapsed());
    world.drained().await;
}

#[tokio::test]
async fn the_month_is_that_of_the_hour_in_utc() {
    let world = World::new(1).await;
    let app = world.rows.application().await;
    let writer = Uuid::new_v4();
    let hours = [datetime!(2026-03-31 23:00 UTC), datetime!(2026-04-01 00:00 UTC)];
    world
        .report(
            writer,
            hours
                .iter()
                .zip([3, 4])
                .map(|(hour, requests)| counter(app, *hour, requests))
                .collect(),
        )
        .await;
    world.drained().await;
    assert_eq!(record(&world.rows.pool, app, "2026-03").await, Some((3, 0, 300, 3_000)));
    assert_eq!(record(&world.rows.pool, app, "2026-04").await, Some((4, 0, 400, 4_000)));
}

#[tokio::test]
async fn only_growth_is_added() {
    let world = World::new(1).await;
    let app = world.rows.application().await;
    let (hour, writer) = (datetime!(2026-05-05 05:00 UTC), Uuid::new_v4());
    for requests in [10, 25, 25, 20, 30, 1] {
        world.report(writer, vec![counter(app, hour, requests)]).await;
    }
    // Another edge counts for itself.
    world.report(Uuid::new_v4(), vec![counter(app, hour, 5)]).await;
    world.drained().await;
    assert_eq!(
        record(&world.rows.pool, app, "2026-05").await,
        Some((35, 3, 3_500, 35_000))
    );
}

#[tokio::test]
async fn a_final_counter_is_confirmed_as_it_stands_and_each_time_it_is_reported() {
    let world = World::new(1).await;
    let app = world.rows.application().await;
    let (hour, writer) = (datetime!(2026-05-05 05:00 UTC), Uuid::new_v4());
    let mut confirmed = world.nats.subscribe(names::usage_confirmed(writer)).await.unwrap();
    world.nats.flush().await.unwrap();
    let last = UsageCounter {
        is_final: true,
        ..counter(app, hour, 30)
    };
    for _ in 0..2 {
        world
            .report(writer, vec![last, counter(app, hour + time::Duration::HOUR, 1)])
            .await;
        let message = tokio::time::timeout(SOON, confirmed.next()).await.unwrap().unwrap();
        let confirmation: UsageConfirmation = serde_json::from_slice(&message.payload).unwrap();
        assert_eq!(confirmation.counters, [last]);
        assert_eq!(
            record(&world.rows.pool, app, "2026-05").await.unwrap().0,
            31,
            "confirmed before it was committed"
        );
    }
    // An older value of the same hour that comes late is confirmed with what stands.
    world
        .report(
            writer,
            vec![UsageCounter {
                is_final: true,
                ..counter(app, hour, 12)
            }],
        )
        .await;
    let message = tokio::time::timeout(SOON, confirmed.next()).await.unwrap().unwrap();
    let confirmation: UsageConfirmation = serde_json::from_slice(&message.payload).unwrap();
    assert_eq!(confirmation.counters, [last]);
}

#[tokio::test]
async fn what_cannot_be_billed_is_counted_and_holds_nothing_up() {
    let world = World::new(1).await;
    let app = world.rows.application().await;
    let (hour, writer) = (datetime!(2026-05-05 05:00 UTC), Uuid::new_v4());
    let mut confirmed = world.nats.subscribe(names::usage_confirmed(writer)).await.unwrap();
    world.nats.flush().await.unwrap();
    world.publish(writer, b"not json".to_vec()).await;
    let unknown: ApplicationId = rows::id();
    let future = OffsetDateTime::now_utc() + time::Duration::days(400);
    world
        .report(
            writer,
            vec![
                UsageCounter {
                    is_final: true,
                    ..counter(unknown, hour, 9)
                },
                counter(app, future, 9),
                UsageCounter {
                    bytes_out: u64::MAX,
                    ..counter(app, hour, 9)
                },
                UsageCounter {
                    hour: 0,
                    ..counter(app, hour, 9)
                },
                counter(app, hour + time::Duration::HOUR, 2),
            ],
        )
        .await;
    world.drained().await;
    assert_eq!(record(&world.rows.pool, app, "2026-05").await.unwrap().0, 2);
    assert_eq!((world.refused("undecodable"), world.refused("implausible")), (1, 3));
    assert_eq!(world.refused("unknown_application"), 1);
    let message = tokio::time::timeout(SOON, confirmed.next()).await.unwrap().unwrap();
    let confirmation: UsageConfirmation = serde_json::from_slice(&message.payload).unwrap();
    assert_eq!(
        confirmation.counters[0].application_id, unknown,
        "or its writer would keep it for ever"
    );
}

#[tokio::test]
async fn several_aggregators_with_one_killed_are_exact() {
    let mut world = World::new(3).await;
    let apps = [world.rows.application().await, world.rows.application().await];
    let hour = datetime!(2026-07-07 07:00 UTC);
    let writers: Vec<Uuid> = (0..4).map(|_| Uuid::new_v4()).collect();
    for round in 1..=50_u64 {
        for writer in &writers {
            world
                .report(
                    *writer,
                    apps.iter().map(|app| counter(*app, hour, round * 20)).collect(),
                )
                .await;
        }
        if round == 25 {
            world.tasks.pop().unwrap().abort();
        }
    }
    let pool = world.rows.pool.clone();
    // What the killed one had fetched comes again only after its time; the sums are right before and after.
    for app in apps {
        wait_for("the sum", SOON, async || {
            let seen = record(&pool, app, "2026-07").await;
            if seen == Some((4_000, 400, 400_000, 4_000_000)) {
                Ok(())
            } else {
                Err(format!("{seen:?}"))
            }
        })
        .await
        .unwrap();
    }
}

#[tokio::test]
async fn a_lost_stream_or_consumer_is_made_again() {
    let world = World::new(1).await;
    let app = world.rows.application().await;
    let hour = datetime!(2026-08-08 08:00 UTC);
    let writer = Uuid::new_v4();
    world.jetstream().delete_stream(names::USAGE_STREAM).await.unwrap();
    wait_for("the stream", SOON, async || {
        world.jetstream().get_stream(names::USAGE_STREAM).await
    })
    .await
    .unwrap();
    world.report(writer, vec![counter(app, hour, 1)]).await;
    wait_for("the record", SOON, async || {
        record(&world.rows.pool, app, "2026-08").await
    })
    .await
    .unwrap();
}

/// Random schedules of reports: shuffled, doubled, cut into transactions at random, some of them rolled back and repeated.
#[tokio::test]
async fn any_order_any_duplicates_and_any_batches_give_exact_sums() {
    let rows = Rows::new().await;
    for seed in 0..12 {
        let entropy = SeededEntropy::new(seed);
        let below = |bound: u64| entropy.next_u64() % bound;
        let apps = [rows.application().await, rows.application().await];
        let writers = [Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4()];
        let mut expected: HashMap<ApplicationId, (i64, i64, i64, i64)> = HashMap::new();
        let mut reports = Vec::new();
        for app in apps {
            for writer in writers {
                for hour in 0..3 {
                    let hour = datetime!(2026-09-09 09:00 UTC) + time::Duration::hours(hour);
                    let mut value = Counter {
                        writer,
                        application_id: app,
                        hour,
                        requests: 0,
                        errors: 0,
                        bytes_in: 0,
                        bytes_out: 0,
                    };
                    for _ in 0..=below(6) {
                        value.requests += i64::try_from(below(100)).unwrap();
                        value.errors += i64::try_from(below(3)).unwrap();
                        value.bytes_in += i64::try_from(below(10_000)).unwrap();
                        value.bytes_out += i64::try_from(below(100_000)).unwrap();
                        for _ in 0..=below(3) {
                            reports.push(value);
                        }
                    }
                    let sum = expected.entry(app).or_default();
                    *sum = (
                        sum.0 + value.requests,
                        sum.1 + value.errors,
                        sum.2 + value.bytes_in,
                        sum.3 + value.bytes_out,
                    );
                }
            }
        }
        for at in (1..reports.len()).rev() {
            reports.swap(at, usize::try_from(below(at as u64 + 1)).unwrap());
        }
        let mut rest = reports.as_slice();
        while !rest.is_empty() {
            let (batch, tail) = rest.split_at(rest.len().min(1 + usize::try_from(below(8)).unwrap()));
            rest = tail;
            let mut greatest: HashMap<(Uuid, ApplicationId, OffsetDateTime), Counter> = HashMap::new();
            for report in batch {
                let held = greatest
                    .entry((report.writer, report.application_id, report.hour))
                    .or_insert(*report);
                if report.requests > held.requests || report.bytes_out > held.bytes_out {
                    *held = *report;
                }
            }
            let batch: Vec<Counter> = greatest.into_values().collect();
            for kept in [below(4) > 0, true] {
                let mut transaction = rows.pool.begin().await.unwrap();
                usage::merge(&mut transaction, &batch).await.unwrap();
                if kept {
                    transaction.commit().await.unwrap();
                } else {
                    transaction.rollback().await.unwrap();
                }
            }
        }
        for app in apps {
            assert_eq!(
                record(&rows.pool, app, "2026-09").await,
                Some(expected[&app]),
                "seed {seed}"
            );
        }
    }
}
