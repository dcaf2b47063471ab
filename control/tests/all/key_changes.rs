//! What becomes of API keys after they were created: changes, rolls, reports of leaks.

use authsome_testkit::SmtpServer;
use axum::body::Body;
use http::{Method, Request, StatusCode, header};
use serde_json::{Value, json};

use crate::service::{Answer, Person, Service};

struct World {
    service: Service,
    ada: Person,
    path: String,
}

impl World {
    async fn new() -> Self {
        let service = Service::new().await;
        let ada = service.person("ada@example.com").await;
        let workspace = service.workspace(&ada, "free").await;
        let created = service.application(&ada, &workspace, "shop").await;
        let path = format!("/api/v1/applications/{}/keys", created.string("id"));
        Self { service, ada, path }
    }

    async fn key(&self, body: Value) -> Answer {
        let created = self.service.post(&self.path, &self.ada, body).await;
        assert_eq!(created.status, StatusCode::CREATED, "{}", created.text);
        created
    }

    async fn patch(&self, id: &str, body: Value) -> Answer {
        self.service
            .patch(&format!("{}/{id}", self.path), &self.ada, body)
            .await
    }

    async fn roll(&self, id: &str, body: Value) -> Answer {
        self.service
            .post(&format!("{}/{id}/roll", self.path), &self.ada, body)
            .await
    }

    async fn report(&self, body: Value) -> Answer {
        self.service
            .call(Method::POST, "/api/v1/keys/leaked", None, Some(body))
            .await
    }

    /// What edges are told of a key.
    async fn at_edges(&self, id: &str) -> (bool, bool, Option<i64>) {
        sqlx::query_as("SELECT enabled, revoked_at IS NOT NULL, (extract(epoch FROM expires_at) * 1000)::bigint FROM edge_keys WHERE id = $1")
            .bind(id)
            .fetch_one(&self.service.pool)
            .await
            .unwrap()
    }

    async fn audited(&self, action: &str) -> Vec<Value> {
        sqlx::query_scalar("SELECT changes FROM audit_events WHERE action = $1 ORDER BY created_at, id")
            .bind(action)
            .fetch_all(&self.service.pool)
            .await
            .unwrap()
    }

    async fn announced(&self) -> i64 {
        self.service
            .count("SELECT count(*) FROM outbox WHERE topic = 'key'")
            .await
    }
}

#[tokio::test]
async fn a_change_is_merged_shown_audited_and_sent_to_the_edges() {
    let world = World::new().await;
    let created = world
        .key(json!({ "name": "Backend", "type": "secret", "networks": ["203.0.113.0/24"] }))
        .await;
    let id = created.string("id");
    let before = world.announced().await;
    let changed = world
        .patch(
            &id,
            json!({ "name": "API", "scopes": ["users:read"], "enabled": false, "expiresAt": "2999-01-01T00:00:00Z" }),
        )
        .await;
    assert_eq!(changed.status, StatusCode::OK, "{}", changed.text);
    assert_eq!(changed.json["name"], "API");
    assert_eq!(changed.json["scopes"], json!(["users:read"]));
    assert_eq!(
        changed.json["networks"],
        json!(["203.0.113.0/24"]),
        "what is not named stays"
    );
    assert_eq!(changed.json["enabled"], false);
    assert_eq!(changed.json["expiresAt"], "2999-01-01T00:00:00Z");
    assert!(!changed.text.contains(&created.string("key")), "shown once");
    let (enabled, revoked, _) = world.at_edges(&id).await;
    assert!(!enabled && !revoked);
    assert_eq!(world.announced().await, before + 1);
    let shown = world.service.get(&format!("{}/{id}", world.path), &world.ada).await;
    assert_eq!(
        (&shown.json, &shown.headers["etag"]),
        (&changed.json, &changed.headers["etag"])
    );

    // Null gives the defaults back.
    let back = world
        .patch(
            &id,
            json!({ "scopes": null, "enabled": null, "expiresAt": null, "networks": null }),
        )
        .await;
    assert_eq!(back.json["scopes"], json!(["*"]));
    assert_eq!(
        (&back.json["enabled"], &back.json["expiresAt"], &back.json["networks"]),
        (&json!(true), &Value::Null, &json!([]))
    );
    assert_eq!(world.at_edges(&id).await, (true, false, None));

    // The same again leaves no trace.
    let (before, audited) = (world.announced().await, world.audited("key.update").await);
    assert_eq!(audited.len(), 2);
    assert_eq!(audited[0]["enabled"], json!({ "from": true, "to": false }));
    assert_eq!(audited[0].get("networks"), None, "only what changed");
    assert_eq!(world.patch(&id, json!({ "name": "API" })).await.status, StatusCode::OK);
    assert_eq!(
        (world.announced().await, world.audited("key.update").await.len()),
        (before, 2)
    );
}

