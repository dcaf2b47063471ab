//! API keys, by way of the API.

use authsome_core::key::{Digest, ParsedKey};
use http::{StatusCode, header};
use serde_json::{Value, json};

use crate::service::{Answer, Person, Service};

struct Fixture {
    service: Service,
    ada: Person,
    created: Answer,
    path: String,
}

async fn fixture() -> Fixture {
    let service = Service::new().await;
    let ada = service.person("ada@example.com").await;
    let workspace = service.workspace(&ada, "free").await;
    let created = service.application(&ada, &workspace, "shop").await;
    let path = format!("/api/v1/applications/{}/keys", created.string("id"));
    Fixture {
        service,
        ada,
        created,
        path,
    }
}

#[tokio::test]
async fn a_secret_key_is_whole_once_and_masked_for_ever() {
    let Fixture { service, ada, path, .. } = fixture().await;
    let body = json!({
        "name": "Backend", "type": "secret", "scopes": ["users:write", "users:read", "users:read"],
        "expiresAt": "2999-01-01T00:00:00Z", "networks": ["203.0.113.7/24", "2001:db8::1"],
    });
    let created = service.post(&path, &ada, body).await;
    assert_eq!(created.status, StatusCode::CREATED, "{}", created.text);
    assert_eq!(created.headers[header::CACHE_CONTROL], "no-store");
    let key = created.string("key");
    let parsed = ParsedKey::parse(&key).unwrap();
    assert_eq!(created.json["scopes"], json!(["users:read", "users:write"]));
    assert_eq!(created.json["networks"], json!(["203.0.113.0/24", "2001:db8::1/128"]));
    assert_eq!(created.json["expiresAt"], "2999-01-01T00:00:00Z");

    let list = service.get(&path, &ada).await;
    assert_eq!(list.json["total"], 3);
    let mut expected = created.json.clone();
    expected["key"] = json!(parsed.masked());
    assert_eq!(list.json["data"][2], expected);
    assert!(!list.text.contains(&key));

    let (digest, masked, public): (Vec<u8>, String, Option<String>) =
        sqlx::query_as("SELECT digest, masked, public_key FROM api_keys WHERE id = $1")
            .bind(created.string("id"))
            .fetch_one(&service.pool)
            .await
            .unwrap();
    assert_eq!(digest, Digest::of(key.as_bytes()).as_bytes());
    assert_eq!((masked, public), (parsed.masked(), None));
}

#[tokio::test]
async fn a_public_key_can_always_be_shown() {
    let Fixture {
        service,
        ada,
        path,
        created,
    } = fixture().await;
    let body = json!({ "name": "Web", "type": "public", "origins": ["https://App.example.com:443/"] });
    let answer = service.post(&path, &ada, body).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
    assert_eq!(answer.json["origins"], json!(["https://app.example.com"]));
    let list = service.get(&path, &ada).await;
    assert_eq!(list.json["data"][2], answer.json);
    assert_eq!(list.json["data"][0]["key"], created.json["publicKey"]);
}

#[tokio::test]
async fn what_a_key_cannot_be_is_named_by_field() {
    let Fixture { service, ada, path, .. } = fixture().await;
    let refused = async |body: Value, field: &str| {
        let answer = service.post(&path, &ada, body).await;
        answer.assert_error(400, "invalid_request");
        assert!(!answer.field(field).is_empty(), "{field}: {}", answer.text);
    };
    let secret = |field: &str, value: Value| {
        let mut body = json!({ "name": "x", "type": "secret" });
        body[field] = value;
        body
    };
    refused(secret("name", json!("")), "name").await;
    refused(secret("type", json!("private")), "type").await;
    refused(secret("scopes", json!(["users:everything"])), "scopes").await;
    refused(secret("scopes", json!([])), "scopes").await;
    refused(secret("expiresAt", json!("2020-01-01T00:00:00Z")), "expiresAt").await;
    refused(secret("expiresAt", json!("tomorrow")), "expiresAt").await;
    refused(secret("networks", json!(["10.0.0.0/8", "10.0.0.0/33"])), "networks[1]").await;
    refused(secret("networks", json!(vec!["10.0.0.0/8"; 101])), "networks").await;
    refused(secret("origins", json!(["https://a.example"])), "origins").await;
    refused(json!({ "name": "x", "type": "public", "scopes": ["*"] }), "scopes").await;
    refused(
        json!({ "name": "x", "type": "public", "origins": ["https://a.example/path"] }),
        "origins[0]",
    )
    .await;
    assert_eq!(service.count("SELECT count(*) FROM api_keys").await, 2);
}

