//! The intent of an application: its status and generation, as its team moves them.

use authsome_contract::model::AppStatus;
use authsome_core::id::{ApplicationId, WorkspaceId};
use authsome_db::{DbError, operation};
use serde_json::Value;
use sqlx::PgConnection;
use time::OffsetDateTime;

/// What is wanted of an application that is not gone.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the columns of the table, documented in its migrations")]
pub struct Intent {
    pub id: ApplicationId,
    pub workspace_id: WorkspaceId,
    pub name: String,
    pub slug: String,
    pub region: String,
    pub environment: String,
    pub status: AppStatus,
    /// It has served before.
    pub activated: bool,
    pub config: Value,
    pub metadata: Value,
    pub staff_suspension: Option<String>,
}

/// Where an intent moves to.
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "the columns of the table, documented in its migrations")]
pub struct Moved {
    pub status: AppStatus,
    pub deadline: Option<OffsetDateTime>,
    pub deleted_at: Option<OffsetDateTime>,
    pub purge_after: Option<OffsetDateTime>,
}

/// The intent, its row locked until the transaction ends.
pub async fn lock(connection: &mut PgConnection, id: ApplicationId) -> Result<Option<Intent>, DbError> {
    let row = sqlx::query!(
        r#"SELECT workspace_id AS "workspace_id: WorkspaceId", name, slug, region, environment, status,
                  activated_at IS NOT NULL AS "activated!", config, metadata, staff_suspension
           FROM applications WHERE id = $1 AND status <> 'deleted' FOR UPDATE"#,
        id as ApplicationId,
    )
    .fetch_optional(connection)
    .await?;
    row.map(|row| {
        let status = row
            .status
            .parse()
            .map_err(|error| DbError::unknown_name("applications", "status", id, &error))?;
        Ok(Intent {
            id,
            workspace_id: row.workspace_id,
            name: row.name,
            slug: row.slug,
            region: row.region,
            environment: row.environment,
            status,
            activated: row.activated,
            config: row.config,
            metadata: row.metadata,
            staff_suspension: row.staff_suspension,
        })
    })
    .transpose()
}

/// Moves the intent and returns its new generation, which supersedes every operation of an older one.
pub async fn advance(connection: &mut PgConnection, id: ApplicationId, moved: &Moved) -> Result<i64, DbError> {
    let generation = sqlx::query_scalar!(
        "UPDATE applications SET status = $2, status_deadline = $3, deleted_at = $4, purge_after = $5,
                                 generation = generation + 1
         WHERE id = $1 RETURNING generation",
        id as ApplicationId,
        moved.status.as_str(),
        moved.deadline,
        moved.deleted_at,
        moved.purge_after,
    )
    .fetch_one(&mut *connection)
    .await?;
    operation::supersede_queued(connection, id, generation).await?;
    Ok(generation)
}

/// What a team writes of an application beside its status. The version rises, so that the entity tag tells it.
#[derive(Debug)]
#[expect(missing_docs, reason = "the columns of the table, documented in its migrations")]
pub struct Change<'a> {
    pub name: &'a str,
    pub slug: &'a str,
    pub config: &'a Value,
    pub metadata: &'a Value,
}

/// Writes it. A slug taken in the workspace is [`DbError::Duplicate`].
pub async fn update(connection: &mut PgConnection, id: ApplicationId, change: &Change<'_>) -> Result<(), DbError> {
    sqlx::query!(
        "UPDATE applications SET name = $2, slug = $3, config = $4, metadata = $5, version = version + 1 WHERE id = $1",
        id as ApplicationId,
        change.name,
        change.slug,
        change.config,
        change.metadata,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Keeps, or takes back, why staff stopped the application.
pub async fn set_staff_suspension(
    connection: &mut PgConnection,
    id: ApplicationId,
    reason: Option<&str>,
) -> Result<(), DbError> {
    sqlx::query!(
        "UPDATE applications SET staff_suspension = $2 WHERE id = $1",
        id as ApplicationId,
        reason,
    )
    .execute(connection)
    .await?;
    Ok(())
}
