//! The audit trail: who sees it, that nothing of it can be changed unseen, and how long it is kept.

use std::sync::Arc;

use authsome_control::audit::checkpoint::Signer;
use authsome_control::audit::verify::{self, Head, Report};
use authsome_control::tasks::audit_keeper::AuditKeeper;
use authsome_core::clock::{Clock, ManualClock};
use authsome_core::entropy::SystemEntropy;
use http::StatusCode;
use serde_json::{Value, json};

use crate::service::{Person, Service};

struct World {
    service: Service,
    ada: Person,
    workspace: String,
    app: String,
}

const SEED: &str = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";

impl World {
    async fn new() -> Self {
        let service = Service::new().await;
        let (ada, workspace, app) = service.shop("free").await;
        let world = Self {
            service,
            ada,
            workspace,
            app,
        };
        for n in 0..5 {
            let body = json!({ "name": format!("Key {n}"), "type": "secret" });
            world
                .service
                .post(&format!("/api/v1/applications/{}/keys", world.app), &world.ada, body)
                .await;
        }
        world
    }

    fn path(&self, rest: &str) -> String {
        format!("/api/v1/workspaces/{}/audit{rest}", self.workspace)
    }

    async fn get(&self, rest: &str) -> Value {
        let answer = self.service.get(&self.path(rest), &self.ada).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        answer.json
    }

    async fn verify(&self, known: &[Head]) -> Report {
        let mut connection = self.service.pool.acquire().await.unwrap();
        verify::verify(&mut connection, None, known, &[]).await.unwrap()
    }

    /// As somebody who may do anything in the database.
    async fn tamper(&self, statement: &str) {
        let mut connection = self.service.pool.acquire().await.unwrap();
        sqlx::query("SET session_replication_role = replica")
            .execute(&mut *connection)
            .await
            .unwrap();
        let statement = statement.replace("WS", &self.workspace);
        let done = sqlx::query(sqlx::AssertSqlSafe(statement))
            .execute(&mut *connection)
            .await
            .unwrap();
        assert_eq!(done.rows_affected(), 1);
        sqlx::query("RESET session_replication_role")
            .execute(&mut *connection)
            .await
            .unwrap();
    }

    fn keeper(&self, clock: &ManualClock) -> AuditKeeper {
        AuditKeeper {
            pool: self.service.pool.clone(),
            signer: Some(Signer::parse(&SEED.into()).unwrap()),
            clock: Arc::new(clock.clone()),
            entropy: Arc::new(SystemEntropy::new()),
        }
    }

    async fn count(&self) -> i64 {
        sqlx::query_scalar("SELECT count(*) FROM audit_events WHERE workspace_id = $1")
            .bind(&self.workspace)
            .fetch_one(&self.service.pool)
            .await
            .unwrap()
    }
}

