//! A target that lost something, or may have, is found out and written anew.

use async_nats::jetstream;
use authsome_contract::wire::{Change, names};
use authsome_core::key::Digest;
use authsome_testkit::wait_for;
use fred::interfaces::{ClientLike, KeysInterface};

use super::fixture::{SOON, World};

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
