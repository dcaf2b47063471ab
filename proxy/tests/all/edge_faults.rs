//! What clients see when something behind the edge fails.

use std::time::{Duration, Instant};

use authsome_testkit::wait_for;
use tokio::net::TcpListener;

use crate::db::{NewApp, Tenants};
use crate::edge::{Edge, command, key, request};
use crate::http2;
use crate::instance::{Instance, Reply, nobody};
use crate::wire::{Wire, exchange};

#[tokio::test]
async fn an_instance_that_is_away_is_a_502_and_one_without_an_address_a_503() {
    let tenants = Tenants::new().await;
    let dead = tenants.app(NewApp::at(&[nobody()])).await;
    let none = tenants.app(NewApp::at(&[])).await;
    let edge = Edge::start(&tenants, &[]).await;
    let answer = edge.get(dead.id, "/users", &key(&dead.secret)).await;
    assert_eq!((answer.status(), answer.error_code().as_str()), (502, "bad_gateway"));
    assert_eq!(answer.header("x-authsome-app-id"), Some(&*dead.id.to_string()));
    // It was tried three times.
    edge.counted("authsome_edge_connect_failures_total", 3).await;
    let answer = edge.get(none.id, "/users", &key(&none.secret)).await;
    assert_eq!(
        (answer.status(), answer.error_code().as_str()),
        (503, "service_unavailable")
    );
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert!(!edge.program.log().contains("panicked"), "{}", edge.program.log());
}

#[tokio::test]
async fn a_dead_instance_beside_a_live_one_costs_no_request() {
    let (tenants, instance) = (Tenants::new().await, Instance::echo().await);
    let app = tenants
        .app(NewApp::at(&[nobody(), instance.endpoint(), nobody()]))
        .await;
    let edge = Edge::start(&tenants, &[]).await;
    for _ in 0..6 {
        let answer = edge
            .request("POST", app.id, "/v1/signin", &key(&app.public), "once")
            .await;
        assert_eq!(answer.status(), 200);
    }
    assert_eq!(instance.seen().len(), 6, "each was sent exactly once");
}

#[tokio::test]
async fn an_answer_that_does_not_begin_in_time_is_a_504_and_one_that_comes_slowly_is_not() {
    let first_byte = Duration::from_secs(1);
    let tenants = Tenants::new().await;
    let instance = Instance::connected(move |asked, mut wire| async move {
        match asked.target() {
            "/users/silent" => std::future::pending().await,
            "/users/alive" => {
                for _ in 0..3 {
                    tokio::time::sleep(first_byte * 2 / 3).await;
                    wire.send("HTTP/1.1 102 Processing\r\n\r\n").await;
                }
                wire.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
            }
            "/users/half" => {
                wire.send("HTTP/1.1 200 OK\r\ncontent-").await;
                std::future::pending::<()>().await;
            }
            _ => {
                wire.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
                for _ in 0..2 {
                    tokio::time::sleep(first_byte * 2).await;
                    wire.send("4\r\nslow\r\n").await;
                }
                wire.send("0\r\n\r\n").await;
            }
        }
        Some(wire)
    })
    .await;
    let app = tenants.app(NewApp::at(&[instance.endpoint()])).await;
    let edge = Edge::start(&tenants, &[("AUTHSOME_UPSTREAM_FIRST_BYTE_TIMEOUT", "1s")]).await;
    let head = key(&app.secret);
    let by_http2 = async |tail: &str| {
        let mut client = http2::Client::plain(&edge.address).await;
        let path = format!("/v1/{}{tail}", app.id);
        let asked = http2::request(http::Method::GET, &path, &[("x-api-key", app.secret.expose())]);
        client.ask(asked).await.unwrap()
    };
    let began = Instant::now();
    let upgrade = format!("{head}upgrade: websocket\r\nconnection: upgrade\r\n");
    let (silent, half, tunnel, posted, of_http2) = tokio::join!(
        edge.get(app.id, "/users/silent", &head),
        edge.get(app.id, "/users/half", &head),
        edge.get(app.id, "/users/silent", &upgrade),
        edge.request("POST", app.id, "/users/silent", &head, "body"),
        by_http2("/users/silent"),
    );
    for answer in [silent, half, tunnel, posted] {
        assert_eq!(
            (answer.status(), answer.error_code().as_str()),
            (504, "gateway_timeout")
        );
    }
    assert_eq!(of_http2.status(), 504);
    assert!(began.elapsed() >= first_byte);
    assert_eq!(instance.seen().len(), 5, "none was sent a second time");
    let alive = async {
        let mut wire = Wire::connect(&edge.address).await;
        wire.send(request("GET", &format!("/v1/{}/users/alive", app.id), &head, ""))
            .await;
        loop {
            let answer = wire.receive_head().await.unwrap();
            if answer.status() >= 200 {
                return answer;
            }
        }
    };
    let (alive, slow, of_http2) = tokio::join!(alive, edge.get(app.id, "/users/slow", &head), by_http2("/users/slow"),);
    assert_eq!(alive.status(), 200);
    assert_eq!((slow.status(), slow.text().as_str()), (200, "slowslow"));
    assert_eq!((of_http2.status(), of_http2.text().as_str()), (200, "slowslow"));
}

