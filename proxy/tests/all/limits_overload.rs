//! More at once than the edge takes on: requests and connections.

use std::time::Duration;

use authsome_testkit::wait_for;
use tokio::sync::watch;

use crate::db::{App, NewApp, Tenants};
use crate::edge::{Edge, key, request};
use crate::instance::Instance;
use crate::wire::{Wire, exchange};

const SOON: Duration = Duration::from_secs(20);

/// An instance that answers when it is told to, and opens event streams at once.
async fn holding() -> (Instance, watch::Sender<bool>) {
    let (go, wait) = watch::channel(false);
    let instance = Instance::connected(move |message, mut wire| {
        let mut wait = wait.clone();
        async move {
            if message.target() == "/events" {
                wire.send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: 1\n\n")
                    .await;
                // Until the edge or the test ends.
                std::future::pending::<()>().await;
            }
            wait.wait_for(|go| *go).await.unwrap();
            wire.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
            Some(wire)
        }
    })
    .await;
    (instance, go)
}

async fn apps(tenants: &Tenants, instance: &Instance) -> [App; 3] {
    let mut apps = Vec::new();
    for plan in ["free", "pro", "enterprise"] {
        let new = NewApp {
            plan,
            ..NewApp::at(&[instance.endpoint()])
        };
        apps.push(tenants.app(new).await);
    }
    apps.try_into().unwrap_or_else(|_| panic!("three"))
}

/// Sends a request and does not wait for its answer.
async fn begin(edge: &Edge, app: &App, tail: &str) -> Wire {
    let mut wire = Wire::connect(&edge.address).await;
    wire.send(request("GET", &format!("/v1/{}{tail}", app.id), &key(&app.secret), ""))
        .await;
    wire
}

async fn until_seen(instance: &Instance, count: usize) {
    wait_for("the requests to arrive", SOON, async || {
        (instance.seen().len() == count).then_some(())
    })
    .await
    .unwrap_or_else(|error| panic!("{error}: {} of {count}", instance.seen().len()));
}

#[tokio::test]
async fn an_edge_that_is_full_turns_away_free_plans_first_and_enterprise_last() {
    let tenants = Tenants::new().await;
    let (instance, go) = holding().await;
    let [free, pro, enterprise] = apps(&tenants, &instance).await;
    let edge = Edge::start(&tenants, &[("AUTHSOME_LIMITS_IN_FLIGHT", "10")]).await;
    let refused = async |app: &App| {
        let answer = edge.get(app.id, "/users", &key(&app.secret)).await;
        assert_eq!(
            (answer.status(), answer.error_code().as_str()),
            (503, "service_unavailable")
        );
        assert_eq!(answer.json()["error"]["reason"], "overloaded");
        assert_eq!(answer.header("retry-after"), Some("1"));
    };
    let mut held = Vec::new();
    for (app, room) in [(&free, 8), (&pro, 1), (&enterprise, 1)] {
        for _ in 0..room {
            held.push(begin(&edge, app, "/users").await);
            until_seen(&instance, held.len()).await;
        }
        refused(app).await;
    }
    refused(&free).await;
    edge.counted("authsome_edge_shed_total{plan=\"free\"}", 1).await;
    edge.counted("authsome_edge_shed_total{plan=\"pro\"}", 1).await;
    // Those that found nothing at all left were not looked at.
    edge.counted("authsome_edge_shed_total{plan=\"unknown\"}", 2).await;
    let health = exchange(&edge.address, request("GET", "/health", "", "")).await;
    assert_eq!(health.status(), 200, "probes are always answered");

    go.send_replace(true);
    for mut wire in held {
        assert_eq!(
            wire.receive().await.unwrap().status(),
            200,
            "what was begun is finished"
        );
    }
    wait_for("room for everybody", SOON, async || {
        let answer = edge.get(free.id, "/users", &key(&free.secret)).await;
        (answer.status() == 200).then_some(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_request_whose_client_leaves_makes_room() {
    let tenants = Tenants::new().await;
    let (instance, go) = holding().await;
    let [_, _, app] = apps(&tenants, &instance).await;
    let edge = Edge::start(&tenants, &[("AUTHSOME_LIMITS_IN_FLIGHT", "1")]).await;
    let leaving = begin(&edge, &app, "/users").await;
    until_seen(&instance, 1).await;
    assert_eq!(edge.get(app.id, "/users", &key(&app.secret)).await.status(), 503);
    drop(leaving);
    go.send_replace(true);
    wait_for("room", SOON, async || {
        (edge.get(app.id, "/users", &key(&app.secret)).await.status() == 200).then_some(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn event_streams_take_no_room_from_requests() {
    let tenants = Tenants::new().await;
    let (instance, go) = holding().await;
    go.send_replace(true);
    let [free, ..] = apps(&tenants, &instance).await;
    let edge = Edge::start(&tenants, &[("AUTHSOME_LIMITS_IN_FLIGHT", "2")]).await;
    let mut streams = Vec::new();
    for _ in 0..5 {
        let mut stream = begin(&edge, &free, "/events").await;
        assert_eq!(stream.receive_head().await.unwrap().status(), 200);
        streams.push(stream);
    }
    assert_eq!(edge.get(free.id, "/users", &key(&free.secret)).await.status(), 200);
}

/// Is a connection that was just opened served?
async fn is_served(wire: &mut Wire) -> bool {
    wire.try_send(request("GET", "/health", "", "")).await && wire.receive().await.is_some()
}

#[tokio::test]
async fn an_address_has_no_more_connections_than_it_may() {
    let edge = Edge::start(
        &Tenants::new().await,
        &[("AUTHSOME_LIMITS_CONNECTIONS_PER_ADDRESS", "3")],
    )
    .await;
    let mut open = Vec::new();
    for _ in 0..3 {
        let mut wire = Wire::connect(&edge.address).await;
        assert!(is_served(&mut wire).await);
        open.push(wire);
    }
    assert!(!is_served(&mut Wire::connect(&edge.address).await).await);
    assert!(is_served(&mut open[0]).await, "those that are open stay");
    edge.counted("authsome_edge_connections_refused_total", 1).await;
    open.pop();
    wait_for("a place", SOON, async || {
        is_served(&mut Wire::connect(&edge.address).await).await.then_some(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_trusted_proxy_has_any_number_of_connections() {
    let settings = [
        ("AUTHSOME_LIMITS_CONNECTIONS_PER_ADDRESS", "1"),
        ("AUTHSOME_TRUSTED_PROXIES", "127.0.0.1/32"),
    ];
    let edge = Edge::start(&Tenants::new().await, &settings).await;
    let mut open = Vec::new();
    for _ in 0..5 {
        let mut wire = Wire::connect(&edge.address).await;
        assert!(is_served(&mut wire).await);
        open.push(wire);
    }
}
