//! What a client is told when a request fails, in the shape of the real server: `{"error":{code,message,status}}`. The
//! reason inside is logged here, once, and stays here.

use std::error::Error as _;

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// Why a request was not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    /// The request itself is wrong; the text says how.
    #[error("{0}")]
    BadRequest(String),
    /// E-mail and password do not belong together, or there is no such user: deliberately the same.
    #[error("Invalid e-mail or password")]
    InvalidCredentials,
    /// No live session comes with the request.
    #[error("A valid session is required")]
    Unauthenticated,
    /// A user with this e-mail exists.
    #[error("A user with this e-mail exists already")]
    EmailTaken,
    /// There is no such thing, or it is not the caller's.
    #[error("Not found")]
    NotFound,
    /// Every place for password hashing stayed taken for too long.
    #[error("Too many sign-ins at once, try again")]
    Busy,
    /// The database is away.
    #[error("The service is unavailable, try again")]
    Database(#[from] sqlx::Error),
    /// Something that must not happen did.
    #[error("Internal error")]
    Internal(String),
}

impl ApiError {
    fn code(&self) -> (&'static str, StatusCode) {
        match self {
            Self::BadRequest(_) => ("bad_request", StatusCode::BAD_REQUEST),
            Self::InvalidCredentials => ("invalid_credentials", StatusCode::UNAUTHORIZED),
            Self::Unauthenticated => ("unauthorized", StatusCode::UNAUTHORIZED),
            Self::EmailTaken => ("email_taken", StatusCode::CONFLICT),
            Self::NotFound => ("not_found", StatusCode::NOT_FOUND),
            Self::Busy | Self::Database(_) => ("service_unavailable", StatusCode::SERVICE_UNAVAILABLE),
            Self::Internal(_) => ("internal_error", StatusCode::INTERNAL_SERVER_ERROR),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        match &self {
            Self::Database(cause) => {
                tracing::warn!(error = %cause, cause = ?cause.source(), "the database failed a request");
            }
            Self::Internal(cause) => tracing::error!(error = %cause, "a request failed"),
            _ => {}
        }
        let (code, status) = self.code();
        let body = json!({ "error": { "code": code, "message": self.to_string(), "status": status.as_u16() } });
        (status, Json(body)).into_response()
    }
}
