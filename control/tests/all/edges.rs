//! Which edges count, as several replicas of control hear them, and what revoking says of them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use authsome_contract::wire::{EdgeReport, FeedState, TableSize, names};
use authsome_control::tasks::connect;
use authsome_control::tasks::edges::{Edge, Edges};
use authsome_core::clock::SystemClock;
use authsome_core::secret::SecretUrl;
use authsome_testkit::{NatsOptions, NatsServer, wait_for};
use axum::body::Body;
use http::Request;
use sqlx::PgPool;
use tokio_util::sync::{CancellationToken, DropGuard};
use tower::ServiceExt;
use uuid::Uuid;

use crate::service::{Person, Service};

const SOON: Duration = Duration::from_secs(15);

/// A replica of control that listens.
struct Replica {
    edges: Edges,
    pool: PgPool,
    _stop: DropGuard,
}

impl Replica {
    async fn listen(edges: Edges, pool: &PgPool, server: &NatsServer) -> Self {
        let nats = connect::nats(&SecretUrl::parse(&server.url()).unwrap(), "test")
            .await
            .unwrap();
        let stop = CancellationToken::new();
        tokio::spawn(edges.clone().run(pool.clone(), nats, stop.clone()));
        Self {
            edges,
            pool: pool.clone(),
            _stop: stop.drop_guard(),
        }
    }

    async fn members(&self) -> Vec<Edge> {
        self.edges
            .members(&mut self.pool.acquire().await.unwrap())
            .await
            .unwrap()
    }

    /// The members as (name, live), once they are as expected.
    async fn until(&self, expected: &[(&str, bool)]) {
        wait_for(format!("{expected:?}"), SOON, async || {
            let members = self.members().await;
            let seen: Vec<_> = members.iter().map(|edge| (edge.name.as_str(), edge.is_live)).collect();
            if seen == expected {
                Ok(())
            } else {
                Err(format!("{seen:?}"))
            }
        })
        .await
        .unwrap();
    }
}

fn edge(id: u128, name: &str, position: u64) -> EdgeReport {
    EdgeReport {
        id: Uuid::from_u128(id),
        name: name.to_owned(),
        region: "eu-west-1".to_owned(),
        version: "0.1.0".to_owned(),
        epoch: 1,
        incarnation: 1,
        position,
        table: TableSize {
            keys: 2,
            apps: 1,
            bytes: 4096,
        },
        feed: FeedState::Live,
        heartbeat_age_ms: Some(100),
        goodbye: false,
    }
}

fn goodbye(report: &EdgeReport) -> EdgeReport {
    EdgeReport {
        goodbye: true,
        ..report.clone()
    }
}

/// An edge that reports four times a second, as long as it is held.
fn reporting(server: &NatsServer, report: EdgeReport) -> DropGuard {
    let (stop, url) = (CancellationToken::new(), server.url());
    let stopped = stop.clone();
    tokio::spawn(stopped.run_until_cancelled_owned(async move {
        let nats = connect::nats(&SecretUrl::parse(&url).unwrap(), "edge").await.unwrap();
        let mut pace = tokio::time::interval(Duration::from_millis(250));
        loop {
            pace.tick().await;
            say(&nats, &report).await;
        }
    }));
    stop.drop_guard()
}

async fn say(nats: &async_nats::Client, report: &EdgeReport) {
    let payload = serde_json::to_vec(report).unwrap();
    nats.publish(names::EDGE_REPORTS, payload.into()).await.unwrap();
    nats.flush().await.unwrap();
}

fn unheard() -> Edges {
    Edges::new(Arc::new(SystemClock))
}

