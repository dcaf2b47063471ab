//! A POST with an `Idempotency-Key` is done once, however often it is sent.

use std::time::Duration;

use axum::body::Body;
use http::{Method, Request, StatusCode, header};
use serde_json::{Value, json};

use crate::service::{Answer, Person, Service};

struct World {
    service: Service,
    ada: Person,
    workspace: String,
}

impl World {
    async fn new() -> Self {
        let service = Service::new().await;
        let ada = service.person("ada@example.com").await;
        let workspace = service.workspace(&ada, "pro").await;
        Self {
            service,
            ada,
            workspace,
        }
    }

    async fn send(&self, path: &str, person: &Person, key: &str, body: &str) -> Answer {
        let request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(header::AUTHORIZATION, format!("Bearer {}", person.token))
            .header(header::CONTENT_TYPE, "application/json")
            .header("idempotency-key", key)
            .body(Body::from(body.to_owned()));
        self.service.send(request.unwrap()).await
    }

    async fn create(&self, key: &str, body: &Value) -> Answer {
        let path = format!("/api/v1/workspaces/{}/applications", self.workspace);
        self.send(&path, &self.ada, key, &body.to_string()).await
    }

    async fn applications(&self) -> i64 {
        self.service.count("SELECT count(*) FROM applications").await
    }
}

fn shop() -> Value {
    json!({ "name": "Shop", "environment": "production" })
}

#[tokio::test]
async fn the_same_request_gets_the_same_answer_and_does_nothing_again() {
    let world = World::new().await;
    let first = world.create("key-1", &shop()).await;
    assert_eq!(first.status, StatusCode::ACCEPTED, "{}", first.text);
    assert_eq!(first.headers.get("idempotency-replayed"), None);
    let again = world.create("key-1", &shop()).await;
    assert_eq!(
        (again.status, &again.text),
        (first.status, &first.text),
        "the secret key included"
    );
    assert_eq!(again.headers["idempotency-replayed"], "true");
    assert_eq!(again.headers["location"], first.headers["location"]);
    assert_ne!(again.headers["x-request-id"], first.headers["x-request-id"]);
    let alias = format!("/control/v1/workspaces/{}/applications", world.workspace);
    let alias = world.send(&alias, &world.ada, "key-1", &shop().to_string()).await;
    assert_eq!(alias.text, first.text, "both bases are one API");
    assert_eq!(world.applications().await, 1);
    // Nothing readable is kept of it.
    let (sealed, digest): (Vec<u8>, Vec<u8>) = sqlx::query_as("SELECT sealed, digest FROM idempotency_keys")
        .fetch_one(&world.service.pool)
        .await
        .unwrap();
    let secret = first.string("secretKey");
    assert!(!sealed.windows(secret.len()).any(|part| part == secret.as_bytes()));
    assert_ne!(digest, b"key-1");
}

#[tokio::test]
async fn another_request_with_the_key_is_refused_and_another_caller_does_not_meet_it() {
    let world = World::new().await;
    world.create("key-1", &shop()).await;
    let other = json!({ "name": "Other", "environment": "production" });
    let refused = world.create("key-1", &other).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", refused.text);
    assert_eq!(
        (refused.code(), &refused.json["error"]["reason"]),
        ("invalid_request", &json!("idempotency_key_reused"))
    );
    let elsewhere = world
        .send("/api/v1/workspaces", &world.ada, "key-1", &shop().to_string())
        .await;
    assert_eq!(elsewhere.status, StatusCode::UNPROCESSABLE_ENTITY);

    let eve = world.service.person("eve@example.com").await;
    let body = json!({ "name": "Eve's" }).to_string();
    assert_eq!(
        world.send("/api/v1/workspaces", &eve, "key-1", &body).await.status,
        StatusCode::CREATED
    );
}

#[tokio::test]
async fn of_many_at_once_one_is_done_and_the_others_are_told_so() {
    let world = World::new().await;
    let body = shop();
    let answers = futures::future::join_all((0..8).map(|_| world.create("key-1", &body))).await;
    let done: Vec<&Answer> = answers
        .iter()
        .filter(|answer| answer.status == StatusCode::ACCEPTED)
        .collect();
    assert!(!done.is_empty());
    for answer in &answers {
        if answer.status == StatusCode::ACCEPTED {
            assert_eq!(answer.text, done[0].text);
        } else {
            answer.assert_error(409, "conflict");
            assert_eq!(answer.json["error"]["reason"], "idempotency_in_flight");
            assert_eq!(answer.headers["retry-after"], "1");
        }
    }
    assert_eq!(world.applications().await, 1);
    assert_eq!(world.create("key-1", &body).await.text, done[0].text);
}

