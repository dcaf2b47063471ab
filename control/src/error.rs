//! A refused or failed request on its way to the client.
//!
//! Owns the translation of what can go wrong inside into the closed codes of the platform. A [`Problem`] becomes a response
//! without a body; the outermost layer ([`crate::server::envelope`]) knows the request id, logs the internal cause once and
//! writes the body, so that neither can be forgotten or doubled.

mod fields;

use std::sync::Arc;

use authsome_core::error::Failure;
use authsome_db::DbError;
use axum::response::{IntoResponse, Response};
use http::StatusCode;

pub use fields::Fields;

/// Seconds after which a client may try again what failed for want of a dependency.
const RETRY_AFTER: u64 = 5;

/// Why a request was not done: public text for the client, and the internal cause for the log.
#[derive(Debug)]
pub struct Problem {
    failure: Failure,
    status: StatusCode,
}

/// What a handler or command returns.
pub type Outcome<T> = Result<T, Problem>;

impl Problem {
    /// A code's own status, refined where HTTP has a better one for the same code (405, 408, 415).
    fn with_status(failure: Failure, status: StatusCode) -> Self {
        Self { failure, status }
    }

    /// 405: the path exists, the method does not.
    pub fn method_not_allowed() -> Self {
        let failure =
            Failure::invalid_request("This path does not answer that method").with_reason("method_not_allowed");
        Self::with_status(failure, StatusCode::METHOD_NOT_ALLOWED)
    }

    /// 408: the client did not send the whole body in time.
    pub fn request_timeout() -> Self {
        let failure = Failure::invalid_request("The request body did not arrive in time; send it again")
            .with_reason("body_timeout");
        Self::with_status(failure, StatusCode::REQUEST_TIMEOUT)
    }

    /// 415: the body is not of the type that is read here.
    pub fn unsupported_media_type(expected: &str) -> Self {
        let message = format!("The request body must be {expected}; set the Content-Type header");
        let failure = Failure::invalid_request(message).with_reason("unsupported_media_type");
        Self::with_status(failure, StatusCode::UNSUPPORTED_MEDIA_TYPE)
    }

    /// 412: the thing is not as the caller said that it is.
    pub fn precondition_failed() -> Self {
        let failure =
            Failure::conflict("This was changed in the meantime; read it again").with_reason("precondition_failed");
        Self::with_status(failure, StatusCode::PRECONDITION_FAILED)
    }

    /// 422: understood, and contradicts what was sent before.
    pub fn unprocessable(message: &'static str, reason: &'static str) -> Self {
        let failure = Failure::invalid_request(message).with_reason(reason);
        Self::with_status(failure, StatusCode::UNPROCESSABLE_ENTITY)
    }

    /// 503: not now, for a reason that the client may know.
    pub fn busy(message: &'static str, reason: &'static str) -> Self {
        Failure::unavailable(message)
            .with_reason(reason)
            .retry_after(RETRY_AFTER)
            .into()
    }

    /// What the client may read, and what only the log may.
    pub fn failure(&self) -> &Failure {
        &self.failure
    }

    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        self.status
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        let status = StatusCode::from_u16(failure.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { failure, status }
    }
}

impl From<DbError> for Problem {
    /// A duplicate that its caller did not name is a 409 without detail; a lost database is a 503.
    fn from(error: DbError) -> Self {
        let failure = match &error {
            DbError::Unavailable(_) => Failure::unavailable("The service is temporarily unavailable; try again")
                .retry_after(RETRY_AFTER)
                .with_internal(error),
            DbError::Duplicate { .. } => Failure::conflict("This already exists").with_internal(error),
            DbError::Inconsistent { .. } | DbError::Statement(_) => Failure::internal(error),
        };
        failure.into()
    }
}

impl From<sqlx::Error> for Problem {
    fn from(error: sqlx::Error) -> Self {
        DbError::from(error).into()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(Arc::new(self));
        response
    }
}
