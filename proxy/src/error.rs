//! What the edge answers instead of forwarding.
//!
//! Owns the closed list of refusals and faults with their public words. Every answer is the platform's error envelope; what
//! must not be told apart by a stranger (a key unknown, revoked, expired, malformed, or of another application) is one variant
//! here. Cannot fail.

use authsome_contract::model;
use authsome_core::error::ErrorCode;

use crate::filter::credential::BadCredential;
use crate::filter::normalise::BadHead;

/// Why a request is answered here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// 400 or 404: the head, or where it leads.
    Head(BadHead),
    /// 400: keys that contradict each other, or stand where they must not.
    Keys(BadCredential),
    /// 401: no key, and the path needs one.
    MissingKey,
    /// 401: the key does not open this application, for whatever reason.
    InvalidKey,
    /// 403: a publishable key, and the path needs a secret one.
    SecretKeyNeeded,
    /// 403: the secret key lacks the scope.
    MissingScope,
    /// 403: the key may not be used from this address.
    Address,
    /// 403: a secret key with the marks of a browser.
    SecretInBrowser,
    /// 403: the page that asks is not among the origins of the application, or of the key.
    Origin,
    /// 404: open path of an application that is not there.
    UnknownApplication,
    /// 413: more body than is accepted.
    TooLarge,
    /// 503: the application does not serve now.
    NotServing(model::Refusal),
    /// 503: it serves, and has no instance to serve with.
    NoInstance,
    /// 503: the instance's credentials cannot be used by this edge.
    CredentialsUnusable,
    /// 503: the routing table could not be asked. Never cached.
    TableUnavailable,
    /// 503: too long without word from control for a secret key of an application that is strict about it.
    StaleRouting,
    /// 429: more requests than the limit allows; seconds after which one may pass.
    RateLimited(u32),
    /// 429: the month's requests are used up; seconds until the next month.
    QuotaExhausted(u32),
    /// 503: the edge has more requests under way than it can take on for this plan.
    Overloaded,
    /// 503: the edge holds as many upgraded connections and event streams as it may.
    TooManyStreams,
    /// 503: the application has as many requests on their way as it may.
    TooManyInFlight,
    /// 502: the instance cannot be reached or gave no valid answer.
    BadGateway,
    /// 504: the instance did not answer in time.
    GatewayTimeout,
    /// 408: the client did not finish its request in time.
    RequestTimeout,
    /// 400: the client's request broke off or broke the protocol.
    Protocol,
    /// 500: a fault of the edge.
    Internal,
}

impl Refusal {
    /// The code of the envelope, and by it the status.
    pub const fn code(self) -> ErrorCode {
        match self {
            Self::Head(BadHead::NoApplication) | Self::UnknownApplication => ErrorCode::NotFound,
            Self::Head(_) | Self::Keys(_) | Self::RequestTimeout | Self::Protocol => ErrorCode::InvalidRequest,
            Self::MissingKey | Self::InvalidKey => ErrorCode::Unauthorized,
            Self::SecretKeyNeeded | Self::MissingScope | Self::Address | Self::SecretInBrowser | Self::Origin => {
                ErrorCode::Forbidden
            }
            Self::TooLarge => ErrorCode::PayloadTooLarge,
            Self::RateLimited(_) | Self::QuotaExhausted(_) => ErrorCode::RateLimitExceeded,
            Self::NotServing(_)
            | Self::NoInstance
            | Self::CredentialsUnusable
            | Self::TableUnavailable
            | Self::StaleRouting
            | Self::Overloaded
            | Self::TooManyStreams
            | Self::TooManyInFlight => ErrorCode::ServiceUnavailable,
            Self::BadGateway => ErrorCode::BadGateway,
            Self::GatewayTimeout => ErrorCode::GatewayTimeout,
            Self::Internal => ErrorCode::InternalError,
        }
    }

