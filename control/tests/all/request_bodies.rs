//! Bodies of requests: which are read, and what is told of those that are not.

use axum::body::Body;
use http::{Method, Request, header};
use serde_json::{Value, json};

use crate::service::{Answer, Person, Service};

struct World {
    service: Service,
    ada: Person,
    workspace: String,
    app: String,
}

impl World {
    async fn new() -> Self {
        let service = Service::new().await;
        let (ada, workspace, app) = service.shop("pro").await;
        Self {
            service,
            ada,
            workspace,
            app,
        }
    }

    async fn send(&self, method: Method, path: &str, kind: Option<&str>, body: &str) -> Answer {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::AUTHORIZATION, format!("Bearer {}", self.ada.token));
        if let Some(kind) = kind {
            request = request.header(header::CONTENT_TYPE, kind);
        }
        self.service
            .send(request.body(Body::from(body.to_owned())).unwrap())
            .await
    }

    async fn refused(&self, method: Method, path: &str, body: &Value) -> Vec<(String, String)> {
        let answer = self
            .send(method, path, Some("application/json"), &body.to_string())
            .await;
        answer.assert_error(400, "invalid_request");
        assert!(
            !answer.text.contains(" line ") && !answer.text.contains(" column "),
            "{}",
            answer.text
        );
        let fields = answer.json["error"]["details"]["fields"].as_object().unwrap();
        let told = fields.iter().map(|(path, reason)| {
            let reason = reason.as_str().unwrap();
            assert!(answer.message().contains(reason), "{}", answer.text);
            (path.clone(), reason.to_owned())
        });
        told.collect()
    }

    fn applications(&self) -> String {
        format!("/api/v1/workspaces/{}/applications", self.workspace)
    }

    fn application(&self) -> String {
        format!("/api/v1/applications/{}", self.app)
    }
}

fn paths(told: &[(String, String)]) -> Vec<&str> {
    told.iter().map(|(path, _)| path.as_str()).collect()
}

#[tokio::test]
async fn every_wrong_field_of_a_body_is_told_at_once() {
    let world = World::new().await;
    // Of the wrong type, unknown, missing, and out of the ordinary.
    let body = json!({ "slug": 7, "environment": "moon", "colour": "red", "region": ["eu"] });
    let told = world.refused(Method::POST, &world.applications(), &body).await;
    assert_eq!(paths(&told), ["colour", "environment", "name", "region", "slug"]);
    let reasons: Vec<&str> = told.iter().map(|(_, reason)| reason.as_str()).collect();
    assert_eq!(
        reasons,
        [
            "is not known",
            "must be one of production, staging, development",
            "is required",
            "must be a string or null",
            "must be a string or null",
        ]
    );
    // Of the right form, and wrong all the same.
    let body = json!({ "name": "", "slug": "A B", "environment": "staging", "region": "moon",
                       "config": { "password": { "min_length": 1, "algorithm": "md5" } } });
    let told = world.refused(Method::POST, &world.applications(), &body).await;
    assert_eq!(
        paths(&told),
        [
            "config.password.algorithm",
            "config.password.min_length",
            "name",
            "region",
            "slug"
        ]
    );
    let body =
        json!({ "type": "secret", "scopes": "users:read", "networks": [1, "10.0.0.0/8", null], "expiresAt": "soon" });
    let keys = format!("{}/keys", world.application());
    let told = world.refused(Method::POST, &keys, &body).await;
    assert_eq!(
        paths(&told),
        ["expiresAt", "name", "networks[0]", "networks[2]", "scopes"]
    );
}

