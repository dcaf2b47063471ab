//! What every request has in common: ids, errors, limits, headers, and what a lost database looks like.

use std::time::Duration;

use authsome_control::state::App;
use authsome_core::id::RequestId;
use authsome_core::secret::SecretUrl;
use authsome_db::pool::{self, PoolOptions};
use authsome_testkit::{ChaosProxy, Mode, PostgresServer, shared_postgres};
use axum::Router;
use axum::body::Body;
use axum::routing::get;
use futures::StreamExt;
use http::{Method, Request, StatusCode, header};
use serde_json::json;
use sqlx::PgPool;

use crate::service::{Answer, Service, settings};

fn pages() -> Router<App> {
    async fn panics() -> StatusCode {
        panic!("the secret of the inside")
    }
    async fn hangs() -> StatusCode {
        std::future::pending().await
    }
    Router::new().route("/panics", get(panics)).route("/hangs", get(hangs))
}

async fn odd() -> Service {
    let database = authsome_testkit::fresh_database(&authsome_db::MIGRATOR).await.unwrap();
    let settings = authsome_control::settings::Settings {
        request_deadline: Duration::from_millis(200),
        ..settings()
    };
    Service::on(PgPool::connect_with(database.options).await.unwrap(), settings, pages())
}

async fn raw(service: &Service, path: &str, content_type: Option<&str>, token: &str, body: impl Into<Body>) -> Answer {
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(path)
        .header(header::AUTHORIZATION, format!("Bearer {token}"));
    if let Some(content_type) = content_type {
        request = request.header(header::CONTENT_TYPE, content_type);
    }
    service.send(request.body(body.into()).unwrap()).await
}

#[tokio::test]
async fn every_answer_has_a_request_id_of_ours_and_security_headers() {
    let service = Service::new().await;
    for path in [
        "/api/v1/auth/me",
        "/health",
        "/ready",
        "/nowhere",
        "/api/v1/openapi.json",
    ] {
        let request = Request::builder()
            .uri(path)
            .header("x-request-id", "chosen-by-the-client");
        let answer = service.send(request.body(Body::empty()).unwrap()).await;
        let id = answer.headers["x-request-id"].to_str().unwrap();
        assert!(id.parse::<RequestId>().is_ok(), "{path}: {id}");
        for name in [
            "x-content-type-options",
            "x-frame-options",
            "content-security-policy",
            "cache-control",
        ] {
            assert!(answer.headers.contains_key(name), "{path} lacks {name}");
        }
        assert_eq!(
            answer.headers[header::STRICT_TRANSPORT_SECURITY],
            "max-age=31536000; includeSubDomains"
        );
    }
}

#[tokio::test]
async fn unknown_paths_and_methods_are_errors_of_the_platform() {
    let service = Service::new().await;
    for path in [
        "/nowhere",
        "/api/v1",
        "/api/v1/nowhere",
        "/control/v1/nowhere",
        "/api/v2/workspaces",
        "/api/v1/workspaces/",
    ] {
        service
            .call(Method::GET, path, None, None)
            .await
            .assert_error(404, "not_found");
    }
    let answer = service.call(Method::PUT, "/api/v1/workspaces", None, None).await;
    answer.assert_error(405, "invalid_request");
    let allowed = answer.headers[header::ALLOW].to_str().unwrap();
    assert!(allowed.contains("GET") && allowed.contains("POST"), "{allowed}");
}

