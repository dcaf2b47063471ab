//! What the instance says about itself.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use crate::db::signing_keys;
use crate::error::ApiError;
use crate::state::Instance;
use crate::token;

/// `GET /.well-known/jwks.json`
pub(crate) async fn jwks(State(instance): State<Arc<Instance>>) -> Result<Json<Value>, ApiError> {
    Ok(Json(
        json!({ "keys": signing_keys::public(instance.database()?).await? }),
    ))
}

/// `GET /.well-known/authsome/manifest`
pub(crate) async fn manifest(State(instance): State<Arc<Instance>>) -> Json<Value> {
    Json(json!({
        "name": "authsome-sample",
        "version": env!("CARGO_PKG_VERSION"),
        "platform_app_id": instance.app_id,
        "publishable_key": publishable_key(&instance.app_id),
        "base_path": instance.base_path,
        "base_url": instance.public_base_url,
        "endpoints": {
            "signup": "/v1/signup",
            "signin": "/v1/signin",
            "signout": "/v1/signout",
            "refresh": "/v1/refresh",
            "me": "/v1/me",
            "sessions": "/v1/sessions",
            "jwks": "/.well-known/jwks.json",
        },
    }))
}

/// The instance's own publishable key, in the form of the real server's. It is the same for all instances of an application and
/// opens nothing here.
fn publishable_key(app_id: &str) -> String {
    let digest = token::digest_of(app_id);
    digest
        .iter()
        .fold("pk_test_".to_owned(), |key, byte| key + &format!("{byte:02x}"))
}

/// `GET /v1/client-config`
pub(crate) async fn client_config(State(instance): State<Arc<Instance>>) -> Json<Value> {
    Json(json!({
        "app_id": instance.app_id,
        "base_url": instance.public_base_url,
        "version": env!("CARGO_PKG_VERSION"),
        "password": { "enabled": true, "min_length": instance.shortest_password() },
        "session": { "token_ttl_seconds": instance.session_lifetime().as_secs() },
        "mailer": { "provider": instance.settings.mailer.provider },
        "issuer": instance.settings.oauth.issuer,
        "debug": instance.settings.debug,
        // Names only: that they arrived, never what they are.
        "secrets": instance.secrets,
        "social": [],
        "passkeys": { "enabled": false },
        "mfa": { "enabled": false },
    }))
}
