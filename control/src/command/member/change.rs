//! Changing, suspending and removing members, and leaving.

use authsome_core::error::Failure;
use authsome_core::id::{MemberId, WorkspaceId};
use serde_json::{Map, Value, json};
use sqlx::PgConnection;

use super::{member_of, release_ownership, require_owner, take_turn};
use crate::audit::{self, Deed};
use crate::db::members::{self, Member, MemberStatus};
use crate::error::{Outcome, Problem};
use crate::identity::{Action, Caller, Role};
use crate::state::App;

/// What a member is to be. What is left out stays.
#[derive(Debug, Clone, Copy, Default)]
pub struct Change {
    /// What the member may do.
    pub role: Option<Role>,
    /// `true`: takes no part, and stays in the list. `false`: takes part again.
    pub suspended: Option<bool>,
}

/// Changes a member. `if_match` decides by the row's revision whether the caller knows what it changes.
pub async fn change(
    app: &App,
    caller: &Caller,
    workspace: WorkspaceId,
    id: MemberId,
    change: Change,
    if_match: impl FnOnce(i64) -> bool,
) -> Outcome<Member> {
    let mut transaction = app.pool().begin().await?;
    let own = take_turn(&mut transaction, caller, workspace, Action::WriteMembers).await?;
    let before = member_of(&mut transaction, workspace, id).await?;
    if !if_match(before.revision) {
        return Err(Problem::precondition_failed());
    }
    let role = change.role.unwrap_or(before.role);
    let status = match (change.suspended, before.status) {
        (Some(_), MemberStatus::Invited) => {
            let failure = Failure::conflict("This member has not accepted the invitation; withdraw it instead");
            return Err(failure.with_reason("invited").into());
        }
        (Some(true), _) => MemberStatus::Suspended,
        (Some(false), _) => MemberStatus::Active,
        (None, status) => status,
    };
    if (role, status) == (before.role, before.status) {
        return Ok(before);
    }
    require_owner(own, before.role == Role::Owner || role == Role::Owner)?;
    // First the change, then the look at who is left: the order says nothing to others, who wait for the lock.
    members::update(&mut transaction, id, role, status).await?;
    if is_owner(before.role, before.status) && !is_owner(role, status) {
        release_ownership(&mut transaction, &before).await?;
    }
    let mut changes = Map::new();
    if role != before.role {
        changes.insert("role".to_owned(), json!({ "from": before.role, "to": role }));
    }
    if status != before.status {
        let (from, to) = (before.status.as_str(), status.as_str());
        changes.insert("status".to_owned(), json!({ "from": from, "to": to }));
    }
    record(
        &mut transaction,
        app,
        caller,
        "member.update",
        &before,
        Value::Object(changes),
    )
    .await?;
    let after = member_of(&mut transaction, workspace, id).await?;
    transaction.commit().await?;
    Ok(after)
}

/// Takes a member out of the workspace, or withdraws an invitation. Effective with the next request.
pub async fn remove(app: &App, caller: &Caller, workspace: WorkspaceId, id: MemberId) -> Outcome<()> {
    let mut transaction = app.pool().begin().await?;
    let own = take_turn(&mut transaction, caller, workspace, Action::WriteMembers).await?;
    let member = member_of(&mut transaction, workspace, id).await?;
    require_owner(own, member.role == Role::Owner)?;
    take_out(&mut transaction, app, caller, "member.remove", &member).await?;
    transaction.commit().await?;
    Ok(())
}

/// Takes the caller out of the workspace.
pub async fn leave(app: &App, caller: &Caller, workspace: WorkspaceId) -> Outcome<()> {
    let mut transaction = app.pool().begin().await?;
    take_turn(&mut transaction, caller, workspace, Action::ReadWorkspace).await?;
    let id = members::of_user(&mut transaction, workspace, caller.user).await?;
    let id = id.ok_or_else(|| Failure::not_found("Workspace not found"))?;
    let member = member_of(&mut transaction, workspace, id).await?;
    take_out(&mut transaction, app, caller, "member.leave", &member).await?;
    transaction.commit().await?;
    Ok(())
}

async fn take_out(
    connection: &mut PgConnection,
    app: &App,
    caller: &Caller,
    action: &'static str,
    member: &Member,
) -> Outcome<()> {
    if is_owner(member.role, member.status) {
        release_ownership(connection, member).await?;
    }
    members::remove(connection, member.id).await?;
    let changes = json!({ "email": member.email, "role": member.role });
    record(connection, app, caller, action, member, changes).await
}

fn is_owner(role: Role, status: MemberStatus) -> bool {
    role == Role::Owner && status == MemberStatus::Active
}

async fn record(
    connection: &mut PgConnection,
    app: &App,
    caller: &Caller,
    action: &'static str,
    member: &Member,
    changes: Value,
) -> Outcome<()> {
    let deed = Deed::of_member(action, member.workspace_id, member.id, changes);
    audit::record(connection, app, &caller.actor, &deed).await
}
