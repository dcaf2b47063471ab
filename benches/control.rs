//! The control plane's two streams, over real servers: changes a second that the relay brings from Postgres to Redis and to the
//! edges' stream, and usage counters a second that the aggregator merges into Postgres.
//!
//! Each works off a backlog; the time is from its start to the last row's arrival. CPU is that of this process, so of the
//! relay or the aggregator without the servers.
#![expect(clippy::unwrap_used, reason = "a bench ends where it cannot be set up")]
#![expect(clippy::print_stdout, reason = "a bench reports to whoever runs it")]

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream;
use authsome_benches::db::{self, flow};
use authsome_benches::measure::{Stopwatch, is_rehearsal, machine};
use authsome_contract::wire::{UsageCounter, UsageReport, names};
use authsome_control::tasks::aggregator::{Aggregator, AggregatorMetrics};
use authsome_control::tasks::connect;
use authsome_control::tasks::relay::{Relay, RelayMetrics};
use authsome_core::clock::{Clock, SystemClock};
use authsome_core::entropy::SystemEntropy;
use authsome_core::id::ApplicationId;
use authsome_core::secret::SecretUrl;
use authsome_testkit::{Database, NatsOptions, NatsServer, RedisOptions, RedisServer, fresh_database, wait_for};
use prometheus::Registry;
use sqlx::postgres::PgPoolOptions;
use sqlx::{Connection, PgConnection, PgPool};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// No backlog here takes longer.
const DEADLINE: Duration = Duration::from_mins(5);

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let servers = Servers::start().await;
        let (keys, applications, reports) = if is_rehearsal() {
            (500, 20, 2)
        } else {
            (100_000, 1_000, 200)
        };
        servers.relay(keys).await;
        servers.aggregate(applications, reports).await;
    });
}

struct Servers {
    database: Database,
    pool: PgPool,
    redis: RedisServer,
    nats: NatsServer,
}

fn url(text: &str) -> SecretUrl {
    SecretUrl::parse(text).unwrap()
}

impl Servers {
    async fn start() -> Self {
        let database = fresh_database(&authsome_db::MIGRATOR).await.unwrap();
        let pool = PgPoolOptions::new()
            .connect_with(database.options.clone())
            .await
            .unwrap();
        Self {
            redis: RedisServer::start(RedisOptions::default()).await.unwrap(),
            nats: NatsServer::start(NatsOptions::default()).await.unwrap(),
            database,
            pool,
        }
    }

    async fn connection(&self) -> PgConnection {
        PgConnection::connect_with(&self.database.options).await.unwrap()
    }

    async fn relay(&self, keys: usize) {
        let mut connection = self.connection().await;
        let app = db::application(&mut connection).await;
        db::keys(&mut connection, app, keys).await;
        let backlog = flow::written(&mut connection).await;
        let relay = Relay {
            pool: self.pool.clone(),
            redis: connect::redis(&url(&self.redis.url())).unwrap(),
            nats: connect::nats(&url(&self.nats.url()), "relay").await.unwrap(),
            entropy: Arc::new(SystemEntropy::new()),
            metrics: RelayMetrics::register(&Registry::new()).unwrap(),
        };
        let stop = CancellationToken::new();
        let watch = Stopwatch::start();
        let running = tokio::spawn(relay.run(stop.clone()));
        wait_for("the relay to have delivered everything", DEADLINE, async || {
            let relayed = flow::relayed(&mut connection).await;
            if relayed >= backlog { Ok(()) } else { Err(relayed) }
        })
        .await
        .unwrap();
        let cost = watch.read();
        stop.cancel();
        running.await.unwrap().unwrap();
        println!(
            "relay: {backlog} changes to Redis and to the stream in {cost}: {:.0} a second, {:?} of CPU each ({})",
            f64::from(i32::try_from(backlog).unwrap()) / cost.wall.as_secs_f64(),
            cost.each(u64::try_from(backlog).unwrap()).cpu,
            machine()
        );
    }

    async fn aggregate(&self, applications: usize, reports: usize) {
        let mut connection = self.connection().await;
        let ids: Vec<ApplicationId> = (0..applications)
            .map(|_| ApplicationId::generate(&SystemClock, &SystemEntropy::new()))
            .collect();
        let tenants: Vec<_> = ids
            .iter()
            .map(|id| db::tenants::Tenant::enterprise(*id, "10.0.0.1:8080".to_owned()))
            .collect();
        db::tenants::insert(&mut connection, &tenants).await;
        let client = connect::nats(&url(&self.nats.url()), "reports").await.unwrap();
        // It makes the stream; the backlog is written while it is away.
        let (running, stop) = self.aggregator().await;
        let context = jetstream::new(client);
        wait_for("the stream of reports", DEADLINE, async || {
            context.get_stream(names::USAGE_STREAM).await
        })
        .await
        .unwrap();
        stop.cancel();
        running.await.unwrap();

        let counters = fill(&context, &ids, reports).await;
        let watch = Stopwatch::start();
        let (running, stop) = self.aggregator().await;
        wait_for("the aggregator to have merged everything", DEADLINE, async || {
            let counted = flow::counted(&mut connection).await;
            if counted >= counters { Ok(()) } else { Err(counted) }
        })
        .await
        .unwrap();
        let cost = watch.read();
        stop.cancel();
        running.await.unwrap();
        println!(
            "aggregator: {counters} counters in {reports} reports in {cost}: {:.0} counters a second, {:?} of CPU each ({})",
            f64::from(i32::try_from(counters).unwrap()) / cost.wall.as_secs_f64(),
            cost.each(u64::try_from(counters).unwrap()).cpu,
            machine()
        );
    }

    async fn aggregator(&self) -> (tokio::task::JoinHandle<()>, CancellationToken) {
        let aggregator = Aggregator {
            pool: self.pool.clone(),
            nats: connect::nats(&url(&self.nats.url()), "aggregator").await.unwrap(),
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy::new()),
            metrics: AggregatorMetrics::register(&Registry::new()).unwrap(),
        };
        let stop = CancellationToken::new();
        let running = aggregator.run(stop.clone());
        (tokio::spawn(async move { running.await.unwrap() }), stop)
    }
}

/// Reports of as many writers, of one request for each application. Returns how many counters there are, and so requests.
async fn fill(context: &jetstream::Context, applications: &[ApplicationId], reports: usize) -> i64 {
    let hour = u32::try_from(SystemClock.unix_millis() / 3_600_000).unwrap();
    let mut counters = 0;
    for _ in 0..reports {
        let writer = Uuid::new_v4();
        let report = UsageReport {
            writer,
            counters: applications
                .iter()
                .take(UsageReport::MAX_COUNTERS)
                .map(|application_id| UsageCounter {
                    application_id: *application_id,
                    hour,
                    requests: 1,
                    errors: 0,
                    bytes_in: 300,
                    bytes_out: 500,
                    is_final: false,
                })
                .collect(),
        };
        counters += i64::try_from(report.counters.len()).unwrap();
        let payload = serde_json::to_vec(&report).unwrap();
        let ack = context
            .publish(names::usage_counters(writer), payload.into())
            .await
            .unwrap();
        ack.await.unwrap();
    }
    counters
}
