//! What reaches the instance.

use authsome_core::id::{ApplicationId, KeyId, RequestId};
use authsome_core::key::KeyType;
use authsome_core::seal::{Aad, EdgeRing};

use crate::db::{NewApp, Tenants};
use crate::edge::{Edge, key, request};
use crate::instance::{Instance, Reply};
use crate::wire::{Wire, exchange};

#[tokio::test]
async fn a_request_with_a_secret_key_reaches_the_instance_with_its_identity_and_without_the_key() {
    let (tenants, instance) = (Tenants::new().await, Instance::echo().await);
    let app = tenants.app(NewApp::at(&[instance.endpoint()])).await;
    let edge = Edge::start(&tenants, &[]).await;

    let headers = format!("authorization: Bearer {}\r\nx-mine: kept\r\n", app.secret.expose());
    let answer = edge
        .request(
            "PATCH",
            app.id,
            "/users/a%2Fb/../c?x=%20&y",
            &headers,
            "{\"name\":\"é\"}",
        )
        .await;
    assert_eq!(answer.status(), 200, "{answer:?}");
    assert_eq!(answer.json()["ok"], true);
    assert_eq!(answer.header("x-authsome-app-id"), Some(&*app.id.to_string()));
    assert_eq!(answer.header("x-authsome-region"), Some("local"));

    let seen = instance.only();
    assert_eq!(seen.start, "PATCH /users/a%2Fb/../c?x=%20&y HTTP/1.1");
    assert_eq!(seen.text(), "{\"name\":\"é\"}");
    assert_eq!(seen.header("x-authsome-app-id"), Some(&*app.id.to_string()));
    assert!(seen.header("x-authsome-key-id").unwrap().parse::<KeyId>().is_ok());
    assert_eq!(seen.header("x-authsome-key-type"), Some("secret"));
    assert_eq!(seen.header("x-authsome-environment"), Some("production"));
    assert_eq!(seen.header("x-authsome-scopes"), Some("*"));
    assert_eq!(seen.header("x-mine"), Some("kept"));
    assert_eq!(seen.header("authorization"), None);
    assert!(seen.header("x-request-id").unwrap().parse::<RequestId>().is_ok());
    assert_eq!(seen.header("x-request-id"), answer.header("x-authsome-request-id"));
    assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen.header("x-forwarded-proto"), Some("http"));
    assert_eq!(seen.header("x-forwarded-host"), Some("api.authsome.test"));
    assert_eq!(seen.header("x-forwarded-prefix"), Some(&*format!("/v1/{}", app.id)));
    let trace = seen.header("traceparent").unwrap();
    assert_eq!((trace.len(), &trace[..3]), (55, "00-"));
    assert!(!format!("{seen:?}").contains(app.secret.expose()));
}

#[tokio::test]
async fn a_client_cannot_pretend_to_be_the_edge() {
    let (tenants, instance) = (Tenants::new().await, Instance::echo().await);
    let app = tenants.app(NewApp::at(&[instance.endpoint()])).await;
    let edge = Edge::start(&tenants, &[("AUTHSOME_PUBLIC_EDGE", "https://api.authsome.test")]).await;

    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let spoofed = format!(
        "{}x-publishable-key: {}\r\nauthorization: Bearer session-of-the-user\r\n\
         X-AuthSome-App-ID: app_other\r\nx-authsome-user-id: 1\r\nX_AuthSome_Scopes: *\r\nx-authsome-key-type: secret\r\n\
         Forwarded: for=1.1.1.1\r\nX-Real-IP: 1.1.1.1\r\nX-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: 2.2.2.2\r\n\
         X-Forwarded-Proto: ftp\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Prefix: /evil\r\nX-App-ID: aapp_evil\r\n\
         X-HTTP-Method-Override: DELETE\r\nX-Original-URL: /users\r\nX-Request-Id: chosen\r\ntraceparent: {trace}\r\ntracestate: a=b\r\n\
         Connection: keep-alive, X-AuthSome-Key-Type, X-Request-Id\r\n",
        key(&app.public),
        app.public.expose(),
    );
    assert_eq!(edge.get(app.id, "/v1/me", &spoofed).await.status(), 200);
    let seen = instance.only();
    assert_eq!(seen.header("x-authsome-app-id"), Some(&*app.id.to_string()));
    assert_eq!(seen.header("x-authsome-key-type"), Some("public"));
    assert_eq!(
        seen.header("authorization"),
        Some("Bearer session-of-the-user"),
        "the user's session is not ours"
    );
    for gone in [
        "x-authsome-user-id",
        "x_authsome_scopes",
        "forwarded",
        "x-api-key",
        "x-publishable-key",
        "x-app-id",
        "x-http-method-override",
        "x-original-url",
    ] {
        assert_eq!(seen.header(gone), None, "{gone}");
    }
    assert_eq!(seen.header("x-real-ip"), Some("127.0.0.1"));
    assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen.header("x-forwarded-proto"), Some("https"));
    assert_eq!(seen.header("x-forwarded-host"), Some("api.authsome.test"));
    assert_ne!(seen.header("x-request-id"), Some("chosen"));
    let traced = seen.header("traceparent").unwrap();
    assert!(
        traced.starts_with(&trace[..36]) && traced.ends_with("-01"),
        "a valid trace goes on: {traced}"
    );
    assert_ne!(traced, trace, "with the edge's span");
    assert_eq!(seen.header("tracestate"), Some("a=b"));
}