#[tokio::test]
async fn what_a_key_cannot_become_is_named_by_field_and_changes_nothing() {
    let world = World::new().await;
    let secret = world
        .key(json!({ "name": "Backend", "type": "secret" }))
        .await
        .string("id");
    let public = world.key(json!({ "name": "Web", "type": "public" })).await.string("id");
    let before = world.announced().await;
    for (id, body, field) in [
        (&secret, json!({ "name": "" }), "name"),
        (&secret, json!({ "name": null }), "name"),
        (&secret, json!({ "scopes": [] }), "scopes"),
        (&secret, json!({ "scopes": ["all"] }), "scopes"),
        (&secret, json!({ "origins": ["https://a.example"] }), "origins"),
        (&secret, json!({ "networks": ["nowhere"] }), "networks[0]"),
        (&secret, json!({ "enabled": "yes" }), "enabled"),
        (&secret, json!({ "expiresAt": "2020-01-01T00:00:00Z" }), "expiresAt"),
        (&secret, json!({ "type": "public" }), "type"),
        (&secret, json!([]), "body"),
        (&public, json!({ "scopes": ["users:read"] }), "scopes"),
    ] {
        let answer = world.patch(id, body.clone()).await;
        answer.assert_error(400, "invalid_request");
        assert!(!answer.field(field).is_empty(), "{body}: {}", answer.text);
    }
    assert_eq!(world.announced().await, before);
}

#[tokio::test]
async fn of_two_changes_from_the_same_version_one_is_made() {
    let world = World::new().await;
    let id = world
        .key(json!({ "name": "Backend", "type": "secret" }))
        .await
        .string("id");
    let path = format!("{}/{id}", world.path);
    let etag = world.service.get(&path, &world.ada).await.headers["etag"]
        .to_str()
        .unwrap()
        .to_owned();
    let change = async |name: &str| {
        let request = Request::builder()
            .method(Method::PATCH)
            .uri(&path)
            .header(header::AUTHORIZATION, format!("Bearer {}", world.ada.token))
            .header(header::CONTENT_TYPE, "application/merge-patch+json")
            .header(header::IF_MATCH, &etag)
            .body(Body::from(json!({ "name": name }).to_string()));
        world.service.send(request.unwrap()).await
    };
    let (one, other) = tokio::join!(change("one"), change("other"));
    let mut statuses = [one.status.as_u16(), other.status.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 412], "{} {}", one.text, other.text);
}

#[tokio::test]
async fn a_roll_gives_a_new_key_with_the_same_rights_and_the_old_one_its_end() {
    let world = World::new().await;
    let body = json!({ "name": "Backend", "type": "secret", "scopes": ["users:read"], "networks": ["203.0.113.0/24"] });
    let old = world.key(body).await;
    let rolled = world.roll(&old.string("id"), json!({ "overlapSeconds": 3600 })).await;
    assert_eq!(rolled.status, StatusCode::CREATED, "{}", rolled.text);
    assert_ne!(rolled.string("key"), old.string("key"));
    assert_ne!(rolled.string("id"), old.string("id"));
    for field in ["name", "type", "scopes", "networks", "origins", "enabled", "expiresAt"] {
        assert_eq!(rolled.json[field], old.json[field], "{field}");
    }
    assert_eq!(rolled.json["replaces"]["id"], old.json["id"]);
    let now = authsome_core::clock::Clock::unix_millis(&world.service.clock);
    let (enabled, revoked, end) = world.at_edges(&old.string("id")).await;
    assert!(enabled && !revoked, "the old key goes on");
    assert!(
        (end.unwrap() - now - 3_600_000).abs() < 1000,
        "for the overlap: {end:?} after {now}"
    );
    assert_eq!(world.at_edges(&rolled.string("id")).await, (true, false, None));
    assert_eq!(world.audited("key.roll").await[0]["newKeyId"], rolled.json["id"]);

    // Rolled again with a longer overlap, the old key does not get its life back.
    let again = world
        .roll(&old.string("id"), json!({ "overlapSeconds": 2_592_000 }))
        .await;
    assert_eq!(
        again.json["replaces"]["expiresAt"],
        rolled.json["replaces"]["expiresAt"]
    );

    // Without an overlap it ends at once, and there is nothing more to roll.
    let at_once = world.roll(&rolled.string("id"), json!({})).await;
    assert_eq!(at_once.status, StatusCode::CREATED);
    let refused = world.roll(&rolled.string("id"), json!({})).await;
    refused.assert_error(409, "conflict");
    assert_eq!(refused.json["error"]["reason"], "not_usable");
    for body in [
        json!({ "overlapSeconds": 2_592_001 }),
        json!({ "overlapSeconds": -1 }),
        json!({ "expiresAt": "2020-01-01T00:00:00Z" }),
    ] {
        world
            .roll(&at_once.string("id"), body)
            .await
            .assert_error(400, "invalid_request");
    }
}

