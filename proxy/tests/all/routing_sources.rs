//! Misses: memory, Redis, Postgres, and each of them away.

use std::time::{Duration, Instant};

use authsome_contract::model::KeyState;
use authsome_core::clock::{Clock, SystemClock};
use authsome_core::entropy::SystemEntropy;
use authsome_core::id::ApplicationId;
use authsome_core::key::{ApiKey, KeyMode, KeyType};
use authsome_proxy::routing::{Lookup, RoutingSettings, Unavailable};
use authsome_testkit::{Mode, wait_for};

use crate::routing_fixture::{Copy, Edge, Platform, Relay, SOON, app_change, key_change, revoked};

fn short() -> RoutingSettings {
    RoutingSettings {
        negative_ttl: Duration::from_millis(300),
        stale_bound: Duration::from_millis(200),
        fill_deadline: Duration::from_millis(800),
        hold: Duration::from_millis(300),
        ..RoutingSettings::default()
    }
}

/// How long the edge takes to find so many keys that it does not hold, one after the other.
async fn misses(platform: &Platform, edge: &Edge, keys: u32) -> Duration {
    let mut took = Duration::ZERO;
    for _ in 0..keys {
        let key = platform.tenants.key(platform.app.id, KeyType::Secret, &["*"]).await;
        let began = Instant::now();
        edge.found(&key).await;
        took += began.elapsed();
    }
    took
}

#[tokio::test]
async fn a_miss_asks_postgres_and_is_a_hit_from_then_on() {
    let platform = Platform::start().await;
    let edge = platform.edge(RoutingSettings::default()).await;
    let digest = platform.secret();
    assert!(matches!(edge.look(&digest), Lookup::Unknown));
    let entry = edge.found(&platform.app.secret).await;
    assert_eq!(entry.record.application_id, platform.app.id);
    assert_eq!(entry.record.state, KeyState::Active);
    let app = entry.app.load().unwrap();
    assert_eq!(app.record.endpoints, ["127.0.0.1:9000".parse().unwrap()]);
    assert!(matches!(edge.look(&digest), Lookup::Hit(_)));
    assert!(matches!(
        edge.routing.app(&platform.app.id, SystemClock.unix_millis()),
        Lookup::Hit(_)
    ));
    edge.stop().await;
}

#[tokio::test]
async fn an_application_is_found_by_its_id_and_an_unknown_one_is_not() {
    let platform = Platform::start().await;
    let edge = platform.edge(RoutingSettings::default()).await;
    let app = edge.routing.resolve_app(platform.app.id).await.unwrap().unwrap();
    assert_eq!(app.record.id, platform.app.id);
    let stranger = ApplicationId::generate(&SystemClock, &SystemEntropy::new());
    assert!(edge.routing.resolve_app(stranger).await.unwrap().is_none());
    assert!(matches!(
        edge.routing.app(&stranger, SystemClock.unix_millis()),
        Lookup::Absent
    ));
    edge.stop().await;
}

#[tokio::test]
async fn a_trusted_redis_answers_without_postgres_and_an_untrusted_one_does_not_count() {
    let platform = Platform::start().await;
    let teacher = platform.edge(RoutingSettings::default()).await;
    let known = teacher.found(&platform.app.secret).await;
    let copy = Copy::connect(&platform.redis).await;
    copy.put(&key_change(&known.record.record())).await;
    copy.put(&app_change(&known)).await;
    platform.postgres.set(Mode::Refuse).await;

    let edge = platform.edge(short()).await;
    copy.mark(0, Duration::from_secs(6)).await;
    wait_for("an answer that does not count", SOON, async || {
        assert_eq!(
            edge.routing.resolve_key(platform.secret()).await.unwrap_err(),
            Unavailable,
            "the mark is old"
        );
        (edge.routing.stats().redis.untrusted > 0).then_some(())
    })
    .await
    .unwrap();
    let entry = wait_for("an answer from Redis", SOON, async || {
        copy.mark(0, Duration::ZERO).await;
        edge.routing.resolve_key(platform.secret()).await
    })
    .await
    .unwrap()
    .unwrap();
    assert_eq!(entry.record, known.record);
    assert_eq!(edge.routing.stats().postgres.found, 0);
    teacher.stop().await;
    edge.stop().await;
}

