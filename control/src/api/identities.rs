//! Identity providers that the caller's account is linked to.

use axum::Json as Answer;
use axum::extract::State;
use http::StatusCode;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::fault::{ErrorEnvelope, Refusals};
use super::page::{Listing, Page, PageQuery};
use crate::command::account;
use crate::db::identities;
use crate::error::Outcome;
use crate::identity::Person;
use crate::identity::federated::{IdentityId, IdentityKind};
use crate::server::body::Json;
use crate::server::extract::PathId;
use crate::state::App;

/// A token of an identity provider, and the caller's password if they have one.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LinkIdentity {
    #[schema(value_type = String, max_length = 16384)]
    token: SecretString,
    #[serde(default)]
    #[schema(value_type = String, format = "password", max_length = 1024)]
    password: SecretString,
}

/// Who the caller is to an identity provider.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Identity {
    #[schema(value_type = String, example = "idn_01h455vb4pex5vsknk084sn02q")]
    id: IdentityId,
    #[schema(example = "https://acme.eu.auth0.com/")]
    issuer: String,
    subject: String,
    /// As the provider had it when the identity was linked.
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<String>,
    #[serde(with = "time::serde::rfc3339")]
    linked_at: OffsetDateTime,
}

impl From<identities::Identity> for Identity {
    fn from(row: identities::Identity) -> Self {
        Self {
            id: row.id,
            issuer: row.issuer,
            subject: row.subject,
            email: row.email,
            linked_at: row.linked_at,
        }
    }
}

/// The identity providers that the caller signs in by, oldest first
#[utoipa::path(get, path = "/auth/identities", tag = "auth", operation_id = "listIdentities", security(("bearer" = [])),
    params(PageQuery), responses((status = 200, body = Page<Identity>), Refusals))]
pub(super) async fn list(
    State(app): State<App>,
    Person(caller): Person,
    Listing { window, .. }: Listing,
) -> Outcome<Answer<Page<Identity>>> {
    let mut connection = app.pool().acquire().await?;
    let rows = identities::of_user(&mut connection, caller.user, window.limit(), window.offset()).await?;
    Ok(Answer(window.of(rows)))
}

/// Signs in by an identity provider as well
///
/// From now on its tokens for this person are the caller's.
#[utoipa::path(post, path = "/auth/identities", tag = "auth", operation_id = "linkIdentity", security(("bearer" = [])),
    request_body = LinkIdentity,
    responses((status = 204, description = "The identity is the caller's"), Refusals,
        (status = 403, body = ErrorEnvelope, description = "The password is wrong"),
        (status = 409, body = ErrorEnvelope, description = "The identity is linked to an account already")))]
pub(super) async fn link(
    State(app): State<App>,
    Person(caller): Person,
    Json(body): Json<LinkIdentity>,
) -> Outcome<StatusCode> {
    account::identities::link(&app, &caller, &body.token, body.password).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Signs in by an identity provider no longer
#[utoipa::path(delete, path = "/auth/identities/{identityId}", tag = "auth", operation_id = "unlinkIdentity",
    security(("bearer" = [])), params(("identityId" = String, Path)),
    responses((status = 204, description = "The identity is nobody's any more"), Refusals,
        (status = 404, body = ErrorEnvelope, description = "The caller has no such identity"),
        (status = 409, body = ErrorEnvelope, description = "It is the only way into the account")))]
pub(super) async fn unlink(
    State(app): State<App>,
    Person(caller): Person,
    PathId(id): PathId<IdentityKind>,
) -> Outcome<StatusCode> {
    account::identities::remove(&app, &caller, id).await?;
    Ok(StatusCode::NO_CONTENT)
}