#[tokio::test]
async fn an_invalid_trace_is_replaced() {
    let (tenants, instance) = (Tenants::new().await, Instance::echo().await);
    let app = tenants.app(NewApp::at(&[instance.endpoint()])).await;
    let edge = Edge::start(&tenants, &[]).await;
    let zero = format!(
        "traceparent: 00-{}-b7ad6b7169203331-01\r\ntracestate: a=b\r\n",
        "0".repeat(32)
    );
    edge.get(app.id, "/v1/health", &zero).await;
    let seen = instance.only();
    assert!(!seen.header("traceparent").unwrap().contains(&"0".repeat(32)));
    assert_eq!(seen.header("tracestate"), None);
}

#[tokio::test]
async fn a_publishable_key_in_the_query_is_accepted_and_taken_out() {
    let (tenants, instance) = (Tenants::new().await, Instance::echo().await);
    let app = tenants.app(NewApp::at(&[instance.endpoint()])).await;
    let edge = Edge::start(&tenants, &[]).await;
    let tail = format!("/v1/me?a=1&key={}&b", app.public.expose());
    assert_eq!(edge.get(app.id, &tail, "").await.status(), 200);
    assert_eq!(instance.only().target(), "/v1/me?a=1&b");
    assert!(!edge.program.log().contains(app.public.expose()), "not in the log");
}

#[tokio::test]
async fn the_base_path_of_the_instance_goes_before_the_tail() {
    let (tenants, instance) = (Tenants::new().await, Instance::echo().await);
    let app = tenants
        .app(NewApp {
            base_path: "/api/auth",
            ..NewApp::at(&[instance.endpoint()])
        })
        .await;
    let edge = Edge::start(&tenants, &[]).await;
    edge.get(app.id, "/v1/health", "").await;
    edge.get(app.id, "", &key(&app.secret)).await;
    let targets: Vec<_> = instance.seen().iter().map(|seen| seen.target().to_owned()).collect();
    assert_eq!(targets, ["/api/auth/v1/health", "/api/auth/"]);
}

#[tokio::test]
async fn the_instances_own_credentials_stand_in_for_the_key() {
    let (tenants, instance) = (Tenants::new().await, Instance::echo().await);
    // 32 bytes of zeros, in base64.
    let ring_text = format!("{}=", "A".repeat(43));
    let ring = EdgeRing::parse(&ring_text).unwrap();
    let new = NewApp::at(&[instance.endpoint()]);
    let json = br#"{"publishableKey":"pk_of_instance","appId":"aapp_1","serviceKey":"ask_of_instance"}"#;
    let aad = Aad {
        table_column: authsome_proxy::upstream::EDGE_CREDENTIALS_COLUMN,
        row: &new.id.text(),
    };
    let sealed = ring.seal(aad, json, &authsome_core::entropy::SystemEntropy::new());
    let app = tenants
        .app(NewApp {
            edge_credentials: Some(sealed),
            ..new
        })
        .await;

    let edge = Edge::start(&tenants, &[("AUTHSOME_ENCRYPTION_EDGE_KEY", &ring_text)]).await;
    assert_eq!(edge.get(app.id, "/users", &key(&app.secret)).await.status(), 200);
    assert_eq!(edge.get(app.id, "/v1/me", &key(&app.public)).await.status(), 200);
    let seen = instance.seen();
    assert_eq!(seen[0].header("x-api-key"), Some("ask_of_instance"));
    assert_eq!(seen[0].header("x-app-id"), Some("aapp_1"));
    assert_eq!(seen[0].header("x-publishable-key"), None);
    assert_eq!(seen[1].header("x-publishable-key"), Some("pk_of_instance"));
    assert_eq!(seen[1].header("x-api-key"), None);

    let without = Edge::start(&tenants, &[]).await;
    let answer = without.get(app.id, "/v1/me", &key(&app.public)).await;
    assert_eq!(
        (answer.status(), answer.error_code().as_str()),
        (503, "service_unavailable")
    );
    assert_eq!(instance.seen().len(), 2, "not forwarded without its credentials");
}