#[tokio::test]
async fn redis_that_is_behind_the_feed_is_not_believed() {
    let platform = Platform::start().await;
    let mut relay = Relay::start(&platform.nats).await;
    let edge = platform.edge(short()).await;
    let teacher = platform.edge(RoutingSettings::default()).await;
    let known = teacher.found(&platform.app.secret).await;
    let copy = Copy::connect(&platform.redis).await;
    copy.put(&key_change(&known.record.record())).await;
    copy.put(&app_change(&known)).await;
    copy.mark(0, Duration::ZERO).await;
    relay.make_live(&edge).await;
    // The change reaches the stream and not Redis; Postgres has it.
    platform.tenants.revoke(&platform.app.secret).await;
    relay.publish(&key_change(&revoked(&known.record.record()))).await;
    wait_for("the change", SOON, async || {
        relay.beat().await;
        (edge.routing.stats().feed.position == relay.position).then_some(())
    })
    .await
    .unwrap();
    copy.mark(0, Duration::ZERO).await;
    assert_eq!(edge.found(&platform.app.secret).await.record.state, KeyState::Revoked);
    teacher.stop().await;
    edge.stop().await;
}

#[tokio::test]
async fn a_key_created_after_it_was_refused_is_found_when_its_change_arrives() {
    let platform = Platform::start().await;
    let mut relay = Relay::start(&platform.nats).await;
    let edge = platform
        .edge(RoutingSettings {
            negative_ttl: Duration::from_mins(10),
            ..short()
        })
        .await;
    relay.make_live(&edge).await;
    let key = ApiKey::generate(KeyType::Secret, KeyMode::Live, &platform.app.id, &SystemEntropy::new());
    assert!(edge.routing.resolve_key(key.digest()).await.unwrap().is_none());
    assert!(matches!(edge.look(&key.digest()), Lookup::Absent));
    platform.tenants.insert_key(platform.app.id, &key, &["*"]).await;
    let teacher = platform.edge(RoutingSettings::default()).await;
    let record = teacher.found(&key).await.record.record();
    relay.publish(&key_change(&record)).await;
    wait_for("the name to be worth asking for", SOON, async || {
        matches!(edge.look(&key.digest()), Lookup::Unknown).then_some(())
    })
    .await
    .unwrap();
    assert_eq!(edge.found(&key).await.record.id, record.id);
    teacher.stop().await;
    edge.stop().await;
}

#[tokio::test]
async fn a_thousand_misses_of_one_key_are_one_question_and_survive_their_first_caller() {
    let platform = Platform::start().await;
    let patient = RoutingSettings {
        fill_deadline: SOON,
        ..RoutingSettings::default()
    };
    let edge = platform.edge(patient).await;
    edge.found(&platform.app.public).await;
    let before = edge.routing.stats().postgres.found;
    platform.postgres.set(Mode::Latency(Duration::from_millis(100))).await;
    let digest = platform.secret();
    let first = tokio::spawn({
        let routing = edge.routing.clone();
        async move { routing.resolve_key(digest).await }
    });
    wait_for("the first caller's question", SOON, async || {
        (platform.postgres.accepted() > 0).then_some(())
    })
    .await
    .unwrap();
    let rest: Vec<_> = (0..1000)
        .map(|_| {
            let routing = edge.routing.clone();
            tokio::spawn(async move { routing.resolve_key(digest).await })
        })
        .collect();
    first.abort();
    for caller in rest {
        assert!(caller.await.unwrap().unwrap().is_some());
    }
    assert_eq!(edge.routing.stats().postgres.found, before + 1);
    edge.stop().await;
}

#[tokio::test]
async fn a_dead_redis_does_not_delay_postgres() {
    let mut platform = Platform::start().await;
    let edge = platform.edge(RoutingSettings::default()).await;
    let healthy = misses(&platform, &edge, 10).await;
    platform.redis.kill().await.unwrap();
    let dead = misses(&platform, &edge, 10).await;
    assert!(
        dead < healthy * 4 + Duration::from_secs(1),
        "{dead:?}, with Redis {healthy:?}"
    );
    edge.stop().await;
}

