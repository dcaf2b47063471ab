//! Signing in, and who is signed in.

use authsome_core::id::UserId;
use axum::Json as Answer;
use axum::extract::State;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::fault::Refusals;
use crate::error::Outcome;
use crate::identity::{self, Actor, Caller};
use crate::server::extract::Json;
use crate::state::App;

/// An e-mail address and a password.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Login {
    #[schema(format = "email", max_length = 254)]
    email: String,
    #[schema(value_type = String, format = "password", max_length = 1024)]
    password: SecretString,
}

/// A session.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct LoggedIn {
    /// For the header `Authorization: Bearer`.
    token: String,
    #[serde(with = "time::serde::rfc3339")]
    expires_at: OffsetDateTime,
    user: User,
}

/// A person.
#[derive(Serialize, ToSchema)]
pub(super) struct User {
    #[schema(value_type = String, example = "usr_01h455vb4pex5vsknk084sn02q")]
    id: UserId,
    email: String,
    name: String,
}

/// Signs in
#[utoipa::path(post, path = "/auth/login", tag = "auth", operation_id = "login", security(()),
    request_body = Login, responses((status = 200, body = LoggedIn), Refusals))]
pub(super) async fn login(State(app): State<App>, actor: Actor, Json(body): Json<Login>) -> Outcome<Answer<LoggedIn>> {
    let session = identity::sign_in(&app, &actor, &body.email, body.password).await?;
    Ok(Answer(LoggedIn {
        token: session.token.expose_secret().to_owned(),
        expires_at: session.expires_at,
        user: User {
            id: session.user,
            email: session.email,
            name: session.name,
        },
    }))
}

/// The person whose token it is
#[utoipa::path(get, path = "/auth/me", tag = "auth", operation_id = "me", security(("bearer" = [])),
    responses((status = 200, body = User), Refusals))]
pub(super) async fn me(caller: Caller) -> Answer<User> {
    Answer(User {
        id: caller.user,
        email: caller.email,
        name: caller.name,
    })
}
