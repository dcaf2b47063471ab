//! HTTP/2 with clients.

use std::time::{Duration, Instant};

use authsome_core::key::KeyType;
use authsome_testkit::{port, wait_for};
use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream};
use http::Method;
use nix::sys::signal::Signal;

use crate::db::{App, NewApp, Tenants};
use crate::edge::Edge;
use crate::fed::Fed;
use crate::http2::{Client, read, request};
use crate::instance::{Instance, Reply};
use crate::routing_fixture::SOON;
use crate::tls::{self, Authority};
use crate::wire::{PATIENCE, Wire};

struct Stage {
    tenants: Tenants,
    instance: Instance,
    app: App,
    edge: Edge,
}

async fn stage(instance: Instance, settings: &[(&str, &str)]) -> Stage {
    let tenants = Tenants::new().await;
    let app = tenants.app(NewApp::at(&[instance.endpoint()])).await;
    let edge = Edge::start(&tenants, settings).await;
    Stage {
        tenants,
        instance,
        app,
        edge,
    }
}

/// An instance that sends an event and then waits for ever.
async fn events() -> Instance {
    Instance::connected(|_, mut wire| async move {
        wire.send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
            .await;
        wire.send("d\r\ndata: first\n\n\r\n").await;
        std::future::pending().await
    })
    .await
}

async fn silent() -> Instance {
    Instance::start(|_| Reply::Silence).await
}

#[tokio::test]
async fn requests_are_answered_with_prior_knowledge_and_by_alpn_and_reach_the_instance_as_http1() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    authority.issue(directory.path(), "default", &["api.authsome.test"]);
    let address = format!("127.0.0.1:{}", port::free().unwrap());
    let settings = [
        ("AUTHSOME_LISTEN_TLS", address.as_str()),
        ("AUTHSOME_TLS_DIRECTORY", directory.path().to_str().unwrap()),
    ];
    let stage = stage(Instance::echo().await, &settings).await;
    let path = format!("/v1/{}/v1/me?a=b", stage.app.id);
    let key = stage.app.public.expose();
    let secure = tls::connect(&address, "api.authsome.test", &authority.client(&["h2"]))
        .await
        .unwrap();
    assert_eq!(secure.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let clients = [Client::plain(&stage.edge.address).await, Client::over(secure).await];
    for (mut client, scheme) in clients.into_iter().zip(["http", "https"]) {
        let headers = [
            ("x-publishable-key", key),
            ("cookie", "a=1"),
            ("cookie", "b=2"),
            ("cookie", "c=3"),
        ];
        let answer = client.ask(request(Method::GET, &path, &headers)).await.unwrap();
        assert_eq!((answer.status(), answer.text().as_str()), (200, "{\"ok\":true}"));
        assert!(answer.head.headers.contains_key("x-authsome-request-id"));
        assert!(!answer.head.headers.contains_key("connection"));
        let seen = stage.instance.seen().pop().unwrap();
        assert_eq!(seen.start, "GET /v1/me?a=b HTTP/1.1");
        assert_eq!(seen.header("cookie"), Some("a=1; b=2; c=3"));
        assert_eq!(seen.header("x-forwarded-proto"), Some(scheme));
        assert_eq!(seen.header("x-forwarded-host"), Some("api.authsome.test"));
        assert_eq!(seen.header("x-publishable-key"), None);
        let refused = client.ask(request(Method::GET, &path, &[])).await.unwrap();
        assert_eq!(refused.status(), 401);
        // The connection is of use after a refusal.
        let again = client.ask(request(Method::GET, &path, &headers)).await.unwrap();
        assert_eq!(again.status(), 200);
    }
    stage
        .edge
        .counted("authsome_edge_connections_total{protocol=\"http2\"}", 2)
        .await;
}

