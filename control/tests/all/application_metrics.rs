//! Metrics of an application: the edge's counters, and a server that speaks the HTTP API of Prometheus.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use authsome_control::instance_logs::InstanceLogs;
use authsome_control::time_series::{Prometheus, PrometheusSettings};
use authsome_core::clock::Clock;
use authsome_core::secret::SecretUrl;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::post;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use crate::service::{Answer, Person, Service};

/// What the server does with a question.
#[derive(Clone, Copy, Default)]
enum Mood {
    #[default]
    Answers,
    Hangs,
    Fails,
    Babbles,
    NeverEnds,
    /// Answers all questions but those about memory.
    Partly,
}

#[derive(Clone, Default)]
struct Server {
    mood: Arc<Mutex<Mood>>,
    asked: Arc<Mutex<Vec<(String, String)>>>,
}

impl Server {
    async fn start() -> (Self, String) {
        let server = Self::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new()
            .route("/prom/api/v1/query_range", post(answer))
            .with_state(server.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (server, address.to_string())
    }

    fn is(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }
}

/// `POST /api/v1/query_range` as <https://prometheus.io/docs/prometheus/latest/querying/api/> has it: two points, at the start and
/// at the end.
async fn answer(State(server): State<Server>, headers: HeaderMap, body: Bytes) -> axum::response::Response {
    let form: Vec<(String, String)> = url::form_urlencoded::parse(&body).into_owned().collect();
    let field = |name: &str| form.iter().find(|(key, _)| key == name).unwrap().1.clone();
    let query = field("query");
    let credentials = headers
        .get("authorization")
        .map(|value| value.to_str().unwrap().to_owned());
    server
        .asked
        .lock()
        .unwrap()
        .push((query.clone(), credentials.unwrap_or_default()));
    let mood = *server.mood.lock().unwrap();
    let value = match () {
        () if query.contains("status=~") => "2",
        () if query.contains("_count") => "40.4",
        () if query.contains("histogram_quantile(0.5,") => "0.01",
        () if query.contains("histogram_quantile") => "0.25",
        () if query.contains("cpu") => "0.75",
        () => "1048576",
    };
    match mood {
        Mood::Hangs => std::future::pending().await,
        Mood::Fails => (StatusCode::SERVICE_UNAVAILABLE, "x").into_response(),
        Mood::Partly if query.contains("memory") => (StatusCode::UNPROCESSABLE_ENTITY, "x").into_response(),
        Mood::Babbles => "<html>".into_response(),
        Mood::NeverEnds => "x".repeat(4 * 1024 * 1024).into_response(),
        Mood::Answers | Mood::Partly => {
            let at = |name: &str| field(name).parse::<f64>().unwrap();
            let values = json!([[at("start"), value], [at("end"), value]]);
            axum::Json(json!({ "status": "success", "data": { "resultType": "matrix",
                "result": [{ "metric": {}, "values": values }] } }))
            .into_response()
        }
    }
}

struct World {
    service: Service,
    server: Server,
    ada: Person,
    app: String,
}

impl World {
    async fn new() -> Self {
        let (server, address) = Server::start().await;
        let settings = PrometheusSettings {
            url: SecretUrl::parse(&format!("http://ada:p%40ss@{address}/prom/")).unwrap(),
            token: None,
            timeout: Duration::from_secs(3),
            request_histogram: "http_request_duration_seconds".to_owned(),
        };
        let prometheus = Prometheus::new(&settings, authsome_control::outbound::Roots::default().tls()).unwrap();
        let service = Service::reaching(InstanceLogs::new(None), Some(prometheus)).await;
        let (ada, _, app) = service.shop("free").await;
        for (hours, requests) in [(0_i32, 5_i64), (1, 7), (30, 100)] {
            sqlx::query(
                "INSERT INTO usage_counters (writer, application_id, hour, requests, errors, bytes_in, bytes_out)
                 VALUES (gen_random_uuid(), $1, date_trunc('hour', $2::timestamptz, 'UTC') - make_interval(hours => $3), $4, 1,
                         10, 20)",
            )
            .bind(&app)
            .bind(service.clock.now())
            .bind(hours)
            .bind(requests)
            .execute(&service.pool)
            .await
            .unwrap();
        }
        Self {
            service,
            server,
            ada,
            app,
        }
    }

