//! What an edge process makes of a feed that doubles, reorders and damages its messages, of keys that it has not heard of, and
//! of a disk that is full, while requests go on.

use std::fs;

use authsome_contract::wire::names;
use authsome_core::key::{ApiKey, KeyType};
use authsome_testkit::{ChaosProxy, Mode, wait_for};

use crate::db::{App, NewApp, Tenants};
use crate::edge::{Edge, command, key, request};
use crate::fed::{Fed, key_change};
use crate::instance::{Instance, nobody};
use crate::load::Load;
use crate::routing_fixture::SOON;
use crate::wire::exchange;

/// Requests while something is wrong.
const UNDER_WAY: u64 = 40;

async fn status(edge: &Edge, app: &App, by: &ApiKey) -> u16 {
    edge.get(app.id, "/users", &key(by)).await.status()
}

#[tokio::test]
async fn doubled_reordered_and_unknown_messages_change_nothing_and_cost_no_request() {
    let (tenants, instance) = (Tenants::new().await, Instance::echo().await);
    tenants.move_to_plan("pro").await;
    let app = tenants.app(NewApp::at(&[instance.endpoint()])).await;
    let doomed = tenants.key(app.id, KeyType::Secret, &["*"]).await;
    let fed = Fed::start(&tenants).await;
    let load = Load::start(&fed.edge, &app, &app.secret);
    assert_eq!(status(&fed.edge, &app, &doomed).await, 200);
    fed.revoke(&tenants, &app, &doomed).await;
    wait_for("the revocation", SOON, async || {
        (status(&fed.edge, &app, &doomed).await == 401).then_some(())
    })
    .await
    .unwrap();
    for (row, state) in [
        (1, "active"),
        (2, "revoked"),
        (1, "active"),
        (2, "revoked"),
        (1, "active"),
    ] {
        let position = {
            let mut relay = fed.relay.lock().await;
            relay.publish(&key_change(&app, &doomed, row, state)).await;
            relay.publish_raw("edge.planet.mars".to_owned(), "{}").await;
            relay.position
        };
        // None of them holds up what it claims.
        fed.reported("the position", |report| report.position == position).await;
        assert_eq!(status(&fed.edge, &app, &doomed).await, 401, "after version {row}");
    }
    assert_eq!(fed.changes("known").await, 5);
    assert_eq!(fed.changes("undecodable").await, 5);
    load.more(UNDER_WAY).await;
    fed.edge.settled("authsome_edge_routing_feed_live", 1).await;
    load.had_no_failure();
}

#[tokio::test]
async fn what_is_not_understood_is_counted_logged_once_read_elsewhere_and_not_claimed_before() {
    let (tenants, instance) = (Tenants::new().await, Instance::echo().await);
    tenants.move_to_plan("pro").await;
    let app = tenants.app(NewApp::at(&[instance.endpoint()])).await;
    let doomed = tenants.key(app.id, KeyType::Secret, &["*"]).await;
    let server = authsome_testkit::shared_postgres().await.unwrap();
    let way = ChaosProxy::start(server.address()).await.unwrap();
    let url = way.in_place_of(&tenants.database.url);
    let fed = Fed::start_with(&tenants, &[("DATABASE_URL", &url)]).await;
    let load = Load::start(&fed.edge, &app, &app.secret);
    assert_eq!(status(&fed.edge, &app, &doomed).await, 200);

    // It cannot be read from anywhere else either.
    way.set(Mode::Refuse).await;
    tenants.revoke(&doomed).await;
    let subject = names::edge_key(&doomed.digest());
    let (before, after) = {
        let mut relay = fed.relay.lock().await;
        let before = relay.position;
        for (count, damaged) in (1..).zip(["{", "[]", "{\"version\":7}"]) {
            relay.publish_raw(subject.clone(), damaged).await;
            // The stream keeps the last message of a subject: another would take its place before it is delivered.
            wait_for("the edge to meet it", SOON, async || {
                (fed.changes("undecodable").await == count).then_some(())
            })
            .await
            .unwrap();
        }
        // What follows is applied.
        relay.publish(&key_change(&app, &app.public, 2, "revoked")).await;
        (before, relay.position)
    };
    wait_for("what follows", SOON, async || {
        let answer = fed.edge.get(app.id, "/v1/client-config", &key(&app.public)).await;
        (answer.status() == 401).then_some(())
    })
    .await
    .unwrap();
    load.more(UNDER_WAY).await;
    let report = fed.reported("a live feed", |report| report.incarnation != 0).await;
    assert_eq!(report.position, before, "it must not claim what it has not read");
    assert_eq!(
        status(&fed.edge, &app, &doomed).await,
        200,
        "nobody can say what it is now"
    );

    way.set(Mode::Pass).await;
    fed.reported("the position", |report| report.position == after).await;
    assert_eq!(status(&fed.edge, &app, &doomed).await, 401, "what is claimed is so");
    let log = fed.edge.program.log();
    assert_eq!(log.matches("cannot be understood").count(), 1, "{log}");
    load.had_no_failure();
}

