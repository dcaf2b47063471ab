//! Workspaces: what a team owns and pays for.

use authsome_contract::model::{Plan, WorkspaceStatus};
use authsome_core::id::{UserId, WorkspaceId};
use authsome_db::DbError;
use serde_json::Value;
use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::identity::Role;

/// A workspace as one of its members sees it.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the columns of the table, documented in its migration")]
pub struct Workspace {
    pub id: WorkspaceId,
    pub name: String,
    pub slug: String,
    pub owner_id: UserId,
    pub plan: Plan,
    pub status: WorkspaceStatus,
    /// The role of the member who asked.
    pub role: Role,
    pub metadata: Value,
    pub created_at: OffsetDateTime,
    pub updated_at: OffsetDateTime,
    pub deleted_at: Option<OffsetDateTime>,
    pub purge_after: Option<OffsetDateTime>,
    pub revision: i64,
}

/// Writes a new workspace. A taken slug is [`DbError::Duplicate`].
pub async fn insert(
    connection: &mut PgConnection,
    id: WorkspaceId,
    name: &str,
    slug: &str,
    owner: UserId,
    plan: Plan,
) -> Result<(), DbError> {
    sqlx::query!(
        "INSERT INTO workspaces (id, name, slug, owner_id, plan) VALUES ($1, $2, $3, $4, $5)",
        id as WorkspaceId,
        name,
        slug,
        owner as UserId,
        plan.as_str(),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Plan and status, with the row locked against other changes of the workspace until the transaction ends. References to
/// the row stay possible.
pub async fn lock(connection: &mut PgConnection, id: WorkspaceId) -> Result<Option<(Plan, WorkspaceStatus)>, DbError> {
    let row = sqlx::query!(
        "SELECT plan, status FROM workspaces WHERE id = $1 FOR NO KEY UPDATE",
        id as WorkspaceId,
    )
    .fetch_optional(connection)
    .await?;
    row.map(|row| Ok((plan(&row.plan, id)?, status(&row.status, id)?)))
        .transpose()
}

/// The workspace, if the person is an active member of it.
pub async fn of_member(
    connection: &mut PgConnection,
    user: UserId,
    id: WorkspaceId,
) -> Result<Option<Workspace>, DbError> {
    let row = sqlx::query_as!(
        Row,
        r#"SELECT w.id AS "id: WorkspaceId", w.name, w.slug, w.owner_id AS "owner_id: UserId", w.plan, w.status, m.role,
                  w.metadata, w.created_at, w.updated_at, w.deleted_at, w.purge_after, w.revision
           FROM workspaces w JOIN team_members m ON m.workspace_id = w.id
           WHERE w.id = $1 AND m.user_id = $2 AND m.status = 'active' AND w.status <> 'deleted'"#,
        id as WorkspaceId,
        user as UserId,
    )
    .fetch_optional(connection)
    .await?;
    row.map(Row::into_workspace).transpose()
}

/// The workspace, if it is not deleted, as a program sees it: `role` means nothing then.
pub async fn find(connection: &mut PgConnection, id: WorkspaceId) -> Result<Option<Workspace>, DbError> {
    let row = sqlx::query_as!(
        Row,
        r#"SELECT w.id AS "id: WorkspaceId", w.name, w.slug, w.owner_id AS "owner_id: UserId", w.plan, w.status,
                  'viewer' AS "role!", w.metadata, w.created_at, w.updated_at, w.deleted_at, w.purge_after, w.revision
           FROM workspaces w WHERE w.id = $1 AND w.status <> 'deleted'"#,
        id as WorkspaceId,
    )
    .fetch_optional(connection)
    .await?;
    row.map(Row::into_workspace).transpose()
}

/// The workspaces that a person is an active member of, oldest first, and how many there are in all: those that are there,
/// or those of one status. Deleted ones are shown to their owners only, who may have them back.
pub async fn all_of_member(
    connection: &mut PgConnection,
    user: UserId,
    status: Option<WorkspaceStatus>,
    limit: i64,
    offset: i64,
) -> Result<(Vec<Workspace>, i64), DbError> {
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT w.id AS "id: WorkspaceId", w.name, w.slug, w.owner_id AS "owner_id: UserId", w.plan, w.status, m.role,
                  w.metadata, w.created_at, w.updated_at, w.deleted_at, w.purge_after, w.revision
           FROM workspaces w JOIN team_members m ON m.workspace_id = w.id
           WHERE m.user_id = $1 AND m.status = 'active' AND (w.status <> 'deleted' OR m.role = 'owner')
             AND CASE WHEN $2::text IS NULL THEN w.status <> 'deleted' ELSE w.status = $2 END
           ORDER BY w.created_at, w.id LIMIT $3 OFFSET $4"#,
        user as UserId,
        status.map(WorkspaceStatus::as_str),
        limit,
        offset,
    )
    .fetch_all(&mut *connection)
    .await?;
    let total = sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM workspaces w JOIN team_members m ON m.workspace_id = w.id
           WHERE m.user_id = $1 AND m.status = 'active' AND (w.status <> 'deleted' OR m.role = 'owner')
             AND CASE WHEN $2::text IS NULL THEN w.status <> 'deleted' ELSE w.status = $2 END"#,
        user as UserId,
        status.map(WorkspaceStatus::as_str),
    )
    .fetch_one(connection)
    .await?;
    Ok((
        rows.into_iter().map(Row::into_workspace).collect::<Result<_, _>>()?,
        total,
    ))
}

