//! Whom the edge turns away, and that it tells nothing by it.

use authsome_core::clock::SystemClock;
use authsome_core::entropy::SystemEntropy;
use authsome_core::id::ApplicationId;
use authsome_core::key::{ApiKey, KeyMode, KeyType};

use crate::db::{NewApp, Tenants};
use crate::edge::{Edge, key, request};
use crate::instance::Instance;
use crate::wire::{Message, Wire, exchange};

pub(crate) fn unknown_app() -> ApplicationId {
    ApplicationId::generate(&SystemClock, &SystemEntropy::new())
}

fn made_up_key(app: ApplicationId, key_type: KeyType) -> ApiKey {
    ApiKey::generate(key_type, KeyMode::Live, &app, &SystemEntropy::new())
}

/// An answer without what differs between any two requests.
fn alike(answer: &Message) -> (String, Vec<(String, String)>, String) {
    let id = answer.header("x-authsome-request-id").unwrap();
    let varying = ["x-authsome-request-id", "date"];
    let headers = answer
        .headers
        .iter()
        .filter(|(name, _)| !varying.contains(&name.as_str()))
        .cloned()
        .collect();
    (answer.start.clone(), headers, answer.text().replace(id, "ID"))
}

#[tokio::test]
async fn every_key_that_does_not_open_the_application_is_answered_with_the_same_bytes() {
    let (tenants, instance) = (Tenants::new().await, Instance::echo().await);
    let app = tenants.app(NewApp::at(&[instance.endpoint()])).await;
    let other = tenants.app(NewApp::at(&[instance.endpoint()])).await;
    let gone = tenants
        .app(NewApp {
            status: "deleting",
            ..NewApp::at(&[instance.endpoint()])
        })
        .await;
    let [revoked, expired] = [
        tenants.key(app.id, KeyType::Secret, &["*"]).await,
        tenants.key(app.id, KeyType::Secret, &["*"]).await,
    ];
    tenants.revoke(&revoked).await;
    tenants.expire(&expired).await;
    let mut mistyped = app.secret.expose().to_owned();
    let wrong = if mistyped.ends_with('A') { "B" } else { "A" };
    mistyped.replace_range(mistyped.len() - 1.., wrong);
    let edge = Edge::start(&tenants, &[]).await;

    let reference = edge
        .get(app.id, "/users", &key(&made_up_key(app.id, KeyType::Secret)))
        .await;
    assert_eq!(
        (reference.status(), reference.error_code().as_str()),
        (401, "unauthorized")
    );
    assert_eq!(reference.json()["error"]["message"], "Invalid or expired API key");
    assert_eq!(reference.header("www-authenticate"), Some("Bearer"));
    for (what, id, header) in [
        ("another application's", app.id, key(&other.secret)),
        ("another application's public", app.id, key(&other.public)),
        ("revoked", app.id, key(&revoked)),
        ("expired", app.id, key(&expired)),
        ("mistyped", app.id, format!("x-api-key: {mistyped}\r\n")),
        ("malformed", app.id, "x-api-key: sk_live_nonsense\r\n".to_owned()),
        ("no key at all", app.id, "x-api-key: hello\r\n".to_owned()),
        (
            "malformed bearer",
            app.id,
            "authorization: Bearer pk_live_nonsense\r\n".to_owned(),
        ),
        ("of an unknown application", unknown_app(), key(&app.secret)),
        (
            "made up for an unknown application",
            unknown_app(),
            key(&made_up_key(app.id, KeyType::Secret)),
        ),
        ("of a deleted application", gone.id, key(&gone.secret)),
        (
            "good beside a bad one",
            app.id,
            format!("{}x-publishable-key: {}\r\n", key(&app.secret), other.public.expose()),
        ),
    ] {
        for tail in ["/users", "/v1/me", "/v1/health"] {
            let answer = edge.get(id, tail, &header).await;
            assert_eq!(alike(&answer), alike(&reference), "{what} {tail}");
        }
    }
    assert!(instance.seen().is_empty(), "{:?}", instance.seen());
}