    async fn ask(&self, query: &str) -> Answer {
        let path = format!("/api/v1/applications/{}/metrics{query}", self.app);
        self.service.get(&path, &self.ada).await
    }
}

#[tokio::test]
async fn what_prometheus_measures_stands_beside_what_the_edge_counts() {
    let world = World::new().await;
    let fine = world.ask("?period=1h&interval=1m").await;
    assert_eq!(fine.status, StatusCode::OK, "{}", fine.text);
    assert_eq!(
        (&fine.json["source"], &fine.json["interval"]),
        (&json!("prometheus"), &json!("1m"))
    );
    let point = &fine.json["series"][0];
    assert_eq!((&point["requests"], &point["errors"]), (&json!(40), &json!(2)));
    assert_eq!(point["latency"], json!({ "p50": 10.0, "p95": 250.0, "p99": 250.0 }));
    assert_eq!(
        (&point["cpuCores"], &point["memoryBytes"]),
        (&json!(0.75), &json!(1_048_576))
    );
    assert_eq!(point.get("bytesOut"), None, "the edge does not count by the minute");
    // Totals are the edge's: of this hour and the one before.
    assert_eq!(
        (&fine.json["totals"]["requests"], &fine.json["totals"]["bytesOut"]),
        (&json!(12), &json!(40))
    );

    let coarse = world.ask("?period=24h&interval=1h").await;
    assert_eq!(coarse.json["source"], "prometheus");
    let series = coarse.json["series"].as_array().unwrap();
    let before = &series[series.len() - 2];
    assert_eq!(
        (&before["requests"], &before["bytesIn"]),
        (&json!(7), &json!(10)),
        "{}",
        coarse.text
    );
    assert_eq!(before["memoryBytes"], 1_048_576);

    let asked = world.server.asked.lock().unwrap().clone();
    assert_eq!(asked.len(), 14);
    let namespace = format!("namespace=\"authsome-app-{}\"", world.app.trim_start_matches("app_"));
    for (query, credentials) in asked {
        assert!(query.contains(&namespace), "{query}");
        assert_eq!(credentials, "Basic YWRhOnBAc3M=");
    }
}

#[tokio::test]
async fn without_prometheus_the_edges_counters_are_told_and_said_to_be() {
    let world = World::new().await;
    for mood in [Mood::Hangs, Mood::Fails, Mood::Babbles, Mood::NeverEnds, Mood::Partly] {
        world.server.is(mood);
        let answer = world.ask("?period=24h&interval=5m").await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        assert_eq!(
            (&answer.json["source"], &answer.json["interval"]),
            (&json!("counters"), &json!("1h"))
        );
        let series = answer.json["series"].as_array().unwrap();
        assert_eq!((series.len(), &series[1]["requests"]), (2, &json!(5)));
        assert_eq!(series[1].get("latency"), None);
        assert_eq!(answer.json["totals"]["requests"], 12);
    }
    // It is asked again the next time.
    world.server.is(Mood::Answers);
    assert_eq!(world.ask("").await.json["source"], "prometheus");

    let service = Service::new().await;
    let (ada, _, app) = service.shop("free").await;
    let alone = service.get(&format!("/api/v1/applications/{app}/metrics"), &ada).await;
    assert_eq!(
        alone.json,
        json!({ "period": "24h", "interval": "1h", "source": "counters", "series": [],
            "totals": { "requests": 0, "errors": 0, "bytesIn": 0, "bytesOut": 0, "activeUsers": null } })
    );
}

#[tokio::test]
async fn days_are_summed_and_what_is_too_fine_is_refused() {
    let world = World::new().await;
    world.server.is(Mood::Fails);
    let days = world.ask("?period=7d&interval=1d").await;
    assert_eq!(days.json["interval"], "1d");
    let told: i64 = days.json["series"]
        .as_array()
        .unwrap()
        .iter()
        .map(|point| point["requests"].as_i64().unwrap())
        .sum();
    assert_eq!((told, &days.json["totals"]["requests"]), (112, &json!(112)));
    for query in ["?period=7d&interval=1m", "?period=30d&interval=5m"] {
        let refused = world.ask(query).await;
        refused.assert_error(400, "invalid_request");
        assert!(refused.field("interval").contains("2100"), "{}", refused.text);
    }
    for query in ["?period=1y", "?interval=2m", "?unit=x"] {
        world.ask(query).await.assert_error(400, "invalid_request");
    }
    let asked: Value = world.ask("?period=7d&interval=5m").await.json;
    assert_eq!(asked["source"], "counters");
}