#[tokio::test]
async fn a_hanging_redis_costs_one_timeout() {
    let platform = Platform::start().await;
    let edge = platform.edge(RoutingSettings::default()).await;
    let healthy = misses(&platform, &edge, 10).await;
    platform.redis.pause().unwrap();
    let hanging = misses(&platform, &edge, 10).await;
    assert!(
        hanging < healthy * 4 + Duration::from_secs(1),
        "{hanging:?}, with Redis {healthy:?}"
    );
    platform.redis.resume().unwrap();
    edge.stop().await;
}

#[tokio::test]
async fn without_any_source_unknown_keys_are_unavailable_and_known_ones_go_on() {
    const DEADLINE: Duration = Duration::from_secs(10);
    const HOLD: Duration = Duration::from_secs(3);
    let mut platform = Platform::start().await;
    // Refused connections fail at once: whoever waited for the deadline would be seen.
    let edge = platform
        .edge(RoutingSettings {
            fill_deadline: DEADLINE,
            hold: HOLD,
            ..short()
        })
        .await;
    let known = edge.found(&platform.app.secret).await;
    platform.redis.kill().await.unwrap();
    platform.postgres.set(Mode::Refuse).await;
    assert_eq!(
        edge.routing
            .resolve_key(platform.app.public.digest())
            .await
            .unwrap_err(),
        Unavailable
    );
    assert!(
        matches!(edge.look(&platform.app.public.digest()), Lookup::Unknown),
        "nothing is remembered of it"
    );
    // Past its bound it must be read again, and since nothing answers it is served as it was.
    wait_for("the bound to pass", SOON, async || {
        matches!(edge.look(&platform.secret()), Lookup::Unknown).then_some(())
    })
    .await
    .unwrap();
    let began = Instant::now();
    let again = edge.found(&platform.app.secret).await;
    assert!(began.elapsed() < DEADLINE / 2, "{:?}", began.elapsed());
    assert_eq!(again.record, known.record);
    assert!(
        matches!(edge.look(&platform.secret()), Lookup::Hit(_)),
        "for a while nobody asks again"
    );
    assert!(edge.routing.stats().stale_served >= 1);
    // And when Postgres is back the key is what Postgres says.
    platform.tenants.revoke(&platform.app.secret).await;
    platform.postgres.set(Mode::Pass).await;
    wait_for("the revocation", SOON, async || {
        let entry = edge.found(&platform.app.secret).await;
        (entry.record.state == KeyState::Revoked).then_some(())
    })
    .await
    .unwrap();
    edge.stop().await;
}

#[tokio::test]
async fn a_hanging_postgres_is_unavailable_within_the_deadline() {
    let platform = Platform::start().await;
    let edge = platform.edge(short()).await;
    edge.found(&platform.app.public).await;
    platform.postgres.set(Mode::Blackhole).await;
    // The best of three, since the machine may be busy.
    let mut best = Duration::MAX;
    for _ in 0..3 {
        let began = Instant::now();
        let asked = tokio::time::timeout(SOON, edge.routing.resolve_key(platform.secret()));
        assert_eq!(asked.await.expect("no deadline").unwrap_err(), Unavailable);
        best = best.min(began.elapsed());
    }
    assert!(best < Duration::from_secs(2), "{best:?}");
    platform.postgres.set(Mode::Pass).await;
    wait_for("Postgres to answer again", SOON, async || {
        edge.routing.resolve_key(platform.secret()).await
    })
    .await
    .unwrap();
    edge.stop().await;
}

#[tokio::test]
async fn a_flood_of_unknown_keys_never_uses_more_connections_than_there_are_permits() {
    let platform = Platform::start().await;
    let edge = platform
        .edge(RoutingSettings {
            postgres_permits: 3,
            ..RoutingSettings::default()
        })
        .await;
    let strangers = (0..500).map(|_| {
        let key = ApiKey::generate(KeyType::Secret, KeyMode::Live, &platform.app.id, &SystemEntropy::new());
        let routing = edge.routing.clone();
        tokio::spawn(async move { routing.resolve_key(key.digest()).await })
    });
    for stranger in strangers.collect::<Vec<_>>() {
        assert!(matches!(stranger.await.unwrap(), Ok(None) | Err(Unavailable)));
    }
    assert!(
        platform.postgres.accepted() <= 3,
        "{} connections",
        platform.postgres.accepted()
    );
    edge.stop().await;
}
