//! Applications, by way of the API.

use authsome_core::key::{KeyMode, KeyType, ParsedKey};
use futures::future::join_all;
use http::{StatusCode, header};
use serde_json::{Value, json};

use crate::service::Service;

#[tokio::test]
async fn a_new_application_is_an_intent_two_keys_and_a_job() {
    let service = Service::new().await;
    let ada = service.person("ada@example.com").await;
    let workspace = service.workspace(&ada, "free").await;
    let config = json!({ "session": { "token_ttl": "1h" } });
    let body = json!({ "name": "My Shop", "environment": "production", "config": config });
    let answer = service
        .post(&format!("/api/v1/workspaces/{workspace}/applications"), &ada, body)
        .await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.text);
    assert_eq!(answer.headers[header::CACHE_CONTROL], "no-store");
    let id = answer.string("id");
    assert_eq!(
        answer.headers[header::LOCATION],
        format!("https://api.test/api/v1/applications/{id}")
    );
    for (field, value) in [
        ("workspaceId", workspace.as_str()),
        ("slug", "my-shop"),
        ("environment", "production"),
        ("region", "eu-west-1"),
        ("status", "provisioning"),
        ("apiUrl", &format!("https://edge.test/v1/{id}")),
    ] {
        assert_eq!(answer.json[field], value, "{field}");
    }
    let (public, secret) = (answer.string("publicKey"), answer.string("secretKey"));
    for (text, key_type) in [(&public, KeyType::Public), (&secret, KeyType::Secret)] {
        let key = ParsedKey::parse(text).unwrap();
        assert_eq!(
            (key.key_type(), key.mode(), key.hint()),
            (key_type, KeyMode::Live, &id[id.len() - 8..])
        );
    }

    let (namespace, deadline): (String, f64) = sqlx::query_as(
        "SELECT k8s_namespace, extract(epoch FROM status_deadline - created_at)::float8 FROM applications WHERE id = $1",
    )
    .bind(&id)
    .fetch_one(&service.pool)
    .await
    .unwrap();
    assert_eq!(namespace, format!("authsome-app-{}", id.strip_prefix("app_").unwrap()));
    assert!((deadline - 600.0).abs() < 1.0, "{deadline}");

    let operation = answer.string("operationId");
    let job: Value = sqlx::query_scalar("SELECT payload FROM outbox WHERE topic = 'job' AND ref = $1")
        .bind(&operation)
        .fetch_one(&service.pool)
        .await
        .unwrap();
    let expected = json!({
        "operationId": operation, "applicationId": id, "kind": "provision", "generation": 1, "region": "eu-west-1"
    });
    assert_eq!(job, expected);
    assert_eq!(
        service.count("SELECT count(*) FROM outbox WHERE topic = 'app'").await,
        1
    );
    assert_eq!(
        service.count("SELECT count(*) FROM outbox WHERE topic = 'key'").await,
        2
    );
    assert_eq!(
        service
            .count("SELECT count(*) FROM audit_events WHERE action = 'application.create'")
            .await,
        1
    );

    let shown = service.get(&format!("/api/v1/applications/{id}"), &ada).await;
    assert_eq!(shown.json["publicKey"], public.as_str());
    assert_eq!(shown.json["config"], config);
    assert_eq!(
        shown.json["dashboardUrl"],
        format!("https://dashboard.test/applications/{id}")
    );
    let resources = json!({ "cpuLimit": "500m", "memoryLimit": "512Mi", "storageLimit": "5Gi", "replicas": 0 });
    assert_eq!(shown.json["resources"], resources);
    assert_eq!(
        shown.json["metrics"],
        json!({ "apiRequests": 0, "mau": null, "avgLatency": null, "uptime": null })
    );
    assert!(!shown.text.contains(&secret), "the secret key is shown once");
}

#[tokio::test]
async fn keys_of_other_environments_are_test_keys() {
    let service = Service::new().await;
    let ada = service.person("ada@example.com").await;
    let workspace = service.workspace(&ada, "free").await;
    for environment in ["staging", "development"] {
        let body = json!({ "name": environment, "environment": environment, "region": "us-east-1" });
        let answer = service
            .post(&format!("/api/v1/workspaces/{workspace}/applications"), &ada, body)
            .await;
        assert!(answer.string("secretKey").starts_with("sk_test_"));
        assert!(answer.string("publicKey").starts_with("pk_test_"));
        assert_eq!(answer.json["region"], "us-east-1");
    }
}

