//! Workspaces: create, list, get, change, delete, restore, transfer.

use authsome_contract::model::{Plan, WorkspaceStatus};
use authsome_core::id::{MemberId, UserId, Workspace as WorkspaceKind, WorkspaceId};
use axum::Json as Answer;
use axum::extract::State;
use http::{HeaderMap, HeaderName, StatusCode, header};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};

use super::etag::{etag, matches};
use super::fault::{ErrorEnvelope, Refusals};
use super::members::version;
use super::page::{Listing, Page, PageQuery};
use crate::command::workspace::{self, NewWorkspace, Settings};
use crate::db::workspaces;
use crate::error::Outcome;
use crate::identity::{Caller, Person, Role};
use crate::server::body::{Json, Patch};
use crate::server::extract::PathId;
use crate::state::App;

/// A new workspace.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateWorkspace {
    #[schema(min_length = 1, max_length = 200, example = "Acme, Inc.")]
    name: String,
    /// Unique on the platform; made of the name where it is left out.
    #[schema(pattern = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", example = "acme")]
    slug: Option<String>,
    /// `free` where it is left out. Which others can be chosen is the operator's decision; enterprise is by contract.
    #[schema(value_type = Option<crate::names::Plan>)]
    plan: Option<Plan>,
}

/// What to change. What is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UpdateWorkspace {
    #[schema(min_length = 1, max_length = 200)]
    name: Option<String>,
    #[schema(pattern = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
    slug: Option<String>,
    /// Merged into what there is (JSON merge patch, RFC 7396): `null` takes a member away. At most 16 KiB.
    #[schema(value_type = Option<Object>)]
    #[serde(default, deserialize_with = "present")]
    metadata: Option<Value>,
}

/// `null` is a value, and different from nothing.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// Whose the workspace is to be.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct TransferWorkspace {
    #[schema(value_type = String, example = "mem_01h455vb4pex5vsknk084sn02q")]
    member_id: MemberId,
}

/// Which workspaces to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListFilter {
    #[param(value_type = Option<crate::names::WorkspaceStatus>, inline)]
    status: Option<WorkspaceStatus>,
}

/// A workspace.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Workspace {
    #[schema(value_type = String, example = "ws_01h455vb4pex5vsknk084sn02q")]
    id: WorkspaceId,
    name: String,
    slug: String,
    #[schema(value_type = crate::names::Plan)]
    plan: Plan,
    #[schema(value_type = crate::names::WorkspaceStatus)]
    status: WorkspaceStatus,
    #[schema(value_type = String)]
    owner_id: UserId,
    /// What the caller is in it; a service token is nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<Role>,
    /// Whatever its people keep there.
    #[schema(value_type = Object)]
    metadata: Value,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    updated_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    deleted_at: Option<OffsetDateTime>,
    /// Until then a deleted workspace can be restored.
    #[serde(with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    purge_after: Option<OffsetDateTime>,
}

impl From<workspaces::Workspace> for Workspace {
    fn from(row: workspaces::Workspace) -> Self {
        Self {
            id: row.id,
            name: row.name,
            slug: row.slug,
            plan: row.plan,
            status: row.status,
            owner_id: row.owner_id,
            role: Some(row.role),
            metadata: row.metadata,
            created_at: row.created_at,
            updated_at: row.updated_at,
            deleted_at: row.deleted_at,
            purge_after: row.purge_after,
        }
    }
}

type Tagged = ([(HeaderName, String); 1], Answer<Workspace>);

fn tagged(caller: &Caller, row: workspaces::Workspace) -> Tagged {
    let tag = etag(version(row.revision));
    let mut workspace = Workspace::from(row);
    if caller.grant.is_some() {
        workspace.role = None;
    }
    (tag, Answer(workspace))
}

/// Creates a workspace; the caller owns it
#[utoipa::path(post, path = "/workspaces", tag = "workspaces", operation_id = "createWorkspace", security(("bearer" = [])),
    request_body = CreateWorkspace, responses((status = 201, body = Workspace), Refusals,
        (status = 403, body = ErrorEnvelope, description = "The plan cannot be chosen here"),
        (status = 409, body = ErrorEnvelope, description = "The slug is taken")))]
pub(super) async fn create(
    State(app): State<App>,
    Person(caller): Person,
    Json(body): Json<CreateWorkspace>,
) -> Outcome<(StatusCode, [(HeaderName, String); 1], Answer<Workspace>)> {
    let new = NewWorkspace {
        name: &body.name,
        slug: body.slug.as_deref(),
        plan: body.plan,
    };
    let row = workspace::create(&app, &caller, new).await?;
    let location = format!("{}/api/v1/workspaces/{}", app.settings().api_url, row.id);
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Answer(row.into())))
}

/// The caller's workspaces, oldest first
///
/// Deleted ones only where they are asked for, and only those that the caller owns.
#[utoipa::path(get, path = "/workspaces", tag = "workspaces", operation_id = "listWorkspaces", security(("bearer" = [])),
    params(ListFilter, PageQuery), responses((status = 200, body = Page<Workspace>), Refusals))]
pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    Listing { filter, window }: Listing<ListFilter>,
) -> Outcome<Answer<Page<Workspace>>> {
    let mut connection = app.pool().acquire().await?;
    if let Some(grant) = &caller.grant {
        // A program sees the workspace that it is of, and no other.
        let row = workspace::seen(&mut connection, &caller, grant.workspace).await?;
        let wanted = filter.status.is_none_or(|status| status == row.status);
        let rows = if wanted {
            vec![tagged(&caller, row).1.0]
        } else {
            Vec::new()
        };
        return Ok(Answer(window.cut(rows)));
    }
    let (limit, offset) = (window.limit(), window.offset());
    let rows = workspaces::all_of_member(&mut connection, caller.user, filter.status, limit, offset).await?;
    Ok(Answer(window.of(rows)))
}

/// A workspace
#[utoipa::path(get, path = "/workspaces/{workspaceId}", tag = "workspaces", operation_id = "getWorkspace",
    security(("bearer" = [])), params(("workspaceId" = String, Path)),
    responses((status = 200, body = Workspace, headers(("ETag" = String, description = "For `If-Match`"))), Refusals,
        (status = 404, body = ErrorEnvelope, description = "There is none, or the caller is no member")))]
pub(super) async fn get(State(app): State<App>, caller: Caller, PathId(id): PathId<WorkspaceKind>) -> Outcome<Tagged> {
    let mut connection = app.pool().acquire().await?;
    let row = workspace::seen(&mut connection, &caller, id).await?;
    Ok(tagged(&caller, row))
}

/// Changes a workspace
#[utoipa::path(patch, path = "/workspaces/{workspaceId}", tag = "workspaces", operation_id = "updateWorkspace",
    security(("bearer" = [])), params(("workspaceId" = String, Path),
        ("If-Match" = Option<String>, Header, description = "The `ETag` of the workspace that the change was made from")),
    request_body = UpdateWorkspace, responses(
        (status = 200, body = Workspace, headers(("ETag" = String, description = "Of the workspace as it now is"))), Refusals,
        (status = 403, body = ErrorEnvelope, description = "The caller's role does not allow it"),
        (status = 404, body = ErrorEnvelope, description = "There is none, or the caller is no member"),
        (status = 409, body = ErrorEnvelope, description = "The slug is taken"),
        (status = 412, body = ErrorEnvelope, description = "The workspace is not the one that `If-Match` names")))]
pub(super) async fn update(
    State(app): State<App>,
    caller: Caller,
    PathId(id): PathId<WorkspaceKind>,
    headers: HeaderMap,
    Patch(body, _): Patch<UpdateWorkspace>,
) -> Outcome<Tagged> {
    let change = Settings {
        name: body.name.as_deref(),
        slug: body.slug.as_deref(),
        metadata: body.metadata,
    };
    let if_match = |revision| matches(&headers, version(revision));
    let row = workspace::update(&app, &caller, id, change, if_match).await?;
    Ok(tagged(&caller, row))
}

/// Deletes a workspace
///
/// Its applications serve nobody from now on. For thirty days its owners can restore it, with everything in it.
#[utoipa::path(delete, path = "/workspaces/{workspaceId}", tag = "workspaces", operation_id = "deleteWorkspace",
    security(("bearer" = [])), params(("workspaceId" = String, Path)),
    responses((status = 204, description = "It is deleted"), Refusals,
        (status = 403, body = ErrorEnvelope, description = "The caller is no owner"),
        (status = 404, body = ErrorEnvelope, description = "There is none, or the caller is no member")))]
pub(super) async fn delete(
    State(app): State<App>,
    Person(caller): Person,
    PathId(id): PathId<WorkspaceKind>,
) -> Outcome<StatusCode> {
    workspace::delete(&app, &caller, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Restores a deleted workspace
#[utoipa::path(post, path = "/workspaces/{workspaceId}/restore", tag = "workspaces", operation_id = "restoreWorkspace",
    security(("bearer" = [])), params(("workspaceId" = String, Path)),
    responses((status = 200, body = Workspace), Refusals,
        (status = 403, body = ErrorEnvelope, description = "The caller is no owner"),
        (status = 404, body = ErrorEnvelope, description = "There is none, or its thirty days are over"),
        (status = 409, body = ErrorEnvelope, description = "The workspace is not deleted")))]
pub(super) async fn restore(
    State(app): State<App>,
    Person(caller): Person,
    PathId(id): PathId<WorkspaceKind>,
) -> Outcome<Answer<Workspace>> {
    let row = workspace::restore(&app, &caller, id).await?;
    Ok(Answer(row.into()))
}

/// Transfers a workspace to another member
///
/// The member becomes an owner; whose name the workspace was on stays in it as an admin.
#[utoipa::path(post, path = "/workspaces/{workspaceId}/transfer", tag = "workspaces", operation_id = "transferWorkspace",
    security(("bearer" = [])), params(("workspaceId" = String, Path)), request_body = TransferWorkspace,
    responses((status = 200, body = Workspace), Refusals,
        (status = 403, body = ErrorEnvelope, description = "The caller is no owner"),
        (status = 404, body = ErrorEnvelope, description = "There is none, or the caller is no member"),
        (status = 409, body = ErrorEnvelope, description = "The workspace is on this member's name")))]
pub(super) async fn transfer(
    State(app): State<App>,
    Person(caller): Person,
    PathId(id): PathId<WorkspaceKind>,
    Json(body): Json<TransferWorkspace>,
) -> Outcome<Answer<Workspace>> {
    let row = workspace::transfer(&app, &caller, id, body.member_id).await?;
    Ok(Answer(row.into()))
}
