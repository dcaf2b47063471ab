//! Upgraded connections and event streams end with the key or application that let them in.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use authsome_contract::model::{AppRecord, Version};
use authsome_contract::wire::{Change, Versioned};
use authsome_core::clock::SystemClock;
use authsome_core::entropy::SystemEntropy;
use authsome_core::id::WorkspaceId;
use authsome_core::key::{ApiKey, KeyType};
use authsome_testkit::wait_for;
use serde_json::json;

use crate::db::{App, NewApp, Tenants};
use crate::edge::{Edge, key, request};
use crate::fed::Fed;
use crate::instance::{Instance, Reply};
use crate::routing_fixture::SOON;
use crate::wire::{Wire, exchange};

/// What a revocation may take.
const IN_TIME: Duration = Duration::from_secs(1);

/// What an instance does with its end of a connection after it is open.
#[derive(Clone, Copy)]
enum Habit {
    /// Sends back what it hears, and tells when its end is closed.
    Echoes,
    /// Sends without end.
    Floods,
    /// Neither reads nor writes.
    Sleeps,
}

/// An instance that upgrades, or streams events, as asked. The receiver counts connections that were closed on it.
async fn instance(habit: Habit) -> (Instance, tokio::sync::mpsc::Receiver<()>) {
    counting_instance(habit, Arc::default()).await
}

async fn counting_instance(habit: Habit, flooded: Arc<AtomicU64>) -> (Instance, tokio::sync::mpsc::Receiver<()>) {
    let (closed, seen) = tokio::sync::mpsc::channel(16);
    let instance = Instance::connected(move |asked, mut wire| {
        let (closed, flooded) = (closed.clone(), Arc::clone(&flooded));
        async move {
            if asked.header("upgrade").is_some() {
                wire.send("HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n")
                    .await;
            } else {
                wire.send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
                    .await;
                wire.send("d\r\ndata: first\n\n\r\n").await;
            }
            match habit {
                Habit::Echoes => {
                    while let Some(heard) = wire.heard().await {
                        wire.send(heard).await;
                    }
                }
                Habit::Floods => {
                    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
                    while wire.try_send(&chunk).await {
                        flooded.fetch_add(1, Ordering::Relaxed);
                    }
                }
                Habit::Sleeps => std::future::pending().await,
            }
            // The test may have seen enough.
            let _ = closed.send(()).await;
            None
        }
    })
    .await;
    (instance, seen)
}

/// An open conversation.
async fn websocket(edge: &Edge, app: &App, by: &ApiKey) -> Wire {
    let mut wire = Wire::connect(&edge.address).await;
    let head = format!("{}upgrade: websocket\r\nconnection: upgrade\r\n", key(by));
    wire.send(request("GET", &format!("/v1/{}/v1/me/events", app.id), &head, ""))
        .await;
    assert_eq!(wire.receive_head().await.unwrap().status(), 101);
    wire
}

/// Not asked for as such: the answer's type decides.
async fn events(edge: &Edge, app: &App, by: &ApiKey) -> Wire {
    let mut wire = Wire::connect(&edge.address).await;
    wire.send(request("GET", &format!("/v1/{}/v1/me/events", app.id), &key(by), ""))
        .await;
    let head = wire.receive_head().await.unwrap();
    assert_eq!(head.header("content-type"), Some("text/event-stream"));
    assert!(wire.chunk().await.unwrap().starts_with(b"data: first\n\n"));
    wire
}

