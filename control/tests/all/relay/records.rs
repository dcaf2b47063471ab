//! Every committed record arrives at both targets, with its version and never an older one.

use std::time::Instant;

use authsome_contract::{
    model::Version,
    wire::{Change, Versioned, change::redis_version, names},
};
use authsome_testkit::wait_for;
use fred::interfaces::{KeysInterface, ServerInterface};

use super::fixture::{SOON, World};
use crate::rows;

#[tokio::test]
async fn a_new_application_and_key_reach_redis_and_the_stream_with_their_versions() {
    let world = World::new().await;
    let relay = world.relay().await;
    // What commits before the first heartbeat may be part of the first fill, and is not counted as delivered then.
    world.heartbeat(|_| true).await;
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
