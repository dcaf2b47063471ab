//! What the edge counts about its own requests, for `/metrics`.
//!
//! Every counter that a request touches is looked up once, at start; a request only adds. What routing and metering count is
//! theirs.

use std::time::Duration;

use authsome_core::error::ErrorCode;
use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use crate::error::Refusal;
use crate::filter::credential::{BadCredential, Presented};
use crate::filter::leak::LeakAlert;
use crate::filter::normalise::BadHead;
use crate::trace::Upstream;
use crate::upstream::Blame;

const CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];
const CREDENTIALS: [&str; 8] = [
    "absent",
    "public",
    "secret",
    "both",
    "malformed",
    "checksum",
    "several",
    "misplaced",
];
const REFUSALS: [&str; 32] = [
    "bad_head",
    "unknown_path",
    "bad_keys",
    "missing_key",
    "invalid_key",
    "secret_key_needed",
    "missing_scope",
    "address",
    "unknown_application",
    "too_large",
    "not_serving",
    "no_instance",
    "table_unavailable",
    "bad_gateway",
    "gateway_timeout",
    "request_timeout",
    "protocol",
    "internal",
    "credentials_unusable",
    "too_many_streams",
    "stale_routing",
    "head_syntax",
    "head_too_large",
    "head_host",
    "head_framing",
    "head_path",
    "secret_in_browser",
    "origin",
    "too_many_in_flight",
    "rate_limited",
    "quota_exhausted",
    "overloaded",
];
const PATHS: [&str; 2] = ["lane", "proxy"];
const BLAMES: [&str; 3] = ["client", "instance", "edge"];

/// Who forwarded a request, or answered it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// The edge's own path for simple requests.
    Lane,
    /// The forwarding library.
    Proxy,
}

/// The counters.
#[derive(Debug)]
pub struct Metrics {
    requests: [IntCounter; 6],
    by_path: [IntCounter; 2],
    seconds: Histogram,
    own_seconds: Histogram,
    upstream_seconds: Histogram,
    upstream_answers: [IntCounter; 6],
    credentials: [IntCounter; 8],
    refusals: [IntCounter; 32],
    failures: [IntCounter; 3],
    bytes_in: IntCounter,
    bytes_out: IntCounter,
    /// Connects to an instance that failed.
    pub connect_failures: IntCounter,
    /// Of those, tried again.
    pub connect_retries: IntCounter,
    /// Cookies that could not be confined to their application.
    pub cookies_dropped: IntCounter,
    /// Lines of the access log that found its queue full.
    pub log_dropped: IntCounter,
    /// Secret keys that were sent where logs read them.
    pub leaks: LeakAlert,
    in_flight: IntGauge,
}

impl Metrics {
    /// Registers them.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let family = |name: &str, help: &str, label: &str| {
            let family = IntCounterVec::new(Opts::new(name, help), &[label])?;
            registry.register(Box::new(family.clone()))?;
            Ok::<_, prometheus::Error>(family)
        };
        let requests = family(
            "authsome_edge_requests_total",
            "Requests by class of the answer's status",
            "class",
        )?;
        let by_path = family(
            "authsome_edge_requests_by_path_total",
            "Requests by the forwarding path that served them",
            "path",
        )?;
        let credentials = family(
            "authsome_edge_credentials_total",
            "Requests by the keys they present",
            "outcome",
        )?;
        let refusals = family(
            "authsome_edge_refusals_total",
            "Requests that the edge answered itself",
            "reason",
        )?;
        let failures = family(
            "authsome_edge_failures_total",
            "Forwarded requests that failed",
            "blame",
        )?;
        let bytes = family(
            "authsome_edge_bytes_total",
            "Heads and bodies, to and from clients",
            "direction",
        )?;
        let seconds = Histogram::with_opts(
            HistogramOpts::new(
                "authsome_edge_request_seconds",
                "From the end of the request's head to the end of the answer",
            )
            .buckets(vec![
                0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
            ]),
        )?;
        registry.register(Box::new(seconds.clone()))?;
        let split = |name: &str, help: &str, first: f64| {
            let buckets = prometheus::exponential_buckets(first, 3.0, 12)?;
            let histogram = Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets))?;
            registry.register(Box::new(histogram.clone()))?;
            Ok::<_, prometheus::Error>(histogram)
        };
        let own_seconds = split(
            "authsome_edge_own_seconds",
            "The edge's own part of a request: until a connection to an instance is asked for",
            0.000_01,
        )?;
        let upstream_seconds = split(
            "authsome_edge_upstream_seconds",
            "The instance's part of a request: from asking for a connection to the head of its answer",
            0.000_25,
        )?;
        let upstream_answers = family(
            "authsome_edge_upstream_answers_total",
            "Answers of instances by class of their status; none: there was no answer",
            "class",
        )?;
        let in_flight = IntGauge::new("authsome_edge_in_flight_requests", "Requests that are being handled")?;
        registry.register(Box::new(in_flight.clone()))?;
        Ok(Self {
            requests: CLASSES.map(|class| requests.with_label_values(&[class])),
            by_path: PATHS.map(|path| by_path.with_label_values(&[path])),
            seconds,
            own_seconds,
            upstream_seconds,
            upstream_answers: CLASSES.map(|class| upstream_answers.with_label_values(&[class])),
            credentials: CREDENTIALS.map(|outcome| credentials.with_label_values(&[outcome])),
            refusals: REFUSALS.map(|reason| refusals.with_label_values(&[reason])),
            failures: BLAMES.map(|blame| failures.with_label_values(&[blame])),
            bytes_in: bytes.with_label_values(&["in"]),
            bytes_out: bytes.with_label_values(&["out"]),
            connect_failures: counter(
                "authsome_edge_connect_failures_total",
                "Connects to an instance that failed",
            )?,
            connect_retries: counter(
                "authsome_edge_connect_retries_total",
                "Failed connects that were tried again",
            )?,
            cookies_dropped: counter(
                "authsome_edge_cookies_dropped_total",
                "Cookies of instances that could not be confined to their application",
            )?,
            log_dropped: counter(
                "authsome_edge_access_log_dropped_total",
                "Access log lines that found the queue full",
            )?,
            leaks: LeakAlert::register(registry)?,
            in_flight,
        })
    }

    /// A request is over. `status`: `None` if it was never answered.
    pub fn answered(&self, status: Option<u16>, took: Duration, bytes_in: u64, bytes_out: u64) {
        let class = status.map_or(0, |status| usize::from(status / 100).min(5));
        self.requests[class].inc();
        self.seconds.observe(took.as_secs_f64());
        self.bytes_in.inc_by(bytes_in);
        self.bytes_out.inc_by(bytes_out);
    }

    /// A request is over that this path served.
    pub fn handled(&self, by: By) {
        self.by_path[by as usize].inc();
    }

    /// Where the time of a request went.
    pub fn split(&self, own: Duration, upstream: Option<&Upstream>) {
        self.own_seconds.observe(own.as_secs_f64());
        if let Some(upstream) = upstream {
            self.upstream_seconds.observe(upstream.waited.as_secs_f64());
            let class = upstream.status.map_or(0, |status| usize::from(status / 100).min(5));
            self.upstream_answers[class].inc();
        }
    }

    /// A request presented these keys.
    pub fn presented(&self, presented: &Result<Presented, BadCredential>) {
        let outcome = match presented {
            Ok(keys) => match (keys.public, keys.secret) {
                (None, None) => 0,
                (Some(_), None) => 1,
                (None, Some(_)) => 2,
                (Some(_), Some(_)) => 3,
            },
            Err(BadCredential::Malformed) => 4,
            Err(BadCredential::Checksum) => 5,
            Err(BadCredential::Several) => 6,
            Err(BadCredential::SecretInQuery | BadCredential::SecretInSubprotocol | BadCredential::QueryNotAllowed) => {
                7
            }
        };
        self.credentials[outcome].inc();
    }

    /// The edge answered by itself.
    pub fn refused(&self, refusal: Refusal) {
        self.refusals[index(refusal)].inc();
    }

    /// A forwarded request failed.
    pub fn failed(&self, blame: Blame) {
        self.failures[blame as usize].inc();
    }

    /// Brings the gauges up to date, before they are read.
    pub fn observe(&self, in_flight: usize) {
        self.in_flight.set(i64::try_from(in_flight).unwrap_or(i64::MAX));
    }
}