#[tokio::test]
async fn without_a_key_an_unknown_application_answers_like_a_known_one() {
    let (tenants, instance) = (Tenants::new().await, Instance::echo().await);
    let app = tenants.app(NewApp::at(&[instance.endpoint()])).await;
    let suspended = tenants
        .app(NewApp {
            status: "suspended",
            ..NewApp::at(&[instance.endpoint()])
        })
        .await;
    let edge = Edge::start(&tenants, &[]).await;
    let reference = edge.get(app.id, "/users", "").await;
    assert_eq!(
        (reference.status(), reference.error_code().as_str()),
        (401, "unauthorized")
    );
    for id in [unknown_app(), suspended.id] {
        for tail in ["/users", "/v1/me"] {
            assert_eq!(alike(&edge.get(id, tail, "").await), alike(&reference), "{tail}");
        }
    }
    let open = edge.get(unknown_app(), "/v1/health", "").await;
    assert_eq!((open.status(), open.error_code().as_str()), (404, "not_found"));
    assert_eq!(open.json()["error"]["message"], "Application not found");
    let malformed = exchange(&edge.address, request("GET", "/v1/app_abc123/v1/health", "", "")).await;
    assert_eq!(alike(&malformed), alike(&open));
}

#[tokio::test]
async fn a_malformed_key_costs_no_look_up() {
    let (tenants, instance) = (Tenants::new().await, Instance::echo().await);
    let app = tenants.app(NewApp::at(&[instance.endpoint()])).await;
    let edge = Edge::start(&tenants, &[]).await;
    let lookups = async || {
        let mut total = 0;
        for table in ["key", "app"] {
            for outcome in ["hit", "absent", "unknown"] {
                let series = format!("authsome_edge_routing_lookups_total{{outcome=\"{outcome}\",table=\"{table}\"}}");
                total += edge.metric(&series).await;
            }
        }
        total
    };
    let before = lookups().await;
    for text in ["sk_live_x", "pk_test_", "anything"] {
        assert_eq!(
            edge.get(app.id, "/users", &format!("x-api-key: {text}\r\n"))
                .await
                .status(),
            401
        );
    }
    let mut cut = app.secret.expose().to_owned();
    cut.replace_range(20..22, if &cut[20..22] == "xx" { "yy" } else { "xx" });
    assert_eq!(
        edge.get(app.id, "/users", &format!("x-api-key: {cut}\r\n"))
            .await
            .status(),
        401
    );
    assert_eq!(lookups().await, before);
    edge.counted("authsome_edge_credentials_total{outcome=\"malformed\"}", 3)
        .await;
    edge.counted("authsome_edge_credentials_total{outcome=\"checksum\"}", 1)
        .await;
    assert_eq!(edge.get(app.id, "/users", &key(&app.secret)).await.status(), 200);
    assert!(lookups().await > before);
}

#[tokio::test]
async fn a_valid_key_that_may_not_is_forbidden() {
    let (tenants, instance) = (Tenants::new().await, Instance::echo().await);
    let app = tenants.app(NewApp::at(&[instance.endpoint()])).await;
    let elsewhere = tenants.key(app.id, KeyType::Secret, &["*"]).await;
    tenants.allow_only_documentation_networks(&elsewhere).await;
    let reader = tenants.key(app.id, KeyType::Secret, &["users:read"]).await;
    let edge = Edge::start(&tenants, &[]).await;
    for (header, tail) in [
        (key(&app.public), "/users"),
        (key(&elsewhere), "/users"),
        (format!("{}x-forwarded-for: 192.0.2.1\r\n", key(&elsewhere)), "/users"),
        (key(&reader), "/v1/audit/events"),
    ] {
        let answer = edge.get(app.id, tail, &header).await;
        assert_eq!(
            (answer.status(), answer.error_code().as_str()),
            (403, "forbidden"),
            "{header}"
        );
    }
    assert!(instance.seen().is_empty());
}

#[tokio::test]
async fn an_application_that_does_not_serve_says_why_and_when_to_come_back() {
    let (tenants, instance) = (Tenants::new().await, Instance::echo().await);
    let edge = Edge::start(&tenants, &[]).await;
    for (status, reason) in [("provisioning", "provisioning"), ("suspended", "suspended")] {
        let app = tenants
            .app(NewApp {
                status,
                ..NewApp::at(&[instance.endpoint()])
            })
            .await;
        for header in ["", &key(&app.public)] {
            let answer = edge.get(app.id, "/v1/health", header).await;
            assert_eq!(
                (answer.status(), answer.error_code().as_str()),
                (503, "service_unavailable")
            );
            let error = &answer.json()["error"];
            assert_eq!(error["reason"], reason);
            assert_eq!(error["retryAfter"].to_string(), answer.header("retry-after").unwrap());
        }
    }
    let failed = tenants
        .app(NewApp {
            status: "failed",
            ..NewApp::at(&[instance.endpoint()])
        })
        .await;
    assert_eq!(
        edge.get(failed.id, "/v1/health", "").await.status(),
        200,
        "it served before the change that failed"
    );
}

