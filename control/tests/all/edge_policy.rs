//! What a team changes of its application at the edge.

use axum::body::Body;
use http::{Method, Request, StatusCode, header};
use serde_json::{Value, json};

use crate::service::{Answer, Person, Service};

struct World {
    service: Service,
    owner: Person,
    app: String,
}

impl World {
    async fn new() -> Self {
        let service = Service::new().await;
        let owner = service.person("owner@x.io").await;
        let workspace = service.workspace(&owner, "pro").await;
        let app = service.application(&owner, &workspace, "shop").await.string("id");
        Self { service, owner, app }
    }

    fn path(&self) -> String {
        format!("/api/v1/applications/{}", self.app)
    }

    async fn patch(&self, edge: Value) -> Answer {
        let body = json!({ "edge": edge });
        self.service
            .call(Method::PATCH, &self.path(), Some(&self.owner.token), Some(body))
            .await
    }

    async fn purge(&self, body: Value) -> Answer {
        let path = format!("{}/cache/purge", self.path());
        self.service
            .call(Method::POST, &path, Some(&self.owner.token), Some(body))
            .await
    }

    async fn version(&self) -> i64 {
        sqlx::query_scalar("SELECT version FROM edge_apps WHERE id = $1")
            .bind(&self.app)
            .fetch_one(&self.service.pool)
            .await
            .unwrap()
    }

    async fn purges(&self) -> Value {
        sqlx::query_scalar("SELECT cache_purges FROM edge_apps WHERE id = $1")
            .bind(&self.app)
            .fetch_one(&self.service.pool)
            .await
            .unwrap()
    }

    async fn audited(&self, action: &str) -> Vec<Value> {
        sqlx::query_scalar(
            "SELECT changes FROM audit_events WHERE action = $1 AND application_id = $2 ORDER BY created_at",
        )
        .bind(action)
        .bind(&self.app)
        .fetch_all(&self.service.pool)
        .await
        .unwrap()
    }
}

#[tokio::test]
async fn settings_are_merged_shown_audited_and_sent_to_the_edges() {
    let world = World::new().await;
    let shown = world.service.get(&world.path(), &world.owner).await;
    let defaults = json!({
        "origins": [], "strictSeconds": null, "secretFromBrowsers": false, "pathPolicy": [],
        "cachePolicy": { "enabled": true, "rules": [] },
    });
    assert_eq!(shown.json["edge"], defaults);
    assert_eq!(
        shown.headers["etag"],
        format!("\"1.{}\"", world.version().await).as_str()
    );

    let before = world.version().await;
    let first = world
        .patch(json!({
            "origins": ["https://Shop.Example:443/", "https://shop.example", "http://localhost:3000"],
            "strictSeconds": 30,
            "pathPolicy": [
                { "methods": ["GET"], "pattern": "/v1/catalogue/**", "class": "open" },
                { "pattern": "/v1/reports/*", "class": "secret", "scope": "audit:read" },
            ],
            "cachePolicy": { "rules": [{ "pattern": "/v1/client-config", "ttlSeconds": 60 }] },
        }))
        .await;
    assert_eq!(first.status, StatusCode::OK, "{}", first.text);
    let edge = &first.json["edge"];
    assert_eq!(
        edge["origins"],
        json!(["https://shop.example", "http://localhost:3000"])
    );
    assert_eq!(edge["cachePolicy"]["enabled"], true);
    assert_eq!(world.version().await, before + 1, "one change, one version");
    assert_eq!(first.headers["etag"], format!("\"1.{}\"", before + 1).as_str());

    // What is not named stays, what is null goes back to its default.
    let second = world
        .patch(json!({ "strictSeconds": null, "secretFromBrowsers": true, "cachePolicy": { "enabled": false } }))
        .await;
    let edge = &second.json["edge"];
    assert_eq!(
        (&edge["strictSeconds"], &edge["secretFromBrowsers"]),
        (&Value::Null, &json!(true))
    );
    assert_eq!(edge["cachePolicy"]["rules"][0]["ttlSeconds"], 60);
    assert_eq!(edge["pathPolicy"].as_array().unwrap().len(), 2);
    assert_eq!(world.service.get(&world.path(), &world.owner).await.json["edge"], *edge);

    let audited = world.audited("application.update").await;
    assert_eq!(audited.len(), 2);
    assert_eq!(audited[1]["edge"]["strictSeconds"], json!({ "from": 30, "to": null }));
    assert_eq!(audited[1]["edge"].get("origins"), None, "only what changed");

    // The same again changes nothing.
    let version = world.version().await;
    assert_eq!(
        world.patch(json!({ "secretFromBrowsers": true })).await.status,
        StatusCode::OK
    );
    assert_eq!(world.version().await, version);
    assert_eq!(world.audited("application.update").await.len(), 2);
}