#[tokio::test]
async fn a_body_is_sent_on_and_a_refused_one_does_not_end_the_connection() {
    let stage = stage(
        Instance::start(|asked| Reply::ok("", &asked.body.len().to_string())).await,
        &[("AUTHSOME_LIMITS_BODY_BYTES", "1MiB")],
    )
    .await;
    let path = format!("/v1/{}/users", stage.app.id);
    let key = [("x-api-key", stage.app.secret.expose())];
    let mut client = Client::plain(&stage.edge.address).await;
    let (response, mut body) = client.send(request(Method::POST, &path, &key), false).await.unwrap();
    for _ in 0..8 {
        body.send_data(vec![b'x'; 64 * 1024].into(), false).unwrap();
    }
    body.send_data("end".into(), true).unwrap();
    let answer = read(response.await.unwrap()).await.unwrap();
    assert_eq!((answer.status(), answer.text()), (200, (8 * 64 * 1024 + 3).to_string()));

    // Declared and too large: refused at once, the body is not waited for.
    let declared = [key[0], ("content-length", "2000000")];
    let (response, _body) = client
        .send(request(Method::POST, &path, &declared), false)
        .await
        .unwrap();
    let answer = tokio::time::timeout(PATIENCE, response).await.unwrap().unwrap();
    assert_eq!(answer.status(), 413);
    // Not declared and too large: refused where it becomes so.
    let (response, mut body) = client.send(request(Method::POST, &path, &key), false).await.unwrap();
    body.send_data(vec![b'x'; 2 * 1024 * 1024].into(), false).unwrap();
    let answer = tokio::time::timeout(PATIENCE, response).await.unwrap().unwrap();
    assert_eq!(answer.status(), 413);
    let answer = client.ask(request(Method::GET, &path, &key)).await.unwrap();
    assert_eq!(answer.status(), 200);
}

#[tokio::test]
async fn a_body_that_ends_with_an_empty_frame_ends_once() {
    let stage = stage(Instance::echo().await, &[("AUTHSOME_SERVER_THREADS", "1")]).await;
    let path = format!("/v1/{}/users", stage.app.id);
    let key = [("x-api-key", stage.app.secret.expose())];
    let mut client = Client::plain(&stage.edge.address).await;
    for _ in 0..3 {
        let (response, mut body) = client.send(request(Method::POST, &path, &key), false).await.unwrap();
        for part in ["", "whole", ""] {
            body.send_data(part.into(), false).unwrap();
        }
        body.send_data("".into(), true).unwrap();
        let answer = tokio::time::timeout(PATIENCE, response).await.unwrap().unwrap();
        assert_eq!(answer.status(), 200);
    }
    // On the connection to the instance, which is used again, there is nothing between the requests.
    for seen in stage.instance.seen() {
        assert_eq!(
            (seen.start.as_str(), seen.text().as_str()),
            ("POST /users HTTP/1.1", "whole")
        );
    }
}

#[tokio::test]
async fn the_number_of_streams_and_the_size_of_a_head_are_bounded() {
    let stage = stage(
        Instance::echo().await,
        &[
            ("AUTHSOME_HTTP2_STREAMS", "7"),
            ("AUTHSOME_LIMITS_HEADER_BYTES", "8KiB"),
        ],
    )
    .await;
    let path = format!("/v1/{}/v1/me", stage.app.id);
    let key = ("x-publishable-key", stage.app.public.expose());
    let mut client = Client::plain(&stage.edge.address).await;
    let answer = client.ask(request(Method::GET, &path, &[key])).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(client.sender.current_max_send_streams(), 7);
    let long = "x".repeat(9 * 1024);
    let answer = client
        .ask(request(Method::GET, &path, &[key, ("x-long", &long)]))
        .await
        .unwrap();
    assert_eq!(answer.status(), 431);
    assert_eq!(stage.instance.seen().len(), 1);
    let answer = client.ask(request(Method::GET, &path, &[key])).await.unwrap();
    assert_eq!(answer.status(), 200);
}

