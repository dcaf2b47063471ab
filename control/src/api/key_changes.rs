//! API keys after they were created: show one, change, roll, and the report of a leaked one.

use authsome_core::error::Failure;
use authsome_core::id::{Application, Key as KeyKind, KeyId};
use axum::Json as Answer;
use axum::extract::State;
use http::{HeaderMap, HeaderName, StatusCode};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};
use utoipa::ToSchema;

use super::etag::{etag, matches};
use super::fault::{ErrorEnvelope, Refusals};
use super::keys::Key;
use crate::command::key::{self, Leak, Reported, Roll};
use crate::db::keys;
use crate::error::Outcome;
use crate::identity::{self, Action, Actor, Caller};
use crate::server::FirstId;
use crate::server::body::{Json, Patch};
use crate::server::extract::PathIds;
use crate::state::App;

/// What to change: a JSON merge patch (RFC 7396). What is left out stays; `null` gives a field its default.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[expect(dead_code, reason = "describes a merge patch; the patch is read as JSON")]
pub(super) struct UpdateKey {
    #[schema(min_length = 1, max_length = 200, example = "Backend")]
    name: Option<String>,
    /// Secret keys only; `null` for all scopes (`*`).
    #[schema(value_type = Option<Vec<crate::names::KeyScope>>, example = json!(["users:read"]))]
    scopes: Option<Vec<String>>,
    /// Addresses or CIDR blocks that may use the key; empty for any.
    networks: Option<Vec<String>>,
    /// Public keys only.
    origins: Option<Vec<String>>,
    /// `false` refuses the key until it is enabled again.
    enabled: Option<bool>,
    /// RFC 3339; `null` for never.
    #[serde(default, with = "time::serde::rfc3339::option")]
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<OffsetDateTime>,
}

/// How to roll a key.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct RollKey {
    /// For how many seconds the old key goes on, at most 30 days. 0: it ends at once.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 2_592_000, default = 0, example = 86_400)]
    overlap_seconds: u32,
    /// RFC 3339: when the new key ends. Where it is left out: after as long as the old one was given, or never.
    #[serde(default, with = "time::serde::rfc3339::option")]
    expires_at: Option<OffsetDateTime>,
}

/// A new key in place of another.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct RolledKey {
    #[serde(flatten)]
    key: Key,
    replaces: ReplacedKey,
}

/// The key that was replaced.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ReplacedKey {
    #[schema(value_type = String)]
    id: KeyId,
    #[serde(with = "time::serde::rfc3339")]
    expires_at: OffsetDateTime,
}

/// A key that was found where it should not be.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LeakReport {
    /// The whole key.
    #[schema(value_type = String, example = "sk_live_084sn02q_…")]
    key: SecretString,
    /// Where it can be read.
    #[schema(max_length = 2048, example = "https://github.com/acme/shop/blob/main/.env")]
    url: Option<String>,
}

/// What became of the report.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LeakReported {
    /// `revoked`: it could be used and cannot any more. `inactive`: it cannot be used. `public`: it is a public key, which
    /// everybody may read.
    #[schema(value_type = crate::names::LeakResult)]
    result: &'static str,
}

/// An API key
#[utoipa::path(get, path = "/applications/{applicationId}/keys/{keyId}", tag = "keys", operation_id = "getKey",
    security(("bearer" = [])), params(("applicationId" = String, Path), ("keyId" = String, Path)),
    responses((status = 200, body = Key, headers(("ETag" = String, description = "For `If-Match`"))), Refusals,
        (status = 403, body = ErrorEnvelope, description = "The caller's role does not allow it"),
        (status = 404, body = ErrorEnvelope, description = "There is no such key, or the caller is no member")))]
pub(super) async fn get(
    State(app): State<App>,
    caller: Caller,
    PathIds(application, id): PathIds<Application, KeyKind>,
) -> Outcome<([(HeaderName, String); 1], Answer<Key>)> {
    let mut connection = app.pool().acquire().await?;
    identity::application(&mut connection, &caller, application, Action::ReadKeys).await?;
    let key = keys::find(&mut connection, application, id).await?;
    let key = key.ok_or_else(|| Failure::not_found("API key not found"))?;
    Ok((etag(key.version), Answer(key.into())))
}