/// The name of a refusal in metrics and in the access log.
pub fn label(refusal: Refusal) -> &'static str {
    REFUSALS[index(refusal)]
}

const fn index(refusal: Refusal) -> usize {
    match refusal {
        Refusal::Head(BadHead::NoApplication) => 1,
        Refusal::Head(BadHead::Syntax | BadHead::Version) => 21,
        Refusal::Head(BadHead::TooLarge | BadHead::TooMany) => 22,
        Refusal::Head(BadHead::Host) => 23,
        Refusal::Head(BadHead::Framing) => 24,
        Refusal::Head(BadHead::Path) => 25,
        Refusal::Head(BadHead::Authorization | BadHead::Method | BadHead::Connection) => 0,
        Refusal::Keys(_) => 2,
        Refusal::MissingKey => 3,
        Refusal::InvalidKey => 4,
        Refusal::SecretKeyNeeded => 5,
        Refusal::MissingScope => 6,
        Refusal::Address => 7,
        Refusal::UnknownApplication => 8,
        Refusal::TooLarge => 9,
        Refusal::NotServing(_) => 10,
        Refusal::NoInstance => 11,
        Refusal::TableUnavailable => 12,
        Refusal::BadGateway => 13,
        Refusal::GatewayTimeout => 14,
        Refusal::RequestTimeout => 15,
        Refusal::Protocol => 16,
        Refusal::Internal => 17,
        Refusal::CredentialsUnusable => 18,
        Refusal::TooManyStreams => 19,
        Refusal::StaleRouting => 20,
        Refusal::SecretInBrowser => 26,
        Refusal::Origin => 27,
        Refusal::TooManyInFlight => 28,
        Refusal::RateLimited(_) => 29,
        Refusal::QuotaExhausted(_) => 30,
        Refusal::Overloaded => 31,
    }
}

/// Is this an answer that counts as an error of the service (5xx)?
pub const fn is_error(status: u16) -> bool {
    status >= ErrorCode::InternalError.status()
}

#[cfg(test)]
mod tests {
    use authsome_core::telemetry;

    use super::*;

    #[test]
    fn every_series_is_there_before_its_first_event() {
        let registry = Registry::new();
        let metrics = Metrics::new(&registry).unwrap();
        metrics.presented(&Err(BadCredential::Checksum));
        metrics.refused(Refusal::InvalidKey);
        metrics.answered(Some(503), Duration::from_millis(3), 5, 7);
        metrics.answered(None, Duration::from_millis(3), 5, 7);
        let text = telemetry::encode(&registry);
        for line in [
            "authsome_edge_credentials_total{outcome=\"checksum\"} 1",
            "authsome_edge_credentials_total{outcome=\"malformed\"} 0",
            "authsome_edge_refusals_total{reason=\"invalid_key\"} 1",
            "authsome_edge_requests_total{class=\"5xx\"} 1",
            "authsome_edge_requests_total{class=\"none\"} 1",
            "authsome_edge_bytes_total{direction=\"in\"} 10",
            "authsome_edge_failures_total{blame=\"instance\"} 0",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