#[tokio::test]
async fn the_plans_limit_holds_however_many_come_at_once() {
    let service = Service::new().await;
    let ada = service.person("ada@example.com").await;
    let workspace = service.workspace(&ada, "free").await;
    let path = format!("/api/v1/workspaces/{workspace}/applications");
    let attempts = (0..12).map(|number| {
        service.post(
            &path,
            &ada,
            json!({ "name": format!("App {number}"), "environment": "staging" }),
        )
    });
    let answers = join_all(attempts).await;
    let (created, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == StatusCode::ACCEPTED);
    assert_eq!(created.len(), 3);
    for answer in refused {
        answer.assert_error(403, "forbidden");
        assert_eq!(answer.json["error"]["reason"], "application_limit");
        assert_eq!(answer.json["error"]["details"], json!({ "plan": "free", "limit": 3 }));
    }
    assert_eq!(service.count("SELECT count(*) FROM applications").await, 3);
    assert_eq!(service.count("SELECT count(*) FROM api_keys").await, 6);
    assert_eq!(service.count("SELECT count(*) FROM operations").await, 3);

    sqlx::query("UPDATE applications SET status = 'deleting', deleted_at = now() WHERE id = $1")
        .bind(created[0].string("id"))
        .execute(&service.pool)
        .await
        .unwrap();
    service.application(&ada, &workspace, "another").await;
}

#[tokio::test]
async fn of_many_who_want_a_slug_in_a_workspace_exactly_one_gets_it() {
    let service = Service::new().await;
    let ada = service.person("ada@example.com").await;
    let workspace = service.workspace(&ada, "pro").await;
    let path = format!("/api/v1/workspaces/{workspace}/applications");
    let body = json!({ "name": "'; DROP TABLE applications; --", "slug": "shop", "environment": "staging" });
    let answers = join_all((0..6).map(|_| service.post(&path, &ada, body.clone()))).await;
    assert_eq!(
        answers
            .iter()
            .filter(|answer| answer.status == StatusCode::ACCEPTED)
            .count(),
        1
    );
    for answer in answers.iter().filter(|answer| answer.status != StatusCode::ACCEPTED) {
        answer.assert_error(409, "conflict");
        assert_eq!(answer.field("slug"), "is taken");
    }
    assert_eq!(service.count("SELECT count(*) FROM api_keys").await, 2);

    let bob = service.person("bob@example.com").await;
    let other = service.workspace(&bob, "free").await;
    service.application(&bob, &other, "shop").await;
}

#[tokio::test]
async fn wrong_fields_are_named_all_at_once() {
    let service = Service::new().await;
    let ada = service.person("ada@example.com").await;
    let workspace = service.workspace(&ada, "free").await;
    let path = format!("/api/v1/workspaces/{workspace}/applications");
    let post = async |body| service.post(&path, &ada, body).await;

    let body = json!({ "name": "", "environment": "staging", "region": "mars", "config": [] });
    let answer = post(body).await;
    answer.assert_error(400, "invalid_request");
    assert!(
        !answer.field("name").is_empty() && !answer.field("config").is_empty(),
        "{}",
        answer.text
    );
    assert_eq!(answer.field("region"), "must be one of eu-west-1, us-east-1");

    let answer = post(json!({ "name": "x", "environment": "prod" })).await;
    answer.assert_error(400, "invalid_request");
    assert!(
        answer.message().contains("environment") && answer.message().contains("production"),
        "{}",
        answer.text
    );
    for config in [
        json!({ "a": "\u{0}" }),
        json!({ "a": [{ "\u{0}": 1 }] }),
        json!({ "a": "x".repeat(70_000) }),
    ] {
        let answer = post(json!({ "name": "x", "environment": "staging", "config": config })).await;
        answer.assert_error(400, "invalid_request");
        assert!(!answer.field("config").is_empty(), "{}", answer.text);
    }
    assert_eq!(service.count("SELECT count(*) FROM applications").await, 0);
}

