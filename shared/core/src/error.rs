//! The closed set of error codes, and a failure whose public and internal halves cannot be mixed up.
//!
//! Owns the error envelope of every program: `{"error":{"code","message","requestId","details"?,"retryAfter"?,"reason"?}}`.
//! A [`Failure`] carries what the client may read and what only the log may read; the envelope is built from the first
//! half alone. Depends on nothing that can fail.

mod failure;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use failure::{Chain, Failure};

/// What went wrong, for programs. Closed: a new code is a change of the public API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// 400: the request is wrong in itself.
    InvalidRequest,
    /// 401: no valid credential.
    Unauthorized,
    /// 403: the credential is valid and does not allow this.
    Forbidden,
    /// 404: not there, or not for the caller to know of.
    NotFound,
    /// 409: contradicts the present state.
    Conflict,
    /// 413: more bytes than are accepted.
    PayloadTooLarge,
    /// 429: a rate limit or a quota is used up.
    RateLimitExceeded,
    /// 500: a fault of ours.
    InternalError,
    /// 502: the application's instance gave no valid answer.
    BadGateway,
    /// 503: not now; later.
    ServiceUnavailable,
    /// 504: the application's instance did not answer in time.
    GatewayTimeout,
}

impl ErrorCode {
    /// Every code, by status.
    pub const ALL: [Self; 11] = [
        Self::InvalidRequest,
        Self::Unauthorized,
        Self::Forbidden,
        Self::NotFound,
        Self::Conflict,
        Self::PayloadTooLarge,
        Self::RateLimitExceeded,
        Self::InternalError,
        Self::BadGateway,
        Self::ServiceUnavailable,
        Self::GatewayTimeout,
    ];

    /// The code as in JSON: `"not_found"`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::PayloadTooLarge => "payload_too_large",
            Self::RateLimitExceeded => "rate_limit_exceeded",
            Self::InternalError => "internal_error",
            Self::BadGateway => "bad_gateway",
            Self::ServiceUnavailable => "service_unavailable",
            Self::GatewayTimeout => "gateway_timeout",
        }
    }

    /// The HTTP status that goes with the code.
    pub const fn status(self) -> u16 {
        match self {
            Self::InvalidRequest => 400,
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::Conflict => 409,
            Self::PayloadTooLarge => 413,
            Self::RateLimitExceeded => 429,
            Self::InternalError => 500,
            Self::BadGateway => 502,
            Self::ServiceUnavailable => 503,
            Self::GatewayTimeout => 504,
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The whole body of an error answer: `{"error":{…}}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ErrorEnvelope {
    /// What went wrong.
    pub error: ErrorBody,
}

/// What a client reads of an error.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ErrorBody {
    /// For programs.
    pub code: ErrorCode,
    /// For people; may change at any time.
    pub message: String,
    /// Names the request in logs and to support.
    pub request_id: String,
    /// More for programs, such as the fields that are wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<serde_json::Value>,
    /// Seconds after which a retry makes sense; the same as the `Retry-After` header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
    /// A finer code, stable, within `code`: `"suspended"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_in_json_is_the_name_in_code() {
        for code in ErrorCode::ALL {
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
            assert_eq!(code.to_string(), code.as_str());
        }
    }

    #[test]
    fn every_code_has_a_status_of_its_own() {
        let statuses: Vec<u16> = ErrorCode::ALL.iter().map(|code| code.status()).collect();
        assert!(statuses.is_sorted_by(|a, b| a < b), "{statuses:?}");
        assert!(statuses.iter().all(|status| (400..600).contains(status)));
    }
}
