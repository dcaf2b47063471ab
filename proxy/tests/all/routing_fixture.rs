//! A routing table with its backend on real servers, and the relay's part of the conversation in the hands of the test.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream;
use authsome_contract::model::{KeyRecord, KeyState, Version};
use authsome_contract::wire::change::redis_version;
use authsome_contract::wire::{Change, Heartbeat, Mark, Versioned, names};
use authsome_core::clock::{Clock, SystemClock};
use authsome_core::entropy::SystemEntropy;
use authsome_core::key::{ApiKey, Digest};
use authsome_core::secret::SecretUrl;
use authsome_proxy::meter::{Meter, MeterMetrics, MeterSettings};
use authsome_proxy::routing::{self, KeyEntry, Lookup, Routing, RoutingMetrics, RoutingSettings, Sources};
use authsome_testkit::{ChaosProxy, NatsOptions, NatsServer, RedisOptions, RedisServer, nats, wait_for};
use fred::interfaces::{ClientLike, KeysInterface};
use prometheus::Registry;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::db::{App, NewApp, Tenants};
use crate::instance::nobody;

/// Longer than anything takes, however busy the machine is.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// Postgres behind a proxy that can misbehave, Redis, NATS, and one application.
pub(crate) struct Platform {
    pub(crate) tenants: Tenants,
    pub(crate) postgres: ChaosProxy,
    pub(crate) redis: RedisServer,
    pub(crate) nats: NatsServer,
    pub(crate) app: App,
}

impl Platform {
    pub(crate) async fn start() -> Self {
        let tenants = Tenants::new().await;
        let server = authsome_testkit::shared_postgres().await.unwrap();
        let app = tenants.app(NewApp::at(&["127.0.0.1:9000".to_owned()])).await;
        Self {
            postgres: ChaosProxy::start(server.address()).await.unwrap(),
            redis: RedisServer::start(RedisOptions::default()).await.unwrap(),
            nats: NatsServer::start(NatsOptions::default()).await.unwrap(),
            tenants,
            app,
        }
    }

    /// An edge that holds only what was asked for.
    pub(crate) async fn edge(&self, settings: RoutingSettings) -> Edge {
        self.whole_edge(RoutingSettings {
            whole: false,
            ..settings
        })
        .await
    }

    /// An edge that holds the whole table.
    pub(crate) async fn whole_edge(&self, settings: RoutingSettings) -> Edge {
        let sources = Sources {
            postgres: SecretUrl::parse(&self.postgres.in_place_of(&self.tenants.database.url)).unwrap(),
            redis: SecretUrl::parse(&self.redis.url()).unwrap(),
        };
        Edge::start(settings, sources, connect(&self.nats).await)
    }

    pub(crate) fn secret(&self) -> Digest {
        self.app.secret.digest()
    }
}

/// An edge with nothing to talk to.
pub(crate) async fn lonely_edge(settings: RoutingSettings) -> Edge {
    let sources = Sources {
        postgres: SecretUrl::parse(&format!("postgres://nobody@{}/control", nobody())).unwrap(),
        redis: SecretUrl::parse(&format!("redis://{}", nobody())).unwrap(),
    };
    let nats = async_nats::ConnectOptions::new()
        .retry_on_initial_connect()
        .connect(nobody())
        .await
        .unwrap();
    Edge::start(settings, sources, nats)
}

impl Edge {
    fn start(settings: RoutingSettings, sources: Sources, client: async_nats::Client) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let registry = Registry::new();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let (meter, _) = Meter::open(
            MeterSettings {
                directory: directory.path().to_owned(),
                capacity: 64,
            },
            Arc::clone(&clock),
            Arc::new(SystemEntropy::new()),
            MeterMetrics::register(&registry).unwrap(),
        );
        let metrics = RoutingMetrics::register(&registry).unwrap();
        let (routing, backend) = routing::new(settings, meter, clock, &SystemEntropy::new(), metrics);
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(async move { backend.run(sources, client, stopped).await.unwrap() });
        Edge {
            routing,
            stop,
            task,
            _directory: directory,
        }
    }
}

pub(crate) async fn connect(server: &NatsServer) -> async_nats::Client {
    async_nats::ConnectOptions::with_user_and_password(nats::USER.to_owned(), server.password().to_owned())
        .retry_on_initial_connect()
        .reconnect_delay_callback(|_| Duration::from_millis(100))
        .connect(server.address())
        .await
        .unwrap()
}

pub(crate) struct Edge {
    pub(crate) routing: Routing,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
    _directory: tempfile::TempDir,
}

impl Edge {
    pub(crate) fn look(&self, digest: &Digest) -> Lookup<Arc<KeyEntry>> {
        self.routing.key(digest, SystemClock.unix_millis())
    }

    pub(crate) async fn found(&self, key: &ApiKey) -> Arc<KeyEntry> {
        // A busy machine may not answer within the deadline of one question.
        wait_for("an answer about the key", SOON, async || {
            self.routing.resolve_key(key.digest()).await
        })
        .await
        .unwrap()
        .expect("the key exists")
    }

