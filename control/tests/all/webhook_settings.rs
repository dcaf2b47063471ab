//! Webhook endpoints as a team keeps them: tags, what is refused of them, whose they are, and what the audit trail says.

use std::net::Ipv4Addr;

use authsome_control::tasks::webhooks::{WebhookMetrics, WebhookSender};
use authsome_core::clock::{Clock, SystemClock};
use axum::body::Body;
use http::{Method, Request, StatusCode, header};
use prometheus::Registry;
use serde_json::{Value, json};

use crate::name_server::NameServer;
use crate::service::{Answer, Person, Service};

struct World {
    service: Service,
    names: NameServer,
    ada: Person,
    workspace: String,
    app: String,
}

impl World {
    async fn new() -> Self {
        let names = NameServer::start().await;
        let service = Service::asking(names.address).await;
        let (ada, workspace, app) = service.shop("pro").await;
        Self {
            service,
            names,
            ada,
            workspace,
            app,
        }
    }

    fn path(&self, rest: &str) -> String {
        format!("/api/v1/workspaces/{}/webhooks{rest}", self.workspace)
    }

    async fn create(&self, body: Value) -> Answer {
        self.service.post(&self.path(""), &self.ada, body).await
    }

    async fn created(&self, body: Value) -> String {
        let answer = self.create(body).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
        answer.string("id")
    }

    async fn with(&self, method: Method, path: &str, header: (header::HeaderName, &str), body: Body) -> Answer {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::AUTHORIZATION, format!("Bearer {}", self.ada.token))
            .header(header::CONTENT_TYPE, "application/json")
            .header(header.0, header.1);
        self.service.send(request.body(body).unwrap()).await
    }

    async fn changed_from(&self, path: &str, tag: &str, patch: Value) -> Answer {
        let body = Body::from(patch.to_string());
        self.with(Method::PATCH, path, (header::IF_MATCH, tag), body).await
    }
}