#[tokio::test]
async fn a_head_that_could_be_read_in_two_ways_is_no_request_and_who_sends_many_is_ended() {
    let stage = stage(Instance::echo().await, &[]).await;
    let path = format!("/v1/{}/v1/me", stage.app.id);
    let key = ("x-publishable-key", stage.app.public.expose());
    let mut client = Client::plain(&stage.edge.address).await;
    for lengths in [&["5", "6"][..], &["5, 6"], &["+5"], &["5", "5,"]] {
        let lines: Vec<_> = lengths
            .iter()
            .map(|length| ("content-length", *length))
            .chain([key])
            .collect();
        let (response, _body) = client.send(request(Method::POST, &path, &lines), false).await.unwrap();
        let error = tokio::time::timeout(PATIENCE, response).await.unwrap().unwrap_err();
        assert_eq!(error.reason(), Some(Reason::PROTOCOL_ERROR), "{lengths:?}");
    }
    for hosts in [
        &["other.test"][..],
        &["api.authsome.test", "api.authsome.test"],
        &["u@api.authsome.test"],
    ] {
        let lines: Vec<_> = hosts.iter().map(|host| ("host", *host)).chain([key]).collect();
        let answer = client.ask(request(Method::GET, &path, &lines)).await.unwrap();
        assert_eq!(answer.status(), 400, "{hosts:?}");
    }
    assert!(stage.instance.seen().is_empty());
    let answer = client.ask(request(Method::GET, &path, &[key])).await.unwrap();
    assert_eq!(answer.status(), 200, "the connection is of use");

    let flood = async {
        let asked = request(Method::GET, &path, &[key, ("host", "other.test")]);
        while client.ask(asked.clone()).await.is_ok() {}
    };
    tokio::time::timeout(PATIENCE, flood)
        .await
        .expect("the client is never ended");
    stage
        .edge
        .counted("authsome_edge_http2_ended_total{reason=\"abuse\"}", 1)
        .await;
    assert_eq!(stage.instance.seen().len(), 1);
}

#[tokio::test]
async fn requests_on_one_connection_do_not_wait_for_each_other() {
    let instance = Instance::start(|asked| {
        if asked.target().contains("slow") {
            Reply::Silence
        } else {
            Reply::ok("", "fast")
        }
    })
    .await;
    let stage = stage(instance, &[]).await;
    let key = [("x-publishable-key", stage.app.public.expose())];
    let mut client = Client::plain(&stage.edge.address).await;
    let slow = format!("/v1/{}/v1/me/slow", stage.app.id);
    let mut waiting = Vec::new();
    for _ in 0..20 {
        waiting.push(client.send(request(Method::GET, &slow, &key), true).await.unwrap());
    }
    let fast = format!("/v1/{}/v1/me", stage.app.id);
    for _ in 0..20 {
        let answer = client.ask(request(Method::GET, &fast, &key)).await.unwrap();
        assert_eq!(answer.text(), "fast");
    }
    drop(waiting);
}

