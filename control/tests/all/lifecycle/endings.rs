//! How applications and workspaces end for good.

use std::time::Duration;

use authsome_control::tasks::endings::Endings;
use http::StatusCode;
use serde_json::json;

use crate::service::{PASSWORD, Person, Service};

/// Status of an application, and the kind of its newest operation.
async fn standing(service: &Service, id: &str) -> (String, String) {
    sqlx::query_as(
        "SELECT a.status, o.kind FROM applications a JOIN operations o ON o.application_id = a.id
         WHERE a.id = $1 ORDER BY o.generation DESC LIMIT 1",
    )
    .bind(id)
    .fetch_one(&service.pool)
    .await
    .unwrap()
}

async fn put(service: &Service, id: &str, status: &str) {
    sqlx::query("UPDATE applications SET status = $2, activated_at = now(), status_deadline = NULL WHERE id = $1")
        .bind(id)
        .bind(status)
        .execute(&service.pool)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_deleted_application_is_destroyed_after_seven_days_and_not_a_day_sooner() {
    let service = Service::new().await;
    let endings = Endings {
        app: service.app.clone(),
    };
    let ada = service.person("ada@example.com").await;
    let workspace = service.workspace(&ada, "free").await;
    let (gone, back) = (
        service.application(&ada, &workspace, "gone").await.string("id"),
        service.application(&ada, &workspace, "back").await.string("id"),
    );
    for id in [&gone, &back] {
        put(&service, id, "active").await;
        let answer = service.delete(&format!("/api/v1/applications/{id}"), &ada).await;
        assert_eq!(answer.status, StatusCode::NO_CONTENT);
    }
    service.clock.advance(Duration::from_hours(7 * 24 - 1));
    assert_eq!(endings.look().await.unwrap(), 0);
    let path = format!("/api/v1/applications/{back}/undelete");
    let refreshed = service.login("ada@example.com", PASSWORD).await;
    let ada = Person {
        id: ada.id,
        token: refreshed.string("token"),
    };
    assert_eq!(service.post(&path, &ada, json!({})).await.status, StatusCode::ACCEPTED);
    service.clock.advance(Duration::from_hours(2));
    let ada = Person {
        id: ada.id,
        token: service.login("ada@example.com", PASSWORD).await.string("token"),
    };
    assert_eq!(endings.look().await.unwrap(), 1);
    assert_eq!(
        standing(&service, &gone).await,
        ("purging".to_owned(), "purge".to_owned())
    );
    assert_eq!(
        standing(&service, &back).await,
        ("updating".to_owned(), "undelete".to_owned())
    );
    assert_eq!(endings.look().await.unwrap(), 0, "begun once");
    let late = service
        .post(&format!("/api/v1/applications/{gone}/undelete"), &ada, json!({}))
        .await;
    late.assert_error(409, "conflict");
    assert_eq!(
        service
            .count("SELECT count(*) FROM audit_events WHERE action = 'application.purge'")
            .await,
        1
    );
}

#[tokio::test]
async fn the_applications_of_a_deleted_workspace_stop_and_start_with_it_and_end_with_it() {
    let service = Service::new().await;
    let endings = Endings {
        app: service.app.clone(),
    };
    let ada = service.person("ada@example.com").await;
    let workspace = service.workspace(&ada, "pro").await;
    let path = format!("/api/v1/workspaces/{workspace}");
    let (running, stopped) = (
        service.application(&ada, &workspace, "running").await.string("id"),
        service.application(&ada, &workspace, "stopped").await.string("id"),
    );
    put(&service, &running, "active").await;
    put(&service, &stopped, "active").await;
    service
        .post(&format!("/api/v1/applications/{stopped}/suspend"), &ada, json!({}))
        .await;
    let suspended = ("suspended".to_owned(), "suspend".to_owned());

    assert_eq!(service.delete(&path, &ada).await.status, StatusCode::NO_CONTENT);
    endings.look().await.unwrap();
    assert_eq!(standing(&service, &running).await, suspended);
    // Had back: what ran runs, and what its team had stopped does not.
    assert_eq!(
        service.post(&format!("{path}/restore"), &ada, json!({})).await.status,
        StatusCode::OK
    );
    endings.look().await.unwrap();
    assert_eq!(
        standing(&service, &running).await,
        ("updating".to_owned(), "resume".to_owned())
    );
    assert_eq!(standing(&service, &stopped).await, suspended);
    put(&service, &running, "active").await;

    assert_eq!(service.delete(&path, &ada).await.status, StatusCode::NO_CONTENT);
    endings.look().await.unwrap();
    service.clock.advance(Duration::from_hours(30 * 24 - 1));
    assert_eq!(endings.look().await.unwrap(), 0);
    assert_eq!(standing(&service, &running).await, suspended);
    service.clock.advance(Duration::from_hours(2));
    let ada = Person {
        id: ada.id,
        token: service.login("ada@example.com", PASSWORD).await.string("token"),
    };
    service
        .post(&format!("{path}/restore"), &ada, json!({}))
        .await
        .assert_error(404, "not_found");
    endings.look().await.unwrap();
    for id in [&running, &stopped] {
        assert_eq!(standing(&service, id).await, ("purging".to_owned(), "purge".to_owned()));
    }
    // Its name is free once everything is gone, and not before.
    let slug = async || -> String {
        sqlx::query_scalar("SELECT slug FROM workspaces")
            .fetch_one(&service.pool)
            .await
            .unwrap()
    };
    let before = slug().await;
    endings.look().await.unwrap();
    assert_eq!(slug().await, before);
    put(&service, &running, "deleted").await;
    put(&service, &stopped, "deleted").await;
    endings.look().await.unwrap();
    assert!(slug().await.starts_with("purged-"));
    assert_eq!(service.count("SELECT count(*) FROM team_members").await, 0);
    assert_eq!(endings.look().await.unwrap(), 0);
}
