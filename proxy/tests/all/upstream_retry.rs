//! Which failed attempts are followed by another.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::TcpListener;

use crate::db::{NewApp, Tenants};
use crate::edge::{Edge, key, request};
use crate::instance::Instance;
use crate::wire::Wire;

/// Ejection is another matter.
const NEVER_EJECT: (&str, &str) = ("AUTHSOME_UPSTREAM_HEALTH_FAILURES", "1000");
const RETRIES: &str = "authsome_edge_upstream_retries_total";

async fn retries(edge: &Edge, outcome: &str) -> u64 {
    edge.metric(&format!("{RETRIES}{{outcome=\"{outcome}\"}}")).await
}

#[tokio::test]
async fn what_changes_nothing_is_sent_again_elsewhere_and_what_does_is_sent_once() {
    let (tenants, good, bad) = (Tenants::new().await, Instance::echo().await, Instance::breaking().await);
    let app = tenants.app(NewApp::at(&[good.endpoint(), bad.endpoint()])).await;
    let edge = Edge::start(&tenants, &[NEVER_EJECT]).await;
    for method in ["GET", "PUT", "DELETE", "HEAD"] {
        for _ in 0..4 {
            let mut wire = Wire::connect(&edge.address).await;
            let body = if method == "PUT" { "the body" } else { "" };
            wire.send(request(
                method,
                &format!("/v1/{}/users", app.id),
                &key(&app.secret),
                body,
            ))
            .await;
            assert_eq!(wire.receive_head().await.unwrap().status(), 200, "{method}");
        }
    }
    assert_eq!(good.seen().len(), 16);
    assert!(
        good.seen()
            .iter()
            .filter(|seen| seen.start.starts_with("PUT"))
            .all(|seen| seen.text() == "the body"),
        "the whole body comes with it"
    );
    let again = retries(&edge, "elsewhere").await + retries(&edge, "fresh").await;
    assert_eq!(again, bad.seen().len() as u64);
    assert!(again >= 4);

    let before = good.seen().len() + bad.seen().len();
    let mut statuses = Vec::new();
    for _ in 0..6 {
        let answer = edge.request("POST", app.id, "/v1/signin", &key(&app.public), "x").await;
        statuses.push(answer.status());
    }
    assert_eq!(good.seen().len() + bad.seen().len(), before + 6, "each was sent once");
    assert!(statuses.contains(&200) && statuses.contains(&502), "{statuses:?}");
}

#[tokio::test]
async fn a_body_that_is_no_longer_here_is_not_sent_again() {
    let (tenants, bad) = (Tenants::new().await, Instance::breaking().await);
    let app = tenants.app(NewApp::at(&[bad.endpoint()])).await;
    let edge = Edge::start(&tenants, &[NEVER_EJECT]).await;
    for (length, attempts) in [(1_000, 3), (200_000, 1)] {
        let before = bad.seen().len();
        let body = "x".repeat(length);
        let answer = edge.request("PUT", app.id, "/users", &key(&app.secret), &body).await;
        assert_eq!((answer.status(), answer.error_code().as_str()), (502, "bad_gateway"));
        assert_eq!(bad.seen().len() - before, attempts, "{length} bytes");
        assert!(bad.seen().iter().skip(before).all(|seen| seen.body.len() == length));
    }
}

#[tokio::test]
async fn nothing_is_sent_again_after_the_client_has_a_head() {
    let instance = Instance::connected(async |_, mut wire: Wire| {
        wire.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await;
        None
    })
    .await;
    let tenants = Tenants::new().await;
    let app = tenants.app(NewApp::at(&[instance.endpoint()])).await;
    let edge = Edge::start(&tenants, &[NEVER_EJECT]).await;
    let mut wire = Wire::connect(&edge.address).await;
    wire.send(request("GET", &format!("/v1/{}/users", app.id), &key(&app.secret), ""))
        .await;
    assert_eq!(wire.receive_head().await.unwrap().status(), 200);
    assert_eq!(wire.exactly(4).await, b"half");
    assert!(wire.is_closed().await);
    assert_eq!(instance.seen().len(), 1);
    assert_eq!(retries(&edge, "elsewhere").await + retries(&edge, "fresh").await, 0);
}

/// Answers the first request of each connection and closes upon the second, as one does that gives up idle connections in the
/// moment they are used. Counts requests that it read and dropped.
async fn closing_after_one() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let dropped = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&dropped);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let counted = Arc::clone(&counted);
            tokio::spawn(async move {
                let mut wire = Wire::new(stream);
                if wire.receive().await.is_some() {
                    wire.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
                }
                if wire.receive().await.is_some() {
                    counted.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
    });
    (address, dropped)
}

