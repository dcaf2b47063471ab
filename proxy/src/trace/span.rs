//! A finished request as spans, in the JSON form of OTLP.
//!
//! Attributes follow the semantic conventions for HTTP. Built beside the request path.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use authsome_core::id::{ApplicationId, KeyId, RequestId};
use serde_json::{Value, json};

use super::Trace;

/// Kinds of spans, as OTLP numbers them.
const SERVER: u8 = 2;
const CLIENT: u8 = 3;
/// The status of a span that failed.
const ERROR: u8 = 2;

/// What is told of a request.
#[derive(Debug)]
pub struct Finished {
    /// Where it belongs.
    pub trace: Trace,
    /// When it ended, in nanoseconds since the Unix epoch.
    pub ended_ns: i128,
    /// How long it took.
    pub took: Duration,
    /// Its id.
    pub request_id: RequestId,
    /// The application that it named.
    pub app: Option<ApplicationId>,
    /// The key that it was admitted with.
    pub key: Option<KeyId>,
    /// Its method.
    pub method: String,
    /// Its path, as the access log shows it.
    pub path: String,
    /// `1.1`, `2`.
    pub protocol: &'static str,
    /// Its status, if it was answered.
    pub status: Option<u16>,
    /// Why the edge answered by itself, or what failed.
    pub error: Option<&'static str>,
    /// The client's address.
    pub client: Option<IpAddr>,
    /// The part of the instance.
    pub upstream: Option<Upstream>,
}

/// The part of the instance in a request.
#[derive(Debug, Clone, Copy)]
pub struct Upstream {
    /// From the beginning of the request to the first attempt to connect.
    pub after: Duration,
    /// From there to the head of the answer; `None` if there was none.
    pub took: Option<Duration>,
    /// How long it was waited for, whether it answered or not.
    pub waited: Duration,
    /// The status of its answer.
    pub status: Option<u16>,
    /// Where it was.
    pub address: Option<SocketAddr>,
    /// Connections that were tried.
    pub tries: usize,
}

impl Finished {
    /// Its spans: its own, and one for the instance.
    pub(super) fn spans(&self) -> Vec<Value> {
        let began_ns = self.ended_ns - nanos(self.took);
        let mut attributes = vec![
            text("http.request.method", &self.method),
            text("url.path", &self.path),
            text("network.protocol.version", self.protocol),
            text("authsome.request_id", &self.request_id.text()),
        ];
        attributes.extend(
            self.status
                .map(|status| number("http.response.status_code", status.into())),
        );
        attributes.extend(self.error.map(|error| text("error.type", error)));
        attributes.extend(self.client.map(|client| text("client.address", &client.to_string())));
        attributes.extend(self.app.map(|app| text("authsome.app_id", &app.text())));
        attributes.extend(self.key.map(|key| text("authsome.key_id", &key.text())));
        let failed = self.status.is_none_or(|status| status >= 500);
        let mut spans = vec![self.span(
            (self.trace.span, self.trace.parent, SERVER),
            (began_ns, self.ended_ns),
            &attributes,
            failed,
        )];
        if let Some(upstream) = &self.upstream {
            let upstream_began = began_ns + nanos(upstream.after);
            let upstream_ended = upstream.took.map_or(self.ended_ns, |took| upstream_began + nanos(took));
            let mut attributes = vec![
                text("http.request.method", &self.method),
                number("http.request.resend_count", upstream.tries.saturating_sub(1) as u64),
            ];
            attributes.extend(
                upstream
                    .status
                    .map(|status| number("http.response.status_code", status.into())),
            );
            if let Some(address) = upstream.address {
                attributes.push(text("server.address", &address.ip().to_string()));
                attributes.push(number("server.port", address.port().into()));
            }
            spans.push(self.span(
                (self.trace.upstream_span, Some(self.trace.span), CLIENT),
                (upstream_began, upstream_ended),
                &attributes,
                upstream.status.is_none_or(|status| status >= 500),
            ));
        }
        spans
    }

    fn span(
        &self,
        (id, parent, kind): (u64, Option<u64>, u8),
        (began, ended): (i128, i128),
        attributes: &[Value],
        failed: bool,
    ) -> Value {
        json!({
            "traceId": format!("{:032x}", self.trace.trace_id),
            "spanId": format!("{id:016x}"),
            "parentSpanId": parent.map_or_else(String::new, |parent| format!("{parent:016x}")),
            "name": self.method,
            "kind": kind,
            "startTimeUnixNano": began.to_string(),
            "endTimeUnixNano": ended.to_string(),
            "attributes": attributes,
            "status": if failed { json!({"code": ERROR}) } else { json!({}) },
        })
    }
}

fn nanos(duration: Duration) -> i128 {
    i128::try_from(duration.as_nanos()).unwrap_or(i128::MAX / 2)
}

pub(super) fn text(key: &str, value: &str) -> Value {
    json!({"key": key, "value": {"stringValue": value}})
}

/// Integers of 64 bits are strings in OTLP's JSON.
fn number(key: &str, value: u64) -> Value {
    json!({"key": key, "value": {"intValue": value.to_string()}})
}
