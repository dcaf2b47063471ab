//! Workspaces: create, list, get.

use authsome_contract::model::{Plan, WorkspaceStatus};
use authsome_core::error::Failure;
use authsome_core::id::{UserId, Workspace as WorkspaceKind, WorkspaceId};
use axum::Json as Answer;
use axum::extract::State;
use http::{HeaderName, StatusCode, header};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::fault::{ErrorEnvelope, Refusals};
use super::page::{Page, PageQuery};
use crate::command::workspace::{self, NewWorkspace};
use crate::db::workspaces;
use crate::error::Outcome;
use crate::identity::{Caller, Role};
use crate::server::extract::{Json, PathId, Query};
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
    #[schema(value_type = Option<String>, pattern = "^(free|pro|enterprise)$")]
    plan: Option<Plan>,
}

/// A workspace.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Workspace {
    #[schema(value_type = String, example = "ws_01h455vb4pex5vsknk084sn02q")]
    id: WorkspaceId,
    name: String,
    slug: String,
    #[schema(value_type = String)]
    plan: Plan,
    #[schema(value_type = String)]
    status: WorkspaceStatus,
    #[schema(value_type = String)]
    owner_id: UserId,
    /// What the caller is in it.
    role: Role,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    updated_at: OffsetDateTime,
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
            role: row.role,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

/// Creates a workspace; the caller owns it
#[utoipa::path(post, path = "/workspaces", tag = "workspaces", operation_id = "createWorkspace", security(("bearer" = [])),
    request_body = CreateWorkspace, responses((status = 201, body = Workspace), Refusals,
        (status = 403, body = ErrorEnvelope, description = "The plan cannot be chosen here"),
        (status = 409, body = ErrorEnvelope, description = "The slug is taken")))]
pub(super) async fn create(
    State(app): State<App>,
    caller: Caller,
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
#[utoipa::path(get, path = "/workspaces", tag = "workspaces", operation_id = "listWorkspaces", security(("bearer" = [])),
    params(PageQuery), responses((status = 200, body = Page<Workspace>), Refusals))]
pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(page): Query<PageQuery>,
) -> Outcome<Answer<Page<Workspace>>> {
    let window = page.window()?;
    let mut connection = app.pool().acquire().await?;
    let rows = workspaces::all_of_member(&mut connection, caller.user, window.limit(), window.offset()).await?;
    Ok(Answer(window.of(rows)))
}

/// A workspace
#[utoipa::path(get, path = "/workspaces/{workspaceId}", tag = "workspaces", operation_id = "getWorkspace",
    security(("bearer" = [])), params(("workspaceId" = String, Path)),
    responses((status = 200, body = Workspace), Refusals,
        (status = 404, body = ErrorEnvelope, description = "There is none, or the caller is no member")))]
pub(super) async fn get(
    State(app): State<App>,
    caller: Caller,
    PathId(id): PathId<WorkspaceKind>,
) -> Outcome<Answer<Workspace>> {
    let mut connection = app.pool().acquire().await?;
    // Every role may see its workspace, so membership is the whole check.
    let row = workspaces::of_member(&mut connection, caller.user, id).await?;
    Ok(Answer(
        row.ok_or_else(|| Failure::not_found("Workspace not found"))?.into(),
    ))
}