/// Replaces what people change.
pub async fn update(
    connection: &mut PgConnection,
    id: WorkspaceId,
    name: &str,
    slug: &str,
    metadata: &Value,
) -> Result<(), DbError> {
    sqlx::query!(
        "UPDATE workspaces SET name = $2, slug = $3, metadata = $4 WHERE id = $1",
        id as WorkspaceId,
        name,
        slug,
        metadata,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// What people call a workspace that is not deleted.
pub async fn name(connection: &mut PgConnection, id: WorkspaceId) -> Result<Option<String>, DbError> {
    let name = sqlx::query_scalar!(
        "SELECT name FROM workspaces WHERE id = $1 AND status <> 'deleted'",
        id as WorkspaceId,
    )
    .fetch_optional(connection)
    .await?;
    Ok(name)
}

/// Whose name the workspace is on.
pub async fn owner(connection: &mut PgConnection, id: WorkspaceId) -> Result<Option<UserId>, DbError> {
    let owner = sqlx::query_scalar!(
        r#"SELECT owner_id AS "owner_id: UserId" FROM workspaces WHERE id = $1"#,
        id as WorkspaceId,
    )
    .fetch_optional(connection)
    .await?;
    Ok(owner)
}

/// Puts the workspace on another name.
pub async fn set_owner(connection: &mut PgConnection, id: WorkspaceId, owner: UserId) -> Result<(), DbError> {
    sqlx::query!(
        "UPDATE workspaces SET owner_id = $2 WHERE id = $1",
        id as WorkspaceId,
        owner as UserId,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Marks a workspace as deleted until it is purged. The edges learn of it with each of its applications.
pub async fn delete(
    connection: &mut PgConnection,
    id: WorkspaceId,
    at: OffsetDateTime,
    purge_after: OffsetDateTime,
) -> Result<(), DbError> {
    sqlx::query!(
        "UPDATE workspaces SET status_before_deletion = status, status = 'deleted', deleted_at = $2, purge_after = $3
         WHERE id = $1 AND status <> 'deleted'",
        id as WorkspaceId,
        at,
        purge_after,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Makes a deleted workspace what it was. `false` if it is not deleted, or its time is up.
pub async fn restore(connection: &mut PgConnection, id: WorkspaceId, now: OffsetDateTime) -> Result<bool, DbError> {
    let done = sqlx::query!(
        "UPDATE workspaces SET status = coalesce(status_before_deletion, 'active'), status_before_deletion = NULL,
                               deleted_at = NULL, purge_after = NULL
         WHERE id = $1 AND status = 'deleted' AND (purge_after IS NULL OR purge_after > $2)",
        id as WorkspaceId,
        now,
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// The role of an active member, also in a deleted workspace, and whether it is deleted.
pub async fn role_even_if_deleted(
    connection: &mut PgConnection,
    user: UserId,
    id: WorkspaceId,
) -> Result<Option<(Role, bool)>, DbError> {
    let row = sqlx::query!(
        r#"SELECT m.role, w.status = 'deleted' AS "deleted!" FROM team_members m JOIN workspaces w ON w.id = m.workspace_id
           WHERE w.id = $1 AND m.user_id = $2 AND m.status = 'active'"#,
        id as WorkspaceId,
        user as UserId,
    )
    .fetch_optional(connection)
    .await?;
    row.map(|row| Ok((role(&row.role, id)?, row.deleted))).transpose()
}

struct Row {
    id: WorkspaceId,
    name: String,
    slug: String,
    owner_id: UserId,
    plan: String,
    status: String,
    role: String,
    metadata: Value,
    created_at: OffsetDateTime,
    updated_at: OffsetDateTime,
    deleted_at: Option<OffsetDateTime>,
    purge_after: Option<OffsetDateTime>,
    revision: i64,
}

impl Row {
    fn into_workspace(self) -> Result<Workspace, DbError> {
        Ok(Workspace {
            plan: plan(&self.plan, self.id)?,
            status: status(&self.status, self.id)?,
            role: role(&self.role, self.id)?,
            id: self.id,
            name: self.name,
            slug: self.slug,
            owner_id: self.owner_id,
            metadata: self.metadata,
            created_at: self.created_at,
            updated_at: self.updated_at,
            deleted_at: self.deleted_at,
            purge_after: self.purge_after,
            revision: self.revision,
        })
    }
}

fn plan(name: &str, id: WorkspaceId) -> Result<Plan, DbError> {
    name.parse()
        .map_err(|error| DbError::unknown_name("workspaces", "plan", id, &error))
}

fn status(name: &str, id: WorkspaceId) -> Result<WorkspaceStatus, DbError> {
    name.parse()
        .map_err(|error| DbError::unknown_name("workspaces", "status", id, &error))
}

fn role(name: &str, id: WorkspaceId) -> Result<Role, DbError> {
    Role::named(name).ok_or_else(|| DbError::Inconsistent {
        table: "team_members",
        column: "role",
        row: id.to_string(),
        detail: format!("unknown role {name:?}"),
    })
}
