//! What a team does with an application that exists.

mod endings;

use http::StatusCode;
use serde_json::{Value, json};

use crate::service::{Answer, Person, Service};

struct World {
    service: Service,
    ada: Person,
    workspace: String,
    app: String,
}

impl World {
    async fn new(plan: &str) -> Self {
        let service = Service::new().await;
        let (ada, workspace, app) = service.shop(plan).await;
        Self {
            service,
            ada,
            workspace,
            app,
        }
    }

    fn path(&self) -> String {
        format!("/api/v1/applications/{}", self.app)
    }

    async fn act(&self, verb: &str) -> Answer {
        self.service
            .post(&format!("{}/{verb}", self.path()), &self.ada, json!({}))
            .await
    }

    async fn patch(&self, body: Value) -> Answer {
        self.service.patch(&self.path(), &self.ada, body).await
    }

    async fn status(&self) -> String {
        self.service.get(&self.path(), &self.ada).await.string("status")
    }

    /// As if the provisioner had done it.
    async fn is(&self, status: &str, activated: bool) {
        let statements = [
            "UPDATE operations SET status = 'succeeded', finished_at = now()
             WHERE status IN ('queued', 'running') AND application_id = $1",
            if activated {
                "UPDATE applications SET activated_at = now() WHERE id = $1"
            } else {
                "UPDATE applications SET activated_at = NULL WHERE id = $1"
            },
        ];
        for statement in statements {
            sqlx::query(statement)
                .bind(&self.app)
                .execute(&self.service.pool)
                .await
                .unwrap();
        }
        sqlx::query(
            "UPDATE applications SET status = $2, status_deadline = NULL,
                    deleted_at = CASE WHEN $2 IN ('deleting', 'purging') THEN now() END,
                    purge_after = CASE WHEN $2 = 'deleting' THEN now() + interval '7 days' END
             WHERE id = $1",
        )
        .bind(&self.app)
        .bind(status)
        .execute(&self.service.pool)
        .await
        .unwrap();
    }

    /// Kind and generation of the jobs that were sent, oldest first.
    async fn jobs(&self) -> Vec<(String, i64)> {
        sqlx::query_as(
            "SELECT payload->>'kind', (payload->>'generation')::bigint FROM outbox WHERE topic = 'job'
             AND payload->>'applicationId' = $1 ORDER BY id",
        )
        .bind(&self.app)
        .fetch_all(&self.service.pool)
        .await
        .unwrap()
    }

    async fn audited(&self) -> Vec<String> {
        sqlx::query_scalar("SELECT action FROM audit_events WHERE application_id = $1 ORDER BY seq")
            .bind(&self.app)
            .fetch_all(&self.service.pool)
            .await
            .unwrap()
    }
}

fn job(kind: &str, generation: i64) -> (String, i64) {
    (kind.to_owned(), generation)
}

#[tokio::test]
async fn each_action_is_a_new_status_a_generation_an_operation_a_job_and_an_audit_event() {
    let world = World::new("free").await;
    for (from, verb, to, kind) in [
        ("active", "restart", "restarting", "restart"),
        ("active", "suspend", "suspended", "suspend"),
        ("suspended", "resume", "updating", "resume"),
        ("failed", "retry", "updating", "update"),
        ("deleting", "undelete", "updating", "undelete"),
    ] {
        world.is(from, true).await;
        let generation = i64::try_from(world.jobs().await.len()).unwrap() + 1;
        let answer = world.act(verb).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{verb}: {}", answer.text);
        assert_eq!(answer.json["status"], to, "{verb}");
        assert_eq!(world.status().await, to, "{verb}");
        assert_eq!(world.jobs().await.last(), Some(&job(kind, generation)), "{verb}");
        let operation = world
            .service
            .get(
                &format!("/api/v1/operations/{}", answer.string("operationId")),
                &world.ada,
            )
            .await;
        assert_eq!(
            (&operation.json["kind"], &operation.json["status"]),
            (&json!(kind), &json!("queued"))
        );
        assert!(!operation.json["steps"].as_array().unwrap().is_empty());
        assert_eq!(world.audited().await.last(), Some(&format!("application.{verb}")));
    }
    // A build that failed before it ever served is built again.
    world.is("failed", false).await;
    assert_eq!(world.act("retry").await.json["status"], "provisioning");
    assert_eq!(world.jobs().await.last().unwrap().0, "provision");
}

