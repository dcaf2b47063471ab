//! Webhook endpoints, and what is delivered to them.

use authsome_core::id::{ApplicationId, UserId, WebhookId, WorkspaceId};
use authsome_db::DbError;
use serde_json::Value;
use sqlx::PgConnection;
use time::OffsetDateTime;

/// An endpoint. Its secrets are sealed.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the columns of the table, documented in its migration")]
pub struct Endpoint {
    pub id: WebhookId,
    pub workspace_id: WorkspaceId,
    pub application_id: Option<ApplicationId>,
    pub url: String,
    pub events: Vec<String>,
    pub enabled: bool,
    pub disabled_reason: Option<String>,
    pub created_at: OffsetDateTime,
}

/// Writes a new endpoint.
pub async fn insert(
    connection: &mut PgConnection,
    endpoint: &Endpoint,
    secret: &[u8],
    created_by: UserId,
) -> Result<(), DbError> {
    sqlx::query!(
        "INSERT INTO webhook_endpoints (id, workspace_id, application_id, url, events, enabled, secret, created_by, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        endpoint.id as WebhookId,
        endpoint.workspace_id as WorkspaceId,
        endpoint.application_id as Option<ApplicationId>,
        endpoint.url,
        &endpoint.events,
        endpoint.enabled,
        secret,
        created_by as UserId,
        endpoint.created_at,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// How many endpoints a workspace has.
pub async fn count(connection: &mut PgConnection, workspace: WorkspaceId) -> Result<i64, DbError> {
    Ok(sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM webhook_endpoints WHERE workspace_id = $1"#,
        workspace as WorkspaceId,
    )
    .fetch_one(connection)
    .await?)
}

/// The endpoints of a workspace, oldest first, and how many there are in all.
pub async fn of_workspace(
    connection: &mut PgConnection,
    workspace: WorkspaceId,
    limit: i64,
    offset: i64,
) -> Result<(Vec<Endpoint>, i64), DbError> {
    let rows = sqlx::query_as!(
        Endpoint,
        r#"SELECT id AS "id: WebhookId", workspace_id AS "workspace_id: WorkspaceId",
                  application_id AS "application_id: ApplicationId", url, events, enabled, disabled_reason, created_at
           FROM webhook_endpoints WHERE workspace_id = $1 ORDER BY created_at, id LIMIT $2 OFFSET $3"#,
        workspace as WorkspaceId,
        limit,
        offset,
    )
    .fetch_all(&mut *connection)
    .await?;
    Ok((rows, count(connection, workspace).await?))
}

/// The endpoints of one application alone, oldest first, and how many there are in all.
pub async fn of_application(
    connection: &mut PgConnection,
    workspace: WorkspaceId,
    application: ApplicationId,
    limit: i64,
    offset: i64,
) -> Result<(Vec<Endpoint>, i64), DbError> {
    let rows = sqlx::query_as!(
        Endpoint,
        r#"SELECT id AS "id: WebhookId", workspace_id AS "workspace_id: WorkspaceId",
                  application_id AS "application_id: ApplicationId", url, events, enabled, disabled_reason, created_at
           FROM webhook_endpoints WHERE workspace_id = $1 AND application_id = $2
           ORDER BY created_at, id LIMIT $3 OFFSET $4"#,
        workspace as WorkspaceId,
        application as ApplicationId,
        limit,
        offset,
    )
    .fetch_all(&mut *connection)
    .await?;
    let total = sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM webhook_endpoints WHERE workspace_id = $1 AND application_id = $2"#,
        workspace as WorkspaceId,
        application as ApplicationId,
    )
    .fetch_one(connection)
    .await?;
    Ok((rows, total))
}

/// Is this an application of the workspace that is not gone?
pub async fn may_tell_of(
    connection: &mut PgConnection,
    workspace: WorkspaceId,
    application: ApplicationId,
) -> Result<bool, DbError> {
    Ok(sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM applications WHERE id = $2 AND workspace_id = $1 AND status <> 'deleted') AS "exists!""#,
        workspace as WorkspaceId,
        application as ApplicationId,
    )
    .fetch_one(connection)
    .await?)
}