#[tokio::test]
async fn a_pooled_connection_that_the_instance_closed_is_replaced_by_a_fresh_one() {
    let (tenants, (address, dropped)) = (Tenants::new().await, closing_after_one().await);
    let app = tenants.app(NewApp::at(&[address])).await;
    let edge = Edge::start(&tenants, &[("AUTHSOME_UPSTREAM_HEALTH_FAILURES", "1")]).await;
    for _ in 0..6 {
        assert_eq!(edge.get(app.id, "/users", &key(&app.secret)).await.status(), 200);
    }
    let fresh = retries(&edge, "fresh").await;
    assert!(fresh >= 2, "{fresh}");
    assert_eq!(fresh, dropped.load(Ordering::SeqCst) as u64);
    let ejected = "authsome_edge_upstream_changes_total{change=\"ejected\"}";
    assert_eq!(edge.metric(ejected).await, 0, "the instance is not at fault");
}

#[tokio::test]
async fn an_outage_is_not_multiplied_by_retries() {
    const REQUESTS: u64 = 200;
    let (tenants, bad) = (Tenants::new().await, Instance::breaking().await);
    let app = tenants.app(NewApp::at(&[bad.endpoint()])).await;
    let edge = Edge::start(&tenants, &[NEVER_EJECT, ("AUTHSOME_UPSTREAM_RETRY_BURST", "5")]).await;
    let began = std::time::Instant::now();
    for _ in 0..REQUESTS {
        assert_eq!(edge.get(app.id, "/users", &key(&app.secret)).await.status(), 502);
    }
    let allowed = 5 + REQUESTS / 5 + began.elapsed().as_secs() + 1;
    let again = bad.seen().len() as u64 - REQUESTS;
    assert!(
        again <= allowed,
        "{again} of {REQUESTS} were sent again, {allowed} may be"
    );
    assert!(again >= REQUESTS / 5, "{again}");
    assert!(retries(&edge, "refused_by_budget").await > 0);

    let off = Edge::start(&tenants, &[NEVER_EJECT, ("AUTHSOME_UPSTREAM_RETRY_PERCENT", "0")]).await;
    let before = bad.seen().len();
    assert_eq!(off.get(app.id, "/users", &key(&app.secret)).await.status(), 502);
    assert_eq!(bad.seen().len() - before, 1, "retries can be switched off");
}

#[tokio::test]
async fn a_connection_of_one_application_never_serves_another_at_the_same_address() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let connections: Arc<Mutex<Vec<Vec<String>>>> = Arc::default();
    let noted = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let noted = Arc::clone(&noted);
            let number = {
                let mut noted = noted.lock().unwrap();
                noted.push(Vec::new());
                noted.len() - 1
            };
            tokio::spawn(async move {
                let mut wire = Wire::new(stream);
                while let Some(request) = wire.receive().await {
                    let app = request.header("x-authsome-app-id").unwrap().to_owned();
                    noted.lock().unwrap()[number].push(app);
                    wire.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
                }
            });
        }
    });
    let tenants = Tenants::new().await;
    let one = tenants.app(NewApp::at(std::slice::from_ref(&address))).await;
    let two = tenants.app(NewApp::at(std::slice::from_ref(&address))).await;
    let edge = Edge::start(&tenants, &[]).await;
    for _ in 0..20 {
        for app in [&one, &two] {
            assert_eq!(edge.get(app.id, "/users", &key(&app.secret)).await.status(), 200);
        }
    }
    let connections = connections.lock().unwrap().clone();
    assert_eq!(connections.iter().map(Vec::len).sum::<usize>(), 40);
    assert!(
        connections.iter().any(|served| served.len() > 1),
        "connections are reused"
    );
    for served in connections {
        assert!(served.iter().collect::<HashSet<_>>().len() <= 1, "{served:?}");
    }
}

#[tokio::test]
async fn an_answer_that_never_ends_is_cut_off_with_the_total_time_and_an_event_stream_is_not() {
    let instance = Instance::connected(async |message, mut wire: Wire| {
        let kind = if message.target().contains("events") {
            "text/event-stream"
        } else {
            "text/plain"
        };
        wire.send(format!(
            "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n"
        ))
        .await;
        while wire.try_send("1\r\nx\r\n").await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        None
    })
    .await;
    let tenants = Tenants::new().await;
    let app = tenants.app(NewApp::at(&[instance.endpoint()])).await;
    let edge = Edge::start(&tenants, &[("AUTHSOME_UPSTREAM_TOTAL_TIMEOUT", "1s")]).await;
    let mut wire = Wire::connect(&edge.address).await;
    wire.send(request("GET", &format!("/v1/{}/users", app.id), &key(&app.secret), ""))
        .await;
    assert_eq!(wire.receive_head().await.unwrap().status(), 200);
    let began = std::time::Instant::now();
    while wire.heard().await.is_some() {
        assert!(began.elapsed() < Duration::from_secs(15), "it goes on and on");
    }
    let mut wire = Wire::connect(&edge.address).await;
    wire.send(request("GET", &format!("/v1/{}/events", app.id), &key(&app.secret), ""))
        .await;
    assert_eq!(wire.receive_head().await.unwrap().status(), 200);
    for _ in 0..30 {
        assert!(wire.chunk().await.is_some(), "longer than the total time");
    }
}