#[tokio::test]
async fn requests_follow_each_other_on_one_connection_and_reuse_the_instances() {
    let (tenants, instance) = (Tenants::new().await, Instance::echo().await);
    let app = tenants.app(NewApp::at(&[instance.endpoint()])).await;
    let edge = Edge::start(&tenants, &[]).await;
    let mut wire = Wire::connect(&edge.address).await;
    for number in 0..5 {
        let target = format!("/v1/{}/v1/signin?n={number}", app.id);
        wire.send(request("POST", &target, &key(&app.public), "body")).await;
        assert_eq!(wire.receive().await.unwrap().status(), 200);
    }
    assert_eq!(instance.seen().len(), 5);
}

#[tokio::test]
async fn chunked_bodies_pass_in_both_directions_as_they_come() {
    let tenants = Tenants::new().await;
    let (go, wait) = tokio::sync::watch::channel(false);
    let instance = Instance::connected(move |seen, mut wire| {
        let mut wait = wait.clone();
        async move {
            assert_eq!(seen.text(), "hello world");
            wire.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n")
                .await;
            wait.wait_for(|go| *go).await.unwrap();
            wire.send("6\r\nsecond\r\n0\r\n\r\n").await;
            Some(wire)
        }
    })
    .await;
    let app = tenants.app(NewApp::at(&[instance.endpoint()])).await;
    let edge = Edge::start(&tenants, &[]).await;
    let mut wire = Wire::connect(&edge.address).await;
    let head = format!("{}transfer-encoding: chunked\r\n", key(&app.public));
    wire.send(request("POST", &format!("/v1/{}/v1/signin", app.id), &head, ""))
        .await;
    wire.send("6\r\nhello \r\n5\r\nworld\r\n0\r\n\r\n").await;
    assert_eq!(wire.receive_head().await.unwrap().status(), 200);
    assert_eq!(wire.chunk().await.unwrap(), b"first", "before the second part exists");
    go.send_replace(true);
    assert_eq!(wire.chunk().await.unwrap(), b"second");
    assert_eq!(wire.chunk().await, None);
}

#[tokio::test]
async fn a_websocket_is_passed_through() {
    let tenants = Tenants::new().await;
    let instance = Instance::connected(|seen, mut wire| async move {
        assert_eq!(seen.header("upgrade"), Some("websocket"));
        wire.send("HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n")
            .await;
        let heard = wire.exactly(4).await;
        wire.send([b"re: ".to_vec(), heard].concat()).await;
        None
    })
    .await;
    let app = tenants.app(NewApp::at(&[instance.endpoint()])).await;
    let edge = Edge::start(&tenants, &[("AUTHSOME_LIMITS_BODY_BYTES", "2B")]).await;
    let mut wire = Wire::connect(&edge.address).await;
    let head = format!("{}upgrade: websocket\r\nconnection: upgrade\r\n", key(&app.public));
    wire.send(request("GET", &format!("/v1/{}/v1/me/events", app.id), &head, ""))
        .await;
    let answer = wire.receive_head().await.unwrap();
    assert_eq!(answer.status(), 101);
    assert_eq!(answer.header("x-authsome-app-id"), Some(&*app.id.to_string()));
    wire.send("ping").await;
    assert_eq!(wire.exactly(8).await, b"re: ping");
}

