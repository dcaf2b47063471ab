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
    assert_eq!(answer.json["progress"], json!({ "done": 0, "total": Step::ALL.len() }));
    let names: Vec<_> = answer.json["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| step["name"].clone())
        .collect();
    assert_eq!(names, Step::ALL.iter().map(|step| json!(step)).collect::<Vec<_>>());
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
