//! Many rows of the control database at once, made by the database itself.
//!
//! Triggers and foreign keys are off while they are written (`session_replication_role`), so that a million applications take
//! half a minute and not an hour: nothing is published, and hashes of audit events are made up. Ids are decimal digits.

use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection};

/// How many rows there are of what.
#[derive(Debug, Clone, Copy)]
pub struct Population {
    /// People; each owns the workspaces whose number is theirs modulo their count.
    pub people: i32,
    /// Workspaces. The first has a tenth of all applications and events, as large customers do.
    pub workspaces: i32,
    /// Applications, each with a public key and an operation that has ended.
    pub applications: i32,
    /// Audit events.
    pub audit_events: i32,
}

impl Population {
    /// The id of a row by its number, from 0: the same in every table.
    pub fn id(prefix: &str, number: i32) -> String {
        format!("{prefix}_{number:0>26}")
    }
}

/// Fills an empty, migrated database and gathers its statistics.
///
/// # Errors
/// What Postgres says.
pub async fn fill(options: &PgConnectOptions, population: Population) -> Result<(), sqlx::Error> {
    let mut connection = PgConnection::connect_with(options).await?;
    for statement in [
        "SET session_replication_role = replica",
        "SET synchronous_commit = off",
        "SET maintenance_work_mem = '512MB'",
    ] {
        sqlx::query(statement).execute(&mut connection).await?;
    }
    let numbers = [
        population.people,
        population.workspaces,
        population.applications,
        population.audit_events,
    ];
    for (statement, numbers) in STATEMENTS.into_iter().zip([
        vec![numbers[0]],
        vec![numbers[1], numbers[0]],
        vec![numbers[1], numbers[0]],
        vec![numbers[2], numbers[1]],
        vec![numbers[2]],
        vec![numbers[2], numbers[1]],
        vec![numbers[3], numbers[1], numbers[2], numbers[0]],
        vec![],
    ]) {
        let mut query = sqlx::query(statement);
        for number in numbers {
            query = query.bind(number);
        }
        query.execute(&mut connection).await?;
    }
    sqlx::query("VACUUM (ANALYZE)").execute(&mut connection).await?;
    connection.close().await
}

const STATEMENTS: [&str; 8] = [
    // People.
    "INSERT INTO users (id, email, name, email_verified_at)
     SELECT 'usr_' || lpad(n::text, 26, '0'), 'person-' || n || '@example.com', 'Person ' || n, now()
     FROM generate_series(0, $1::int - 1) AS n",
    "INSERT INTO workspaces (id, name, slug, owner_id, plan)
     SELECT 'ws_' || lpad(n::text, 26, '0'), 'Workspace ' || n, 'workspace-' || n,
            'usr_' || lpad((n % $2::int)::text, 26, '0'), 'enterprise'
     FROM generate_series(0, $1::int - 1) AS n",
    "INSERT INTO team_members (id, workspace_id, user_id, email, role, status, joined_at)
     SELECT 'mem_' || lpad(n::text, 26, '0'), 'ws_' || lpad(n::text, 26, '0'), 'usr_' || lpad((n % $2::int)::text, 26, '0'),
            'person-' || (n % $2::int) || '@example.com', 'owner', 'active', now()
     FROM generate_series(0, $1::int - 1) AS n",
    // Applications: every tenth belongs to the first workspace.
    "INSERT INTO applications (id, workspace_id, name, slug, environment, status, region, activated_at, k8s_namespace, endpoints,
                               cpu_limit, memory_limit, storage_limit, created_at)
     SELECT 'app_' || lpad(n::text, 26, '0'),
            'ws_' || lpad(CASE WHEN n % 10 = 0 THEN 0 ELSE n % $2::int END::text, 26, '0'),
            (ARRAY['Shop', 'Portal', 'Intranet', 'Blog', 'Forum'])[1 + n / 7 % 5] || ' ' || n, 'app-' || n,
            (ARRAY['production', 'staging', 'development'])[1 + n / 3 % 3],
            CASE WHEN n / 11 % 20 = 0 THEN 'suspended' ELSE 'active' END, 'eu-west-1', now(),
            'authsome-app-' || lpad(n::text, 26, '0'), '{10.0.0.1:8080}', '500m', '512Mi', '5Gi',
            now() - make_interval(secs => $1::int - n)
     FROM generate_series(0, $1::int - 1) AS n",
    "INSERT INTO api_keys (id, application_id, type, name, digest, masked, public_key)
     SELECT 'key_' || lpad(n::text, 26, '0'), 'app_' || lpad(n::text, 26, '0'), 'public', 'Default', sha256(n::text::bytea),
            'pk_live_' || n, 'pk_live_' || n
     FROM generate_series(0, $1::int - 1) AS n",
    "INSERT INTO operations (id, workspace_id, application_id, kind, status, generation, created_at, finished_at, deadline_at)
     SELECT 'op_' || lpad(n::text, 26, '0'),
            'ws_' || lpad(CASE WHEN n % 10 = 0 THEN 0 ELSE n % $2::int END::text, 26, '0'),
            'app_' || lpad(n::text, 26, '0'), 'provision', 'succeeded', 1, now() - interval '1 day', now(), now()
     FROM generate_series(0, $1::int - 1) AS n",
    // Events: every tenth belongs to the first workspace; one in a thousand is of a rare kind.
    "INSERT INTO audit_events (id, workspace_id, application_id, actor_id, actor_type, action, resource, resource_id, status,
                               request_id, created_at, chain, seq, hash)
     SELECT 'evt_' || lpad(n::text, 26, '0'), workspace, application, 'usr_' || lpad((n / 13 % $4::int)::text, 26, '0'), 'user',
            CASE WHEN n / 10 % 1000 = 7 THEN 'application.delete'
                 ELSE (ARRAY['application.update', 'key.create', 'key.revoke', 'application.restart'])[1 + n / 10 % 4] END,
            'application', application, 'success', 'req_' || lpad(n::text, 26, '0'),
            now() - make_interval(secs => ($1::int - n)), workspace,
            row_number() OVER (PARTITION BY workspace ORDER BY n), sha256(n::text::bytea)
     FROM (SELECT n, 'ws_' || lpad(CASE WHEN n % 10 = 0 THEN 0 ELSE n % $2::int END::text, 26, '0') AS workspace,
                  'app_' || lpad((n::bigint * 7919 % $3::int)::text, 26, '0') AS application
           FROM generate_series(0, $1::int - 1) AS n) AS numbered",
    "INSERT INTO audit_chains (chain, seq, hash)
     SELECT chain, max(seq), sha256(chain::bytea) FROM audit_events GROUP BY chain",
];