    pub(crate) async fn not_live(&self) {
        wait_for("a feed that is not live", SOON, async || {
            (!self.routing.stats().feed.live).then_some(())
        })
        .await
        .unwrap();
    }

    pub(crate) async fn stop(self) {
        self.stop.send_replace(true);
        tokio::time::timeout(SOON, self.task).await.unwrap().unwrap();
    }
}

/// The relay's side of NATS.
pub(crate) struct Relay {
    client: async_nats::Client,
    context: jetstream::Context,
    incarnation: i64,
    sequence: u64,
    pub(crate) position: u64,
}

impl Relay {
    pub(crate) async fn start(server: &NatsServer) -> Self {
        let client = connect(server).await;
        let context = jetstream::new(client.clone());
        let mut relay = Self {
            client,
            context,
            incarnation: 0,
            sequence: 0,
            position: 0,
        };
        relay.create_stream().await;
        relay
    }

    pub(crate) async fn create_stream(&mut self) {
        let config = jetstream::stream::Config {
            name: names::EDGE_STREAM.to_owned(),
            subjects: vec![names::EDGE_SUBJECTS.to_owned()],
            max_messages_per_subject: 1,
            ..Default::default()
        };
        let stream = wait_for("the stream", SOON, async || {
            self.context.create_stream(config.clone()).await
        })
        .await
        .unwrap();
        let info = stream.cached_info();
        self.incarnation = i64::try_from(info.created.unix_timestamp_nanos()).unwrap();
        self.sequence = info.state.last_sequence;
    }

    pub(crate) async fn delete_stream(&self) {
        self.context.delete_stream(names::EDGE_STREAM).await.unwrap();
    }

    pub(crate) async fn publish(&mut self, change: &Change) {
        let payload = change.payload().unwrap();
        let ack = self.context.publish(change.subject(), payload.into()).await.unwrap();
        self.sequence = ack.await.unwrap().sequence;
        self.position += 1;
    }

    pub(crate) async fn publish_raw(&mut self, subject: String, payload: &'static str) {
        let ack = self.context.publish(subject, payload.into()).await.unwrap();
        self.sequence = ack.await.unwrap().sequence;
        self.position += 1;
    }

    pub(crate) async fn beat(&self) {
        let heartbeat = Heartbeat {
            epoch: 1,
            incarnation: self.incarnation,
            position: self.position,
            sequence: self.sequence,
            database_time_ms: SystemClock.unix_millis(),
        };
        let payload = serde_json::to_vec(&heartbeat).unwrap();
        self.client
            .publish(names::RELAY_HEARTBEAT, payload.into())
            .await
            .unwrap();
        self.client.flush().await.unwrap();
    }

    /// Heartbeats until the edge says that its feed lives.
    pub(crate) async fn make_live(&self, edge: &Edge) {
        wait_for("a live feed", SOON, async || {
            self.beat().await;
            edge.routing.stats().feed.live.then_some(())
        })
        .await
        .unwrap();
    }
}

/// The relay's side of Redis.
pub(crate) struct Copy {
    client: fred::clients::Client,
}

impl Copy {
    pub(crate) async fn connect(server: &RedisServer) -> Self {
        let config = fred::types::config::Config::from_url(&server.url()).unwrap();
        let client = fred::types::Builder::from_config(config).build().unwrap();
        client.init().await.unwrap();
        Self { client }
    }

    pub(crate) async fn mark(&self, position: u64, age: Duration) {
        let renewed_at_ms = SystemClock.unix_millis() - i64::try_from(age.as_millis()).unwrap();
        let mark = serde_json::to_string(&Mark {
            epoch: 1,
            position,
            renewed_at_ms,
        })
        .unwrap();
        self.set(names::REDIS_MARK, mark).await;
    }

    pub(crate) async fn put(&self, change: &Change) {
        let version = redis_version(change.version().unwrap());
        let payload = String::from_utf8(change.payload().unwrap()).unwrap();
        self.set(&change.redis_key().unwrap(), version + &payload).await;
    }

    async fn set(&self, name: &str, value: String) {
        self.client
            .set::<(), _, _>(name, value, None, None, false)
            .await
            .unwrap();
    }
}

pub(crate) fn key_change(record: &KeyRecord) -> Change {
    Change::Key(
        record.digest,
        Versioned {
            version: record.version,
            record: Some(record.clone()),
        },
    )
}

pub(crate) fn app_change(entry: &KeyEntry) -> Change {
    let record = entry.app.load().expect("the application exists").record.clone();
    Change::App(
        record.id,
        Versioned {
            version: record.version,
            record: Some(record),
        },
    )
}

pub(crate) fn revoked(record: &KeyRecord) -> KeyRecord {
    KeyRecord {
        state: KeyState::Revoked,
        version: next(record.version),
        ..record.clone()
    }
}

pub(crate) fn next(version: Version) -> Version {
    Version {
        row: version.row + 1,
        ..version
    }
}
