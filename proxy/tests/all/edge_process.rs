//! How the process starts and ends.

use std::time::{Duration, Instant};

use authsome_testkit::wait_for;
use nix::sys::signal::Signal;

use crate::db::{NewApp, Tenants};
use crate::edge::{Edge, command, key, request};
use crate::instance::{Instance, nobody};
use crate::wire::{Wire, exchange};

/// An instance that answers when it is told to.
async fn slow_instance() -> (Instance, tokio::sync::watch::Sender<bool>) {
    let (go, wait) = tokio::sync::watch::channel(false);
    let instance = Instance::connected(move |_, mut wire| {
        let mut wait = wait.clone();
        async move {
            wait.wait_for(|go| *go).await.unwrap();
            wire.send("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone").await;
            Some(wire)
        }
    })
    .await;
    (instance, go)
}

#[tokio::test]
async fn an_idle_edge_stops_at_once() {
    let edge = Edge::start(&Tenants::new().await, &[]).await;
    // A connection that is open and idle is nothing to wait for.
    let mut wire = Wire::connect(&edge.address).await;
    wire.send(request("GET", "/health", "", "")).await;
    assert_eq!(wire.receive().await.unwrap().status(), 200);
    let mut edge = edge;
    let began = Instant::now();
    let exit = edge.program.stop().await.unwrap();
    assert!(exit.success(), "{exit} {}", edge.program.log());
    assert!(
        began.elapsed() < Duration::from_secs(4),
        "{:?}\n{}",
        began.elapsed(),
        edge.program.log()
    );
}

#[tokio::test]
async fn a_request_in_flight_is_finished_and_nothing_new_accepted() {
    let tenants = Tenants::new().await;
    let (instance, go) = slow_instance().await;
    let app = tenants.app(NewApp::at(&[instance.endpoint()])).await;
    let edge = Edge::start(&tenants, &[]).await;
    let mut wire = Wire::connect(&edge.address).await;
    wire.send(request("GET", &format!("/v1/{}/users", app.id), &key(&app.secret), ""))
        .await;
    wait_for("the instance to be asked", Duration::from_secs(10), async || {
        instance.seen().first().cloned()
    })
    .await
    .unwrap();

    edge.program.child().signal(Signal::SIGTERM).unwrap();
    wait_for("the edge to accept nothing more", Duration::from_secs(10), async || {
        tokio::net::TcpStream::connect(&edge.address)
            .await
            .is_err()
            .then_some(())
    })
    .await
    .unwrap();
    go.send_replace(true);
    let answer = wire.receive().await.unwrap();
    assert_eq!((answer.status(), answer.text().as_str()), (200, "done"));
    let began = Instant::now();
    let exit = tokio::time::timeout(Duration::from_secs(10), edge.program.child().exited())
        .await
        .unwrap();
    assert!(exit.success(), "{}", edge.program.log());
    // Without NATS the counters are offered for five seconds before they are left to the next start.
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
}

