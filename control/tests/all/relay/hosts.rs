//! Host names reach both copies once they are proved, and leave them for good.

use authsome_contract::model::HostRecord;
use authsome_contract::wire::{Change, Versioned, change::decode_redis, names};
use authsome_core::id::ApplicationId;
use authsome_testkit::wait_for;
use fred::interfaces::KeysInterface;

use super::fixture::{SOON, World};

const HOST: &str = "login.shop.example";

async fn insert(world: &World, app: ApplicationId) {
    sqlx::query("INSERT INTO hosts (host, application_id, challenge) VALUES ($1, $2, 'a-challenge-of-some-length')")
        .bind(HOST)
        .bind(app)
        .execute(&world.rows.pool)
        .await
        .unwrap();
}

async fn execute(world: &World, statement: &'static str) {
    let done = sqlx::query(statement)
        .bind(HOST)
        .execute(&world.rows.pool)
        .await
        .unwrap();
    assert_eq!(done.rows_affected(), 1);
}

async fn in_redis(world: &World) -> Option<Versioned<HostRecord>> {
    let value: Option<Vec<u8>> = world.redis.get(names::redis_host(HOST)).await.unwrap();
    value.map(|value| decode_redis(&value).unwrap())
}

async fn in_stream(world: &World) -> Option<Versioned<HostRecord>> {
    match world.stream_change(&names::edge_host(HOST)).await? {
        Change::Host(host, record) => {
            assert_eq!(host, HOST);
            Some(record)
        }
        other => panic!("not a host: {other:?}"),
    }
}

#[tokio::test]
async fn a_host_reaches_both_copies_when_it_is_proved_and_a_name_given_again_is_newer_than_its_tombstone() {
    let world = World::new().await;
    let _relay = world.relay().await;
    let app = world.rows.application().await;
    insert(&world, app).await;
    world.settled().await;
    assert_eq!(in_redis(&world).await.and_then(|versioned| versioned.record), None);

    execute(&world, "UPDATE hosts SET verified_at = now() WHERE host = $1").await;
    world.settled().await;
    let proved = in_redis(&world).await.unwrap();
    assert_eq!(proved.record.as_ref().unwrap().application_id, app);
    assert_eq!(in_stream(&world).await.unwrap(), proved);

    execute(&world, "DELETE FROM hosts WHERE host = $1").await;
    world.settled().await;
    let gone = in_redis(&world).await.unwrap();
    assert!(gone.record.is_none() && gone.version > proved.version, "{gone:?}");
    assert_eq!(in_stream(&world).await.unwrap(), gone);

    insert(&world, app).await;
    execute(&world, "UPDATE hosts SET verified_at = now() WHERE host = $1").await;
    world.settled().await;
    let again = in_redis(&world).await.unwrap();
    assert!(again.record.is_some() && again.version > gone.version, "{again:?}");
    assert_eq!(in_stream(&world).await.unwrap(), again);
}

#[tokio::test]
async fn a_table_that_is_written_anew_holds_hosts_and_their_tombstones() {
    let world = World::new().await;
    let app = world.rows.application().await;
    insert(&world, app).await;
    execute(&world, "UPDATE hosts SET verified_at = now() WHERE host = $1").await;
    let relay = world.relay().await;
    world.settled().await;
    let held = in_stream(&world).await.unwrap();
    assert!(held.record.is_some());
    relay.kill();
    execute(&world, "DELETE FROM hosts WHERE host = $1").await;
    world.jetstream().delete_stream(names::EDGE_STREAM).await.unwrap();
    let _relay = world.relay().await;
    let buried = wait_for("the tombstone in the new stream", SOON, async || {
        in_stream(&world).await
    })
    .await
    .unwrap();
    assert!(buried.record.is_none() && buried.version > held.version, "{buried:?}");
}

#[tokio::test]
async fn an_application_that_is_gone_for_good_gives_its_names_back() {
    let world = World::new().await;
    let app = world.rows.application().await;
    insert(&world, app).await;
    sqlx::query("UPDATE applications SET status = 'deleted', deleted_at = now() WHERE id = $1")
        .bind(app)
        .execute(&world.rows.pool)
        .await
        .unwrap();
    let other = world.rows.application().await;
    insert(&world, other).await;
}
