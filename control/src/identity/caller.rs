//! The person behind a request: extracted from the bearer token, and still active in the database.

use std::net::IpAddr;

use authsome_core::error::Failure;
use authsome_core::id::{RequestId, SessionId, UserId};
use axum::extract::FromRequestParts;
use http::header::{AUTHORIZATION, USER_AGENT};
use http::request::Parts;

use crate::db::sessions;
use crate::error::{Outcome, Problem};
use crate::server::{ClientAddress, RequestContext};
use crate::state::App;

/// The longest part of a user agent that is kept, in characters.
const USER_AGENT_KEPT: usize = 256;

/// Where a change comes from, for the audit trail.
#[derive(Debug, Clone, Default)]
pub struct Actor {
    /// The person; `None` before they have signed in.
    pub user: Option<UserId>,
    /// The client's address, if the request came over the network.
    pub address: Option<IpAddr>,
    /// What the client says it is.
    pub user_agent: Option<String>,
    /// The request.
    pub request: Option<RequestId>,
}

/// Somebody who is signed in and active.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The person.
    pub user: UserId,
    /// Their e-mail address.
    pub email: String,
    /// Their name.
    pub name: String,
    /// Whether they were seen to read the address.
    pub email_verified: bool,
    /// The sign-in, where this is one.
    pub session: Option<SessionId>,
    /// The same person for the audit trail.
    pub actor: Actor,
}

impl Caller {
    /// Whose token this is, if that person may still use the platform.
    pub async fn of_token(app: &App, token: &str, actor: Actor) -> Outcome<Self> {
        let (user, session) = app.tokens().verify(token, app.clock().now()).map_err(|error| {
            tracing::debug!(%error, "session token refused");
            refused("Invalid or expired token")
        })?;
        let found = sessions::person(&mut *app.pool().acquire().await?, session, user).await?;
        let found = found.ok_or_else(|| refused("Invalid or expired token"))?;
        Ok(Self {
            user,
            email: found.email,
            name: found.name,
            email_verified: found.email_verified,
            session: Some(session),
            actor: Actor {
                user: Some(user),
                ..actor
            },
        })
    }
}

impl FromRequestParts<App> for Actor {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Self::Rejection> {
        let user_agent = parts.headers.get(USER_AGENT).and_then(|value| value.to_str().ok());
        Ok(Self {
            user: None,
            address: parts.extensions.get::<ClientAddress>().map(|address| address.0),
            user_agent: user_agent.map(|text| text.chars().take(USER_AGENT_KEPT).collect()),
            request: parts.extensions.get::<RequestContext>().map(|context| context.id),
        })
    }
}

impl FromRequestParts<App> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Outcome<Self> {
        // Asked before, on this request's way here.
        if let Some(known) = parts.extensions.get::<Self>() {
            return Ok(known.clone());
        }
        let Ok(actor) = Actor::from_request_parts(parts, app).await;
        let header = parts
            .headers
            .get(AUTHORIZATION)
            .ok_or_else(|| refused("Send Authorization: Bearer <token>"))?;
        let token = header
            .to_str()
            .ok()
            .and_then(bearer)
            .ok_or_else(|| refused("Send Authorization: Bearer <token>"))?;
        Self::of_token(app, token, actor).await
    }
}

/// The scheme's name is not case-sensitive.
fn bearer(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

fn refused(message: &'static str) -> Problem {
    Failure::unauthorized(message).into()
}
