//! From a request as it came to the decision what to do with it.
//!
//! Owns the order in which a head is judged: form, path, keys, the gate, the declared length. Whatever is refused here was
//! never counted and never seen by an instance.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::{Method, header};
use pingora::http::RequestHeader;
use pingora::protocols::http::v1::server::HttpSession;
use pingora::proxy::Session;

use crate::access_log;
use crate::admission::admit;
use crate::answer::Connection;
use crate::ctx::{Ctx, Forwarding};
use crate::edge::Edge;
use crate::error::Refusal;
use crate::filter::{credential, normalise};
use crate::gate::Request;
use crate::upstream::{self, Prepared};

/// How a request goes on after its head was looked at.
pub(crate) enum Verdict {
    /// To the instance.
    Forward(Forwarding),
    /// With this answer.
    Refuse(Refusal, Connection),
}

impl Edge {
    /// Judges a request. Waits only for records that are not in memory.
    pub(crate) async fn look(&self, session: &Session, ctx: &mut Ctx) -> Verdict {
        let request = session.req_header();
        let raw = session
            .as_http1()
            .map(HttpSession::get_headers_raw_bytes)
            .unwrap_or_default();
        ctx.head_bytes = if raw.is_empty() {
            decoded_length(request)
        } else {
            raw.len()
        };
        let head = normalise::Head {
            method: &request.method,
            version: request.version,
            target: request.raw_path(),
            headers: &request.headers,
            raw: &raw,
        };
        if let Err(bad) = normalise::check(&head, self.limits.header_bytes) {
            return Verdict::Refuse(Refusal::Head(bad), Connection::Close);
        }
        let target = match normalise::target(head.target) {
            Ok(target) => target,
            Err(bad @ normalise::BadHead::NoApplication) => {
                return Verdict::Refuse(Refusal::Head(bad), Connection::Keep);
            }
            Err(bad) => return Verdict::Refuse(Refusal::Head(bad), Connection::Close),
        };
        ctx.app_id = Some(target.app_id);
        let is_recorded = ctx.timeline.trace.is_some_and(|trace| self.tracing.records(&trace));
        if is_recorded || self.access_log.is_enabled() {
            ctx.path = access_log::shown_path(target.tail);
        }
        let presented = credential::present(&request.method, &request.headers, target.query);
        self.metrics.presented(&presented);
        let presented = match presented {
            Ok(presented) => presented,
            Err(bad) => return Verdict::Refuse(bad.into(), Connection::Keep),
        };
        let now_ms = self.clock.unix_millis();
        let asked = Request {
            method: request.method.as_str(),
            app_id: target.app_id,
            tail: target.tail,
            secret: presented.secret,
            public: presented.public,
            client: ctx.client.address,
            now_ms,
            heartbeat_age_ms: self.routing.heartbeat_age_ms(now_ms),
        };
        let admission = match admit(&self.routing, &asked).await {
            Ok(admission) => admission,
            Err(refusal) => return Verdict::Refuse(refusal, Connection::Keep),
        };
        if declared_length(request).is_some_and(|length| length > self.limits.body_bytes) {
            return Verdict::Refuse(Refusal::TooLarge, Connection::Keep);
        }
        let app = Arc::clone(&admission.app);
        let prepared = app
            .prepared
            .get_or_init(|| Prepared::new(&app.record, self.seal.as_ref()));
        if app.record.endpoints.is_empty() {
            return Verdict::Refuse(Refusal::NoInstance, Connection::Keep);
        }
        if prepared.instance.is_err() {
            return Verdict::Refuse(Refusal::CredentialsUnusable, Connection::Keep);
        }
        if let Some(key) = &admission.key {
            self.routing.used(key, now_ms);
        }
        let stripped = presented
            .in_query
            .then(|| target.query.and_then(credential::query_without_keys));
        let query = stripped.as_ref().map_or(target.query, Option::as_deref);
        Verdict::Forward(Forwarding {
            target: upstream::target(&app.record.base_path, target.tail, query),
            key_in_authorization: presented.in_authorization,
            streaming: session.is_upgrade_req() || wants_events(request),
            first: app.next_endpoint.fetch_add(1, Ordering::Relaxed),
            tries: 0,
            body_bytes: 0,
            admission,
        })
    }
}

/// The length of a head that came compressed, as it is in HTTP/1.1.
fn decoded_length(request: &RequestHeader) -> usize {
    let lines: usize = request
        .headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 4)
        .sum();
    request.method.as_str().len() + request.raw_path().len() + "  HTTP/1.1\r\n\r\n".len() + lines
}

fn declared_length(request: &RequestHeader) -> Option<u64> {
    request.headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn wants_events(request: &RequestHeader) -> bool {
    request.method == Method::GET
        && request.headers.get_all(header::ACCEPT).iter().any(|value| {
            value
                .to_str()
                .is_ok_and(|text| text.to_ascii_lowercase().contains("text/event-stream"))
        })
}
