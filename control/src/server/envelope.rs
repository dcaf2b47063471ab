//! What every request has in common, in one place: an id, a deadline, a caught panic, the error body, security headers, one
//! line in the log and one count.
//!
//! Internal causes are logged here, once, with the request id; nothing of them is sent. Paths are logged as route templates
//! and queries not at all, since clients put secrets where they do not belong.

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use authsome_core::error::{Chain, Failure};
use authsome_core::id::RequestId;
use axum::body::Body;
use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Method};

use super::ClientAddress;
use super::arrival::Arrival;
use crate::error::Problem;
use crate::state::App;

/// The header that carries the request id.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What is known of a request from its beginning.
#[derive(Debug, Clone, Copy)]
pub struct RequestContext {
    /// Its id: in the answer, in the log and in the audit trail.
    pub id: RequestId,
}

/// A handler panicked. The text is for the log.
#[derive(Debug, thiserror::Error)]
#[error("a handler panicked: {0}")]
struct Panicked(String);

/// The outermost layer. Always makes a new id: one from outside could be chosen to confuse the log.
pub async fn wrap(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = RequestId::generate(app.clock(), app.entropy());
    request.extensions_mut().insert(RequestContext { id });
    let peer = request
        .extensions()
        .get::<ConnectInfo<SocketAddr>>()
        .map(|peer| peer.0.ip());
    let address = peer.map(|peer| ClientAddress::of(peer, request.headers(), &app.settings().trusted_proxies));
    if let Some(address) = address {
        request.extensions_mut().insert(address);
    }
    let method = request.method().clone();
    let route = route(&request);

    let arrival = Arrival::default();
    let request = request.map(|body| arrival.watch(body));
    let handled = AssertUnwindSafe(next.run(request)).catch_unwind();
    let mut response = match tokio::time::timeout(app.settings().request_deadline, handled).await {
        Ok(Ok(response)) => response,
        Ok(Err(panic)) => Problem::from(Failure::internal(Panicked(text_of(&*panic)))).into_response(),
        Err(_) if arrival.is_awaited() => stalled(),
        Err(_) => Problem::busy("The request took too long; try again", "timeout").into_response(),
    };

    if let Some(problem) = response.extensions_mut().remove::<Arc<Problem>>() {
        log_cause(&problem, id, &route);
        explain(&mut response, &problem, id);
    }
    harden(response.headers_mut(), app.settings().api_url.starts_with("https:"));
    if let Ok(id) = HeaderValue::from_str(&id.text()) {
        response.headers_mut().insert(REQUEST_ID, id);
    }

    let (status, took) = (response.status().as_u16(), started.elapsed());
    let method = known(&method);
    app.metrics().answered(&route, method, status, took);
    let address = address.map(|address| address.0.to_string());
    tracing::info!(
        target: "access", request_id = %id, method, %route, status,
        duration_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX), address, "request"
    );
    response
}

/// The rest of the body may come yet, and is not read any more: the connection ends.
fn stalled() -> Response {
    let mut response = Problem::request_timeout().into_response();
    response
        .headers_mut()
        .insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// The template of our own table that matched, the same under both base paths.
fn route(request: &Request) -> String {
    let Some(matched) = request.extensions().get::<MatchedPath>() else {
        return "unmatched".to_owned();
    };
    let path = matched.as_str();
    let path = crate::router::BASES
        .iter()
        .find_map(|base| path.strip_prefix(base))
        .unwrap_or(path);
    path.to_owned()
}

/// Methods are text that a client chooses; a label must come from a closed set.
fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PATCH => "PATCH",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

fn text_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}

fn log_cause(problem: &Problem, id: RequestId, route: &str) {
    let failure = problem.failure();
    if problem.status().is_server_error() {
        tracing::error!(request_id = %id, route, error = %Chain(failure), "request failed");
    } else if failure.internal_cause().is_some() {
        tracing::info!(request_id = %id, route, error = %Chain(failure), "request refused");
    }
}

fn explain(response: &mut Response, problem: &Problem, id: RequestId) {
    let failure = problem.failure();
    let body = serde_json::to_vec(&failure.to_body(&*id.text())).unwrap_or_default();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(seconds) = failure.retry_after_seconds() {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if problem.status() == http::StatusCode::UNAUTHORIZED {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    *response.body_mut() = Body::from(body);
}

/// Defaults of an API; a page that needs others sets its own.
fn harden(headers: &mut HeaderMap, https: bool) {
    let mut default = |name: HeaderName, value: &'static str| {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    };
    default(header::CACHE_CONTROL, "no-store");
    default(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    default(header::X_FRAME_OPTIONS, "DENY");
    default(header::REFERRER_POLICY, "no-referrer");
    default(
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; frame-ancestors 'none'",
    );
    if https {
        default(header::STRICT_TRANSPORT_SECURITY, "max-age=31536000; includeSubDomains");
    }
}
