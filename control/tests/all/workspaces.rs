//! Workspaces, by way of the API.

use futures::future::join_all;
use http::{StatusCode, header};
use serde_json::json;

use crate::service::Service;

#[tokio::test]
async fn a_workspace_belongs_to_whoever_created_it() {
    let service = Service::new().await;
    let ada = service.person("ada@example.com").await;
    let answer = service
        .post("/api/v1/workspaces", &ada, json!({ "name": "  Acme, Inc. " }))
        .await;
    assert_eq!(answer.status, StatusCode::CREATED);
    let id = answer.string("id");
    assert_eq!(
        answer.headers[header::LOCATION],
        format!("https://api.test/api/v1/workspaces/{id}")
    );
    for (field, value) in [
        ("name", "Acme, Inc."),
        ("slug", "acme-inc"),
        ("plan", "free"),
        ("status", "active"),
        ("role", "owner"),
        ("ownerId", ada.id.as_str()),
    ] {
        assert_eq!(answer.json[field], value, "{field}");
    }
    assert_eq!(
        service.get(&format!("/api/v1/workspaces/{id}"), &ada).await.json,
        answer.json
    );
    let audited = service
        .count("SELECT count(*) FROM audit_events WHERE action = 'workspace.create'")
        .await;
    assert_eq!(audited, 1);
}

#[tokio::test]
async fn names_are_data_whatever_is_in_them() {
    let service = Service::new().await;
    let ada = service.person("ada@example.com").await;
    for (number, name) in [
        "Robert'); DROP TABLE users; --",
        "\" \\ $1 %s {}",
        "<script>alert(1)</script>",
        "日本 🦀",
    ]
    .iter()
    .enumerate()
    {
        let body = json!({ "name": name, "slug": format!("s{number}") });
        let id = service.post("/api/v1/workspaces", &ada, body).await.string("id");
        let answer = service.get(&format!("/api/v1/workspaces/{id}"), &ada).await;
        assert_eq!(answer.json["name"], *name);
    }
    assert_eq!(service.count("SELECT count(*) FROM users").await, 1);
}

#[tokio::test]
async fn wrong_fields_are_named_all_at_once() {
    let service = Service::new().await;
    let ada = service.person("ada@example.com").await;
    let post = async |body| service.post("/api/v1/workspaces", &ada, body).await;

    for name in ["", "   ", "a\u{0}b", "a\nb", &"x".repeat(201)] {
        let answer = post(json!({ "name": name, "slug": "fine" })).await;
        answer.assert_error(400, "invalid_request");
        assert!(answer.field("name").contains("1 to 200"), "{}", answer.text);
    }
    for name in [
        "https://evil.example",
        "www.evil.example",
        "Claim at evil.example/x",
        "a\u{202e}b",
    ] {
        let answer = post(json!({ "name": name })).await;
        answer.assert_error(400, "invalid_request");
        assert!(!answer.field("name").is_empty(), "{}", answer.text);
    }
    for slug in ["", "A", "-a", "a b", "a'--", "api", "admin", &"x".repeat(64)] {
        let answer = post(json!({ "name": "Fine", "slug": slug })).await;
        answer.assert_error(400, "invalid_request");
        assert!(!answer.field("slug").is_empty(), "{}", answer.text);
    }
    for body in [
        json!({}),
        json!([]),
        json!(5),
        json!({ "name": 5 }),
        json!({ "name": "x", "plan": "gold" }),
    ] {
        post(body).await.assert_error(400, "invalid_request");
    }
    let answer = post(json!({ "name": "Fine", "slag": "x" })).await;
    answer.assert_error(400, "invalid_request");
    assert!(answer.message().contains("slag"), "{}", answer.text);
    assert_eq!(service.count("SELECT count(*) FROM workspaces").await, 0);
}

#[tokio::test]
async fn only_plans_of_self_service_can_be_chosen() {
    let service = Service::new().await;
    let ada = service.person("ada@example.com").await;
    let answer = service
        .post(
            "/api/v1/workspaces",
            &ada,
            json!({ "name": "Big", "plan": "enterprise" }),
        )
        .await;
    answer.assert_error(403, "forbidden");
    let answer = service
        .post("/api/v1/workspaces", &ada, json!({ "name": "Big", "plan": "pro" }))
        .await;
    assert_eq!(
        (answer.status, &answer.json["plan"]),
        (StatusCode::CREATED, &json!("pro"))
    );
}

#[tokio::test]
async fn of_many_who_want_a_slug_exactly_one_gets_it() {
    let service = Service::new().await;
    let (ada, bob) = (
        service.person("ada@example.com").await,
        service.person("bob@example.com").await,
    );
    let attempts = (0..8).map(|number| {
        let person = if number % 2 == 0 { &ada } else { &bob };
        service.post("/api/v1/workspaces", person, json!({ "name": "Acme", "slug": "acme" }))
    });
    let answers = join_all(attempts).await;
    let created = answers
        .iter()
        .filter(|answer| answer.status == StatusCode::CREATED)
        .count();
    assert_eq!(created, 1);
    for answer in answers.iter().filter(|answer| answer.status != StatusCode::CREATED) {
        answer.assert_error(409, "conflict");
        assert_eq!(answer.field("slug"), "is taken");
    }
    let rows = "SELECT (SELECT count(*) FROM workspaces) + (SELECT count(*) FROM team_members)
                     + (SELECT count(*) FROM audit_events WHERE action = 'workspace.create')";
    assert_eq!(service.count(rows).await, 3, "the refused ones left nothing behind");
}