#[tokio::test]
async fn a_revoked_keys_streams_are_ended_within_a_second_and_others_of_the_connection_stay() {
    let tenants = Tenants::new().await;
    let instance = events().await;
    let app = tenants.app(NewApp::at(&[instance.endpoint()])).await;
    let other = tenants.key(app.id, KeyType::Public, &[]).await;
    let fed = Fed::start(&tenants).await;
    let path = format!("/v1/{}/v1/me/events", app.id);
    let mut client = Client::plain(&fed.edge.address).await;
    let mut open = Vec::new();
    for key in [&app.public, &other] {
        let asked = request(Method::GET, &path, &[("x-publishable-key", key.expose())]);
        let (response, _) = client.send(asked, true).await.unwrap();
        let mut stream = response.await.unwrap().into_body();
        assert_eq!(stream.data().await.unwrap().unwrap(), "data: first\n\n");
        open.push(stream);
    }
    fed.edge.settled("authsome_edge_live_connections", 2).await;
    let began = fed.revoke(&tenants, &app, &app.public).await;
    let ended = tokio::time::timeout(PATIENCE, open[0].data()).await.unwrap();
    let took = began.elapsed();
    assert!(took < Duration::from_secs(1), "{took:?}");
    let reason = ended.unwrap().unwrap_err().reason();
    assert!(reason.is_some_and(|reason| reason != Reason::NO_ERROR), "{reason:?}");
    assert!(!client.connection.is_finished(), "the connection serves others");
    let silence = tokio::time::timeout(Duration::from_millis(500), open[1].data()).await;
    assert!(silence.is_err(), "the other stream is open: {silence:?}");
    fed.closed("key", 1).await;
    fed.edge.settled("authsome_edge_live_connections", 1).await;
    // It is a request like any: counted and logged.
    wait_for("the access log", SOON, async || {
        fed.edge.program.log().contains("NoLongerAllowed").then_some(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_client_that_takes_its_requests_back_again_and_again_is_ended() {
    let stage = stage(silent().await, &[]).await;
    let path = format!("/v1/{}/v1/me", stage.app.id);
    let key = [("x-publishable-key", stage.app.public.expose())];
    let mut client = Client::plain(&stage.edge.address).await;
    let mut sent = 0;
    let flood = async {
        while let Ok((response, mut body)) = client.send(request(Method::GET, &path, &key), true).await {
            sent += 1;
            body.send_reset(Reason::CANCEL);
            drop(response);
            // Lets the connection send it.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, flood)
        .await
        .expect("the client is never ended");
    let ended = client.connection.await.unwrap().unwrap_err();
    // Who still sends when the connection closes may meet that before it reads why; the counter below says it for certain.
    let is_told = ended.reason() == Some(Reason::ENHANCE_YOUR_CALM);
    assert!(is_told || ended.is_io(), "{ended}");
    assert!(sent >= 100, "{sent}");
    stage
        .edge
        .counted("authsome_edge_http2_ended_total{reason=\"abuse\"}", 1)
        .await;
    // What it began is over too.
    wait_for("its requests to end", SOON, async || {
        (stage.edge.metric("authsome_edge_in_flight_requests").await == 0).then_some(())
    })
    .await
    .unwrap();
    drop(stage.tenants);
}

#[tokio::test]
async fn a_client_that_answers_no_ping_is_dropped() {
    let settings = [
        ("AUTHSOME_HTTP2_PING_INTERVAL", "200ms"),
        ("AUTHSOME_HTTP2_PING_TIMEOUT", "300ms"),
    ];
    let stage = stage(events().await, &settings).await;
    let mut wire = Wire::connect(&stage.edge.address).await;
    // The preface and empty settings, then nothing more.
    wire.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u{4}\0\0\0\0\0").await;
    let closed = async { while wire.heard().await.is_some() {} };
    tokio::time::timeout(PATIENCE, closed)
        .await
        .expect("the connection stays");
    stage
        .edge
        .counted("authsome_edge_http2_ended_total{reason=\"ping\"}", 1)
        .await;
    // One that does answer stays, however long its stream is silent.
    let mut client = Client::plain(&stage.edge.address).await;
    let path = format!("/v1/{}/v1/me/events", stage.app.id);
    let asked = request(Method::GET, &path, &[("x-publishable-key", stage.app.public.expose())]);
    let (response, _) = client.send(asked, true).await.unwrap();
    let mut stream = response.await.unwrap().into_body();
    stream.data().await.unwrap().unwrap();
    assert!(
        tokio::time::timeout(Duration::from_secs(2), stream.data())
            .await
            .is_err()
    );
}

#[tokio::test]
async fn an_idle_connection_is_told_to_go() {
    let stage = stage(Instance::echo().await, &[("AUTHSOME_LIMITS_KEEPALIVE", "1s")]).await;
    let mut client = Client::plain(&stage.edge.address).await;
    let path = format!("/v1/{}/v1/me", stage.app.id);
    let key = [("x-publishable-key", stage.app.public.expose())];
    assert_eq!(
        client.ask(request(Method::GET, &path, &key)).await.unwrap().status(),
        200
    );
    let ended = tokio::time::timeout(PATIENCE, client.connection).await.unwrap();
    ended.unwrap().expect("without an error");
    stage
        .edge
        .counted("authsome_edge_http2_ended_total{reason=\"idle\"}", 1)
        .await;
}

#[tokio::test]
async fn half_a_preface_is_cut_off_like_half_a_head() {
    let stage = stage(Instance::echo().await, &[("AUTHSOME_LIMITS_HEADER_DEADLINE", "1s")]).await;
    for half in ["PRI * HTT", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r"] {
        let mut wire = Wire::connect(&stage.edge.address).await;
        wire.send(half).await;
        assert!(wire.is_closed().await);
    }
}

/// The answer to a request whose body does not come.
async fn refused_as_slow(answer: http::Response<RecvStream>) {
    let answer = tokio::time::timeout(PATIENCE, read(answer)).await.unwrap().unwrap();
    let json: serde_json::Value = serde_json::from_str(&answer.text()).unwrap();
    assert_eq!(
        (answer.status(), &json["error"]["code"]),
        (408, &"invalid_request".into())
    );
}

/// Nothing more of the request is taken.
async fn is_reset(mut body: SendStream<Bytes>) {
    let reset = std::future::poll_fn(|cx| body.poll_reset(cx));
    let reason = tokio::time::timeout(PATIENCE, reset)
        .await
        .expect("it is open")
        .unwrap();
    assert_eq!(reason, Reason::NO_ERROR);
}

#[tokio::test]
async fn a_request_whose_body_stops_coming_is_answered_408_and_its_stream_ends() {
    // The instance takes longer than the client may.
    let instance = Instance::connected(|_, mut wire| async move {
        tokio::time::sleep(Duration::from_millis(2500)).await;
        wire.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        Some(wire)
    })
    .await;
    let stage = stage(instance, &[("AUTHSOME_LIMITS_CLIENT_READ", "1s")]).await;
    let path = format!("/v1/{}/users", stage.app.id);
    let key = [("x-api-key", stage.app.secret.expose())];
    let mut client = Client::plain(&stage.edge.address).await;
    let (response, mut body) = client.send(request(Method::POST, &path, &key), false).await.unwrap();
    body.send_data("half".into(), false).unwrap();
    let answer = tokio::time::timeout(PATIENCE, response)
        .await
        .expect("it is waited for");
    refused_as_slow(answer.unwrap()).await;
    is_reset(body).await;
    // A body that is complete is not waited for, however long the answer takes.
    let (response, mut body) = client.send(request(Method::POST, &path, &key), false).await.unwrap();
    body.send_data("whole".into(), false).unwrap();
    body.send_data("".into(), true).unwrap();
    let answer = tokio::time::timeout(PATIENCE, response).await.unwrap().unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(stage.instance.only().text(), "whole");
}

#[tokio::test]
async fn a_request_whose_body_drips_is_answered_408_and_the_others_on_its_connection_go_on() {
    let stage = stage(
        Instance::echo().await,
        &[
            ("AUTHSOME_LIMITS_BODY_GRACE", "1s"),
            ("AUTHSOME_LIMITS_BODY_RATE", "100KiB"),
        ],
    )
    .await;
    let path = format!("/v1/{}/users", stage.app.id);
    let key = [("x-api-key", stage.app.secret.expose())];
    let mut client = Client::plain(&stage.edge.address).await;
    let began = Instant::now();
    let (response, mut body) = client.send(request(Method::POST, &path, &key), false).await.unwrap();
    let dripping = async {
        while body.send_data("x".into(), false).is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let ended = tokio::time::timeout(PATIENCE, async { tokio::join!(response, dripping).0 });
    refused_as_slow(ended.await.expect("it is waited for").unwrap()).await;
    is_reset(body).await;
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
    let answer = client.ask(request(Method::GET, &path, &key)).await.unwrap();
    assert_eq!(answer.status(), 200, "on the same connection");
}

#[tokio::test]
async fn a_stopping_edge_tells_its_clients_to_go_and_finishes_what_they_asked() {
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
    let stage = stage(instance, &[]).await;
    let path = format!("/v1/{}/v1/me", stage.app.id);
    let asked = request(Method::GET, &path, &[("x-publishable-key", stage.app.public.expose())]);
    let mut client = Client::plain(&stage.edge.address).await;
    let mut idle = Client::plain(&stage.edge.address).await;
    assert_eq!(
        idle.ask(request(Method::GET, "/health", &[])).await.unwrap().status(),
        200
    );
    let (response, _) = client.send(asked.clone(), true).await.unwrap();
    wait_for("the instance to be asked", SOON, async || {
        stage.instance.seen().first().cloned()
    })
    .await
    .unwrap();
    stage.edge.program.child().signal(Signal::SIGTERM).unwrap();
    let ended = tokio::time::timeout(PATIENCE, idle.connection).await.unwrap();
    ended.unwrap().expect("GOAWAY without an error");
    wait_for("the busy connection to take no more", SOON, async || {
        client.send(asked.clone(), true).await.is_err().then_some(())
    })
    .await
    .unwrap();
    go.send_replace(true);
    let answer = read(response.await.unwrap()).await.unwrap();
    assert_eq!((answer.status(), answer.text().as_str()), (200, "done"));
    let exit = tokio::time::timeout(PATIENCE, stage.edge.program.child().exited())
        .await
        .unwrap();
    assert!(exit.success(), "{}", stage.edge.program.log());
}