#[tokio::test]
async fn a_replica_that_hears_nothing_counts_the_edges_that_others_hear() {
    let service = Service::new().await;
    let server = NatsServer::start(NatsOptions::default()).await.unwrap();
    let hears = Replica::listen(unheard(), &service.pool, &server).await;
    let deaf_server = NatsServer::start(NatsOptions::default()).await.unwrap();
    let deaf = Replica::listen(unheard(), &service.pool, &deaf_server).await;
    let (one, two) = (edge(1, "one", 5), edge(2, "two", 6));
    let _one = reporting(&server, one.clone());
    let stop_two = reporting(&server, two.clone());
    hears.until(&[("one", true), ("two", true)]).await;
    deaf.until(&[("one", false), ("two", false)]).await;

    // Silence makes it missing; only its goodbye ends it.
    drop(stop_two);
    hears.until(&[("one", true), ("two", false)]).await;
    let nats = server.connect().await.unwrap();
    say(&nats, &goodbye(&two)).await;
    hears.until(&[("one", true)]).await;
    deaf.until(&[("one", false)]).await;

    // A replica that missed the goodbye cannot bring it back.
    let _late = reporting(&deaf_server, two);
    let _three = reporting(&deaf_server, edge(3, "three", 1));
    deaf.until(&[("one", false), ("three", true)]).await;
    hears.until(&[("one", true), ("three", false)]).await;
}

#[tokio::test]
async fn an_edge_counts_for_fifteen_minutes_of_silence_and_no_longer() {
    let service = Service::new().await;
    let server = NatsServer::start(NatsOptions::default()).await.unwrap();
    let first = Replica::listen(unheard(), &service.pool, &server).await;
    let stop = reporting(&server, edge(1, "one", 5));
    first.until(&[("one", true)]).await;
    let restarted = Replica {
        edges: unheard(),
        pool: service.pool.clone(),
        _stop: CancellationToken::new().drop_guard(),
    };
    restarted.until(&[("one", false)]).await;
    drop((stop, first));
    for (age, members) in [("14 min 50 s", 1), ("15 min 1 s", 0)] {
        sqlx::query("UPDATE edges SET last_report_at = now() - $1::interval")
            .bind(age)
            .execute(&service.pool)
            .await
            .unwrap();
        assert_eq!(restarted.members().await.len(), members, "{age}");
    }
}

#[tokio::test]
async fn what_is_not_a_report_is_dropped_and_the_next_one_is_heard() {
    let service = Service::new().await;
    let server = NatsServer::start(NatsOptions::default()).await.unwrap();
    let replica = Replica::listen(unheard(), &service.pool, &server).await;
    let nats = server.connect().await.unwrap();
    let _one = reporting(&server, edge(1, "one", 5));
    replica.until(&[("one", true)]).await;
    nats.publish(names::EDGE_REPORTS, "not JSON".into()).await.unwrap();
    say(&nats, &edge(2, &"x".repeat(254), 5)).await;
    let _three = reporting(&server, edge(3, "three", 5));
    replica.until(&[("one", true), ("three", true)]).await;
}

struct World {
    service: Service,
    owner: Person,
    keys: String,
    key: String,
}

impl World {
    async fn new() -> Self {
        let service = Service::new().await;
        let owner = service.person("owner@x.io").await;
        let workspace = service.workspace(&owner, "free").await;
        let application = service.application(&owner, &workspace, "shop").await.string("id");
        let keys = format!("/api/v1/applications/{application}/keys");
        let key = service.get(&keys, &owner).await.json["data"][0]["id"]
            .as_str()
            .unwrap()
            .to_owned();
        Self {
            service,
            owner,
            keys,
            key,
        }
    }

    async fn revoke(&self, query: &str) -> crate::service::Answer {
        let path = format!("{}/{}?{query}", self.keys, self.key);
        self.service.delete(&path, &self.owner).await
    }
}

#[tokio::test]
async fn what_cannot_be_waited_for_is_refused_before_anything_is_revoked() {
    let world = World::new().await;
    for query in [
        "wait=everybody",
        "wait=edges&timeoutMs=0",
        "wait=edges&timeoutMs=10001",
        "wait=edges&timeoutMs=-1",
        "timeoutMs=100",
        "wait=edges&until=1",
    ] {
        world.revoke(query).await.assert_error(400, "invalid_request");
    }
    assert_eq!(
        world
            .service
            .count("SELECT count(*) FROM api_keys WHERE revoked_at IS NOT NULL")
            .await,
        0
    );
}

