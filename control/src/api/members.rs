//! Members of a workspace, and invitations.

use authsome_contract::model::Version;
use authsome_core::error::Failure;
use authsome_core::id::{Member as MemberKind, MemberId, UserId, Workspace as WorkspaceKind};
use axum::Json as Answer;
use axum::extract::State;
use http::{HeaderMap, HeaderName, StatusCode, header};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::etag::{etag, matches};
use super::fault::{ErrorEnvelope, Refusals};
use super::page::{Listing, Page, PageQuery};
use super::workspaces::Workspace;
use crate::command::member::{self, Change};
use crate::db::members;
use crate::error::{Fields, Outcome};
use crate::identity::{self, Action, Caller, Person, Role};
use crate::server::body::{Json, Patch};
use crate::server::extract::{PathId, PathIds};
use crate::state::App;

/// Whom to invite.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct InviteMember {
    #[schema(format = "email", max_length = 254, example = "grace@example.com")]
    email: String,
    role: Role,
}

/// What to change. What is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UpdateMember {
    role: Option<Role>,
    /// `suspended` members take no part and stay in the list.
    #[schema(value_type = Option<crate::names::MemberStatusChange>)]
    status: Option<String>,
}

/// What the link of the letter holds.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AcceptInvitation {
    #[schema(value_type = String, format = "password", max_length = 2048)]
    token: SecretString,
}

/// A member.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Member {
    #[schema(value_type = String, example = "mem_01h455vb4pex5vsknk084sn02q")]
    id: MemberId,
    /// Once the invitation is accepted.
    #[schema(value_type = Option<String>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<UserId>,
    email: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    role: Role,
    #[schema(value_type = crate::names::MemberStatus)]
    status: &'static str,
    #[serde(with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    invited_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    joined_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
}

impl From<members::Member> for Member {
    fn from(row: members::Member) -> Self {
        Self {
            id: row.id,
            user_id: row.user_id,
            email: row.email,
            name: row.name,
            role: row.role,
            status: row.status.as_str(),
            invited_at: row.invited_at,
            joined_at: row.joined_at,
            created_at: row.created_at,
        }
    }
}

type Tagged = ([(HeaderName, String); 1], Answer<Member>);

fn tagged(row: members::Member) -> Tagged {
    (etag(version(row.revision)), Answer(row.into()))
}

/// Rows that the edge never sees count their changes only.
pub(super) fn version(revision: i64) -> Version {
    Version {
        epoch: 0,
        row: u64::try_from(revision).unwrap_or(0),
    }
}

/// Invites somebody by e-mail
///
/// A letter with a link that is good for seven days goes to the address. Only owners invite owners.
#[utoipa::path(post, path = "/workspaces/{workspaceId}/members", tag = "members", operation_id = "inviteMember",
    security(("bearer" = [])), params(("workspaceId" = String, Path)), request_body = InviteMember,
    responses((status = 201, body = Member), Refusals,
        (status = 403, body = ErrorEnvelope, description = "The caller's role does not allow it, or their address is not confirmed"),
        (status = 404, body = ErrorEnvelope, description = "There is no such workspace, or the caller is no member"),
        (status = 409, body = ErrorEnvelope, description = "The address is a member or was invited"),
        (status = 429, body = ErrorEnvelope, description = "The address was sent too many invitations")))]
pub(super) async fn invite(
    State(app): State<App>,
    caller: Caller,
    PathId(workspace): PathId<WorkspaceKind>,
    Json(body): Json<InviteMember>,
) -> Outcome<(StatusCode, [(HeaderName, String); 1], Answer<Member>)> {
    let row = member::invite(&app, &caller, workspace, &body.email, body.role).await?;
    let location = format!(
        "{}/api/v1/workspaces/{workspace}/members/{}",
        app.settings().api_url,
        row.id
    );
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Answer(row.into())))
}

/// The members of a workspace, in the order in which they came
#[utoipa::path(get, path = "/workspaces/{workspaceId}/members", tag = "members", operation_id = "listMembers",
    security(("bearer" = [])), params(("workspaceId" = String, Path), PageQuery),
    responses((status = 200, body = Page<Member>), Refusals,
        (status = 404, body = ErrorEnvelope, description = "There is no such workspace, or the caller is no member")))]
pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    PathId(workspace): PathId<WorkspaceKind>,
    Listing { window, .. }: Listing,
) -> Outcome<Answer<Page<Member>>> {
    let mut connection = app.pool().acquire().await?;
    identity::workspace(&mut connection, &caller, workspace, Action::ReadMembers).await?;
    let rows = members::of_workspace(&mut connection, workspace, window.limit(), window.offset()).await?;
    Ok(Answer(window.of(rows)))
}

/// A member
#[utoipa::path(get, path = "/workspaces/{workspaceId}/members/{memberId}", tag = "members", operation_id = "getMember",
    security(("bearer" = [])), params(("workspaceId" = String, Path), ("memberId" = String, Path)),
    responses((status = 200, body = Member, headers(("ETag" = String, description = "For `If-Match`"))), Refusals,
        (status = 404, body = ErrorEnvelope, description = "There is no such workspace or member, or the caller is no member")))]
pub(super) async fn get(
    State(app): State<App>,
    caller: Caller,
    PathIds(workspace, id): PathIds<WorkspaceKind, MemberKind>,
) -> Outcome<Tagged> {
    let mut connection = app.pool().acquire().await?;
    identity::workspace(&mut connection, &caller, workspace, Action::ReadMembers).await?;
    let row = members::find(&mut connection, id).await?;
    let row = row.filter(|row| row.workspace_id == workspace);
    Ok(tagged(row.ok_or_else(|| Failure::not_found("Member not found"))?))
}

