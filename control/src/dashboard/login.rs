//! Signing in and out.

use askama::Template;
use authsome_core::error::ErrorCode;
use axum::{
    extract::State,
    response::{IntoResponse, Redirect, Response},
};
use http::header;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::{
    form::Form,
    page::{Frame, Page, shown_again},
    visitor::{self, Visitor},
};
use crate::{
    command::account,
    error::Outcome,
    identity::{self, Actor},
    server::extract::Query,
    state::App,
};

#[derive(Template)]
#[template(path = "login.html")]
struct LoginPage {
    frame: Frame,
    email: String,
    next: String,
    error: Option<String>,
    /// Ask for the second factor as well.
    asks_code: bool,
}

#[derive(Deserialize)]
pub(super) struct Next {
    #[serde(default)]
    next: String,
}

#[derive(Deserialize)]
pub(super) struct Credentials {
    email: String,
    password: SecretString,
    #[serde(default)]
    code: Option<SecretString>,
    #[serde(default)]
    next: String,
}

#[derive(Deserialize)]
pub(super) struct SignOut {
    csrf: String,
}

pub(super) async fn form(Query(query): Query<Next>) -> Response {
    Page(LoginPage {
        frame: Frame::default(),
        email: String::new(),
        next: query.next,
        error: None,
        asks_code: false,
    })
    .into_response()
}

pub(super) async fn sign_in(State(app): State<App>, actor: Actor, Form(form): Form<Credentials>) -> Outcome<Response> {
    let code = form.code.as_ref().map(ExposeSecret::expose_secret);
    match identity::sign_in(&app, &actor, form.email.trim(), form.password, code).await {
        Ok(session) => {
            let mut response = Redirect::to(own_path(&form.next)).into_response();
            if let Some(cookie) = visitor::signed_in(&app, &session.token, session.expires_at) {
                response.headers_mut().append(header::SET_COOKIE, cookie);
            }
            Ok(response)
        }
        Err(problem) => {
            let reason = problem.failure().reason().unwrap_or_default();
            let asks_code = reason.starts_with("second_factor");
            let (status, error) = match problem.failure().code() {
                ErrorCode::Unauthorized | ErrorCode::RateLimitExceeded => {
                    (problem.status(), problem.failure().public_message().to_owned())
                }
                _ => shown_again(problem)?,
            };
            let page = LoginPage {
                frame: Frame::default(),
                email: form.email,
                next: form.next,
                error: Some(error),
                asks_code,
            };
            Ok((status, Page(page)).into_response())
        }
    }
}

pub(super) async fn sign_out(State(app): State<App>, visitor: Visitor, Form(form): Form<SignOut>) -> Outcome<Response> {
    visitor.check_form(&form.csrf)?;
    if let Some(session) = visitor.caller.session {
        account::end_session(&app, &visitor.caller, session).await?;
    }
    let mut response = Redirect::to("/login").into_response();
    if let Some(cookie) = visitor::signed_out(&app) {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    Ok(response)
}

/// A path of this site; anything else would make the sign-in page a way to lead people elsewhere.
fn own_path(next: &str) -> &str {
    let inside = next.starts_with('/') && !next.starts_with("//") && !next.contains(['\\', '\r', '\n', '\t']);
    if inside { next } else { "/workspaces" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signing_in_leads_to_no_other_site() {
        assert_eq!(own_path("/applications/app_1"), "/applications/app_1");
        for elsewhere in [
            "",
            "https://evil.example",
            "//evil.example",
            "/\\evil.example",
            "/\t/evil.example",
            "javascript:x",
        ] {
            assert_eq!(own_path(elsewhere), "/workspaces", "{elsewhere}");
        }
    }
}
