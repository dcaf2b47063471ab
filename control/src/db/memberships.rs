//! Who belongs to which workspace, in which role.

use authsome_contract::model::Plan;
use authsome_core::id::{ApplicationId, MemberId, OperationId, UserId, WorkspaceId};
use authsome_db::DbError;
use sqlx::PgConnection;

use crate::identity::Role;

/// The role of a person in a workspace that is not deleted; `None` for whoever is no active member.
pub async fn role_in_workspace(
    connection: &mut PgConnection,
    user: UserId,
    workspace: WorkspaceId,
) -> Result<Option<Role>, DbError> {
    let role = sqlx::query_scalar!(
        "SELECT m.role FROM team_members m JOIN workspaces w ON w.id = m.workspace_id
         WHERE m.workspace_id = $1 AND m.user_id = $2 AND m.status = 'active' AND w.status <> 'deleted'",
        workspace as WorkspaceId,
        user as UserId,
    )
    .fetch_optional(connection)
    .await?;
    role.map(|role| parse(&role, workspace)).transpose()
}

/// The workspace of an application that is not gone, and the role of a person in it.
pub async fn role_at_application(
    connection: &mut PgConnection,
    user: UserId,
    application: ApplicationId,
) -> Result<Option<(WorkspaceId, Role)>, DbError> {
    let row = sqlx::query!(
        r#"SELECT a.workspace_id AS "workspace_id: WorkspaceId", m.role
           FROM applications a
           JOIN workspaces w ON w.id = a.workspace_id
           JOIN team_members m ON m.workspace_id = w.id
           WHERE a.id = $1 AND a.status <> 'deleted' AND m.user_id = $2 AND m.status = 'active' AND w.status <> 'deleted'"#,
        application as ApplicationId,
        user as UserId,
    )
    .fetch_optional(connection)
    .await?;
    row.map(|row| Ok((row.workspace_id, parse(&row.role, row.workspace_id)?)))
        .transpose()
}

/// The role of a person in the workspace of an operation.
pub async fn role_at_operation(
    connection: &mut PgConnection,
    user: UserId,
    operation: OperationId,
) -> Result<Option<(WorkspaceId, Role)>, DbError> {
    let row = sqlx::query!(
        r#"SELECT o.workspace_id AS "workspace_id: WorkspaceId", m.role
           FROM operations o
           JOIN workspaces w ON w.id = o.workspace_id
           JOIN team_members m ON m.workspace_id = w.id
           WHERE o.id = $1 AND m.user_id = $2 AND m.status = 'active' AND w.status <> 'deleted'"#,
        operation as OperationId,
        user as UserId,
    )
    .fetch_optional(connection)
    .await?;
    row.map(|row| Ok((row.workspace_id, parse(&row.role, row.workspace_id)?)))
        .transpose()
}

/// The plans of the workspaces that a person is an active member of.
pub async fn plans(connection: &mut PgConnection, user: UserId) -> Result<Vec<Plan>, DbError> {
    let names = sqlx::query_scalar!(
        "SELECT DISTINCT w.plan FROM team_members m JOIN workspaces w ON w.id = m.workspace_id
         WHERE m.user_id = $1 AND m.status = 'active' AND w.status <> 'deleted'",
        user as UserId,
    )
    .fetch_all(connection)
    .await?;
    names
        .iter()
        .map(|name| {
            name.parse()
                .map_err(|error| DbError::unknown_name("workspaces", "plan", user, &error))
        })
        .collect()
}

/// The plan of a workspace that is not deleted.
pub async fn plan_of_workspace(connection: &mut PgConnection, workspace: WorkspaceId) -> Result<Option<Plan>, DbError> {
    let name = sqlx::query_scalar!(
        "SELECT plan FROM workspaces WHERE id = $1 AND status <> 'deleted'",
        workspace as WorkspaceId,
    )
    .fetch_optional(connection)
    .await?;
    name.map(|name| {
        name.parse()
            .map_err(|error| DbError::unknown_name("workspaces", "plan", workspace, &error))
    })
    .transpose()
}

/// The workspace of an application that is not gone.
pub async fn workspace_of_application(
    connection: &mut PgConnection,
    application: ApplicationId,
) -> Result<Option<WorkspaceId>, DbError> {
    let id = sqlx::query_scalar!(
        r#"SELECT workspace_id AS "id: WorkspaceId" FROM applications WHERE id = $1 AND status <> 'deleted'"#,
        application as ApplicationId,
    )
    .fetch_optional(connection)
    .await?;
    Ok(id)
}

/// The workspace of an operation.
pub async fn workspace_of_operation(
    connection: &mut PgConnection,
    operation: OperationId,
) -> Result<Option<WorkspaceId>, DbError> {
    let id = sqlx::query_scalar!(
        r#"SELECT workspace_id AS "id: WorkspaceId" FROM operations WHERE id = $1"#,
        operation as OperationId,
    )
    .fetch_optional(connection)
    .await?;
    Ok(id)
}

/// Makes a person an active member.
pub async fn insert(
    connection: &mut PgConnection,
    id: MemberId,
    workspace: WorkspaceId,
    user: UserId,
    email: &str,
    role: Role,
) -> Result<(), DbError> {
    sqlx::query!(
        "INSERT INTO team_members (id, workspace_id, user_id, email, role, status, joined_at)
         VALUES ($1, $2, $3, $4, $5, 'active', now())",
        id as MemberId,
        workspace as WorkspaceId,
        user as UserId,
        email,
        role.as_str(),
    )
    .execute(connection)
    .await?;
    Ok(())
}

fn parse(role: &str, workspace: WorkspaceId) -> Result<Role, DbError> {
    Role::named(role).ok_or_else(|| DbError::Inconsistent {
        table: "team_members",
        column: "role",
        row: workspace.to_string(),
        detail: format!("unknown role {role:?}"),
    })
}