#[tokio::test]
async fn an_upgrade_that_nobody_asked_for_is_not_passed_on() {
    let tenants = Tenants::new().await;
    let instance = Instance::start(|_| {
        Reply::Bytes(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: other\r\nconnection: upgrade\r\n\r\n".to_vec())
    })
    .await;
    let app = tenants.app(NewApp::at(&[instance.endpoint()])).await;
    let edge = Edge::start(&tenants, &[]).await;
    let answer = edge.get(app.id, "/v1/me", &key(&app.public)).await;
    assert_eq!(answer.status(), 502);
}

#[tokio::test]
async fn two_applications_reach_only_their_own_instances() {
    let tenants = Tenants::new().await;
    let (one, two) = (Instance::echo().await, Instance::echo().await);
    let first = tenants.app(NewApp::at(&[one.endpoint()])).await;
    let second = tenants.app(NewApp::at(&[two.endpoint()])).await;
    let edge = Edge::start(&tenants, &[]).await;
    for _ in 0..3 {
        assert_eq!(edge.get(first.id, "/users", &key(&first.secret)).await.status(), 200);
    }
    assert_eq!(edge.get(second.id, "/users", &key(&second.secret)).await.status(), 200);
    assert_eq!((one.seen().len(), two.seen().len()), (3, 1));
    assert_eq!(edge.get(second.id, "/users", &key(&first.secret)).await.status(), 401);
    assert_eq!((one.seen().len(), two.seen().len()), (3, 1));
}

#[tokio::test]
async fn instances_take_turns() {
    let tenants = Tenants::new().await;
    let (one, two) = (Instance::echo().await, Instance::echo().await);
    let app = tenants.app(NewApp::at(&[one.endpoint(), two.endpoint()])).await;
    let edge = Edge::start(&tenants, &[]).await;
    for _ in 0..6 {
        edge.get(app.id, "/v1/health", "").await;
    }
    assert_eq!((one.seen().len(), two.seen().len()), (3, 3));
}

#[tokio::test]
async fn the_probes_of_the_traffic_port_are_no_requests_of_an_application() {
    let tenants = Tenants::new().await;
    let edge = Edge::start(&tenants, &[]).await;
    for path in ["/health", "/ready"] {
        let answer = exchange(&edge.address, request("GET", path, "", "")).await;
        assert_eq!(answer.status(), 200, "{path}");
    }
    for path in ["/health/", "/metrics", "/readyz"] {
        assert_eq!(
            exchange(&edge.address, request("GET", path, "", "")).await.status(),
            404,
            "{path}"
        );
    }
    for (path, status) in [
        ("/livez", 200),
        ("/readyz", 200),
        ("/metrics", 200),
        ("/stats", 200),
        ("/x", 404),
    ] {
        assert_eq!(
            exchange(&edge.admin, request("GET", path, "", "")).await.status(),
            status,
            "{path}"
        );
    }
    assert_eq!(
        exchange(&edge.admin, request("POST", "/metrics", "", ""))
            .await
            .status(),
        405
    );
}

#[tokio::test]
async fn a_key_of_each_type_and_scope_opens_its_paths() {
    let (tenants, instance) = (Tenants::new().await, Instance::echo().await);
    let app = tenants.app(NewApp::at(&[instance.endpoint()])).await;
    let reader = tenants
        .key(app.id, KeyType::Secret, &["users:read", "audit:read"])
        .await;
    let edge = Edge::start(&tenants, &[]).await;
    let id: ApplicationId = app.id;
    assert_eq!(edge.get(id, "/users", &key(&reader)).await.status(), 200);
    assert_eq!(
        edge.request("POST", id, "/users", &key(&reader), "{}").await.status(),
        403
    );
    assert_eq!(
        edge.request("POST", id, "/v1/signin", &key(&reader), "{}")
            .await
            .status(),
        200
    );
    assert_eq!(
        edge.request("POST", id, "/v1/signin", &key(&app.public), "{}")
            .await
            .status(),
        200
    );
    assert_eq!(edge.get(id, "/.well-known/jwks.json", "").await.status(), 200);
    assert_eq!(
        instance.seen()[0].header("x-authsome-scopes"),
        Some("users:read audit:read")
    );
    assert_eq!(instance.seen().last().unwrap().header("x-authsome-key-id"), None);
}

#[tokio::test]
async fn a_head_request_has_no_body_and_keeps_the_connection() {
    let tenants = Tenants::new().await;
    let instance = Instance::start(|_| Reply::Bytes(b"HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n".to_vec())).await;
    let app = tenants.app(NewApp::at(&[instance.endpoint()])).await;
    let edge = Edge::start(&tenants, &[]).await;
    let mut wire = Wire::connect(&edge.address).await;
    wire.send(request("HEAD", &format!("/v1/{}/v1/health", app.id), "", ""))
        .await;
    let answer = wire.receive_head().await.unwrap();
    assert_eq!((answer.status(), answer.header("content-length")), (200, Some("11")));
    wire.send(request("HEAD", &format!("/v1/{}/users", app.id), "", ""))
        .await;
    assert_eq!(wire.receive_head().await.unwrap().status(), 401);
    wire.send(request("GET", "/health", "", "")).await;
    assert_eq!(wire.receive().await.unwrap().json()["status"], "ok");
}
