//! Lists, searches and the audit trail read what they need by an index, and as many statements for a page of many rows as for a
//! page of one. The plans are those of the statements that the API sends: Postgres itself tells them (`auto_explain`).

use authsome_testkit::{Plans, Population, fresh_database, plans, population};
use axum::Router;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;

use crate::service::{Person, Service, settings};

/// Enough that a scan of a table costs more than its index.
const POPULATION: Population = Population {
    people: 500,
    workspaces: 1_000,
    applications: 30_000,
    audit_events: 120_000,
};

/// Tables that grow with the platform.
const LARGE: [&str; 7] = [
    "applications",
    "api_keys",
    "audit_events",
    "operations",
    "team_members",
    "users",
    "workspaces",
];

struct World {
    service: Service,
    ada: Person,
    plans: Plans,
}

impl World {
    async fn new(population: Population) -> Self {
        let database = fresh_database(&authsome_db::MIGRATOR).await.unwrap();
        population::fill(&database.options, population).await.unwrap();
        let listening = Plans::listen();
        let options = plans::telling(database.options, false);
        let pool: PgPool = PgPoolOptions::new()
            .max_connections(2)
            .connect_with(options)
            .await
            .unwrap();
        let service = Service::on(pool, settings(), Router::new());
        let ada = service.person("ada@example.com").await;
        // The owner of the largest workspace, as far as the database goes.
        sqlx::query("UPDATE team_members SET user_id = $1 WHERE workspace_id = $2")
            .bind(&ada.id)
            .bind(Population::id("ws", 0))
            .execute(&service.pool)
            .await
            .unwrap();
        Self {
            service,
            ada,
            plans: listening,
        }
    }

    /// The plans of the statements of one request, and its answer's rows.
    async fn plans_of(&self, path: &str) -> (Vec<String>, usize) {
        self.plans.take();
        let answer = self.service.get(&format!("/api/v1{path}"), &self.ada).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        let rows = answer.json["data"].as_array().map_or(0, Vec::len);
        (self.plans.take(), rows)
    }
}

fn workspace(tail: &str) -> String {
    format!("/workspaces/{}{tail}", Population::id("ws", 0))
}

fn application(tail: &str) -> String {
    format!("/applications/{}{tail}", Population::id("app", 10))
}

#[tokio::test]
async fn every_list_search_and_look_at_the_audit_trail_uses_its_index() {
    let world = World::new(POPULATION).await;
    let (actor, app) = (Population::id("usr", 7), Population::id("app", 10));
    let long_ago = "2000-01-01T00:00:00Z";
    for (path, index) in [
        (
            workspace("/applications?pageSize=100"),
            "idx_applications_workspace_created",
        ),
        (
            workspace("/applications?environment=staging&status=suspended"),
            "idx_applications_",
        ),
        (workspace("/applications?page=20&pageSize=100"), "idx_applications_"),
        (
            workspace("/applications?search=forum%202"),
            "idx_applications_workspace_name",
        ),
        (
            workspace("/applications?search=app-2990"),
            "idx_applications_workspace_slug_bytes",
        ),
        (workspace(&format!("/applications?search={app}")), "applications_pkey"),
        (workspace("/audit?limit=100"), "idx_audit_events_chain"),
        (workspace("/audit?limit=100&cursor=5000"), "idx_audit_events_chain"),
        (
            workspace("/audit?action=application.delete"),
            "idx_audit_events_chain_action",
        ),
        (
            workspace(&format!("/audit?actor={actor}")),
            "idx_audit_events_chain_actor",
        ),
        (
            workspace(&format!("/audit?application={app}")),
            "idx_audit_events_chain_application",
        ),
        (
            workspace(&format!("/audit?resourceId={app}")),
            "idx_audit_events_chain_resource",
        ),
        (
            workspace(&format!("/audit?until={long_ago}")),
            "idx_audit_events_chain_time",
        ),
        (workspace("/members"), "idx_team_members_workspace"),
        ("/workspaces".to_owned(), "idx_team_members_user_id"),
        (application(""), "applications_pkey"),
        (application("/keys"), "idx_api_keys_application_id"),
        (application("/operations"), "idx_operations_application"),
        (application("/hosts"), "hosts"),
        (application("/secrets"), "application_secrets"),
        (application("/metrics"), "usage_counters"),
    ] {
        // A statement that is prepared once is planned for every value after five times; that plan counts too.
        for _ in 0..7 {
            let (plans, _) = world.plans_of(&path).await;
            assert!(
                plans.iter().any(|plan| plan.contains(index)),
                "{path}: no {index} in {plans:#?}"
            );
            for table in LARGE {
                let scan = format!("Seq Scan on {table}");
                assert!(!plans.iter().any(|plan| plan.contains(&scan)), "{path}: {plans:#?}");
            }
        }
    }
}

