//! A target that is away delays nothing but itself and catches up without being written anew.

use std::time::{Duration, Instant};

use authsome_testkit::{Mode, wait_for};

use super::fixture::{SOON, World};

#[tokio::test]
async fn redis_down_delays_nothing_but_redis_which_catches_up() {
    let world = World::new().await;
    let relay = world.relay().await;
    let app = world.rows.application().await;
    world.settled().await;
    world.to_redis.set(Mode::Refuse).await;
    let key = world.rows.key(app).await;
    let start = Instant::now();
    wait_for("the stream", SOON, async || world.stream_key(&key).await)
        .await
        .unwrap();
    assert!(
        start.elapsed() < Duration::from_secs(1),
        "the stream waited for Redis: {:?}",
        start.elapsed()
    );
    wait_for("failures to be counted", SOON, async || {
        (relay.metric("authsome_relay_failures_total", Some("redis")) > 0).then_some(())
    })
    .await
    .unwrap();
    wait_for("the lag to show", SOON, async || {
        (relay.metric("authsome_relay_lag_rows", Some("redis")) > 0).then_some(())
    })
    .await
    .unwrap();
    assert_eq!(world.redis_key(&key).await, None);
    world.to_redis.set(Mode::Pass).await;
    wait_for("Redis to catch up", SOON, async || world.redis_key(&key).await)
        .await
        .unwrap();
    world.settled().await;
    assert_eq!(
        relay.metric("authsome_relay_fills_total", Some("redis")),
        1,
        "caught up, not rewritten"
    );
}

#[tokio::test]
async fn nats_down_delays_nothing_but_nats_which_catches_up() {
    let world = World::new().await;
    let relay = world.relay().await;
    let app = world.rows.application().await;
    world.settled().await;
    let incarnation = world.incarnation().await;
    world.to_nats.set(Mode::Blackhole).await;
    let key = world.rows.key(app).await;
    wait_for("Redis", SOON, async || world.redis_key(&key).await)
        .await
        .unwrap();
    assert_eq!(world.stream_key(&key).await, None);
    wait_for("the failure to be counted", SOON, async || {
        (relay.metric("authsome_relay_failures_total", Some("stream")) > 0).then_some(())
    })
    .await
    .unwrap();
    world.to_nats.set(Mode::Pass).await;
    wait_for("the stream to catch up", SOON, async || world.stream_key(&key).await)
        .await
        .unwrap();
    world.settled().await;
    assert_eq!(world.incarnation().await, incarnation, "caught up, not made anew");
}
