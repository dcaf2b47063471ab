//! The error body, for the document. It is written by [`crate::server::envelope`].

use serde::Serialize;
use utoipa::{IntoResponses, ToSchema};

/// The body of every error.
#[derive(Serialize, ToSchema)]
pub(super) struct ErrorEnvelope {
    error: ErrorBody,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ErrorBody {
    /// One of a closed set.
    #[schema(value_type = crate::names::ErrorCode)]
    code: &'static str,
    /// For people.
    message: String,
    /// The same as in the header `X-Request-Id`.
    request_id: String,
    /// What is wrong with which field (`details.fields`), or which limit was reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<serde_json::Value>,
    /// Seconds after which a retry makes sense.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u64>,
    /// A finer code.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// What any operation may answer besides its own results.
#[derive(IntoResponses)]
pub(super) enum Refusals {
    /// The request is wrong in itself; `details.fields` says where
    #[response(status = 400)]
    #[expect(dead_code, reason = "describes answers; never built")]
    Invalid(#[to_schema] ErrorEnvelope),
    /// No valid credential
    #[response(status = 401)]
    #[expect(dead_code, reason = "describes answers; never built")]
    Unauthorized(#[to_schema] ErrorEnvelope),
    /// A fault of the service; tell support the `requestId`
    #[response(status = 500)]
    #[expect(dead_code, reason = "describes answers; never built")]
    Internal(#[to_schema] ErrorEnvelope),
    /// A dependency is missing; try again after `Retry-After`
    #[response(status = 503)]
    #[expect(dead_code, reason = "describes answers; never built")]
    Unavailable(#[to_schema] ErrorEnvelope),
}
