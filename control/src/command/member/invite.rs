//! Inviting by e-mail.

use authsome_core::error::Failure;
use authsome_core::id::{InvitationId, MemberId, WorkspaceId};
use authsome_db::DbError;
use serde_json::json;

use super::{member_of, require_owner, take_turn};
use crate::audit::{self, Deed};
use crate::command::name;
use crate::db::members::{self, Invited, Member, MemberStatus};
use crate::error::{Fields, Outcome, Problem};
use crate::identity::{Action, Caller, Role};
use crate::mail::{self, Letter};
use crate::state::App;

/// Invites the address to become a member. Whether it has an account plays no part, and is not told.
pub async fn invite(app: &App, caller: &Caller, workspace: WorkspaceId, email: &str, role: Role) -> Outcome<Member> {
    let mut fields = Fields::new();
    let email = fields.take("email", name::email(email));
    let mut transaction = app.pool().begin().await?;
    let own = take_turn(&mut transaction, caller, workspace, Action::WriteMembers).await?;
    fields.finish()?;
    let email = email.unwrap_or_default();
    require_owner(own, role == Role::Owner)?;
    verified(caller)?;
    let id = MemberId::generate(app.clock(), app.entropy());
    let new = Invited {
        id,
        workspace,
        email: &email,
        role,
        by: caller.user,
        invitation: InvitationId::generate(app.clock(), app.entropy()),
        at: app.clock().now(),
    };
    members::invite(&mut transaction, &new).await.map_err(taken)?;
    if !mail::post_within_a_day(&mut transaction, app, &email, &Letter::Invitation { member: id }).await? {
        return Err(flooded());
    }
    let changes = json!({ "email": email, "role": role });
    let deed = Deed::of_member("member.invite", workspace, id, changes);
    audit::record(&mut transaction, app, &caller.actor, &deed).await?;
    let member = member_of(&mut transaction, workspace, id).await?;
    transaction.commit().await?;
    Ok(member)
}

/// Sends the invitation again. The link of the last letter is void from now on.
pub async fn send_again(app: &App, caller: &Caller, workspace: WorkspaceId, id: MemberId) -> Outcome<Member> {
    let mut transaction = app.pool().begin().await?;
    let own = take_turn(&mut transaction, caller, workspace, Action::WriteMembers).await?;
    let member = member_of(&mut transaction, workspace, id).await?;
    require_owner(own, member.role == Role::Owner)?;
    verified(caller)?;
    if member.status != MemberStatus::Invited {
        return Err(Failure::conflict("This member has accepted the invitation")
            .with_reason("accepted")
            .into());
    }
    let invitation = InvitationId::generate(app.clock(), app.entropy());
    members::invite_again(&mut transaction, id, invitation, app.clock().now()).await?;
    if !mail::post_within_a_day(&mut transaction, app, &member.email, &Letter::Invitation { member: id }).await? {
        return Err(flooded());
    }
    let changes = json!({ "email": member.email });
    let deed = Deed::of_member("member.invite", workspace, id, changes);
    audit::record(&mut transaction, app, &caller.actor, &deed).await?;
    let member = member_of(&mut transaction, workspace, id).await?;
    transaction.commit().await?;
    Ok(member)
}

/// Letters to strangers are sent on behalf of addresses that somebody reads.
fn verified(caller: &Caller) -> Outcome<()> {
    if caller.email_verified {
        return Ok(());
    }
    Err(
        Failure::forbidden("Confirm your e-mail address before you invite others")
            .with_reason("email_not_verified")
            .into(),
    )
}

fn taken(error: DbError) -> Problem {
    match error {
        DbError::Duplicate { constraint } if constraint == "idx_team_members_workspace_email" => {
            crate::command::application::taken("email", "This address is a member or was invited")
        }
        other => other.into(),
    }
}

fn flooded() -> Problem {
    Failure::rate_limited("This address was sent too many invitations; try again tomorrow", 3600)
        .with_reason("invitations")
        .into()
}