/// An endpoint of a workspace.
pub async fn find(
    connection: &mut PgConnection,
    workspace: WorkspaceId,
    id: WebhookId,
) -> Result<Option<Endpoint>, DbError> {
    Ok(sqlx::query_as!(
        Endpoint,
        r#"SELECT id AS "id: WebhookId", workspace_id AS "workspace_id: WorkspaceId",
                  application_id AS "application_id: ApplicationId", url, events, enabled, disabled_reason, created_at
           FROM webhook_endpoints WHERE workspace_id = $1 AND id = $2"#,
        workspace as WorkspaceId,
        id as WebhookId,
    )
    .fetch_optional(connection)
    .await?)
}

/// An endpoint of a workspace, its row locked.
pub async fn lock(
    connection: &mut PgConnection,
    workspace: WorkspaceId,
    id: WebhookId,
) -> Result<Option<Endpoint>, DbError> {
    Ok(sqlx::query_as!(
        Endpoint,
        r#"SELECT id AS "id: WebhookId", workspace_id AS "workspace_id: WorkspaceId",
                  application_id AS "application_id: ApplicationId", url, events, enabled, disabled_reason, created_at
           FROM webhook_endpoints WHERE workspace_id = $1 AND id = $2 FOR UPDATE"#,
        workspace as WorkspaceId,
        id as WebhookId,
    )
    .fetch_optional(connection)
    .await?)
}

