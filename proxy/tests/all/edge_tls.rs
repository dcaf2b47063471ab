//! TLS with clients.

use std::path::Path;
use std::time::{Duration, Instant};

use authsome_core::key::KeyType;
use authsome_testkit::{port, wait_for};
use rustls::HandshakeKind;
use tempfile::TempDir;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::db::{App, NewApp, Tenants};
use crate::edge::{Edge, command, key, request};
use crate::fed::Fed;
use crate::instance::{Instance, nobody};
use crate::routing_fixture::SOON;
use crate::tls::{Authority, connect, replace, shown};
use crate::wire::{PATIENCE, Wire};

const HTTP1: &[&str] = &["http/1.1"];

/// An edge with TLS, whose certificates are in a directory.
struct Stage {
    authority: Authority,
    certificates: TempDir,
    address: String,
    edge: Edge,
    app: App,
    _instance: Instance,
    _tenants: Tenants,
}

impl Stage {
    /// With certificates as `certify` makes them.
    async fn set(certify: impl FnOnce(&Authority, &Path), settings: &[(&str, &str)]) -> Self {
        let (authority, certificates) = (Authority::new(), tempfile::tempdir().unwrap());
        certify(&authority, certificates.path());
        let address = format!("127.0.0.1:{}", port::free().unwrap());
        let (tenants, instance) = (Tenants::new().await, Instance::echo().await);
        let app = tenants.app(NewApp::at(&[instance.endpoint()])).await;
        let directory = certificates.path().to_str().unwrap();
        let all: Vec<(&str, &str)> = [
            ("AUTHSOME_LISTEN_TLS", address.as_str()),
            ("AUTHSOME_TLS_DIRECTORY", directory),
            ("AUTHSOME_TLS_RELOAD_INTERVAL", "200ms"),
        ]
        .into_iter()
        .chain(settings.iter().copied())
        .collect();
        let edge = Edge::start(&tenants, &all).await;
        Self {
            authority,
            certificates,
            address,
            edge,
            app,
            _instance: instance,
            _tenants: tenants,
        }
    }

    /// Waits until this many handshakes had this outcome, and no more.
    async fn handshakes(&self, outcome: &str, times: u64) {
        let series = format!("authsome_edge_tls_handshakes_total{{outcome=\"{outcome}\"}}");
        self.edge.counted(&series, times).await;
    }

    async fn reloads(&self, outcome: &str) -> u64 {
        let series = format!("authsome_edge_tls_reloads_total{{outcome=\"{outcome}\"}}");
        self.edge.metric(&series).await
    }
}

#[tokio::test]
async fn the_certificate_is_chosen_by_the_name_that_is_asked_for() {
    let mut issued = Vec::new();
    let stage = Stage::set(
        |authority, at| {
            issued = vec![
                authority.issue(at, "default", &["api.authsome.test"]),
                authority.issue(at, "apps", &["*.apps.authsome.test"]),
                authority.issue(at, "special", &["special.apps.authsome.test"]),
            ];
        },
        &[],
    )
    .await;
    let client = stage.authority.client(HTTP1);
    for (name, expected) in [
        ("api.authsome.test", 0),
        ("one.apps.authsome.test", 1),
        ("special.apps.authsome.test", 2),
    ] {
        let stream = connect(&stage.address, name, &client).await.unwrap();
        assert_eq!(shown(&stream), issued[expected], "{name}");
        let mut wire = Wire::new(stream);
        wire.send(request(
            "GET",
            &format!("/v1/{}/v1/me", stage.app.id),
            &key(&stage.app.public),
            "",
        ))
        .await;
        assert_eq!(wire.receive().await.unwrap().status(), 200, "{name}");
    }
    // Two labels are not covered by the wildcard: the default is shown, and the client refuses it.
    let refused = connect(&stage.address, "a.b.apps.authsome.test", &client)
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("certificate"), "{refused}");
    stage.edge.counted("authsome_edge_tls_unknown_names_total", 1).await;
    stage.handshakes("ok", 3).await;
    stage.handshakes("failed", 1).await;
    let series = "authsome_edge_tls_certificate_not_after_seconds{certificate=\"apps\"}";
    assert_eq!(stage.edge.metric(series).await, 2_380_406_400);
}

#[tokio::test]
async fn an_unknown_name_is_refused_where_that_is_set_and_no_name_gets_the_default() {
    let stage = Stage::set(
        |authority, at| {
            authority.issue(at, "api", &["api.authsome.test", "127.0.0.1"]);
        },
        &[("AUTHSOME_TLS_UNKNOWN_NAMES", "refuse")],
    )
    .await;
    let client = stage.authority.client(HTTP1);
    let refused = connect(&stage.address, "other.test", &client).await.unwrap_err();
    assert!(refused.to_string().contains("alert"), "refused by the edge: {refused}");
    // An address is not a name: nothing is asked for.
    connect(&stage.address, "127.0.0.1", &client).await.unwrap();
    connect(&stage.address, "api.authsome.test", &client).await.unwrap();
}

