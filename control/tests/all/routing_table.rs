//! The operators' commands on the routing table as a whole, as programs against real servers.

use std::process::{Output, Stdio};
use std::time::Duration;

use authsome_contract::model::Version;
use authsome_contract::wire::{Versioned, change::redis_version, names};
use authsome_core::key::Digest;
use authsome_testkit::{Database, fresh_database, wait_for};
use fred::interfaces::KeysInterface;
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, PgPool};

use crate::relay::fixture::{SOON, World, count};
use crate::rows::Rows;

/// Runs `authsome-control admin …` to its end.
async fn admin(world: &World, database: &Database, arguments: &[&str]) -> Output {
    let child = tokio::process::Command::new(env!("CARGO_BIN_EXE_authsome-control"))
        .arg("admin")
        .args(arguments)
        .env_clear()
        .env("DATABASE_URL", &database.url)
        .env("REDIS_URL", world.to_redis_url())
        .env("NATS_URL", world.to_nats_url())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    tokio::time::timeout(Duration::from_mins(1), child)
        .await
        .expect("the command ends")
        .unwrap()
}

fn answer(output: &Output) -> Value {
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

async fn world() -> (World, Database) {
    let database = fresh_database(&authsome_db::MIGRATOR).await.unwrap();
    let pool = PgPool::connect_with(database.options.clone()).await.unwrap();
    (World::with(Rows::on(pool).await).await, database)
}

/// A value as the relay writes it, of a version that Postgres does not know.
fn invented(digest: &Digest) -> String {
    let version = Version { epoch: 1, row: 99 };
    let body = serde_json::to_string(&Versioned::<()> { version, record: None }).unwrap();
    assert!(!body.contains(&digest.to_string()));
    redis_version(version) + &body
}

#[tokio::test]
async fn rebuild_routing_corrects_altered_copies_through_the_leader_that_is_there() {
    let (world, database) = world().await;
    let relay = world.relay().await;
    let app = world.rows.application().await;
    let key = world.rows.key(app).await;
    world.settled().await;
    let (right, incarnation) = (world.redis_key(&key).await.unwrap(), world.incarnation().await);
    assert!(right.record.is_some());

    // Ahead of Postgres, so that no delivery would ever correct them.
    let nobodys = Digest::of(b"nobody's");
    for digest in [&key, &nobodys] {
        world
            .redis
            .set::<(), _, _>(names::redis_key(digest), invented(digest), None, None, false)
            .await
            .unwrap();
    }
    let body = invented(&key)[32..].to_owned();
    world
        .jetstream()
        .publish(names::edge_key(&key), body.into())
        .await
        .unwrap()
        .await
        .unwrap();

    let output = admin(&world, &database, &["rebuild-routing", "--timeout", "30"]).await;
    let answer = answer(&output);
    assert_eq!(answer["redis"]["records"], 2, "{answer}");
    assert_eq!(answer["stream"]["records"], 2, "{answer}");
    assert_eq!(world.redis_key(&key).await.unwrap(), right);
    assert_eq!(world.redis_key(&nobodys).await, None);
    assert_eq!(world.stream_key(&key).await.unwrap(), right);
    // Edges notice another stream and load it as a whole.
    assert_ne!(world.incarnation().await, incarnation);
    assert!(world.redis_mark().await.is_some());
    assert!(relay.leads());

    // And goes on as before.
    world.rows.touch(app).await;
    world.settled().await;
    assert_eq!(world.stream_app(app).await.unwrap().version.row, 2);
    assert_eq!(
        count(
            &world.rows.pool,
            "SELECT count(*) FROM audit_events WHERE action = 'routing.rebuild'"
        )
        .await,
        1
    );
}

#[tokio::test]
async fn rebuild_routing_leads_by_itself_where_no_relay_runs() {
    let (world, database) = world().await;
    let app = world.rows.application().await;
    let key = world.rows.key(app).await;
    let answer = answer(&admin(&world, &database, &["rebuild-routing"]).await);
    assert_eq!(answer["redis"]["records"], 2);
    assert!(world.redis_key(&key).await.is_some());
    assert!(world.stream_app(app).await.is_some());
    // The lead is free again.
    let relay = world.relay().await;
    wait_for("the next leader", SOON, async || relay.leads().then_some(()))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_copy_that_is_away_is_named_and_the_request_is_fulfilled_later() {
    let (world, database) = world().await;
    world.rows.application().await;
    world.to_redis.set(authsome_testkit::Mode::Refuse).await;
    let output = admin(&world, &database, &["rebuild-routing", "--timeout", "4"]).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("error: redis not written within 4s"), "{said}");
    world.to_redis.set(authsome_testkit::Mode::Pass).await;
    let _relay = world.relay().await;
    wait_for("the request to be fulfilled", SOON, async || {
        let open = count(
            &world.rows.pool,
            "SELECT count(*) FROM relay_rebuilds WHERE finished_at IS NULL",
        )
        .await;
        (open == 0).then_some(())
    })
    .await
    .unwrap();
}

/// `restored` after the database was replaced by an earlier copy of itself.
#[tokio::test]
async fn after_a_restore_both_copies_converge_to_the_restored_state() {
    let (mut world, database) = world().await;
    let relay = world.relay().await;
    let app = world.rows.application().await;
    let revoked_later = world.rows.key(app).await;
    world.settled().await;
    relay.kill();
    drop(relay);
    let server = authsome_testkit::shared_postgres().await.unwrap();
    let backup = format!("{}_backup", database.name);
    alone(&world.rows.pool, &database.name).await;
    server
        .create_database_from_template(&backup, &database.name)
        .await
        .unwrap();

    // After the backup: a revocation, a new key, a change.
    world.rows.pool = PgPool::connect_with(database.options.clone()).await.unwrap();
    let relay = world.relay().await;
    world.rows.revoke(&revoked_later).await;
    let made_later = world.rows.key(app).await;
    world.rows.touch(app).await;
    world.settled().await;
    assert!(world.redis_key(&made_later).await.is_some());
    relay.kill();
    drop(relay);

    alone(&world.rows.pool, &database.name).await;
    let mut maintenance = sqlx::PgConnection::connect(&server.admin_url()).await.unwrap();
    sqlx::query(AssertSqlSafe(format!("DROP DATABASE {} WITH (FORCE)", database.name)))
        .execute(&mut maintenance)
        .await
        .unwrap();
    server
        .create_database_from_template(&database.name, &backup)
        .await
        .unwrap();
    world.rows.pool = PgPool::connect_with(database.options.clone()).await.unwrap();

    let _relay = world.relay().await;
    let answer = answer(&admin(&world, &database, &["restored"]).await);
    let epoch = answer["epoch"].as_u64().unwrap();
    assert!(epoch > 1, "{answer}");
    assert_eq!(answer["stamped"], 2);
    world.settled().await;
    // As it was at the backup, and newer than whatever was seen after it.
    let key = world.redis_key(&revoked_later).await.unwrap();
    assert_eq!(
        key.record.as_ref().unwrap().state,
        authsome_contract::model::KeyState::Active
    );
    assert_eq!(key.version.epoch, epoch);
    assert_eq!(world.stream_key(&revoked_later).await.unwrap(), key);
    assert_eq!(world.stream_app(app).await.unwrap().version.epoch, epoch);
    // What the backup does not have is nowhere.
    assert_eq!(world.redis_key(&made_later).await, None);
    assert_eq!(world.stream_change(&names::edge_key(&made_later)).await, None);
    let beat = world.heartbeat(|_| true).await;
    assert_eq!(beat.epoch, epoch);
    assert_eq!(world.redis_mark().await.unwrap().epoch, epoch);

    // A second restore to the same backup has an epoch above the first.
    let again = admin(&world, &database, &["restored"]).await;
    assert!(self::answer(&again)["epoch"].as_u64().unwrap() > epoch);
}

/// Nobody else may be connected to a database that is copied.
async fn alone(pool: &PgPool, name: &str) {
    pool.close().await;
    let server = authsome_testkit::shared_postgres().await.unwrap();
    let mut maintenance = sqlx::PgConnection::connect(&server.admin_url()).await.unwrap();
    wait_for("everybody to leave the database", SOON, async || {
        let left: i64 = sqlx::query_scalar("SELECT count(*) FROM pg_stat_activity WHERE datname = $1")
            .bind(name)
            .fetch_one(&mut maintenance)
            .await
            .unwrap();
        (left == 0).then_some(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_tombstone_is_dropped_when_nothing_older_can_remain_and_not_before() {
    let (world, _database) = world().await;
    let relay = world.relay().await;
    let app = world.rows.application().await;
    let (old, young) = (world.rows.key(app).await, world.rows.key(app).await);
    world.settled().await;
    for digest in [&old, &young] {
        sqlx::query("DELETE FROM api_keys WHERE digest = $1")
            .bind(digest.as_bytes().as_slice())
            .execute(&world.rows.pool)
            .await
            .unwrap();
    }
    world.settled().await;
    for digest in [&old, &young] {
        assert_eq!(world.redis_key(digest).await.unwrap().record, None);
        assert_eq!(world.stream_key(digest).await.unwrap().record, None);
    }
    // The last message of the stream is another.
    world.rows.touch(app).await;
    world.settled().await;
    sqlx::query("UPDATE edge_tombstones SET buried_at = now() - interval '26 hours' WHERE ref = $1")
        .bind(old.to_string())
        .execute(&world.rows.pool)
        .await
        .unwrap();
    wait_for("the tombstone to be dropped", SOON, async || {
        let left = count(&world.rows.pool, "SELECT count(*) FROM edge_tombstones").await;
        (left == 1).then_some(())
    })
    .await
    .unwrap();
    assert_eq!(world.redis_key(&old).await, None);
    assert_eq!(world.stream_change(&names::edge_key(&old)).await, None);
    assert_eq!(world.redis_key(&young).await.unwrap().record, None);
    assert_eq!(world.stream_key(&young).await.unwrap().record, None);
    assert_eq!(relay.metric("authsome_relay_tombstones_dropped_total", None), 1);
    // The stream is still whole for those who check it.
    world.heartbeat(|_| true).await;
}

#[tokio::test]
async fn a_rewrite_carries_the_tombstones_that_may_still_hide_something() {
    let (world, database) = world().await;
    let _relay = world.relay().await;
    let app = world.rows.application().await;
    let gone = world.rows.key(app).await;
    world.settled().await;
    sqlx::query("DELETE FROM api_keys WHERE digest = $1")
        .bind(gone.as_bytes().as_slice())
        .execute(&world.rows.pool)
        .await
        .unwrap();
    world.settled().await;
    answer(&admin(&world, &database, &["rebuild-routing"]).await);
    let buried = world.redis_key(&gone).await.unwrap();
    assert_eq!((buried.record, buried.version.row), (None, 2));
    assert_eq!(world.stream_key(&gone).await.unwrap().version.row, 2);
}