#[tokio::test]
async fn new_credentials_are_an_operation_of_an_application_that_goes_on_serving() {
    let world = World::new("free").await;
    world.is("active", true).await;
    let answer = world.act("credentials/rotate").await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.text);
    assert_eq!(world.status().await, "restarting");
    assert_eq!(world.jobs().await.last().unwrap().0, "rotate");
    let path = format!("/api/v1/operations/{}", answer.string("operationId"));
    let operation = world.service.get(&path, &world.ada).await;
    let steps = operation.json["steps"].as_array().unwrap();
    let names: Vec<&str> = steps.iter().map(|step| step["name"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        [
            "preflight",
            "renew",
            "database",
            "redis",
            "secrets",
            "instance",
            "rollout",
            "activate",
            "retire"
        ]
    );
    let audited = world.audited().await;
    assert_eq!(audited.last(), Some(&"application.rotate_credentials".to_owned()));
    // While it is under way another one takes its place.
    assert_eq!(world.act("credentials/rotate").await.status, StatusCode::ACCEPTED);
    for status in ["provisioning", "updating", "suspended", "failed", "deleting"] {
        world.is(status, true).await;
        assert_eq!(
            world.act("credentials/rotate").await.status,
            StatusCode::CONFLICT,
            "{status}"
        );
    }
}

#[tokio::test]
async fn what_the_status_does_not_allow_is_refused_and_changes_nothing() {
    let world = World::new("free").await;
    for (status, verbs) in [
        ("active", vec!["resume", "retry", "undelete"]),
        ("suspended", vec!["restart", "retry", "undelete"]),
        (
            "provisioning",
            vec!["restart", "suspend", "resume", "retry", "undelete"],
        ),
        ("failed", vec!["restart", "resume", "undelete"]),
        ("deleting", vec!["restart", "suspend", "resume", "retry"]),
        ("purging", vec!["restart", "suspend", "resume", "retry", "undelete"]),
    ] {
        world.is(status, true).await;
        let before = (world.jobs().await, world.audited().await);
        for verb in verbs {
            let answer = world.act(verb).await;
            answer.assert_error(409, "conflict");
            assert_eq!(
                answer.json["error"]["details"]["status"], status,
                "{status} {verb}: {}",
                answer.text
            );
        }
        assert_eq!((world.jobs().await, world.audited().await), before, "{status}");
    }
}

#[tokio::test]
async fn a_deleted_application_is_dead_at_once_and_comes_back_within_its_grace() {
    let world = World::new("free").await;
    world.is("active", true).await;
    for _ in 0..2 {
        let answer = world.service.delete(&world.path(), &world.ada).await;
        assert_eq!((answer.status, answer.text.as_str()), (StatusCode::NO_CONTENT, ""));
    }
    assert_eq!(world.jobs().await.last(), Some(&job("delete", 2)), "once");
    let shown = world.service.get(&world.path(), &world.ada).await;
    assert_eq!(shown.json["status"], "deleting");
    assert!(shown.json["purgeAfter"].is_string());
    let serve: String = sqlx::query_scalar("SELECT status FROM edge_apps WHERE id = $1")
        .bind(&world.app)
        .fetch_one(&world.service.pool)
        .await
        .unwrap();
    assert_eq!(serve, "deleting");
    world
        .patch(json!({ "name": "New" }))
        .await
        .assert_error(409, "conflict");
    assert_eq!(world.act("undelete").await.status, StatusCode::ACCEPTED);
    let shown = world.service.get(&world.path(), &world.ada).await;
    assert_eq!(
        (&shown.json["status"], shown.json.get("purgeAfter")),
        (&json!("updating"), None)
    );
    assert_eq!(world.jobs().await.last(), Some(&job("undelete", 3)));
}

#[tokio::test]
async fn an_application_does_not_come_back_past_the_plans_limit() {
    let world = World::new("free").await;
    world.is("active", true).await;
    world.service.delete(&world.path(), &world.ada).await;
    for slug in ["one", "two", "three"] {
        world.service.application(&world.ada, &world.workspace, slug).await;
    }
    let answer = world.act("undelete").await;
    answer.assert_error(403, "forbidden");
    assert_eq!(answer.json["error"]["reason"], "application_limit");
    assert_eq!(answer.json["error"]["details"], json!({ "plan": "free", "limit": 3 }));
}

