//! Copies of the table that come back empty, or older than they were, while requests go on.

use std::fs;

use authsome_testkit::wait_for;
use fred::interfaces::ClientLike;
use fred::types::{ClusterHash, CustomCommand};

use crate::edge_world::{EdgeWorld, SOON, USERS};
use crate::load::Load;

const UNDER_WAY: u64 = 50;

/// Asks Redis for `words`.
async fn redis(world: &EdgeWorld, words: &[&str]) -> fred::types::Value {
    let config = fred::types::config::Config::from_url(&world.redis.url()).unwrap();
    let client = fred::types::Builder::from_config(config).build().unwrap();
    client.init().await.unwrap();
    let command = CustomCommand::new(words[0].to_owned(), ClusterHash::FirstKey, false);
    let answer = client
        .custom(command, words[1..].iter().map(ToString::to_string).collect())
        .await
        .unwrap();
    client.quit().await.unwrap();
    answer
}

/// What Redis says of a key: its state, as the relay wrote it.
async fn state_in_redis(world: &EdgeWorld, key: &str) -> Result<String, String> {
    let digest = authsome_core::key::Digest::of(key.as_bytes());
    let value = redis(world, &["GET", &format!("edge:key:{digest}")]).await;
    let text = value.as_string().ok_or("no such key")?;
    let json = text.find('{').map(|at| &text[at..]).ok_or("no record")?;
    let json: serde_json::Value = serde_json::from_str(json).map_err(|error| error.to_string())?;
    Ok(json["record"]["state"].to_string())
}

async fn until_in_redis(world: &EdgeWorld, key: &str, state: &str) {
    wait_for(format!("{state} in Redis"), SOON, async || {
        let seen = state_in_redis(world, key).await?;
        if seen == format!("\"{state}\"") {
            Ok(())
        } else {
            Err(seen)
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn nats_restarted_with_an_emptied_store_costs_no_request_and_loses_no_change() {
    let mut world = EdgeWorld::start().await;
    let (_, key) = world.secret_key().await;
    let (id, doomed) = world.secret_key().await;
    let load = Load::on(&world, &[0, 1], &key).await;
    for edge in [0, 1] {
        world.until(edge, USERS, &doomed, 200).await;
    }
    world.nats.kill().await.unwrap();
    // With the store goes whatever only the stream knew.
    assert_eq!(world.revoke(&id, "").await.status(), 204);
    let (_, made) = world.secret_key().await;
    fs::remove_dir_all(world.directory.path().join("nats/jetstream")).unwrap();
    world.nats.restart().await.unwrap();
    world.until_edges(&["edge-1=live", "edge-2=live"]).await;
    for edge in [0, 1] {
        assert_eq!(world.ask(edge, USERS, &doomed).await.status(), 401, "edge {edge}");
        assert_eq!(world.ask(edge, USERS, &made).await.status(), 200, "edge {edge}");
    }
    let (id, later) = world.secret_key().await;
    for edge in [0, 1] {
        world.until(edge, USERS, &later, 200).await;
    }
    let said: serde_json::Value = world
        .revoke(&id, "wait=edges&timeoutMs=10000")
        .await
        .json()
        .await
        .unwrap();
    assert_eq!(said["acked"], 2, "the new stream works: {said}");
    load.more(UNDER_WAY).await;
    load.had_no_failure();
}

#[tokio::test]
async fn redis_that_comes_back_empty_or_from_an_old_dump_raises_no_key_from_the_dead() {
    let mut world = EdgeWorld::start().await;
    let (_, key) = world.secret_key().await;
    let (id, doomed) = world.secret_key().await;
    let load = Load::on(&world, &[0, 1], &key).await;
    for edge in [0, 1] {
        world.until(edge, USERS, &doomed, 200).await;
    }
    until_in_redis(&world, &doomed, "active").await;
    redis(&world, &["SAVE"]).await;
    assert_eq!(world.revoke(&id, "wait=edges&timeoutMs=10000").await.status(), 200);
    until_in_redis(&world, &doomed, "revoked").await;

    // The dump that it starts with still has the key alive, under a mark of its own time.
    world.redis.kill().await.unwrap();
    world.redis.restart().await.unwrap();
    let dead_all_the_while = async |world: &EdgeWorld| {
        wait_for("Redis to be right again", SOON, async || {
            for edge in [0, 1] {
                assert_eq!(world.ask(edge, USERS, &doomed).await.status(), 401, "edge {edge}");
            }
            let state = state_in_redis(world, &doomed).await?;
            if state == "\"revoked\"" { Ok(()) } else { Err(state) }
        })
        .await
        .unwrap();
    };
    dead_all_the_while(&world).await;

    world.redis.kill().await.unwrap();
    fs::remove_file(world.directory.path().join("redis/dump.rdb")).unwrap();
    world.redis.restart().await.unwrap();
    assert!(state_in_redis(&world, &key).await.is_err(), "it is empty");
    dead_all_the_while(&world).await;
    until_in_redis(&world, &key, "active").await;
    load.more(UNDER_WAY).await;
    load.had_no_failure();
}
