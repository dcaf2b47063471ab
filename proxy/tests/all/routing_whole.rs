//! The whole table: where a cold start gets it from, and what keeps it right.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use authsome_contract::model::KeyState;
use authsome_contract::wire::Change;
use authsome_core::key::{Digest, KeyType};
use authsome_proxy::routing::{LoadedFrom, Lookup, RoutingSettings, SnapshotError, SnapshotSettings};
use authsome_testkit::{Mode, wait_for};
use sqlx::{Connection, PgConnection};
use tempfile::TempDir;

use crate::db::NewApp;
use crate::edge::{command, key, request};
use crate::instance::{Instance, nobody};
use crate::routing_fixture::{Edge, Platform, Relay, SOON, app_change, key_change, lonely_edge};
use crate::wire::exchange;

const NEWEST: &str = "routing.snapshot";
const PREVIOUS: &str = "routing.snapshot.1";

fn quick() -> RoutingSettings {
    RoutingSettings {
        poll_every: Duration::from_millis(500),
        ..RoutingSettings::default()
    }
}

fn keeping(directory: &TempDir) -> RoutingSettings {
    RoutingSettings {
        snapshot: Some(snapshots(directory)),
        ..quick()
    }
}

fn snapshots(directory: &TempDir) -> SnapshotSettings {
    SnapshotSettings::in_directory(directory.path().join("snapshots"))
}

async fn loaded(edge: &Edge) -> LoadedFrom {
    wait_for("the whole table", SOON, async || edge.routing.loaded_from())
        .await
        .unwrap()
}

fn state(edge: &Edge, digest: &Digest) -> Option<KeyState> {
    match edge.look(digest) {
        Lookup::Hit(entry) => Some(entry.record.state),
        Lookup::Absent | Lookup::Unknown => None,
    }
}

/// A stream that holds the application's secret key, the application after it, and the marker.
async fn filled_stream(platform: &Platform) -> Relay {
    let mut relay = Relay::start(&platform.nats).await;
    let teacher = platform.edge(RoutingSettings::default()).await;
    let known = teacher.found(&platform.app.secret).await;
    relay.publish(&key_change(&known.record.record())).await;
    relay.publish(&app_change(&known)).await;
    relay.publish(&Change::Complete).await;
    teacher.stop().await;
    // Nobody has given out positions in this database.
    relay.position = 0;
    relay
}

#[tokio::test]
async fn a_cold_start_takes_the_whole_table_from_the_stream() {
    let platform = Platform::start().await;
    let relay = filled_stream(&platform).await;
    platform.postgres.set(Mode::Refuse).await;
    let edge = platform.whole_edge(quick()).await;
    assert_eq!(loaded(&edge).await, LoadedFrom::Stream);
    relay.make_live(&edge).await;
    assert_eq!(state(&edge, &platform.secret()), Some(KeyState::Active));
    let stats = edge.routing.stats();
    assert_eq!(
        (stats.redis.found, stats.postgres.found),
        (0, 0),
        "nothing was asked for"
    );
    edge.stop().await;
}

#[tokio::test]
async fn a_stream_without_the_marker_is_not_the_whole_table() {
    let platform = Platform::start().await;
    let relay = Relay::start(&platform.nats).await;
    platform.postgres.set(Mode::Refuse).await;
    let edge = platform.whole_edge(quick()).await;
    relay.make_live(&edge).await;
    assert_eq!(edge.routing.loaded_from(), None);
    platform.postgres.set(Mode::Pass).await;
    wait_for("the table from Postgres", SOON, async || {
        relay.beat().await;
        edge.routing.loaded_from()
    })
    .await
    .unwrap();
    assert_eq!(edge.routing.loaded_from(), Some(LoadedFrom::Postgres));
    edge.stop().await;
}

#[tokio::test]
async fn a_stream_that_is_known_to_lack_is_not_waited_for() {
    let platform = Platform::start().await;
    // No heartbeat ever comes. First there is no stream at all, then one without its marker.
    for streams in [false, true] {
        let _relay = if streams {
            Some(Relay::start(&platform.nats).await)
        } else {
            None
        };
        // The best of three, since the machine may be busy; a wait for the stream would take three seconds each time.
        let mut best = Duration::MAX;
        for _ in 0..3 {
            let began = Instant::now();
            let edge = platform.whole_edge(quick()).await;
            assert_eq!(loaded(&edge).await, LoadedFrom::Postgres);
            best = best.min(began.elapsed());
            edge.stop().await;
        }
        assert!(best < Duration::from_millis(2_500), "{best:?} with a stream: {streams}");
    }
}