#[tokio::test]
async fn readiness_goes_off_before_the_door_is_closed() {
    let edge = Edge::start(&Tenants::new().await, &[("AUTHSOME_SHUTDOWN_LINGER", "30s")]).await;
    edge.program.child().signal(Signal::SIGTERM).unwrap();
    wait_for("readiness to go off", Duration::from_secs(10), async || {
        (exchange(&edge.admin, request("GET", "/readyz", "", "")).await.status() == 503).then_some(())
    })
    .await
    .unwrap();
    assert_eq!(
        exchange(&edge.address, request("GET", "/ready", "", "")).await.status(),
        503
    );
    assert_eq!(
        exchange(&edge.address, request("GET", "/health", "", ""))
            .await
            .status(),
        200,
        "still served"
    );
    // A second signal does not wait for the linger to pass.
    let began = Instant::now();
    edge.program.child().signal(Signal::SIGTERM).unwrap();
    tokio::time::timeout(Duration::from_secs(10), edge.program.child().exited())
        .await
        .unwrap();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_request_that_never_ends_is_cut_off_at_the_deadline() {
    let tenants = Tenants::new().await;
    let (instance, _go) = slow_instance().await;
    let app = tenants.app(NewApp::at(&[instance.endpoint()])).await;
    let edge = Edge::start(&tenants, &[("AUTHSOME_SHUTDOWN_DEADLINE", "5s")]).await;
    let mut wire = Wire::connect(&edge.address).await;
    wire.send(request("GET", &format!("/v1/{}/users", app.id), &key(&app.secret), ""))
        .await;
    wait_for("the instance to be asked", Duration::from_secs(10), async || {
        instance.seen().first().cloned()
    })
    .await
    .unwrap();
    let mut edge = edge;
    let began = Instant::now();
    edge.program.stop().await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    assert!(
        edge.program.log().contains("requests are cut off"),
        "{}",
        edge.program.log()
    );
}

#[tokio::test]
async fn a_bad_configuration_is_told_completely_and_ends_with_2() {
    let directory = tempfile::tempdir().unwrap();
    let (command, ..) = command(&directory);
    let program = command
        .env("AUTHSOME_LISTEN_ADDRESS", "everywhere")
        .env("AUTHSOME_UPSTREAM_CONNECT_TIMEOUT", "soon")
        .env("AUTHSOME_ENCRYPTION_EDGE_KEY", "hunter2")
        .env("NATS_URL", "http://127.0.0.1")
        .env("DATABASE_URL", "")
        .env("REDIS_URL", "")
        .spawn()
        .await
        .unwrap();
    let exit = tokio::time::timeout(Duration::from_secs(20), program.child().exited())
        .await
        .unwrap();
    assert_eq!(exit.code(), Some(2));
    let log = program.log();
    for key in [
        "listen.address",
        "upstream.connect_timeout",
        "encryption.edge_key",
        "nats.url",
        "database.url",
        "redis.url",
    ] {
        assert!(log.contains(key), "{key} is not in\n{log}");
    }
    assert!(!log.contains("hunter2"), "{log}");
}

#[tokio::test]
async fn a_configuration_file_is_checked_without_starting() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("edge.toml");
    let text = "[listen]\naddress = \"127.0.0.1:18081\"\n[database]\nurl = \"postgres://db/control\"\n\
                [redis]\nurl = \"redis://cache\"\n[nats]\nurl = \"nats://bus\"\n[limits]\nbody_bytes = \"1MiB\"\n";
    for (text, code) in [(text.to_owned(), 0), (format!("{text}boody_bytes = \"1MiB\"\n"), 2)] {
        std::fs::write(&file, text).unwrap();
        let command = authsome_testkit::ProgramCommand::new("authsome-proxy", directory.path().join("log")).unwrap();
        let program = command
            .args(["--config", file.to_str().unwrap(), "--check-config"])
            .env("DATABASE_URL", "")
            .env("REDIS_URL", "")
            .env("NATS_URL", "")
            .spawn()
            .await
            .unwrap();
        let exit = tokio::time::timeout(Duration::from_secs(20), program.child().exited())
            .await
            .unwrap();
        assert_eq!(exit.code(), Some(code), "{}", program.log());
    }
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let (command, address, _) = command(&directory);
    let _taken = std::net::TcpListener::bind(&address).unwrap();
    let program = command
        .env("DATABASE_URL", format!("postgres://{}/control", nobody()))
        .env("REDIS_URL", format!("redis://{}", nobody()))
        .env("NATS_URL", format!("nats://{}", nobody()))
        .spawn()
        .await
        .unwrap();
    let exit = tokio::time::timeout(Duration::from_secs(30), program.child().exited())
        .await
        .unwrap();
    assert_eq!(exit.code(), Some(1));
    assert!(
        program
            .log()
            .contains(&format!("cannot listen on {address} (listen.address)")),
        "{}",
        program.log()
    );
}
