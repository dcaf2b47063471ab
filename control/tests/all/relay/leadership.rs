//! One relay leads, another takes over, and no reader can tell by what it reads.

use std::time::{Duration, Instant};

use authsome_contract::wire::{Change, names};
use authsome_core::key::Digest;
use authsome_testkit::{PostgresOptions, PostgresServer, wait_for};
use futures::StreamExt;
use sqlx::PgPool;

use super::fixture::{Running, SOON, World};
use crate::rows::Rows;

#[tokio::test]
async fn no_reader_ever_sees_a_version_go_back() {
    let world = World::new().await;
    let app = world.rows.application().await;
    let mut seen = world.nats.subscribe(names::edge_app(&app)).await.unwrap();
    world.nats.flush().await.unwrap();
    let relays = [world.relay().await, world.relay().await];
    world.settled().await;

    let changes = (0..8).map(|_| async {
        for _ in 0..10 {
            world.rows.touch(app).await;
        }
    });
    // Leaders change in the middle of it, and each time the next one must not publish what it read before.
    let killing = async {
        wait_for("the changes to be under way", SOON, async || {
            world.stream_app(app).await.filter(|app| app.version.row > 1)
        })
        .await
        .unwrap();
        relays.iter().find(|relay| relay.leads()).unwrap().kill();
    };
    tokio::join!(futures::future::join_all(changes), killing);
    world.settled().await;

    assert_eq!(world.redis_app(app).await.unwrap().version.row, 81);
    assert_eq!(world.stream_app(app).await.unwrap().version.row, 81);
    let mut last = 0;
    while last < 81 {
        let message = tokio::time::timeout(SOON, seen.next()).await.unwrap().unwrap();
        let Change::App(_, record) = Change::decode(&message.subject, &message.payload).unwrap() else {
            panic!()
        };
        assert!(record.version.row >= last, "{} after {last}", record.version.row);
        last = record.version.row;
    }
}

#[tokio::test]
async fn one_relay_leads_and_another_takes_over_when_it_is_killed() {
    let world = World::new().await;
    let relays = [world.relay().await, world.relay().await];
    wait_for("a leader", SOON, async || {
        relays.iter().any(Running::leads).then_some(())
    })
    .await
    .unwrap();
    let app = world.rows.application().await;
    world.settled().await;
    assert_eq!(relays.iter().filter(|relay| relay.leads()).count(), 1);
    let leader = relays.iter().position(Running::leads).unwrap();
    let incarnation = world.incarnation().await;
    relays[leader].kill();
    let killed = Instant::now();
    let key = world.rows.key(app).await;
    wait_for("the other to deliver", SOON, async || world.stream_key(&key).await)
        .await
        .unwrap();
    println!("take-over took {:?}", killed.elapsed());
    assert!(relays[1 - leader].leads());
    assert!(
        killed.elapsed() < Duration::from_secs(3),
        "edges reload after three missed heartbeats"
    );
    assert_eq!(world.incarnation().await, incarnation, "nothing was written anew");
}

#[tokio::test]
async fn a_leader_gives_up_when_somebody_else_publishes() {
    let world = World::new().await;
    let relay = world.relay().await;
    let app = world.rows.application().await;
    world.settled().await;
    let stranger = names::edge_key(&Digest::of(b"never a row"));
    world
        .jetstream()
        .publish(stranger.clone(), "{}".into())
        .await
        .unwrap()
        .await
        .unwrap();
    let key = world.rows.key(app).await;
    wait_for("the change in a stream of the relay's own", SOON, async || {
        world.stream_key(&key).await
    })
    .await
    .unwrap();
    wait_for("the stranger's message to be gone", SOON, async || {
        let stays = world.stream_change(&stranger).await;
        if stays.is_none() {
            Ok(())
        } else {
            Err(format!("{stays:?}"))
        }
    })
    .await
    .unwrap();
    wait_for("the lead", SOON, async || relay.leads().then_some(()))
        .await
        .unwrap();
}

#[tokio::test]
async fn the_heartbeat_stops_with_postgres_and_comes_back_with_it() {
    let postgres = PostgresServer::start(PostgresOptions::default()).await.unwrap();
    postgres.create_database("control").await.unwrap();
    let pool = PgPool::connect_with(postgres.options("control")).await.unwrap();
    authsome_db::MIGRATOR.run(&pool).await.unwrap();
    let world = World::with(Rows::on(pool).await).await;
    let relay = world.relay().await;
    world.heartbeat(|_| true).await;
    postgres.pause().unwrap();
    wait_for("the lead to end", SOON, async || (!relay.leads()).then_some(()))
        .await
        .unwrap();
    let mut beats = world.nats.subscribe(names::RELAY_HEARTBEAT).await.unwrap();
    // The passing of time is the subject: a leader beats once a second.
    assert!(
        tokio::time::timeout(Duration::from_millis(1_500), beats.next())
            .await
            .is_err(),
        "a heartbeat without a database"
    );
    postgres.resume().unwrap();
    world.heartbeat(|_| true).await;
    assert!(relay.leads());
}
