//! The lane: which requests it takes, and what it does when clients or instances do not keep to the rules. That it does
//! everything else as the forwarding library does is shown by the other tests, which run over both.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

use crate::db::{NewApp, Tenants};
use crate::edge::{Edge, key, request};
use crate::instance::{Instance, Reply};
use crate::wire::{Message, PATIENCE, Wire};

const LANE: &str = "authsome_edge_requests_by_path_total{path=\"lane\"}";
const LIBRARY: &str = "authsome_edge_requests_by_path_total{path=\"proxy\"}";

/// A request is counted a moment after its answer.
async fn eventually(holds: impl AsyncFn() -> bool) {
    let wait = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("it never came true");
}

async fn served(edge: &Edge) -> (u64, u64) {
    (edge.metric(LANE).await, edge.metric(LIBRARY).await)
}

#[tokio::test]
async fn simple_requests_take_the_lane_and_others_the_library_on_one_connection() {
    let (tenants, instance) = (Tenants::new().await, Instance::echo().await);
    let app = tenants.app(NewApp::at(&[instance.endpoint()])).await;
    let edge = Edge::start(&tenants, &[]).await;
    let (target, key) = (format!("/v1/{}/users", app.id), key(&app.secret));
    let mut wire = Wire::connect(&edge.address).await;
    for (sent, expected) in [
        (request("GET", &target, &key, ""), (1, 0)),
        (request("HEAD", &target, &key, ""), (2, 0)),
        (request("POST", &target, &key, "hello"), (3, 0)),
        (
            request("POST", &target, &format!("{key}transfer-encoding: chunked\r\n"), "") + "5\r\nhello\r\n0\r\n\r\n",
            (3, 1),
        ),
        (request("DELETE", &target, &key, ""), (4, 1)),
        (request("GET", &target, &format!("{key}te: trailers\r\n"), ""), (4, 2)),
        (request("PURGE", &target, &key, ""), (4, 3)),
        (request("GET", &target, "", ""), (5, 3)),
        (request("GET", "/health", "", ""), (5, 3)),
        (request("PUT", &target, &key, &"x".repeat(64 * 1024)), (6, 3)),
        (request("PUT", &target, &key, &"x".repeat(64 * 1024 + 1)), (6, 4)),
        (request("GET", &target, &key, ""), (7, 4)),
    ] {
        let method = sent.split(' ').next().unwrap_or_default().to_owned();
        wire.send(&sent).await;
        let answer = if method == "HEAD" {
            wire.receive_head().await.unwrap()
        } else {
            wire.receive().await.unwrap()
        };
        assert!(matches!(answer.status(), 200 | 401), "{answer:?}");
        eventually(async || served(&edge).await == expected).await;
    }
    let seen: Vec<usize> = instance.seen().iter().map(|seen| seen.body.len()).collect();
    assert_eq!(seen, [0, 0, 5, 5, 0, 0, 0, 65_536, 65_537, 0]);
}

#[tokio::test]
async fn what_may_be_kept_goes_to_the_library_once_and_then_everything_takes_the_lane() {
    let tenants = Tenants::new().await;
    let instance = Instance::start(|request| match request.target() {
        "/kept" => Reply::ok("cache-control: public, max-age=60\r\n", "kept"),
        _ => Reply::ok("", "own"),
    })
    .await;
    let app = tenants.app(NewApp::at(&[instance.endpoint()])).await;
    let edge = Edge::start(&tenants, &[("AUTHSOME_CACHE_BYTES", "64MiB")]).await;
    for (tail, expected) in [
        ("/own", (0, 1)),
        ("/own", (1, 1)),
        ("/kept", (1, 2)),
        ("/kept", (2, 2)),
        ("/own", (3, 2)),
    ] {
        let answer = edge.get(app.id, tail, &key(&app.secret)).await;
        assert_eq!((answer.status(), &*answer.text()), (200, &tail[1..]), "{tail}");
        eventually(async || served(&edge).await == expected).await;
    }
    assert_eq!(instance.seen().len(), 4, "one was answered from the cache");
    let counted = edge.metric("authsome_edge_credentials_total{outcome=\"secret\"}").await;
    assert_eq!(counted, 5, "a request that changes its path is judged once");
}

