//! Who looks at a page: the session cookie, and the proof that a form was sent from one of our own pages.
//!
//! The cookie holds the same token as the API's `Authorization` header. Forms carry a token derived from the session, which a
//! foreign site cannot read, and the browser's own word on where the request comes from is checked as well.

use std::fmt::Write as _;

use authsome_core::{error::Failure, key::Digest};
use axum::extract::FromRequestParts;
use http::{HeaderMap, HeaderValue, header, request::Parts};
use secrecy::{ExposeSecret, SecretString};
use time::OffsetDateTime;

use crate::{
    error::{Outcome, Problem},
    identity::{Actor, Caller},
    state::App,
};

/// The session cookie.
const COOKIE: &str = "authsome_dashboard";

/// Somebody who is signed in.
#[derive(Debug)]
pub(super) struct Visitor {
    pub(super) caller: Caller,
    pub(super) csrf: String,
}

impl FromRequestParts<App> for Visitor {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Outcome<Self> {
        let Ok(actor) = Actor::from_request_parts(parts, app).await;
        let token = session(&parts.headers).ok_or_else(|| Failure::unauthorized("Sign in first"))?;
        let caller = Caller::of_token(app, token, actor).await?;
        Ok(Self {
            caller,
            csrf: csrf(token),
        })
    }
}

/// The token in the cookie.
fn session(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let mut pairs = cookies
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='));
    pairs
        .find(|(name, _)| *name == COOKIE)
        .map(|(_, value)| value)
        .filter(|value| !value.is_empty())
}

/// Known to our own pages only; dies with the session.
fn csrf(token: &str) -> String {
    Digest::of(format!("authsome.dashboard.csrf.v1:{token}").as_bytes()).to_string()
}

impl Visitor {
    /// Refuses a form that was not made for this session.
    pub(super) fn check_form(&self, given: &str) -> Outcome<()> {
        let same = Digest::of(given.as_bytes()).same_as(&Digest::of(self.csrf.as_bytes()));
        if same { Ok(()) } else { Err(foreign()) }
    }
}

/// Refuses a request that the browser says another site made. Every browser in use sends at least one of the two headers
/// with a form.
pub(super) fn check_origin(headers: &HeaderMap, app: &App) -> Outcome<()> {
    let text = |name: http::HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(site) = headers.get("sec-fetch-site").and_then(|value| value.to_str().ok()) {
        return if matches!(site, "same-origin" | "none") {
            Ok(())
        } else {
            Err(foreign())
        };
    }
    let origin = text(header::ORIGIN).ok_or_else(foreign)?;
    let host = origin.split_once("://").map_or(origin, |(_, host)| host);
    if origin == app.settings().dashboard_url || text(header::HOST) == Some(host) {
        Ok(())
    } else {
        Err(foreign())
    }
}

fn foreign() -> Problem {
    Failure::forbidden("The form is out of date or was sent from another site; open the page again").into()
}

/// Keeps the session in the browser until the token ends.
pub(super) fn signed_in(app: &App, token: &SecretString, end: OffsetDateTime) -> Option<HeaderValue> {
    let seconds = (end - app.clock().now()).whole_seconds().max(0);
    set_cookie(app, token.expose_secret(), seconds)
}

/// Takes the session out of the browser.
pub(super) fn signed_out(app: &App) -> Option<HeaderValue> {
    set_cookie(app, "", 0)
}

fn set_cookie(app: &App, value: &str, seconds: i64) -> Option<HeaderValue> {
    let mut cookie = format!("{COOKIE}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax");
    if app.settings().dashboard_url.starts_with("https:") {
        // Writing to a string does not fail.
        let _ = cookie.write_str("; Secure");
    }
    let mut value = HeaderValue::from_str(&cookie).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_session_is_found_among_other_cookies() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, HeaderValue::from_static("a=1; xauthsome_dashboard=no"));
        headers.append(
            header::COOKIE,
            HeaderValue::from_static("b=2; authsome_dashboard=yes.it.is; c=3"),
        );
        assert_eq!(session(&headers), Some("yes.it.is"));
        assert_eq!(session(&HeaderMap::new()), None);
    }

    #[test]
    fn the_form_token_depends_on_the_session_and_does_not_show_it() {
        assert_ne!(csrf("one"), csrf("two"));
        assert!(!csrf("one").contains("one"));
    }
}
