//! What operators see: metrics, the access log, traces.

use std::collections::BTreeSet;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use authsome_testkit::wait_for;
use serde_json::Value;

use crate::db::{App, NewApp, Tenants};
use crate::edge::{Edge, key, request, settings};
use crate::instance::{Instance, Reply, nobody};
use crate::wire::{Wire, exchange};

const PATIENCE: Duration = Duration::from_secs(20);

async fn stage(settings: &[(&str, &str)]) -> (Instance, App, Edge, Tenants) {
    let (tenants, instance) = (Tenants::new().await, Instance::echo().await);
    let app = tenants.app(NewApp::at(&[instance.endpoint()])).await;
    let edge = Edge::start(&tenants, settings).await;
    (instance, app, edge, tenants)
}

/// The names of all series, with their labels.
async fn series(edge: &Edge) -> BTreeSet<String> {
    let metrics = exchange(
        &edge.admin,
        "GET /metrics HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
    )
    .await
    .text();
    let samples = metrics.lines().filter(|line| !line.starts_with('#'));
    samples
        .filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned()))
        .collect()
}

#[tokio::test]
async fn no_client_can_make_a_series() {
    let (_instance, app, edge, _tenants) = stage(&[]).await;
    // Everything that is counted for applications appears with the first request.
    assert_eq!(edge.get(app.id, "/v1/me", &key(&app.public)).await.status(), 200);
    edge.counted("authsome_edge_own_seconds_count", 1).await;
    let before = series(&edge).await;
    for n in 0..40 {
        let mut wire = Wire::connect(&edge.address).await;
        let path = format!("/v1/{}/v1/path{n}/x", app.id);
        let target = match n % 5 {
            0 => format!("/else{n}"),
            1 => path.replace(&app.id.to_string(), &format!("app_{n:026}")),
            _ => path,
        };
        let line = match n % 4 {
            0 => format!("M{n} {target} HTTP/1.1"),
            1 => format!("GET {target} HTTP/1.{n}"),
            _ => format!("GET {target} HTTP/1.1"),
        };
        let credential = if n % 3 == 0 {
            key(&app.secret)
        } else {
            format!("x-api-key: pk_live_{n:08}_x\r\nx-h{n}: y\r\n")
        };
        wire.send(format!("{line}\r\nhost: h{n}\r\n{credential}\r\n")).await;
        assert!(wire.receive().await.is_some());
    }
    let after = series(&edge).await;
    assert_eq!(after.difference(&before).collect::<Vec<_>>(), Vec::<&String>::new());
    assert!(after.len() < 1000, "{}", after.len());
    let text = after.into_iter().collect::<Vec<_>>().join("\n");
    for private in [
        app.id.to_string(),
        app.secret.expose().to_owned(),
        app.public.expose().to_owned(),
        "/v1/path".to_owned(),
        "/else".to_owned(),
    ] {
        assert!(!text.contains(&private), "{private}");
    }
    assert_eq!(
        edge.metric("authsome_edge_upstream_answers_total{class=\"5xx\"}").await,
        0
    );
    wait_for("the last of them to be counted", PATIENCE, async || {
        (edge.metric("authsome_edge_own_seconds_count").await >= 20).then_some(())
    })
    .await
    .unwrap();
    assert!(edge.metric("authsome_edge_upstream_seconds_count").await >= 1);
    assert!(edge.metric("authsome_edge_connections_total{protocol=\"http1\"}").await >= 41);
}