/// Lines of a head but for those that no two answers share.
fn lasting(answer: &Message) -> Vec<(String, String)> {
    let fleeting = ["date", "age", "x-authsome-request-id", "ratelimit", "cache-status"];
    let mut lines = answer.headers.clone();
    lines.retain(|(name, _)| !fleeting.contains(&name.as_str()) && !name.starts_with("x-ratelimit-"));
    lines.sort();
    lines
}

#[tokio::test]
async fn what_is_kept_is_the_same_answer_on_both_paths() {
    let tenants = Tenants::new().await;
    let instance = Instance::start(|request| match request.target() {
        "/varied" => Reply::ok(
            "cache-control: public, max-age=60\r\nvary: accept-language\r\ndate: Mon, 01 Jan 2024 00:00:00 GMT\r\n",
            request.header("accept-language").unwrap_or_default(),
        ),
        _ => Reply::ok(
            "Cache-Control: public, max-age=60\r\nETag: \"1\"\r\nServer: x\r\nCache-Tag: a\r\nX-Own: 1\r\nage: 7\r\n",
            "kept",
        ),
    })
    .await;
    let app = tenants.app(NewApp::at(&[instance.endpoint()])).await;
    let edge = Edge::start(&tenants, &[("AUTHSOME_CACHE_BYTES", "64MiB")]).await;
    let mut wire = Wire::connect(&edge.address).await;
    let mut ask = async |tail: &str, more: &str| {
        let head = format!("{}{more}", key(&app.secret));
        wire.send(request("GET", &format!("/v1/{}{tail}", app.id), &head, ""))
            .await;
        wire.receive().await.unwrap()
    };
    let first = ask("/kept", "").await;
    assert!(first.header("cache-status").unwrap().contains("fwd=miss"), "{first:?}");
    let (lane, library) = (ask("/kept", "").await, ask("/kept", "te: trailers\r\n").await);
    assert_eq!(lasting(&lane), lasting(&library));
    assert_eq!((lane.text(), library.text()), ("kept".to_owned(), "kept".to_owned()));
    for answer in [&lane, &library] {
        assert!(
            answer.header("cache-status").unwrap().contains("; hit; ttl="),
            "{answer:?}"
        );
        let age: u64 = answer.header("age").unwrap().parse().unwrap();
        assert!((7..60).contains(&age), "{age}");
    }
    // What asks for less than the whole, or for something fresher, is the library's.
    assert_eq!(ask("/kept", "if-none-match: \"1\"\r\n").await.status(), 304);
    assert_eq!(ask("/kept", "range: bytes=0-1\r\n").await.status(), 206);
    let asked = instance.seen().len();
    ask("/kept", "cache-control: no-cache\r\n").await;
    assert_eq!(instance.seen().len(), asked + 1);
    for language in ["en", "de", "en", "de"] {
        let answer = ask("/varied", &format!("accept-language: {language}\r\n")).await;
        assert_eq!(answer.text(), language);
        assert_eq!(answer.all("date").len(), 1, "{answer:?}");
    }
    eventually(async || served(&edge).await.0 >= 2).await;
}

#[tokio::test]
async fn requests_that_are_sent_ahead_are_answered_in_order_whatever_path_they_take() {
    let tenants = Tenants::new().await;
    let instance = Instance::start(|request| Reply::ok("", &format!("{} {}", request.target(), request.text()))).await;
    let app = tenants.app(NewApp::at(&[instance.endpoint()])).await;
    let edge = Edge::start(&tenants, &[]).await;
    let (base, key) = (format!("/v1/{}", app.id), key(&app.secret));
    let mut wire = Wire::connect(&edge.address).await;
    let chunked = format!("{key}transfer-encoding: chunked\r\n");
    let all = [
        request("GET", &format!("{base}/1"), &key, ""),
        request("POST", &format!("{base}/2"), &key, "two"),
        request("POST", &format!("{base}/3"), &chunked, "") + "5\r\nthree\r\n0\r\n\r\n",
        request("GET", &format!("{base}/4"), &key, ""),
        request(
            "POST",
            &format!("{base}/5"),
            &format!("{key}connection: close\r\n"),
            "five",
        ),
    ];
    wire.send(all.concat()).await;
    for expected in ["/1 ", "/2 two", "/3 three", "/4 ", "/5 five"] {
        assert_eq!(wire.receive().await.unwrap().text(), expected);
    }
    assert!(wire.is_closed().await);
}

