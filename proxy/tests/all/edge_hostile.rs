//! Heads that no honest client sends.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::db::{App, NewApp, Tenants};
use crate::edge::{Edge, key, request};
use crate::instance::Instance;
use crate::wire::{Message, Wire, exchange};

struct Stage {
    instance: Instance,
    app: App,
    edge: Edge,
    _tenants: Tenants,
}

impl Stage {
    async fn set(settings: &[(&str, &str)]) -> Self {
        let (tenants, instance) = (Tenants::new().await, Instance::echo().await);
        let app = tenants.app(NewApp::at(&[instance.endpoint()])).await;
        let edge = Edge::start(&tenants, settings).await;
        Self {
            instance,
            app,
            edge,
            _tenants: tenants,
        }
    }

    /// Sends raw bytes; the answer, and whether the connection was closed after it.
    async fn raw(&self, bytes: impl AsRef<[u8]>) -> (Message, bool) {
        let mut wire = Wire::connect(&self.edge.address).await;
        wire.send(bytes).await;
        let answer = wire.receive().await.expect("an answer");
        let closed = answer.header("connection") == Some("close") && wire.is_closed().await;
        (answer, closed)
    }
}

#[tokio::test]
async fn a_head_that_two_servers_could_read_differently_is_refused_and_its_connection_closed() {
    let stage = Stage::set(&[]).await;
    let (id, key) = (stage.app.id, key(&stage.app.public));
    let path = format!("/v1/{id}/v1/signin");
    let bad = [
        (
            "CL and TE",
            format!(
                "POST {path} HTTP/1.1\r\nhost: a\r\n{key}content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
            ),
        ),
        (
            "TE and CL",
            format!(
                "POST {path} HTTP/1.1\r\nhost: a\r\n{key}transfer-encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"
            ),
        ),
        (
            "CL list",
            format!("POST {path} HTTP/1.1\r\nhost: a\r\n{key}content-length: 5, 5\r\n\r\nhello"),
        ),
        (
            "two CL",
            format!("POST {path} HTTP/1.1\r\nhost: a\r\n{key}content-length: 5\r\ncontent-length: 5\r\n\r\nhello"),
        ),
        (
            "TE list",
            format!("POST {path} HTTP/1.1\r\nhost: a\r\n{key}transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
        ),
        ("no host", format!("GET {path} HTTP/1.1\r\n{key}\r\n")),
        ("no host in 1.0", format!("GET {path} HTTP/1.0\r\n{key}\r\n")),
        ("empty host", format!("GET {path} HTTP/1.1\r\nhost:\r\n{key}\r\n")),
        (
            "host with a path",
            format!("GET {path} HTTP/1.1\r\nhost: a/b\r\n{key}\r\n"),
        ),
        (
            "two authorizations",
            format!(
                "GET {path} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer a\r\nauthorization: Bearer b\r\n{key}\r\n"
            ),
        ),
        (
            "dot segment",
            format!("GET /v1/../v1/{id}/v1/me HTTP/1.1\r\nhost: a\r\n{key}\r\n"),
        ),
        (
            "encoded dots",
            format!("GET /v1/%2e%2E/{id}/v1/me HTTP/1.1\r\nhost: a\r\n{key}\r\n"),
        ),
        (
            "encoded slash",
            format!("GET /v1%2f{id}/v1/me HTTP/1.1\r\nhost: a\r\n{key}\r\n"),
        ),
        (
            "encoded backslash",
            format!("GET /v1/{id}%5cv1/me HTTP/1.1\r\nhost: a\r\n{key}\r\n"),
        ),
        (
            "encoded NUL",
            format!("GET /v1/{id}%00/v1/me HTTP/1.1\r\nhost: a\r\n{key}\r\n"),
        ),
        (
            "double slash",
            format!("GET /v1/{id}//evil.example/x HTTP/1.1\r\nhost: a\r\n{key}\r\n"),
        ),
        ("trace", format!("TRACE {path} HTTP/1.1\r\nhost: a\r\n{key}\r\n")),
        ("asterisk", format!("OPTIONS * HTTP/1.1\r\nhost: a\r\n{key}\r\n")),
        (
            "large head",
            format!(
                "GET {path} HTTP/1.1\r\nhost: a\r\n{key}x: {}\r\n\r\n",
                "x".repeat(33 * 1024)
            ),
        ),
    ];
    for (what, bytes) in bad {
        let (answer, closed) = stage.raw(bytes).await;
        assert_eq!(
            (answer.status(), answer.error_code().as_str()),
            (400, "invalid_request"),
            "{what}"
        );
        assert!(closed, "{what}: {answer:?}");
    }
    assert!(stage.instance.seen().is_empty(), "{:?}", stage.instance.seen());
}

#[tokio::test]
async fn what_is_not_http_is_refused_before_anything_else() {
    let stage = Stage::set(&[]).await;
    let (id, key) = (stage.app.id, key(&stage.app.public));
    let path = format!("/v1/{id}/v1/me");
    for (what, bytes) in [
        (
            "two hosts",
            format!("GET {path} HTTP/1.1\r\nhost: a\r\nhost: b\r\n{key}\r\n"),
        ),
        (
            "different lengths",
            format!("POST {path} HTTP/1.1\r\nhost: a\r\n{key}content-length: 5\r\ncontent-length: 6\r\n\r\nhello!"),
        ),
        (
            "signed length",
            format!("POST {path} HTTP/1.1\r\nhost: a\r\n{key}content-length: +5\r\n\r\nhello"),
        ),
        (
            "space before the colon",
            format!("GET {path} HTTP/1.1\r\nhost: a\r\n{key}content-length : 5\r\n\r\nhello"),
        ),
        (
            "chunked in 1.0",
            format!("POST {path} HTTP/1.0\r\nhost: a\r\n{key}transfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
        ),
        (
            "chunked is not last",
            format!("POST {path} HTTP/1.1\r\nhost: a\r\n{key}transfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n"),
        ),
        (
            "folded header",
            format!("GET {path} HTTP/1.1\r\nhost: a\r\n{key}x: a\r\n b\r\n\r\n"),
        ),
        (
            "other host in the target",
            format!("GET http://b{path} HTTP/1.1\r\nhost: a\r\n{key}\r\n"),
        ),
        (
            "a nominated header of ours",
            format!("GET {path} HTTP/1.1\r\nhost: a\r\n{key}connection: x-forwarded-for\r\n\r\n"),
        ),
        ("noise", "\u{16}\u{3}\u{1}\u{2}\u{0}\r\n\r\n".to_owned()),
        (
            "connect",
            "CONNECT internal:22 HTTP/1.1\r\nhost: internal:22\r\n\r\n".to_owned(),
        ),
    ] {
        let mut wire = Wire::connect(&stage.edge.address).await;
        wire.send(bytes).await;
        if let Some(answer) = wire.receive().await {
            assert!(matches!(answer.status(), 400 | 405), "{what}: {answer:?}");
        }
        assert!(wire.is_closed().await, "{what}");
    }
    assert!(stage.instance.seen().is_empty(), "{:?}", stage.instance.seen());
    let alive = exchange(&stage.edge.address, request("GET", "/health", "", "")).await;
    assert_eq!(alive.status(), 200);
}

#[tokio::test]
async fn nothing_can_be_hidden_behind_a_request() {
    let stage = Stage::set(&[]).await;
    let (id, key) = (stage.app.id, key(&stage.app.public));
    let hidden = request("GET", &format!("/v1/{id}/users"), "", "");
    let smuggled = format!(
        "POST /v1/{id}/v1/signin HTTP/1.1\r\nhost: a\r\n{key}content-length: {}\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{hidden}",
        hidden.len() + 5,
    );
    let (answer, closed) = stage.raw(smuggled).await;
    assert_eq!((answer.status(), closed), (400, true));

    // A body is a body, whatever is written in it.
    let mut wire = Wire::connect(&stage.edge.address).await;
    wire.send(request("POST", &format!("/v1/{id}/v1/signin"), &key, &hidden))
        .await;
    assert_eq!(wire.receive().await.unwrap().status(), 200);
    assert_eq!(stage.instance.only().text(), hidden);
}

#[tokio::test]
async fn a_head_that_drips_is_cut_off() {
    let stage = Stage::set(&[("AUTHSOME_LIMITS_HEADER_DEADLINE", "1s")]).await;
    let began = Instant::now();
    let stream = tokio::net::TcpStream::connect(&stage.edge.address).await.unwrap();
    let (mut reader, mut writer) = stream.into_split();
    let dripping = tokio::spawn(async move {
        writer
            .write_all(b"GET /health HTTP/1.1\r\nhost: a\r\nx: ")
            .await
            .unwrap();
        // The pace is the subject: each byte arrives well within any time between two reads, for as long as anybody listens.
        while writer.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    let read = tokio::time::timeout(Duration::from_secs(15), reader.read(&mut [0; 64]))
        .await
        .unwrap();
    assert_eq!(read.unwrap_or(0), 0, "closed without an answer");
    assert!(
        began.elapsed() >= Duration::from_secs(1) && began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    drop(reader);
    dripping.await.unwrap();
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_its_keepalive_time() {
    let stage = Stage::set(&[("AUTHSOME_LIMITS_KEEPALIVE", "1s")]).await;
    let mut wire = Wire::connect(&stage.edge.address).await;
    wire.send(request("GET", "/health", "", "")).await;
    assert_eq!(wire.receive().await.unwrap().status(), 200);
    let began = Instant::now();
    assert!(wire.is_closed().await);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[tokio::test]
async fn paths_below_the_application_are_not_interpreted() {
    let stage = Stage::set(&[]).await;
    let id = stage.app.id;
    for tail in [
        "/v1/me/../../users",
        "/v1/me/%2e%2e/users",
        "/v1/me//x",
        "/v1/me/..%2fusers",
    ] {
        let answer = stage.edge.get(id, tail, &key(&stage.app.public)).await;
        assert_eq!(answer.status(), 403, "{tail} is no path of a publishable key");
        let answer = stage.edge.get(id, tail, &key(&stage.app.secret)).await;
        assert_eq!(answer.status(), 200, "{tail}");
        assert_eq!(stage.instance.seen().last().unwrap().target(), tail);
    }
}
