//! What is sent to webhook endpoints: deliveries, sending one again, and the secret that signs them.

use authsome_core::error::Failure;
use authsome_core::id::{Webhook as WebhookKind, Workspace as WorkspaceKind};
use axum::Json as Answer;
use axum::extract::State;
use http::StatusCode;
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::{Duration, OffsetDateTime};
use utoipa::ToSchema;

use super::fault::{ErrorEnvelope, Refusals};
use super::page::{Listing, Page, PageQuery};
use crate::command::webhook;
use crate::db::webhooks;
use crate::error::Outcome;
use crate::identity::{self, Action, Caller};
use crate::server::body::Json;
use crate::server::extract::{PathIds, PathIdsName};
use crate::state::App;

/// How to rotate a secret.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct RotateSecret {
    /// For how many seconds the old secret signs as well, at most 7 days.
    #[serde(default = "a_day")]
    #[schema(minimum = 0, maximum = 604_800, default = 86_400)]
    overlap_seconds: u32,
}

fn a_day() -> u32 {
    86_400
}

/// A new secret. It is shown here and never again.
#[derive(Serialize, ToSchema)]
pub(super) struct NewSecret {
    secret: String,
}

/// A delivery.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Delivery {
    #[schema(example = "1042")]
    id: String,
    /// `webhook-id` of the request.
    message_id: String,
    #[schema(value_type = crate::names::WebhookEvent)]
    event: String,
    #[schema(value_type = Object)]
    data: Value,
    #[schema(value_type = crate::names::DeliveryStatus)]
    status: String,
    attempts: i32,
    /// Only while it is pending.
    #[serde(with = "time::serde::rfc3339::option")]
    next_attempt_at: Option<OffsetDateTime>,
    /// Of the last attempt.
    response_status: Option<i32>,
    /// Of the last attempt.
    error: Option<String>,
    /// Milliseconds of the last attempt.
    duration_ms: Option<i32>,
    #[serde(with = "time::serde::rfc3339::option")]
    attempted_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
}

/// A delivery that was begun.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Replayed {
    id: String,
}

impl From<webhooks::Delivery> for Delivery {
    fn from(row: webhooks::Delivery) -> Self {
        Self {
            id: row.id.to_string(),
            message_id: row.message_id,
            event: row.event,
            data: row.data,
            next_attempt_at: (row.status == "pending").then_some(row.next_attempt_at),
            status: row.status,
            attempts: row.attempts,
            response_status: row.response_status,
            error: row.error,
            duration_ms: row.duration_ms,
            attempted_at: row.attempted_at,
            created_at: row.created_at,
        }
    }
}

/// Gives a webhook endpoint a new secret
#[utoipa::path(post, path = "/workspaces/{workspaceId}/webhooks/{webhookId}/rotate-secret", tag = "webhooks",
    operation_id = "rotateWebhookSecret", security(("bearer" = [])),
    params(("workspaceId" = String, Path), ("webhookId" = String, Path)), request_body = RotateSecret,
    responses((status = 200, body = NewSecret), Refusals,
        (status = 403, body = ErrorEnvelope, description = "The caller's role does not allow it"),
        (status = 404, body = ErrorEnvelope, description = "There is no such endpoint, or the caller is no member")))]
pub(super) async fn rotate(
    State(app): State<App>,
    caller: Caller,
    PathIds(workspace, id): PathIds<WorkspaceKind, WebhookKind>,
    Json(body): Json<RotateSecret>,
) -> Outcome<Answer<NewSecret>> {
    let overlap = Duration::seconds(i64::from(body.overlap_seconds));
    let secret = webhook::rotate(&app, &caller, workspace, id, overlap).await?;
    Ok(Answer(NewSecret {
        secret: secret.expose_secret().to_owned(),
    }))
}

/// What was, and is to be, delivered to a webhook endpoint, newest first
#[utoipa::path(get, path = "/workspaces/{workspaceId}/webhooks/{webhookId}/deliveries", tag = "webhooks",
    operation_id = "listWebhookDeliveries", security(("bearer" = [])),
    params(("workspaceId" = String, Path), ("webhookId" = String, Path), PageQuery),
    responses((status = 200, body = Page<Delivery>), Refusals,
        (status = 404, body = ErrorEnvelope, description = "There is no such endpoint, or the caller is no member")))]
pub(super) async fn deliveries(
    State(app): State<App>,
    caller: Caller,
    PathIds(workspace, id): PathIds<WorkspaceKind, WebhookKind>,
    Listing { window, .. }: Listing,
) -> Outcome<Answer<Page<Delivery>>> {
    let mut connection = app.pool().acquire().await?;
    identity::workspace(&mut connection, &caller, workspace, Action::ReadApplications).await?;
    let found = webhooks::find(&mut connection, workspace, id).await?;
    found.ok_or_else(|| Failure::not_found("Webhook endpoint not found"))?;
    let rows = webhooks::deliveries(&mut connection, id, window.limit(), window.offset()).await?;
    Ok(Answer(window.of(rows)))
}

/// Delivers a message once more
#[utoipa::path(post, path = "/workspaces/{workspaceId}/webhooks/{webhookId}/deliveries/{deliveryId}/replay", tag = "webhooks",
    operation_id = "replayWebhookDelivery", security(("bearer" = [])),
    params(("workspaceId" = String, Path), ("webhookId" = String, Path), ("deliveryId" = String, Path)),
    responses((status = 202, body = Replayed), Refusals,
        (status = 403, body = ErrorEnvelope, description = "The caller's role does not allow it"),
        (status = 404, body = ErrorEnvelope, description = "There is no such delivery, or the caller is no member")))]
pub(super) async fn replay(
    State(app): State<App>,
    caller: Caller,
    PathIdsName(workspace, id, delivery): PathIdsName<WorkspaceKind, WebhookKind>,
) -> Outcome<(StatusCode, Answer<Replayed>)> {
    // A text that is no number is the number of no delivery.
    let delivery = delivery.parse().unwrap_or(-1);
    let replayed = webhook::replay(&app, &caller, workspace, id, delivery).await?;
    let answer = Replayed {
        id: replayed.to_string(),
    };
    Ok((StatusCode::ACCEPTED, Answer(answer)))
}
