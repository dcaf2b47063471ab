//! Becoming a member by the link of an invitation.

use authsome_core::error::Failure;
use authsome_core::id::Member as MemberKind;
use authsome_db::DbError;
use serde_json::json;

use super::invitation_mark;
use crate::audit::{self, Deed};
use crate::db::members::{self, MemberStatus};
use crate::db::{accounts, workspaces};
use crate::error::{Outcome, Problem};
use crate::identity::Caller;
use crate::identity::link::{self, Purpose};
use crate::state::App;

/// Makes the caller the member that the link is for. They have read it at the address, so that is confirmed as well.
pub async fn accept(app: &App, caller: &Caller, token: &str) -> Outcome<workspaces::Workspace> {
    let now = app.clock().now();
    let link = link::read::<MemberKind>(app.tokens(), Purpose::Invitation, token, now)?;
    let mut transaction = app.pool().begin().await?;
    let member = members::find(&mut transaction, link.subject).await?;
    let member = member.ok_or_else(link::no_longer)?;
    workspaces::lock(&mut transaction, member.workspace_id).await?;
    let member = members::find(&mut transaction, link.subject).await?;
    let member = member
        .filter(|member| member.status == MemberStatus::Invited)
        .ok_or_else(link::no_longer)?;
    link.require(&invitation_mark(&member))?;
    if member.email.to_lowercase() != caller.email.to_lowercase() {
        return Err(
            Failure::forbidden("This invitation is for another e-mail address than yours")
                .with_reason("other_address")
                .into(),
        );
    }
    members::accept(&mut transaction, member.id, caller.user, now)
        .await
        .map_err(already)?;
    accounts::confirm(&mut transaction, caller.user, now).await?;
    let changes = json!({ "email": member.email, "role": member.role });
    let deed = Deed::of_member("member.accept", member.workspace_id, member.id, changes);
    audit::record(&mut transaction, app, &caller.actor, &deed).await?;
    // A deleted workspace has no members: the link is as good as used.
    let workspace = workspaces::of_member(&mut transaction, caller.user, member.workspace_id).await?;
    let workspace = workspace.ok_or_else(link::no_longer)?;
    transaction.commit().await?;
    Ok(workspace)
}

fn already(error: DbError) -> Problem {
    match error {
        DbError::Duplicate { .. } => Failure::conflict("You are a member of this workspace")
            .with_reason("already_member")
            .into(),
        other => other.into(),
    }
}
