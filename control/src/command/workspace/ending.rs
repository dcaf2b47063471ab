//! The end of a workspace, the time to think again, and another name that it is on.

use authsome_core::error::Failure;
use authsome_core::id::{MemberId, WorkspaceId};
use serde_json::json;
use time::Duration;

use crate::audit::{self, Deed};
use crate::db::members::{self, MemberStatus};
use crate::db::workspaces;
use crate::error::{Fields, Outcome, Problem};
use crate::identity::{self, Action, Caller, Role};
use crate::state::App;

/// How long a deleted workspace can be had back.
pub const GRACE: Duration = Duration::days(30);

/// Deletes a workspace. Its applications are refused by the edges at once, and it and they can be had back for [`GRACE`].
pub async fn delete(app: &App, caller: &Caller, id: WorkspaceId) -> Outcome<()> {
    let now = app.clock().now();
    let mut transaction = app.pool().begin().await?;
    identity::workspace(&mut transaction, caller, id, Action::DeleteWorkspace).await?;
    workspaces::lock(&mut transaction, id).await?;
    identity::workspace(&mut transaction, caller, id, Action::DeleteWorkspace).await?;
    workspaces::delete(&mut transaction, id, now, now + GRACE).await?;
    let deed = Deed::of_workspace("workspace.delete", id, json!({}));
    audit::record(&mut transaction, app, &caller.actor, &deed).await?;
    transaction.commit().await?;
    Ok(())
}

/// Has a deleted workspace back, with everything that was in it.
pub async fn restore(app: &App, caller: &Caller, id: WorkspaceId) -> Outcome<workspaces::Workspace> {
    let mut transaction = app.pool().begin().await?;
    let found = workspaces::role_even_if_deleted(&mut transaction, caller.user, id).await?;
    // Nobody but its owners knows of a deleted workspace.
    let (role, deleted) = found
        .filter(|(role, deleted)| !deleted || role.may(Action::DeleteWorkspace))
        .ok_or_else(missing)?;
    identity::allow(role, Action::DeleteWorkspace)?;
    if !deleted {
        return Err(Failure::conflict("The workspace is not deleted")
            .with_reason("not_deleted")
            .into());
    }
    if !workspaces::restore(&mut transaction, id, app.clock().now()).await? {
        return Err(missing());
    }
    let deed = Deed::of_workspace("workspace.restore", id, json!({}));
    audit::record(&mut transaction, app, &caller.actor, &deed).await?;
    let workspace = workspaces::of_member(&mut transaction, caller.user, id).await?;
    transaction.commit().await?;
    workspace.ok_or_else(missing)
}

/// Puts the workspace on another active member's name. Whose name it was on stays in it as an admin.
pub async fn transfer(app: &App, caller: &Caller, id: WorkspaceId, to: MemberId) -> Outcome<workspaces::Workspace> {
    let mut transaction = app.pool().begin().await?;
    identity::workspace(&mut transaction, caller, id, Action::TransferOwnership).await?;
    workspaces::lock(&mut transaction, id).await?;
    identity::workspace(&mut transaction, caller, id, Action::TransferOwnership).await?;
    let heir = members::find(&mut transaction, to).await?;
    let heir = heir.filter(|member| member.workspace_id == id && member.status == MemberStatus::Active);
    let mut fields = Fields::new();
    let user = heir.and_then(|member| member.user_id);
    fields.require(user.is_some(), "memberId", "must be an active member of the workspace");
    fields.finish()?;
    let Some(user) = user else { return Err(missing()) };
    let present = workspaces::owner(&mut transaction, id).await?.ok_or_else(missing)?;
    if present == user {
        return Err(Failure::conflict("The workspace is on this member's name")
            .with_reason("is_owner")
            .into());
    }
    members::update(&mut transaction, to, Role::Owner, MemberStatus::Active).await?;
    workspaces::set_owner(&mut transaction, id, user).await?;
    if let Some(former) = members::of_user(&mut transaction, id, present).await?
        && let Some(member) = members::find(&mut transaction, former).await?
    {
        members::update(&mut transaction, former, Role::Admin, member.status).await?;
    }
    let changes = json!({ "ownerId": { "from": present, "to": user } });
    let deed = Deed::of_workspace("workspace.transfer", id, changes);
    audit::record(&mut transaction, app, &caller.actor, &deed).await?;
    let workspace = workspaces::of_member(&mut transaction, caller.user, id).await?;
    transaction.commit().await?;
    workspace.ok_or_else(missing)
}

fn missing() -> Problem {
    Failure::not_found("Workspace not found").into()
}