#[tokio::test]
async fn a_page_of_many_rows_takes_no_more_statements_than_a_page_of_one() {
    let world = World::new(Population {
        people: 2,
        workspaces: 2,
        applications: 400,
        audit_events: 400,
    })
    .await;
    for statement in [
        "INSERT INTO api_keys (id, application_id, type, name, digest, masked)
         SELECT 'key_' || lpad((n + 1000)::text, 26, '0'), 'app_' || lpad('10', 26, '0'), 'secret', 'Key', sha256(n::text::bytea || 'x'), 'sk'
         FROM generate_series(1, 30) AS n",
        "INSERT INTO operations (id, workspace_id, application_id, kind, status, generation, finished_at, deadline_at)
         SELECT 'op_' || lpad((n + 1000)::text, 26, '0'), 'ws_' || lpad('0', 26, '0'), 'app_' || lpad('10', 26, '0'), 'update',
                'succeeded', n + 1, now(), now() FROM generate_series(1, 30) AS n",
        "INSERT INTO provisioning_steps (operation_id, step, ordinal)
         SELECT id, 'preflight', 0 FROM operations WHERE application_id = 'app_' || lpad('10', 26, '0')",
        "INSERT INTO host_claims (application_id, host, challenge)
         SELECT 'app_' || lpad('10', 26, '0'), 'h' || n || '.example.com', repeat('x', 32) FROM generate_series(1, 30) AS n",
        "INSERT INTO application_secrets (application_id, name, sealed, set_at)
         SELECT 'app_' || lpad('10', 26, '0'), 'CUSTOM_' || n, 'x', now() FROM generate_series(1, 30) AS n",
        "INSERT INTO users (id, email, name) SELECT 'usr_' || lpad((n + 1000)::text, 26, '0'), n || '@x.io', 'P'
         FROM generate_series(1, 30) AS n",
        "INSERT INTO team_members (id, workspace_id, user_id, email, role, status)
         SELECT 'mem_' || lpad((n + 1000)::text, 26, '0'), 'ws_' || lpad('0', 26, '0'), 'usr_' || lpad((n + 1000)::text, 26, '0'),
                n || '@x.io', 'viewer', 'active' FROM generate_series(1, 30) AS n",
        "INSERT INTO service_tokens (id, workspace_id, name, digest, masked, scopes, created_by, expires_at, created_at)
         SELECT 'tok_' || lpad(n::text, 26, '0'), 'ws_' || lpad('0', 26, '0'), 'x', sha256(n::text::bytea), 'ast_', '{workspace:read}',
                'usr_' || lpad('0', 26, '0'), now() + interval '1 day', now() FROM generate_series(1, 30) AS n",
        "INSERT INTO webhook_endpoints (id, workspace_id, url, secret)
         SELECT 'whk_' || lpad(n::text, 26, '0'), 'ws_' || lpad('0', 26, '0'), 'https://x.io', 'x' FROM generate_series(1, 30) AS n",
        "INSERT INTO webhook_messages (id, workspace_id, event, data)
         SELECT 'msg_' || lpad(n::text, 32, '0'), 'ws_' || lpad('0', 26, '0'), 'key.leaked', '{}' FROM generate_series(1, 30) AS n",
        "INSERT INTO webhook_deliveries (endpoint_id, message_id)
         SELECT 'whk_' || lpad('1', 26, '0'), id FROM webhook_messages",
    ] {
        sqlx::query(statement).execute(&world.service.pool).await.unwrap();
    }
    for _ in 0..5 {
        world.service.login("ada@example.com", crate::service::PASSWORD).await;
    }
    let webhook = Population::id("whk", 1);
    let sized = |path: &str, size: &str| {
        let sign = if path.contains('?') { '&' } else { '?' };
        (format!("{path}{sign}{size}=1"), format!("{path}{sign}{size}=25"))
    };
    let other = format!("/applications/{}/operations", Population::id("app", 20));
    for (small, large) in [
        sized(&workspace("/applications"), "pageSize"),
        sized(&workspace("/applications?search=app"), "pageSize"),
        sized(&workspace("/members"), "pageSize"),
        sized(&workspace("/tokens"), "pageSize"),
        sized(&workspace("/webhooks"), "pageSize"),
        sized(&workspace(&format!("/webhooks/{webhook}/deliveries")), "pageSize"),
        sized(&workspace("/audit"), "limit"),
        sized(&application("/keys"), "pageSize"),
        sized(&application("/hosts"), "pageSize"),
        sized(&application("/secrets"), "pageSize"),
        sized("/auth/sessions", "pageSize"),
        (other, application("/operations")),
    ] {
        // Once before, for what the first use of something may write.
        world.plans_of(&small).await;
        let (one, few) = world.plans_of(&small).await;
        let (many, rows) = world.plans_of(&large).await;
        assert!(rows > few && few == 1, "{large}: {few} and {rows} rows");
        assert_eq!(one.len(), many.len(), "{large}: {many:#?}");
        assert!((1..=8).contains(&many.len()), "{large}: {} statements", many.len());
    }
}
