//! Service tokens: for programs, in one workspace, for what they were given.

use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::service::{Answer, PASSWORD, Person, Service};

struct Shop {
    service: Service,
    ada: Person,
    workspace: String,
    application: String,
}

impl Shop {
    async fn new() -> Self {
        let service = Service::new().await;
        let ada = service.person("ada@example.com").await;
        let workspace = service.workspace(&ada, "pro").await;
        let application = service.application(&ada, &workspace, "shop").await.string("id");
        Self {
            service,
            ada,
            workspace,
            application,
        }
    }

    async fn create(&self, body: Value) -> Answer {
        let path = format!("/api/v1/workspaces/{}/tokens", self.workspace);
        self.service.post(&path, &self.ada, body).await
    }

    /// A token with these scopes, and its id.
    async fn token(&self, scopes: &[&str]) -> (Person, String) {
        let created = self.create(json!({ "name": "Deployment", "scopes": scopes })).await;
        assert_eq!(created.status, StatusCode::CREATED, "{}", created.text);
        let program = Person {
            id: self.ada.id.clone(),
            token: created.string("secret"),
        };
        (program, created.string("id"))
    }

    async fn list(&self) -> Value {
        let path = format!("/api/v1/workspaces/{}/tokens", self.workspace);
        self.service.get(&path, &self.ada).await.json["data"].clone()
    }
}

