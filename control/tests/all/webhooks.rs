//! Webhooks: what a receiver gets, what becomes of one that fails, and where no request ever goes.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use authsome_control::tasks::webhooks::{WebhookMetrics, WebhookSender};
use authsome_control::webhook::signature;
use authsome_core::clock::{Clock, SystemClock};
use authsome_testkit::wait_for;
use axum::Router;
use axum::extract::State;
use axum::routing::post;
use http::{HeaderMap, StatusCode};
use prometheus::Registry;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::name_server::NameServer;
use crate::service::{Answer, Person, Service};

#[derive(Clone)]
struct Heard {
    status: Arc<Mutex<StatusCode>>,
    requests: Arc<Mutex<Vec<(HeaderMap, String)>>>,
}

/// A customer's server.
struct Receiver {
    heard: Heard,
    port: u16,
    serving: JoinHandle<()>,
}

impl Receiver {
    async fn start() -> Self {
        let heard = Heard {
            status: Arc::new(Mutex::new(StatusCode::OK)),
            requests: Arc::default(),
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let take = async |State(heard): State<Heard>, headers: HeaderMap, body: String| {
            heard.requests.lock().unwrap().push((headers, body));
            let status = *heard.status.lock().unwrap();
            (status, [("location", "http://127.0.0.1:1/")])
        };
        let router = Router::new().route("/hook", post(take)).with_state(heard.clone());
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { heard, port, serving }
    }

    fn say(&self, status: StatusCode) {
        *self.heard.status.lock().unwrap() = status;
    }

    fn requests(&self) -> Vec<(HeaderMap, String)> {
        self.heard.requests.lock().unwrap().clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

struct World {
    service: Service,
    names: NameServer,
    receiver: Receiver,
    sender: WebhookSender,
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
            sender: WebhookSender {
                app: service.app.clone(),
                metrics: WebhookMetrics::register(&Registry::new()).unwrap(),
            },
            receiver: Receiver::start().await,
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

    async fn endpoint(&self, events: &[&str]) -> Answer {
        let url = format!("http://127.0.0.1:{}/hook", self.receiver.port);
        let created = self.create(json!({ "url": url, "events": events })).await;
        assert_eq!(created.status, StatusCode::CREATED, "{}", created.text);
        created
    }

    /// As if the provisioner had built the application.
    async fn provisioned(&self) {
        sqlx::query("UPDATE operations SET status = 'succeeded', finished_at = now() WHERE application_id = $1")
            .bind(&self.app)
            .execute(&self.service.pool)
            .await
            .unwrap();
    }

    async fn deliveries(&self, endpoint: &str) -> Value {
        let answer = self
            .service
            .get(&self.path(&format!("/{endpoint}/deliveries")), &self.ada)
            .await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        answer.json["data"].clone()
    }

    /// What is due has its time by the database's clock.
    async fn send(&self) -> usize {
        let real = SystemClock.now();
        if self.service.clock.now() < real {
            self.service.clock.set(real);
        }
        self.service.clock.advance(Duration::from_secs(1));
        self.sender.look().await.unwrap()
    }
}

fn header(headers: &HeaderMap, name: &str) -> String {
    headers[name].to_str().unwrap().to_owned()
}

#[tokio::test]
async fn what_happens_is_sent_once_signed_and_logged() {
    let world = World::new().await;
    let created = world.endpoint(&["application.provisioned"]).await;
    let other = world.endpoint(&["key.leaked"]).await;
    world.provisioned().await;
    assert_eq!(world.send().await, 1);
    assert_eq!(world.send().await, 0, "once");
    let requests = world.receiver.requests();
    assert_eq!(requests.len(), 1);
    let (headers, body) = &requests[0];
    let sent: Value = serde_json::from_str(body).unwrap();
    assert_eq!(sent["event"], "application.provisioned");
    assert_eq!(sent["data"]["applicationId"], world.app.as_str());
    assert!(sent["timestamp"].is_string());
    let (id, timestamp) = (header(headers, "webhook-id"), header(headers, "webhook-timestamp"));
    let expected = signature::sign(
        &[created.string("secret").into()],
        &id,
        timestamp.parse().unwrap(),
        body,
    );
    assert_eq!(header(headers, "webhook-signature"), expected);
    let log = world.deliveries(&created.string("id")).await;
    assert_eq!(
        (&log[0]["status"], &log[0]["responseStatus"], &log[0]["messageId"]),
        (&json!("succeeded"), &json!(200), &json!(id))
    );
    assert_eq!(world.deliveries(&other.string("id")).await, json!([]));
    let listed = world.service.get(&world.path(""), &world.ada).await;
    assert!(!listed.text.contains("whsec_"), "the secret is shown once");

    // Again, as a delivery of its own with the same id.
    let path = world.path(&format!(
        "/{}/deliveries/{}/replay",
        created.string("id"),
        log[0]["id"].as_str().unwrap()
    ));
    let replayed = world.service.post(&path, &world.ada, json!({})).await;
    assert_eq!(replayed.status, StatusCode::ACCEPTED, "{}", replayed.text);
    assert_eq!(world.send().await, 1);
    assert_eq!(header(&world.receiver.requests()[1].0, "webhook-id"), id);
    assert_eq!(
        world.deliveries(&created.string("id")).await.as_array().unwrap().len(),
        2
    );
}

#[tokio::test]
async fn a_server_that_fails_is_tried_again_and_one_that_wants_no_more_is_left_alone() {
    let world = World::new().await;
    let id = world.endpoint(&[]).await.string("id");
    for refusal in [StatusCode::INTERNAL_SERVER_ERROR, StatusCode::FOUND] {
        world.receiver.say(refusal);
        if world.deliveries(&id).await == json!([]) {
            world.provisioned().await;
        }
        assert_eq!(world.send().await, 1);
        let log = world.deliveries(&id).await;
        assert_eq!(
            (&log[0]["status"], &log[0]["responseStatus"]),
            (&json!("pending"), &json!(refusal.as_u16()))
        );
        assert!(
            log[0]["error"]
                .as_str()
                .unwrap()
                .contains(&refusal.as_u16().to_string())
        );
        assert_eq!(world.send().await, 0, "not at once");
        world.service.clock.advance(Duration::from_mins(1));
    }
    world.receiver.say(StatusCode::NO_CONTENT);
    assert_eq!(world.send().await, 1);
    let log = world.deliveries(&id).await;
    assert_eq!(
        (&log[0]["status"], &log[0]["attempts"], &log[0]["error"]),
        (&json!("succeeded"), &json!(3), &Value::Null)
    );

    world.receiver.say(StatusCode::GONE);
    let path = world.path(&format!("/{id}/deliveries/{}/replay", log[0]["id"].as_str().unwrap()));
    world.service.post(&path, &world.ada, json!({})).await;
    world.send().await;
    let listed = world.service.get(&world.path(""), &world.ada).await;
    assert_eq!(listed.json["data"][0]["enabled"], false);
    assert!(
        listed.json["data"][0]["disabledReason"]
            .as_str()
            .unwrap()
            .contains("410")
    );
    world.service.post(&path, &world.ada, json!({})).await;
    assert_eq!(world.send().await, 0);
}

#[tokio::test]
async fn a_delivery_is_given_up_after_about_a_day() {
    let world = World::new().await;
    let id = world.endpoint(&[]).await.string("id");
    world.receiver.say(StatusCode::BAD_GATEWAY);
    world.provisioned().await;
    for _ in 0..12 {
        assert_eq!(world.send().await, 1);
        world.service.clock.advance(Duration::from_hours(6));
    }
    assert_eq!(world.send().await, 0);
    let status: String = sqlx::query_scalar("SELECT status FROM webhook_deliveries WHERE endpoint_id = $1")
        .bind(&id)
        .fetch_one(&world.service.pool)
        .await
        .unwrap();
    assert_eq!(status, "failed");
}

#[tokio::test]
async fn a_new_secret_signs_beside_the_old_one_for_the_overlap() {
    let world = World::new().await;
    let created = world.endpoint(&[]).await;
    let path = world.path(&format!("/{}/rotate-secret", created.string("id")));
    let rotated = world
        .service
        .post(&path, &world.ada, json!({ "overlapSeconds": 600 }))
        .await;
    assert_eq!(rotated.status, StatusCode::OK, "{}", rotated.text);
    world.provisioned().await;
    world.send().await;
    let (headers, body) = world.receiver.requests().remove(0);
    let (id, timestamp) = (
        header(&headers, "webhook-id"),
        header(&headers, "webhook-timestamp").parse().unwrap(),
    );
    let both = [rotated.string("secret").into(), created.string("secret").into()];
    assert_eq!(
        header(&headers, "webhook-signature"),
        signature::sign(&both, &id, timestamp, &body)
    );

    world.service.clock.advance(Duration::from_mins(11));
    let log = world.deliveries(&created.string("id")).await;
    let path = world.path(&format!(
        "/{}/deliveries/{}/replay",
        created.string("id"),
        log[0]["id"].as_str().unwrap()
    ));
    world.service.post(&path, &world.ada, json!({})).await;
    world.send().await;
    let (headers, body) = world.receiver.requests().remove(1);
    let timestamp = header(&headers, "webhook-timestamp").parse().unwrap();
    assert_eq!(
        header(&headers, "webhook-signature"),
        signature::sign(&both[..1], &id, timestamp, &body)
    );
}

#[tokio::test]
async fn no_request_goes_to_an_internal_address_however_it_is_written() {
    let world = World::new().await;
    for (url, field) in [
        ("http://10.0.0.1/", "url"),
        ("https://169.254.169.254/latest/meta-data", "url"),
        ("https://[::1]/", "url"),
        ("https://[::ffff:10.0.0.1]/", "url"),
        ("https://2130706434/", "url"),
        ("https://0x7f.2/", "url"),
        ("ftp://hooks.example/", "url"),
        ("https://user:password@hooks.example/", "url"),
        ("nonsense", "url"),
    ] {
        let answer = world.create(json!({ "url": url })).await;
        answer.assert_error(400, "invalid_request");
        assert!(!answer.field(field).is_empty(), "{url}: {}", answer.text);
    }
    world
        .create(json!({ "url": "https://hooks.example/", "events": ["user.created"] }))
        .await
        .assert_error(400, "invalid_request");
    world
        .create(json!({ "url": "https://hooks.example/", "secret": "short" }))
        .await
        .assert_error(400, "invalid_request");

    // By name: looked at when it is resolved, and one bad address is enough.
    world.names.addresses("inside.example", &[Ipv4Addr::new(10, 0, 0, 1)]);
    world
        .names
        .addresses("half.example", &[Ipv4Addr::LOCALHOST, Ipv4Addr::new(10, 0, 0, 1)]);
    for host in ["inside.example", "half.example"] {
        let url = format!("http://{host}:{}/hook", world.receiver.port);
        assert_eq!(world.create(json!({ "url": url })).await.status, StatusCode::CREATED);
    }
    world.names.addresses("good.example", &[Ipv4Addr::LOCALHOST]);
    let url = format!("http://good.example:{}/hook", world.receiver.port);
    world.create(json!({ "url": url })).await;
    world.provisioned().await;
    assert_eq!(world.send().await, 3);
    assert_eq!(world.receiver.requests().len(), 1, "only the good one");
    let errors: Vec<String> = sqlx::query_scalar("SELECT error FROM webhook_deliveries WHERE status = 'pending'")
        .fetch_all(&world.service.pool)
        .await
        .unwrap();
    assert_eq!(errors.len(), 2);
    assert!(errors.iter().all(|error| error.contains("not public")), "{errors:?}");
}

#[tokio::test]
async fn an_endpoint_is_changed_and_removed_and_belongs_to_its_workspace() {
    let world = World::new().await;
    let id = world.endpoint(&[]).await.string("id");
    let one = world.path(&format!("/{id}"));
    let changed = world
        .service
        .patch(&one, &world.ada, json!({ "events": ["key.leaked"], "enabled": false }))
        .await;
    assert_eq!(
        (&changed.json["events"], &changed.json["enabled"]),
        (&json!(["key.leaked"]), &json!(false))
    );
    world.provisioned().await;
    assert_eq!(world.send().await, 0);
    world
        .service
        .patch(&one, &world.ada, json!({ "url": "http://10.0.0.1/" }))
        .await
        .assert_error(400, "invalid_request");
    let eve = world.service.person("eve@example.com").await;
    let theirs = world.service.workspace(&eve, "free").await;
    let through_theirs = format!("/api/v1/workspaces/{theirs}/webhooks/{id}");
    world
        .service
        .patch(&through_theirs, &eve, json!({ "enabled": true }))
        .await
        .assert_error(404, "not_found");
    world
        .service
        .delete(&through_theirs, &eve)
        .await
        .assert_error(404, "not_found");
    let foreign = json!({ "url": "https://hooks.example/", "applicationId": world.app });
    let path = format!("/api/v1/workspaces/{theirs}/webhooks");
    world
        .service
        .post(&path, &eve, foreign)
        .await
        .assert_error(400, "invalid_request");
    assert_eq!(
        world.service.delete(&one, &world.ada).await.status,
        StatusCode::NO_CONTENT
    );
    world
        .service
        .delete(&one, &world.ada)
        .await
        .assert_error(404, "not_found");
}

#[tokio::test]
async fn servers_that_never_answer_delay_no_delivery_of_another_workspace() {
    let world = World::new().await;
    // Connections are accepted by the operating system, and nobody ever says a word.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://127.0.0.1:{}/hook", silent.local_addr().unwrap().port());
    for _ in 0..12 {
        let created = world
            .create(json!({ "url": url, "events": ["application.provisioned"] }))
            .await;
        assert_eq!(created.status, StatusCode::CREATED, "{}", created.text);
    }
    let bob = world.service.person("bob@example.com").await;
    let other = world.service.workspace(&bob, "pro").await;
    let app = world.service.application(&bob, &other, "shop").await.string("id");
    let url = format!("http://127.0.0.1:{}/hook", world.receiver.port);
    let body = json!({ "url": url, "events": ["application.provisioned"] });
    let path = format!("/api/v1/workspaces/{other}/webhooks");
    assert_eq!(world.service.post(&path, &bob, body).await.status, StatusCode::CREATED);

    world.service.clock.set(SystemClock.now());
    world.provisioned().await;
    let stop = CancellationToken::new();
    let sending = tokio::spawn(world.sender.clone().run(stop.clone()));
    let begun = async || {
        let begun: i64 = sqlx::query_scalar("SELECT count(*) FROM webhook_deliveries WHERE attempts > 0")
            .fetch_one(&world.service.pool)
            .await
            .unwrap();
        (begun == 8).then_some(()).ok_or(begun)
    };
    world.service.clock.advance(Duration::from_hours(1));
    wait_for(
        "as many silent servers to be asked as a workspace may ask at a time",
        Duration::from_secs(10),
        begun,
    )
    .await
    .unwrap();
    sqlx::query("UPDATE operations SET status = 'succeeded', finished_at = now() WHERE application_id = $1")
        .bind(&app)
        .execute(&world.service.pool)
        .await
        .unwrap();
    // An attempt at a silent server takes fifteen seconds.
    wait_for("the other workspace's event", Duration::from_secs(10), async || {
        (world.receiver.requests().len() == 1).then_some(())
    })
    .await
    .unwrap();
    stop.cancel();
    sending.await.unwrap().unwrap();
}
