//! Style sheet, script and icon, embedded in the program.

use axum::response::{IntoResponse, Response};
use http::header;

fn file(content_type: &'static str, text: &'static str) -> Response {
    // Pages name the release in the address.
    let headers = [
        (header::CONTENT_TYPE, content_type),
        (header::CACHE_CONTROL, "public, max-age=3600"),
    ];
    (headers, text).into_response()
}

pub(super) async fn style() -> Response {
    file("text/css; charset=utf-8", include_str!("../../static/dashboard.css"))
}

pub(super) async fn script() -> Response {
    file(
        "text/javascript; charset=utf-8",
        include_str!("../../static/dashboard.js"),
    )
}

pub(super) async fn icon() -> Response {
    file("image/svg+xml", include_str!("../../static/icon.svg"))
}
