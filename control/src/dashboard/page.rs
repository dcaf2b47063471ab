//! What every page has in common: its frame, its security headers, and what is shown when it cannot be made.

use std::{borrow::Borrow, fmt::Write, sync::Arc};

use askama::Template;
use authsome_core::error::{Chain, ErrorCode, Failure};
use axum::{
    extract::{OriginalUri, Request},
    middleware::Next,
    response::{IntoResponse, Redirect, Response},
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use time::OffsetDateTime;

use super::visitor::Visitor;
use crate::{error::Problem, router, server::RequestContext};

/// No inline script or style, nothing from elsewhere, and no frame around it.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// What the frame around a page shows.
#[derive(Debug, Default)]
pub(super) struct Frame {
    /// Who is signed in: name and address.
    pub(super) person: Option<(String, String)>,
    /// Goes with every form.
    pub(super) csrf: String,
    /// Read again after this many seconds where scripts do not run.
    pub(super) refresh: Option<u32>,
}

impl Frame {
    pub(super) fn of(visitor: &Visitor) -> Self {
        let caller = &visitor.caller;
        Self {
            person: Some((caller.name.clone(), caller.email.clone())),
            csrf: visitor.csrf.clone(),
            refresh: None,
        }
    }

    /// Files change with the release.
    #[expect(clippy::unused_self, reason = "templates call it on the frame that they have")]
    pub(super) fn version(&self) -> &'static str {
        env!("CARGO_PKG_VERSION")
    }
}

/// A page that is made of a template.
#[derive(Debug)]
pub(super) struct Page<T>(pub(super) T);

impl<T: Template> IntoResponse for Page<T> {
    fn into_response(self) -> Response {
        match self.0.render() {
            Ok(html) => ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], html).into_response(),
            Err(error) => Problem::from(Failure::internal(error)).into_response(),
        }
    }
}

#[derive(Template)]
#[template(path = "error.html")]
struct ErrorPage<'a> {
    frame: Frame,
    title: &'a str,
    message: &'a str,
    request: String,
}

/// Around every page.
pub(super) async fn wrap(request: Request, next: Next) -> Response {
    let id = request_id(&request);
    let reading = request.method() == Method::GET;
    let path = request
        .uri()
        .path_and_query()
        .map(ToString::to_string)
        .unwrap_or_default();
    let mut response = next.run(request).await;
    if let Some(problem) = response.extensions_mut().remove::<Arc<Problem>>() {
        response = explain(&problem, &path, reading, id);
    }
    guard(response.headers_mut());
    response
}

/// The answer where there is nothing: a page for a browser, and the error of the API for everybody else.
pub async fn missing(OriginalUri(uri): OriginalUri, request: Request) -> Response {
    let problem = Problem::from(Failure::not_found("There is nothing at this path"));
    if belongs_to_api(uri.path()) || !takes_pages(request.headers()) {
        return problem.into_response();
    }
    let mut response = explain(&problem, uri.path(), true, request_id(&request));
    guard(response.headers_mut());
    response
}

fn guard(headers: &mut HeaderMap) {
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
}

fn request_id(request: &Request) -> String {
    let context = request.extensions().get::<RequestContext>();
    context.map(|context| context.id.to_string()).unwrap_or_default()
}

/// Whatever has the first segment of a base in common with the API is the API's, of whatever version.
fn belongs_to_api(path: &str) -> bool {
    let first = |path: &str| path.split('/').nth(1).map(str::to_owned);
    router::BASES.into_iter().any(|base| first(base) == first(path))
}

/// Browsers name HTML when they open a page; `*/*` alone is a program.
fn takes_pages(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter();
    let mut types = accepted
        .filter_map(|value| value.to_str().ok())
        .flat_map(|line| line.split(','))
        .filter_map(|range| range.split(';').next());
    types.any(|range| range.trim().eq_ignore_ascii_case("text/html"))
}

fn explain(problem: &Problem, path: &str, reading: bool, request: String) -> Response {
    let failure = problem.failure();
    if failure.code() == ErrorCode::Unauthorized {
        let to = if reading {
            format!("/login?next={}", query_encoded(path))
        } else {
            "/login".to_owned()
        };
        return Redirect::to(&to).into_response();
    }
    if problem.status().is_server_error() {
        tracing::error!(request_id = request, error = %Chain(failure), "page failed");
    }
    let title = match failure.code() {
        ErrorCode::NotFound => "Not found",
        ErrorCode::Forbidden => "Not allowed",
        ErrorCode::ServiceUnavailable => "Unavailable for the moment",
        code if code.status() < 500 => "That did not work",
        _ => "Something went wrong",
    };
    let page = ErrorPage {
        frame: Frame::default(),
        title,
        message: failure.public_message(),
        request,
    };
    let mut response = Page(page).into_response();
    *response.status_mut() = problem.status();
    if let Some(seconds) = failure.retry_after_seconds() {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// A refused form is shown again with what was wrong; anything else is a page of its own.
pub(super) fn shown_again(problem: Problem) -> Result<(StatusCode, String), Problem> {
    let failure = problem.failure();
    match failure.code() {
        ErrorCode::InvalidRequest | ErrorCode::Conflict | ErrorCode::Forbidden => {
            Ok((problem.status(), sentence(failure.public_message())))
        }
        _ => Err(problem),
    }
}

/// Messages about fields begin with the field's name in lower case.
fn sentence(message: &str) -> String {
    let mut characters = message.chars();
    let first = characters
        .next()
        .map(|first| first.to_uppercase().to_string())
        .unwrap_or_default();
    format!("{first}{}", characters.as_str())
}

fn query_encoded(text: &str) -> String {
    text.bytes()
        .fold(String::with_capacity(text.len()), |mut encoded, byte| {
            if byte.is_ascii_alphanumeric() || b"/-_.~".contains(&byte) {
                encoded.push(char::from(byte));
            } else {
                // Writing to a string does not fail.
                let _ = write!(encoded, "%{byte:02X}");
            }
            encoded
        })
}

/// `2026-11-23 03:15 UTC`.
pub(super) fn moment(at: impl Borrow<OffsetDateTime>) -> String {
    let at = at.borrow().to_offset(time::UtcOffset::UTC);
    format!("{} {:02}:{:02} UTC", at.date(), at.hour(), at.minute())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_survives_in_a_query() {
        assert_eq!(
            query_encoded("/applications/app_1?a=b&c"),
            "/applications/app_1%3Fa%3Db%26c"
        );
    }

    #[test]
    fn every_version_of_the_api_is_the_apis() {
        for path in ["/api/v1/nothing", "/api/v2", "/api", "/control/v1/x"] {
            assert!(belongs_to_api(path), "{path}");
        }
        for path in ["/", "/apis", "/workspaces/api", "/controls/v1", ""] {
            assert!(!belongs_to_api(path), "{path}");
        }
    }

    #[test]
    fn a_message_reads_as_a_sentence() {
        assert_eq!(sentence("name must not be empty"), "Name must not be empty");
        assert_eq!(sentence(""), "");
    }
}
