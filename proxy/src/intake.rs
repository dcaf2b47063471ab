//! From a request as it came to the decision what to do with it.
//!
//! Owns the order in which a head is judged: form, host, path, room, preflight, keys, the gate, limits, the declared length. Whatever
//! is refused here was never counted and never seen by an instance.

use std::sync::Arc;

use authsome_contract::model::{Refusal as Unavailability, Serve};
use authsome_core::id::ApplicationId;
use http::Method;
use pingora::http::RequestHeader;
use pingora::protocols::http::v1::server::HttpSession;
use pingora::proxy::Session;

use crate::access_log;
use crate::admission::{Refused, admit};
use crate::answer::Connection;
use crate::ctx::{Ctx, Forwarding};
use crate::edge::Edge;
use crate::error::Refusal;
use crate::filter::cors::{self, Browser, Grant};
use crate::filter::lines::Fields;
use crate::filter::name;
use crate::filter::normalise::{self, BadHead, Target};
use crate::filter::{credential, own_host};
use crate::gate::Request;
use crate::limit::Now;
use crate::place::Place;
use crate::routing::{AppEntry, Lookup};
use crate::upstream::{self, Kind, Prepared, Way};

/// How a request goes on after its head was looked at.
pub(crate) enum Verdict {
    /// To the instance: as what stands in [`Ctx::forward`].
    Forward,
    /// It is a browser's question, and the answer is yes.
    Preflight,
    /// With this answer.
    Refuse(Refusal, Connection),
}

/// A head whose form was checked, whoever parsed it.
#[derive(Debug)]
pub(crate) struct Incoming<'a, H> {
    /// The method.
    pub(crate) method: &'a Method,
    /// The request target as it came.
    pub(crate) target: &'a [u8],
    /// What the client names as the host.
    pub(crate) host: &'a str,
    /// The header lines.
    pub(crate) headers: &'a H,
    /// Does the connection become something else with it?
    pub(crate) upgrades: bool,
    /// The edge itself asks; nobody's request.
    pub(crate) in_background: bool,
}