fn reason(answer: &Answer) -> &str {
    answer.json["error"]["reason"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn a_token_is_shown_once_and_kept_as_a_digest() {
    let shop = Shop::new().await;
    let (program, id) = shop.token(&["applications:read"]).await;
    assert!(program.token.starts_with("ast_"));
    let listed = shop.list().await;
    assert_eq!(listed[0]["id"], id);
    let masked = listed[0]["token"].as_str().unwrap();
    assert!(masked.ends_with("***") && program.token.starts_with(&masked[..masked.len() - 3]));
    assert!(listed[0].get("secret").is_none());
    let stored: String = sqlx::query_scalar("SELECT row_to_json(t)::text FROM service_tokens t")
        .fetch_one(&shop.service.pool)
        .await
        .unwrap();
    assert!(!stored.contains(&program.token[12..]));
    let audited: String = sqlx::query_scalar("SELECT changes::text FROM audit_events WHERE action = 'token.create'")
        .fetch_one(&shop.service.pool)
        .await
        .unwrap();
    assert!(!audited.contains(&program.token[12..]) && audited.contains("applications:read"));
}

#[tokio::test]
async fn a_token_does_what_its_scopes_say_in_its_workspace_and_nothing_else() {
    let shop = Shop::new().await;
    let (reader, _) = shop.token(&["applications:read"]).await;
    let application = format!("/api/v1/applications/{}", shop.application);
    let workspace = format!("/api/v1/workspaces/{}", shop.workspace);
    let service = &shop.service;
    assert_eq!(service.get(&application, &reader).await.status, StatusCode::OK);
    let list = service.get(&format!("{workspace}/applications"), &reader).await;
    assert_eq!(list.json["total"], 1);

    for refused in [
        service.get(&workspace, &reader).await,
        service.get(&format!("{application}/keys"), &reader).await,
        service.get(&format!("{workspace}/members"), &reader).await,
        service
            .post(
                &format!("{workspace}/applications"),
                &reader,
                json!({ "name": "X", "environment": "staging" }),
            )
            .await,
    ] {
        refused.assert_error(403, "forbidden");
        assert_eq!(reason(&refused), "scope", "{}", refused.text);
    }
    // What the person who made it may do elsewhere is none of its business.
    let elsewhere = service
        .post("/api/v1/workspaces", &shop.ada, json!({ "name": "Other" }))
        .await
        .string("id");
    let other = service.application(&shop.ada, &elsewhere, "other").await.string("id");
    for path in [
        format!("/api/v1/workspaces/{elsewhere}"),
        format!("/api/v1/workspaces/{elsewhere}/applications"),
        format!("/api/v1/applications/{other}"),
    ] {
        service.get(&path, &reader).await.assert_error(404, "not_found");
    }
}

#[tokio::test]
async fn what_only_people_do_no_token_does() {
    let shop = Shop::new().await;
    let all = [
        "applications:read",
        "applications:write",
        "keys:read",
        "keys:write",
        "members:read",
        "operations:read",
        "workspace:read",
        "workspace:write",
    ];
    let (program, id) = shop.token(&all).await;
    let service = &shop.service;
    let workspace = format!("/api/v1/workspaces/{}", shop.workspace);
    let invite = json!({ "email": "x@example.com", "role": "viewer" });
    for refused in [
        service.delete(&workspace, &program).await,
        service.post(&format!("{workspace}/members"), &program, invite).await,
        service.get(&format!("{workspace}/tokens"), &program).await,
        service.delete(&format!("{workspace}/tokens/{id}"), &program).await,
        service
            .post("/api/v1/workspaces", &program, json!({ "name": "X" }))
            .await,
        service.get("/api/v1/auth/me", &program).await,
        service.get("/api/v1/auth/sessions", &program).await,
        service
            .call(Method::POST, &format!("{workspace}/leave"), Some(&program.token), None)
            .await,
    ] {
        refused.assert_error(403, "forbidden");
        assert_eq!(reason(&refused), "service_token", "{}", refused.text);
    }
    let mine = service.get("/api/v1/workspaces", &program).await;
    assert_eq!(
        (&mine.json["total"], &mine.json["data"][0]["id"]),
        (&json!(1), &json!(shop.workspace))
    );
    assert!(mine.json["data"][0].get("role").is_none());
    let body = json!({ "metadata": { "by": "program" } });
    let changed = service
        .call(Method::PATCH, &workspace, Some(&program.token), Some(body))
        .await;
    assert_eq!(changed.status, StatusCode::OK, "{}", changed.text);
    let actor: (String, String) =
        sqlx::query_as("SELECT actor_id, actor_type FROM audit_events WHERE action = 'workspace.update'")
            .fetch_one(&service.pool)
            .await
            .unwrap();
    assert_eq!(actor, (id, "api_key".to_owned()));
}

#[tokio::test]
async fn a_token_ends_with_its_time_its_revocation_and_its_workspace_but_not_with_its_maker() {
    let shop = Shop::new().await;
    let service = &shop.service;
    let path = format!("/api/v1/applications/{}", shop.application);
    let workspace = format!("/api/v1/workspaces/{}", shop.workspace);
    let (first, id) = shop.token(&["applications:read"]).await;
    let (second, _) = shop.token(&["applications:read"]).await;
    let revoke = format!("{workspace}/tokens/{id}");
    assert_eq!(service.delete(&revoke, &shop.ada).await.status, StatusCode::NO_CONTENT);
    assert_eq!(service.delete(&revoke, &shop.ada).await.status, StatusCode::NO_CONTENT);
    service.get(&path, &first).await.assert_error(401, "unauthorized");
    assert_eq!(shop.list().await.as_array().unwrap().len(), 1);

    let grace = service.person("grace@example.com").await;
    service.join(&shop.workspace, &grace, "owner").await;
    service
        .call(Method::POST, &format!("{workspace}/leave"), Some(&shop.ada.token), None)
        .await;
    assert_eq!(service.get(&path, &second).await.status, StatusCode::OK);

    service.delete(&workspace, &grace).await;
    service.get(&path, &second).await.assert_error(401, "unauthorized");
    service
        .call(Method::POST, &format!("{workspace}/restore"), Some(&grace.token), None)
        .await;
    assert_eq!(service.get(&path, &second).await.status, StatusCode::OK);
    service.clock.advance(Duration::from_hours(90 * 24));
    service.get(&path, &second).await.assert_error(401, "unauthorized");
    let login = service.login("grace@example.com", PASSWORD).await;
    assert_eq!(login.status, StatusCode::OK);
}

#[tokio::test]
async fn wrong_fields_of_a_token_are_named() {
    let shop = Shop::new().await;
    for (body, field) in [
        (json!({ "name": "", "scopes": ["keys:read"] }), "name"),
        (json!({ "name": "x", "scopes": [] }), "scopes"),
        (json!({ "name": "x", "scopes": ["keys:read", "root"] }), "scopes[1]"),
        (
            json!({ "name": "x", "scopes": ["keys:read", "keys:read"] }),
            "scopes[1]",
        ),
        (
            json!({ "name": "x", "scopes": ["keys:read"], "expiresAt": "2020-01-01T00:00:00Z" }),
            "expiresAt",
        ),
        (
            json!({ "name": "x", "scopes": ["keys:read"], "expiresAt": "2099-01-01T00:00:00Z" }),
            "expiresAt",
        ),
    ] {
        let answer = shop.create(body).await;
        answer.assert_error(400, "invalid_request");
        assert!(!answer.field(field).is_empty(), "{field}: {}", answer.text);
    }
    shop.create(json!({ "name": "x", "scopes": ["keys:read"], "role": "owner" }))
        .await
        .assert_error(400, "invalid_request");
}

#[tokio::test]
async fn the_last_use_is_known_to_the_minute() {
    let shop = Shop::new().await;
    let (program, _) = shop.token(&["applications:read"]).await;
    assert!(shop.list().await[0].get("lastUsedAt").is_none());
    let path = format!("/api/v1/applications/{}", shop.application);
    shop.service.get(&path, &program).await;
    let first = shop.list().await[0]["lastUsedAt"].clone();
    assert!(first.is_string());
    shop.service.get(&path, &program).await;
    assert_eq!(shop.list().await[0]["lastUsedAt"], first);
    shop.service.clock.advance(Duration::from_mins(2));
    shop.service.get(&path, &program).await;
    assert_ne!(shop.list().await[0]["lastUsedAt"], first);
}
