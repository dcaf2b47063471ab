//! Heads that no honest client sends.

use std::time::{Duration, Instant};

use authsome_testkit::wait_for;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::db::{App, NewApp, Tenants};
use crate::edge::{Edge, key, request};
use crate::instance::Instance;
use crate::wire::{Message, Wire};

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
async fn what_is_not_http_is_refused_in_the_words_of_the_platform() {
    let stage = Stage::set(&[]).await;
    let (id, key) = (stage.app.id, key(&stage.app.public));
    let path = format!("/v1/{id}/v1/me");
    let get = |lines: &str| format!("GET {path} HTTP/1.1\r\nhost: a\r\n{key}{lines}\r\n");
    let bad = [
        ("two hosts", get("host: b\r\n")),
        ("the same host twice", get("Host: a\r\n")),
        (
            "host with a user",
            format!("GET {path} HTTP/1.1\r\nhost: u@a\r\n{key}\r\n"),
        ),
        (
            "different lengths",
            get("content-length: 5\r\ncontent-length: 6\r\n") + "hello!",
        ),
        ("signed length", get("content-length: +5\r\n") + "hello"),
        ("space before the colon", get("content-length : 5\r\n") + "hello"),
        (
            "chunked in 1.0",
            format!("POST {path} HTTP/1.0\r\nhost: a\r\n{key}transfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
        ),
        (
            "chunked is not last",
            get("transfer-encoding: chunked, gzip\r\n") + "0\r\n\r\n",
        ),
        ("unknown coding", get("transfer-encoding: identity\r\n")),
        ("folded header", get("x: a\r\n b\r\n")),
        (
            "folded first header",
            format!("GET {path} HTTP/1.1\r\n host: a\r\n{key}\r\n"),
        ),
        ("header without a colon", get("x\r\n")),
        ("header without a name", get(": x\r\n")),
        ("NUL in a value", get("x: a\0b\r\n")),
        ("NUL in a name", get("x\0: a\r\n")),
        ("bare CR", get("x: a\rb\r\n")),
        ("bare LF", get("x: a\ny: b\r\n")),
        ("only LF", format!("GET {path} HTTP/1.1\nhost: a\n\n")),
        (
            "blanks in the request line",
            format!("GET  {path} HTTP/1.1\r\nhost: a\r\n\r\n"),
        ),
        (
            "blank in the target",
            format!("GET {path}/a b HTTP/1.1\r\nhost: a\r\n{key}\r\n"),
        ),
        (
            "overlong UTF-8",
            format!("GET {path}/\u{c0} HTTP/1.1\r\nhost: a\r\n{key}\r\n"),
        ),
        (
            "other host in the target",
            format!("GET http://b{path} HTTP/1.1\r\nhost: a\r\n{key}\r\n"),
        ),
        (
            "other port in the target",
            format!("GET http://a:1{path} HTTP/1.1\r\nhost: a\r\n{key}\r\n"),
        ),
        (
            "other scheme in the target",
            format!("GET file://a{path} HTTP/1.1\r\nhost: a\r\n{key}\r\n"),
        ),
        (
            "authority as the target",
            format!("GET a:80 HTTP/1.1\r\nhost: a\r\n{key}\r\n"),
        ),
        (
            "the address removed by Connection",
            get("connection: x-forwarded-for\r\n"),
        ),
        (
            "the length removed by Connection",
            get("connection: close, Content-Length\r\n"),
        ),
        ("too many headers", get(&"x: y\r\n".repeat(101))),
        ("TLS", "\u{16}\u{3}\u{1}\u{2}\u{0}\r\n\r\n".to_owned()),
        ("HTTP/0.9", format!("GET {path}\r\n")),
        ("HTTP/3.0", format!("GET {path} HTTP/3.0\r\nhost: a\r\n\r\n")),
        (
            "CONNECT",
            "CONNECT internal:22 HTTP/1.1\r\nhost: internal:22\r\n\r\n".to_owned(),
        ),
        (
            "a very long request line",
            format!("GET {path}/{} HTTP/1.1\r\n", "x".repeat(40_000)),
        ),
    ];
    for (what, bytes) in &bad {
        let (answer, closed) = stage.raw(bytes).await;
        assert_eq!(
            (answer.status(), answer.error_code().as_str()),
            (400, "invalid_request"),
            "{what}"
        );
        assert!(closed, "{what}: {answer:?}");
        assert_eq!(answer.header("server"), None, "{what}");
        assert_eq!(answer.header("x-authsome-region"), Some("local"), "{what}");
        assert_eq!(answer.header("content-type"), Some("application/json"), "{what}");
    }
    assert!(stage.instance.seen().is_empty(), "{:?}", stage.instance.seen());
    let each = bad.len() as u64;
    stage
        .edge
        .counted("authsome_edge_requests_total{class=\"4xx\"}", each)
        .await;
    wait_for(
        "a line for each in the access log",
        Duration::from_secs(10),
        async || {
            let lines = stage.edge.program.log();
            (lines.matches("\"refusal\":\"").count() >= bad.len()).then_some(())
        },
    )
    .await
    .unwrap();
    assert!(
        !stage.edge.program.log().contains(stage.app.public.expose()),
        "no key in the log"
    );
}

#[tokio::test]
async fn chunks_that_servers_read_differently_never_complete_a_request() {
    let stage = Stage::set(&[]).await;
    let (id, key) = (stage.app.id, key(&stage.app.public));
    let head = format!("POST /v1/{id}/v1/signin HTTP/1.1\r\nhost: a\r\n{key}transfer-encoding: chunked\r\n\r\n");
    for chunks in [
        "5\nhello\n0\n\n",
        "5;a\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
        "5\r\nhelloX\r\n0\r\n\r\n",
        "fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\r\n\n\r\n",
        "\r\n0\r\n\r\n",
    ] {
        let (answer, closed) = stage.raw(format!("{head}{chunks}")).await;
        assert_eq!(
            (answer.status(), answer.error_code().as_str(), closed),
            (400, "invalid_request", true),
            "{chunks:?}"
        );
    }
    assert!(stage.instance.seen().iter().all(|seen| seen.body.is_empty()));
    let (answer, _) = stage
        .raw(format!("{head}5;name=\"v\"\r\nhello\r\n0\r\nx: y\r\n\r\n"))
        .await;
    assert_eq!(answer.status(), 200, "extensions and trailers are allowed");
    assert_eq!(stage.instance.seen().last().unwrap().text(), "hello");
}

#[tokio::test]
async fn requests_sent_ahead_are_answered_in_order() {
    let stage = Stage::set(&[]).await;
    let (id, key) = (stage.app.id, key(&stage.app.public));
    let chunked = format!(
        "POST /v1/{id}/v1/signin?2 HTTP/1.1\r\nhost: a\r\n{key}transfer-encoding: chunked\r\n\r\n3\r\none\r\n0\r\n\r\n"
    );
    let mut wire = Wire::connect(&stage.edge.address).await;
    wire.send(
        [
            request("GET", &format!("/v1/{id}/v1/me?1"), &key, ""),
            chunked,
            request("GET", &format!("/v1/{id}/users"), "", ""),
            // An old client's line end behind a body.
            request("POST", &format!("/v1/{id}/v1/signin?4"), &key, "four") + "\r\n",
            request("GET", &format!("/v1/{id}/v1/me?5"), &key, ""),
        ]
        .concat(),
    )
    .await;
    for status in [200, 200, 401, 200, 200] {
        assert_eq!(wire.receive().await.unwrap().status(), status);
    }
    let seen = stage.instance.seen();
    let seen: Vec<_> = seen.iter().map(|seen| (seen.target(), seen.text())).collect();
    let expected = [
        ("/v1/me?1", ""),
        ("/v1/signin?2", "one"),
        ("/v1/signin?4", "four"),
        ("/v1/me?5", ""),
    ];
    assert_eq!(seen, expected.map(|(target, body)| (target, body.to_owned())));

    // One that arrives while another is being answered.
    let (first, second) = (format!("/v1/{id}/v1/me?6"), format!("/v1/{id}/v1/me?7"));
    wire.send(request("GET", &first, &key, "")).await;
    wire.send(request("GET", &second, &key, "")).await;
    assert_eq!(wire.receive().await.unwrap().status(), 200);
    assert_eq!(wire.receive().await.unwrap().status(), 200);

    // Behind a bad one nothing is served.
    wire.send(format!(
        "GET / HTTP/1.1\nhost: a\r\n\r\n{}",
        request("GET", &first, &key, "")
    ))
    .await;
    assert_eq!(wire.receive().await.unwrap().status(), 400);
    assert!(wire.is_closed().await);
    assert_eq!(stage.instance.seen().len(), 6);
}

#[tokio::test]
async fn a_body_that_drips_or_stops_is_answered_with_408() {
    let stage = Stage::set(&[
        ("AUTHSOME_LIMITS_BODY_GRACE", "1s"),
        ("AUTHSOME_LIMITS_BODY_RATE", "100KiB"),
    ])
    .await;
    let (id, key) = (stage.app.id, key(&stage.app.public));
    let head = format!("POST /v1/{id}/v1/signin HTTP/1.1\r\nhost: a\r\n{key}content-length: 100000\r\n\r\n");
    for drips in [false, true] {
        let began = Instant::now();
        let mut wire = Wire::connect(&stage.edge.address).await;
        wire.send(&head).await;
        let answer = if drips {
            wire.receive_while_sending("x", Duration::from_millis(100)).await
        } else {
            wire.receive().await
        };
        let answer = answer.expect("an answer");
        assert_eq!(
            (answer.status(), answer.error_code().as_str()),
            (408, "invalid_request")
        );
        assert_eq!(answer.json()["error"]["reason"], "request_timeout");
        assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
        assert_eq!(answer.header("connection"), Some("close"));
    }
    let refused = "authsome_edge_refusals_total{reason=\"request_timeout\"}";
    stage.edge.counted(refused, 2).await;
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
    let mut answer = vec![0; 1024];
    let read = tokio::time::timeout(Duration::from_secs(15), reader.read(&mut answer))
        .await
        .unwrap()
        .unwrap();
    let answer = String::from_utf8_lossy(&answer[..read]).into_owned();
    assert!(answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{answer}");
    assert!(answer.contains("Connection: close\r\n"), "{answer}");
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
async fn what_only_resembles_the_path_of_an_application_leads_nowhere() {
    let stage = Stage::set(&[]).await;
    let (id, key) = (stage.app.id, key(&stage.app.secret));
    for (path, status) in [
        (format!("/v1;x/{id}/users"), 404),
        (format!("/v1/{id};x/users"), 404),
        (format!("//v1/{id}/users"), 404),
        (format!("/v1//{id}/users"), 404),
        (format!("/%76%31/{id}/users"), 404),
        (format!("/v1/{id}%c0%af/users"), 404),
        (format!("/v1/%c0%ae%c0%ae/{id}/users"), 404),
        (format!("/V1/{id}/users"), 404),
        (format!("/v1/{}/users", id.to_string().to_uppercase()), 404),
        (format!("/v1/./{id}/users"), 400),
        (format!("/v1/{id}%2Fusers"), 400),
        (format!("/v1/{id}%5Cusers"), 400),
        (format!("/v1/%252e%252e/{id}/users"), 400),
        (format!("/v1\\{id}/users"), 400),
        (format!("/v1/{id}/users#x"), 400),
        (format!("/v1/{id}%0d%0ax-injected:1/users"), 400),
        ("/%0d%0ax-injected:1".to_owned(), 400),
    ] {
        let (answer, _) = stage.raw(request("GET", &path, &key, "")).await;
        assert_eq!(answer.status(), status, "{path}");
    }
    assert!(stage.instance.seen().is_empty(), "{:?}", stage.instance.seen());
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
