//! Operations, by way of the API.

use authsome_contract::model::Step;
use http::StatusCode;
use serde_json::json;

use crate::service::Service;

#[tokio::test]
async fn an_operation_shows_its_steps_and_how_far_it_has_come() {
    let service = Service::new().await;
    let ada = service.person("ada@example.com").await;
    let workspace = service.workspace(&ada, "free").await;
    let created = service.application(&ada, &workspace, "shop").await;
    let (application, id) = (created.string("id"), created.string("operationId"));
    let path = format!("/api/v1/operations/{id}");

    let answer = service.get(&path, &ada).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.json["kind"], "provision");
    assert_eq!(answer.json["status"], "queued");
    assert_eq!(answer.json["applicationId"], application.as_str());
    assert_eq!(
        answer.json["progress"],
        json!({ "done": 0, "total": Step::PROVISION.len() })
    );
    let names: Vec<_> = answer.json["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| step["name"].clone())
        .collect();
    assert_eq!(
        names,
        Step::PROVISION.iter().map(|step| json!(step)).collect::<Vec<_>>()
    );
    assert_eq!(answer.json["steps"][0]["title"], Step::Preflight.title());

    for change in [
        "UPDATE provisioning_steps SET status = 'done', started_at = now(), finished_at = now() WHERE step = 'preflight'",
        "UPDATE provisioning_steps SET status = 'skipped', detail = 'not used here' WHERE step = 'namespace'",
        "UPDATE provisioning_steps SET status = 'failed', attempts = 3 WHERE step = 'database'",
        "UPDATE operations SET status = 'failed', reason = 'No room', remediation = 'Ask for more',
                error_log = 'internal detail', started_at = now(), finished_at = now()",
    ] {
        sqlx::query(change).execute(&service.pool).await.unwrap();
    }
    let answer = service.get(&path, &ada).await;
    assert_eq!(answer.json["progress"]["done"], 2);
    assert_eq!(answer.json["steps"][1]["detail"], "not used here");
    assert_eq!(answer.json["steps"][2]["attempts"], 3);
    assert_eq!(
        (&answer.json["reason"], &answer.json["remediation"]),
        (&json!("No room"), &json!("Ask for more"))
    );
    assert!(answer.json["finishedAt"].is_string());
    assert!(!answer.text.contains("internal detail"));

    let list = service
        .get(&format!("/api/v1/applications/{application}/operations"), &ada)
        .await;
    assert_eq!(list.json["data"].as_array().unwrap().len(), 1);
    assert_eq!(list.json["data"][0]["id"], id.as_str());
}

#[tokio::test]
async fn operations_are_listed_by_application_kind_and_status_a_page_at_a_time() {
    let service = Service::new().await;
    let ada = service.person("ada@example.com").await;
    let workspace = service.workspace(&ada, "free").await;
    let shop = service.application(&ada, &workspace, "shop").await;
    let blog = service.application(&ada, &workspace, "blog").await;
    let (shop_id, blog_id) = (shop.string("id"), blog.string("id"));
    sqlx::query("UPDATE operations SET status = 'succeeded', finished_at = now() WHERE application_id = $1")
        .bind(&shop_id)
        .execute(&service.pool)
        .await
        .unwrap();
    sqlx::query("UPDATE applications SET status = 'active'")
        .execute(&service.pool)
        .await
        .unwrap();
    let restarted = service
        .post(&format!("/api/v1/applications/{shop_id}/restart"), &ada, json!({}))
        .await;
    let (first, second, third) = (
        shop.string("operationId"),
        blog.string("operationId"),
        restarted.string("operationId"),
    );

    let list = async |path: &str| {
        let answer = service.get(&format!("/api/v1/{path}"), &ada).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text);
        let ids: Vec<String> = answer.json["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|operation| operation["id"].as_str().unwrap().to_owned())
            .collect();
        (ids, answer.json["total"].as_i64().unwrap())
    };
    let all = format!("workspaces/{workspace}/operations");
    for (path, ids, total) in [
        (all.clone(), vec![&third, &second, &first], 3),
        (format!("{all}?pageSize=2"), vec![&third, &second], 3),
        (format!("{all}?pageSize=2&page=2"), vec![&first], 3),
        (format!("{all}?status=succeeded"), vec![&first], 1),
        (format!("{all}?status=queued&kind=restart"), vec![&third], 1),
        (format!("{all}?application={blog_id}"), vec![&second], 1),
        (format!("{all}?application={shop_id}&kind=provision"), vec![&first], 1),
        (format!("{all}?application=app_01h455vb4pex5vsknk084sn02q"), vec![], 0),
        (format!("{all}?application=nonsense"), vec![], 0),
        (format!("applications/{shop_id}/operations"), vec![&third, &first], 2),
        (
            format!("applications/{shop_id}/operations?kind=restart"),
            vec![&third],
            1,
        ),
        (format!("applications/{shop_id}/operations?pageSize=1"), vec![&third], 2),
    ] {
        let (found, count) = list(&path).await;
        assert_eq!((found.iter().collect::<Vec<_>>(), count), (ids, total), "{path}");
    }

    // Another team's application shows nothing, by way of one's own workspace either.
    let eve = service.person("eve@example.com").await;
    let hers = service.workspace(&eve, "free").await;
    let path = format!("/api/v1/workspaces/{hers}/operations?application={shop_id}");
    assert_eq!(service.get(&path, &eve).await.json["total"], 0);
    let path = format!("/api/v1/{all}");
    service.get(&path, &eve).await.assert_error(404, "not_found");
}

#[tokio::test]
async fn a_list_refuses_what_it_cannot_be_asked_for() {
    let service = Service::new().await;
    let ada = service.person("ada@example.com").await;
    let workspace = service.workspace(&ada, "free").await;
    for (query, field) in [
        ("operations?status=done", "status"),
        ("operations?kind=explode", "kind"),
        ("operations?state=failed", "state"),
        ("operations?kind=restart&kind=provision", "kind"),
        ("operations?page=0", "page"),
        ("operations?page=-1", "page"),
        ("operations?page=1000001", "page"),
        ("operations?pageSize=101", "pageSize"),
        ("operations?pageSize=x", "pageSize"),
        ("applications?environment=d", "environment"),
        ("applications?stauts=failed", "stauts"),
        ("members?role=owner", "role"),
        ("tokens?page_size=5", "page_size"),
    ] {
        let answer = service
            .get(&format!("/api/v1/workspaces/{workspace}/{query}"), &ada)
            .await;
        answer.assert_error(400, "invalid_request");
        assert!(!answer.field(field).is_empty(), "{query}: {}", answer.text);
    }
}
