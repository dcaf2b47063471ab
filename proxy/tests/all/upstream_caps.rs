//! How many requests of one application there may be at once, and what that spares the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use authsome_testkit::wait_for;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::db::{App, NewApp, Tenants};
use crate::edge::{Edge, key, request};
use crate::instance::{Instance, Reply};
use crate::wire::{Wire, exchange};

/// An instance that answers while it is let, and otherwise holds whatever comes.
async fn holding() -> (Instance, watch::Sender<bool>) {
    let (hold, held) = watch::channel(true);
    let instance = Instance::connected(move |_, mut wire: Wire| {
        let mut held = held.clone();
        async move {
            held.wait_for(|hold| !hold).await.ok()?;
            let Reply::Bytes(answer) = Reply::ok("", "ok") else {
                return None;
            };
            wire.try_send(answer).await.then_some(wire)
        }
    })
    .await;
    (instance, hold)
}

fn get(edge: &Edge, app: &App, tail: &str, headers: &str) -> (String, String) {
    let head = format!("{}{headers}", key(&app.secret));
    (
        edge.address.clone(),
        request("GET", &format!("/v1/{}{tail}", app.id), &head, ""),
    )
}

#[tokio::test]
async fn an_application_with_too_many_requests_in_flight_is_told_to_come_back() {
    let tenants = Tenants::new().await;
    let ((slow, hold), instance) = (holding().await, Instance::echo().await);
    let [by_plan, by_contract] = [
        tenants.app(NewApp::at(&[slow.endpoint()])).await,
        tenants.app(NewApp::at(&[slow.endpoint()])).await,
    ];
    tenants
        .change_app(
            by_contract.id,
            "UPDATE applications SET edge_limits = $2::jsonb WHERE id = $1",
            r#"{"inFlight": 2}"#,
        )
        .await;
    let other = tenants.app(NewApp::at(&[instance.endpoint()])).await;
    let caps = ["FREE", "PRO", "ENTERPRISE"].map(|plan| format!("AUTHSOME_UPSTREAM_IN_FLIGHT_{plan}"));
    let settings = caps.each_ref().map(|name| (name.as_str(), "4"));
    let edge = Edge::start(&tenants, &settings).await;

    let mut held = JoinSet::new();
    for (app, cap) in [(&by_plan, 4), (&by_contract, 2)] {
        let before = slow.seen().len();
        for _ in 0..cap {
            let (address, bytes) = get(&edge, app, "/users", "");
            held.spawn(async move { exchange(&address, bytes).await.status() });
        }
        wait_for("the instance to have them", Duration::from_secs(20), async || {
            (slow.seen().len() == before + cap).then_some(())
        })
        .await
        .unwrap();
        let refused = edge.get(app.id, "/users", &key(&app.secret)).await;
        assert_eq!(
            (refused.status(), refused.error_code().as_str()),
            (503, "service_unavailable")
        );
        assert_eq!(refused.json()["error"]["reason"], "concurrency_limit");
        assert_eq!(refused.header("retry-after"), Some("1"));
        assert_eq!(slow.seen().len(), before + cap);
        assert_eq!(edge.get(other.id, "/users", &key(&other.secret)).await.status(), 200);
    }
    let shed = "authsome_edge_upstream_shed_total{kind=\"requests\"}";
    edge.counted(shed, 2).await;
    hold.send_replace(false);
    while let Some(status) = held.join_next().await {
        assert_eq!(status.unwrap(), 200);
    }
    for app in [&by_plan, &by_contract] {
        wait_for("room", Duration::from_secs(30), async || {
            (edge.get(app.id, "/users", &key(&app.secret)).await.status() == 200).then_some(())
        })
        .await
        .unwrap();
    }
}

#[tokio::test]
async fn requests_that_clients_gave_up_make_room() {
    let (tenants, (slow, _hold)) = (Tenants::new().await, holding().await);
    let app = tenants.app(NewApp::at(&[slow.endpoint()])).await;
    tenants
        .change_app(
            app.id,
            "UPDATE applications SET edge_limits = $2::jsonb WHERE id = $1",
            r#"{"inFlight": 1}"#,
        )
        .await;
    let edge = Edge::start(&tenants, &[]).await;
    for round in 1..=3 {
        let (address, bytes) = get(&edge, &app, "/users", "");
        wait_for("room", Duration::from_secs(20), async || {
            let mut wire = Wire::connect(&address).await;
            wire.send(&bytes).await;
            let refused = tokio::time::timeout(Duration::from_millis(300), wire.receive()).await;
            (refused.is_err() && slow.seen().len() >= round).then_some(())
        })
        .await
        .unwrap();
    }
}

