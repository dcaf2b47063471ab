//! Who sends a request: the end user, by a session token in `Authorization: Bearer` or in the session cookie, and from
//! where.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::header::{AUTHORIZATION, COOKIE, USER_AGENT};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName};

use crate::db::sessions::{self, Session};
use crate::error::ApiError;
use crate::state::Instance;
use crate::token;

/// The cookie that the real server sets.
pub(crate) const COOKIE_NAME: &str = "authsome_session_token";

static FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// A request with a live session.
pub(crate) struct Caller(pub(crate) Session);

impl FromRequestParts<Arc<Instance>> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, instance: &Arc<Instance>) -> Result<Self, ApiError> {
        let token = session_token(&parts.headers).ok_or(ApiError::Unauthenticated)?;
        let session = sessions::by_token(instance.database()?, &token::digest_of(token)).await?;
        let session = session.ok_or(ApiError::Unauthenticated)?;
        let left = session.expires_at - instance.clock.now();
        instance
            .presence
            .seen(&session.id, &*instance.clock, left.unsigned_abs())
            .await;
        Ok(Self(session))
    }
}

/// The token in the bearer header, else in the cookie.
fn session_token(headers: &HeaderMap) -> Option<&str> {
    let bearer = headers.get(AUTHORIZATION).and_then(|value| {
        let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    bearer.or_else(|| {
        let mut pairs = cookies
            .flat_map(|line| line.split(';'))
            .filter_map(|pair| pair.trim().split_once('='));
        pairs.find(|(name, _)| *name == COOKIE_NAME).map(|(_, token)| token)
    })
}

/// Where a request comes from, for the list of sessions.
pub(crate) struct Origin {
    /// The first address that a proxy in front names, else the peer's.
    pub(crate) address: String,
    /// What the client calls itself, at most 200 bytes.
    pub(crate) user_agent: String,
}

impl<S: Send + Sync> FromRequestParts<S> for Origin {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let text = |name| parts.headers.get(name).and_then(|value| value.to_str().ok());
        let forwarded = text(&FORWARDED_FOR)
            .and_then(|list| list.split(',').next())
            .map(|first| first.trim().to_owned());
        let peer = parts
            .extensions
            .get::<ConnectInfo<SocketAddr>>()
            .map(|info| info.0.ip().to_string());
        let shortened = |text: &str| text.chars().take(200).collect::<String>();
        Ok(Self {
            address: shortened(&forwarded.or(peer).unwrap_or_default()),
            user_agent: shortened(text(&USER_AGENT).unwrap_or_default()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.clone(), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn the_bearer_token_wins_over_the_cookie() {
        let (name, text) = (COOKIE, "other=1; authsome_session_token=from-cookie");
        assert_eq!(session_token(&headers(&[(name, text)])), Some("from-cookie"));
        let both = headers(&[(COOKIE, text), (AUTHORIZATION, "bearer from-header")]);
        assert_eq!(session_token(&both), Some("from-header"));
        assert_eq!(session_token(&headers(&[(AUTHORIZATION, "Basic abc")])), None);
    }
}