#[tokio::test]
async fn a_cold_start_without_stream_and_snapshot_reads_postgres() {
    let mut platform = Platform::start().await;
    platform.nats.kill().await.unwrap();
    let edge = platform.whole_edge(quick()).await;
    assert_eq!(loaded(&edge).await, LoadedFrom::Postgres);
    assert_eq!(state(&edge, &platform.secret()), Some(KeyState::Active));
    assert_eq!(edge.routing.stats().postgres.found, 0, "nothing was asked for by name");
    edge.stop().await;
}

#[tokio::test]
async fn a_cold_start_with_everything_down_serves_from_the_snapshot() {
    let directory = tempfile::tempdir().unwrap();
    let mut platform = Platform::start().await;
    platform.nats.kill().await.unwrap();
    let edge = platform.whole_edge(keeping(&directory)).await;
    loaded(&edge).await;
    // Written at shutdown.
    edge.stop().await;
    let file = directory.path().join("snapshots").join(NEWEST);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let bytes = fs::read(&file).unwrap();
    let text = platform.app.secret.expose().as_bytes();
    assert!(!bytes.windows(text.len()).any(|part| part == text), "no key in clear");

    // The best of three, since the machine may be busy.
    let mut best = Duration::MAX;
    for _ in 0..3 {
        let began = Instant::now();
        let edge = lonely_edge(keeping(&directory)).await;
        assert_eq!(loaded(&edge).await, LoadedFrom::Snapshot);
        best = best.min(began.elapsed());
        let entry = edge.found(&platform.app.secret).await;
        assert!(entry.app.load().is_some());
        edge.stop().await;
    }
    assert!(best < Duration::from_secs(2), "{best:?}");
}

#[tokio::test]
async fn a_damaged_snapshot_falls_back_to_the_previous_one() {
    let directory = tempfile::tempdir().unwrap();
    let mut platform = Platform::start().await;
    platform.nats.kill().await.unwrap();
    let edge = platform.whole_edge(quick()).await;
    loaded(&edge).await;
    edge.routing.write_snapshot(&snapshots(&directory)).unwrap();
    edge.routing.write_snapshot(&snapshots(&directory)).unwrap();
    edge.stop().await;
    let damage = |name: &str| {
        let file = directory.path().join("snapshots").join(name);
        let mut bytes = fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&file, bytes).unwrap();
    };
    damage(NEWEST);
    let edge = lonely_edge(quick()).await;
    let (apps, keys) = edge.routing.load_snapshot(&snapshots(&directory)).unwrap();
    assert_eq!((apps, keys), (1, 2));
    edge.found(&platform.app.secret).await;
    edge.stop().await;

    damage(PREVIOUS);
    let edge = lonely_edge(quick()).await;
    let error = edge.routing.load_snapshot(&snapshots(&directory)).unwrap_err();
    assert!(matches!(error, SnapshotError::Unusable), "{error}");
    assert_eq!(edge.routing.loaded_from(), None);
    edge.stop().await;
}

#[tokio::test]
async fn a_snapshot_that_cannot_be_written_leaves_the_older_ones_and_the_edge_alone() {
    let directory = tempfile::tempdir().unwrap();
    let mut platform = Platform::start().await;
    platform.nats.kill().await.unwrap();
    let edge = platform.whole_edge(quick()).await;
    loaded(&edge).await;
    let settings = snapshots(&directory);
    edge.routing.write_snapshot(&settings).unwrap();
    // What a write meets that cannot go on: the place of the new file is taken by a folder.
    fs::create_dir_all(settings.directory.join("routing.snapshot.new/x")).unwrap();
    let error = edge.routing.write_snapshot(&settings).unwrap_err();
    assert!(matches!(error, SnapshotError::Write { .. }), "{error}");
    assert!(Path::exists(&settings.directory.join(NEWEST)));
    assert_eq!(state(&edge, &platform.secret()), Some(KeyState::Active));
    edge.stop().await;
}

#[tokio::test]
async fn without_nats_a_revocation_is_seen_through_postgres_within_two_seconds() {
    const REVOCATIONS: usize = 5;
    let mut platform = Platform::start().await;
    let relay = filled_stream(&platform).await;
    let edge = platform.whole_edge(RoutingSettings::default()).await;
    loaded(&edge).await;
    relay.make_live(&edge).await;
    let generation = edge.routing.stats().feed.generation;
    platform.nats.kill().await.unwrap();
    edge.not_live().await;
    wait_for("the first answer of Postgres", SOON, async || {
        // Keys that the stream did not bring are announced in the outbox.
        state(&edge, &platform.app.public.digest())
    })
    .await
    .unwrap();
    let mut took = Vec::new();
    for _ in 0..REVOCATIONS {
        let another = platform.tenants.key(platform.app.id, KeyType::Secret, &["*"]).await;
        wait_for("a new key", SOON, async || state(&edge, &another.digest()))
            .await
            .unwrap();
        platform.tenants.revoke(&another).await;
        let began = Instant::now();
        wait_for("the revocation", SOON, async || {
            (state(&edge, &another.digest()) == Some(KeyState::Revoked)).then_some(())
        })
        .await
        .unwrap();
        took.push(began.elapsed());
    }
    // The middle one: one pause of a busy machine says nothing about the polls.
    took.sort_unstable();
    assert!(took[REVOCATIONS / 2] < Duration::from_secs(2), "{took:?}");
    let stats = edge.routing.stats();
    assert_eq!(stats.feed.generation, generation, "nothing had to be read again");
    assert_eq!(stats.postgres.found, 0, "nothing was asked for by name");
    edge.stop().await;
}

