//! A workspace is changed, deleted, had back, and put on another name.

use std::time::Duration;

use axum::body::Body;
use http::{Method, Request, StatusCode, header};
use serde_json::{Value, json};

use crate::service::{Answer, PASSWORD, Person, Service};

async fn patch(service: &Service, person: &Person, id: &str, body: Value) -> Answer {
    let path = format!("/api/v1/workspaces/{id}");
    service
        .call(Method::PATCH, &path, Some(&person.token), Some(body))
        .await
}

async fn again(service: &Service, email: &str, person: &Person) -> Person {
    Person {
        id: person.id.clone(),
        token: service.login(email, PASSWORD).await.string("token"),
    }
}

#[tokio::test]
async fn metadata_is_merged_and_everything_else_replaced() {
    let service = Service::new().await;
    let ada = service.person("ada@example.com").await;
    let id = service.workspace(&ada, "free").await;
    let metadata = json!({ "team": "blue", "cost": { "centre": 7, "code": "x" } });
    let first = patch(&service, &ada, &id, json!({ "metadata": metadata })).await;
    assert_eq!(
        (first.status, &first.json["metadata"]),
        (StatusCode::OK, &metadata),
        "{}",
        first.text
    );

    let body = json!({ "name": " New name ", "slug": "new", "metadata": { "team": null, "cost": { "code": "y" } } });
    let second = patch(&service, &ada, &id, body).await;
    assert_eq!(second.json["metadata"], json!({ "cost": { "centre": 7, "code": "y" } }));
    assert_eq!(
        (&second.json["name"], &second.json["slug"]),
        (&json!("New name"), &json!("new"))
    );
    let shown = service.get(&format!("/api/v1/workspaces/{id}"), &ada).await;
    assert_eq!(shown.json, second.json);

    let cleared = patch(&service, &ada, &id, json!({ "metadata": null })).await;
    assert_eq!(cleared.json["metadata"], json!({}));
    let changes: Vec<Value> =
        sqlx::query_scalar("SELECT changes FROM audit_events WHERE action = 'workspace.update' ORDER BY id")
            .fetch_all(&service.pool)
            .await
            .unwrap();
    assert_eq!(changes.len(), 3);
    assert_eq!(changes[1]["name"], json!({ "from": "Workspace", "to": "New name" }));
    assert_eq!(changes[2].as_object().unwrap().len(), 1);
}

#[tokio::test]
async fn what_a_workspace_cannot_be_is_refused_by_field() {
    let service = Service::new().await;
    let ada = service.person("ada@example.com").await;
    let id = service.workspace(&ada, "free").await;
    let other = json!({ "name": "Other", "slug": "other" });
    service.post("/api/v1/workspaces", &ada, other).await;
    for (body, field) in [
        (json!({ "name": "" }), "name"),
        (json!({ "slug": "-" }), "slug"),
        (json!({ "metadata": [] }), "metadata"),
        (json!({ "metadata": { "a": "x\u{0}" } }), "metadata"),
        (json!({ "metadata": { "a": "x".repeat(17_000) } }), "metadata"),
    ] {
        let answer = patch(&service, &ada, &id, body).await;
        answer.assert_error(400, "invalid_request");
        assert!(!answer.field(field).is_empty(), "{}", answer.text);
    }
    let taken = patch(&service, &ada, &id, json!({ "slug": "other" })).await;
    taken.assert_error(409, "conflict");
    assert_eq!(taken.field("slug"), "is taken");
    let unknown = patch(&service, &ada, &id, json!({ "plan": "enterprise" })).await;
    unknown.assert_error(400, "invalid_request");
    assert!(unknown.message().contains("plan"), "{}", unknown.text);
}

#[tokio::test]
async fn a_change_of_a_workspace_that_has_changed_since_is_refused() {
    let service = Service::new().await;
    let ada = service.person("ada@example.com").await;
    let id = service.workspace(&ada, "free").await;
    let path = format!("/api/v1/workspaces/{id}");
    let tag = service.get(&path, &ada).await.headers[header::ETAG].clone();
    let change = async |name: &str| {
        let request = Request::patch(&path)
            .header(header::AUTHORIZATION, format!("Bearer {}", ada.token))
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::IF_MATCH, &tag)
            .body(Body::from(json!({ "name": name }).to_string()))
            .unwrap();
        service.send(request).await.status
    };
    assert_eq!(change("One").await, StatusCode::OK);
    assert_eq!(change("Two").await, StatusCode::PRECONDITION_FAILED);
    assert_eq!(service.get(&path, &ada).await.json["name"], "One");
}

