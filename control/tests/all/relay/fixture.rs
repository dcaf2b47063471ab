//! Real servers, a relay between them, and looks at what it delivered.

use std::{sync::Arc, time::Duration};

use async_nats::jetstream;
use authsome_contract::{
    model::{AppRecord, KeyRecord},
    wire::{
        Change, Heartbeat, Mark, Versioned,
        change::{decode_redis, redis_version},
        names,
    },
};
use authsome_control::tasks::{
    connect,
    relay::{Relay, RelayMetrics},
};
use authsome_core::{entropy::SystemEntropy, id::ApplicationId, key::Digest, secret::SecretUrl};
use authsome_testkit::{ChaosProxy, NatsOptions, NatsServer, RedisOptions, RedisServer, wait_for};
use fred::interfaces::{ClientLike, KeysInterface};
use futures::StreamExt;
use prometheus::Registry;
use sqlx::PgPool;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::rows::Rows;

/// Far longer than anything here takes on a busy machine.
pub(crate) const SOON: Duration = Duration::from_mins(1);

/// Real servers, with Redis and NATS behind proxies that misbehave on request.
pub(crate) struct World {
    pub(crate) rows: Rows,
    redis_server: RedisServer,
    nats_server: NatsServer,
    pub(crate) to_redis: ChaosProxy,
    pub(crate) to_nats: ChaosProxy,
    pub(crate) redis: fred::clients::Client,
    pub(crate) nats: async_nats::Client,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(Rows::new().await).await
    }

    pub(crate) async fn with(rows: Rows) -> Self {
        let redis_server = RedisServer::start(RedisOptions::default()).await.unwrap();
        let nats_server = NatsServer::start(NatsOptions::default()).await.unwrap();
        let redis = connect::redis(&url(&redis_server.url())).unwrap();
        redis.wait_for_connect().await.unwrap();
        Self {
            rows,
            to_redis: ChaosProxy::start(redis_server.address()).await.unwrap(),
            to_nats: ChaosProxy::start(nats_server.address()).await.unwrap(),
            redis,
            nats: connect::nats(&url(&nats_server.url()), "test").await.unwrap(),
            redis_server,
            nats_server,
        }
    }

    /// By way of the proxies.
    pub(crate) fn to_redis_url(&self) -> String {
        self.to_redis.in_place_of(&self.redis_server.url())
    }

    pub(crate) fn to_nats_url(&self) -> String {
        self.to_nats.in_place_of(&self.nats_server.url())
    }

    pub(crate) fn jetstream(&self) -> jetstream::Context {
        jetstream::new(self.nats.clone())
    }

    pub(crate) async fn relay(&self) -> Running {
        let registry = Registry::new();
        let relay = Relay {
            pool: self.rows.pool.clone(),
            redis: connect::redis(&url(&self.to_redis_url())).unwrap(),
            nats: connect::nats(&url(&self.to_nats_url()), "relay").await.unwrap(),
            entropy: Arc::new(SystemEntropy::new()),
            metrics: RelayMetrics::register(&registry).unwrap(),
        };
        Running {
            task: tokio::spawn(async move { relay.run(CancellationToken::new()).await.unwrap() }),
            registry,
        }
    }

    pub(crate) async fn redis_app(&self, id: ApplicationId) -> Option<Versioned<AppRecord>> {
        let value: Option<Vec<u8>> = self.redis.get(names::redis_app(&id)).await.unwrap();
        value.map(|value| {
            let record: Versioned<AppRecord> = decode_redis(&value).unwrap();
            assert!(
                value.starts_with(redis_version(record.version).as_bytes()),
                "the head is the record's version"
            );
            record
        })
    }

    pub(crate) async fn redis_key(&self, digest: &Digest) -> Option<Versioned<KeyRecord>> {
        let value: Option<Vec<u8>> = self.redis.get(names::redis_key(digest)).await.unwrap();
        value.map(|value| decode_redis(&value).unwrap())
    }

    pub(crate) async fn redis_mark(&self) -> Option<Mark> {
        let value: Option<String> = self.redis.get(names::REDIS_MARK).await.unwrap();
        value.map(|value| serde_json::from_str(&value).unwrap())
    }

    pub(crate) async fn stream_change(&self, subject: &str) -> Option<Change> {
        let stream = self.jetstream().get_stream(names::EDGE_STREAM).await.ok()?;
        let message = stream.direct_get_last_for_subject(subject).await.ok()?;
        Some(Change::decode(&message.subject, &message.payload).unwrap())
    }

    pub(crate) async fn stream_app(&self, id: ApplicationId) -> Option<Versioned<AppRecord>> {
        match self.stream_change(&names::edge_app(&id)).await? {
            Change::App(_, record) => Some(record),
            other => panic!("not an application: {other:?}"),
        }
    }

    pub(crate) async fn stream_key(&self, digest: &Digest) -> Option<Versioned<KeyRecord>> {
        match self.stream_change(&names::edge_key(digest)).await? {
            Change::Key(_, record) => Some(record),
            other => panic!("not a key: {other:?}"),
        }
    }

    pub(crate) async fn incarnation(&self) -> Option<i64> {
        let stream = self.jetstream().get_stream(names::EDGE_STREAM).await.ok()?;
        i64::try_from(stream.cached_info().created.unix_timestamp_nanos()).ok()
    }

    /// The next heartbeat for which `wanted` holds.
    pub(crate) async fn heartbeat(&self, wanted: impl Fn(&Heartbeat) -> bool) -> Heartbeat {
        let mut beats = self.nats.subscribe(names::RELAY_HEARTBEAT).await.unwrap();
        let next = async {
            loop {
                let message = beats.next().await.unwrap();
                let beat: Heartbeat = serde_json::from_slice(&message.payload).unwrap();
                if wanted(&beat) {
                    return beat;
                }
            }
        };
        tokio::time::timeout(SOON, next).await.expect("a heartbeat")
    }

    /// Waits until the whole path works: both targets hold what was committed before.
    pub(crate) async fn settled(&self) {
        let last: i64 = wait_for("every row to have a position", SOON, async || {
            let unpositioned: i64 = count(&self.rows.pool, "SELECT count(*) FROM outbox WHERE position IS NULL").await;
            if unpositioned > 0 {
                return Err(format!("{unpositioned} have none"));
            }
            Ok(count(&self.rows.pool, "SELECT last FROM outbox_position").await)
        })
        .await
        .unwrap();
        wait_for("all cursors to arrive", SOON, async || {
            let least = count(&self.rows.pool, "SELECT min(position) FROM relay_cursors").await;
            if least >= last {
                Ok(())
            } else {
                Err(format!("one is at {least} of {last}"))
            }
        })
        .await
        .unwrap();
    }
}

pub(crate) async fn count(pool: &PgPool, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(pool).await.unwrap()
}

fn url(text: &str) -> SecretUrl {
    SecretUrl::parse(text).unwrap()
}

/// A relay that runs until it is killed.
pub(crate) struct Running {
    task: JoinHandle<()>,
    registry: Registry,
}

impl Running {
    pub(crate) fn kill(&self) {
        self.task.abort();
    }

    #[expect(clippy::cast_possible_truncation, reason = "counts are whole")]
    pub(crate) fn metric(&self, name: &str, target: Option<&str>) -> i64 {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == name);
        let metrics = family.map(|family| family.get_metric().to_vec()).unwrap_or_default();
        let metric = metrics
            .iter()
            .find(|metric| target.is_none_or(|target| metric.get_label().iter().any(|label| label.value() == target)));
        metric.map_or(0, |metric| {
            (metric.get_gauge().get_value() + metric.get_counter().get_value()) as i64
        })
    }

    pub(crate) fn leads(&self) -> bool {
        self.metric("authsome_relay_leader", None) > 0
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}
