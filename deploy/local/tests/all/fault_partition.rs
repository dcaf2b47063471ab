//! An edge that is cut off from Postgres, Redis and NATS at once, by a network that swallows everything.

use std::time::{Duration, Instant};

use authsome_testkit::Mode;
use serde_json::{Value, json};

use crate::edge_world::{CLIENT, EdgeWorld, USERS, text};
use crate::load::Load;

/// The least that an application may choose.
const BOUND: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_cut_off_edge_is_missing_fails_closed_where_it_must_serves_the_rest_and_converges() {
    let world = EdgeWorld::start().await;
    let (strict, strict_public) = world.application("Bank").await;
    let bound = BOUND.as_secs().to_string();
    world
        .change_of(
            &strict,
            "UPDATE applications SET strict_seconds = $2::integer WHERE id = $1",
            &bound,
        )
        .await;
    let (_, strict_secret) = world.secret_key_of(&strict).await;
    let (_, key) = world.secret_key().await;
    let (id, doomed) = world.secret_key().await;
    for edge in [0, 1] {
        world.until(edge, USERS, &doomed, 200).await;
    }
    world.until_edges(&["edge-1=live", "edge-2=live"]).await;
    assert_eq!(world.ask_of(&strict, 1, USERS, &strict_secret).await.status(), 200);
    let mut load = Load::on(&world, &[0, 1], &key).await;
    // Of the strict application: its secret keys where the network is whole, its public ones everywhere.
    load.add(&world, 0, &strict, USERS, &strict_secret);
    load.add(&world, 0, &strict, CLIENT, &strict_public);
    load.add(&world, 1, &strict, CLIENT, &strict_public);

    let cut = Instant::now();
    world.network.set(Mode::Blackhole).await;
    let said: Value = world
        .revoke(&id, "wait=edges&timeoutMs=1000")
        .await
        .json()
        .await
        .unwrap();
    assert_eq!((&said["acked"], &said["total"]), (&json!(1), &json!(2)), "{said}");
    assert_eq!(said["missing"][0]["name"], "edge-2", "{said}");
    assert_eq!(world.ask(0, USERS, &doomed).await.status(), 401);
    world.until_edges(&["edge-1=live", "edge-2=missing"]).await;

    let refused = world.until_of(&strict, 1, USERS, &strict_secret, 503).await;
    assert!(cut.elapsed() + Duration::from_secs(2) > BOUND, "not before the bound");
    let body: Value = refused.json().await.unwrap();
    assert_eq!(text(&body["error"], "reason"), "stale_routing");
    // Past the time for which entries are good without a word from anywhere.
    load.last(Duration::from_secs(11).saturating_sub(cut.elapsed())).await;
    assert_eq!(
        world.ask(1, USERS, &doomed).await.status(),
        200,
        "it cannot know, and its application did not ask for more"
    );

    world.network.set(Mode::Pass).await;
    world.until_edges(&["edge-1=live", "edge-2=live"]).await;
    assert_eq!(world.ask(1, USERS, &doomed).await.status(), 401);
    world.until_of(&strict, 1, USERS, &strict_secret, 200).await;
    load.had_no_failure();
}
