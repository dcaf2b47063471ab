//! Operations that are watched, and cancelled.

use axum::body::Body;
use http::{Request, StatusCode, header};
use serde_json::{Value, json};

use crate::service::{Answer, Person, Service};

struct World {
    service: Service,
    ada: Person,
    app: String,
    operation: String,
}

impl World {
    async fn new() -> Self {
        let service = Service::new().await;
        let ada = service.person("ada@example.com").await;
        let workspace = service.workspace(&ada, "free").await;
        let created = service.application(&ada, &workspace, "shop").await;
        Self {
            app: created.string("id"),
            operation: created.string("operationId"),
            service,
            ada,
        }
    }

    async fn execute(&self, statement: &'static str) {
        sqlx::query(statement).execute(&self.service.pool).await.unwrap();
    }

    async fn events(&self, last: Option<&str>) -> Answer {
        let mut request = Request::builder()
            .uri(format!("/api/v1/operations/{}/events", self.operation))
            .header(header::AUTHORIZATION, format!("Bearer {}", self.ada.token));
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        self.service.send(request.body(Body::empty()).unwrap()).await
    }

    async fn cancel(&self) -> Answer {
        let path = format!("/api/v1/operations/{}/cancel", self.operation);
        self.service.post(&path, &self.ada, json!({})).await
    }
}

/// Id, kind and data of each event of a stream.
fn parsed(text: &str) -> Vec<(String, String, Value)> {
    let field = |block: &str, name: &str| {
        let line = block.lines().find_map(|line| {
            line.strip_prefix(name)?
                .strip_prefix(": ")
                .or(line.strip_prefix(name)?.strip_prefix(':'))
        });
        line.unwrap_or_default().to_owned()
    };
    text.split("\n\n")
        .filter(|block| block.contains("data:"))
        .map(|block| {
            (
                field(block, "id"),
                field(block, "event"),
                serde_json::from_str(&field(block, "data")).unwrap(),
            )
        })
        .collect()
}

#[tokio::test]
async fn a_stream_tells_everything_in_its_order_ends_with_the_operation_and_goes_on_where_it_was_cut_off() {
    let world = World::new().await;
    // What happens while somebody watches.
    let happening = async {
        for statement in [
            "UPDATE operations SET status = 'running', attempts = 1, started_at = now()",
            "UPDATE provisioning_steps SET status = 'running', attempts = 1 WHERE step = 'preflight'",
            "UPDATE provisioning_steps SET status = 'done', detail = 'Fine.' WHERE step = 'preflight'",
            "UPDATE operations SET status = 'failed', reason = 'No room', finished_at = now()",
        ] {
            world.execute(statement).await;
        }
    };
    let (stream, ()) = tokio::join!(world.events(None), happening);
    assert_eq!(stream.status, StatusCode::OK);
    assert!(
        stream.headers["content-type"]
            .to_str()
            .unwrap()
            .starts_with("text/event-stream")
    );
    let events = parsed(&stream.text);
    let told: Vec<(String, Value)> = events
        .iter()
        .map(|(_, kind, data)| (kind.clone(), data["status"].clone()))
        .collect();
    assert_eq!(
        told,
        [
            ("operation", "queued"),
            ("operation", "running"),
            ("step", "running"),
            ("step", "done"),
            ("operation", "failed")
        ]
        .map(|(kind, status)| (kind.to_owned(), json!(status)))
    );
    assert_eq!(events[3].2["name"], "preflight");
    assert_eq!(events[3].2["detail"], "Fine.");
    assert_eq!(events[4].2["reason"], "No room");
    assert_eq!(events[4].2["operationId"], world.operation.as_str());

    let rest = parsed(&world.events(Some(&events[2].0)).await.text);
    assert_eq!(rest, events[3..]);
    let over = world.events(Some(&events[4].0)).await;
    assert_eq!((over.status, over.text.as_str()), (StatusCode::NO_CONTENT, ""));
    for bad in ["x", "-1", "1.5"] {
        world.events(Some(bad)).await.assert_error(400, "invalid_request");
    }
}

#[tokio::test]
async fn a_cancelled_operation_is_over_and_its_application_can_be_retried() {
    let world = World::new().await;
    let cancelled = world.cancel().await;
    assert_eq!(cancelled.status, StatusCode::OK, "{}", cancelled.text);
    assert_eq!(cancelled.json["status"], "cancelled");
    let path = format!("/api/v1/applications/{}", world.app);
    let shown = world.service.get(&path, &world.ada).await;
    assert_eq!(shown.json["status"], "failed");
    assert!(shown.json["failure"]["reason"].as_str().unwrap().contains("cancelled"));
    let again = world.cancel().await;
    again.assert_error(409, "conflict");
    assert_eq!(again.json["error"]["reason"], "finished");
    let retried = world
        .service
        .post(&format!("{path}/retry"), &world.ada, json!({}))
        .await;
    assert_eq!(retried.status, StatusCode::ACCEPTED, "{}", retried.text);
    assert_eq!(
        world
            .service
            .count("SELECT count(*) FROM audit_events WHERE action = 'operation.cancel'")
            .await,
        1
    );
}

#[tokio::test]
async fn stopping_is_taken_back_by_its_opposite_only() {
    let world = World::new().await;
    world.execute("UPDATE operations SET kind = 'suspend'").await;
    let refused = world.cancel().await;
    refused.assert_error(409, "conflict");
    assert_eq!(refused.json["error"]["reason"], "not_cancellable");
}