async fn closed_on_the_instance(seen: &mut tokio::sync::mpsc::Receiver<()>) {
    tokio::time::timeout(SOON, seen.recv()).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_revoked_keys_live_connections_are_closed_both_ways_within_a_second_and_others_stay() {
    let tenants = Tenants::new().await;
    let (instance, mut seen) = instance(Habit::Echoes).await;
    let app = tenants.app(NewApp::at(&[instance.endpoint()])).await;
    let other = tenants.key(app.id, KeyType::Public, &[]).await;
    let fed = Fed::start(&tenants).await;
    let mut socket = websocket(&fed.edge, &app, &app.public).await;
    let mut stream = events(&fed.edge, &app, &app.public).await;
    let mut kept = websocket(&fed.edge, &app, &other).await;
    socket.send("ping").await;
    assert_eq!(socket.exactly(4).await, b"ping");
    fed.edge.settled("authsome_edge_live_connections", 3).await;

    let began = fed.revoke(&tenants, &app, &app.public).await;
    assert!(socket.is_closed().await);
    assert!(stream.is_closed().await);
    let took = began.elapsed();
    assert!(took < IN_TIME, "{took:?}");
    closed_on_the_instance(&mut seen).await;
    closed_on_the_instance(&mut seen).await;

    kept.send("still here").await;
    assert_eq!(kept.exactly(10).await, b"still here");
    fed.closed("key", 2).await;
    fed.edge.settled("authsome_edge_live_connections", 1).await;
    wait_for("the access log", SOON, async || {
        fed.edge.program.log().contains("NoLongerAllowed").then_some(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_client_that_does_not_read_is_closed_with_its_key() {
    let tenants = Tenants::new().await;
    let flooded = Arc::new(AtomicU64::new(0));
    let (instance, mut seen) = counting_instance(Habit::Floods, Arc::clone(&flooded)).await;
    let app = tenants.app(NewApp::at(&[instance.endpoint()])).await;
    let fed = Fed::start(&tenants).await;
    let stalled = events(&fed.edge, &app, &app.public).await;
    // Until every buffer on the way is full.
    let (mut last, mut same) = (0, 0);
    wait_for("the stream to stall", SOON, async || {
        let now = flooded.load(Ordering::Relaxed);
        same = if now == last && now > 0 { same + 1 } else { 0 };
        last = now;
        (same > 20).then_some(())
    })
    .await
    .unwrap();
    let began = fed.revoke(&tenants, &app, &app.public).await;
    closed_on_the_instance(&mut seen).await;
    let took = began.elapsed();
    assert!(took < IN_TIME, "{took:?}");
    drop(stalled);
}

#[tokio::test]
async fn an_instance_that_takes_no_bytes_does_not_keep_a_revoked_connection() {
    let tenants = Tenants::new().await;
    let (instance, _seen) = instance(Habit::Sleeps).await;
    let app = tenants.app(NewApp::at(&[instance.endpoint()])).await;
    let fed = Fed::start(&tenants).await;
    let mut socket = websocket(&fed.edge, &app, &app.public).await;
    // More than all buffers on the way hold.
    let block = vec![b'x'; 64 * 1024];
    while tokio::time::timeout(Duration::from_millis(500), socket.try_send(&block))
        .await
        .is_ok_and(|sent| sent)
    {}
    let began = fed.revoke(&tenants, &app, &app.public).await;
    assert!(socket.is_closed().await);
    let took = began.elapsed();
    assert!(took < IN_TIME, "{took:?}");
}

#[tokio::test]
async fn expiry_by_the_clock_closes_without_any_message() {
    let tenants = Tenants::new().await;
    let (instance, mut seen) = instance(Habit::Echoes).await;
    let app = tenants.app(NewApp::at(&[instance.endpoint()])).await;
    let fed = Fed::start(&tenants).await;
    // The edge has not heard of it, and asks when it is used first.
    let brief = tenants.key(app.id, KeyType::Public, &[]).await;
    let life = Duration::from_secs(8);
    tenants.expire_in(&brief, 8).await;
    let began = Instant::now();
    let mut socket = websocket(&fed.edge, &app, &brief).await;
    assert!(socket.is_closed().await);
    let took = began.elapsed();
    assert!(took + IN_TIME > life && took < life + IN_TIME, "{took:?}");
    closed_on_the_instance(&mut seen).await;
    fed.closed("expired", 1).await;
}

#[tokio::test]
async fn an_application_that_stops_serving_loses_its_live_connections() {
    let tenants = Tenants::new().await;
    let (instance, _seen) = instance(Habit::Echoes).await;
    let app = tenants.app(NewApp::at(&[instance.endpoint()])).await;
    let other = tenants.app(NewApp::at(&[instance.endpoint()])).await;
    let fed = Fed::start(&tenants).await;
    let mut socket = websocket(&fed.edge, &app, &app.secret).await;
    let mut kept = websocket(&fed.edge, &other, &other.secret).await;
    let version = Version { epoch: 1, row: 2 };
    let suspended: AppRecord = serde_json::from_value(json!({
        "id": app.id,
        "workspaceId": WorkspaceId::generate(&SystemClock, &SystemEntropy::new()),
        "environment": "production",
        "region": "local",
        "serve": serde_json::to_value(authsome_contract::model::Serve::Refuse(
            authsome_contract::model::Refusal::Suspended,
        ))
        .unwrap(),
        "plan": "free",
        "version": version,
    }))
    .unwrap();
    tenants.suspend(app.id).await;
    let began = Instant::now();
    fed.relay
        .lock()
        .await
        .publish(&Change::App(
            app.id,
            Versioned {
                version,
                record: Some(suspended),
            },
        ))
        .await;
    assert!(socket.is_closed().await);
    let took = began.elapsed();
    assert!(took < IN_TIME, "{took:?}");
    fed.closed("application", 1).await;
    kept.send("ping").await;
    assert_eq!(kept.exactly(4).await, b"ping");
}

#[tokio::test]
async fn a_strict_bound_that_passes_closes_the_secret_keys_connections_and_no_others() {
    let tenants = Tenants::new().await;
    let (instance, mut seen) = instance(Habit::Echoes).await;
    let strict = tenants.app(NewApp::at(&[instance.endpoint()])).await;
    let easy = tenants.app(NewApp::at(&[instance.endpoint()])).await;
    // The least there is.
    tenants.make_strict(strict.id, 5).await;
    let fed = Fed::start(&tenants).await;
    let mut socket = websocket(&fed.edge, &strict, &strict.secret).await;
    let mut stream = events(&fed.edge, &strict, &strict.secret).await;
    let mut public = websocket(&fed.edge, &strict, &strict.public).await;
    let mut other = websocket(&fed.edge, &easy, &easy.secret).await;
    fed.fall_silent();
    let began = Instant::now();
    assert!(socket.is_closed().await);
    assert!(began.elapsed() > Duration::from_secs(4), "not before the bound");
    assert!(stream.is_closed().await);
    closed_on_the_instance(&mut seen).await;
    closed_on_the_instance(&mut seen).await;
    fed.closed("unvouched", 2).await;
    for kept in [&mut public, &mut other] {
        kept.send("ping").await;
        assert_eq!(kept.exactly(4).await, b"ping");
    }
    fed.edge.settled("authsome_edge_live_connections", 2).await;
}

#[tokio::test]
async fn an_ordinary_request_after_a_stream_is_not_closed_with_the_streams_key() {
    let tenants = Tenants::new().await;
    let instance = Instance::start(|asked| {
        if asked.target().contains("events") {
            Reply::ok("content-type: text/event-stream\r\n", "data: all\n\n")
        } else {
            Reply::ok("", "ok")
        }
    })
    .await;
    let app = tenants.app(NewApp::at(&[instance.endpoint()])).await;
    let other = tenants.key(app.id, KeyType::Public, &[]).await;
    let fed = Fed::start(&tenants).await;
    let mut wire = Wire::connect(&fed.edge.address).await;
    let target = format!("/v1/{}/v1/me/events", app.id);
    wire.send(request("GET", &target, &key(&app.public), "")).await;
    assert_eq!(wire.receive().await.unwrap().text(), "data: all\n\n");
    fed.revoke(&tenants, &app, &app.public).await;
    wait_for("the revocation", SOON, async || {
        let answer = exchange(&fed.edge.address, request("GET", &target, &key(&app.public), "")).await;
        (answer.status() == 401).then_some(())
    })
    .await
    .unwrap();
    wire.send(request("GET", &format!("/v1/{}/v1/me", app.id), &key(&other), ""))
        .await;
    assert_eq!(wire.receive().await.unwrap().text(), "ok");
    fed.closed("key", 0).await;
}

#[tokio::test]
async fn more_live_connections_than_allowed_are_refused_and_requests_go_on() {
    let tenants = Tenants::new().await;
    let (instance, _seen) = instance(Habit::Echoes).await;
    let app = tenants.app(NewApp::at(&[instance.endpoint()])).await;
    let edge = Edge::start(&tenants, &[("AUTHSOME_LIMITS_LIVE_CONNECTIONS", "1")]).await;
    let held = websocket(&edge, &app, &app.public).await;
    let head = format!("{}upgrade: websocket\r\nconnection: upgrade\r\n", key(&app.public));
    let target = format!("/v1/{}/v1/me/events", app.id);
    let refused = exchange(&edge.address, request("GET", &target, &head, "")).await;
    assert_eq!((refused.status(), refused.header("retry-after")), (503, Some("5")));
    // An event stream that nobody announced is found out by its answer.
    let refused = exchange(&edge.address, request("GET", &target, &key(&app.public), "")).await;
    assert_eq!(refused.status(), 503);
    edge.counted("authsome_edge_live_refused_total", 2).await;
    drop(held);
    wait_for("room", SOON, async || {
        (edge.metric("authsome_edge_live_connections").await == 0).then_some(())
    })
    .await
    .unwrap();
    websocket(&edge, &app, &app.public).await;
}
