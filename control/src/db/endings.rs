//! What is due to be stopped, started again or destroyed since it, or its workspace, was deleted.

use authsome_core::id::{ApplicationId, WorkspaceId};
use authsome_db::{DbError, operation};
use sqlx::PgConnection;
use time::OffsetDateTime;

/// Applications that could run in workspaces that are deleted.
pub async fn to_stop(connection: &mut PgConnection, limit: i64) -> Result<Vec<ApplicationId>, DbError> {
    Ok(sqlx::query_scalar!(
        r#"SELECT a.id AS "id: ApplicationId" FROM workspaces w JOIN applications a ON a.workspace_id = w.id
           WHERE w.status = 'deleted' AND w.purged_at IS NULL AND a.status IN ('active', 'updating', 'restarting', 'failed')
           ORDER BY a.id LIMIT $1"#,
        limit,
    )
    .fetch_all(connection)
    .await?)
}

/// Applications that were stopped with their workspace, which is back.
pub async fn to_start(connection: &mut PgConnection, limit: i64) -> Result<Vec<ApplicationId>, DbError> {
    Ok(sqlx::query_scalar!(
        r#"SELECT a.id AS "id: ApplicationId" FROM applications a JOIN workspaces w ON w.id = a.workspace_id
           WHERE a.stopped_with_workspace AND w.status <> 'deleted' ORDER BY a.id LIMIT $1"#,
        limit,
    )
    .fetch_all(connection)
    .await?)
}

/// Applications whose time is up, or that of their workspace.
pub async fn to_purge(
    connection: &mut PgConnection,
    now: OffsetDateTime,
    limit: i64,
) -> Result<Vec<ApplicationId>, DbError> {
    Ok(sqlx::query_scalar!(
        r#"(SELECT id AS "id!: ApplicationId" FROM applications WHERE status = 'deleting' AND purge_after <= $1
            ORDER BY purge_after LIMIT $2)
           UNION
           (SELECT a.id FROM workspaces w JOIN applications a ON a.workspace_id = w.id
            WHERE w.status = 'deleted' AND w.purged_at IS NULL AND w.purge_after <= $1
              AND a.status NOT IN ('purging', 'deleted')
            LIMIT $2)"#,
        now,
        limit,
    )
    .fetch_all(connection)
    .await?)
}

/// Moves an application past its grace, or past that of its workspace, to `purging`: a way of no return. The new generation, or
/// `None` where it is not due (any more).
pub async fn begin_purge(
    connection: &mut PgConnection,
    id: ApplicationId,
    now: OffsetDateTime,
    deadline: OffsetDateTime,
) -> Result<Option<i64>, DbError> {
    let generation = sqlx::query_scalar!(
        "UPDATE applications a
         SET status = 'purging', status_deadline = $3, deleted_at = coalesce(a.deleted_at, $2), purge_after = NULL,
             stopped_with_workspace = false, generation = a.generation + 1
         FROM workspaces w
         WHERE w.id = a.workspace_id AND a.id = $1 AND a.status NOT IN ('purging', 'deleted')
           AND ((a.status = 'deleting' AND a.purge_after <= $2) OR (w.status = 'deleted' AND w.purge_after <= $2))
         RETURNING a.generation",
        id as ApplicationId,
        now,
        deadline,
    )
    .fetch_optional(&mut *connection)
    .await?;
    let Some(generation) = generation else { return Ok(None) };
    operation::supersede_queued(connection, id, generation).await?;
    Ok(Some(generation))
}

/// Marks an application as stopped with its workspace, or no longer.
pub async fn mark(connection: &mut PgConnection, id: ApplicationId, stopped: bool) -> Result<(), DbError> {
    sqlx::query!(
        "UPDATE applications SET stopped_with_workspace = $2 WHERE id = $1",
        id as ApplicationId,
        stopped,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Workspaces whose time is up and whose applications are all gone.
pub async fn workspaces_to_purge(
    connection: &mut PgConnection,
    now: OffsetDateTime,
    limit: i64,
) -> Result<Vec<WorkspaceId>, DbError> {
    Ok(sqlx::query_scalar!(
        r#"SELECT w.id AS "id: WorkspaceId" FROM workspaces w
           WHERE w.status = 'deleted' AND w.purged_at IS NULL AND w.purge_after <= $1
             AND NOT EXISTS (SELECT FROM applications a WHERE a.workspace_id = w.id AND a.status <> 'deleted')
           ORDER BY w.purge_after LIMIT $2"#,
        now,
        limit,
    )
    .fetch_all(connection)
    .await?)
}

/// Takes out of a workspace what is its team's: members, tokens, webhooks, its name. The row stays for what was billed and audited.
/// `false` if it is not due (any more).
pub async fn purge_workspace(
    connection: &mut PgConnection,
    id: WorkspaceId,
    now: OffsetDateTime,
) -> Result<bool, DbError> {
    let suffix = id.suffix().to_string();
    let done = sqlx::query!(
        "UPDATE workspaces SET purged_at = $2, name = 'Deleted workspace', slug = 'purged-' || $3::text, metadata = '{}'
         WHERE id = $1 AND status = 'deleted' AND purged_at IS NULL AND purge_after <= $2",
        id as WorkspaceId,
        now,
        suffix,
    )
    .execute(&mut *connection)
    .await?;
    if done.rows_affected() == 0 {
        return Ok(false);
    }
    sqlx::query!(
        "DELETE FROM webhook_endpoints WHERE workspace_id = $1",
        id as WorkspaceId
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!(
        "DELETE FROM webhook_messages WHERE workspace_id = $1",
        id as WorkspaceId
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!("DELETE FROM service_tokens WHERE workspace_id = $1", id as WorkspaceId)
        .execute(&mut *connection)
        .await?;
    sqlx::query!("DELETE FROM team_members WHERE workspace_id = $1", id as WorkspaceId)
        .execute(connection)
        .await?;
    Ok(true)
}