#[tokio::test]
async fn a_suspended_workspace_gets_no_applications() {
    let service = Service::new().await;
    let ada = service.person("ada@example.com").await;
    let workspace = service.workspace(&ada, "free").await;
    sqlx::query("UPDATE workspaces SET status = 'suspended'")
        .execute(&service.pool)
        .await
        .unwrap();
    let body = json!({ "name": "x", "environment": "staging" });
    let answer = service
        .post(&format!("/api/v1/workspaces/{workspace}/applications"), &ada, body)
        .await;
    answer.assert_error(409, "conflict");
    assert_eq!(answer.json["error"]["reason"], "workspace_suspended");
}

#[tokio::test]
async fn a_list_is_filtered_and_hides_what_is_gone() {
    let service = Service::new().await;
    let ada = service.person("ada@example.com").await;
    let workspace = service.workspace(&ada, "pro").await;
    let mut ids = Vec::new();
    for slug in ["one", "two", "three", "four"] {
        ids.push(service.application(&ada, &workspace, slug).await.string("id"));
    }
    for (id, change) in [
        (
            &ids[1],
            "UPDATE applications SET status = 'active', status_deadline = NULL WHERE id = $1",
        ),
        (&ids[2], "UPDATE applications SET environment = 'staging' WHERE id = $1"),
        (
            &ids[3],
            "UPDATE applications SET status = 'deleted', deleted_at = now() WHERE id = $1",
        ),
    ] {
        sqlx::query(change).bind(id).execute(&service.pool).await.unwrap();
    }
    let list = async |query: &str| {
        let answer = service
            .get(&format!("/api/v1/workspaces/{workspace}/applications?{query}"), &ada)
            .await;
        let ids = answer.json["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row["id"].as_str().unwrap().to_owned());
        (ids.collect::<Vec<_>>(), answer.json["total"].as_i64().unwrap())
    };
    assert_eq!(list("").await, (ids[..3].to_vec(), 3));
    assert_eq!(list("status=active").await, (vec![ids[1].clone()], 1));
    assert_eq!(list("environment=staging").await, (vec![ids[2].clone()], 1));
    assert_eq!(
        list("environment=production&pageSize=1&page=2").await,
        (vec![ids[1].clone()], 2)
    );
    service
        .get(&format!("/api/v1/applications/{}", ids[3]), &ada)
        .await
        .assert_error(404, "not_found");
    let answer = service
        .get(
            &format!("/api/v1/workspaces/{workspace}/applications?status=gone"),
            &ada,
        )
        .await;
    answer.assert_error(400, "invalid_request");
}

#[tokio::test]
async fn what_was_measured_and_what_failed_is_told() {
    let service = Service::new().await;
    let ada = service.person("ada@example.com").await;
    let workspace = service.workspace(&ada, "free").await;
    let id = service.application(&ada, &workspace, "shop").await.string("id");
    for period in [
        authsome_control::period::of(authsome_core::clock::Clock::now(&service.clock)),
        "2001-01".to_owned(),
    ] {
        sqlx::query(
            "INSERT INTO usage_records (application_id, workspace_id, period, api_requests) VALUES ($1, $2, $3, 42)",
        )
        .bind(&id)
        .bind(&workspace)
        .bind(&period)
        .execute(&service.pool)
        .await
        .unwrap();
    }
    sqlx::query(
        "UPDATE applications SET status = 'failed', status_deadline = NULL, endpoints = '{10.0.0.1:8080,10.0.0.2:8080}',
                failure_reason = 'The image could not be pulled', failure_remediation = 'Check the image name',
                error_log = 'internal: registry said 403'",
    )
    .execute(&service.pool)
    .await
    .unwrap();
    let answer = service.get(&format!("/api/v1/applications/{id}"), &ada).await;
    assert_eq!(
        answer.json["metrics"],
        json!({ "apiRequests": 42, "mau": null, "avgLatency": null, "uptime": null })
    );
    assert_eq!(answer.json["resources"]["replicas"], 2);
    let failure = json!({ "reason": "The image could not be pulled", "remediation": "Check the image name" });
    assert_eq!(answer.json["failure"], failure);
    assert!(!answer.text.contains("internal"), "{}", answer.text);
}

#[tokio::test]
async fn whoever_has_not_confirmed_the_address_creates_no_application_not_even_by_a_token() {
    let service = Service::new().await;
    let ada = service.person("ada@example.com").await;
    let workspace = service.workspace(&ada, "free").await;
    let tokens = format!("/api/v1/workspaces/{workspace}/tokens");
    let token = service
        .post(&tokens, &ada, json!({ "name": "CI", "scopes": ["applications:write"] }))
        .await;
    let program = crate::service::Person {
        id: ada.id.clone(),
        token: token.string("secret"),
    };
    sqlx::query("UPDATE users SET email_verified_at = NULL")
        .execute(&service.pool)
        .await
        .unwrap();
    let path = format!("/api/v1/workspaces/{workspace}/applications");
    let body = json!({ "name": "Shop", "environment": "staging" });
    for caller in [&ada, &program] {
        let refused = service.post(&path, caller, body.clone()).await;
        refused.assert_error(403, "forbidden");
        assert_eq!(refused.json["error"]["reason"], "email_not_verified");
    }
    sqlx::query("UPDATE users SET email_verified_at = now()")
        .execute(&service.pool)
        .await
        .unwrap();
    assert_eq!(service.post(&path, &ada, body).await.status, StatusCode::ACCEPTED);
}

#[tokio::test]
async fn applications_are_found_by_the_beginning_of_name_or_slug_and_by_id() {
    let service = Service::new().await;
    let ada = service.person("ada@example.com").await;
    let workspace = service.workspace(&ada, "pro").await;
    let path = format!("/api/v1/workspaces/{workspace}/applications");
    let mut ids = Vec::new();
    for (name, slug) in [
        ("Shop Berlin", "berlin"),
        ("shop_100% paris", "paris"),
        ("Blog", "shoplift"),
    ] {
        let body = json!({ "name": name, "slug": slug, "environment": "staging" });
        ids.push(service.post(&path, &ada, body).await.string("id"));
    }
    let found = async |search: &str| {
        let answer = service.get(&format!("{path}?search={search}"), &ada).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        let rows = answer.json["data"].as_array().unwrap();
        assert_eq!(answer.json["total"], rows.len());
        rows.iter()
            .map(|row| row["slug"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(found("SHOP").await, ["berlin", "paris", "shoplift"]);
    assert_eq!(found("shop%20b").await, ["berlin"]);
    assert_eq!(found("Shop_100%25").await, ["paris"], "nothing is a wildcard");
    assert_eq!(found("%25").await, Vec::<String>::new());
    assert_eq!(found(&ids[2]).await, ["shoplift"]);
    let combined = service
        .get(&format!("{path}?search=shop&environment=production"), &ada)
        .await;
    assert_eq!(
        (&combined.json["total"], &combined.json["data"]),
        (&json!(0), &json!([]))
    );
    let behind = service.get(&format!("{path}?search=shop&page=9"), &ada).await;
    assert_eq!((&behind.json["total"], &behind.json["data"]), (&json!(3), &json!([])));
    for search in ["", "%00", &"x".repeat(201)] {
        let refused = service.get(&format!("{path}?search={search}"), &ada).await;
        refused.assert_error(400, "invalid_request");
        assert!(!refused.field("search").is_empty());
    }
}

#[tokio::test]
async fn what_is_no_object_is_refused_and_not_repeated() {
    let service = Service::new().await;
    let ada = service.person("ada@example.com").await;
    let workspace = service.workspace(&ada, "free").await;
    let path = format!("/api/v1/workspaces/{workspace}/applications");
    for body in [
        json!(["Shop", null, "staging", null, null]),
        json!("hunter2"),
        json!(7),
        json!(null),
    ] {
        let refused = service.post(&path, &ada, body).await;
        refused.assert_error(400, "invalid_request");
        assert!(refused.field("body").contains("object") && !refused.text.contains("hunter2"));
    }
}
