use authsome_contract::{
    model::{AppStatus, DatabaseChoice, Environment, Plan, RedisChoice, Scope, Step, WorkspaceStatus},
    wire::job::JobKind,
};
use authsome_db::{DbError, operation::OperationStatus};

use crate::fixture::{id, tenancy};

/// The values that a CHECK of the form `column = ANY (ARRAY[...])` allows, read from the catalogue.
async fn allowed(pool: &sqlx::PgPool, table: &str, column: &str) -> Vec<String> {
    let definition: String = sqlx::query_scalar(
        "SELECT pg_get_constraintdef(c.oid) FROM pg_constraint c
         JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = ANY (c.conkey)
         WHERE c.conrelid = $1::text::regclass AND a.attname = $2 AND c.contype = 'c' AND cardinality(c.conkey) = 1
           AND pg_get_constraintdef(c.oid) LIKE '%ARRAY[%'",
    )
    .bind(table)
    .bind(column)
    .fetch_one(pool)
    .await
    .unwrap();
    definition.split('\'').skip(1).step_by(2).map(str::to_owned).collect()
}

fn names<T: Copy>(all: &[T], name: fn(T) -> &'static str) -> Vec<String> {
    all.iter().map(|&value| name(value).to_owned()).collect()
}

#[tokio::test]
async fn every_closed_set_of_the_code_is_exactly_the_check_of_its_column() {
    let pool = tenancy().await.pool;
    let pairs = [
        ("applications", "status", names(AppStatus::ALL, AppStatus::as_str)),
        (
            "applications",
            "environment",
            names(Environment::ALL, Environment::as_str),
        ),
        ("workspaces", "plan", names(Plan::ALL, Plan::as_str)),
        (
            "workspaces",
            "status",
            names(WorkspaceStatus::ALL, WorkspaceStatus::as_str),
        ),
        ("operations", "kind", names(JobKind::ALL, JobKind::as_str)),
        (
            "operations",
            "status",
            names(OperationStatus::ALL, OperationStatus::as_str),
        ),
        (
            "applications",
            "database_strategy",
            names(DatabaseChoice::ALL, DatabaseChoice::as_str),
        ),
        (
            "applications",
            "redis_strategy",
            names(RedisChoice::ALL, RedisChoice::as_str),
        ),
        ("provisioning_steps", "step", names(Step::ALL, Step::as_str)),
    ];
    for (table, column, mut code) in pairs {
        let mut sql = allowed(&pool, table, column).await;
        sql.sort();
        code.sort();
        assert_eq!(sql, code, "{table}.{column}");
    }
    let mut scopes = allowed(&pool, "api_keys", "scopes").await;
    let mut code = names(Scope::ALL, Scope::as_str);
    code.push("*".to_owned());
    scopes.sort();
    code.sort();
    assert_eq!(scopes, code);
}

#[tokio::test]
async fn an_id_of_another_kind_or_shape_is_refused() {
    let tenancy = tenancy().await;
    let workspace: authsome_core::id::WorkspaceId = id();
    for wrong in [
        workspace.to_string(),
        "usr_1".to_owned(),
        String::new(),
        format!("usr_{}", "z".repeat(26)),
    ] {
        let outcome = sqlx::query("INSERT INTO users (id, email, name) VALUES ($1, 'a@example.com', 'A')")
            .bind(&wrong)
            .execute(&tenancy.pool)
            .await;
        assert!(outcome.is_err(), "{wrong}");
    }
}

#[tokio::test]
async fn an_email_belongs_to_one_user_whatever_its_case() {
    let tenancy = tenancy().await;
    let user: authsome_core::id::UserId = id();
    let error = sqlx::query("INSERT INTO users (id, email, name) VALUES ($1, 'oWNER@example.com', 'Other')")
        .bind(user)
        .execute(&tenancy.pool)
        .await
        .unwrap_err();
    assert!(matches!(DbError::from(error), DbError::Duplicate { constraint } if constraint == "idx_users_email"));
}

#[tokio::test]
async fn a_secret_key_has_no_clear_text_column_filled() {
    let tenancy = tenancy().await;
    let app = tenancy.application("shop").await;
    let key: authsome_core::id::KeyId = id();
    let refused = sqlx::query(
        "INSERT INTO api_keys (id, application_id, type, name, digest, masked, public_key)
         VALUES ($1, $2, 'secret', 'Server', $3, 'sk', 'sk_live_clear')",
    )
    .bind(key)
    .bind(app)
    .bind([1_u8; 32].as_slice())
    .execute(&tenancy.pool)
    .await;
    assert!(refused.is_err());
}

#[tokio::test]
async fn special_characters_in_names_are_data() {
    let tenancy = tenancy().await;
    let app = tenancy.application("shop").await;
    let name = "Robert'); DROP TABLE applications;-- \" \\ %s \u{1F600}";
    sqlx::query("UPDATE applications SET name = $2 WHERE id = $1")
        .bind(app)
        .bind(name)
        .execute(&tenancy.pool)
        .await
        .unwrap();
    let kept: String = sqlx::query_scalar("SELECT name FROM applications WHERE id = $1")
        .bind(app)
        .fetch_one(&tenancy.pool)
        .await
        .unwrap();
    assert_eq!(kept, name);
}

#[tokio::test]
async fn an_audit_event_is_never_changed() {
    let tenancy = tenancy().await;
    let mut connection = tenancy.pool.acquire().await.unwrap();
    let owner = tenancy.owner.to_string();
    let event = authsome_db::audit::Event {
        id: id(),
        workspace_id: Some(tenancy.workspace),
        application_id: None,
        actor_id: Some(&owner),
        actor_type: authsome_db::audit::ActorType::User,
        action: "workspace.create",
        resource: "workspace",
        resource_id: None,
        changes: serde_json::json!({}),
        ip_address: Some("2001:db8::1".parse().unwrap()),
        user_agent: Some("curl"),
        succeeded: true,
        request_id: None,
    };
    authsome_db::audit::record(&mut connection, &event).await.unwrap();
    assert!(
        sqlx::query("UPDATE audit_events SET action = 'a.b'")
            .execute(&tenancy.pool)
            .await
            .is_err()
    );
}
