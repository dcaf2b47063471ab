//! Workspaces: what a team owns and pays for.

use authsome_contract::model::{Plan, WorkspaceStatus};
use authsome_core::id::{UserId, WorkspaceId};
use authsome_db::DbError;
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
    pub created_at: OffsetDateTime,
    pub updated_at: OffsetDateTime,
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
                  w.created_at, w.updated_at
           FROM workspaces w JOIN team_members m ON m.workspace_id = w.id
           WHERE w.id = $1 AND m.user_id = $2 AND m.status = 'active' AND w.status <> 'deleted'"#,
        id as WorkspaceId,
        user as UserId,
    )
    .fetch_optional(connection)
    .await?;
    row.map(Row::into_workspace).transpose()
}

/// The workspaces that a person is an active member of, oldest first, and how many there are in all.
pub async fn all_of_member(
    connection: &mut PgConnection,
    user: UserId,
    limit: i64,
    offset: i64,
) -> Result<(Vec<Workspace>, i64), DbError> {
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT w.id AS "id: WorkspaceId", w.name, w.slug, w.owner_id AS "owner_id: UserId", w.plan, w.status, m.role,
                  w.created_at, w.updated_at
           FROM workspaces w JOIN team_members m ON m.workspace_id = w.id
           WHERE m.user_id = $1 AND m.status = 'active' AND w.status <> 'deleted'
           ORDER BY w.created_at, w.id LIMIT $2 OFFSET $3"#,
        user as UserId,
        limit,
        offset,
    )
    .fetch_all(&mut *connection)
    .await?;
    let total = sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM workspaces w JOIN team_members m ON m.workspace_id = w.id
           WHERE m.user_id = $1 AND m.status = 'active' AND w.status <> 'deleted'"#,
        user as UserId,
    )
    .fetch_one(connection)
    .await?;
    Ok((
        rows.into_iter().map(Row::into_workspace).collect::<Result<_, _>>()?,
        total,
    ))
}

struct Row {
    id: WorkspaceId,
    name: String,
    slug: String,
    owner_id: UserId,
    plan: String,
    status: String,
    role: String,
    created_at: OffsetDateTime,
    updated_at: OffsetDateTime,
}

impl Row {
    fn into_workspace(self) -> Result<Workspace, DbError> {
        let role = Role::named(&self.role).ok_or_else(|| DbError::Inconsistent {
            table: "team_members",
            column: "role",
            row: self.id.to_string(),
            detail: format!("unknown role {:?}", self.role),
        })?;
        Ok(Workspace {
            plan: plan(&self.plan, self.id)?,
            status: status(&self.status, self.id)?,
            role,
            id: self.id,
            name: self.name,
            slug: self.slug,
            owner_id: self.owner_id,
            created_at: self.created_at,
            updated_at: self.updated_at,
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
