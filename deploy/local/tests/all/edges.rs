//! What control knows of the edges: who has a revocation, who is missing, whose keys were used.

use std::time::{Duration, Instant};

use authsome_testkit::wait_for;
use serde_json::{Value, json};

use crate::edge_world::{EdgeWorld, SOON, text};

const USERS: &str = "/users";
const CLIENT: &str = "/v1/client-config";

#[tokio::test]
async fn a_revocation_that_waits_is_refused_by_every_edge_when_it_answers() {
    let mut world = EdgeWorld::start().await;
    let (id, key) = world.secret_key().await;
    for edge in [0, 1] {
        world.until(edge, USERS, &key, 200).await;
    }
    world.until_edges(&["edge-1=live", "edge-2=live"]).await;
    let answer = world.revoke(&id, "wait=edges").await;
    assert_eq!(answer.status(), 200);
    let said: Value = answer.json().await.unwrap();
    for edge in [0, 1] {
        assert_eq!(world.ask(edge, USERS, &key).await.status(), 401, "{said}");
    }
    assert_eq!(
        (&said["acked"], &said["total"], &said["missing"]),
        (&json!(2), &json!(2), &json!([]))
    );
    // Seconds would mean that it was the next heartbeat which told.
    assert!(said["maxMs"].as_u64().unwrap() < 900, "{said}");

    let again: Value = world
        .revoke(&id, "wait=edges&timeoutMs=10000")
        .await
        .json()
        .await
        .unwrap();
    assert_eq!(again["acked"], 2, "revoking again: {again}");
    assert_eq!(world.revoke(&id, "").await.status(), 204);

    world.edges[1].program.stop().await.unwrap();
    world.until_edges(&["edge-1=live"]).await;
    let (id, _) = world.secret_key().await;
    let said: Value = world.revoke(&id, "wait=edges").await.json().await.unwrap();
    assert_eq!(
        (&said["acked"], &said["total"]),
        (&json!(1), &json!(1)),
        "one said goodbye: {said}"
    );
}

#[tokio::test]
async fn an_edge_that_does_not_answer_is_named_in_time_and_survives_a_restart_of_control() {
    let mut world = EdgeWorld::start().await;
    let (id, key) = world.secret_key().await;
    world.until(1, USERS, &key, 200).await;
    world.until_edges(&["edge-1=live", "edge-2=live"]).await;
    world.edges[1].program.child().pause().unwrap();
    let began = Instant::now();
    let said: Value = world
        .revoke(&id, "wait=edges&timeoutMs=1500")
        .await
        .json()
        .await
        .unwrap();
    let took = began.elapsed();
    assert!(took < Duration::from_secs(4), "{took:?}");
    assert_eq!((&said["acked"], &said["total"]), (&json!(1), &json!(2)), "{said}");
    assert_eq!(said["missing"][0]["name"], "edge-2", "{said}");
    world.until_edges(&["edge-1=live", "edge-2=missing"]).await;

    world.control.restart().await.unwrap();
    world.until_edges(&["edge-1=live", "edge-2=missing"]).await;

    world.edges[1].program.child().resume().unwrap();
    world.until_edges(&["edge-1=live", "edge-2=live"]).await;
    assert_eq!(world.ask(1, USERS, &key).await.status(), 401, "it has what it missed");

    // Nobody can be heard any more.
    world.nats.kill().await.unwrap();
    let (id, _) = world.secret_key().await;
    let said: Value = world
        .revoke(&id, "wait=edges&timeoutMs=500")
        .await
        .json()
        .await
        .unwrap();
    assert_eq!(
        (&said["acked"], &said["total"], &said["maxMs"]),
        (&json!(0), &json!(2), &Value::Null),
        "{said}"
    );
}

#[tokio::test]
async fn a_strict_application_fails_closed_without_the_relay_and_recovers_with_it() {
    let mut world = EdgeWorld::start().await;
    let (_, key) = world.secret_key().await;
    world.set_edge(json!({ "strictSeconds": 5 })).await;
    // Before control goes, the edges must have it.
    world.until_edges(&["edge-1=live", "edge-2=live"]).await;
    world.until(0, USERS, &key, 200).await;
    world.until(0, CLIENT, &world.public_key, 200).await;
    world.control.kill().await.unwrap();
    let killed = Instant::now();
    world.until(0, USERS, &key, 503).await;
    assert!(killed.elapsed() > Duration::from_secs(3), "not before the bound");
    let refused = world.ask(0, USERS, &key).await;
    assert!(refused.headers().contains_key("retry-after"));
    let body: Value = refused.json().await.unwrap();
    assert_eq!(
        (text(&body["error"], "code"), text(&body["error"], "reason")),
        ("service_unavailable".to_owned(), "stale_routing".to_owned())
    );
    assert_eq!(world.ask(0, CLIENT, &world.public_key).await.status(), 200);
    world.control.restart().await.unwrap();
    world.until(0, USERS, &key, 200).await;
}

#[tokio::test]
async fn the_last_use_of_a_key_appears_to_the_minute_and_changes_no_version() {
    let mut world = EdgeWorld::start().await;
    let (id, key) = world.secret_key().await;
    let version = async |world: &EdgeWorld| -> i64 {
        sqlx::query_scalar("SELECT version FROM api_keys WHERE id = $1")
            .bind(&id)
            .fetch_one(&mut world.database().await)
            .await
            .unwrap()
    };
    let before = version(&world).await;
    world.until(0, USERS, &key, 200).await;
    // Stopping sends what was noted since the last batch.
    world.edges[0].program.stop().await.unwrap();
    let used = wait_for("the last use", SOON, async || {
        let keys = world.get(&format!("/applications/{}/keys", world.app)).await;
        let keys = keys["data"].as_array().unwrap().clone();
        let mine = keys.into_iter().find(|listed| listed["id"] == id.as_str()).unwrap();
        mine["lastUsedAt"].as_str().map(str::to_owned)
    })
    .await
    .unwrap();
    let at = time::OffsetDateTime::parse(&used, &time::format_description::well_known::Rfc3339).unwrap();
    assert_eq!(at.second(), 0, "{used}");
    assert!(
        (time::OffsetDateTime::now_utc() - at).abs() < time::Duration::seconds(120),
        "{used}"
    );
    assert_eq!(version(&world).await, before);
}
