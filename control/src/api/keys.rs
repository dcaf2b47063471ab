//! API keys of an application: create, list, revoke.

use std::time::Duration;

use authsome_core::id::{Application, Key as KeyKind, KeyId};
use authsome_core::key::KeyType;
use axum::Json as Answer;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tokio::time::Instant;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::fault::{ErrorEnvelope, Refusals};
use super::page::{Listing, Page, PageQuery};
use crate::command::key::{self, NewKey};
use crate::db::keys;
use crate::error::{Fields, Outcome};
use crate::identity::{self, Action, Caller};
use crate::server::FirstId;
use crate::server::body::Json;
use crate::server::extract::{PathId, PathIds, Query};
use crate::state::App;
use crate::tasks::edges::Acknowledged;

/// A new API key.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct CreateKey {
    #[schema(min_length = 1, max_length = 200, example = "Backend")]
    name: String,
    #[serde(rename = "type")]
    #[schema(value_type = crate::names::KeyType)]
    key_type: KeyType,
    /// Secret keys only; all scopes (`*`) where they are left out.
    #[schema(value_type = Option<Vec<crate::names::KeyScope>>, example = json!(["users:read", "users:write"]))]
    scopes: Option<Vec<String>>,
    /// RFC 3339; never where it is left out.
    #[serde(default, with = "time::serde::rfc3339::option")]
    expires_at: Option<OffsetDateTime>,
    /// Addresses or CIDR blocks that may use the key; any where there are none.
    #[serde(default)]
    #[schema(example = json!(["203.0.113.0/24"]))]
    networks: Vec<String>,
    /// Public keys only: browser origins that may use the key; those of the application where there are none.
    #[serde(default)]
    #[schema(example = json!(["https://app.example.com"]))]
    origins: Vec<String>,
}

/// An API key. A secret one is masked.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_field_names, reason = "the names of the API")]
pub(super) struct Key {
    #[schema(value_type = String, example = "key_01h455vb4pex5vsknk084sn02q")]
    id: KeyId,
    name: String,
    #[serde(rename = "type")]
    #[schema(value_type = crate::names::KeyType)]
    key_type: KeyType,
    /// A public key whole, a secret one masked.
    #[schema(example = "sk_live_ab12cd34_…wXyz")]
    key: String,
    #[schema(value_type = Vec<crate::names::KeyScope>)]
    scopes: Vec<String>,
    networks: Vec<String>,
    origins: Vec<String>,
    enabled: bool,
    /// To the minute.
    #[serde(with = "time::serde::rfc3339::option")]
    last_used_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option")]
    expires_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
}

impl Key {
    /// The only answer that shows a secret key whole.
    pub(super) fn created(created: key::Created, key_type: KeyType) -> Self {
        Self {
            id: created.id,
            name: created.name,
            key_type,
            key: created.key.expose().to_owned(),
            scopes: created.scopes,
            networks: created.networks,
            origins: created.origins,
            enabled: true,
            last_used_at: None,
            expires_at: created.expires_at,
            created_at: created.created_at,
        }
    }
}

impl From<keys::Key> for Key {
    fn from(row: keys::Key) -> Self {
        Self {
            id: row.id,
            name: row.name,
            key_type: row.key_type,
            key: row.shown,
            scopes: row.scopes,
            networks: row.networks,
            origins: row.origins,
            enabled: row.enabled,
            last_used_at: row.last_used_at,
            expires_at: row.expires_at,
            created_at: row.created_at,
        }
    }
}

/// Creates an API key
///
/// The whole key is in this answer only.
#[utoipa::path(post, path = "/applications/{applicationId}/keys", tag = "keys", operation_id = "createKey",
    security(("bearer" = [])), params(("applicationId" = String, Path)), request_body = CreateKey,
    responses((status = 201, body = Key), Refusals,
        (status = 403, body = ErrorEnvelope, description = "The caller's role does not allow it"),
        (status = 404, body = ErrorEnvelope, description = "There is no such application, or the caller is no member"),
        (status = 409, body = ErrorEnvelope, description = "The application is being deleted")))]
pub(super) async fn create(
    State(app): State<App>,
    caller: Caller,
    PathId(application): PathId<Application>,
    id: FirstId,
    Json(body): Json<CreateKey>,
) -> Outcome<(StatusCode, Answer<Key>)> {
    let new = NewKey {
        name: &body.name,
        key_type: body.key_type,
        scopes: body.scopes.as_deref(),
        expires_at: body.expires_at,
        networks: &body.networks,
        origins: &body.origins,
    };
    let created = key::create_once(&app, &caller, application, id.of(&app), new).await?;
    Ok((StatusCode::CREATED, Answer(Key::created(created, body.key_type))))
}

