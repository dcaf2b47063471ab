//! The person behind a request: extracted from the bearer token, and still active in the database.

use std::net::IpAddr;

use authsome_core::error::Failure;
use authsome_core::id::{RequestId, SessionId, TokenId, UserId};
use authsome_core::key::Digest;
use axum::extract::FromRequestParts;
use http::header::{AUTHORIZATION, USER_AGENT};
use http::request::Parts;

use super::{Grant, TOKEN_PREFIX, federated};
use crate::db::{service_tokens, sessions};
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
    /// The service token, where a program acts and not the person.
    pub token: Option<TokenId>,
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
    /// What the service token allows, where this is one: `user` is then who made it, and does not act.
    pub grant: Option<Grant>,
    /// The same person for the audit trail.
    pub actor: Actor,
}

impl Caller {
    /// Whose token this is, if that person may still use the platform.
    pub async fn of_token(app: &App, token: &str, actor: Actor) -> Outcome<Self> {
        if text_is_service_token(token) {
            return Self::of_service_token(app, token, actor).await;
        }
        // Ours are told by their algorithm, which no issuer's key is ever used with.
        if !app.tokens().is_own(token)
            && let Some(issuer) = app.issuers().of(token)
        {
            return federated::caller(app, issuer, token, actor).await;
        }
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
            grant: None,
            actor: Actor {
                user: Some(user),
                ..actor
            },
        })
    }
}

impl Caller {
    async fn of_service_token(app: &App, token: &str, actor: Actor) -> Outcome<Self> {
        let now = app.clock().now();
        let mut connection = app.pool().acquire().await?;
        let found = service_tokens::bearer(&mut connection, &Digest::of(token.as_bytes()), now).await?;
        let found = found.ok_or_else(|| refused("Invalid or expired token"))?;
        if found.stale_use {
            service_tokens::used(&mut connection, found.id, now).await?;
        }
        Ok(Self {
            user: found.user,
            email: found.email,
            name: found.name,
            email_verified: found.email_verified,
            session: None,
            grant: Some(Grant {
                token: found.id,
                workspace: found.workspace,
                scopes: found.scopes,
            }),
            actor: Actor {
                user: Some(found.user),
                token: Some(found.id),
                ..actor
            },
        })
    }

    /// Whoever acts, by id: the person, or the service token.
    pub fn principal(&self) -> String {
        match &self.grant {
            Some(grant) => grant.token.to_string(),
            None => self.user.to_string(),
        }
    }
}

/// A caller who is a person: for what no program does on a person's behalf.
#[derive(Debug, Clone)]
pub struct Person(pub Caller);

impl FromRequestParts<App> for Person {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Outcome<Self> {
        let caller = Caller::from_request_parts(parts, app).await?;
        if caller.grant.is_some() {
            return Err(Failure::forbidden("A service token cannot do this; sign in")
                .with_reason("service_token")
                .into());
        }
        Ok(Self(caller))
    }
}

fn text_is_service_token(token: &str) -> bool {
    token.starts_with(TOKEN_PREFIX)
}

impl FromRequestParts<App> for Actor {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Self::Rejection> {
        let user_agent = parts.headers.get(USER_AGENT).and_then(|value| value.to_str().ok());
        Ok(Self {
            user: None,
            token: None,
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