/// Changes a key
///
/// The change reaches every edge within a fraction of a second.
#[utoipa::path(patch, path = "/applications/{applicationId}/keys/{keyId}", tag = "keys", operation_id = "updateKey",
    security(("bearer" = [])), params(("applicationId" = String, Path), ("keyId" = String, Path),
        ("If-Match" = Option<String>, Header, description = "The `ETag` of the key that the change was made from")),
    request_body = UpdateKey,
    responses((status = 200, body = Key, headers(("ETag" = String, description = "Of the key as it now is"))), Refusals,
        (status = 403, body = ErrorEnvelope, description = "The caller's role does not allow it"),
        (status = 404, body = ErrorEnvelope, description = "There is no such key, or the caller is no member"),
        (status = 412, body = ErrorEnvelope, description = "The key is not the one that `If-Match` names")))]
pub(super) async fn update(
    State(app): State<App>,
    caller: Caller,
    PathIds(application, id): PathIds<Application, KeyKind>,
    headers: HeaderMap,
    Patch(_form, patch): Patch<UpdateKey>,
) -> Outcome<([(HeaderName, String); 1], Answer<Key>)> {
    let changed = key::change(&app, &caller, application, id, patch, |version| {
        matches(&headers, version)
    })
    .await?;
    Ok((etag(changed.version), Answer(changed.into())))
}

/// Replaces a key by a new one with the same rights
///
/// The whole new key is in this answer only. The old one ends after the overlap, or at its own end if that comes first.
#[utoipa::path(post, path = "/applications/{applicationId}/keys/{keyId}/roll", tag = "keys", operation_id = "rollKey",
    security(("bearer" = [])), params(("applicationId" = String, Path), ("keyId" = String, Path)), request_body = RollKey,
    responses((status = 201, body = RolledKey), Refusals,
        (status = 403, body = ErrorEnvelope, description = "The caller's role does not allow it"),
        (status = 404, body = ErrorEnvelope, description = "There is no such key, or the caller is no member"),
        (status = 409, body = ErrorEnvelope, description = "The key cannot be used, or the application is being deleted")))]
pub(super) async fn roll(
    State(app): State<App>,
    caller: Caller,
    PathIds(application, id): PathIds<Application, KeyKind>,
    first: FirstId,
    Json(body): Json<RollKey>,
) -> Outcome<(StatusCode, Answer<RolledKey>)> {
    let how = Roll {
        id: first.of(&app),
        overlap: Duration::seconds(i64::from(body.overlap_seconds)),
        expires_at: body.expires_at,
    };
    let rolled = key::roll(&app, &caller, application, id, how).await?;
    let answer = RolledKey {
        key: Key::created(rolled.created, rolled.key_type),
        replaces: ReplacedKey {
            id,
            expires_at: rolled.old_expires_at,
        },
    };
    Ok((StatusCode::CREATED, Answer(answer)))
}

/// Reports a leaked key, which revokes it
///
/// Nobody needs to sign in: whoever has the key may report it, and others may have it, too. Public keys are not revoked.
#[utoipa::path(post, path = "/keys/leaked", tag = "keys", operation_id = "reportLeakedKey", security(()),
    request_body = LeakReport, responses((status = 200, body = LeakReported), Refusals))]
pub(super) async fn leaked(
    State(app): State<App>,
    actor: Actor,
    Json(body): Json<LeakReport>,
) -> Outcome<Answer<LeakReported>> {
    let leak = Leak {
        key: body.key,
        url: body.url.as_deref(),
    };
    let result = match key::report(&app, &actor, leak).await? {
        Reported::Revoked => "revoked",
        Reported::Inactive => "inactive",
        Reported::Public => "public",
    };
    Ok(Answer(LeakReported { result }))
}