#[tokio::test]
async fn an_answer_that_began_before_the_request_ended_may_take_its_time() {
    let first_byte = Duration::from_secs(1);
    let (tenants, listener) = (Tenants::new().await, TcpListener::bind("127.0.0.1:0").await.unwrap());
    let endpoint = listener.local_addr().unwrap().to_string();
    let answering = tokio::spawn(async move {
        let mut wire = Wire::new(listener.accept().await.unwrap().0);
        wire.receive_head().await.unwrap();
        wire.send("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n").await;
        assert_eq!(wire.exactly(5).await, b"hello");
        tokio::time::sleep(first_byte * 2).await;
        wire.send("slow").await;
    });
    let app = tenants.app(NewApp::at(&[endpoint])).await;
    let edge = Edge::start(&tenants, &[("AUTHSOME_UPSTREAM_FIRST_BYTE_TIMEOUT", "1s")]).await;
    let mut wire = Wire::connect(&edge.address).await;
    let head = format!("{}content-length: 5\r\n", key(&app.secret));
    wire.send(request("POST", &format!("/v1/{}/users", app.id), &head, ""))
        .await;
    assert_eq!(wire.receive_head().await.unwrap().status(), 200);
    wire.send("hello").await;
    assert_eq!(wire.exactly(4).await, b"slow");
    answering.await.unwrap();
}

#[tokio::test]
async fn an_instance_that_does_not_answer_is_a_504() {
    let (tenants, instance) = (Tenants::new().await, Instance::start(|_| Reply::Silence).await);
    let app = tenants.app(NewApp::at(&[instance.endpoint()])).await;
    let edge = Edge::start(&tenants, &[("AUTHSOME_UPSTREAM_READ_TIMEOUT", "500ms")]).await;
    let began = Instant::now();
    let answer = edge.request("POST", app.id, "/v1/signin", &key(&app.public), "x").await;
    assert_eq!(
        (answer.status(), answer.error_code().as_str()),
        (504, "gateway_timeout")
    );
    assert!(began.elapsed() < Duration::from_secs(10));
    assert_eq!(instance.seen().len(), 1, "a request that was sent is not sent again");
}

#[tokio::test]
async fn an_answer_that_is_not_http_is_a_502_that_shows_nothing_of_it() {
    let instance = Instance::start(|_| Reply::Last(b"password=hunter2 at 10.0.0.1\r\n\r\n".to_vec())).await;
    let tenants = Tenants::new().await;
    let app = tenants.app(NewApp::at(&[instance.endpoint()])).await;
    let edge = Edge::start(&tenants, &[]).await;
    let answer = edge.get(app.id, "/users", &key(&app.secret)).await;
    assert_eq!((answer.status(), answer.error_code().as_str()), (502, "bad_gateway"));
    assert!(!answer.text().contains("hunter2") && !answer.text().contains("127.0.0.1"));
}