#[tokio::test]
async fn a_deleted_workspace_serves_nobody_and_can_be_had_back_for_thirty_days() {
    let service = Service::new().await;
    let ada = service.person("ada@example.com").await;
    let viewer = service.person("viewer@example.com").await;
    let id = service.workspace(&ada, "free").await;
    service.join(&id, &viewer, "viewer").await;
    let application = service.application(&ada, &id, "shop").await.string("id");
    let path = format!("/api/v1/workspaces/{id}");
    let restore = format!("{path}/restore");
    let edge = async || -> (String, i64) {
        sqlx::query_as("SELECT workspace_status, version FROM edge_apps WHERE id = $1")
            .bind(&application)
            .fetch_one(&service.pool)
            .await
            .unwrap()
    };
    let (_, version) = edge().await;

    assert_eq!(service.delete(&path, &ada).await.status, StatusCode::NO_CONTENT);
    service.get(&path, &ada).await.assert_error(404, "not_found");
    service
        .get(&format!("/api/v1/applications/{application}"), &ada)
        .await
        .assert_error(404, "not_found");
    let (status, later) = edge().await;
    assert_eq!(status, "deleted");
    assert!(later > version, "the edges are told");

    // Its slug stays its own, and only its owners know of it.
    let slug = json!({ "name": "Mine", "slug": format!("w-{}", &ada.id[ada.id.len() - 12..]) });
    service
        .post("/api/v1/workspaces", &viewer, slug)
        .await
        .assert_error(409, "conflict");
    let list = async |person: &Person, query: &str| {
        let answer = service.get(&format!("/api/v1/workspaces{query}"), person).await;
        answer.json["total"]
            .as_i64()
            .unwrap_or_else(|| panic!("{}", answer.text))
    };
    assert_eq!(list(&ada, "").await, 0);
    assert_eq!(list(&ada, "?status=deleted").await, 1);
    assert_eq!(list(&viewer, "?status=deleted").await, 0);
    let by_viewer = service.call(Method::POST, &restore, Some(&viewer.token), None).await;
    by_viewer.assert_error(404, "not_found");

    service.clock.advance(Duration::from_hours(29 * 24));
    let ada = again(&service, "ada@example.com", &ada).await;
    let back = service.call(Method::POST, &restore, Some(&ada.token), None).await;
    assert_eq!(
        (back.status, &back.json["status"]),
        (StatusCode::OK, &json!("active")),
        "{}",
        back.text
    );
    assert_eq!(edge().await.0, "active");
    assert_eq!(
        service
            .get(&format!("/api/v1/applications/{application}"), &ada)
            .await
            .status,
        StatusCode::OK
    );
    let twice = service.call(Method::POST, &restore, Some(&ada.token), None).await;
    twice.assert_error(409, "conflict");

    service.delete(&path, &ada).await;
    service.clock.advance(Duration::from_hours(30 * 24));
    let ada = again(&service, "ada@example.com", &ada).await;
    let late = service.call(Method::POST, &restore, Some(&ada.token), None).await;
    late.assert_error(404, "not_found");
}

#[tokio::test]
async fn a_workspace_that_was_suspended_is_suspended_again_when_it_is_had_back() {
    let service = Service::new().await;
    let ada = service.person("ada@example.com").await;
    let id = service.workspace(&ada, "free").await;
    sqlx::query("UPDATE workspaces SET status = 'suspended'")
        .execute(&service.pool)
        .await
        .unwrap();
    service.delete(&format!("/api/v1/workspaces/{id}"), &ada).await;
    let path = format!("/api/v1/workspaces/{id}/restore");
    let back = service.call(Method::POST, &path, Some(&ada.token), None).await;
    assert_eq!(back.json["status"], "suspended", "{}", back.text);
}

#[tokio::test]
async fn a_workspace_is_put_on_another_members_name() {
    let service = Service::new().await;
    let ada = service.person("ada@example.com").await;
    let grace = service.person("grace@example.com").await;
    let id = service.workspace(&ada, "free").await;
    service.join(&id, &grace, "developer").await;
    let member = async |person: &Person| -> (String, String) {
        sqlx::query_as("SELECT id, role FROM team_members WHERE user_id = $1 AND workspace_id = $2")
            .bind(&person.id)
            .bind(&id)
            .fetch_one(&service.pool)
            .await
            .unwrap()
    };
    let path = format!("/api/v1/workspaces/{id}/transfer");
    let transfer = async |by: &Person, to: &str| service.post(&path, by, json!({ "memberId": to })).await;
    let (to, _) = member(&grace).await;
    transfer(&grace, &to).await.assert_error(403, "forbidden");
    let nobody = transfer(&ada, "mem_01h455vb4pex5vsknk084sn02q").await;
    nobody.assert_error(400, "invalid_request");
    assert!(!nobody.field("memberId").is_empty());

    let done = transfer(&ada, &to).await;
    assert_eq!(
        (done.status, &done.json["ownerId"]),
        (StatusCode::OK, &json!(grace.id)),
        "{}",
        done.text
    );
    assert_eq!(done.json["role"], "admin");
    assert_eq!(member(&grace).await.1, "owner");
    transfer(&ada, &to).await.assert_error(403, "forbidden");
    transfer(&grace, &to).await.assert_error(409, "conflict");
    let audited = service
        .count("SELECT count(*) FROM audit_events WHERE action = 'workspace.transfer'")
        .await;
    assert_eq!(audited, 1);
}
