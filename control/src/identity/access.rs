//! The check before every look at, or change of, what belongs to a workspace. Whoever is no member is told that there is
//! no such thing; a member whose role is too small is told so.

use authsome_core::error::Failure;
use authsome_core::id::{ApplicationId, OperationId, WorkspaceId};
use sqlx::PgConnection;

use super::{Action, Caller, Role};
use crate::db::memberships;
use crate::error::{Outcome, Problem};

/// The caller's role in the workspace, if it allows `action`.
pub async fn workspace(
    connection: &mut PgConnection,
    caller: &Caller,
    id: WorkspaceId,
    action: Action,
) -> Outcome<Role> {
    if let Some(grant) = &caller.grant {
        return grant.allow(Some(id), action, "Workspace not found");
    }
    let role = memberships::role_in_workspace(connection, caller.user, id).await?;
    let role = role.ok_or_else(|| missing("Workspace not found"))?;
    allow(role, action)?;
    Ok(role)
}

/// The workspace of the application, if the caller's role in it allows `action`.
pub async fn application(
    connection: &mut PgConnection,
    caller: &Caller,
    id: ApplicationId,
    action: Action,
) -> Outcome<WorkspaceId> {
    if let Some(grant) = &caller.grant {
        let workspace = memberships::workspace_of_application(connection, id).await?;
        grant.allow(workspace, action, "Application not found")?;
        return Ok(grant.workspace);
    }
    let found = memberships::role_at_application(connection, caller.user, id).await?;
    let (workspace, role) = found.ok_or_else(|| missing("Application not found"))?;
    allow(role, action)?;
    Ok(workspace)
}

/// The workspace of the operation, if the caller's role in it allows `action`.
pub async fn operation(
    connection: &mut PgConnection,
    caller: &Caller,
    id: OperationId,
    action: Action,
) -> Outcome<WorkspaceId> {
    if let Some(grant) = &caller.grant {
        let workspace = memberships::workspace_of_operation(connection, id).await?;
        grant.allow(workspace, action, "Operation not found")?;
        return Ok(grant.workspace);
    }
    let found = memberships::role_at_operation(connection, caller.user, id).await?;
    let (workspace, role) = found.ok_or_else(|| missing("Operation not found"))?;
    allow(role, action)?;
    Ok(workspace)
}

/// Refuses what the role does not allow.
pub fn allow(role: Role, action: Action) -> Outcome<()> {
    if role.may(action) {
        return Ok(());
    }
    let message = format!(
        "Your role ({}) does not allow you to {}",
        role.as_str(),
        action.phrase()
    );
    Err(Failure::forbidden(message).with_reason("role").into())
}

pub(super) fn missing(message: &'static str) -> Problem {
    Failure::not_found(message).into()
}