#[tokio::test]
async fn an_answer_that_breaks_off_breaks_the_connection() {
    let instance =
        Instance::start(|_| Reply::Last(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf".to_vec())).await;
    let tenants = Tenants::new().await;
    let app = tenants.app(NewApp::at(&[instance.endpoint()])).await;
    let edge = Edge::start(&tenants, &[]).await;
    let mut wire = Wire::connect(&edge.address).await;
    wire.send(request("GET", &format!("/v1/{}/users", app.id), &key(&app.secret), ""))
        .await;
    assert_eq!(wire.receive_head().await.unwrap().status(), 200);
    assert_eq!(wire.exactly(4).await, b"half");
    assert!(wire.is_closed().await, "the client can tell that something is missing");
}

#[tokio::test]
async fn a_client_that_leaves_disturbs_nobody() {
    let (tenants, instance) = (Tenants::new().await, Instance::start(|_| Reply::Silence).await);
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
    drop(wire);
    wait_for("the request to be over", Duration::from_secs(10), async || {
        (edge.metric("authsome_edge_in_flight_requests").await == 0).then_some(())
    })
    .await
    .unwrap();
    edge.counted("authsome_edge_failures_total{blame=\"client\"}", 1).await;
    assert_eq!(edge.metric("authsome_edge_failures_total{blame=\"edge\"}").await, 0);
}

#[tokio::test]
async fn an_edge_without_any_store_listens_says_what_is_away_and_refuses_without_guessing() {
    let directory = tempfile::tempdir().unwrap();
    let (command, address, admin) = command(&directory);
    let [postgres, redis, nats] = [nobody(), nobody(), nobody()];
    let program = command
        .env("DATABASE_URL", format!("postgres://edge:hunter2@{postgres}/control"))
        .env("REDIS_URL", format!("redis://:hunter2@{redis}"))
        .env("NATS_URL", format!("nats://edge:hunter2@{nats}"))
        .ready_at(&admin, "/livez")
        .start()
        .await
        .unwrap();
    wait_for("the log to name what is away", Duration::from_secs(15), async || {
        let log = program.log();
        let named = |name: &str, at: &str| log.contains(&format!("cannot reach {name} at")) && log.contains(at);
        let all = named("Postgres", &postgres) && named("Redis", &redis) && named("NATS", &nats);
        if all { Ok(()) } else { Err(log) }
    })
    .await
    .unwrap();
    assert!(!program.log().contains("hunter2"), "{}", program.log());

    assert_eq!(exchange(&admin, request("GET", "/readyz", "", "")).await.status(), 503);
    assert_eq!(
        exchange(&address, request("GET", "/health", "", "")).await.status(),
        200
    );
    let entropy = authsome_core::entropy::SystemEntropy::new();
    let app = authsome_core::id::ApplicationId::generate(&authsome_core::clock::SystemClock, &entropy);
    let kinds = (authsome_core::key::KeyType::Secret, authsome_core::key::KeyMode::Live);
    let secret = authsome_core::key::ApiKey::generate(kinds.0, kinds.1, &app, &entropy);
    for header in [key(&secret), String::new()] {
        let answer = exchange(&address, request("GET", &format!("/v1/{app}/v1/health"), &header, "")).await;
        assert_eq!(
            (answer.status(), answer.error_code().as_str()),
            (503, "service_unavailable")
        );
        assert_eq!(answer.header("retry-after"), Some("1"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
    let malformed = exchange(
        &address,
        request("GET", &format!("/v1/{app}/users"), "x-api-key: sk_live_x\r\n", ""),
    )
    .await;
    assert_eq!(malformed.status(), 401, "what is wrong in itself needs no store");
}