#[tokio::test]
async fn configuration_is_merged_checked_and_rolled_out_while_the_application_serves() {
    let world = World::new("free").await;
    world.is("active", true).await;
    let config = json!({ "session": { "token_ttl": "2h" }, "password": { "min_length": 12 } });
    let answer = world.patch(json!({ "config": config })).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    assert_eq!(
        (&answer.json["config"], &answer.json["status"]),
        (&config, &json!("updating"))
    );
    assert!(answer.json["operationId"].is_string());
    assert_eq!(world.jobs().await.last(), Some(&job("update", 2)));

    world.is("active", true).await;
    let deep = world
        .patch(json!({ "config": { "session": { "max_active_sessions": 3 }, "password": null } }))
        .await;
    assert_eq!(
        deep.json["config"],
        json!({ "session": { "token_ttl": "2h", "max_active_sessions": 3 } })
    );
    // The same again is no rollout.
    world.is("active", true).await;
    let again = world
        .patch(json!({ "config": { "session": { "max_active_sessions": 3 } } }))
        .await;
    assert_eq!(
        (&again.json["operationId"], &again.json["status"]),
        (&Value::Null, &json!("active"))
    );

    for (body, field) in [
        (
            json!({ "config": { "session": { "token_ttl": "x" } } }),
            "config.session.token_ttl",
        ),
        (json!({ "config": { "sesion": {} } }), "config.sesion"),
        (json!({ "config": [] }), "config"),
        (json!({ "name": "" }), "name"),
        (json!({ "slug": "A b" }), "slug"),
        (json!({ "metadata": "x" }), "metadata"),
        (json!({ "metadata": { "a": "x".repeat(20_000) } }), "metadata"),
        (json!({ "edge": { "strictSeconds": 1 } }), "edge.strictSeconds"),
        (json!({ "environment": "staging" }), "environment"),
        (json!({ "region": "us-east-1" }), "region"),
    ] {
        let answer = world.patch(body.clone()).await;
        answer.assert_error(400, "invalid_request");
        assert!(!answer.field(field).is_empty(), "{body}: {}", answer.text);
    }
    world
        .patch(json!({ "colour": "red" }))
        .await
        .assert_error(400, "invalid_request");

    // What is stopped keeps its configuration for when it starts.
    world.is("suspended", true).await;
    let stopped = world
        .patch(json!({ "config": { "lockout": { "enabled": true } } }))
        .await;
    assert_eq!(
        (&stopped.json["operationId"], &stopped.json["status"]),
        (&Value::Null, &json!("suspended"))
    );
    // A build that is under way begins anew.
    world.is("provisioning", false).await;
    world.patch(json!({ "config": { "lockout": null } })).await;
    assert_eq!(world.jobs().await.last().unwrap().0, "provision");
}

#[tokio::test]
async fn names_notes_and_the_edge_change_together_or_not_at_all() {
    let world = World::new("pro").await;
    world.service.application(&world.ada, &world.workspace, "taken").await;
    let jobs = world.jobs().await.len();
    let body = json!({ "name": "Boutique", "slug": "boutique", "metadata": { "team": "blue", "cost": 4 },
        "edge": { "strictSeconds": 60 }, "environment": "production" });
    let changed = world.patch(body).await;
    assert_eq!(changed.status, StatusCode::OK, "{}", changed.text);
    assert_eq!(
        (&changed.json["name"], &changed.json["slug"]),
        (&json!("Boutique"), &json!("boutique"))
    );
    let merged = world.patch(json!({ "metadata": { "cost": null } })).await;
    assert_eq!(merged.json["metadata"], json!({ "team": "blue" }));
    assert_ne!(merged.headers["etag"], changed.headers["etag"]);
    assert_eq!(world.jobs().await.len(), jobs, "none of it is rolled out");

    let refused = world
        .patch(json!({ "slug": "taken", "edge": { "strictSeconds": 90 } }))
        .await;
    refused.assert_error(409, "conflict");
    assert_eq!(refused.field("slug"), "is taken");
    let shown = world.service.get(&world.path(), &world.ada).await;
    assert_eq!(
        (&shown.json["slug"], &shown.json["edge"]["strictSeconds"]),
        (&json!("boutique"), &json!(60))
    );
}

#[tokio::test]
async fn what_staff_stopped_its_team_cannot_start() {
    let world = World::new("free").await;
    world.is("active", true).await;
    let stop = async |reason: Option<&str>| {
        let mut transaction = world.service.pool.begin().await.unwrap();
        let operation =
            authsome_core::id::Id::generate(&world.service.clock, &authsome_core::entropy::SystemEntropy::new());
        let now = authsome_core::clock::Clock::now(&world.service.clock);
        let id = world.app.parse().unwrap();
        authsome_control::command::application::staff(&mut transaction, id, reason, now, operation)
            .await
            .unwrap();
        transaction.commit().await.unwrap();
    };
    stop(Some("Phishing was reported")).await;
    assert_eq!(world.status().await, "suspended");
    assert_eq!(world.jobs().await.last().unwrap().0, "suspend");
    let refused = world.act("resume").await;
    refused.assert_error(403, "forbidden");
    assert_eq!(refused.json["error"]["reason"], "suspended_by_staff");
    assert!(refused.message().contains("Phishing was reported"));
    let shown = world.service.get(&world.path(), &world.ada).await;
    assert_eq!(shown.json["staffSuspension"], "Phishing was reported");
    stop(None).await;
    assert_eq!(world.status().await, "suspended", "its team starts it");
    assert_eq!(world.act("resume").await.status, StatusCode::ACCEPTED);
}

#[tokio::test]
async fn plans_and_regions_are_told_to_anybody() {
    let service = Service::new().await;
    let plans = service.call(http::Method::GET, "/api/v1/plans", None, None).await;
    assert_eq!(plans.json["data"][0]["id"], "free");
    assert_eq!(plans.json["data"][0]["applications"], 3);
    assert_eq!(plans.json["data"][1]["applications"], Value::Null);
    assert_eq!(plans.json["data"][2]["selfService"], false);
    let regions = service.call(http::Method::GET, "/api/v1/regions", None, None).await;
    assert_eq!(
        regions.json["data"],
        json!([
            { "id": "eu-west-1", "isDefault": true }, { "id": "us-east-1", "isDefault": false },
        ])
    );
}
