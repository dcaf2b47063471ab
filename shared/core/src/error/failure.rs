//! A failure on its way from where it happened to the one place that answers and logs it.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;

use super::{ErrorBody, ErrorCode, ErrorEnvelope};

type BoxError = Box<dyn Error + Send + Sync>;

/// What the client is told, and beside it what only the log is told.
///
/// `Debug` and `source` are for the log: they lead to the internal cause. The only way to a client is
/// [`Failure::to_body`], which does not.
pub struct Failure(Box<Parts>);

// Boxed, so that a `Result<T, Failure>` is small on the way that succeeds.
struct Parts {
    code: ErrorCode,
    message: Cow<'static, str>,
    details: Option<serde_json::Value>,
    reason: Option<Cow<'static, str>>,
    retry_after: Option<u64>,
    internal: Option<BoxError>,
}

impl Failure {
    /// A failure with a message for the client.
    pub fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Parts {
            code,
            message: message.into(),
            details: None,
            reason: None,
            retry_after: None,
            internal: None,
        }))
    }

    /// 400.
    pub fn invalid_request(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::InvalidRequest, message)
    }

    /// 401.
    pub fn unauthorized(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::Unauthorized, message)
    }

    /// 403.
    pub fn forbidden(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::Forbidden, message)
    }

    /// 404.
    pub fn not_found(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::NotFound, message)
    }

    /// 409.
    pub fn conflict(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::Conflict, message)
    }

    /// 413.
    pub fn payload_too_large(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::PayloadTooLarge, message)
    }

    /// 429, with the seconds until a retry makes sense.
    pub fn rate_limited(message: impl Into<Cow<'static, str>>, seconds: u64) -> Self {
        Self::new(ErrorCode::RateLimitExceeded, message).retry_after(seconds)
    }

    /// 500. The client is told nothing but that it is our fault.
    pub fn internal(cause: impl Into<BoxError>) -> Self {
        Self::new(ErrorCode::InternalError, "An internal error occurred").with_internal(cause)
    }

    /// 502.
    pub fn bad_gateway(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::BadGateway, message)
    }

    /// 503.
    pub fn unavailable(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::ServiceUnavailable, message)
    }

    /// 504.
    pub fn gateway_timeout(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::GatewayTimeout, message)
    }

    /// Adds the cause, for the log only.
    #[must_use]
    pub fn with_internal(mut self, cause: impl Into<BoxError>) -> Self {
        self.0.internal = Some(cause.into());
        self
    }

    /// Adds the finer code that the client sees as `reason`.
    #[must_use]
    pub fn with_reason(mut self, reason: impl Into<Cow<'static, str>>) -> Self {
        self.0.reason = Some(reason.into());
        self
    }

    /// Adds what the client sees as `details`.
    #[must_use]
    pub fn with_details(mut self, details: serde_json::Value) -> Self {
        self.0.details = Some(details);
        self
    }

    /// Adds the seconds after which a retry makes sense.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.0.retry_after = Some(seconds);
        self
    }

    /// The code.
    pub fn code(&self) -> ErrorCode {
        self.0.code
    }

    /// The HTTP status.
    pub fn status(&self) -> u16 {
        self.0.code.status()
    }

    /// The message that the client reads.
    pub fn public_message(&self) -> &str {
        &self.0.message
    }

    /// The finer code that the client reads.
    pub fn reason(&self) -> Option<&str> {
        self.0.reason.as_deref()
    }

    /// Seconds for the `Retry-After` header.
    pub fn retry_after_seconds(&self) -> Option<u64> {
        self.0.retry_after
    }

    /// The cause, for the log only.
    pub fn internal_cause(&self) -> Option<&(dyn Error + Send + Sync + 'static)> {
        self.0.internal.as_deref()
    }

    /// What the client is sent. Nothing of the internal cause is in it.
    pub fn to_body(&self, request_id: impl Into<String>) -> ErrorEnvelope {
        ErrorEnvelope {
            error: ErrorBody {
                code: self.0.code,
                message: self.0.message.clone().into_owned(),
                request_id: request_id.into(),
                details: self.0.details.clone(),
                retry_after: self.0.retry_after,
                reason: self.0.reason.clone().map(Cow::into_owned),
            },
        }
    }
}

/// For the log: code, message and reason; [`Chain`] adds the causes.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.code, self.0.message)?;
        if let Some(reason) = &self.0.reason {
            write!(f, " ({reason})")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Chain(self))
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.internal.as_deref().map(|cause| cause as &(dyn Error + 'static))
    }
}

/// Prints an error with all its causes, `a: b: c`, for the log. A cause that its error already quotes is not repeated.
pub struct Chain<'a>(pub &'a (dyn Error + 'a));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut last = self.0.to_string();
        f.write_str(&last)?;
        let mut source = self.0.source();
        while let Some(cause) = source {
            let text = cause.to_string();
            if !last.contains(&text) {
                write!(f, ": {text}")?;
                last = text;
            }
            source = cause.source();
        }
        Ok(())
    }
}

impl fmt::Debug for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("query failed")]
    struct Query(#[source] std::io::Error);

    fn cause() -> Query {
        Query(std::io::Error::other("password authentication failed for role app_x"))
    }

    #[test]
    fn nothing_internal_reaches_the_body() {
        let failure = Failure::internal(cause());
        let body = serde_json::to_string(&failure.to_body("req_1")).unwrap();
        assert_eq!(
            body,
            r#"{"error":{"code":"internal_error","message":"An internal error occurred","requestId":"req_1"}}"#
        );
    }

    #[test]
    fn the_log_reads_the_whole_chain() {
        let failure = Failure::unavailable("Try again")
            .with_reason("updating")
            .with_internal(cause());
        let text =
            "service_unavailable: Try again (updating): query failed: password authentication failed for role app_x";
        assert_eq!(Chain(&failure).to_string(), text);
        assert_eq!(format!("{failure:?}"), text);
        assert!(failure.internal_cause().is_some());
    }

    #[test]
    fn a_cause_already_quoted_is_not_repeated() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot start: {0}")]
        struct Outer(#[source] Query);
        assert_eq!(
            Chain(&Outer(cause())).to_string(),
            "cannot start: query failed: password authentication failed for role app_x"
        );
    }

    #[test]
    fn the_body_is_camel_case_and_complete() {
        let failure = Failure::rate_limited("Too many requests", 7)
            .with_reason("key_limit")
            .with_details(json!({"limit": 10}));
        let body = serde_json::to_value(failure.to_body("req_1")).unwrap();
        assert_eq!(
            body,
            json!({"error": {
                "code": "rate_limit_exceeded", "message": "Too many requests", "requestId": "req_1",
                "details": {"limit": 10}, "retryAfter": 7, "reason": "key_limit",
            }})
        );
        assert_eq!(
            serde_json::from_value::<ErrorEnvelope>(body).unwrap(),
            failure.to_body("req_1")
        );
    }

    #[test]
    fn a_result_with_a_failure_is_one_word() {
        assert_eq!(size_of::<Result<(), Failure>>(), size_of::<usize>());
    }
}
