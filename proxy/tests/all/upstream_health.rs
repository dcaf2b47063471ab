//! Endpoints that fail are left out, and come back.

use std::time::Duration;

use authsome_testkit::wait_for;

use crate::db::{App, NewApp, Tenants};
use crate::edge::{Edge, key};
use crate::instance::{Instance, Reply, nobody};

const QUICK: [(&str, &str); 4] = [
    ("AUTHSOME_UPSTREAM_HEALTH_FAILURES", "3"),
    ("AUTHSOME_UPSTREAM_HEALTH_PROBE_FIRST", "100ms"),
    ("AUTHSOME_UPSTREAM_HEALTH_PROBE_LONGEST", "300ms"),
    ("AUTHSOME_UPSTREAM_HEALTH_SLOW_START", "500ms"),
];

async fn changes(edge: &Edge, change: &str) -> u64 {
    edge.metric(&format!("authsome_edge_upstream_changes_total{{change=\"{change}\"}}"))
        .await
}

async fn get(edge: &Edge, app: &App) -> u16 {
    edge.get(app.id, "/users", &key(&app.secret)).await.status()
}

fn probes(instance: &Instance) -> usize {
    instance
        .seen()
        .iter()
        .filter(|seen| seen.target() == "/v1/health")
        .count()
}

#[tokio::test]
async fn an_endpoint_that_fails_is_left_out_probed_and_takes_its_share_again() {
    let (tenants, good, place) = (Tenants::new().await, Instance::echo().await, nobody());
    let app = tenants.app(NewApp::at(&[good.endpoint(), place.clone()])).await;
    let edge = Edge::start(&tenants, &QUICK).await;
    while changes(&edge, "ejected").await == 0 {
        assert_eq!(get(&edge, &app).await, 200, "at the other instance");
    }
    let failures = edge.metric("authsome_edge_connect_failures_total").await;
    assert_eq!(failures, 3);
    for _ in 0..20 {
        assert_eq!(get(&edge, &app).await, 200);
    }
    assert_eq!(
        edge.metric("authsome_edge_connect_failures_total").await,
        failures,
        "no request is sent there any more"
    );

    let back = Instance::echo_at(&place).await;
    wait_for("the endpoint to be back", Duration::from_secs(30), async || {
        assert_eq!(get(&edge, &app).await, 200);
        (changes(&edge, "returned").await == 1).then_some(())
    })
    .await
    .unwrap();
    wait_for("its share", Duration::from_secs(30), async || {
        let before = back.seen().len();
        for _ in 0..10 {
            assert_eq!(get(&edge, &app).await, 200);
        }
        (back.seen().len() - before == 5).then_some(())
    })
    .await
    .unwrap();
    assert!(probes(&back) >= 1);
    assert_eq!(probes(&good), 0, "an endpoint that serves is never probed");
}

#[tokio::test]
async fn where_every_endpoint_fails_all_are_tried_and_one_that_answers_serves_at_once() {
    let (tenants, places) = (Tenants::new().await, [nobody(), nobody()]);
    let app = tenants.app(NewApp::at(&places)).await;
    let edge = Edge::start(&tenants, &QUICK).await;
    while changes(&edge, "ejected").await < 2 {
        assert_eq!(get(&edge, &app).await, 502);
    }
    assert_eq!(get(&edge, &app).await, 502, "it is tried all the same");
    let back = Instance::echo_at(&places[0]).await;
    wait_for("an answer", Duration::from_secs(30), async || {
        (get(&edge, &app).await == 200).then_some(())
    })
    .await
    .unwrap();
    for _ in 0..10 {
        assert_eq!(get(&edge, &app).await, 200);
    }
    assert!(back.seen().len() >= 11);
}

#[tokio::test]
async fn an_applications_own_errors_are_its_own_unless_configured() {
    let failing = || Instance::start(|_| Reply::Bytes(b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n".to_vec()));
    let (tenants, one, two) = (Tenants::new().await, failing().await, failing().await);
    let app = tenants.app(NewApp::at(&[one.endpoint(), two.endpoint()])).await;
    let edge = Edge::start(&tenants, &QUICK).await;
    for _ in 0..20 {
        assert_eq!(get(&edge, &app).await, 503);
    }
    assert_eq!(changes(&edge, "ejected").await, 0);
    let strict = [&QUICK[..], &[("AUTHSOME_UPSTREAM_HEALTH_SERVER_ERRORS", "true")]].concat();
    let edge = Edge::start(&tenants, &strict).await;
    for _ in 0..20 {
        assert_eq!(get(&edge, &app).await, 503, "it is passed on, not sent again");
    }
    assert!(changes(&edge, "ejected").await >= 2);
}

#[tokio::test]
async fn an_endpoint_stays_ejected_when_the_record_changes() {
    let (tenants, good, place) = (Tenants::new().await, Instance::echo().await, nobody());
    let app = tenants.app(NewApp::at(&[good.endpoint(), place.clone()])).await;
    let slow = [QUICK[0], ("AUTHSOME_UPSTREAM_HEALTH_PROBE_FIRST", "20s")];
    let edge = Edge::start(&tenants, &slow).await;
    while changes(&edge, "ejected").await == 0 {
        assert_eq!(get(&edge, &app).await, 200);
    }
    let failures = edge.metric("authsome_edge_connect_failures_total").await;
    let third = Instance::echo().await;
    let endpoints = format!("{{{},{place},{}}}", good.endpoint(), third.endpoint());
    tenants
        .change_app(
            app.id,
            "UPDATE applications SET endpoints = $2::text[] WHERE id = $1",
            &endpoints,
        )
        .await;
    wait_for("the new endpoint", Duration::from_secs(30), async || {
        assert_eq!(get(&edge, &app).await, 200);
        (!third.seen().is_empty()).then_some(())
    })
    .await
    .unwrap();
    for _ in 0..20 {
        assert_eq!(get(&edge, &app).await, 200);
    }
    assert_eq!(edge.metric("authsome_edge_connect_failures_total").await, failures);
    assert_eq!(changes(&edge, "ejected").await, 1);
}
