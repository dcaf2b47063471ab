//! Redis, NATS and Postgres killed under the edges, one by one and all together, while requests go on.

use std::time::Duration;

use authsome_testkit::wait_for;
use serde_json::{Value, json};

use crate::edge_world::{CLIENT, EdgeWorld, USERS};
use crate::load::Load;

/// Requests of each stream while something is away.
const UNDER_WAY: u64 = 50;
/// Past the ten seconds for which an entry is good while nothing confirms it.
const PAST_THE_BOUND: Duration = Duration::from_secs(12);
/// For a revocation by way of Postgres alone.
const BY_POSTGRES: Duration = Duration::from_secs(3);

#[tokio::test]
async fn redis_killed_costs_no_request_and_neither_creations_nor_revocations_wait_for_it() {
    let mut world = EdgeWorld::start().await;
    let (_, key) = world.secret_key().await;
    let load = Load::on(&world, &[0, 1], &key).await;
    world.redis.kill().await.unwrap();
    load.more(UNDER_WAY).await;
    let (id, another) = world.secret_key().await;
    for edge in [0, 1] {
        assert_eq!(world.ask(edge, USERS, &another).await.status(), 200);
    }
    let said: Value = world
        .revoke(&id, "wait=edges&timeoutMs=10000")
        .await
        .json()
        .await
        .unwrap();
    assert_eq!(said["acked"], 2, "{said}");
    for edge in [0, 1] {
        assert_eq!(world.ask(edge, USERS, &another).await.status(), 401);
    }
    load.more(UNDER_WAY).await;
    world.redis.restart().await.unwrap();
    load.more(UNDER_WAY).await;
    load.had_no_failure();
}

#[tokio::test]
async fn nats_killed_costs_no_request_and_revocations_arrive_by_way_of_postgres() {
    let mut world = EdgeWorld::start().await;
    let (_, key) = world.secret_key().await;
    let (id, doomed) = world.secret_key().await;
    let load = Load::on(&world, &[0, 1], &key).await;
    for edge in [0, 1] {
        world.until(edge, USERS, &doomed, 200).await;
    }
    world.nats.kill().await.unwrap();
    load.more(UNDER_WAY).await;
    let (_, another) = world.secret_key().await;
    for edge in [0, 1] {
        assert_eq!(world.ask(edge, USERS, &another).await.status(), 200);
    }
    assert_eq!(world.revoke(&id, "").await.status(), 204);
    world.refused_everywhere_within(BY_POSTGRES, &doomed).await;
    load.more(UNDER_WAY).await;
    world.nats.restart().await.unwrap();
    world.until_edges(&["edge-1=live", "edge-2=live"]).await;
    for edge in [0, 1] {
        assert_eq!(world.ask(edge, USERS, &doomed).await.status(), 401);
    }
    load.had_no_failure();
}

#[tokio::test]
async fn postgres_killed_costs_no_request_of_a_key_that_is_known() {
    let mut world = EdgeWorld::start().await;
    let (_, key) = world.secret_key().await;
    let load = Load::on(&world, &[0, 1], &key).await;
    world.postgres.kill().await.unwrap();
    for edge in &world.edges {
        edge.until_live(false).await;
    }
    load.more(UNDER_WAY).await;
    let unknown = world.ask(0, USERS, &world.unknown_key()).await;
    assert_eq!(unknown.status(), 503, "nobody can say that it does not exist");
    world.postgres.restart().await.unwrap();
    let (_, another) = world.secret_key_soon().await;
    for edge in [0, 1] {
        world.until(edge, USERS, &another, 200).await;
    }
    for edge in &world.edges {
        edge.until_live(true).await;
    }
    assert_eq!(world.ask(0, USERS, &world.unknown_key()).await.status(), 401);
    load.had_no_failure();
}

#[tokio::test]
async fn with_all_three_killed_warm_edges_fail_no_request_and_a_cold_one_serves_from_its_snapshot() {
    let mut world = EdgeWorld::start().await;
    let (_, key) = world.secret_key().await;
    let (dead, revoked) = world.secret_key().await;
    world.until(1, USERS, &revoked, 200).await;
    world.until(1, USERS, &key, 200).await;
    assert_eq!(world.revoke(&dead, "wait=edges&timeoutMs=10000").await.status(), 200);
    // It writes its snapshot and is gone; the first edge stays warm.
    world.edges[1].program.stop().await.unwrap();
    let load = Load::on(&world, &[0], &key).await;
    world.postgres.kill().await.unwrap();
    world.redis.kill().await.unwrap();
    world.nats.kill().await.unwrap();
    load.last(PAST_THE_BOUND).await;
    assert_eq!(world.ask(0, USERS, &world.unknown_key()).await.status(), 503);

    world.edges[1].program.restart().await.unwrap();
    assert_eq!(world.ask(1, USERS, &key).await.status(), 200);
    assert_eq!(world.ask(1, CLIENT, &world.public_key).await.status(), 200);
    assert_eq!(world.ask(1, USERS, &revoked).await.status(), 401);
    load.more(UNDER_WAY).await;

    world.postgres.restart().await.unwrap();
    world.redis.restart().await.unwrap();
    world.nats.restart().await.unwrap();
    let (id, later) = world.secret_key_soon().await;
    for edge in [0, 1] {
        world.until(edge, USERS, &later, 200).await;
    }
    world.until_edges(&["edge-1=live", "edge-2=live"]).await;
    let said: Value = wait_for("both edges to have a revocation", Duration::from_secs(30), async || {
        let answer = world.revoke(&id, "wait=edges&timeoutMs=5000").await;
        let said: Value = answer.json().await.map_err(|error| error.to_string())?;
        if said["acked"] == 2 {
            Ok(said)
        } else {
            Err(said.to_string())
        }
    })
    .await
    .unwrap();
    assert_eq!(said["missing"], json!([]));
    load.had_no_failure();
}