#[tokio::test]
async fn a_change_of_a_transaction_that_stayed_open_is_not_passed_over() {
    let mut platform = Platform::start().await;
    platform.nats.kill().await.unwrap();
    let edge = platform.whole_edge(quick()).await;
    loaded(&edge).await;
    let mut slow = PgConnection::connect_with(&platform.tenants.database.options)
        .await
        .unwrap();
    let mut transaction = slow.begin().await.unwrap();
    sqlx::query("UPDATE api_keys SET revoked_at = now() WHERE digest = $1")
        .bind(platform.secret().as_bytes().to_vec())
        .execute(&mut *transaction)
        .await
        .unwrap();
    // Younger transactions are committed and seen meanwhile, one question after the other.
    for _ in 0..3 {
        let another = platform.tenants.key(platform.app.id, KeyType::Secret, &["*"]).await;
        wait_for("a new key", SOON, async || state(&edge, &another.digest()))
            .await
            .unwrap();
    }
    assert_eq!(state(&edge, &platform.secret()), Some(KeyState::Active));
    transaction.commit().await.unwrap();
    wait_for("the revocation", SOON, async || {
        (state(&edge, &platform.secret()) == Some(KeyState::Revoked)).then_some(())
    })
    .await
    .unwrap();
    assert_eq!(edge.routing.stats().postgres.found, 0, "nothing was asked for by name");
    edge.stop().await;
}

#[tokio::test]
async fn the_comparison_repairs_what_the_feed_never_said() {
    let platform = Platform::start().await;
    let relay = filled_stream(&platform).await;
    let settings = RoutingSettings {
        compare_every: Duration::from_secs(2),
        ..RoutingSettings::default()
    };
    let edge = platform.whole_edge(settings).await;
    loaded(&edge).await;
    relay.make_live(&edge).await;
    platform.tenants.revoke(&platform.app.secret).await;
    wait_for("the repair", SOON, async || {
        relay.beat().await;
        (state(&edge, &platform.secret()) == Some(KeyState::Revoked)).then_some(())
    })
    .await
    .unwrap();
    wait_for("the key that the stream never had", SOON, async || {
        relay.beat().await;
        state(&edge, &platform.app.public.digest())
    })
    .await
    .unwrap();
    let stats = edge.routing.stats();
    assert_eq!(stats.differences, 2);
    assert!(stats.feed.live, "the feed knew nothing of it");
    edge.stop().await;
}

#[tokio::test]
async fn a_restarted_edge_serves_with_every_dependency_down() {
    let directory = tempfile::tempdir().unwrap();
    let platform = Platform::start().await;
    let instance = Instance::echo().await;
    let app = platform.tenants.app(NewApp::at(&[instance.endpoint()])).await;
    let (first, address, admin) = command(&directory);
    let redis = format!("redis://{}", nobody());
    let nats = format!("nats://{}", nobody());
    let mut program = first
        .env("DATABASE_URL", &platform.tenants.database.url)
        .env("REDIS_URL", &redis)
        .env("NATS_URL", &nats)
        .ready_at(&admin, "/readyz")
        .deadline(Duration::from_mins(1))
        .start()
        .await
        .unwrap();
    let asked = request("GET", &format!("/v1/{}/users", app.id), &key(&app.secret), "");
    assert_eq!(exchange(&address, asked.clone()).await.status(), 200);
    assert!(program.stop().await.unwrap().success());

    let (second, address, admin) = command(&directory);
    let mut program = second
        .env("DATABASE_URL", format!("postgres://nobody@{}/control", nobody()))
        .env("REDIS_URL", &redis)
        .env("NATS_URL", &nats)
        .ready_at(&admin, "/readyz")
        .deadline(Duration::from_mins(1))
        .start()
        .await
        .unwrap();
    assert_eq!(exchange(&address, asked).await.status(), 200, "{}", program.log());
    assert!(program.stop().await.unwrap().success());
}
