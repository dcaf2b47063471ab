//! Webhook endpoints of workspaces and of applications.

use authsome_core::error::Failure;
use authsome_core::id::{
    Application as ApplicationKind, ApplicationId, Webhook as WebhookKind, WebhookId, Workspace as WorkspaceKind,
};
use axum::Json as Answer;
use axum::extract::State;
use http::{HeaderMap, HeaderName, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::etag::{etag_of, matches_shown};
use super::fault::{ErrorEnvelope, Refusals};
use super::page::{Listing, Page, PageQuery};
use crate::command::webhook::{self, NewEndpoint};
use crate::db::webhooks;
use crate::error::Outcome;
use crate::identity::{self, Action, Caller};
use crate::server::FirstId;
use crate::server::body::{Json, Patch};
use crate::server::extract::{PathId, PathIds};
use crate::state::App;

/// A new endpoint.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct CreateWebhook {
    /// https, at a public address. http only where the operator allows it for networks of their own.
    #[schema(max_length = 2048, example = "https://hooks.shop.example/authsome")]
    url: String,
    /// All events where there are none.
    #[serde(default)]
    #[schema(value_type = Vec<crate::names::WebhookEvent>, example = json!(["application.provisioned", "application.failed"]))]
    events: Vec<String>,
    /// Events of this application only.
    #[schema(value_type = Option<String>)]
    application_id: Option<ApplicationId>,
    /// `whsec_` and 24 to 64 bytes in base64; made where it is left out.
    #[schema(value_type = Option<String>)]
    secret: Option<SecretString>,
}

/// A new endpoint for the events of one application.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateApplicationWebhook {
    /// https, at a public address. http only where the operator allows it for networks of their own.
    #[schema(max_length = 2048, example = "https://hooks.shop.example/authsome")]
    url: String,
    /// All events where there are none.
    #[serde(default)]
    #[schema(value_type = Vec<crate::names::WebhookEvent>)]
    events: Vec<String>,
    /// `whsec_` and 24 to 64 bytes in base64; made where it is left out.
    #[schema(value_type = Option<String>)]
    secret: Option<SecretString>,
}

/// An endpoint.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Webhook {
    #[schema(value_type = String, example = "whk_01h455vb4pex5vsknk084sn02q")]
    id: WebhookId,
    url: String,
    /// All events where there are none.
    #[schema(value_type = Vec<crate::names::WebhookEvent>)]
    events: Vec<String>,
    #[schema(value_type = Option<String>)]
    application_id: Option<ApplicationId>,
    enabled: bool,
    /// Why the platform disabled it.
    disabled_reason: Option<String>,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
}

/// A new endpoint with its secret, which is shown here and never again.
#[derive(Serialize, ToSchema)]
pub(super) struct CreatedWebhook {
    #[serde(flatten)]
    webhook: Webhook,
    secret: String,
}

/// What to change: a JSON merge patch (RFC 7396).
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "describes a merge patch; the patch is read as JSON")]
pub(super) struct UpdateWebhook {
    url: Option<String>,
    #[schema(value_type = Option<Vec<crate::names::WebhookEvent>>)]
    events: Option<Vec<String>>,
    enabled: Option<bool>,
}

impl From<webhooks::Endpoint> for Webhook {
    fn from(row: webhooks::Endpoint) -> Self {
        Self {
            id: row.id,
            url: row.url,
            events: row.events,
            application_id: row.application_id,
            enabled: row.enabled,
            disabled_reason: row.disabled_reason,
            created_at: row.created_at,
        }
    }
}

impl From<(webhooks::Endpoint, SecretString)> for CreatedWebhook {
    fn from((endpoint, secret): (webhooks::Endpoint, SecretString)) -> Self {
        Self {
            webhook: endpoint.into(),
            secret: secret.expose_secret().to_owned(),
        }
    }
}

