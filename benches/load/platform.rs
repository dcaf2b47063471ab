//! The platform behind the edge: real Postgres, Redis and NATS, with the control plane's own relay and aggregator.

use std::sync::Arc;

use authsome_control::tasks::aggregator::{Aggregator, AggregatorMetrics};
use authsome_control::tasks::relay::{Relay, RelayMetrics};
use authsome_control::tasks::{TaskError, connect};
use authsome_core::clock::SystemClock;
use authsome_core::entropy::SystemEntropy;
use authsome_core::secret::SecretUrl;
use authsome_testkit::{Database, NatsOptions, NatsServer, RedisOptions, RedisServer, fresh_database};
use prometheus::Registry;
use sqlx::postgres::PgPoolOptions;
use sqlx::{Connection, PgConnection};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::fleet::Fleet;

/// Servers that run until they are dropped.
pub(crate) struct Platform {
    pub(crate) database: Database,
    pub(crate) redis: RedisServer,
    pub(crate) nats: NatsServer,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<Result<(), TaskError>>>,
}

impl Platform {
    /// With the fleet in the database and on its way to the edges.
    pub(crate) async fn start(fleet: &Fleet) -> Self {
        let database = fresh_database(&authsome_db::MIGRATOR).await.unwrap();
        let redis = RedisServer::start(RedisOptions::default()).await.unwrap();
        let nats = NatsServer::start(NatsOptions::default()).await.unwrap();
        let mut connection = PgConnection::connect_with(&database.options).await.unwrap();
        fleet.insert(&mut connection).await;
        let pool = PgPoolOptions::new()
            .connect_with(database.options.clone())
            .await
            .unwrap();
        let url = |text: &str| SecretUrl::parse(text).unwrap();
        let stop = CancellationToken::new();
        let relay = Relay {
            pool: pool.clone(),
            redis: connect::redis(&url(&redis.url())).unwrap(),
            nats: connect::nats(&url(&nats.url()), "relay").await.unwrap(),
            entropy: Arc::new(SystemEntropy::new()),
            metrics: RelayMetrics::register(&Registry::new()).unwrap(),
        };
        let mut tasks = vec![tokio::spawn(relay.run(stop.clone()))];
        let aggregator = Aggregator {
            pool,
            nats: connect::nats(&url(&nats.url()), "aggregator").await.unwrap(),
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy::new()),
            metrics: AggregatorMetrics::register(&Registry::new()).unwrap(),
        };
        tasks.push(tokio::spawn(aggregator.run(stop.clone())));
        Self {
            database,
            redis,
            nats,
            stop,
            tasks,
        }
    }

    /// The variables that lead an edge here.
    pub(crate) fn variables(&self) -> [(&'static str, String); 3] {
        [
            ("DATABASE_URL", self.database.url.clone()),
            ("REDIS_URL", self.redis.url()),
            ("NATS_URL", self.nats.url()),
        ]
    }

    /// Ends what runs in this process; the servers end with the value.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        for task in self.tasks {
            task.await.unwrap().unwrap();
        }
    }
}