#[tokio::test]
async fn an_answer_that_two_readers_could_take_differently_is_a_502_and_its_connection_is_not_used_again() {
    for bad in [
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nx: a\r\n b\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0x2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n",
        "SSH-2.0-OpenSSH_9.2\r\n\r\n",
    ] {
        let tenants = Tenants::new().await;
        let connections = Arc::new(AtomicUsize::new(0));
        let opened = Arc::clone(&connections);
        let instance = Instance::connected(move |request, mut wire: Wire| {
            let opened = Arc::clone(&opened);
            async move {
                if request.target() == "/bad" {
                    opened.fetch_add(1, Ordering::Relaxed);
                    wire.send(bad).await;
                } else {
                    wire.send("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ngood").await;
                }
                Some(wire)
            }
        })
        .await;
        let app = tenants.app(NewApp::at(&[instance.endpoint()])).await;
        let edge = Edge::start(&tenants, &[]).await;
        let answer = edge.request("POST", app.id, "/bad", &key(&app.secret), "x").await;
        assert_eq!(
            (answer.status(), &*answer.error_code()),
            (502, "bad_gateway"),
            "{bad:?}"
        );
        assert_eq!(
            connections.load(Ordering::Relaxed),
            1,
            "an answer that came is not asked for again"
        );
        let answer = edge.request("POST", app.id, "/good", &key(&app.secret), "x").await;
        assert_eq!((answer.status(), &*answer.text()), (200, "good"), "{bad:?}");
        eventually(async || served(&edge).await == (2, 0)).await;
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_breaks_off_for_the_client_too() {
    for cut in [
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ] {
        let tenants = Tenants::new().await;
        let instance = Instance::start(move |_| Reply::Last(cut.into())).await;
        let app = tenants.app(NewApp::at(&[instance.endpoint()])).await;
        let edge = Edge::start(&tenants, &[]).await;
        let mut wire = Wire::connect(&edge.address).await;
        wire.send(request("POST", &format!("/v1/{}/x", app.id), &key(&app.secret), "x"))
            .await;
        let head = wire.receive_head().await.unwrap();
        assert_eq!(head.status(), 200, "{cut:?}");
        let mut read = Vec::new();
        while let Some(part) = wire.heard().await {
            read.extend(part);
        }
        let read = String::from_utf8_lossy(&read).into_owned();
        assert!(
            read.contains("half") && !read.ends_with("0\r\n\r\n"),
            "{cut:?}: {read:?}"
        );
        eventually(async || served(&edge).await == (1, 0)).await;
        edge.counted("authsome_edge_failures_total{blame=\"instance\"}", 1)
            .await;
    }
}

#[tokio::test]
async fn an_answer_to_the_end_of_its_connection_does_not_cost_the_client_its_own() {
    let tenants = Tenants::new().await;
    let instance = Instance::start(|_| Reply::Last("HTTP/1.0 200 OK\r\n\r\nto the end".into())).await;
    let app = tenants.app(NewApp::at(&[instance.endpoint()])).await;
    let edge = Edge::start(&tenants, &[]).await;
    let mut wire = Wire::connect(&edge.address).await;
    for _ in 0..3 {
        wire.send(request("POST", &format!("/v1/{}/x", app.id), &key(&app.secret), "x"))
            .await;
        let answer = wire.receive().await.unwrap();
        assert_eq!((answer.status(), &*answer.text()), (200, "to the end"));
        assert_eq!(answer.header("transfer-encoding"), Some("chunked"));
    }
    eventually(async || served(&edge).await == (3, 0)).await;
}

#[tokio::test]
async fn a_connection_that_the_instance_closed_meanwhile_is_not_used_for_a_request_that_cannot_be_repeated() {
    let tenants = Tenants::new().await;
    // Says nothing of closing, and closes.
    let instance = Instance::start(|_| Reply::Last("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".into())).await;
    let app = tenants.app(NewApp::at(&[instance.endpoint()])).await;
    let edge = Edge::start(&tenants, &[]).await;
    for _ in 0..20 {
        let answer = edge.request("POST", app.id, "/x", &key(&app.secret), "x").await;
        // The close may be on its way still; one that had arrived would have been seen.
        assert!(matches!(answer.status(), 200 | 502), "{answer:?}");
        tokio::task::yield_now().await;
    }
    // None was sent twice.
    let seen = instance.seen().len() as u64;
    edge.counted("authsome_edge_upstream_answers_total{class=\"2xx\"}", seen)
        .await;
}

#[tokio::test]
async fn an_instance_may_answer_before_it_has_the_whole_request() {
    let tenants = Tenants::new().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = listener.local_addr().unwrap().to_string();
    let instance = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut wire = Wire::new(stream);
        let head = wire.receive_head().await.unwrap();
        wire.send("HTTP/1.1 413 Payload Too Large\r\ncontent-length: 3\r\n\r\nbig")
            .await;
        head
    });
    let app = tenants.app(NewApp::at(&[endpoint])).await;
    let edge = Edge::start(&tenants, &[]).await;
    let mut wire = Wire::connect(&edge.address).await;
    let headers = format!("{}content-length: 1000\r\n", key(&app.secret));
    wire.send(request("POST", &format!("/v1/{}/x", app.id), &headers, ""))
        .await;
    wire.send("the beginning").await;
    let answer = wire.receive().await.unwrap();
    assert_eq!((answer.status(), &*answer.text()), (413, "big"));
    assert_eq!(answer.header("connection"), Some("close"));
    assert_eq!(instance.await.unwrap().header("content-length"), Some("1000"));
    assert!(wire.is_closed().await);
    eventually(async || served(&edge).await == (1, 0)).await;
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_request_from_the_instance() {
    let tenants = Tenants::new().await;
    let (asked, left) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (at_instance, gone) = (Arc::clone(&asked), Arc::clone(&left));
    let instance = Instance::connected(move |_, mut wire: Wire| {
        let (asked, left) = (Arc::clone(&at_instance), Arc::clone(&gone));
        async move {
            asked.notify_one();
            assert!(wire.is_closed().await);
            left.notify_one();
            None
        }
    })
    .await;
    let app = tenants.app(NewApp::at(&[instance.endpoint()])).await;
    let edge = Edge::start(&tenants, &[]).await;
    let mut wire = Wire::connect(&edge.address).await;
    wire.send(request("POST", &format!("/v1/{}/x", app.id), &key(&app.secret), "x"))
        .await;
    asked.notified().await;
    drop(wire);
    tokio::time::timeout(PATIENCE, left.notified()).await.unwrap();
    eventually(async || served(&edge).await == (1, 0)).await;
    edge.counted("authsome_edge_failures_total{blame=\"client\"}", 1).await;
}

#[tokio::test]
async fn what_an_instance_says_before_its_answer_is_passed_on() {
    let tenants = Tenants::new().await;
    let instance = Instance::start(|_| {
        Reply::Bytes(
            "HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".into(),
        )
    })
    .await;
    let app = tenants.app(NewApp::at(&[instance.endpoint()])).await;
    let edge = Edge::start(&tenants, &[]).await;
    let mut wire = Wire::connect(&edge.address).await;
    for _ in 0..2 {
        wire.send(request("POST", &format!("/v1/{}/x", app.id), &key(&app.secret), "x"))
            .await;
        let hints = wire.receive_head().await.unwrap();
        assert_eq!((hints.status(), hints.header("link")), (103, Some("</a.css>")));
        let answer = wire.receive().await.unwrap();
        assert_eq!((answer.status(), &*answer.text()), (200, "ok"));
    }
    eventually(async || served(&edge).await == (2, 0)).await;
}

#[tokio::test]
async fn a_long_answer_passes_whole_however_it_is_framed() {
    let body: String = ('a'..='z').cycle().take(3_000_001).collect();
    let framed = [
        format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()),
        format!(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
            body.len()
        ),
        format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{body}"),
    ];
    for bytes in framed {
        let tenants = Tenants::new().await;
        let instance = Instance::start(move |_| Reply::Last(bytes.clone().into_bytes())).await;
        let app = tenants.app(NewApp::at(&[instance.endpoint()])).await;
        let edge = Edge::start(&tenants, &[]).await;
        let answer = edge.request("POST", app.id, "/x", &key(&app.secret), "x").await;
        assert_eq!((answer.status(), answer.text() == body), (200, true));
        eventually(async || served(&edge).await == (1, 0)).await;
    }
}
