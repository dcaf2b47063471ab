//! Service tokens of a workspace.

use authsome_core::id::{Token as TokenKind, TokenId, UserId, Workspace as WorkspaceKind};
use axum::Json as Answer;
use axum::extract::State;
use http::StatusCode;
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::fault::{ErrorEnvelope, Refusals};
use super::page::{Listing, Page, PageQuery};
use crate::command::service_token::{self, NewServiceToken};
use crate::db::service_tokens;
use crate::error::Outcome;
use crate::identity::{self, Action, Caller};
use crate::server::body::Json;
use crate::server::extract::{PathId, PathIds};
use crate::state::App;

/// A new service token.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct CreateServiceToken {
    #[schema(min_length = 1, max_length = 200, example = "Deployment")]
    name: String,
    /// What it may do.
    #[schema(value_type = Vec<crate::names::ServiceTokenScope>, min_items = 1, max_items = 32, example = json!(["applications:read", "applications:write"]))]
    scopes: Vec<String>,
    /// In 90 days where it is left out; at most 366.
    #[serde(default, with = "time::serde::rfc3339::option")]
    expires_at: Option<OffsetDateTime>,
}

/// A service token.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ServiceToken {
    #[schema(value_type = String, example = "tok_01h455vb4pex5vsknk084sn02q")]
    id: TokenId,
    name: String,
    /// Its beginning.
    #[schema(example = "ast_abc123***")]
    token: String,
    #[schema(value_type = Vec<crate::names::ServiceTokenScope>)]
    scopes: Vec<String>,
    #[schema(value_type = String)]
    created_by: UserId,
    /// To the minute.
    #[serde(with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    last_used_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339")]
    expires_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
}

/// A service token that was made. `secret` is shown here and never again.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct CreatedServiceToken {
    #[serde(flatten)]
    token: ServiceToken,
    /// For the header `Authorization: Bearer`. Keep it: it cannot be shown again.
    secret: String,
}

impl From<service_tokens::Token> for ServiceToken {
    fn from(row: service_tokens::Token) -> Self {
        Self {
            id: row.id,
            name: row.name,
            token: row.masked,
            scopes: row.scopes,
            created_by: row.created_by,
            last_used_at: row.last_used_at,
            expires_at: row.expires_at,
            created_at: row.created_at,
        }
    }
}

/// Creates a service token
///
/// For programs. It acts in this workspace only, and does what its scopes say; see the table of permissions.
#[utoipa::path(post, path = "/workspaces/{workspaceId}/tokens", tag = "tokens", operation_id = "createServiceToken",
    security(("bearer" = [])), params(("workspaceId" = String, Path)), request_body = CreateServiceToken,
    responses((status = 201, body = CreatedServiceToken), Refusals,
        (status = 403, body = ErrorEnvelope, description = "The caller's role does not allow it"),
        (status = 404, body = ErrorEnvelope, description = "There is no such workspace, or the caller is no member"),
        (status = 409, body = ErrorEnvelope, description = "The workspace has as many as it can have")))]
pub(super) async fn create(
    State(app): State<App>,
    caller: Caller,
    PathId(workspace): PathId<WorkspaceKind>,
    Json(body): Json<CreateServiceToken>,
) -> Outcome<(StatusCode, Answer<CreatedServiceToken>)> {
    let new = NewServiceToken {
        name: &body.name,
        scopes: &body.scopes,
        expires_at: body.expires_at,
    };
    let created = service_token::create(&app, &caller, workspace, new).await?;
    let answer = CreatedServiceToken {
        token: created.token.into(),
        secret: created.secret.expose_secret().to_owned(),
    };
    Ok((StatusCode::CREATED, Answer(answer)))
}

/// The service tokens of a workspace, oldest first
#[utoipa::path(get, path = "/workspaces/{workspaceId}/tokens", tag = "tokens", operation_id = "listServiceTokens",
    security(("bearer" = [])), params(("workspaceId" = String, Path), PageQuery),
    responses((status = 200, body = Page<ServiceToken>), Refusals,
        (status = 403, body = ErrorEnvelope, description = "The caller's role does not allow it"),
        (status = 404, body = ErrorEnvelope, description = "There is no such workspace, or the caller is no member")))]
pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    PathId(workspace): PathId<WorkspaceKind>,
    Listing { window, .. }: Listing,
) -> Outcome<Answer<Page<ServiceToken>>> {
    let mut connection = app.pool().acquire().await?;
    identity::workspace(&mut connection, &caller, workspace, Action::ReadTokens).await?;
    let rows = service_tokens::of_workspace(&mut connection, workspace, window.limit(), window.offset()).await?;
    Ok(Answer(window.of(rows)))
}

/// Revokes a service token
///
/// It is refused from the next request on.
#[utoipa::path(delete, path = "/workspaces/{workspaceId}/tokens/{tokenId}", tag = "tokens",
    operation_id = "revokeServiceToken", security(("bearer" = [])),
    params(("workspaceId" = String, Path), ("tokenId" = String, Path)),
    responses((status = 204, description = "The token is refused"), Refusals,
        (status = 403, body = ErrorEnvelope, description = "The caller's role does not allow it"),
        (status = 404, body = ErrorEnvelope, description = "There is no such workspace or token, or the caller is no member")))]
pub(super) async fn revoke(
    State(app): State<App>,
    caller: Caller,
    PathIds(workspace, id): PathIds<WorkspaceKind, TokenKind>,
) -> Outcome<StatusCode> {
    service_token::revoke(&app, &caller, workspace, id).await?;
    Ok(StatusCode::NO_CONTENT)
}
