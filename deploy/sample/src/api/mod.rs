//! The paths of the real server, and two of the platform's own: `/users` for server-side listing and `/v1/echo`.

mod account;
mod body;
mod caller;
mod echo;
mod health;
mod sessions;
mod users;
mod well_known;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{any, delete, get, post};

use crate::error::ApiError;
use crate::state::Instance;

/// The largest body that is read: larger ones are for seeing that something in front refuses them.
const BODY_LIMIT: usize = 16 * 1024 * 1024;

/// All paths, under the instance's base path.
pub(crate) fn router(instance: Arc<Instance>) -> Router {
    let base_path = instance.base_path.clone();
    let paths = Router::new()
        .route("/v1/health", get(health::health))
        .route("/v1/signup", post(account::sign_up))
        .route("/v1/signin", post(account::sign_in))
        .route("/v1/signout", post(account::sign_out))
        .route("/v1/refresh", post(account::refresh))
        .route("/v1/me", get(users::me))
        .route("/v1/sessions", get(sessions::list))
        .route("/v1/sessions/{id}", delete(sessions::end))
        .route("/v1/client-config", get(well_known::client_config))
        .route("/.well-known/jwks.json", get(well_known::jwks))
        .route("/.well-known/authsome/manifest", get(well_known::manifest))
        .route("/users", get(users::list))
        .route("/users/{id}", get(users::get))
        .route("/v1/echo", any(echo::echo))
        .route("/v1/echo/{*tail}", any(echo::echo))
        .layer(DefaultBodyLimit::max(BODY_LIMIT));
    let root = if base_path.is_empty() {
        paths
    } else {
        Router::new().nest(&base_path, paths)
    };
    root.fallback(async || ApiError::NotFound).with_state(instance)
}