#[tokio::test]
async fn a_key_is_never_refused_within_milliseconds_of_its_creation_at_an_edge_that_has_not_heard_of_it() {
    const KEYS: usize = 20;
    const AT_ONCE: usize = 5;
    let (tenants, instance) = (Tenants::new().await, Instance::echo().await);
    tenants.move_to_plan("pro").await;
    let app = tenants.app(NewApp::at(&[instance.endpoint()])).await;
    // The feed lives and says nothing of any of them.
    let fed = Fed::start(&tenants).await;
    let load = Load::start(&fed.edge, &app, &app.secret);
    let makers = (0..AT_ONCE).map(async |_| {
        for _ in 0..KEYS {
            let made = tenants.key(app.id, KeyType::Secret, &["*"]).await;
            // A busy machine may let the look-up's deadline pass, which is a 503 that says when to come back.
            wait_for("the key to be let in", SOON, async || {
                let status = status(&fed.edge, &app, &made).await;
                assert!(status == 200 || status == 503, "{status}");
                (status == 200).then_some(())
            })
            .await
            .unwrap();
        }
    });
    futures::future::join_all(makers).await;
    load.more(UNDER_WAY).await;
    load.had_no_failure();
}

#[tokio::test]
async fn a_full_disk_costs_the_snapshot_alone_and_the_older_one_still_serves() {
    // The file of counters fits, a snapshot with this application does not.
    const LIMIT_KIB: u64 = 12 * 1024;
    let (tenants, instance) = (Tenants::new().await, Instance::echo().await);
    tenants.move_to_plan("pro").await;
    let app = tenants.app(NewApp::at(&[instance.endpoint()])).await;
    tenants.fatten(app.id, 16 << 20).await;
    let directory = tempfile::tempdir().unwrap();
    let on = |postgres: &str, limit: Option<u64>| {
        let (mut command, address, admin) = command(&directory);
        if let Some(kib) = limit {
            command = command.file_limit_kib(kib);
        }
        let command = command
            .env("DATABASE_URL", postgres)
            .env("REDIS_URL", format!("redis://{}", nobody()))
            .env("NATS_URL", format!("nats://{}", nobody()))
            .ready_at(admin, "/readyz");
        (command, address)
    };
    let asked = request("GET", &format!("/v1/{}/users", app.id), &key(&app.secret), "");

    let (command, _) = on(&tenants.database.url, None);
    assert!(command.start().await.unwrap().stop().await.unwrap().success());
    let newest = directory.path().join("data/snapshots/routing.snapshot");
    let written = fs::metadata(&newest).unwrap();
    assert!(written.len() > LIMIT_KIB * 1024, "{}", written.len());

    let (command, address) = on(&tenants.database.url, Some(LIMIT_KIB));
    let mut limited = command.start().await.unwrap();
    assert_eq!(exchange(&address, asked.clone()).await.status(), 200);
    let stopped = limited.stop().await.unwrap();
    let log = limited.log();
    assert!(stopped.success(), "{log}");
    assert!(
        log.contains("the snapshot of the routing table is not written"),
        "{log}"
    );
    assert_eq!(
        fs::metadata(&newest).unwrap().modified().unwrap(),
        written.modified().unwrap()
    );
    let unfinished = newest.with_extension("snapshot.new");
    assert!(
        !unfinished.exists(),
        "what a full disk left of it would keep the disk full"
    );

    let (command, address) = on(&format!("postgres://nobody@{}/control", nobody()), None);
    let _cold = command.start().await.unwrap();
    assert_eq!(exchange(&address, asked).await.status(), 200);
}
