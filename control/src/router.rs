//! Everything that the main port answers.

use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::response::Redirect;
use axum::routing::get;
use axum::{Router, middleware};
use http::header;

use crate::error::Problem;
use crate::server::{body, conditional, cors, envelope, idempotency, rate_limit, unread};
use crate::state::App;
use crate::{admin, api, dashboard};

/// The paths under which the API is served; the second is an alias that ingresses route by.
pub const BASES: [&str; 2] = ["/api/v1", "/control/v1"];

/// The router of the main port: the API and its reference under both bases, liveness and readiness, and `pages` at the root.
pub fn router(app: App, pages: Router<App>) -> Router {
    let (api, _) = api::routes().split_for_parts();
    let document: Arc<str> = api::document().into();
    let openapi = move || {
        let headers = [
            (header::CONTENT_TYPE, "application/json"),
            (header::CACHE_CONTROL, "public, max-age=300"),
        ];
        std::future::ready((headers, document.to_string()))
    };
    let api = api
        .route("/openapi.json", get(openapi))
        .layer(middleware::from_fn_with_state(app.clone(), idempotency::once))
        .layer(middleware::from_fn_with_state(app.clone(), rate_limit::limit));
    // After the layers: reading the reference counts against nobody's limit.
    let api = api.merge(api::reference());
    let mut router = pages
        .route("/docs", get(async || Redirect::to("/api/v1/docs")))
        .route("/health", get(admin::live))
        .route("/ready", get(admin::ready));
    for base in BASES {
        router = router.nest(base, api.clone());
    }
    router
        .fallback(dashboard::missing)
        .method_not_allowed_fallback(async || Problem::method_not_allowed())
        .layer(DefaultBodyLimit::max(body::BODY_LIMIT))
        .layer(middleware::from_fn(conditional::answer))
        .layer(middleware::from_fn_with_state(app.clone(), cors::allow))
        .layer(middleware::from_fn(unread::settle))
        .layer(middleware::from_fn_with_state(app.clone(), envelope::wrap))
        .with_state(app)
}