#[tokio::test]
async fn every_wrong_field_of_a_merge_patch_is_told_at_once() {
    let world = World::new().await;
    let body = json!({
        "name": "", "environment": "staging", "metadata": [],
        "config": { "session": { "token_ttl": 5, "ttl": "1h" }, "passwords": {} },
        "edge": { "strictSeconds": "x", "colour": 1, "cachePolicy": { "rules": [{ "ttlSeconds": "1" }] } },
    });
    let told = world.refused(Method::PATCH, &world.application(), &body).await;
    assert_eq!(
        paths(&told),
        [
            "config.passwords",
            "config.session.token_ttl",
            "config.session.ttl",
            "edge.cachePolicy.rules[0].pattern",
            "edge.cachePolicy.rules[0].ttlSeconds",
            "edge.colour",
            "edge.strictSeconds",
            "environment",
            "metadata",
            "name",
        ]
    );
    let keys = format!("{}/keys", world.application());
    let key = world.service.get(&keys, &world.ada).await.json["data"][0]["id"].clone();
    let key = format!("{keys}/{}", key.as_str().unwrap());
    let body = json!({ "name": 1, "enabled": "yes", "networks": [2], "key": "sk_live_x", "colour": null });
    let told = world.refused(Method::PATCH, &key, &body).await;
    assert_eq!(paths(&told), ["colour", "enabled", "key", "name", "networks[0]"]);
    let told = world.refused(Method::PATCH, &key, &json!({ "name": null })).await;
    assert_eq!(told, [("name".to_owned(), "is required".to_owned())]);
}

#[tokio::test]
async fn a_name_that_stands_twice_is_refused_wherever_it_is() {
    let world = World::new().await;
    let json = Some("application/json");
    for (method, path, body, field) in [
        (
            Method::POST,
            "/api/v1/workspaces".to_owned(),
            r#"{"name":"x","name":"y"}"#,
            "name",
        ),
        (
            Method::PATCH,
            format!("/api/v1/workspaces/{}", world.workspace),
            r#"{"metadata":{"team":{"a":1,"a":2}}}"#,
            "metadata.team.a",
        ),
        (
            Method::PATCH,
            world.application(),
            r#"{"config":{"session":{"token_ttl":"1h","token_ttl":"2h"}}}"#,
            "config.session.token_ttl",
        ),
        (
            Method::PATCH,
            world.application(),
            r#"{"edge":{"pathPolicy":[{"pattern":"/a","class":"open","class":"secret"}]}}"#,
            "edge.pathPolicy[0].class",
        ),
    ] {
        let answer = world.send(method, &path, json, body).await;
        answer.assert_error(400, "invalid_request");
        assert_eq!(answer.field(field), "is there twice", "{}", answer.text);
    }
}

#[tokio::test]
async fn bodies_are_json_in_utf_8_and_merge_patches_only_changes() {
    let world = World::new().await;
    let patch = r#"{"metadata":{"team":"a"}}"#;
    for kind in [
        "application/json",
        "application/json; charset=utf-8",
        "application/merge-patch+json",
    ] {
        let answer = world.send(Method::PATCH, &world.application(), Some(kind), patch).await;
        assert_eq!(answer.status, 200, "{kind}: {}", answer.text);
    }
    for kind in [
        None,
        Some("text/plain"),
        Some("application/json-patch+json"),
        Some("application/problem+json"),
        Some("application/json; charset=utf-16"),
    ] {
        let answer = world.send(Method::PATCH, &world.application(), kind, patch).await;
        answer.assert_error(415, "invalid_request");
        assert_eq!(answer.json["error"]["reason"], "unsupported_media_type");
    }
    let create = r#"{"name":"x","environment":"staging"}"#;
    let secret = format!("{}/secrets/CUSTOM_X", world.application());
    for (method, path, body) in [
        (Method::POST, world.applications(), create),
        (Method::PUT, secret, r#"{"value":"x"}"#),
    ] {
        let answer = world
            .send(method, &path, Some("application/merge-patch+json"), body)
            .await;
        answer.assert_error(415, "invalid_request");
    }
}

#[tokio::test]
async fn a_refused_body_is_not_repeated() {
    let world = World::new().await;
    for body in [
        r#"{"email":"ada@example.com","password":["hunter2-the-password"]}"#,
        r#"{"email":{"hunter2-the-password":1},"password":"x"}"#,
        r#"{"email":"ada@example.com","password":"hunter2-the-password"#,
        r#""hunter2-the-password""#,
    ] {
        let json = Some("application/json");
        let answer = world.send(Method::POST, "/api/v1/auth/login", json, body).await;
        answer.assert_error(400, "invalid_request");
        assert!(!answer.text.contains("hunter2"), "{}", answer.text);
    }
}
