//! What a team changes of its application at the edge, and what it throws away of the edge's cache.

use authsome_core::error::Failure;
use authsome_core::id::{Application as ApplicationKind, OperationId};
use axum::Json as Answer;
use axum::extract::State;
use http::{HeaderMap, HeaderName, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::applications::{ApplicationDetails, details};
use super::etag::{etag, matches};
use super::fault::{ErrorEnvelope, Refusals};
use crate::command::application::config::ApplicationConfig;
use crate::command::application::{self, Changes};
use crate::command::edge_policy::{self, EdgeSettings};
use crate::error::Outcome;
use crate::identity::{self, Action, Caller};
use crate::server::body::{Json, Patch};
use crate::server::extract::PathId;
use crate::state::App;

/// What to change: a JSON merge patch (RFC 7396). What is left out stays; `null` gives a setting its default.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UpdateApplication {
    #[schema(min_length = 1, max_length = 200)]
    name: Option<String>,
    /// Unique in the workspace.
    #[schema(pattern = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
    slug: Option<String>,
    /// Settings of the instance. A change is rolled out while the application goes on serving.
    #[schema(value_type = Option<ApplicationConfig>)]
    config: Option<Value>,
    /// The team's own notes, at most 16 KiB.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Value>,
    /// What the edge does for the application.
    #[schema(value_type = Option<EdgeSettings>)]
    edge: Option<Value>,
    /// Cannot be changed; refused unless it is the present one.
    environment: Option<String>,
    /// Cannot be changed; refused unless it is the present one.
    region: Option<String>,
}

/// The application as it now is.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct UpdatedApplication {
    #[serde(flatten)]
    application: ApplicationDetails,
    /// What rolls a changed configuration out; `null` where there is nothing to roll out.
    #[schema(value_type = Option<String>)]
    operation_id: Option<OperationId>,
}

/// What to throw away.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PurgeCache {
    /// What carries one of these tags; everything where it is left out.
    #[schema(min_items = 1, max_items = 64, example = json!(["catalogue"]))]
    tags: Option<Vec<String>>,
}

/// What was thrown away.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Purged {
    /// Responses stored until then are not used once the edges have it, which takes a fraction of a second.
    #[serde(with = "time::serde::rfc3339")]
    purged_at: OffsetDateTime,
}

/// Changes an application
///
/// What the edge does changes at every edge within a fraction of a second. A changed configuration is rolled out.
#[utoipa::path(patch, path = "/applications/{applicationId}", tag = "applications", operation_id = "updateApplication",
    security(("bearer" = [])), params(("applicationId" = String, Path),
        ("If-Match" = Option<String>, Header, description = "The `ETag` of the application that the change was made from")),
    request_body = UpdateApplication, responses(
        (status = 200, body = UpdatedApplication, headers(("ETag" = String, description = "Of the application as it now is"))),
        Refusals,
        (status = 403, body = ErrorEnvelope, description = "The caller's role does not allow it"),
        (status = 404, body = ErrorEnvelope, description = "There is no such application, or the caller is no member"),
        (status = 409, body = ErrorEnvelope, description = "The application is being deleted, or the slug is taken"),
        (status = 412, body = ErrorEnvelope, description = "The application is not the one that `If-Match` names")))]
pub(super) async fn update(
    State(app): State<App>,
    caller: Caller,
    PathId(id): PathId<ApplicationKind>,
    headers: HeaderMap,
    Patch(body, _): Patch<UpdateApplication>,
) -> Outcome<([(HeaderName, String); 1], Answer<UpdatedApplication>)> {
    let changes = Changes {
        name: body.name,
        slug: body.slug,
        config: body.config,
        metadata: body.metadata,
        edge: body.edge,
        environment: body.environment,
        region: body.region,
    };
    let operation_id = application::update(&app, &caller, id, changes, |version| matches(&headers, version)).await?;
    let mut connection = app.pool().acquire().await?;
    identity::application(&mut connection, &caller, id, Action::ReadApplications).await?;
    let (application, version) = details(&app, &mut connection, id).await?;
    let answer = UpdatedApplication {
        application,
        operation_id,
    };
    Ok((etag(version), Answer(answer)))
}

/// Throws away what the edges' caches hold of an application
#[utoipa::path(post, path = "/applications/{applicationId}/cache/purge", tag = "applications",
    operation_id = "purgeApplicationCache", security(("bearer" = [])), params(("applicationId" = String, Path)),
    request_body = PurgeCache, responses((status = 202, body = Purged), Refusals,
        (status = 403, body = ErrorEnvelope, description = "The caller's role does not allow it"),
        (status = 404, body = ErrorEnvelope, description = "There is no such application, or the caller is no member"),
        (status = 409, body = ErrorEnvelope, description = "The application is being deleted")))]
pub(super) async fn purge(
    State(app): State<App>,
    caller: Caller,
    PathId(id): PathId<ApplicationKind>,
    Json(body): Json<PurgeCache>,
) -> Outcome<(StatusCode, Answer<Purged>)> {
    let purged_at = edge_policy::purge(&app, &caller, id, body.tags.as_deref()).await?;
    // What is told is what was written: whole milliseconds.
    let purged_at = purged_at
        .replace_millisecond(purged_at.millisecond())
        .map_err(Failure::internal)?;
    Ok((StatusCode::ACCEPTED, Answer(Purged { purged_at })))
}