#[tokio::test]
async fn a_replaced_certificate_is_shown_within_seconds_and_open_connections_go_on() {
    let mut first = None;
    let stage = Stage::set(
        |authority, at| first = Some(authority.issue(at, "api", &["api.authsome.test"])),
        &[],
    )
    .await;
    let client = stage.authority.client(HTTP1);
    let open = connect(&stage.address, "api.authsome.test", &client).await.unwrap();
    assert_eq!(Some(shown(&open)), first);
    let mut open = Wire::new(open);
    let second = stage.authority.issue(
        stage.certificates.path(),
        "api",
        &["api.authsome.test", "new.authsome.test"],
    );
    wait_for("the new certificate", SOON, async || {
        // A client of its own: a resumed session shows no certificate.
        let stream = connect(&stage.address, "api.authsome.test", &stage.authority.client(HTTP1)).await;
        (shown(&stream.unwrap()) == second).then_some(())
    })
    .await
    .unwrap();
    connect(&stage.address, "new.authsome.test", &client).await.unwrap();
    open.send(request("GET", "/health", "", "")).await;
    assert_eq!(open.receive().await.unwrap().status(), 200);

    // One more file, one more name.
    stage
        .authority
        .issue(stage.certificates.path(), "more", &["more.authsome.test"]);
    wait_for("the added certificate", SOON, async || {
        connect(&stage.address, "more.authsome.test", &client).await.map(drop)
    })
    .await
    .unwrap();
    std::fs::remove_file(stage.certificates.path().join("more.crt")).unwrap();
    wait_for("the removed certificate to go", SOON, async || {
        let stream = connect(&stage.address, "more.authsome.test", &stage.authority.client(HTTP1)).await;
        stream.is_err().then_some(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_file_that_cannot_be_used_leaves_the_certificate_before_it() {
    let mut first = None;
    let stage = Stage::set(
        |authority, at| first = Some(authority.issue(at, "api", &["api.authsome.test"])),
        &[],
    )
    .await;
    let at = |name: &str| stage.certificates.path().join(name);
    let good = (
        std::fs::read_to_string(at("api.crt")).unwrap(),
        std::fs::read_to_string(at("api.key")).unwrap(),
    );
    let elsewhere = tempfile::tempdir().unwrap();
    stage.authority.issue(elsewhere.path(), "x", &["api.authsome.test"]);
    let other_key = std::fs::read_to_string(elsewhere.path().join("x.key")).unwrap();
    for (what, certificate, key) in [
        ("noise", "not a certificate", good.1.as_str()),
        ("no key", good.0.as_str(), "-----BEGIN NOTHING-----"),
        ("another certificate's key", good.0.as_str(), other_key.as_str()),
        ("empty", "", ""),
    ] {
        let failed = stage.reloads("failed").await;
        replace(&at("api.crt"), certificate);
        replace(&at("api.key"), key);
        wait_for(what, SOON, async || {
            (stage.reloads("failed").await > failed).then_some(())
        })
        .await
        .unwrap();
        let stream = connect(&stage.address, "api.authsome.test", &stage.authority.client(HTTP1)).await;
        assert_eq!(Some(shown(&stream.unwrap())), first, "{what}");
    }
    let log = stage.edge.program.log();
    assert!(log.contains("a certificate cannot be used"), "{log}");
    assert!(!log.contains("PRIVATE KEY"), "{log}");
}

#[tokio::test]
async fn both_versions_are_spoken_and_a_client_that_comes_back_is_resumed() {
    let stage = Stage::set(
        |authority, at| {
            authority.issue(at, "api", &["api.authsome.test"]);
        },
        &[],
    )
    .await;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let client = stage.authority.client_of(HTTP1, &[version]);
        for expected in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let stream = connect(&stage.address, "api.authsome.test", &client).await.unwrap();
            let session = stream.get_ref().1;
            assert_eq!(session.protocol_version(), Some(version.version));
            assert_eq!(session.alpn_protocol(), Some(&b"http/1.1"[..]));
            assert_eq!(session.handshake_kind(), Some(expected), "{version:?}");
            // Tickets of 1.3 come with the first answer.
            let mut wire = Wire::new(stream);
            wire.send(request("GET", "/health", "", "")).await;
            assert_eq!(wire.receive().await.unwrap().status(), 200);
        }
    }
}

#[tokio::test]
async fn a_handshake_that_stops_is_cut_off_and_one_that_is_none_is_counted() {
    let stage = Stage::set(
        |authority, at| {
            authority.issue(at, "api", &["api.authsome.test"]);
        },
        &[("AUTHSOME_TLS_HANDSHAKE_TIMEOUT", "1s")],
    )
    .await;
    let began = Instant::now();
    let mut silent = TcpStream::connect(&stage.address).await.unwrap();
    let read = tokio::time::timeout(PATIENCE, silent.read(&mut [0; 1])).await.unwrap();
    assert_eq!(read.unwrap_or(0), 0);
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
    stage.handshakes("timeout", 1).await;
    let mut plain = Wire::connect(&stage.address).await;
    plain.send(request("GET", "/health", "", "")).await;
    // An alert, then the end.
    while plain.heard().await.is_some() {}
    stage.handshakes("failed", 1).await;
}

#[tokio::test]
async fn a_head_that_drips_through_tls_is_cut_off() {
    let stage = Stage::set(
        |authority, at| {
            authority.issue(at, "api", &["api.authsome.test"]);
        },
        &[("AUTHSOME_LIMITS_HEADER_DEADLINE", "1s")],
    )
    .await;
    let stream = connect(&stage.address, "api.authsome.test", &stage.authority.client(HTTP1)).await;
    let mut wire = Wire::new(stream.unwrap());
    let began = Instant::now();
    wire.send("GET /health HTTP/1.1\r\nhost: a\r\nx: ").await;
    let dripping = async {
        while wire.try_send("x").await {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, dripping)
        .await
        .expect("it is listened to for ever");
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_revoked_key_closes_its_connections_through_tls() {
    let (authority, certificates) = (Authority::new(), tempfile::tempdir().unwrap());
    authority.issue(certificates.path(), "api", &["api.authsome.test"]);
    let address = format!("127.0.0.1:{}", port::free().unwrap());
    let tenants = Tenants::new().await;
    let instance = Instance::connected(|asked, mut wire| async move {
        if asked.header("upgrade").is_some() {
            wire.send("HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n")
                .await;
        } else {
            wire.send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
                .await;
        }
        while wire.try_send("d\r\ndata: again\n\n\r\n").await {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        None
    })
    .await;
    let app = tenants.app(NewApp::at(&[instance.endpoint()])).await;
    let other = tenants.key(app.id, KeyType::Public, &[]).await;
    let settings = [
        ("AUTHSOME_LISTEN_TLS", address.as_str()),
        ("AUTHSOME_TLS_DIRECTORY", certificates.path().to_str().unwrap()),
    ];
    let fed = Fed::start_with(&tenants, &settings).await;
    let mut open = Vec::new();
    for by in [&app.public, &other] {
        for (upgrade, status) in [("upgrade: websocket\r\nconnection: upgrade\r\n", 101), ("", 200)] {
            let stream = connect(&address, "api.authsome.test", &authority.client(HTTP1)).await;
            let mut wire = Wire::new(stream.unwrap());
            let head = format!("{}{upgrade}", key(by));
            wire.send(request("GET", &format!("/v1/{}/v1/me/events", app.id), &head, ""))
                .await;
            assert_eq!(wire.receive_head().await.unwrap().status(), status);
            open.push(wire);
        }
    }
    let began = Instant::now();
    fed.revoke(&tenants, &app, &app.public).await;
    for wire in &mut open[..2] {
        while wire.heard().await.is_some() {}
    }
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    fed.closed("key", 2).await;
    for wire in &mut open[2..] {
        for _ in 0..20 {
            assert!(wire.heard().await.is_some(), "the other key's connections go on");
        }
    }
}

#[tokio::test]
async fn without_a_usable_certificate_the_edge_does_not_start() {
    let (directory, certificates) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::write(certificates.path().join("api.crt"), "noise").unwrap();
    let (command, ..) = command(&directory);
    let program = command
        .env("AUTHSOME_LISTEN_TLS", format!("127.0.0.1:{}", port::free().unwrap()))
        .env("AUTHSOME_TLS_DIRECTORY", certificates.path().to_str().unwrap())
        .env("DATABASE_URL", format!("postgres://{}/control", nobody()))
        .env("REDIS_URL", format!("redis://{}", nobody()))
        .env("NATS_URL", format!("nats://{}", nobody()))
        .spawn()
        .await
        .unwrap();
    let exit = tokio::time::timeout(PATIENCE, program.child().exited()).await.unwrap();
    assert_eq!(exit.code(), Some(1));
    assert!(program.log().contains("tls.directory"), "{}", program.log());
}
