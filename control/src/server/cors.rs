//! Browsers of other origins: the dashboard's may call the API, no other may read an answer.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderValue, Method, StatusCode};
use url::Url;

use crate::router::BASES;
use crate::state::App;

/// What the dashboard may send, beside what every page may.
const REQUEST_HEADERS: &str = "authorization, content-type, idempotency-key, if-match, if-none-match, last-event-id";
/// What it may read, beside what every page may.
const ANSWER_HEADERS: &str = "etag, location, retry-after, x-request-id, idempotency-replayed, \
                              x-ratelimit-limit, x-ratelimit-remaining, x-ratelimit-reset";

/// The layer; it is about the API only. An answer to any other origin carries no permission, so its browser keeps it to itself.
pub async fn allow(State(app): State<App>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    if !BASES.iter().any(|base| path.starts_with(base)) {
        return next.run(request).await;
    }
    let allowed = request
        .headers()
        .get(ORIGIN)
        .filter(|origin| is_dashboard(origin, &app.settings().dashboard_url))
        .cloned();
    let preflight =
        request.method() == Method::OPTIONS && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = match (&allowed, preflight) {
        (Some(_), true) => {
            let mut response = StatusCode::NO_CONTENT.into_response();
            let headers = response.headers_mut();
            headers.insert(
                ACCESS_CONTROL_ALLOW_METHODS,
                HeaderValue::from_static("GET, POST, PATCH, PUT, DELETE"),
            );
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(REQUEST_HEADERS));
            headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
            response
        }
        _ => next.run(request).await,
    };
    let headers = response.headers_mut();
    // The answer differs by origin, whatever it says.
    headers.append(VARY, HeaderValue::from_static("origin"));
    if let Some(origin) = allowed {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(ANSWER_HEADERS));
    }
    response
}

/// Browsers send origins in one spelling, the same that is made here.
fn is_dashboard(origin: &HeaderValue, dashboard: &str) -> bool {
    Url::parse(dashboard).is_ok_and(|url| url.origin().ascii_serialization().as_bytes() == origin.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_dashboards_own_origin_is_allowed() {
        let is = |origin: &'static str, dashboard: &str| is_dashboard(&HeaderValue::from_static(origin), dashboard);
        assert!(is(
            "https://dashboard.authsome.cloud",
            "https://dashboard.authsome.cloud"
        ));
        assert!(is(
            "https://dashboard.authsome.cloud",
            "https://dashboard.authsome.cloud:443/app"
        ));
        assert!(is("http://localhost:8080", "http://localhost:8080"));
        for other in [
            "null",
            "https://evil.example",
            "http://dashboard.authsome.cloud",
            "https://dashboard.authsome.cloud:8443",
            "https://dashboard.authsome.cloud.evil.example",
            "https://dashboard.authsome.cloud/",
        ] {
            assert!(!is(other, "https://dashboard.authsome.cloud"), "{other}");
        }
    }
}
