//! The relay: what commits in Postgres reaches Redis, the stream and the queue, in order, whatever fails on the way.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_nats::jetstream;
use authsome_contract::{
    model::{AppRecord, KeyRecord, KeyState, Version},
    wire::{
        Change, Heartbeat, Job, Mark, Versioned,
        change::{decode_redis, redis_version},
        job::JobKind,
        names,
    },
};
use authsome_control::tasks::{
    connect,
    relay::{Relay, RelayMetrics},
};
use authsome_core::{entropy::SystemEntropy, id::ApplicationId, key::Digest, secret::SecretUrl};
use authsome_testkit::{
    ChaosProxy, Mode, NatsOptions, NatsServer, PostgresOptions, PostgresServer, RedisOptions, RedisServer, wait_for,
};
use fred::interfaces::{ClientLike, KeysInterface, ServerInterface};
use futures::StreamExt;
use prometheus::Registry;
use sqlx::PgPool;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::rows::{self, Rows};

pub(crate) const SOON: Duration = Duration::from_secs(15);

/// Real servers, with Redis and NATS behind proxies that misbehave on request.
pub(crate) struct World {
    pub(crate) rows: Rows,
    redis_server: RedisServer,
    nats_server: NatsServer,
    pub(crate) to_redis: ChaosProxy,
    to_nats: ChaosProxy,
    pub(crate) redis: fred::clients::Client,
    nats: async_nats::Client,
}