#[tokio::test]
async fn what_is_not_allowed_is_named_by_its_path_and_nothing_is_changed() {
    let world = World::new().await;
    let before = world.version().await;
    let many = vec![json!({ "pattern": "/a", "bypass": true }); 33];
    for (edge, path) in [
        (
            json!({ "origins": ["https://ok.example", "nowhere"] }),
            "edge.origins[1]",
        ),
        (json!({ "origins": ["*"] }), "edge.origins[0]"),
        (json!({ "origins": vec!["https://a.example"; 101] }), "edge.origins"),
        (json!({ "origins": "https://a.example" }), "edge.origins"),
        (json!({ "strictSeconds": 4 }), "edge.strictSeconds"),
        (json!({ "strictSeconds": 86_401 }), "edge.strictSeconds"),
        (json!({ "strictSeconds": -1 }), "edge.strictSeconds"),
        (json!({ "secretFromBrowsers": "yes" }), "edge.secretFromBrowsers"),
        (json!({ "limits": { "burst": 5 } }), "edge.limits"),
        (
            json!({ "pathPolicy": [{ "pattern": "a", "class": "open" }] }),
            "edge.pathPolicy[0].pattern",
        ),
        (
            json!({ "pathPolicy": [{ "pattern": "/a/../b", "class": "open" }] }),
            "edge.pathPolicy[0].pattern",
        ),
        (
            json!({ "pathPolicy": [{ "pattern": "/a", "class": "free" }] }),
            "edge.pathPolicy[0].class",
        ),
        (
            json!({ "pathPolicy": [{ "pattern": "/a", "class": "open", "methods": ["get"] }] }),
            "edge.pathPolicy[0].methods",
        ),
        (
            json!({ "pathPolicy": [{ "pattern": "/a", "class": "open", "scope": "users:read" }] }),
            "edge.pathPolicy[0].scope",
        ),
        (
            json!({ "pathPolicy": [{ "pattern": "/a", "class": "secret", "scope": "all" }] }),
            "edge.pathPolicy[0].scope",
        ),
        (
            json!({ "pathPolicy": [{ "pattern": "/a", "class": "open", "more": 1 }] }),
            "edge.pathPolicy[0].more",
        ),
        (json!({ "cachePolicy": { "rules": many } }), "edge.cachePolicy.rules"),
        (
            json!({ "cachePolicy": { "rules": [{ "pattern": "/a", "ttlSeconds": 0 }] } }),
            "edge.cachePolicy.rules[0].ttlSeconds",
        ),
        (
            json!({ "cachePolicy": { "rules": [{ "pattern": "/a" }] } }),
            "edge.cachePolicy.rules[0]",
        ),
        (json!({ "cachePolicy": { "more": 1 } }), "edge.cachePolicy.more"),
        (json!([]), "edge"),
    ] {
        let answer = world.patch(edge.clone()).await;
        answer.assert_error(400, "invalid_request");
        let fields = answer.json["error"]["details"]["fields"].as_object();
        assert!(
            fields.is_some_and(|fields| fields.contains_key(path)),
            "{edge}: {path} is not named in {}",
            answer.text
        );
    }
    let unknown = world
        .service
        .call(
            Method::PATCH,
            &world.path(),
            Some(&world.owner.token),
            Some(json!({ "colour": "red" })),
        )
        .await;
    unknown.assert_error(400, "invalid_request");
    assert_eq!(world.version().await, before);
    assert!(world.audited("application.update").await.is_empty());
}