#[tokio::test]
async fn what_was_refused_is_decided_anew() {
    let world = World::new().await;
    let bad = json!({ "name": "", "environment": "production" });
    world.create("key-1", &bad).await.assert_error(400, "invalid_request");
    assert_eq!(world.create("key-1", &shop()).await.status, StatusCode::ACCEPTED);
    for key in ["", "a b", "a\u{7f}b", &"x".repeat(256)] {
        let path = format!("/api/v1/workspaces/{}/applications", world.workspace);
        let request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(header::AUTHORIZATION, format!("Bearer {}", world.ada.token))
            .header(
                "idempotency-key",
                http::HeaderValue::from_bytes(key.as_bytes()).unwrap_or(http::HeaderValue::from_static("")),
            )
            .body(Body::empty());
        world
            .service
            .send(request.unwrap())
            .await
            .assert_error(400, "invalid_request");
    }
}

#[tokio::test]
async fn an_answer_is_kept_for_a_day() {
    let world = World::new().await;
    world.create("key-1", &shop()).await;
    world.service.clock.advance(Duration::from_hours(23));
    let ada = world
        .service
        .login("ada@example.com", crate::service::PASSWORD)
        .await
        .string("token");
    let ada = Person {
        id: world.ada.id.clone(),
        token: ada,
    };
    let path = format!("/api/v1/workspaces/{}/applications", world.workspace);
    let again = world.send(&path, &ada, "key-1", &shop().to_string()).await;
    assert_eq!(again.headers["idempotency-replayed"], "true", "{}", again.text);
    world.service.clock.advance(Duration::from_hours(2));
    let ada = world
        .service
        .login("ada@example.com", crate::service::PASSWORD)
        .await
        .string("token");
    let ada = Person {
        id: world.ada.id.clone(),
        token: ada,
    };
    let other = json!({ "name": "Other", "environment": "production" }).to_string();
    let anew = world.send(&path, &ada, "key-1", &other).await;
    assert_eq!(anew.status, StatusCode::ACCEPTED, "{}", anew.text);
    assert_eq!(world.applications().await, 2);
}

#[tokio::test]
async fn a_process_that_died_before_it_could_record_creates_nothing_twice() {
    let world = World::new().await;
    let first = world.create("key-1", &shop()).await;
    // As if it had died between its commit and the record.
    sqlx::query("UPDATE idempotency_keys SET sealed = NULL")
        .execute(&world.service.pool)
        .await
        .unwrap();
    let early = world.create("key-1", &shop()).await;
    assert_eq!(early.json["error"]["reason"], "idempotency_in_flight");
    world.service.clock.advance(Duration::from_mins(2));
    let later = world.create("key-1", &shop()).await;
    later.assert_error(409, "conflict");
    assert_eq!(later.json["error"]["reason"], "already_created", "{}", later.text);
    assert_eq!(world.applications().await, 1);
    assert!(first.status.is_success());
}

#[tokio::test]
async fn only_the_dashboards_origin_may_read_answers() {
    let world = World::new().await;
    let ask = async |method: Method, origin: &str| {
        let request = Request::builder()
            .method(method)
            .uri("/api/v1/workspaces")
            .header(header::ORIGIN, origin)
            .header(header::ACCESS_CONTROL_REQUEST_METHOD, "POST")
            .header(header::AUTHORIZATION, format!("Bearer {}", world.ada.token))
            .body(Body::empty());
        world.service.send(request.unwrap()).await
    };
    let preflight = ask(Method::OPTIONS, "https://dashboard.test").await;
    assert_eq!(preflight.status, StatusCode::NO_CONTENT);
    assert_eq!(
        preflight.headers["access-control-allow-origin"],
        "https://dashboard.test"
    );
    assert!(
        preflight.headers["access-control-allow-headers"]
            .to_str()
            .unwrap()
            .contains("idempotency-key")
    );
    assert_eq!(preflight.headers.get("access-control-allow-credentials"), None);
    let answer = ask(Method::GET, "https://dashboard.test").await;
    assert_eq!(answer.headers["access-control-allow-origin"], "https://dashboard.test");
    for origin in [
        "https://evil.example",
        "null",
        "https://dashboard.test.evil.example",
        "http://dashboard.test",
    ] {
        for method in [Method::OPTIONS, Method::GET] {
            let answer = ask(method, origin).await;
            assert_eq!(answer.headers.get("access-control-allow-origin"), None, "{origin}");
            assert_eq!(answer.headers.get("access-control-allow-methods"), None, "{origin}");
            assert_eq!(answer.headers["vary"], "origin");
        }
    }
}