/// The keys of an application that are not revoked, oldest first
#[utoipa::path(get, path = "/applications/{applicationId}/keys", tag = "keys", operation_id = "listKeys",
    security(("bearer" = [])), params(("applicationId" = String, Path), PageQuery),
    responses((status = 200, body = Page<Key>), Refusals,
        (status = 403, body = ErrorEnvelope, description = "The caller's role does not allow it"),
        (status = 404, body = ErrorEnvelope, description = "There is no such application, or the caller is no member")))]
pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    PathId(application): PathId<Application>,
    Listing { window, .. }: Listing,
) -> Outcome<Answer<Page<Key>>> {
    let mut connection = app.pool().acquire().await?;
    identity::application(&mut connection, &caller, application, Action::ReadKeys).await?;
    let rows = keys::of_application(&mut connection, application, window.limit(), window.offset()).await?;
    Ok(Answer(window.of(rows)))
}

/// What revoking waits for.
#[derive(Debug, Clone, Copy, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(super) struct RevokeQuery {
    /// `edges`: answer when every edge refuses the key, with who does.
    #[param(inline)]
    wait: Option<Wait>,
    /// How long to wait, in milliseconds. Only with `wait`.
    #[param(minimum = 1, maximum = 10_000, default = 2_000)]
    timeout_ms: Option<u64>,
}

/// Whom to wait for.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Wait {
    Edges,
}

/// How far a revocation has come.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Propagation {
    /// Edges that refuse the key.
    acked: usize,
    /// Edges that there are.
    total: usize,
    /// Milliseconds from the commit until the slowest of those edges had said so; `null` where none has.
    max_ms: Option<u64>,
    /// Edges that have not said so in time. They may still accept the key.
    missing: Vec<MissingEdge>,
}

/// An edge that has not said in time that it refuses the key.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct MissingEdge {
    #[schema(value_type = String, pattern = "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]
    id: Uuid,
    name: String,
    region: String,
    #[serde(with = "time::serde::rfc3339")]
    last_report_at: OffsetDateTime,
}

impl From<Acknowledged> for Propagation {
    fn from(standing: Acknowledged) -> Self {
        let missing = standing.missing.into_iter().map(|edge| MissingEdge {
            id: edge.id,
            name: edge.name,
            region: edge.region,
            last_report_at: edge.last_report_at,
        });
        Self {
            acked: standing.acked,
            total: standing.total,
            max_ms: standing
                .slowest
                .map(|took| u64::try_from(took.as_millis()).unwrap_or(u64::MAX)),
            missing: missing.collect(),
        }
    }
}

impl RevokeQuery {
    /// How long to wait for edges, if at all.
    fn patience(self) -> Outcome<Option<Duration>> {
        let mut fields = Fields::new();
        let timeout_ms = self.timeout_ms.unwrap_or(PATIENCE_MS);
        fields.require(
            (1..=PATIENCE_MAX_MS).contains(&timeout_ms),
            "timeoutMs",
            "must be from 1 to 10000",
        );
        fields.require(
            self.wait.is_some() || self.timeout_ms.is_none(),
            "timeoutMs",
            "needs wait=edges",
        );
        fields.finish()?;
        Ok(self.wait.map(|Wait::Edges| Duration::from_millis(timeout_ms)))
    }
}

const PATIENCE_MS: u64 = 2_000;
const PATIENCE_MAX_MS: u64 = 10_000;

/// Revokes a key for good; doing it again changes nothing
///
/// The revocation stands when this answers, in either way; what is waited for is that the edges have it.
#[utoipa::path(delete, path = "/applications/{applicationId}/keys/{keyId}", tag = "keys", operation_id = "revokeKey",
    security(("bearer" = [])), params(("applicationId" = String, Path), ("keyId" = String, Path), RevokeQuery),
    responses((status = 204, description = "Revoked"),
        (status = 200, body = Propagation, description = "Revoked; with `wait=edges`: who has it"), Refusals,
        (status = 403, body = ErrorEnvelope, description = "The caller's role does not allow it"),
        (status = 404, body = ErrorEnvelope, description = "There is no such key, or the caller is no member")))]
pub(super) async fn revoke(
    State(app): State<App>,
    caller: Caller,
    PathIds(application, id): PathIds<Application, KeyKind>,
    Query(query): Query<RevokeQuery>,
) -> Outcome<Response> {
    let patience = query.patience()?;
    let target = key::revoke(&app, &caller, application, id).await?;
    let Some(patience) = patience else {
        return Ok(StatusCode::NO_CONTENT.into_response());
    };
    let committed = Instant::now();
    // The answer must come before the request itself is cut off.
    let patience = patience.min(app.settings().request_deadline / 2);
    let standing = app
        .edges()
        .acknowledged(app.pool(), target, committed, committed + patience)
        .await?;
    Ok(Answer(Propagation::from(standing)).into_response())
}