#[tokio::test]
async fn a_secret_key_in_a_url_is_refused_and_not_logged() {
    let (tenants, instance) = (Tenants::new().await, Instance::echo().await);
    let app = tenants.app(NewApp::at(&[instance.endpoint()])).await;
    let edge = Edge::start(&tenants, &[]).await;
    for parameter in ["key", "token"] {
        let answer = edge
            .get(app.id, &format!("/users?{parameter}={}", app.secret.expose()), "")
            .await;
        assert_eq!(
            (answer.status(), answer.error_code().as_str()),
            (400, "invalid_request")
        );
    }
    edge.get(app.id, &format!("/users/{}", app.secret.expose()), &key(&app.secret))
        .await;
    assert_eq!(instance.seen().len(), 1);
    let mut edge = edge;
    edge.program.stop().await.unwrap();
    let log = edge.program.log();
    assert!(log.contains("authsome_proxy::access"), "{log}");
    assert!(!log.contains(app.secret.expose()), "{log}");
}

#[tokio::test]
async fn a_refusal_keeps_the_connection_when_the_body_is_short() {
    let (tenants, instance) = (Tenants::new().await, Instance::echo().await);
    let app = tenants.app(NewApp::at(&[instance.endpoint()])).await;
    let edge = Edge::start(&tenants, &[]).await;
    let mut wire = Wire::connect(&edge.address).await;
    let target = format!("/v1/{}/users", app.id);
    for _ in 0..3 {
        wire.send(request("POST", &target, "", "a body that nobody wants"))
            .await;
        assert_eq!(wire.receive().await.unwrap().status(), 401);
    }
    wire.send(request("POST", &target, &key(&app.secret), "wanted")).await;
    assert_eq!(wire.receive().await.unwrap().status(), 200);
    assert_eq!(instance.only().text(), "wanted");
}

#[tokio::test]
async fn a_client_that_waits_for_continue_is_refused_without_its_body() {
    let (tenants, instance) = (Tenants::new().await, Instance::echo().await);
    let app = tenants.app(NewApp::at(&[instance.endpoint()])).await;
    let edge = Edge::start(&tenants, &[]).await;
    let mut wire = Wire::connect(&edge.address).await;
    let head = "expect: 100-continue\r\ncontent-length: 20\r\n";
    wire.send(request("POST", &format!("/v1/{}/users", app.id), head, ""))
        .await;
    let answer = wire.receive().await.unwrap();
    assert_eq!((answer.status(), answer.header("connection")), (401, Some("close")));
    assert!(wire.is_closed().await);
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_whether_or_not_its_length_is_declared() {
    let (tenants, instance) = (Tenants::new().await, Instance::echo().await);
    let app = tenants.app(NewApp::at(&[instance.endpoint()])).await;
    let edge = Edge::start(&tenants, &[("AUTHSOME_LIMITS_BODY_BYTES", "100KiB")]).await;
    let target = format!("/v1/{}/v1/signin", app.id);
    let large = "x".repeat(100 * 1024 + 1);

    let answer = exchange(&edge.address, request("POST", &target, &key(&app.public), &large)).await;
    assert_eq!(
        (answer.status(), answer.error_code().as_str()),
        (413, "payload_too_large")
    );
    assert!(instance.seen().is_empty(), "not forwarded");

    let mut wire = Wire::connect(&edge.address).await;
    let head = format!("{}transfer-encoding: chunked\r\n", key(&app.public));
    wire.send(request("POST", &target, &head, "")).await;
    wire.send(format!("{:x}\r\n{large}\r\n", large.len())).await;
    let answer = wire.receive().await.unwrap();
    assert_eq!(
        (answer.status(), answer.error_code().as_str()),
        (413, "payload_too_large")
    );
    assert!(wire.is_closed().await);
    assert!(instance.seen().is_empty(), "never complete at the instance");

    let exact = "x".repeat(100 * 1024);
    let answer = exchange(&edge.address, request("POST", &target, &key(&app.public), &exact)).await;
    assert_eq!(answer.status(), 200);
}