#[tokio::test]
async fn streams_are_counted_by_themselves() {
    let (tenants, (slow, _hold)) = (Tenants::new().await, holding().await);
    let app = tenants.app(NewApp::at(&[slow.endpoint()])).await;
    let edge = Edge::start(&tenants, &[("AUTHSOME_UPSTREAM_STREAMS", "1")]).await;
    let (address, bytes) = get(&edge, &app, "/events", "accept: text/event-stream\r\n");
    let mut first = Wire::connect(&address).await;
    first.send(&bytes).await;
    wait_for("the stream", Duration::from_secs(20), async || {
        (!slow.seen().is_empty()).then_some(())
    })
    .await
    .unwrap();
    let refused = exchange(&address, bytes).await;
    assert_eq!(refused.json()["error"]["reason"], "concurrency_limit");
    let mut plain = Wire::connect(&address).await;
    plain.send(get(&edge, &app, "/users", "").1).await;
    wait_for("an ordinary request", Duration::from_secs(20), async || {
        (slow.seen().len() == 2).then_some(())
    })
    .await
    .unwrap();
}

/// Rounds of the comparison, of which most must agree.
const ROUNDS: usize = 9;
/// Calm and hanging phases in a round, in turn.
const PHASES: usize = 6;
const SAMPLES: usize = 150;
const CLIENTS: usize = 2;

/// One tenant hangs under load; the other's slowest requests must not be slower by a tenth than while it does not. The machine is
/// noisy, so the two are measured in turns within each round, and a majority of rounds decides: with no difference each round is
/// as likely to be below as above, while a real one is above in most. No round is left out.
#[tokio::test]
async fn a_tenant_whose_instance_hangs_does_not_slow_down_another() {
    let tenants = Tenants::new().await;
    let ((slow, hold), instance) = (holding().await, Instance::echo().await);
    hold.send_replace(false);
    let hanging = tenants.app(NewApp::at(&[slow.endpoint()])).await;
    tenants
        .change_app(
            hanging.id,
            "UPDATE applications SET edge_limits = $2::jsonb WHERE id = $1",
            r#"{"inFlight": 8}"#,
        )
        .await;
    let other = tenants.app(NewApp::at(&[instance.endpoint()])).await;
    let edge = Arc::new(Edge::start(&tenants, &[("AUTHSOME_UPSTREAM_READ_TIMEOUT", "60s")]).await);

    // The same load on the hanging tenant in every phase; while it hangs, eight requests are held and the others refused.
    let (done, refused) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut load = JoinSet::new();
    for _ in 0..16 {
        let (done, refused) = (Arc::clone(&done), Arc::clone(&refused));
        let (address, bytes) = get(&edge, &hanging, "/users", "");
        load.spawn(async move {
            while !done.load(Ordering::SeqCst) {
                let answer = exchange(&address, &bytes).await;
                refused.fetch_add(usize::from(answer.status() == 503), Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
    }
    let mut ratios = Vec::new();
    let (mut below, mut above) = (0, 0);
    while below <= ROUNDS / 2 && above <= ROUNDS / 2 {
        let (mut calm, mut hung) = (Vec::new(), Vec::new());
        for phase in 0..PHASES {
            let hangs = phase % 2 == 1;
            hold.send_replace(hangs);
            if hangs {
                let before = refused.load(Ordering::SeqCst);
                wait_for("the cap to be reached", Duration::from_secs(20), async || {
                    (refused.load(Ordering::SeqCst) > before).then_some(())
                })
                .await
                .unwrap();
            }
            let samples = if hangs { &mut hung } else { &mut calm };
            samples.extend(measure(&edge, &other).await);
        }
        let ratio = p99(&mut hung).as_secs_f64() / p99(&mut calm).as_secs_f64();
        ratios.push(ratio);
        if ratio < 1.10 {
            below += 1;
        } else {
            above += 1;
        }
    }
    done.store(true, Ordering::SeqCst);
    hold.send_replace(false);
    while load.join_next().await.is_some() {}
    assert!(refused.load(Ordering::SeqCst) > 0, "the tenant hung under load");
    assert!(
        below > above,
        "p99 while the other tenant hangs, against calm: {ratios:.2?}"
    );
}

/// What requests of the other tenant take; each must succeed.
async fn measure(edge: &Edge, app: &App) -> Vec<Duration> {
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let (address, bytes) = get(edge, app, "/users", "");
        clients.spawn(async move {
            let mut wire = Wire::connect(&address).await;
            let mut samples = Vec::with_capacity(SAMPLES);
            for _ in 0..SAMPLES {
                let began = Instant::now();
                wire.send(&bytes).await;
                assert_eq!(wire.receive().await.unwrap().status(), 200);
                samples.push(began.elapsed());
            }
            samples
        });
    }
    clients.join_all().await.concat()
}

fn p99(samples: &mut [Duration]) -> Duration {
    samples.sort_unstable();
    samples[samples.len() * 99 / 100]
}