impl Edge {
    /// Judges a request that the forwarding library has read. Waits only for records that are not in memory.
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
        let incoming = Incoming {
            method: &request.method,
            target: request.raw_path(),
            host: own_host::of(request),
            headers: request,
            upgrades: session.is_upgrade_req(),
            in_background: session.subrequest_ctx.is_some(),
        };
        self.consider(&incoming, ctx).await
    }

    /// Judges a request. Waits only for records that are not in memory.
    pub(crate) async fn consider<H: Fields>(&self, request: &Incoming<'_, H>, ctx: &mut Ctx) -> Verdict {
        let Place { target, is_own_host } = match self.find_place(request.target, request.host).await {
            Ok(place) => place,
            Err(bad @ (Refusal::Head(BadHead::NoApplication) | Refusal::TableUnavailable)) => {
                return Verdict::Refuse(bad, Connection::Keep);
            }
            Err(bad) => return Verdict::Refuse(bad, Connection::Close),
        };
        ctx.app_id = Some(target.app_id);
        ctx.own_host = is_own_host;
        let is_recorded = ctx.timeline.trace.is_some_and(|trace| self.tracing.records(&trace));
        if is_recorded || self.access_log.is_enabled() {
            ctx.path = access_log::shown_path(target.tail);
        }
        match self.limiter.enter() {
            Ok(occupied) => ctx.occupied = Some(occupied),
            Err(refusal) => return Verdict::Refuse(refusal, Connection::Keep),
        }
        let browser = Browser::of(request.headers, is_own_host.then_some((ctx.scheme, request.host)));
        if cors::is_preflight(request.method, request.headers) {
            return match self.preflight(&browser, target.app_id, ctx).await {
                Ok(()) => Verdict::Preflight,
                Err(refusal) => Verdict::Refuse(refusal, Connection::Keep),
            };
        }
        match self.judge(request, ctx, &target, browser).await {
            Ok(()) => Verdict::Forward,
            Err(refusal) => {
                self.let_page_read(&browser, target.app_id, ctx);
                Verdict::Refuse(refusal, Connection::Keep)
            }
        }
    }

    /// Answers a browser's question from the application's origins. It comes without a key, so nothing is asked about keys.
    async fn preflight(&self, browser: &Browser<'_>, app_id: ApplicationId, ctx: &mut Ctx) -> Result<(), Refusal> {
        let app = match self.routing.app(&app_id, self.clock.unix_millis()) {
            Lookup::Hit(entry) => Some(entry),
            Lookup::Absent => None,
            Lookup::Unknown => self
                .routing
                .resolve_app(app_id)
                .await
                .map_err(|_| Refusal::TableUnavailable)?,
        };
        let app = app.filter(|app| exists(app)).ok_or(Refusal::UnknownApplication)?;
        Self::know(browser, app, ctx);
        match ctx.cors {
            Grant::To(_) => Ok(()),
            Grant::Nobody | Grant::Unknown => Err(Refusal::Origin),
        }
    }

    /// From here on answers show the application.
    fn know(browser: &Browser<'_>, app: Arc<AppEntry>, ctx: &mut Ctx) {
        ctx.cors = Grant::for_page(browser, browser.may_call(&app.record));
        ctx.app = Some(app);
    }

    /// Lets a page of the application read why it was refused, even where the answer shows nothing of the application: a page of an
    /// allowed origin learns nothing by it that a preflight does not tell. Looks in memory only.
    fn let_page_read(&self, browser: &Browser<'_>, app_id: ApplicationId, ctx: &mut Ctx) {
        if ctx.app.is_some() || browser.origin == cors::Origin::Unsaid {
            return;
        }
        if let Lookup::Hit(app) = self.routing.app(&app_id, self.clock.unix_millis())
            && exists(&app)
            && browser.may_call(&app.record)
        {
            ctx.cors = Grant::for_page(browser, true);
        }
    }

    async fn judge<H: Fields>(
        &self,
        request: &Incoming<'_, H>,
        ctx: &mut Ctx,
        target: &Target<'_>,
        browser: Browser<'_>,
    ) -> Result<(), Refusal> {
        let presented = credential::present(request.method, request.headers, target.query);
        self.metrics.presented(&presented);
        let client = ctx.client.address;
        let now = Now {
            unix_ms: ctx.began_ms,
            moment: self.limiter.moment_of(ctx.began),
        };
        let now_ms = now.unix_ms;
        let presented = presented.map_err(|bad| {
            if let Some(leaked) = credential::leaked(request.headers, target.query) {
                self.metrics.leaks.raise(&leaked, target.app_id, now_ms);
            }
            self.limiter.refused(bad.into(), client, now.moment)
        })?;
        let asked = Request {
            method: request.method.as_str(),
            app_id: target.app_id,
            tail: target.tail,
            secret: presented.secret,
            public: presented.public,
            client,
            browser,
            now_ms,
            heartbeat_age_ms: self.routing.heartbeat_age_ms(now_ms),
        };
        let admission = match admit(&self.routing, &asked).await {
            Ok(admission) => admission,
            Err(Refused { refusal, app }) => {
                if let Some(app) = app {
                    Self::know(&browser, app, ctx);
                }
                return Err(self.limiter.refused(refusal, client, now.moment));
            }
        };
        let app = Arc::clone(&admission.app);
        Self::know(&browser, Arc::clone(&app), ctx);
        self.limiter.make_room(app.record.plan)?;
        // What the edge asks for by itself is nobody's request.
        if !request.in_background {
            let judged = self.limiter.judge(&admission, client, now);
            ctx.standing = Some(judged.standing);
            if let Some(refusal) = judged.refusal {
                return Err(refusal);
            }
        }
        let most_body_bytes = app.limits.allowed(&app.record).body_bytes.min(self.limits.body_bytes);
        if declared_length(request.headers).is_some_and(|length| length > most_body_bytes) {
            return Err(Refusal::TooLarge);
        }
        let prepared = app
            .prepared
            .get_or_init(|| Prepared::new(&app.record, self.seal.as_deref(), &self.upstreams));
        if prepared.instance.is_err() {
            return Err(Refusal::CredentialsUnusable);
        }
        let kind = if request.upgrades || wants_events(request.method, request.headers) {
            Kind::Stream
        } else {
            Kind::Request
        };
        if let Some(key) = &admission.key {
            self.routing.used(key, now_ms);
        }
        let stripped = presented
            .places
            .query
            .then(|| target.query.and_then(credential::query_without_keys));
        let query = stripped.as_ref().map_or(target.query, Option::as_deref);
        let subprotocol = presented.places.subprotocol;
        // Put in its place at once: it is large, and would be moved on each way back.
        ctx.forward = Some(Forwarding {
            target: upstream::target(&app.record.base_path, target.tail, query),
            keys_in: presented.places,
            subprotocol: subprotocol
                .then(|| credential::key_subprotocol(request.headers))
                .flatten(),
            way: Way::new(kind, ctx.began).upgrading(request.upgrades),
            refusal: None,
            most_body_bytes,
            body_bytes: 0,
            admission,
        });
        Ok(())
    }
}

/// The length of a head that came compressed, as it is in HTTP/1.1.
fn decoded_length(request: &RequestHeader) -> usize {
    request.method.as_str().len() + request.raw_path().len() + "  HTTP/1.1\r\n\r\n".len() + request.wire_bytes()
}

/// Gone and never there are answered alike.
fn exists(app: &AppEntry) -> bool {
    app.record.serve != Serve::Refuse(Unavailability::Deleted)
}

fn declared_length(headers: &impl Fields) -> Option<u64> {
    headers.text(&name::CONTENT_LENGTH)?.parse().ok()
}

/// May the answer be an event stream?
pub(crate) fn wants_events(method: &Method, headers: &impl Fields) -> bool {
    const EVENTS: &[u8] = b"text/event-stream";
    *method == Method::GET
        && headers.all(&name::ACCEPT).any(|value| {
            value
                .windows(EVENTS.len())
                .any(|part| part.eq_ignore_ascii_case(EVENTS))
        })
}