#[tokio::test]
async fn without_an_edge_there_is_nothing_to_wait_for() {
    let world = World::new().await;
    let answer = world.revoke("wait=edges&timeoutMs=10000").await;
    assert_eq!(answer.text, r#"{"acked":0,"total":0,"maxMs":null,"missing":[]}"#);
}

#[tokio::test]
async fn without_a_relay_every_edge_is_missing_when_the_time_is_up() {
    let world = World::new().await;
    let server = NatsServer::start(NatsOptions::default()).await.unwrap();
    let replica = Replica::listen(world.service.app.edges().clone(), &world.service.pool, &server).await;
    let _one = reporting(&server, edge(1, "one", 1_000_000));
    replica.until(&[("one", true)]).await;
    let began = Instant::now();
    let answer = world.revoke("wait=edges&timeoutMs=300").await;
    assert!(began.elapsed() >= Duration::from_millis(300));
    assert_eq!(
        (answer.json["acked"].as_u64(), answer.json["total"].as_u64()),
        (Some(0), Some(1))
    );
    assert_eq!(answer.json["missing"][0]["name"], "one", "{}", answer.text);
    assert_eq!(
        world
            .service
            .count("SELECT count(*) FROM api_keys WHERE revoked_at IS NOT NULL")
            .await,
        1
    );
}

#[tokio::test]
async fn an_edge_of_another_epoch_has_acknowledged_nothing() {
    let world = World::new().await;
    let server = NatsServer::start(NatsOptions::default()).await.unwrap();
    let replica = Replica::listen(world.service.app.edges().clone(), &world.service.pool, &server).await;
    let _same = reporting(&server, edge(1, "same", 1_000_000));
    let _other = reporting(
        &server,
        EdgeReport {
            epoch: 2,
            ..edge(2, "z-other", 1_000_000)
        },
    );
    replica.until(&[("same", true), ("z-other", true)]).await;
    // In place of the relay.
    let positions = "UPDATE outbox SET position = id WHERE position IS NULL";
    let relay = async {
        let mut pace = tokio::time::interval(Duration::from_millis(20));
        loop {
            pace.tick().await;
            sqlx::query(positions).execute(&world.service.pool).await.unwrap();
        }
    };
    let answer = tokio::select! {
        answer = world.revoke("wait=edges&timeoutMs=1000") => answer,
        () = relay => unreachable!("the relay goes on"),
    };
    assert_eq!(
        (answer.json["acked"].as_u64(), answer.json["total"].as_u64()),
        (Some(1), Some(2)),
        "{}",
        answer.text
    );
    assert_eq!(answer.json["missing"][0]["name"], "z-other", "{}", answer.text);
}

#[tokio::test]
async fn customers_see_state_and_lag_by_pages_and_operators_everything() {
    let world = World::new().await;
    let server = NatsServer::start(NatsOptions::default()).await.unwrap();
    let replica = Replica::listen(world.service.app.edges().clone(), &world.service.pool, &server).await;
    let _one = reporting(&server, edge(1, "one", 5));
    let _two = reporting(
        &server,
        EdgeReport {
            epoch: 9,
            ..edge(2, "two", 6)
        },
    );
    replica.until(&[("one", true), ("two", true)]).await;
    sqlx::query("UPDATE outbox_position SET last = 12")
        .execute(&world.service.pool)
        .await
        .unwrap();
    let page = world.service.get("/api/v1/edges?pageSize=1", &world.owner).await;
    assert_eq!(page.json["total"], 2, "{}", page.text);
    let one = &page.json["data"][0];
    assert_eq!(
        (&one["name"], &one["state"], &one["lag"]),
        (&"one".into(), &"live".into(), &7.into()),
        "{one}"
    );
    // How large the platform is, and what runs there, is for its operators.
    let names: Vec<&str> = one.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names, ["id", "lag", "lastReportAt", "name", "region", "state"]);
    let request = Request::builder().uri("/edges").body(Body::empty()).unwrap();
    let admin = authsome_control::admin::router(world.service.app.clone());
    let answer = admin.oneshot(request).await.unwrap();
    let bytes = axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap();
    let told: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(
        told["edges"][0]["table"],
        serde_json::json!({ "keys": 2, "applications": 1, "bytes": 4096 })
    );
    assert_eq!(
        (&told["edges"][0]["position"], &told["edges"][0]["live"]),
        (&5.into(), &true.into())
    );
    let page = world.service.get("/api/v1/edges?pageSize=1&page=2", &world.owner).await;
    assert_eq!(page.json["data"][0]["name"], "two", "{}", page.text);
    assert!(page.json["data"][0]["lag"].is_null(), "another epoch: {}", page.text);
}