#[tokio::test]
async fn revoking_is_final_announced_once_and_repeatable() {
    let Fixture { service, ada, path, .. } = fixture().await;
    let key = service
        .post(&path, &ada, json!({ "name": "x", "type": "public" }))
        .await
        .string("id");
    let one = format!("{path}/{key}");
    let announced = "SELECT count(*) FROM outbox WHERE topic = 'key'";
    let before = service.count(announced).await;
    for _ in 0..2 {
        let answer = service.delete(&one, &ada).await;
        assert_eq!((answer.status, answer.text.as_str()), (StatusCode::NO_CONTENT, ""));
    }
    assert_eq!(service.count(announced).await, before + 1);
    assert_eq!(
        service
            .count("SELECT count(*) FROM audit_events WHERE action = 'key.revoke'")
            .await,
        1
    );
    assert_eq!(service.get(&path, &ada).await.json["total"], 2);
}

#[tokio::test]
async fn a_key_is_only_found_under_its_own_application() {
    let Fixture {
        service,
        ada,
        path,
        created,
    } = fixture().await;
    let other = service
        .application(&ada, &created.string("workspaceId"), "other")
        .await
        .string("id");
    let key = service.get(&path, &ada).await.json["data"][0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    service
        .delete(&format!("/api/v1/applications/{other}/keys/{key}"), &ada)
        .await
        .assert_error(404, "not_found");
    let missing = format!("{path}/key_01h455vb4pex5vsknk084sn02q");
    service.delete(&missing, &ada).await.assert_error(404, "not_found");
    service
        .delete(&format!("{path}/nonsense"), &ada)
        .await
        .assert_error(404, "not_found");
    assert_eq!(
        service
            .count("SELECT count(*) FROM api_keys WHERE revoked_at IS NOT NULL")
            .await,
        0
    );
}

#[tokio::test]
async fn the_public_key_of_an_application_is_its_oldest_usable_one() {
    let Fixture {
        service,
        ada,
        path,
        created,
    } = fixture().await;
    let second = service
        .post(&path, &ada, json!({ "name": "2", "type": "public" }))
        .await
        .string("key");
    let application = format!("/api/v1/applications/{}", created.string("id"));
    assert_eq!(
        service.get(&application, &ada).await.json["publicKey"],
        created.json["publicKey"]
    );
    let keys = service.get(&path, &ada).await;
    let mut keys = keys.json["data"].as_array().unwrap().iter();
    let first = keys.find(|key| key["key"] == created.json["publicKey"]).unwrap()["id"]
        .as_str()
        .unwrap();
    service.delete(&format!("{path}/{first}"), &ada).await;
    assert_eq!(service.get(&application, &ada).await.json["publicKey"], second.as_str());
}

#[tokio::test]
async fn an_application_on_its_way_out_gets_no_keys() {
    let Fixture { service, ada, path, .. } = fixture().await;
    sqlx::query("UPDATE applications SET status = 'deleting', deleted_at = now()")
        .execute(&service.pool)
        .await
        .unwrap();
    let answer = service
        .post(&path, &ada, json!({ "name": "x", "type": "secret" }))
        .await;
    answer.assert_error(409, "conflict");
}