impl World {
    async fn new() -> Self {
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

#[tokio::test]
async fn a_new_application_and_key_reach_redis_and_the_stream_with_their_versions() {
    let world = World::new().await;
    let relay = world.relay().await;
    let app = world.rows.application().await;
    let key = world.rows.key(app).await;
    world.settled().await;

    let first = Version { epoch: 1, row: 1 };
    let in_redis = world.redis_app(app).await.unwrap();
    assert_eq!(in_redis.version, first);
    assert_eq!(in_redis.record.as_ref().unwrap().workspace_id, world.rows.workspace);
    assert_eq!(world.stream_app(app).await.unwrap(), in_redis);
    let key_in_redis = world.redis_key(&key).await.unwrap();
    assert_eq!(
        (
            key_in_redis.version,
            key_in_redis.record.as_ref().unwrap().application_id
        ),
        (first, app)
    );
    assert_eq!(world.stream_key(&key).await.unwrap(), key_in_redis);

    world.rows.touch(app).await;
    world.settled().await;
    assert_eq!(world.redis_app(app).await.unwrap().version.row, 2);
    assert_eq!(world.stream_app(app).await.unwrap().version.row, 2);

    let beat = world.heartbeat(|beat| beat.position == 3).await;
    assert_eq!((beat.epoch, beat.incarnation), (1, world.incarnation().await.unwrap()));
    assert_eq!(world.stream_change(names::EDGE_COMPLETE).await, Some(Change::Complete));
    let mark = world.redis_mark().await.unwrap();
    assert_eq!((mark.epoch, mark.position), (1, 3));
    assert!(relay.leads());
    assert_eq!(relay.metric("authsome_relay_delivered_total", Some("stream")), 3);
}

#[tokio::test]
async fn no_reader_ever_sees_a_version_go_back() {
    let world = World::new().await;
    let app = world.rows.application().await;
    let mut seen = world.nats.subscribe(names::edge_app(&app)).await.unwrap();
    world.nats.flush().await.unwrap();
    let relays = [world.relay().await, world.relay().await];
    world.settled().await;

    let changes = (0..8).map(|_| async {
        for _ in 0..10 {
            world.rows.touch(app).await;
        }
    });
    // Leaders change in the middle of it, and each time the next one must not publish what it read before.
    let killing = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        relays.iter().find(|relay| relay.leads()).unwrap().kill();
    };
    tokio::join!(futures::future::join_all(changes), killing);
    world.settled().await;

    assert_eq!(world.redis_app(app).await.unwrap().version.row, 81);
    assert_eq!(world.stream_app(app).await.unwrap().version.row, 81);
    let mut last = 0;
    while last < 81 {
        let message = tokio::time::timeout(SOON, seen.next()).await.unwrap().unwrap();
        let Change::App(_, record) = Change::decode(&message.subject, &message.payload).unwrap() else {
            panic!()
        };
        assert!(record.version.row >= last, "{} after {last}", record.version.row);
        last = record.version.row;
    }
}

#[tokio::test]
async fn an_older_version_never_replaces_a_newer_one_in_redis() {
    let world = World::new().await;
    let app = world.rows.application().await;
    let _relay = world.relay().await;
    world.settled().await;
    // A version that is ahead of Postgres, as a stale relay would find it.
    let ahead = format!(
        "{}{}",
        redis_version(Version { epoch: 1, row: 0xdd }),
        r#"{"version":{"epoch":1,"row":221},"record":null}"#
    );
    world
        .redis
        .set::<(), _, _>(names::redis_app(&app), ahead, None, None, false)
        .await
        .unwrap();
    world.rows.touch(app).await;
    world.settled().await;
    assert_eq!(world.redis_app(app).await.unwrap().version.row, 0xdd);
}

#[tokio::test]
async fn a_revocation_is_on_the_stream_within_100_ms_of_its_commit() {
    let world = World::new().await;
    let _relay = world.relay().await;
    let app = world.rows.application().await;
    world.settled().await;
    world.heartbeat(|_| true).await;
    let mut seen = world.nats.subscribe(names::EDGE_SUBJECTS).await.unwrap();
    // Answered on the same connection, so the server has the subscription by then.
    world.jetstream().get_stream(names::EDGE_STREAM).await.unwrap();
    let mut took = Vec::new();
    for _ in 0..20 {
        let key = world.rows.key(app).await;
        world.settled().await;
        world.rows.revoke(&key).await;
        let committed = Instant::now();
        let (at, record) = loop {
            let message = tokio::time::timeout(SOON, seen.next()).await.unwrap().unwrap();
            match Change::decode(&message.subject, &message.payload).unwrap() {
                Change::Key(digest, record) if digest == key && record.version.row == 2 => {
                    break (committed.elapsed(), record.record.unwrap());
                }
                _ => {}
            }
        };
        took.push(at);
        assert_eq!(
            record.state,
            KeyState::Revoked,
            "a record with its state, not a tombstone"
        );
    }
    took.sort();
    println!("commit to stream: median {:?}, worst {:?}", took[10], took[19]);
    assert!(took[10] < Duration::from_millis(100), "{took:?}");
}

#[tokio::test]
async fn a_row_that_is_gone_travels_as_a_tombstone() {
    let world = World::new().await;
    let _relay = world.relay().await;
    let app = world.rows.application().await;
    let key = world.rows.key(app).await;
    world.settled().await;
    sqlx::query("DELETE FROM api_keys")
        .execute(&world.rows.pool)
        .await
        .unwrap();
    world.settled().await;
    let tombstone = Versioned {
        version: Version { epoch: 1, row: 2 },
        record: None,
    };
    assert_eq!(world.redis_key(&key).await.unwrap(), tombstone);
    assert_eq!(world.stream_key(&key).await.unwrap(), tombstone);
}

#[tokio::test]
async fn rows_that_commit_out_of_id_order_are_neither_skipped_nor_waited_for() {
    let world = World::new().await;
    let _relay = world.relay().await;
    let app = world.rows.application().await;
    world.settled().await;
    let mut open = world.rows.pool.begin().await.unwrap();
    let early = rows::insert_key(&mut open, app).await;
    let late = world.rows.key(app).await;
    wait_for("the later row, whose transaction committed first", SOON, async || {
        world.stream_key(&late).await
    })
    .await
    .unwrap();
    assert_eq!(world.stream_key(&early).await, None);
    open.commit().await.unwrap();
    wait_for("the earlier row", SOON, async || world.stream_key(&early).await)
        .await
        .unwrap();
    wait_for("the earlier row in Redis", SOON, async || world.redis_key(&early).await)
        .await
        .unwrap();
}

#[tokio::test]
async fn redis_down_delays_nothing_but_redis_which_catches_up() {
    let world = World::new().await;
    let relay = world.relay().await;
    let app = world.rows.application().await;
    world.settled().await;
    world.to_redis.set(Mode::Refuse).await;
    let key = world.rows.key(app).await;
    let start = Instant::now();
    wait_for("the stream", SOON, async || world.stream_key(&key).await)
        .await
        .unwrap();
    assert!(
        start.elapsed() < Duration::from_secs(1),
        "the stream waited for Redis: {:?}",
        start.elapsed()
    );
    wait_for("failures to be counted", SOON, async || {
        (relay.metric("authsome_relay_failures_total", Some("redis")) > 0).then_some(())
    })
    .await
    .unwrap();
    wait_for("the lag to show", SOON, async || {
        (relay.metric("authsome_relay_lag_rows", Some("redis")) > 0).then_some(())
    })
    .await
    .unwrap();
    assert_eq!(world.redis_key(&key).await, None);
    world.to_redis.set(Mode::Pass).await;
    wait_for("Redis to catch up", SOON, async || world.redis_key(&key).await)
        .await
        .unwrap();
    world.settled().await;
    assert_eq!(
        relay.metric("authsome_relay_fills_total", Some("redis")),
        1,
        "caught up, not rewritten"
    );
}

#[tokio::test]
async fn nats_down_delays_nothing_but_nats_which_catches_up() {
    let world = World::new().await;
    let relay = world.relay().await;
    let app = world.rows.application().await;
    world.settled().await;
    let incarnation = world.incarnation().await;
    world.to_nats.set(Mode::Blackhole).await;
    let key = world.rows.key(app).await;
    wait_for("Redis", SOON, async || world.redis_key(&key).await)
        .await
        .unwrap();
    assert_eq!(world.stream_key(&key).await, None);
    wait_for("the failure to be counted", SOON, async || {
        (relay.metric("authsome_relay_failures_total", Some("stream")) > 0).then_some(())
    })
    .await
    .unwrap();
    world.to_nats.set(Mode::Pass).await;
    wait_for("the stream to catch up", SOON, async || world.stream_key(&key).await)
        .await
        .unwrap();
    world.settled().await;
    assert_eq!(world.incarnation().await, incarnation, "caught up, not made anew");
}

#[tokio::test]
async fn a_wiped_redis_is_written_anew() {
    let world = World::new().await;
    let _relay = world.relay().await;
    let app = world.rows.application().await;
    let key = world.rows.key(app).await;
    world.settled().await;
    world.redis.flushall::<()>(false).await.unwrap();
    wait_for("the mark to stand again", SOON, async || world.redis_mark().await)
        .await
        .unwrap();
    assert_eq!(world.redis_app(app).await.unwrap().version.row, 1);
    assert!(world.redis_key(&key).await.is_some());
    let filling: Option<String> = world.redis.get(names::REDIS_FILLING).await.unwrap();
    assert_eq!(filling, None);
}

#[tokio::test]
async fn a_redis_that_lost_its_last_writes_is_found_out_and_written_anew() {
    let world = World::new().await;
    let _relay = world.relay().await;
    let app = world.rows.application().await;
    world.settled().await;
    let old: String = world.redis.get(names::redis_app(&app)).await.unwrap();
    world.rows.touch(app).await;
    let gone = world.rows.key(app).await;
    world.settled().await;
    // What a replica that lacked the last writes would show: an older mark, an older record, and one that is no more.
    let mut mark = world.redis_mark().await.unwrap();
    mark.position = 1;
    world
        .redis
        .set::<(), _, _>(names::redis_app(&app), old, None, None, false)
        .await
        .unwrap();
    sqlx::query("ALTER TABLE api_keys DISABLE TRIGGER USER")
        .execute(&world.rows.pool)
        .await
        .unwrap();
    sqlx::query("DELETE FROM api_keys")
        .execute(&world.rows.pool)
        .await
        .unwrap();
    world
        .redis
        .set::<(), _, _>(
            names::REDIS_MARK,
            serde_json::to_string(&mark).unwrap(),
            None,
            None,
            false,
        )
        .await
        .unwrap();
    wait_for("the newest record", SOON, async || {
        world.redis_app(app).await.filter(|record| record.version.row == 2)
    })
    .await
    .unwrap();
    wait_for("the mark", SOON, async || {
        world.redis_mark().await.filter(|mark| mark.position == 3)
    })
    .await
    .unwrap();
    assert_eq!(
        world.redis_key(&gone).await,
        None,
        "a record without a row does not stay"
    );
}

#[tokio::test]
async fn a_wiped_stream_is_made_anew_with_its_marker() {
    let world = World::new().await;
    let _relay = world.relay().await;
    let app = world.rows.application().await;
    let key = world.rows.key(app).await;
    world.settled().await;
    let before = world.heartbeat(|_| true).await;
    world.jetstream().delete_stream(names::EDGE_STREAM).await.unwrap();
    let beat = world.heartbeat(|beat| beat.incarnation != before.incarnation).await;
    assert_eq!(world.incarnation().await, Some(beat.incarnation));
    assert_eq!(beat.position, before.position);
    assert_eq!(world.stream_change(names::EDGE_COMPLETE).await, Some(Change::Complete));
    assert!(world.stream_app(app).await.is_some());
    assert!(world.stream_key(&key).await.is_some());
}

#[tokio::test]
async fn a_stream_that_lost_its_end_is_made_anew_by_the_next_leader() {
    let world = World::new().await;
    let app = world.rows.application().await;
    let relay = world.relay().await;
    world.settled().await;
    world.rows.touch(app).await;
    world.settled().await;
    relay.kill();
    let before = world.incarnation().await.unwrap();
    let stream = world.jetstream().get_stream(names::EDGE_STREAM).await.unwrap();
    let last = stream.cached_info().state.last_sequence;
    // What JetStream shows after a crash that lost the last writes: an older message is the newest.
    stream.delete_message(last).await.unwrap();
    stream.purge().filter(names::edge_app(&app)).await.unwrap();
    let _next = world.relay().await;
    wait_for("the record", SOON, async || {
        world.stream_app(app).await.filter(|app| app.version.row == 2)
    })
    .await
    .unwrap();
    assert_ne!(world.incarnation().await.unwrap(), before);
}

#[tokio::test]
async fn half_a_stream_is_not_taken_for_a_whole_one() {
    let world = World::new().await;
    let app = world.rows.application().await;
    // A fill that was cut short: a record, no marker.
    let config = jetstream::stream::Config {
        name: names::EDGE_STREAM.to_owned(),
        subjects: vec![names::EDGE_SUBJECTS.to_owned()],
        ..Default::default()
    };
    world.jetstream().create_stream(config).await.unwrap();
    let stale = names::edge_key(&Digest::of(b"of a row that is gone by now"));
    world
        .jetstream()
        .publish(stale.clone(), "{}".into())
        .await
        .unwrap()
        .await
        .unwrap();
    let _relay = world.relay().await;
    world.settled().await;
    assert!(world.stream_app(app).await.is_some());
    assert_eq!(world.stream_change(&stale).await, None);
    assert_eq!(world.stream_change(names::EDGE_COMPLETE).await, Some(Change::Complete));
}

#[tokio::test]
async fn one_relay_leads_and_another_takes_over_when_it_is_killed() {
    let world = World::new().await;
    let relays = [world.relay().await, world.relay().await];
    wait_for("a leader", SOON, async || {
        relays.iter().any(Running::leads).then_some(())
    })
    .await
    .unwrap();
    let app = world.rows.application().await;
    world.settled().await;
    assert_eq!(relays.iter().filter(|relay| relay.leads()).count(), 1);
    let leader = relays.iter().position(Running::leads).unwrap();
    let incarnation = world.incarnation().await;
    relays[leader].kill();
    let killed = Instant::now();
    let key = world.rows.key(app).await;
    wait_for("the other to deliver", SOON, async || world.stream_key(&key).await)
        .await
        .unwrap();
    println!("take-over took {:?}", killed.elapsed());
    assert!(relays[1 - leader].leads());
    assert!(
        killed.elapsed() < Duration::from_secs(3),
        "edges reload after three missed heartbeats"
    );
    assert_eq!(world.incarnation().await, incarnation, "nothing was written anew");
}

#[tokio::test]
async fn a_leader_gives_up_when_somebody_else_publishes() {
    let world = World::new().await;
    let relay = world.relay().await;
    let app = world.rows.application().await;
    world.settled().await;
    let stranger = names::edge_key(&Digest::of(b"never a row"));
    world
        .jetstream()
        .publish(stranger.clone(), "{}".into())
        .await
        .unwrap()
        .await
        .unwrap();
    let key = world.rows.key(app).await;
    wait_for("the change in a stream of the relay's own", SOON, async || {
        world.stream_key(&key).await
    })
    .await
    .unwrap();
    wait_for("the stranger's message to be gone", SOON, async || {
        let stays = world.stream_change(&stranger).await;
        if stays.is_none() {
            Ok(())
        } else {
            Err(format!("{stays:?}"))
        }
    })
    .await
    .unwrap();
    wait_for("the lead", SOON, async || relay.leads().then_some(()))
        .await
        .unwrap();
}

#[tokio::test]
async fn the_heartbeat_stops_with_postgres_and_comes_back_with_it() {
    let postgres = PostgresServer::start(PostgresOptions::default()).await.unwrap();
    postgres.create_database("control").await.unwrap();
    let pool = PgPool::connect_with(postgres.options("control")).await.unwrap();
    authsome_db::MIGRATOR.run(&pool).await.unwrap();
    let world = World::with(Rows::on(pool).await).await;
    let relay = world.relay().await;
    world.heartbeat(|_| true).await;
    postgres.pause().unwrap();
    wait_for("the lead to end", SOON, async || (!relay.leads()).then_some(()))
        .await
        .unwrap();
    let mut beats = world.nats.subscribe(names::RELAY_HEARTBEAT).await.unwrap();
    assert!(
        tokio::time::timeout(Duration::from_millis(1_500), beats.next())
            .await
            .is_err(),
        "a heartbeat without a database"
    );
    postgres.resume().unwrap();
    world.heartbeat(|_| true).await;
    assert!(relay.leads());
}

#[tokio::test]
async fn a_raised_restore_epoch_writes_everything_anew() {
    let world = World::new().await;
    let _relay = world.relay().await;
    let app = world.rows.application().await;
    let lost = world.rows.key(app).await;
    world.settled().await;
    let before = world.heartbeat(|_| true).await;
    // As after a restore to a time at which the key did not exist.
    sqlx::raw_sql(
        "ALTER TABLE api_keys DISABLE TRIGGER USER; DELETE FROM api_keys; ALTER TABLE api_keys ENABLE TRIGGER USER;
         UPDATE platform SET epoch = epoch + 1, restored_at = now()",
    )
    .execute(&world.rows.pool)
    .await
    .unwrap();
    let beat = world.heartbeat(|beat| beat.epoch == 2).await;
    assert_ne!(beat.incarnation, before.incarnation);
    assert!(world.stream_app(app).await.is_some());
    assert_eq!(world.stream_key(&lost).await, None);
    wait_for("the mark", SOON, async || {
        world.redis_mark().await.filter(|mark| mark.epoch == 2)
    })
    .await
    .unwrap();
    assert!(world.redis_app(app).await.is_some());
    assert_eq!(world.redis_key(&lost).await, None);
}

#[tokio::test]
async fn a_row_that_is_not_understood_is_withdrawn_and_holds_nothing_up() {
    let world = World::new().await;
    let relay = world.relay().await;
    let app = world.rows.application().await;
    let other = world.rows.application().await;
    world.settled().await;
    sqlx::query("UPDATE applications SET endpoints = '{not an address}' WHERE id = $1")
        .bind(app)
        .execute(&world.rows.pool)
        .await
        .unwrap();
    world.rows.touch(other).await;
    world.settled().await;
    let withdrawn = world.stream_app(app).await.unwrap();
    assert_eq!((withdrawn.version.row, withdrawn.record), (2, None));
    assert_eq!(world.redis_app(app).await.unwrap().record, None);
    assert_eq!(world.stream_app(other).await.unwrap().version.row, 2);
    assert!(relay.metric("authsome_relay_inconsistent_rows_total", None) >= 1);
}

#[tokio::test]
async fn a_job_is_queued_once_even_if_it_is_delivered_twice() {
    let world = World::new().await;
    let app = world.rows.application().await;
    let job = Job {
        operation_id: rows::id(),
        application_id: app,
        kind: JobKind::Provision,
        generation: 1,
        region: "local".to_owned(),
    };
    let mut connection = world.rows.pool.acquire().await.unwrap();
    authsome_db::outbox::enqueue_job(&mut connection, &job).await.unwrap();
    let relay = world.relay().await;
    world.settled().await;
    relay.kill();
    // As if it had been killed between the publish and the cursor.
    sqlx::query("UPDATE relay_cursors SET position = 0")
        .execute(&world.rows.pool)
        .await
        .unwrap();
    let _next = world.relay().await;
    world.settled().await;
    let mut stream = world.jetstream().get_stream(names::JOBS_STREAM).await.unwrap();
    assert_eq!(stream.info().await.unwrap().state.messages, 1);
    let message = stream
        .get_last_raw_message_by_subject(&names::job("provision", "local"))
        .await
        .unwrap();
    assert_eq!(serde_json::from_slice::<Job>(&message.payload).unwrap(), job);
}

#[tokio::test]
async fn entries_that_everybody_received_are_deleted_after_an_hour() {
    let world = World::new().await;
    let app = world.rows.application().await;
    let _relay = world.relay().await;
    world.settled().await;
    sqlx::query("UPDATE outbox SET created_at = now() - interval '61 minutes'")
        .execute(&world.rows.pool)
        .await
        .unwrap();
    world.rows.touch(app).await;
    wait_for("the old entry to go", SOON, async || {
        let left = count(&world.rows.pool, "SELECT count(*) FROM outbox").await;
        if left == 1 {
            Ok(())
        } else {
            Err(format!("{left} entries"))
        }
    })
    .await
    .unwrap();
    world.settled().await;
    assert_eq!(world.stream_app(app).await.unwrap().version.row, 2);
}

#[tokio::test]
async fn a_large_table_is_written_in_pages() {
    let world = World::new().await;
    let app = world.rows.application().await;
    sqlx::query(
        "INSERT INTO api_keys (id, application_id, type, name, digest, masked)
         SELECT 'key_' || lpad(n::text, 26, '0'), $1, 'secret', 'k', sha256(n::text::bytea), 'sk' FROM generate_series(1, 2500) n",
    )
    .bind(app)
    .execute(&world.rows.pool)
    .await
    .unwrap();
    let start = Instant::now();
    let _relay = world.relay().await;
    world.settled().await;
    println!("2,501 rows in both targets after {:?}", start.elapsed());
    let mut stream = world.jetstream().get_stream(names::EDGE_STREAM).await.unwrap();
    assert_eq!(
        stream.info().await.unwrap().state.messages,
        2_502,
        "every row and the marker"
    );
    let keys: i64 = world.redis.dbsize().await.unwrap();
    assert_eq!(keys, 2_502, "every row and the mark");
}