/// Changes what a member may do, or suspends them
///
/// Only owners make, change and suspend owners, and one owner is always left.
#[utoipa::path(patch, path = "/workspaces/{workspaceId}/members/{memberId}", tag = "members", operation_id = "updateMember",
    security(("bearer" = [])), params(("workspaceId" = String, Path), ("memberId" = String, Path),
        ("If-Match" = Option<String>, Header, description = "The `ETag` of the member that the change was made from")),
    request_body = UpdateMember, responses(
        (status = 200, body = Member, headers(("ETag" = String, description = "Of the member as it now is"))), Refusals,
        (status = 403, body = ErrorEnvelope, description = "The caller's role does not allow it"),
        (status = 404, body = ErrorEnvelope, description = "There is no such workspace or member, or the caller is no member"),
        (status = 409, body = ErrorEnvelope, description = "The workspace would be left without an owner, or the invitation is not accepted"),
        (status = 412, body = ErrorEnvelope, description = "The member is not the one that `If-Match` names")))]
pub(super) async fn update(
    State(app): State<App>,
    caller: Caller,
    PathIds(workspace, id): PathIds<WorkspaceKind, MemberKind>,
    headers: HeaderMap,
    Patch(body, _): Patch<UpdateMember>,
) -> Outcome<Tagged> {
    let mut fields = Fields::new();
    let suspended = body.status.map(|status| match status.as_str() {
        "active" => Some(false),
        "suspended" => Some(true),
        _ => {
            fields.refuse("status", "must be active or suspended");
            None
        }
    });
    fields.finish()?;
    let change = Change {
        role: body.role,
        suspended: suspended.flatten(),
    };
    let if_match = |revision| matches(&headers, version(revision));
    let row = member::change(&app, &caller, workspace, id, change, if_match).await?;
    Ok(tagged(row))
}

/// Removes a member, or withdraws an invitation
#[utoipa::path(delete, path = "/workspaces/{workspaceId}/members/{memberId}", tag = "members", operation_id = "removeMember",
    security(("bearer" = [])), params(("workspaceId" = String, Path), ("memberId" = String, Path)),
    responses((status = 204, description = "They are no member, and an invitation leads nowhere"), Refusals,
        (status = 403, body = ErrorEnvelope, description = "The caller's role does not allow it"),
        (status = 404, body = ErrorEnvelope, description = "There is no such workspace or member, or the caller is no member"),
        (status = 409, body = ErrorEnvelope, description = "The workspace would be left without an owner")))]
pub(super) async fn remove(
    State(app): State<App>,
    caller: Caller,
    PathIds(workspace, id): PathIds<WorkspaceKind, MemberKind>,
) -> Outcome<StatusCode> {
    member::remove(&app, &caller, workspace, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Sends an invitation again
///
/// The links of earlier letters are void.
#[utoipa::path(post, path = "/workspaces/{workspaceId}/members/{memberId}/invitation", tag = "members",
    operation_id = "resendInvitation", security(("bearer" = [])),
    params(("workspaceId" = String, Path), ("memberId" = String, Path)),
    responses((status = 202, body = Member), Refusals,
        (status = 403, body = ErrorEnvelope, description = "The caller's role does not allow it, or their address is not confirmed"),
        (status = 404, body = ErrorEnvelope, description = "There is no such workspace or member, or the caller is no member"),
        (status = 409, body = ErrorEnvelope, description = "The invitation is accepted"),
        (status = 429, body = ErrorEnvelope, description = "The address was sent too many invitations")))]
pub(super) async fn send_again(
    State(app): State<App>,
    caller: Caller,
    PathIds(workspace, id): PathIds<WorkspaceKind, MemberKind>,
) -> Outcome<(StatusCode, Answer<Member>)> {
    let row = member::send_again(&app, &caller, workspace, id).await?;
    Ok((StatusCode::ACCEPTED, Answer(row.into())))
}

/// Leaves a workspace
#[utoipa::path(post, path = "/workspaces/{workspaceId}/leave", tag = "members", operation_id = "leaveWorkspace",
    security(("bearer" = [])), params(("workspaceId" = String, Path)),
    responses((status = 204, description = "The caller is no member any more"), Refusals,
        (status = 404, body = ErrorEnvelope, description = "There is no such workspace, or the caller is no member"),
        (status = 409, body = ErrorEnvelope, description = "The workspace would be left without an owner")))]
pub(super) async fn leave(
    State(app): State<App>,
    Person(caller): Person,
    PathId(workspace): PathId<WorkspaceKind>,
) -> Outcome<StatusCode> {
    member::leave(&app, &caller, workspace).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Accepts an invitation by the link that was sent
///
/// The caller's address must be the invited one.
#[utoipa::path(post, path = "/invitations/accept", tag = "members", operation_id = "acceptInvitation",
    security(("bearer" = [])), request_body = AcceptInvitation, responses((status = 200, body = Workspace), Refusals,
        (status = 403, body = ErrorEnvelope, description = "The invitation is for another address"),
        (status = 409, body = ErrorEnvelope, description = "The caller is a member")))]
pub(super) async fn accept(
    State(app): State<App>,
    Person(caller): Person,
    Json(body): Json<AcceptInvitation>,
) -> Outcome<Answer<Workspace>> {
    let row = member::accept(&app, &caller, body.token.expose_secret()).await?;
    Ok(Answer(row.into()))
}