#[tokio::test]
async fn the_trail_is_listed_newest_first_by_pages_and_filters() {
    let world = World::new().await;
    let all = world.get("").await;
    let events = all["data"].as_array().unwrap();
    let actions: Vec<&str> = events.iter().map(|event| event["action"].as_str().unwrap()).collect();
    assert_eq!(
        actions,
        [
            "key.create",
            "key.create",
            "key.create",
            "key.create",
            "key.create",
            "application.create",
            "workspace.create"
        ]
    );
    assert_eq!(all["nextCursor"], Value::Null);
    assert_eq!(events[0]["actor"], world.ada.id.as_str());
    assert!(!all.to_string().contains("sk_live_"), "no secrets");

    let first = world.get("?limit=3").await;
    let second = world
        .get(&format!("?limit=3&cursor={}", first["nextCursor"].as_str().unwrap()))
        .await;
    let third = world
        .get(&format!("?limit=3&cursor={}", second["nextCursor"].as_str().unwrap()))
        .await;
    let paged: Vec<&Value> = [&first, &second, &third]
        .iter()
        .flat_map(|page| page["data"].as_array().unwrap())
        .collect();
    assert_eq!(paged, events.iter().collect::<Vec<_>>());
    assert_eq!(third["nextCursor"], Value::Null);

    assert_eq!(
        world.get("?action=application.create").await["data"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(
        world.get(&format!("?application={}", world.app)).await["data"]
            .as_array()
            .unwrap()
            .len(),
        6
    );
    assert_eq!(
        world.get(&format!("?actor={}&status=success", world.ada.id)).await["data"]
            .as_array()
            .unwrap()
            .len(),
        7
    );
    assert_eq!(world.get("?until=2020-01-01T00:00:00Z").await["data"], json!([]));
    for bad in [
        "?limit=0",
        "?limit=101",
        "?cursor=x",
        "?status=maybe",
        "?since=yesterday",
        "?colour=red",
    ] {
        world
            .service
            .get(&world.path(bad), &world.ada)
            .await
            .assert_error(400, "invalid_request");
    }

    let export = world.service.get(&world.path("/export"), &world.ada).await;
    let lines: Vec<Value> = export
        .text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let reversed: Vec<Value> = events.iter().rev().cloned().collect();
    assert_eq!(lines, reversed);
    let exported = async |query: &str| {
        let answer = world
            .service
            .get(&world.path(&format!("/export{query}")), &world.ada)
            .await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        answer.text.lines().count()
    };
    assert_eq!(exported("?action=key.create").await, 5);
    assert_eq!(exported("?action=key.create&status=failure").await, 0);
    assert_eq!(exported("?since=1h").await, events.len());
    assert_eq!(exported("?until=1h").await, 0);
    assert_eq!(
        world.get("?since=1h").await["data"].as_array().map(Vec::len),
        Some(events.len())
    );
    assert_eq!(world.get("?until=1h").await["data"], json!([]));
    for bad in [
        "?format=csv",
        "?limit=5",
        "?status=maybe",
        "?since=yesterday",
        "?actor=%00",
    ] {
        let answer = world
            .service
            .get(&world.path(&format!("/export{bad}")), &world.ada)
            .await;
        answer.assert_error(400, "invalid_request");
    }
    let head = world.get("/head").await;
    assert_eq!((&head["seq"], &head["hash"]), (&events[0]["seq"], &events[0]["hash"]));
}

#[tokio::test]
async fn an_untouched_trail_verifies_and_every_kind_of_tampering_shows() {
    let world = World::new().await;
    let clock = ManualClock::new(world.service.clock.now());
    world.keeper(&clock).look().await.unwrap();
    let report = world.verify(&[]).await;
    assert_eq!(report.findings, []);
    assert!(
        report.chains >= 2 && report.events >= 8 && report.checkpoints >= 2,
        "{report:?}"
    );

    for (what, statement) in [
        (
            "altered",
            "UPDATE audit_events SET changes = '{\"name\": \"innocent\"}' WHERE chain = 'WS' AND seq = 3",
        ),
        (
            "another actor",
            "UPDATE audit_events SET actor_id = NULL WHERE chain = 'WS' AND seq = 2",
        ),
        (
            "another time",
            "UPDATE audit_events SET created_at = created_at + interval '1 second' WHERE chain = 'WS' AND seq = 2",
        ),
        ("removed", "DELETE FROM audit_events WHERE chain = 'WS' AND seq = 4"),
        (
            "the last removed",
            "DELETE FROM audit_events WHERE chain = 'WS' AND seq = 7",
        ),
        (
            "put in",
            "INSERT INTO audit_events (id, chain, seq, hash, actor_type, action, resource, status)
                    SELECT 'evt_01h455vb4pex5vsknk084sn02q', 'WS', 8, hash, 'user', 'a.b', 'x', 'success'
                    FROM audit_events WHERE chain = 'WS' AND seq = 7",
        ),
        (
            "put in beside all chains",
            "INSERT INTO audit_events (id, chain, seq, hash, actor_type, action, resource, status)
                    SELECT 'evt_01h455vb4pex5vsknk084sn02q', 'x', 1, hash, 'user', 'a.b', 'x', 'success'
                    FROM audit_events WHERE chain = 'WS' AND seq = 7",
        ),
        (
            "head moved",
            "UPDATE audit_chains SET seq = 6, hash = (SELECT hash FROM audit_events WHERE chain = 'WS' AND seq = 6) WHERE chain = 'WS'",
        ),
        (
            "dropped without saying",
            "UPDATE audit_chains SET dropped_seq = 2, dropped_hash = (SELECT hash FROM audit_events WHERE chain = 'WS' AND seq = 2) WHERE chain = 'WS'",
        ),
        (
            "checkpoint altered",
            "UPDATE audit_checkpoints SET hash = sha256('x') WHERE chain = 'WS'",
        ),
    ] {
        let fresh = World::new().await;
        let clock = ManualClock::new(fresh.service.clock.now());
        fresh.keeper(&clock).look().await.unwrap();
        fresh.tamper(statement).await;
        let report = fresh.verify(&[]).await;
        assert!(
            report
                .findings
                .iter()
                .any(|finding| [fresh.workspace.as_str(), "x"].contains(&finding.chain.as_str())),
            "{what}: {report:?}"
        );
    }
}

#[tokio::test]
async fn a_head_that_was_kept_elsewhere_finds_a_trail_that_was_written_anew() {
    let world = World::new().await;
    let head: Head = serde_json::from_value(world.get("/head").await).unwrap();
    assert_eq!(world.verify(std::slice::from_ref(&head)).await.findings, []);
    world
        .service
        .post(
            &format!("/api/v1/applications/{}/keys", world.app),
            &world.ada,
            json!({ "name": "x", "type": "public" }),
        )
        .await;
    assert_eq!(
        world.verify(std::slice::from_ref(&head)).await.findings,
        [],
        "the chain grew"
    );
    // Somebody takes the last events away and makes the chain fit.
    world
        .tamper("DELETE FROM audit_events WHERE chain = 'WS' AND seq = 8")
        .await;
    world
        .tamper("DELETE FROM audit_events WHERE chain = 'WS' AND seq = 7")
        .await;
    world.tamper("UPDATE audit_chains SET seq = 6, hash = (SELECT hash FROM audit_events WHERE chain = 'WS' AND seq = 6) WHERE chain = 'WS'").await;
    assert_eq!(world.verify(&[]).await.findings, [], "by itself it fits");
    let report = world.verify(&[head]).await;
    assert_eq!(report.findings.len(), 1, "{report:?}");
    assert!(report.findings[0].problem.contains("gone"));
}

#[tokio::test]
async fn retention_drops_whole_signed_ranges_says_so_and_leaves_a_chain_that_verifies() {
    let world = World::new().await;
    let clock = ManualClock::new(world.service.clock.now());
    let keeper = world.keeper(&clock);
    assert_eq!(keeper.look().await.unwrap(), 0);
    clock.advance(std::time::Duration::from_hours(24 * 6));
    assert_eq!(keeper.look().await.unwrap(), 0, "the free plan keeps a week");
    clock.advance(std::time::Duration::from_hours(24 * 2));
    assert_eq!(keeper.look().await.unwrap(), 7);
    assert_eq!(world.count().await, 1, "what says that they were dropped");
    let trail = world.get("").await;
    assert_eq!(trail["data"][0]["action"], "audit.retain");
    assert_eq!(trail["data"][0]["changes"], json!({ "droppedUpTo": 7, "events": 7 }));
    assert_eq!(world.verify(&[]).await.findings, []);
    assert_eq!(keeper.look().await.unwrap(), 0);
}

#[tokio::test]
async fn events_of_one_workspace_that_come_at_once_make_one_chain() {
    let world = World::new().await;
    let path = format!("/api/v1/applications/{}/keys", world.app);
    let body = json!({ "name": "x", "type": "public" });
    futures::future::join_all((0..12).map(|_| world.service.post(&path, &world.ada, body.clone()))).await;
    assert_eq!(world.count().await, 19);
    assert_eq!(world.verify(&[]).await.findings, []);
}