#[tokio::test]
async fn a_slug_that_is_left_out_is_found_whatever_the_name_is_and_whoever_has_it() {
    let service = Service::new().await;
    let ada = service.person("ada@example.com").await;
    let create = async |name: &str| {
        let answer = service.post("/api/v1/workspaces", &ada, json!({ "name": name })).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
        answer.string("slug")
    };
    assert_eq!(create("Acme").await, "acme");
    let others = join_all((0..4).map(|_| create("ACME"))).await;
    assert!(others.iter().all(|slug| slug.starts_with("acme-")), "{others:?}");
    assert_eq!(create("🦀").await, "workspace");
    assert!(create("日本").await.starts_with("workspace-"));
    assert!(create("API").await.starts_with("api-"));
    let audited = "SELECT count(*) FROM audit_events WHERE action = 'workspace.create'";
    assert_eq!(service.count(audited).await, 8);

    // Whatever is chosen by hand is not changed behind the chooser's back.
    let id = service
        .post("/api/v1/workspaces", &ada, json!({ "name": "X" }))
        .await
        .string("id");
    let path = format!("/api/v1/workspaces/{id}");
    let reserved = service.patch(&path, &ada, json!({ "slug": "admin" })).await;
    assert_eq!(reserved.field("slug"), "is reserved; choose another");
    let taken = service.patch(&path, &ada, json!({ "slug": "acme" })).await;
    taken.assert_error(409, "conflict");
}

#[tokio::test]
async fn a_list_has_the_callers_workspaces_page_by_page() {
    let service = Service::new().await;
    let (ada, bob) = (
        service.person("ada@example.com").await,
        service.person("bob@example.com").await,
    );
    let mut ids = Vec::new();
    for number in 0..5 {
        let body = json!({ "name": "Mine", "slug": format!("mine-{number}") });
        ids.push(service.post("/api/v1/workspaces", &ada, body).await.string("id"));
    }
    let shared = service.workspace(&bob, "free").await;
    service.join(&shared, &ada, "viewer").await;
    sqlx::query("UPDATE workspaces SET status = 'deleted', deleted_at = now() WHERE id = $1")
        .bind(&ids[4])
        .execute(&service.pool)
        .await
        .unwrap();

    let mut seen = Vec::new();
    for page in 1..=3 {
        let answer = service
            .get(&format!("/api/v1/workspaces?page={page}&pageSize=2"), &ada)
            .await;
        assert_eq!(
            (&answer.json["total"], &answer.json["page"], &answer.json["pageSize"]),
            (&json!(5), &json!(page), &json!(2))
        );
        for row in answer.json["data"].as_array().unwrap() {
            seen.push((
                row["id"].as_str().unwrap().to_owned(),
                row["role"].as_str().unwrap().to_owned(),
            ));
        }
    }
    let mut expected: Vec<_> = ids[..4].iter().map(|id| (id.clone(), "owner".to_owned())).collect();
    expected.push((shared, "viewer".to_owned()));
    assert_eq!(seen, expected);

    let all = service.get("/api/v1/workspaces", &ada).await;
    assert_eq!((&all.json["page"], &all.json["pageSize"]), (&json!(1), &json!(20)));
    for query in [
        "page=0",
        "pageSize=0",
        "pageSize=101",
        "page=-1",
        "page=x",
        "pageSize=1e3",
        "page=4294967296",
    ] {
        service
            .get(&format!("/api/v1/workspaces?{query}"), &ada)
            .await
            .assert_error(400, "invalid_request");
    }
    let beyond = service.get("/api/v1/workspaces?page=1000000&pageSize=100", &ada).await;
    assert_eq!((beyond.status, &beyond.json["data"]), (StatusCode::OK, &json!([])));
}

#[tokio::test]
async fn nobody_learns_of_a_foreign_workspace() {
    let service = Service::new().await;
    let (ada, bob) = (
        service.person("ada@example.com").await,
        service.person("bob@example.com").await,
    );
    let foreign = service.workspace(&bob, "free").await;
    let missing = "ws_01h455vb4pex5vsknk084sn02q";
    let (one, other) = (
        service.get(&format!("/api/v1/workspaces/{foreign}"), &ada).await,
        service.get(&format!("/api/v1/workspaces/{missing}"), &ada).await,
    );
    one.assert_error(404, "not_found");
    other.assert_error(404, "not_found");
    assert_eq!(one.message(), other.message());
    for id in [
        "nonsense",
        "app_01h455vb4pex5vsknk084sn02q",
        "ws_",
        "ws_01h455vb4pex5vsknk084sn02q'--",
        "%00",
        "ws_%FF",
    ] {
        service
            .get(&format!("/api/v1/workspaces/{}", id.replace('\'', "%27")), &ada)
            .await
            .assert_error(404, "not_found");
    }
}