/// The access log's line that holds this.
async fn line(edge: &Edge, with: &str) -> Value {
    wait_for("the line in the log", PATIENCE, async || {
        let log = edge.program.log();
        let found = log
            .lines()
            .find(|line| line.contains("authsome_proxy::access") && line.contains(with));
        found.and_then(|line| serde_json::from_str(line).ok())
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn a_line_tells_all_of_a_request_and_nothing_secret() {
    let (_instance, app, edge, _tenants) = stage(&[]).await;
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let headers = format!(
        "{}traceparent: 00-{trace}-b7ad6b7169203331-00\r\nauthorization: Bearer session-token\r\n",
        key(&app.public)
    );
    let answer = edge.get(app.id, "/v1/me?password=hunter2", &headers).await;
    let id = answer.header("x-authsome-request-id").unwrap();
    let told = line(&edge, id).await;
    for (field, expected) in [
        ("app", Value::from(app.id.to_string())),
        ("method", Value::from("GET")),
        ("path", Value::from("/v1/me")),
        ("status", Value::from(200)),
        ("protocol", Value::from("1.1")),
        ("peer", Value::from("127.0.0.1")),
        ("trace_id", Value::from(trace)),
        ("tries", Value::from(1)),
    ] {
        assert_eq!(told[field], expected, "{field}: {told}");
    }
    assert!(told["key"].as_str().unwrap().starts_with("key_"), "{told}");
    assert!(told["timestamp"].is_string(), "{told}");
    let [took, own, upstream] = ["took_us", "edge_us", "upstream_us"].map(|field| told[field].as_u64().unwrap());
    assert!(own + upstream <= took, "{told}");
    assert!(
        told["bytes_in"].as_u64().unwrap() > 100 && told["bytes_out"].as_u64().unwrap() > 100,
        "{told}"
    );

    let refused = edge.get(app.id, "/users", "").await;
    let told = line(&edge, refused.header("x-authsome-request-id").unwrap()).await;
    assert_eq!(
        (&told["status"], &told["refusal"]),
        (&Value::from(401), &Value::from("missing_key"))
    );
    assert!(told.get("upstream_us").is_none(), "{told}");
    let log = edge.program.log();
    for secret in [app.public.expose(), "hunter2", "session-token"] {
        assert!(!log.contains(secret), "{secret}");
    }
}

/// Ends with the test.
struct Unread(Child);

impl Drop for Unread {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn nobody_reading_the_log_stops_no_request() {
    let (tenants, instance) = (Tenants::new().await, Instance::echo().await);
    let app = tenants.app(NewApp::at(&[instance.endpoint()])).await;
    let directory = tempfile::tempdir().unwrap();
    let (variables, address, admin) = settings(&directory, &tenants);
    let mut command = Command::new(env!("CARGO_BIN_EXE_authsome-proxy"));
    command.envs(variables).stdout(Stdio::piped()).stderr(Stdio::null());
    let edge = Unread(command.spawn().unwrap());
    wait_for("the edge to be ready", PATIENCE, async || {
        let mut wire = Wire::new(tokio::net::TcpStream::connect(&admin).await.ok()?);
        wire.send(request("GET", "/readyz", "", "")).await;
        (wire.receive().await?.status() == 200).then_some(())
    })
    .await
    .unwrap();
    // Each line is more than 300 bytes long, and a pipe holds 64 KiB.
    let mut wire = Wire::connect(&address).await;
    for n in 0..400 {
        let target = format!("/v1/{}/v1/me", app.id);
        wire.send(request("GET", &target, &key(&app.public), "")).await;
        assert_eq!(wire.receive().await.unwrap().status(), 200, "request {n}");
    }
    drop(edge);
}

#[tokio::test]
async fn a_request_is_told_to_the_collector_as_two_spans() {
    let collector = Instance::start(|_| Reply::ok("content-type: application/json\r\n", "{}")).await;
    let endpoint = format!("http://{}", collector.address);
    let (instance, app, edge, _tenants) = stage(&[
        ("AUTHSOME_TRACES_OTLP_ENDPOINT", &endpoint),
        ("AUTHSOME_TRACES_SAMPLE_RATIO", "1"),
    ])
    .await;
    let unsampled = "traceparent: 00-00000000000000000000000000000bad-b7ad6b7169203331-00\r\n";
    assert_eq!(
        edge.get(app.id, "/v1/me", &format!("{}{unsampled}", key(&app.public)))
            .await
            .status(),
        200
    );
    let sampled = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n";
    let answer = edge
        .get(app.id, "/v1/me?x", &format!("{}{sampled}", key(&app.public)))
        .await;
    let request_id = answer.header("x-authsome-request-id").unwrap().to_owned();
    assert_eq!(edge.get(app.id, "/v1/me", &key(&app.public)).await.status(), 200);

    let spans = wait_for("the spans of two requests", PATIENCE, async || {
        let spans: Vec<Value> = collector
            .seen()
            .iter()
            .flat_map(|seen| {
                assert_eq!(seen.start, "POST /v1/traces HTTP/1.1");
                assert_eq!(seen.header("content-type"), Some("application/json"));
                let message = seen.json();
                let resource = message["resourceSpans"][0].clone();
                assert_eq!(
                    resource["resource"]["attributes"][0]["value"]["stringValue"],
                    "authsome-proxy"
                );
                resource["scopeSpans"][0]["spans"].as_array().unwrap().clone()
            })
            .collect();
        (spans.len() >= 4).then_some(spans)
    })
    .await
    .unwrap();
    assert_eq!(spans.len(), 4, "an unsampled trace is not told: {spans:#?}");
    let of_trace = |kind: u64| {
        let found = spans
            .iter()
            .find(|span| span["traceId"] == "0af7651916cd43dd8448eb211c80319c" && span["kind"] == kind);
        found.unwrap_or_else(|| panic!("{spans:#?}"))
    };
    let (server, client) = (of_trace(2), of_trace(3));
    assert_eq!(server["parentSpanId"], "b7ad6b7169203331");
    assert_eq!(client["parentSpanId"], server["spanId"]);
    let attribute = |span: &Value, key: &str| {
        let attributes = span["attributes"].as_array().unwrap();
        let found = attributes.iter().find(|attribute| attribute["key"] == key);
        found.map(|attribute| attribute["value"].clone()).unwrap_or_default()
    };
    assert_eq!(attribute(server, "http.response.status_code")["intValue"], "200");
    assert_eq!(attribute(server, "authsome.request_id")["stringValue"], *request_id);
    assert_eq!(attribute(server, "url.path")["stringValue"], "/v1/me");
    assert_eq!(
        attribute(client, "server.port")["intValue"],
        instance.address.port().to_string()
    );
    let nanos = |span: &Value, field: &str| span[field].as_str().unwrap().parse::<u128>().unwrap();
    assert!(nanos(server, "startTimeUnixNano") <= nanos(client, "startTimeUnixNano"));
    assert!(nanos(client, "endTimeUnixNano") <= nanos(server, "endTimeUnixNano"));

    // What the instance was told leads to the span that was exported.
    let seen = instance.seen();
    let told = seen[1].header("traceparent").unwrap();
    assert_eq!(
        told,
        format!(
            "00-0af7651916cd43dd8448eb211c80319c-{}-01",
            client["spanId"].as_str().unwrap()
        )
    );
    assert!(
        seen[0].header("traceparent").unwrap().ends_with("-00"),
        "as the client asked"
    );
    for body in collector.seen().iter().map(crate::wire::Message::text) {
        assert!(!body.contains(app.public.expose()));
    }
    edge.counted("authsome_edge_traces_total{outcome=\"exported\"}", 2)
        .await;
}

#[tokio::test]
async fn a_collector_that_is_away_or_silent_costs_spans_and_no_request() {
    let silent = Instance::start(|_| Reply::Silence).await;
    for endpoint in [format!("http://{}", nobody()), format!("http://{}", silent.address)] {
        let (_instance, app, edge, _tenants) = stage(&[
            ("AUTHSOME_TRACES_OTLP_ENDPOINT", &endpoint),
            ("AUTHSOME_TRACES_SAMPLE_RATIO", "1"),
        ])
        .await;
        for _ in 0..20 {
            assert_eq!(edge.get(app.id, "/v1/me", &key(&app.public)).await.status(), 200);
        }
        wait_for("the loss to be counted", PATIENCE, async || {
            (edge.metric("authsome_edge_traces_total{outcome=\"undelivered\"}").await == 20).then_some(())
        })
        .await
        .unwrap();
        assert_eq!(edge.get(app.id, "/v1/me", &key(&app.public)).await.status(), 200);
    }
}
