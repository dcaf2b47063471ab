//! The feed: what a change does, what proves that none is missing, and what happens when that proof is missing.

use std::time::{Duration, Instant};

use authsome_contract::model::{KeyState, Serve};
use authsome_contract::wire::{Change, Versioned, names};
use authsome_core::key::KeyType;
use authsome_proxy::routing::{Lookup, RoutingSettings};
use authsome_testkit::wait_for;

use crate::routing_fixture::{Edge, Platform, Relay, SOON, key_change, next, revoked};

fn state(edge: &Edge, platform: &Platform) -> Option<KeyState> {
    match edge.look(&platform.secret()) {
        Lookup::Hit(entry) => Some(entry.record.state),
        _ => None,
    }
}

#[tokio::test]
async fn a_revocation_reaches_a_held_key_within_a_tenth_of_a_second() {
    const REVOCATIONS: usize = 11;
    let platform = Platform::start().await;
    let mut relay = Relay::start(&platform.nats).await;
    let edge = platform.edge(RoutingSettings::default()).await;
    relay.make_live(&edge).await;
    let mut took = Vec::new();
    for _ in 0..REVOCATIONS {
        let key = platform.tenants.key(platform.app.id, KeyType::Secret, &["*"]).await;
        let entry = edge.found(&key).await;
        relay.publish(&key_change(&revoked(&entry.record.record()))).await;
        let began = Instant::now();
        wait_for("the revocation", SOON, async || {
            matches!(edge.look(&key.digest()), Lookup::Hit(entry) if entry.record.state == KeyState::Revoked)
                .then_some(())
        })
        .await
        .unwrap();
        took.push(began.elapsed());
    }
    // The middle one: one pause of a busy machine says nothing about the feed.
    took.sort_unstable();
    assert!(
        took[REVOCATIONS / 2] < Duration::from_millis(100),
        "after the acknowledgement: {took:?}"
    );
    edge.stop().await;
}

#[tokio::test]
async fn a_change_of_an_application_is_seen_through_its_keys() {
    let platform = Platform::start().await;
    let mut relay = Relay::start(&platform.nats).await;
    let edge = platform.edge(RoutingSettings::default()).await;
    relay.make_live(&edge).await;
    let entry = edge.found(&platform.app.secret).await;
    let mut record = entry.app.load().unwrap().record.clone();
    record.serve = Serve::Refuse(authsome_contract::model::Refusal::Suspended);
    record.version = next(record.version);
    relay
        .publish(&Change::App(
            record.id,
            Versioned {
                version: record.version,
                record: Some(record.clone()),
            },
        ))
        .await;
    wait_for("the suspension", SOON, async || {
        (entry.app.load()?.record.serve != Serve::Yes).then_some(())
    })
    .await
    .unwrap();
    let gone = Versioned {
        version: next(record.version),
        record: None,
    };
    relay.publish(&Change::App(record.id, gone)).await;
    wait_for("the end of the application", SOON, async || {
        entry.app.load().is_none().then_some(())
    })
    .await
    .unwrap();
    edge.stop().await;
}

#[tokio::test]
async fn what_cannot_be_understood_is_skipped_and_what_follows_is_applied() {
    let platform = Platform::start().await;
    let mut relay = Relay::start(&platform.nats).await;
    let edge = platform.edge(RoutingSettings::default()).await;
    relay.make_live(&edge).await;
    let entry = edge.found(&platform.app.secret).await;
    relay
        .publish_raw(names::edge_key(&platform.app.public.digest()), "{")
        .await;
    relay.publish_raw("edge.planet.mars".to_owned(), "{}").await;
    relay.publish(&key_change(&revoked(&entry.record.record()))).await;
    wait_for("the revocation", SOON, async || {
        (state(&edge, &platform) == Some(KeyState::Revoked)).then_some(())
    })
    .await
    .unwrap();
    relay.make_live(&edge).await;
    edge.stop().await;
}

#[tokio::test]
async fn an_edge_starts_before_the_stream_exists() {
    let platform = Platform::start().await;
    let edge = platform.edge(RoutingSettings::default()).await;
    let entry = edge.found(&platform.app.secret).await;
    assert!(!edge.routing.stats().feed.live);
    let mut relay = Relay::start(&platform.nats).await;
    relay.make_live(&edge).await;
    relay.publish(&key_change(&revoked(&entry.record.record()))).await;
    wait_for("the revocation", SOON, async || {
        (edge.found(&platform.app.secret).await.record.state == KeyState::Revoked).then_some(())
    })
    .await
    .unwrap();
    edge.stop().await;
}

#[tokio::test]
async fn silence_of_the_relay_is_noticed_and_the_next_heartbeat_ends_it() {
    let platform = Platform::start().await;
    let relay = Relay::start(&platform.nats).await;
    let edge = platform.edge(RoutingSettings::default()).await;
    relay.make_live(&edge).await;
    let generation = edge.routing.stats().feed.generation;
    edge.not_live().await;
    relay.make_live(&edge).await;
    assert_eq!(edge.routing.stats().feed.generation, generation, "nothing was missed");
    edge.stop().await;
}

#[tokio::test]
async fn a_stream_that_was_made_anew_makes_every_entry_be_read_again() {
    let platform = Platform::start().await;
    let mut relay = Relay::start(&platform.nats).await;
    let settings = RoutingSettings {
        stale_bound: Duration::from_millis(500),
        ..RoutingSettings::default()
    };
    let edge = platform.edge(settings).await;
    relay.make_live(&edge).await;
    edge.found(&platform.app.secret).await;
    let generation = edge.routing.stats().feed.generation;
    // The revocation is lost with the old stream.
    relay.delete_stream().await;
    platform.tenants.revoke(&platform.app.secret).await;
    relay.create_stream().await;
    wait_for("the new stream", SOON, async || {
        relay.beat().await;
        let feed = edge.routing.stats().feed;
        (feed.live && feed.generation > generation).then_some(())
    })
    .await
    .unwrap();
    wait_for("the revocation", SOON, async || {
        relay.beat().await;
        match edge.look(&platform.secret()) {
            Lookup::Hit(entry) => (entry.record.state == KeyState::Revoked).then_some(()),
            _ => (edge.found(&platform.app.secret).await.record.state == KeyState::Revoked).then_some(()),
        }
    })
    .await
    .unwrap();
    edge.stop().await;
}

#[tokio::test]
async fn a_restarted_nats_is_followed_on_and_misses_nothing() {
    let mut platform = Platform::start().await;
    let mut relay = Relay::start(&platform.nats).await;
    let edge = platform.edge(RoutingSettings::default()).await;
    relay.make_live(&edge).await;
    let entry = edge.found(&platform.app.secret).await;
    let generation = edge.routing.stats().feed.generation;
    platform.nats.kill().await.unwrap();
    edge.not_live().await;
    platform.nats.restart().await.unwrap();
    // A relay that is faster than the edge's new consumer.
    let mut second = wait_for("the stream after the restart", SOON, async || {
        tokio::time::timeout(Duration::from_secs(5), Relay::start(&platform.nats)).await
    })
    .await
    .unwrap();
    second.position = relay.position;
    second.publish(&key_change(&revoked(&entry.record.record()))).await;
    relay = second;
    wait_for("the revocation", SOON, async || {
        relay.beat().await;
        (edge.routing.stats().feed.live && state(&edge, &platform) == Some(KeyState::Revoked)).then_some(())
    })
    .await
    .unwrap();
    assert_eq!(
        edge.routing.stats().feed.generation,
        generation,
        "the stream is the same and nothing was missed"
    );
    edge.stop().await;
}