fn tag(answer: &Answer) -> String {
    answer.headers[header::ETAG].to_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_endpoint_is_read_by_its_id_and_changed_only_from_the_state_that_was_read() {
    let world = World::new().await;
    let created = world.create(json!({ "url": "https://hooks.example/" })).await;
    let one = world.path(&format!("/{}", created.string("id")));
    let read = world.service.get(&one, &world.ada).await;
    assert_eq!(read.status, StatusCode::OK, "{}", read.text);
    let mut expected = created.json.clone();
    expected.as_object_mut().unwrap().remove("secret");
    assert_eq!(read.json, expected);

    let changed = world
        .changed_from(&one, &tag(&read), json!({ "events": ["key.leaked"] }))
        .await;
    assert_eq!(changed.status, StatusCode::OK, "{}", changed.text);
    assert_ne!(tag(&changed), tag(&read));
    assert_eq!(tag(&world.service.get(&one, &world.ada).await), tag(&changed));
    world
        .changed_from(&one, &tag(&read), json!({ "events": [] }))
        .await
        .assert_error(412, "conflict");
    let refused = world.service.get(&one, &world.ada).await;
    assert_eq!(refused.json["events"], json!(["key.leaked"]));
    let any = world.changed_from(&one, "*", json!({ "enabled": false })).await;
    assert_eq!(any.json["enabled"], false, "{}", any.text);

    let eve = world.service.person("eve@example.com").await;
    world.service.get(&one, &eve).await.assert_error(404, "not_found");
    let unheard_of = world.path("/whk_01h455vb4pex5vsknk084sn02q");
    world
        .service
        .get(&unheard_of, &world.ada)
        .await
        .assert_error(404, "not_found");
}

#[tokio::test]
async fn what_a_client_has_already_is_not_sent_again() {
    let world = World::new().await;
    let id = world.created(json!({ "url": "https://hooks.example/" })).await;
    for path in [
        world.path(&format!("/{id}")),
        format!("/api/v1/applications/{}", world.app),
        format!("/api/v1/workspaces/{}", world.workspace),
    ] {
        let read = world.service.get(&path, &world.ada).await;
        let known = tag(&read);
        let asked = async |method: Method, tag: &str| {
            world
                .with(method, &path, (header::IF_NONE_MATCH, tag), Body::empty())
                .await
        };
        for method in [Method::GET, Method::HEAD] {
            let again = asked(method, &known).await;
            assert_eq!(again.status, StatusCode::NOT_MODIFIED, "{path}");
            assert_eq!((tag(&again), again.text.as_str()), (known.clone(), ""), "{path}");
            assert!(!again.headers.contains_key(header::CONTENT_TYPE), "{path}");
            assert!(again.headers.contains_key("x-request-id"), "{path}");
        }
        let other = asked(Method::GET, "\"another\"").await;
        assert_eq!((other.status, &other.json), (StatusCode::OK, &read.json), "{path}");
    }
    // Whoever may not see it learns nothing by a tag.
    let eve = world.service.person("eve@example.com").await;
    let request = Request::builder()
        .uri(format!("/api/v1/applications/{}", world.app))
        .header(header::AUTHORIZATION, format!("Bearer {}", eve.token))
        .header(header::IF_NONE_MATCH, "*");
    let answer = world.service.send(request.body(Body::empty()).unwrap()).await;
    answer.assert_error(404, "not_found");
}

#[tokio::test]
async fn urls_are_kept_as_they_were_meant_and_events_once() {
    let world = World::new().await;
    for url in [
        " https://hooks.example/",
        "https://hooks.example/\n",
        "https://hooks.example/a b",
        "https://hooks.ex\tample/",
        "https://hooks.example/\u{a0}",
    ] {
        let answer = world.create(json!({ "url": url, "events": ["nothing"] })).await;
        answer.assert_error(400, "invalid_request");
        assert!(
            answer.field("url").contains("without spaces"),
            "{url:?}: {}",
            answer.text
        );
        assert!(answer.field("events[0]").contains("must be one of"), "{}", answer.text);
    }
    let events = ["key.leaked", "host.lost", "key.leaked"];
    let id = world
        .created(json!({ "url": "https://hooks.example/", "events": events }))
        .await;
    let one = world.path(&format!("/{id}"));
    let read = world.service.get(&one, &world.ada).await;
    assert_eq!(read.json["events"], json!(["key.leaked", "host.lost"]));
    let again = world.service.patch(&one, &world.ada, json!({ "events": events })).await;
    assert_eq!(tag(&again), tag(&read), "nothing has changed");
}

#[tokio::test]
async fn http_leads_only_to_networks_that_the_operator_allows_it_for() {
    let world = World::new().await;
    let refused = world.create(json!({ "url": "http://8.8.8.8/" })).await;
    refused.assert_error(400, "invalid_request");
    assert!(refused.field("url").contains("https://"), "{}", refused.text);
    world.created(json!({ "url": "http://127.0.0.1:1/" })).await;

    // By name: looked at when it is resolved. Nothing is sent, so nobody needs to listen there.
    world.names.addresses("public.example", &[Ipv4Addr::new(8, 8, 8, 8)]);
    world.created(json!({ "url": "http://public.example/" })).await;
    sqlx::query("UPDATE operations SET status = 'succeeded', finished_at = now()")
        .execute(&world.service.pool)
        .await
        .unwrap();
    world.service.clock.set(SystemClock.now() + time::Duration::seconds(1));
    let sender = WebhookSender {
        app: world.service.app.clone(),
        metrics: WebhookMetrics::register(&Registry::new()).unwrap(),
    };
    assert_eq!(sender.look().await.unwrap(), 2);
    let error: String = sqlx::query_scalar(
        "SELECT d.error FROM webhook_deliveries d JOIN webhook_endpoints e ON e.id = d.endpoint_id
         WHERE e.url = 'http://public.example/'",
    )
    .fetch_one(&world.service.pool)
    .await
    .unwrap();
    assert!(error.contains("http://"), "{error}");
}

#[tokio::test]
async fn the_audit_trail_names_the_endpoint_itself() {
    let world = World::new().await;
    let id = world
        .created(json!({ "url": "https://hooks.example/", "applicationId": world.app }))
        .await;
    let one = world.path(&format!("/{id}"));
    world.service.patch(&one, &world.ada, json!({ "enabled": false })).await;
    world
        .service
        .post(&format!("{one}/rotate-secret"), &world.ada, json!({}))
        .await;
    world.service.delete(&one, &world.ada).await;
    let path = format!("/api/v1/workspaces/{}/audit?resourceId={id}", world.workspace);
    let trail = world.service.get(&path, &world.ada).await;
    let seen: Vec<_> = trail.json["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| {
            assert_eq!(
                (&event["resource"], &event["applicationId"]),
                (&json!("webhook"), &json!(world.app))
            );
            event["action"].as_str().unwrap()
        })
        .collect();
    let expected = [
        "webhook.remove",
        "webhook.rotate_secret",
        "webhook.update",
        "webhook.create",
    ];
    assert_eq!(seen, expected, "{}", trail.text);
    assert!(!trail.text.contains("whsec_"), "{}", trail.text);
}

#[tokio::test]
async fn an_application_has_endpoints_of_its_own() {
    let world = World::new().await;
    let path = format!("/api/v1/applications/{}/webhooks", world.app);
    let body = json!({ "url": "https://hooks.example/", "events": ["key.leaked"] });
    let created = world.service.post(&path, &world.ada, body).await;
    assert_eq!(created.status, StatusCode::CREATED, "{}", created.text);
    assert_eq!(created.string("applicationId"), world.app);
    assert!(created.string("secret").starts_with("whsec_"));
    world.created(json!({ "url": "https://hooks.example/whole" })).await;
    let listed = world.service.get(&path, &world.ada).await;
    assert_eq!(
        (&listed.json["total"], &listed.json["data"][0]["id"]),
        (&json!(1), &created.json["id"])
    );
    let all = world.service.get(&world.path(""), &world.ada).await;
    assert_eq!(all.json["total"], 2, "{}", all.text);
    let unknown = json!({ "url": "https://hooks.example/", "applicationId": world.app });
    let refused = world.service.post(&path, &world.ada, unknown).await;
    assert_eq!(refused.field("applicationId"), "is not known", "{}", refused.text);
    let eve = world.service.person("eve@example.com").await;
    world.service.get(&path, &eve).await.assert_error(404, "not_found");
}