    /// What people read.
    pub const fn message(self) -> &'static str {
        match self {
            Self::Head(BadHead::TooLarge) => "The request header is too large",
            Self::Head(BadHead::Host) => "The request needs exactly one valid Host header",
            Self::Head(BadHead::Framing) => "The length of the request body is ambiguous",
            Self::Head(BadHead::Authorization) => "The request has more than one Authorization header",
            Self::Head(BadHead::Path) => "The request path is not valid",
            Self::Head(BadHead::Method) => "The request method is not accepted",
            Self::Head(BadHead::Syntax) => "The request is not valid HTTP/1.1",
            Self::Head(BadHead::Version) => "The HTTP version is not supported on this connection",
            Self::Head(BadHead::TooMany) => "The request has too many headers",
            Self::Head(BadHead::Connection) => "The Connection header names a header that is not the connection's own",
            Self::Head(BadHead::NoApplication) | Self::UnknownApplication => "Application not found",
            Self::Keys(BadCredential::SecretInQuery) => {
                "A secret key must not be sent in a URL; treat this key as leaked and roll it"
            }
            Self::Keys(BadCredential::SecretInSubprotocol) => {
                "A secret key must not be sent as a WebSocket subprotocol; treat this key as leaked and roll it"
            }
            Self::Keys(BadCredential::QueryNotAllowed) => "A key in the query is accepted on GET only; use a header",
            Self::Keys(_) => "The request has two different API keys of the same type",
            Self::MissingKey => "An API key is required",
            Self::InvalidKey => "Invalid or expired API key",
            Self::SecretKeyNeeded => "This path needs a secret key",
            Self::MissingScope => "The API key lacks the scope that this path needs",
            Self::Address => "The API key may not be used from this address",
            Self::SecretInBrowser => "A secret key must not be used in a browser; use a publishable key there",
            Self::Origin => "The origin of the page is not allowed",
            Self::TooLarge => "The request body is too large",
            Self::NotServing(model::Refusal::Provisioning) => "The application is being set up",
            Self::NotServing(model::Refusal::Suspended) => "The application is suspended",
            Self::NotServing(model::Refusal::Failed) => "The application could not be set up",
            Self::NotServing(model::Refusal::Deleted) => "The application is deleted",
            Self::NoInstance => "The application has no running instance",
            Self::CredentialsUnusable | Self::TableUnavailable | Self::StaleRouting | Self::TooManyStreams => {
                "The service is temporarily unavailable"
            }
            Self::TooManyInFlight => "The application has too many requests in flight",
            Self::RateLimited(_) => "Too many requests",
            Self::QuotaExhausted(_) => "The requests of this month are used up",
            Self::Overloaded => "The service is overloaded",
            Self::BadGateway => "The application could not be reached",
            Self::GatewayTimeout => "The application did not answer in time",
            Self::RequestTimeout => "The request was not completed in time",
            Self::Protocol => "The request is not valid HTTP",
            Self::Internal => "An internal error occurred",
        }
    }

    /// The finer code.
    pub const fn reason(self) -> Option<&'static str> {
        match self {
            Self::NotServing(refusal) => Some(refusal.as_str()),
            Self::StaleRouting => Some("stale_routing"),
            Self::RequestTimeout => Some("request_timeout"),
            Self::SecretInBrowser => Some("secret_key_in_browser"),
            Self::Origin => Some("origin_not_allowed"),
            Self::TooManyInFlight => Some("concurrency_limit"),
            Self::QuotaExhausted(_) => Some("quota_exhausted"),
            Self::Overloaded => Some("overloaded"),
            _ => None,
        }
    }

    /// Seconds after which a retry makes sense.
    pub const fn retry_after(self) -> Option<u32> {
        match self {
            Self::NotServing(model::Refusal::Provisioning) | Self::TooManyStreams => Some(5),
            Self::NotServing(_) => Some(60),
            Self::RateLimited(seconds) | Self::QuotaExhausted(seconds) => Some(seconds),
            Self::Overloaded
            | Self::NoInstance
            | Self::CredentialsUnusable
            | Self::TableUnavailable
            | Self::StaleRouting
            | Self::TooManyInFlight => Some(1),
            _ => None,
        }
    }

    /// Does the answer ask for a credential (`WWW-Authenticate`)?
    pub const fn asks_for_credential(self) -> bool {
        matches!(self, Self::MissingKey | Self::InvalidKey)
    }

    /// May the answer show that the application exists? What a stranger can provoke without a key looks the same whether it does
    /// or not.
    pub const fn tells_of_application(self) -> bool {
        !matches!(self, Self::MissingKey | Self::InvalidKey | Self::UnknownApplication)
    }

    /// The HTTP status: that of the code, but for what HTTP has a finer one.
    pub const fn status(self) -> u16 {
        match self {
            Self::RequestTimeout => 408,
            _ => self.code().status(),
        }
    }

    /// The JSON body. All texts are of this file, so nothing in them needs escaping; the request id is base32.
    pub fn body(self, request_id: &str) -> String {
        let mut body = String::with_capacity(192);
        let (code, message) = (self.code().as_str(), self.message());
        let mut say = |parts: [&str; 2]| parts.map(|part| body.push_str(part));
        say([r#"{"error":{"code":""#, code]);
        say([r#"","message":""#, message]);
        say([r#"","requestId":""#, request_id]);
        say(["\"", ""]);
        if let Some(seconds) = self.retry_after() {
            say([r#","retryAfter":"#, itoa::Buffer::new().format(seconds)]);
        }
        if let Some(reason) = self.reason() {
            say([r#","reason":""#, reason]);
            say(["\"", ""]);
        }
        body.push_str("}}");
        body
    }
}

impl From<BadCredential> for Refusal {
    fn from(bad: BadCredential) -> Self {
        match bad {
            // As if it had been looked up: a stranger learns nothing from a checksum.
            BadCredential::Malformed | BadCredential::Checksum => Self::InvalidKey,
            BadCredential::Several
            | BadCredential::SecretInQuery
            | BadCredential::SecretInSubprotocol
            | BadCredential::QueryNotAllowed => Self::Keys(bad),
        }
    }
}

#[cfg(test)]
mod tests {
    use authsome_core::error::{ErrorEnvelope, Failure};

    use super::*;

    fn all() -> Vec<Refusal> {
        let mut all = vec![
            Refusal::Head(BadHead::TooLarge),
            Refusal::Head(BadHead::Host),
            Refusal::Head(BadHead::Framing),
            Refusal::Head(BadHead::Authorization),
            Refusal::Head(BadHead::Path),
            Refusal::Head(BadHead::Method),
            Refusal::Head(BadHead::Syntax),
            Refusal::Head(BadHead::Version),
            Refusal::Head(BadHead::TooMany),
            Refusal::Head(BadHead::Connection),
            Refusal::Head(BadHead::NoApplication),
            Refusal::Keys(BadCredential::Several),
            Refusal::Keys(BadCredential::SecretInQuery),
            Refusal::Keys(BadCredential::SecretInSubprotocol),
            Refusal::Keys(BadCredential::QueryNotAllowed),
            Refusal::MissingKey,
            Refusal::InvalidKey,
            Refusal::SecretKeyNeeded,
            Refusal::MissingScope,
            Refusal::Address,
            Refusal::SecretInBrowser,
            Refusal::Origin,
            Refusal::UnknownApplication,
            Refusal::TooLarge,
            Refusal::NoInstance,
            Refusal::CredentialsUnusable,
            Refusal::TableUnavailable,
            Refusal::StaleRouting,
            Refusal::RateLimited(3),
            Refusal::QuotaExhausted(86_400),
            Refusal::Overloaded,
            Refusal::TooManyStreams,
            Refusal::TooManyInFlight,
            Refusal::BadGateway,
            Refusal::GatewayTimeout,
            Refusal::RequestTimeout,
            Refusal::Protocol,
            Refusal::Internal,
        ];
        all.extend(model::Refusal::ALL.iter().map(|reason| Refusal::NotServing(*reason)));
        all
    }

    #[test]
    fn every_answer_is_the_envelope_of_the_platform() {
        for refusal in all() {
            let mut failure = Failure::new(refusal.code(), refusal.message());
            if let Some(seconds) = refusal.retry_after() {
                failure = failure.retry_after(seconds.into());
            }
            if let Some(reason) = refusal.reason() {
                failure = failure.with_reason(reason);
            }
            let sent: ErrorEnvelope = serde_json::from_str(&refusal.body("req_1")).unwrap();
            assert_eq!(sent, failure.to_body("req_1"), "{refusal:?}");
        }
    }

    #[test]
    fn every_429_and_503_says_when_to_come_back() {
        for refusal in all() {
            assert_eq!(
                matches!(refusal.status(), 429 | 503),
                refusal.retry_after().is_some(),
                "{refusal:?}"
            );
        }
    }
}