/// Creates a webhook endpoint
///
/// Requests are signed as Standard Webhooks has it. The secret is in this answer only.
#[utoipa::path(post, path = "/workspaces/{workspaceId}/webhooks", tag = "webhooks", operation_id = "createWebhook",
    security(("bearer" = [])), params(("workspaceId" = String, Path)), request_body = CreateWebhook,
    responses((status = 201, body = CreatedWebhook), Refusals,
        (status = 403, body = ErrorEnvelope, description = "The caller's role does not allow it, or there are too many"),
        (status = 404, body = ErrorEnvelope, description = "There is no such workspace, or the caller is no member")))]
pub(super) async fn create(
    State(app): State<App>,
    caller: Caller,
    PathId(workspace): PathId<WorkspaceKind>,
    id: FirstId,
    Json(body): Json<CreateWebhook>,
) -> Outcome<(StatusCode, Answer<CreatedWebhook>)> {
    let new = NewEndpoint {
        url: &body.url,
        events: &body.events,
        application: body.application_id,
        secret: body.secret,
    };
    let created = webhook::create(&app, &caller, workspace, id.of(&app), new).await?;
    Ok((StatusCode::CREATED, Answer(created.into())))
}

/// Creates a webhook endpoint for the events of one application
///
/// The same as one of the workspace with `applicationId`, and changed and removed as one of the workspace.
#[utoipa::path(post, path = "/applications/{applicationId}/webhooks", tag = "webhooks",
    operation_id = "createApplicationWebhook", security(("bearer" = [])), params(("applicationId" = String, Path)),
    request_body = CreateApplicationWebhook,
    responses((status = 201, body = CreatedWebhook), Refusals,
        (status = 403, body = ErrorEnvelope, description = "The caller's role does not allow it, or there are too many"),
        (status = 404, body = ErrorEnvelope, description = "There is no such application, or the caller is no member")))]
pub(super) async fn create_for_application(
    State(app): State<App>,
    caller: Caller,
    PathId(application): PathId<ApplicationKind>,
    id: FirstId,
    Json(body): Json<CreateApplicationWebhook>,
) -> Outcome<(StatusCode, Answer<CreatedWebhook>)> {
    let workspace = {
        let mut connection = app.pool().acquire().await?;
        identity::application(&mut connection, &caller, application, Action::ChangeApplications).await?
    };
    let new = NewEndpoint {
        url: &body.url,
        events: &body.events,
        application: Some(application),
        secret: body.secret,
    };
    let created = webhook::create(&app, &caller, workspace, id.of(&app), new).await?;
    Ok((StatusCode::CREATED, Answer(created.into())))
}

/// The webhook endpoints for the events of one application, oldest first
///
/// Those of its workspace, which are told of it as well, are not among them.
#[utoipa::path(get, path = "/applications/{applicationId}/webhooks", tag = "webhooks",
    operation_id = "listApplicationWebhooks", security(("bearer" = [])),
    params(("applicationId" = String, Path), PageQuery),
    responses((status = 200, body = Page<Webhook>), Refusals,
        (status = 404, body = ErrorEnvelope, description = "There is no such application, or the caller is no member")))]
pub(super) async fn list_of_application(
    State(app): State<App>,
    caller: Caller,
    PathId(application): PathId<ApplicationKind>,
    Listing { window, .. }: Listing,
) -> Outcome<Answer<Page<Webhook>>> {
    let mut connection = app.pool().acquire().await?;
    let workspace = identity::application(&mut connection, &caller, application, Action::ReadApplications).await?;
    let (limit, offset) = (window.limit(), window.offset());
    let rows = webhooks::of_application(&mut connection, workspace, application, limit, offset).await?;
    Ok(Answer(window.of(rows)))
}

/// The webhook endpoints of a workspace, oldest first
#[utoipa::path(get, path = "/workspaces/{workspaceId}/webhooks", tag = "webhooks", operation_id = "listWebhooks",
    security(("bearer" = [])), params(("workspaceId" = String, Path), PageQuery),
    responses((status = 200, body = Page<Webhook>), Refusals,
        (status = 404, body = ErrorEnvelope, description = "There is no such workspace, or the caller is no member")))]
pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    PathId(workspace): PathId<WorkspaceKind>,
    Listing { window, .. }: Listing,
) -> Outcome<Answer<Page<Webhook>>> {
    let mut connection = app.pool().acquire().await?;
    identity::workspace(&mut connection, &caller, workspace, Action::ReadApplications).await?;
    let rows = webhooks::of_workspace(&mut connection, workspace, window.limit(), window.offset()).await?;
    Ok(Answer(window.of(rows)))
}

/// A webhook endpoint
#[utoipa::path(get, path = "/workspaces/{workspaceId}/webhooks/{webhookId}", tag = "webhooks", operation_id = "getWebhook",
    security(("bearer" = [])), params(("workspaceId" = String, Path), ("webhookId" = String, Path)),
    responses((status = 200, body = Webhook, headers(("ETag" = String, description = "For `If-Match`"))), Refusals,
        (status = 404, body = ErrorEnvelope, description = "There is no such endpoint, or the caller is no member")))]
pub(super) async fn get(
    State(app): State<App>,
    caller: Caller,
    PathIds(workspace, id): PathIds<WorkspaceKind, WebhookKind>,
) -> Outcome<Tagged> {
    let mut connection = app.pool().acquire().await?;
    identity::workspace(&mut connection, &caller, workspace, Action::ReadApplications).await?;
    let found = webhooks::find(&mut connection, workspace, id).await?;
    let found = found.ok_or_else(|| Failure::not_found("Webhook endpoint not found"))?;
    Ok(tagged(found))
}

type Tagged = ([(HeaderName, String); 1], Answer<Webhook>);

fn tagged(endpoint: webhooks::Endpoint) -> Tagged {
    let shown = Webhook::from(endpoint);
    (etag_of(&shown), Answer(shown))
}

/// Changes a webhook endpoint
#[utoipa::path(patch, path = "/workspaces/{workspaceId}/webhooks/{webhookId}", tag = "webhooks", operation_id = "updateWebhook",
    security(("bearer" = [])), params(("workspaceId" = String, Path), ("webhookId" = String, Path),
        ("If-Match" = Option<String>, Header, description = "The `ETag` of the endpoint that the change was made from")),
    request_body = UpdateWebhook, responses(
        (status = 200, body = Webhook, headers(("ETag" = String, description = "Of the endpoint as it now is"))), Refusals,
        (status = 403, body = ErrorEnvelope, description = "The caller's role does not allow it"),
        (status = 404, body = ErrorEnvelope, description = "There is no such endpoint, or the caller is no member"),
        (status = 412, body = ErrorEnvelope, description = "The endpoint is not the one that `If-Match` names")))]
pub(super) async fn update(
    State(app): State<App>,
    caller: Caller,
    PathIds(workspace, id): PathIds<WorkspaceKind, WebhookKind>,
    headers: HeaderMap,
    Patch(_form, patch): Patch<UpdateWebhook>,
) -> Outcome<Tagged> {
    let if_match = |present: &webhooks::Endpoint| matches_shown(&headers, &Webhook::from(present.clone()));
    let changed = webhook::change(&app, &caller, workspace, id, patch, if_match).await?;
    Ok(tagged(changed))
}

/// Removes a webhook endpoint
#[utoipa::path(delete, path = "/workspaces/{workspaceId}/webhooks/{webhookId}", tag = "webhooks", operation_id = "removeWebhook",
    security(("bearer" = [])), params(("workspaceId" = String, Path), ("webhookId" = String, Path)),
    responses((status = 204, description = "Nothing more is sent to it"), Refusals,
        (status = 403, body = ErrorEnvelope, description = "The caller's role does not allow it"),
        (status = 404, body = ErrorEnvelope, description = "There is no such endpoint, or the caller is no member")))]
pub(super) async fn remove(
    State(app): State<App>,
    caller: Caller,
    PathIds(workspace, id): PathIds<WorkspaceKind, WebhookKind>,
) -> Outcome<StatusCode> {
    webhook::remove(&app, &caller, workspace, id).await?;
    Ok(StatusCode::NO_CONTENT)
}