#[tokio::test]
async fn a_key_with_an_end_is_rolled_for_the_same_lifetime() {
    let world = World::new().await;
    let start = authsome_core::clock::Clock::now(&world.service.clock);
    let end = start + time::Duration::days(90);
    let end_text = end.format(&time::format_description::well_known::Rfc3339).unwrap();
    let old = world
        .key(json!({ "name": "Backend", "type": "secret", "expiresAt": end_text }))
        .await;
    world.service.clock.advance(std::time::Duration::from_hours(24 * 60));
    let login = world.service.login("ada@example.com", crate::service::PASSWORD).await;
    let path = format!("{}/{}/roll", world.path, old.string("id"));
    let body = json!({ "overlapSeconds": 86_400 });
    let rolled = world
        .service
        .call(Method::POST, &path, Some(&login.string("token")), Some(body))
        .await;
    assert_eq!(rolled.status, StatusCode::CREATED, "{}", rolled.text);
    let (_, _, new_end) = world.at_edges(&rolled.string("id")).await;
    let wanted = (start + time::Duration::days(150)).unix_timestamp() * 1000;
    assert!((new_end.unwrap() - wanted).abs() < 60_000, "{new_end:?} {wanted}");
}

#[tokio::test]
async fn a_leaked_secret_key_is_revoked_by_whoever_has_it() {
    let world = World::new().await;
    let created = world.key(json!({ "name": "Backend", "type": "secret" })).await;
    let report = json!({ "key": created.string("key"), "url": "https://github.com/acme/shop/blob/main/.env" });
    let answer = world.report(report.clone()).await;
    assert_eq!(
        (answer.status, &answer.json),
        (StatusCode::OK, &json!({ "result": "revoked" })),
        "{}",
        answer.text
    );
    let (_, revoked, _) = world.at_edges(&created.string("id")).await;
    assert!(revoked);
    assert_eq!(world.report(report).await.json["result"], "inactive", "once");
    let audited = world.audited("key.leaked").await;
    assert_eq!(audited.len(), 1);
    assert_eq!(audited[0]["foundAt"], "https://github.com/acme/shop/blob/main/.env");
    assert!(!audited[0].to_string().contains(&created.string("key")));

    // Owners and admins read of it, with nothing in it that the finder wrote.
    let smtp = SmtpServer::start().await.unwrap();
    let _mailer = world.service.mailer(&smtp);
    let soon = std::time::Duration::from_secs(30);
    let letter = smtp.letter_to("ada@example.com", 1, soon).await.unwrap();
    assert!(
        letter.header("subject").unwrap().contains("leaked"),
        "{}",
        letter.text()
    );
    assert!(letter.text().contains("Backend"), "{}", letter.text());
    assert!(!letter.text().contains("github.com"), "{}", letter.text());
    assert!(!letter.text().contains(&created.string("key")));
    assert_eq!(smtp.letters().len(), 1);

    // Public keys are meant to be seen; texts that are no keys say so without a look-up.
    let public = world.key(json!({ "name": "Web", "type": "public" })).await;
    assert_eq!(
        world.report(json!({ "key": public.string("key") })).await.json["result"],
        "public"
    );
    assert!(!world.at_edges(&public.string("id")).await.1);
    for bad in [
        json!({ "key": "sk_live_nonsense" }),
        json!({ "key": "" }),
        json!({ "key": public.string("key"), "url": "ftp://x" }),
    ] {
        world.report(bad).await.assert_error(400, "invalid_request");
    }
}