#[tokio::test]
async fn of_two_changes_made_from_the_same_state_one_is_refused() {
    let world = World::new().await;
    let etag = world.service.get(&world.path(), &world.owner).await.headers["etag"].clone();
    let with = async |etag: &str, edge: Value| {
        let request = Request::builder()
            .method(Method::PATCH)
            .uri(world.path())
            .header(header::AUTHORIZATION, format!("Bearer {}", world.owner.token))
            .header(header::CONTENT_TYPE, "application/merge-patch+json")
            .header(header::IF_MATCH, etag)
            .body(Body::from(json!({ "edge": edge }).to_string()));
        world.service.send(request.unwrap()).await
    };
    let etag = etag.to_str().unwrap();
    let (one, other) = tokio::join!(
        with(etag, json!({ "strictSeconds": 10 })),
        with(etag, json!({ "strictSeconds": 20 }))
    );
    let mut statuses = [one.status.as_u16(), other.status.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 412], "{} {}", one.text, other.text);
    assert_eq!(with("*", json!({ "strictSeconds": 40 })).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_purge_is_kept_by_the_databases_clock_and_bounded() {
    let world = World::new().await;
    let answer = world.purge(json!({ "tags": ["catalogue", "users:42"] })).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.text);
    assert!(answer.json["purgedAt"].is_string());
    let purges = world.purges().await;
    assert!(purges["tags"]["catalogue"].is_i64() && purges["tags"]["users:42"].is_i64());
    assert_eq!(purges.get("allMs"), None);

    // More tags than are kept: the oldest purges become one of everything.
    let tags: Vec<String> = (0..64).map(|n| format!("t{n}")).collect();
    assert_eq!(world.purge(json!({ "tags": tags })).await.status, StatusCode::ACCEPTED);
    let purges = world.purges().await;
    assert!(purges["allMs"].is_i64(), "{purges}");
    assert!(purges["tags"].as_object().is_none_or(|tags| tags.len() <= 64));

    let version = world.version().await;
    assert_eq!(world.purge(json!({})).await.status, StatusCode::ACCEPTED);
    assert_eq!(world.version().await, version + 1);
    assert_eq!(
        world.purges().await.get("tags"),
        None,
        "all of it is more than each of it"
    );
    assert_eq!(world.audited("application.purge_cache").await.len(), 3);

    for (body, path) in [
        (json!({ "tags": [] }), "tags"),
        (json!({ "tags": ["a b"] }), "tags[0]"),
        (json!({ "tags": ["ok", ""] }), "tags[1]"),
        (json!({ "tags": vec!["a"; 65] }), "tags"),
    ] {
        let answer = world.purge(body).await;
        answer.assert_error(400, "invalid_request");
        assert!(
            answer.json["error"]["details"]["fields"].get(path).is_some(),
            "{}",
            answer.text
        );
    }
    world
        .purge(json!({ "all": true }))
        .await
        .assert_error(400, "invalid_request");
}

#[tokio::test]
async fn an_application_that_is_being_deleted_is_not_changed() {
    let world = World::new().await;
    sqlx::query("UPDATE applications SET status = 'deleting', deleted_at = now() WHERE id = $1")
        .bind(&world.app)
        .execute(&world.service.pool)
        .await
        .unwrap();
    world
        .patch(json!({ "strictSeconds": 30 }))
        .await
        .assert_error(409, "conflict");
    world.purge(json!({})).await.assert_error(409, "conflict");
}
