//! Signing in and out, and who is signed in.

use authsome_core::id::{Session as SessionKind, SessionId, UserId};
use axum::Json as Answer;
use axum::extract::State;
use http::StatusCode;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::fault::{ErrorEnvelope, Refusals};
use super::page::{Listing, Page, PageQuery};
use crate::command::account;
use crate::db::{second_factors, sessions};
use crate::error::{Fields, Outcome};
use crate::identity::{self, Actor, Person, Session};
use crate::server::body::Json;
use crate::server::extract::PathId;
use crate::state::App;

/// An e-mail address and a password.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Login {
    #[schema(format = "email", max_length = 254)]
    email: String,
    #[schema(value_type = String, format = "password", max_length = 1024)]
    password: SecretString,
    /// Of the authenticator, or a recovery code; asked for by a 401 with the reason `second_factor_required`.
    #[schema(value_type = Option<String>, max_length = 64, example = "123456")]
    code: Option<SecretString>,
}

/// What a sign-in brought.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Refresh {
    #[schema(value_type = String, format = "password", max_length = 256)]
    refresh_token: SecretString,
}

/// A session.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct LoggedIn {
    /// For the header `Authorization: Bearer`.
    token: String,
    #[serde(with = "time::serde::rfc3339")]
    expires_at: OffsetDateTime,
    /// For `POST /auth/refresh`, once: the next pair comes with its answer.
    refresh_token: String,
    /// Each refresh moves it.
    #[serde(with = "time::serde::rfc3339")]
    refresh_expires_at: OffsetDateTime,
    user: User,
}

/// A person.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct User {
    #[schema(value_type = String, example = "usr_01h455vb4pex5vsknk084sn02q")]
    id: UserId,
    email: String,
    name: String,
}

/// The person who is signed in.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Me {
    #[serde(flatten)]
    user: User,
    /// Whether the person was seen to read the address; needed for the first application.
    email_verified: bool,
    /// Whether a sign-in needs a code as well.
    second_factor: bool,
}

/// A sign-in.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct SignIn {
    #[schema(value_type = String, example = "ses_01h455vb4pex5vsknk084sn02q")]
    id: SessionId,
    /// The one that asks.
    current: bool,
    /// Where it was begun from.
    #[serde(skip_serializing_if = "Option::is_none")]
    ip_address: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<String>,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    /// The sign-in, or its last refresh.
    #[serde(with = "time::serde::rfc3339")]
    last_used_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    expires_at: OffsetDateTime,
}

impl From<Session> for LoggedIn {
    fn from(session: Session) -> Self {
        Self {
            token: session.token.expose_secret().to_owned(),
            expires_at: session.expires_at,
            refresh_token: session.refresh_token.expose_secret().to_owned(),
            refresh_expires_at: session.refresh_expires_at,
            user: User {
                id: session.user,
                email: session.email,
                name: session.name,
            },
        }
    }
}

/// Signs in
#[utoipa::path(post, path = "/auth/login", tag = "auth", operation_id = "login", security(()),
    request_body = Login, responses((status = 200, body = LoggedIn), Refusals,
        (status = 429, body = ErrorEnvelope, description = "Too many wrong codes of the second factor")))]
pub(super) async fn login(State(app): State<App>, actor: Actor, Json(body): Json<Login>) -> Outcome<Answer<LoggedIn>> {
    let code = body.code.as_ref().map(ExposeSecret::expose_secret);
    let mut fields = Fields::new();
    fields.require(
        code.is_none_or(|code| code.chars().count() <= 64),
        "code",
        "must be at most 64 characters long",
    );
    fields.finish()?;
    let session = identity::sign_in(&app, &actor, &body.email, body.password, code).await?;
    Ok(Answer(session.into()))
}

/// Stays signed in
///
/// A refresh token is good once. One that was used before ends the session, since two parties hold it, however long ago that was.
/// Only within ten seconds of its first use it may come again, from several tabs or after a lost answer, and brings the refresh
/// token that is good by then.
#[utoipa::path(post, path = "/auth/refresh", tag = "auth", operation_id = "refreshSession", security(()),
    request_body = Refresh, responses((status = 200, body = LoggedIn), Refusals))]
pub(super) async fn refresh(
    State(app): State<App>,
    actor: Actor,
    Json(body): Json<Refresh>,
) -> Outcome<Answer<LoggedIn>> {
    let session = identity::refresh(&app, &actor, &body.refresh_token).await?;
    Ok(Answer(session.into()))
}

/// Signs out
///
/// The token and its refresh token are refused from now on.
#[utoipa::path(post, path = "/auth/logout", tag = "auth", operation_id = "logout", security(("bearer" = [])),
    responses((status = 204, description = "Both tokens are refused"), Refusals))]
pub(super) async fn logout(State(app): State<App>, Person(caller): Person) -> Outcome<StatusCode> {
    if let Some(session) = caller.session {
        account::end_session(&app, &caller, session).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}

/// The person whose token it is
#[utoipa::path(get, path = "/auth/me", tag = "auth", operation_id = "me", security(("bearer" = [])),
    responses((status = 200, body = Me), Refusals))]
pub(super) async fn me(State(app): State<App>, Person(caller): Person) -> Outcome<Answer<Me>> {
    let mut connection = app.pool().acquire().await?;
    let second_factor = second_factors::is_on(&mut connection, caller.user).await?;
    Ok(Answer(Me {
        second_factor,
        email_verified: caller.email_verified,
        user: User {
            id: caller.user,
            email: caller.email,
            name: caller.name,
        },
    }))
}

/// Where the caller is signed in, newest first
#[utoipa::path(get, path = "/auth/sessions", tag = "auth", operation_id = "listSessions", security(("bearer" = [])),
    params(PageQuery), responses((status = 200, body = Page<SignIn>), Refusals))]
pub(super) async fn sessions(
    State(app): State<App>,
    Person(caller): Person,
    Listing { window, .. }: Listing,
) -> Outcome<Answer<Page<SignIn>>> {
    let mut connection = app.pool().acquire().await?;
    let now = app.clock().now();
    let (rows, total) = sessions::of_user(&mut connection, caller.user, now, window.limit(), window.offset()).await?;
    let shown: Vec<_> = rows
        .into_iter()
        .map(|row| SignIn {
            current: caller.session == Some(row.id),
            id: row.id,
            ip_address: row.address,
            user_agent: row.user_agent,
            created_at: row.created_at,
            last_used_at: row.last_used_at,
            expires_at: row.expires_at,
        })
        .collect();
    Ok(Answer(window.of((shown, total))))
}

/// Signs out everywhere else
#[utoipa::path(delete, path = "/auth/sessions", tag = "auth", operation_id = "endOtherSessions", security(("bearer" = [])),
    responses((status = 204, description = "Every other session has ended"), Refusals))]
pub(super) async fn end_others(State(app): State<App>, Person(caller): Person) -> Outcome<StatusCode> {
    account::end_all_others(&app, &caller).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Ends one sign-in
#[utoipa::path(delete, path = "/auth/sessions/{sessionId}", tag = "auth", operation_id = "endSession",
    security(("bearer" = [])), params(("sessionId" = String, Path)),
    responses((status = 204, description = "The sign-in has ended"), Refusals,
        (status = 404, body = ErrorEnvelope, description = "The caller has no such session, or it has ended")))]
pub(super) async fn end_session(
    State(app): State<App>,
    Person(caller): Person,
    PathId(id): PathId<SessionKind>,
) -> Outcome<StatusCode> {
    account::end_session(&app, &caller, id).await?;
    Ok(StatusCode::NO_CONTENT)
}
