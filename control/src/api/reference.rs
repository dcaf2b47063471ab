//! The OpenAPI document as a page for people: Swagger UI, with requests that can be tried.
//!
//! Every file of it is part of the program, so that it shows without the internet and nobody else learns who reads it. It depends on
//! nothing and answers as long as the process does.

use axum::response::{IntoResponse, Response};
use axum::{Router, routing::get};
use http::header;

use crate::state::App;

/// Scripts and the document from here only. Pictures inside of the style sheet are `data:`; the rest is as narrow as for our own pages.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      form-action 'none'; base-uri 'none'; frame-ancestors 'none'";

/// The page and its files, without the base path.
pub fn router() -> Router<App> {
    Router::new()
        .route("/docs", get(page))
        .route("/docs/reference.js", get(script))
        .route("/docs/swagger-ui-bundle.js", get(bundle))
        .route("/docs/swagger-ui.css", get(style))
        .route("/docs/icon.svg", get(icon))
}

fn file(content_type: &'static str, age: &'static str, text: &'static str) -> Response {
    let headers = [(header::CONTENT_TYPE, content_type), (header::CACHE_CONTROL, age)];
    (headers, text).into_response()
}

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
/// Files whose address has no version in it.
const SHORT: &str = "public, max-age=300";
/// The page names the release of Swagger UI in the address.
const LONG: &str = "public, max-age=86400";

async fn page() -> Response {
    let page = file(
        "text/html; charset=utf-8",
        SHORT,
        include_str!("../../static/reference.html"),
    );
    ([(header::CONTENT_SECURITY_POLICY, POLICY)], page).into_response()
}

async fn script() -> Response {
    file(JAVASCRIPT, SHORT, include_str!("../../static/reference.js"))
}

async fn bundle() -> Response {
    file(
        JAVASCRIPT,
        LONG,
        include_str!("../../static/swagger-ui/swagger-ui-bundle.js"),
    )
}

async fn style() -> Response {
    file(
        "text/css; charset=utf-8",
        LONG,
        include_str!("../../static/swagger-ui/swagger-ui.css"),
    )
}

async fn icon() -> Response {
    file("image/svg+xml", SHORT, include_str!("../../static/icon.svg"))
}
