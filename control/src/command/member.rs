//! Members: invited, accepted, changed, suspended, removed, gone of their own accord.
//!
//! Whatever changes members takes turns on the row of the workspace and looks at roles after it has the lock, so that no two
//! changes at once leave a workspace without an owner.

mod accept;
mod change;
mod invite;

pub use accept::accept;
pub use change::{Change, change, leave, remove};
pub use invite::{invite, send_again};

use authsome_core::error::Failure;
use authsome_core::id::{MemberId, WorkspaceId};
use sqlx::PgConnection;

use crate::db::members::{self, Member};
use crate::db::workspaces;
use crate::error::{Outcome, Problem};
use crate::identity::link::Mark;
use crate::identity::{self, Action, Caller, Role};

/// What the link of an invitation is good for: this invitation, until another is sent or it is accepted.
pub fn invitation_mark(member: &Member) -> Mark {
    let invitation = member.invitation.map(|id| id.to_string()).unwrap_or_default();
    Mark::of(&["invitation", &invitation])
}

/// The caller's role, once nobody else is changing the members of the workspace.
async fn take_turn(
    connection: &mut PgConnection,
    caller: &Caller,
    workspace: WorkspaceId,
    action: Action,
) -> Outcome<Role> {
    // Strangers must not be able to hold others up.
    identity::workspace(connection, caller, workspace, action).await?;
    workspaces::lock(connection, workspace).await?;
    identity::workspace(connection, caller, workspace, action).await
}

async fn member_of(connection: &mut PgConnection, workspace: WorkspaceId, id: MemberId) -> Outcome<Member> {
    let member = members::find(connection, id).await?;
    member
        .filter(|member| member.workspace_id == workspace)
        .ok_or_else(|| Failure::not_found("Member not found").into())
}

/// Only owners make, change and remove owners.
fn require_owner(caller: Role, touches_ownership: bool) -> Outcome<()> {
    if !touches_ownership || caller.may(Action::GrantOwnership) {
        return Ok(());
    }
    let message = format!(
        "Your role ({}) does not allow you to {}",
        caller.as_str(),
        Action::GrantOwnership.phrase()
    );
    Err(Failure::forbidden(message).with_reason("role").into())
}

/// Ends an owner's ownership, if another owner is left. Should the workspace be on this owner's name, it goes to the one
/// who has been an owner longest.
async fn release_ownership(connection: &mut PgConnection, member: &Member) -> Outcome<()> {
    let owners = members::owners(connection, member.workspace_id).await?;
    let heir = owners.iter().find(|(id, _)| *id != member.id);
    let Some((_, heir)) = heir else {
        return Err(last_owner());
    };
    let owner = workspaces::owner(connection, member.workspace_id).await?;
    if member.user_id.is_some() && owner == member.user_id {
        workspaces::set_owner(connection, member.workspace_id, *heir).await?;
    }
    Ok(())
}

fn last_owner() -> Problem {
    Failure::conflict("A workspace needs an owner; make somebody else one first")
        .with_reason("last_owner")
        .into()
}