/// Writes what a team changes.
pub async fn update(
    connection: &mut PgConnection,
    id: WebhookId,
    url: &str,
    events: &[String],
    enabled: bool,
) -> Result<(), DbError> {
    sqlx::query!(
        "UPDATE webhook_endpoints SET url = $2, events = $3, enabled = $4,
                disabled_reason = CASE WHEN $4 THEN NULL ELSE disabled_reason END
         WHERE id = $1",
        id as WebhookId,
        url,
        events,
        enabled,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Gives the endpoint a new secret; the present one signs as well until then.
pub async fn rotate(
    connection: &mut PgConnection,
    id: WebhookId,
    secret: &[u8],
    until: OffsetDateTime,
) -> Result<(), DbError> {
    sqlx::query!(
        "UPDATE webhook_endpoints SET previous_secret = secret, previous_until = $3, secret = $2 WHERE id = $1",
        id as WebhookId,
        secret,
        until,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Takes the endpoint away, with its deliveries.
pub async fn remove(connection: &mut PgConnection, workspace: WorkspaceId, id: WebhookId) -> Result<bool, DbError> {
    let done = sqlx::query!(
        "DELETE FROM webhook_endpoints WHERE workspace_id = $1 AND id = $2",
        workspace as WorkspaceId,
        id as WebhookId,
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// A delivery as its team sees it.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the columns of the tables, documented in their migration")]
pub struct Delivery {
    pub id: i64,
    pub message_id: String,
    pub event: String,
    pub data: Value,
    pub status: String,
    pub attempts: i32,
    pub next_attempt_at: OffsetDateTime,
    pub response_status: Option<i32>,
    pub error: Option<String>,
    pub duration_ms: Option<i32>,
    pub attempted_at: Option<OffsetDateTime>,
    pub created_at: OffsetDateTime,
}

/// Deliveries of an endpoint, newest first, and how many there are in all.
pub async fn deliveries(
    connection: &mut PgConnection,
    endpoint: WebhookId,
    limit: i64,
    offset: i64,
) -> Result<(Vec<Delivery>, i64), DbError> {
    let rows = sqlx::query_as!(
        Delivery,
        "SELECT d.id, d.message_id, m.event, m.data, d.status, d.attempts, d.next_attempt_at, d.response_status, d.error,
                d.duration_ms, d.attempted_at, d.created_at
         FROM webhook_deliveries d JOIN webhook_messages m ON m.id = d.message_id
         WHERE d.endpoint_id = $1 ORDER BY d.id DESC LIMIT $2 OFFSET $3",
        endpoint as WebhookId,
        limit,
        offset,
    )
    .fetch_all(&mut *connection)
    .await?;
    let total = sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM webhook_deliveries WHERE endpoint_id = $1"#,
        endpoint as WebhookId,
    )
    .fetch_one(connection)
    .await?;
    Ok((rows, total))
}

/// Delivers the message of a delivery once more, as a delivery of its own. `None` where the endpoint has no such delivery.
pub async fn replay(
    connection: &mut PgConnection,
    endpoint: WebhookId,
    delivery: i64,
    now: OffsetDateTime,
) -> Result<Option<i64>, DbError> {
    Ok(sqlx::query_scalar!(
        "INSERT INTO webhook_deliveries (endpoint_id, message_id, next_attempt_at)
         SELECT endpoint_id, message_id, $3 FROM webhook_deliveries WHERE endpoint_id = $1 AND id = $2 RETURNING id",
        endpoint as WebhookId,
        delivery,
        now,
    )
    .fetch_optional(connection)
    .await?)
}

/// A delivery to attempt.
#[derive(Debug)]
#[expect(missing_docs, reason = "the columns of the tables, documented in their migration")]
pub struct Due {
    pub id: i64,
    pub attempts: i32,
    pub endpoint_id: WebhookId,
    pub workspace_id: WorkspaceId,
    pub url: String,
    pub secret: Vec<u8>,
    pub previous_secret: Option<Vec<u8>>,
    pub message_id: String,
    pub event: String,
    pub data: Value,
    pub created_at: OffsetDateTime,
}

/// Takes deliveries that are due, at most `limit`, none of the workspaces `busy`; nobody else gets them before `until`. Those of disabled
/// endpoints wait.
pub async fn take(
    connection: &mut PgConnection,
    now: OffsetDateTime,
    until: OffsetDateTime,
    limit: i64,
    busy: &[String],
) -> Result<Vec<Due>, DbError> {
    Ok(sqlx::query_as!(
        Due,
        r#"UPDATE webhook_deliveries d SET attempts = d.attempts + 1, next_attempt_at = $2, attempted_at = $1
           FROM webhook_endpoints e, webhook_messages m
           WHERE e.id = d.endpoint_id AND m.id = d.message_id
             AND d.id IN (SELECT p.id FROM webhook_deliveries p JOIN webhook_endpoints o ON o.id = p.endpoint_id
                          WHERE p.status = 'pending' AND p.next_attempt_at <= $1 AND o.enabled
                            AND o.workspace_id <> ALL($4)
                          ORDER BY p.next_attempt_at LIMIT $3 FOR UPDATE OF p SKIP LOCKED)
           RETURNING d.id, d.attempts, e.id AS "endpoint_id: WebhookId",
                     e.workspace_id AS "workspace_id: WorkspaceId", e.url, e.secret,
                     CASE WHEN e.previous_until > $1 THEN e.previous_secret END AS previous_secret,
                     m.id AS message_id, m.event, m.data, m.created_at"#,
        now,
        until,
        limit,
        busy,
    )
    .fetch_all(connection)
    .await?)
}

/// What came of an attempt.
#[derive(Debug)]
#[expect(missing_docs, reason = "the columns of the table, documented in its migration")]
pub struct Attempted<'a> {
    pub id: i64,
    pub status: &'static str,
    pub next_attempt_at: OffsetDateTime,
    pub response_status: Option<i32>,
    pub error: Option<&'a str>,
    pub duration_ms: i32,
}

/// Records it.
pub async fn record(connection: &mut PgConnection, attempted: &Attempted<'_>) -> Result<(), DbError> {
    sqlx::query!(
        "UPDATE webhook_deliveries SET status = $2, next_attempt_at = $3, response_status = $4, error = $5, duration_ms = $6
         WHERE id = $1 AND status = 'pending'",
        attempted.id,
        attempted.status,
        attempted.next_attempt_at,
        attempted.response_status,
        attempted.error,
        attempted.duration_ms,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Disables an endpoint in the name of the platform.
pub async fn disable(connection: &mut PgConnection, id: WebhookId, reason: &str) -> Result<(), DbError> {
    sqlx::query!(
        "UPDATE webhook_endpoints SET enabled = false, disabled_reason = $2 WHERE id = $1",
        id as WebhookId,
        reason,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Forgets messages, with their deliveries, that are older than this; some at a time.
pub async fn forget_some(connection: &mut PgConnection, before: OffsetDateTime) -> Result<u64, DbError> {
    let done = sqlx::query!(
        "DELETE FROM webhook_messages WHERE id IN (
             SELECT id FROM webhook_messages WHERE created_at < $1 ORDER BY created_at LIMIT 500)",
        before,
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

/// Queues an event for the webhooks of a workspace.
pub async fn emit(
    connection: &mut PgConnection,
    workspace: WorkspaceId,
    application: Option<ApplicationId>,
    event: &str,
    data: &Value,
) -> Result<(), DbError> {
    sqlx::query!(
        "SELECT emit_webhook($1, $2, $3, $4)",
        workspace as WorkspaceId,
        application as Option<ApplicationId>,
        event,
        data,
    )
    .execute(connection)
    .await?;
    Ok(())
}