#[tokio::test]
async fn a_body_that_cannot_be_read_is_explained() {
    let service = Service::new().await;
    let token = service.person("ada@example.com").await.token;
    let post = async |content_type: Option<&str>, body: &str| {
        raw(&service, "/api/v1/workspaces", content_type, &token, body.to_owned()).await
    };
    let json = Some("application/json");
    for content_type in [
        None,
        Some("text/plain"),
        Some("application/x-www-form-urlencoded"),
        Some("application/jsonp"),
    ] {
        post(content_type, r#"{"name":"x"}"#)
            .await
            .assert_error(415, "invalid_request");
    }
    for body in [
        "",
        "{",
        "nonsense",
        r#"{"name":"x"} trailing"#,
        r#"{"name":"x","name":"y"}"#,
        "\u{feff}{}",
    ] {
        post(json, body).await.assert_error(400, "invalid_request");
    }
    post(json, &"[".repeat(100_000))
        .await
        .assert_error(400, "invalid_request");
    let answer = raw(&service, "/api/v1/workspaces", json, &token, vec![b'"', 0xff, b'"']).await;
    answer.assert_error(400, "invalid_request");
    let charset = post(Some("Application/JSON; charset=utf-8"), r#"{"name":"x"}"#).await;
    assert_eq!(charset.status, StatusCode::CREATED);
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_413() {
    let service = Service::new().await;
    let token = service.person("ada@example.com").await.token;
    let body = |length: usize| json!({ "name": "x".repeat(length) }).to_string();
    let fits = raw(
        &service,
        "/api/v1/workspaces",
        Some("application/json"),
        &token,
        body((1 << 20) - 20),
    )
    .await;
    fits.assert_error(400, "invalid_request");
    let large = raw(
        &service,
        "/api/v1/workspaces",
        Some("application/json"),
        &token,
        body(1 << 20),
    )
    .await;
    large.assert_error(413, "payload_too_large");
}

#[tokio::test]
async fn a_panic_is_a_500_that_tells_nothing() {
    let service = odd().await;
    let answer = service.call(Method::GET, "/panics", None, None).await;
    answer.assert_error(500, "internal_error");
    assert!(!answer.text.contains("inside"), "{}", answer.text);
    assert_eq!(
        service.call(Method::GET, "/health", None, None).await.status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_a_503() {
    let service = odd().await;
    let answer = service.call(Method::GET, "/hangs", None, None).await;
    answer.assert_error(503, "service_unavailable");
    assert_eq!(answer.json["error"]["reason"], "timeout");
    assert!(answer.headers.contains_key(header::RETRY_AFTER));
}

#[tokio::test]
async fn a_body_that_stalls_is_a_408_and_ends_the_connection() {
    let service = odd().await;
    for key in [None, Some("once")] {
        let begun = futures::stream::iter([Ok::<_, std::io::Error>("{\"email\":")]);
        let stalled = begun.chain(futures::stream::pending());
        let mut request = Request::builder()
            .method(Method::POST)
            .uri("/api/v1/auth/login")
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let answer = service.send(request.body(Body::from_stream(stalled)).unwrap()).await;
        answer.assert_error(408, "invalid_request");
        assert_eq!(answer.json["error"]["reason"], "body_timeout");
        assert_eq!(answer.headers[header::CONNECTION], "close");
    }
}

#[tokio::test]
async fn a_lost_database_is_a_503_and_heals_by_itself() {
    let server: &PostgresServer = shared_postgres().await.unwrap();
    let database = authsome_testkit::fresh_database(&authsome_db::MIGRATOR).await.unwrap();
    let chaos = ChaosProxy::start(server.address()).await.unwrap();
    let url: SecretUrl = chaos.in_place_of(&database.url).parse().unwrap();
    let options = PoolOptions {
        acquire_timeout: Duration::from_secs(2),
        ..PoolOptions::new("test")
    };
    let service = Service::on(pool::lazy(&url, &options).unwrap(), settings(), Router::new());
    let ada = service.person("ada@example.com").await;
    service.app.readiness().migrated();
    assert_eq!(
        service.call(Method::GET, "/ready", None, None).await.status,
        StatusCode::OK
    );

    chaos.set(Mode::Refuse).await;
    chaos.cut();
    for path in ["/api/v1/auth/me", "/api/v1/workspaces"] {
        let answer = service.get(path, &ada).await;
        answer.assert_error(503, "service_unavailable");
        assert!(answer.headers.contains_key(header::RETRY_AFTER));
        for inside in ["sqlx", "pool", "postgres", "connection", "127.0.0.1"] {
            assert!(!answer.text.to_lowercase().contains(inside), "{}", answer.text);
        }
    }
    let ready = service.call(Method::GET, "/ready", None, None).await;
    assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_ne!(ready.json["dependencies"]["postgres"], "ok");
    assert_eq!(
        service.call(Method::GET, "/health", None, None).await.status,
        StatusCode::OK
    );

    chaos.set(Mode::Pass).await;
    authsome_testkit::wait_for("the API to answer again", Duration::from_secs(10), async || {
        let answer = service.get("/api/v1/auth/me", &ada).await;
        if answer.status == StatusCode::OK {
            Ok(())
        } else {
            Err(answer.text)
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn metrics_know_routes_and_never_what_clients_write() {
    let service = Service::new().await;
    service
        .call(Method::GET, "/api/v1/workspaces/ws_unheard_of", None, None)
        .await;
    service
        .call(Method::GET, "/control/v1/workspaces/ws_unheard_of", None, None)
        .await;
    service
        .call(Method::from_bytes(b"BREW").unwrap(), "/tea/sk_live_x", None, None)
        .await;
    let text = service.app.metrics().encode(&service.pool);
    let line = r#"authsome_control_http_requests_total{method="GET",route="/workspaces/{workspaceId}",status="4xx"} 2"#;
    assert!(text.contains(line), "{text}");
    assert!(
        text.contains(r#"{method="other",route="unmatched",status="4xx"} 1"#),
        "{text}"
    );
    assert!(text.contains("authsome_control_database_connections"), "{text}");
    assert!(!text.contains("unheard") && !text.contains("sk_live"), "{text}");
}
