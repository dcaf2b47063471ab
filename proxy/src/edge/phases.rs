//! The forwarding path through the library: one method for each of its phases, each a few calls of what knows better.
//!
//! Owns the order of things for one request. A panic in a phase ends that connection and nothing else.

use std::any::Any;
use std::net::IpAddr;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, StatusCode, Version, header};
use pingora::cache::key::HashBinary;
use pingora::cache::{CacheKey, CacheMeta, ForcedFreshness, HitHandler, NoCacheReason, RespCacheable};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::protocols::Digest;
use pingora::proxy::{FailToProxy, ProxyHttp, Session};
use pingora::upstreams::peer::{HttpPeer, Peer};
use pingora::{Error, ErrorSource, ErrorType, Result};

use super::Edge;
use crate::answer::{self, Connection};
use crate::books::Closing;
use crate::cache::Part;
use crate::ctx::{Ctx, Forwarding};
use crate::error::Refusal;
use crate::filter::headers;
use crate::filter::lines::Fields;
use crate::filter::own_host;
use crate::intake::Verdict;
use crate::listener::Accepted;
use crate::metrics::By;
use crate::steps::Question;
use crate::upstream::Replay;

#[async_trait]
impl ProxyHttp for Edge {
    type CTX = Ctx;

    fn new_ctx(&self) -> Ctx {
        self.begin()
    }

    /// No compression module: instances compress by themselves.
    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    fn on_connection_reuse(&self, _session: &mut Session, ctx: &mut Ctx, connection: Box<dyn Any + Send + Sync>) {
        ctx.accepted = connection.downcast::<Arc<Accepted>>().ok().map(|accepted| *accepted);
        if let Some(accepted) = &ctx.accepted {
            accepted.exchange.head_accepted();
        }
    }

    async fn request_filter(&self, session: &mut Session, ctx: &mut Ctx) -> Result<bool> {
        if session.req_header().version == Version::HTTP_2 {
            ctx.accepted = session.req_header().extensions.get::<Arc<Accepted>>().cloned();
        }
        self.hold(session);
        if let Some(judged) = ctx.accepted.as_ref().and_then(|accepted| accepted.take_over()) {
            // The lane has decided; nothing is asked or counted twice.
            *ctx = *judged;
            return self.let_in(session, ctx).await;
        }
        let is_tls = session.digest().is_some_and(|digest| digest.ssl_digest.is_some());
        self.find_client(peer_of(session), is_tls, session.req_header(), ctx);
        if let Some((head, body)) = self.probes.on_traffic_port(session.req_header())?
            && !self.is_own_host(own_host::of(session.req_header()))
        {
            ctx.is_probe = true;
            answer::write(session, head, body, Connection::Keep).await?;
            return Ok(true);
        }
        match self.look(session, ctx).await {
            Verdict::Forward => self.let_in(session, ctx).await,
            Verdict::Preflight => {
                answer::preflight(session, &self.identity(ctx)).await?;
                Ok(true)
            }
            Verdict::Refuse(refusal, connection) => {
                self.refuse(session, ctx, refusal, connection).await?;
                Ok(true)
            }
        }
    }

    fn request_cache_filter(&self, session: &mut Session, ctx: &mut Ctx) -> Result<()> {
        if let (Some(cache), Some(_)) = (&self.cache, &ctx.part) {
            cache.enable(&mut session.cache);
        }
        Ok(())
    }

    fn cache_key_callback(&self, _session: &Session, ctx: &mut Ctx) -> Result<CacheKey> {
        let part = ctx.part.as_ref().ok_or_else(|| Error::new(ErrorType::InternalError))?;
        Ok(part.key())
    }

    async fn cache_hit_filter(
        &self,
        _session: &mut Session,
        meta: &CacheMeta,
        _hit_handler: &mut HitHandler,
        _is_fresh: bool,
        ctx: &mut Ctx,
    ) -> Result<Option<ForcedFreshness>> {
        Ok(match (&self.cache, &ctx.part, &ctx.forward) {
            (Some(cache), Some(part), Some(forward)) => cache.judge(part, &forward.admission.app.record, meta),
            _ => Some(ForcedFreshness::ForceMiss),
        })
    }

    fn cache_vary_filter(&self, meta: &CacheMeta, ctx: &mut Ctx, request: &RequestHeader) -> Option<HashBinary> {
        let key = ctx.forward.as_ref().and_then(|forward| forward.admission.key.as_ref());
        let key_id = key.map(|key| key.record.id.text());
        Part::variance(meta, request, key_id.as_deref())
    }

    fn response_cache_filter(
        &self,
        _session: &Session,
        response: &ResponseHeader,
        ctx: &mut Ctx,
    ) -> Result<RespCacheable> {
        Ok(match (&self.cache, &ctx.part) {
            (Some(cache), Some(part)) => cache.keep(part, response),
            _ => RespCacheable::Uncacheable(NoCacheReason::NeverEnabled),
        })
    }

    fn should_serve_stale(&self, _session: &mut Session, ctx: &mut Ctx, error: Option<&Error>) -> bool {
        match error {
            None => ctx.part.as_ref().is_some_and(Part::may_serve_while_asking),
            // The client's own fault, or its going away, says nothing of the instance.
            Some(error) => *error.esource() != ErrorSource::Downstream,
        }
    }

    async fn upstream_peer(&self, _session: &mut Session, ctx: &mut Ctx) -> Result<Box<HttpPeer>> {
        let forward = ctx
            .forward
            .as_mut()
            .ok_or_else(|| Error::new(ErrorType::InternalError))?;
        // The body begins anew with each attempt.
        forward.body_bytes = 0;
        if let Err(refusal) = forward.open_way(&self.upstreams).await {
            // As an error of the way to the instance, so that the cache may stand in with what it has.
            forward.refusal = Some(refusal);
            return Err(Error::new_up(ErrorType::ConnectNoRoute));
        }
        let peer = forward.next_peer(&self.upstreams);
        // An endpoint there was when the request was let through; it is gone since, or its time is.
        if let Some(address) = peer.as_ref().and_then(|peer| peer.address().as_inet()) {
            ctx.timeline.connecting(*address, Instant::now());
        }
        peer.map(Box::new)
            .ok_or_else(|| Error::new_up(ErrorType::ConnectNoRoute))
    }

    fn fail_to_connect(
        &self,
        session: &mut Session,
        _peer: &HttpPeer,
        ctx: &mut Ctx,
        mut error: Box<Error>,
    ) -> Box<Error> {
        self.metrics.connect_failures.inc();
        let replay = replay_of(session);
        let again = ctx
            .forward
            .as_mut()
            .is_some_and(|forward| forward.not_connected(&self.upstreams, &error, replay));
        if again {
            self.metrics.connect_retries.inc();
        }
        error.set_retry(again);
        error
    }

    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        session: &mut Session,
        mut error: Box<Error>,
        ctx: &mut Ctx,
        reused: bool,
    ) -> Box<Error> {
        if let Some(accepted) = &ctx.accepted {
            if accepted.patience.is_lost() {
                error = Error::new_up(ErrorType::ReadTimedout);
            }
            accepted.patience.over();
        }
        let replay = replay_of(session);
        let again = ctx
            .forward
            .as_mut()
            .is_some_and(|forward| forward.broken(&self.upstreams, &error, reused, replay));
        error.set_retry(again);
        error
    }

    async fn connected_to_upstream(
        &self,
        _session: &mut Session,
        _reused: bool,
        _peer: &HttpPeer,
        socket: RawFd,
        _digest: Option<&Digest>,
        ctx: &mut Ctx,
    ) -> Result<()> {
        if let Some(forward) = &mut ctx.forward {
            forward.way.connected(socket);
        }
        Ok(())
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        ctx: &mut Ctx,
    ) -> Result<()> {
        if request.headers.contains_key(header::UPGRADE) && !session.as_downstream_mut().is_body_empty() {
            // As RFC 9110, section 7.8 allows: the tunnel would begin somewhere within the body.
            request.remove_header(&header::UPGRADE);
            request.remove_header(&header::CONNECTION);
        }
        if let Some(trailers) = ctx.forward.as_ref().and_then(|forward| forward.way.carried()) {
            trailers.announce(request);
        }
        let target = in_a_plain_map(request, |lines| Self::to_instance(lines, ctx))
            .ok_or_else(|| Error::new(ErrorType::InternalError))?;
        request.set_raw_path(target.as_bytes())
    }

    async fn request_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        end_of_stream: bool,
        ctx: &mut Ctx,
    ) -> Result<()> {
        if end_of_stream && body.as_ref().is_some_and(Bytes::is_empty) {
            // The library would write it as a chunk, which ends the body, and then end the body: the instance would read the second
            // end as the beginning of the next request.
            *body = None;
        }
        // An upgraded connection is a conversation, not a body.
        if let Some(forward) = &mut ctx.forward {
            forward.way.head_is_sent();
            if end_of_stream {
                let patience = ctx.accepted.as_ref().map(|accepted| &accepted.patience);
                forward.way.request_ends(&self.upstreams, patience);
            }
        }
        if let (Some(body), Some(forward), false) = (body, &mut ctx.forward, session.was_upgraded()) {
            forward.body_bytes += body.len() as u64;
            if forward.body_bytes > forward.most_body_bytes {
                return Err(Error::new_down(ErrorType::HTTPStatus(413)));
            }
        }
        Ok(())
    }

    async fn upstream_response_filter(
        &self,
        _session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Ctx,
    ) -> Result<()> {
        let announced = response.status.is_informational() && response.status != StatusCode::SWITCHING_PROTOCOLS;
        if let Some(accepted) = &ctx.accepted {
            if announced {
                accepted.patience.again();
            } else {
                accepted.patience.over();
            }
        }
        if let Some(forward) = ctx.forward.as_mut().filter(|_| !announced) {
            forward.answered(&self.upstreams, response.status.as_u16());
        }
        Ok(())
    }

    async fn response_filter(&self, session: &mut Session, response: &mut ResponseHeader, ctx: &mut Ctx) -> Result<()> {
        if response.status == StatusCode::SWITCHING_PROTOCOLS && !session.is_upgrade_req() {
            // Passed on, it would turn the client's connection into a tunnel that nobody asked for.
            return Err(Error::new_up(ErrorType::InvalidHTTPHeader));
        }
        if response.status == StatusCode::SWITCHING_PROTOCOLS
            && let Some(accepted) = &ctx.accepted
        {
            accepted.exchange.becomes_tunnel();
        }
        if response.status == StatusCode::SWITCHING_PROTOCOLS
            && let Some(key) = ctx.forward.as_ref().and_then(|forward| forward.subprotocol.clone())
            && !response.headers.contains_key(header::SEC_WEBSOCKET_PROTOCOL)
        {
            response.insert_header(header::SEC_WEBSOCKET_PROTOCOL, key)?;
        }
        if let (Some(unsettled), false) = (&mut ctx.unsettled, response.status == StatusCode::CONTINUE) {
            unsettled.status = Some(response.status.as_u16());
        }
        if response.status.is_informational() {
            headers::identify(response, &self.identity(ctx));
            return Ok(());
        }
        if self.probes.is_draining() {
            // Also where draining began after the request was read.
            session.set_keepalive(None);
        }
        let status = response.status.as_u16();
        if self
            .answer_begins(&question(session), status, response, ctx, Instant::now())
            .is_err()
        {
            return Err(Error::new(ErrorType::HTTPStatus(503)));
        }
        if let (Some(cache), Some(_)) = (&self.cache, &ctx.part) {
            cache.answered(&session.cache, response);
        }
        let question = question(session);
        if response.status == StatusCode::SWITCHING_PROTOCOLS {
            self.to_client(&question, status, response, ctx);
        } else {
            in_a_plain_map_of_an_answer(response, |lines| self.to_client(&question, status, lines, ctx));
        }
        Ok(())
    }

    fn upstream_response_body_filter(
        &self,
        _session: &mut Session,
        _body: &mut Option<Bytes>,
        end_of_stream: bool,
        ctx: &mut Ctx,
    ) -> Result<Option<Duration>> {
        let overdue = |forward: &Forwarding| forward.way.is_overdue(&self.upstreams);
        if !end_of_stream && ctx.forward.as_ref().is_some_and(overdue) {
            return Err(Error::new_up(ErrorType::ReadTimedout));
        }
        Ok(None)
    }

    fn response_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        _end_of_stream: bool,
        ctx: &mut Ctx,
    ) -> Result<Option<Duration>> {
        if let (Some(unsettled), Some(body)) = (&mut ctx.unsettled, body) {
            unsettled.bytes_out += body.len() as u64;
        }
        Ok(None)
    }

    async fn fail_to_proxy(&self, session: &mut Session, error: &Error, ctx: &mut Ctx) -> FailToProxy {
        let answered = session
            .response_written()
            .is_some_and(|head| !head.status.is_informational());
        let refusal = self.failed(error, ctx).filter(|_| !answered);
        if let Some(refusal) = refusal
            && self.refuse(session, ctx, refusal, Connection::Close).await.is_err()
        {
            // The client left meanwhile; there is nobody to tell.
            ctx.failure.get_or_insert("WriteError");
        }
        FailToProxy {
            error_code: refusal.map_or(0, Refusal::status),
            can_reuse_downstream: false,
        }
    }

    /// The edge logs and counts by itself; the library's lines would show the query.
    fn suppress_error_log(&self, _session: &Session, _ctx: &Ctx, _error: &Error) -> bool {
        true
    }

    async fn logging(&self, session: &mut Session, _error: Option<&Error>, ctx: &mut Ctx) {
        if !ctx.is_probe && !ctx.in_background {
            let written = session.response_written();
            let closing = Closing {
                method: session.req_header().method.as_str(),
                protocol: protocol(session.req_header().version),
                status: written.map(|head| head.status.as_u16()),
                bytes_in: (ctx.head_bytes + session.body_bytes_read()) as u64,
                bytes_out: (written.map_or(0, head_length) + session.body_bytes_sent()) as u64,
                failure: ctx.failure,
            };
            self.books.close(ctx, &closing, By::Proxy, Instant::now());
        }
        if let Some(accepted) = &ctx.accepted {
            accepted.patience.over();
        }
        ctx.is_over();
    }

    fn request_summary(&self, session: &Session, ctx: &Ctx) -> String {
        format!("{} {}", session.req_header().method, ctx.request_id)
    }
}

/// What the steps want to know of a request.
pub(super) fn question(session: &Session) -> Question<'_> {
    let request = session.req_header();
    Question {
        method: &request.method,
        host: own_host::of(request).as_bytes(),
        protocol: protocol(request.version),
        answered: session.response_written().map(|head| head.status.as_u16()),
        by: By::Proxy,
    }
}

fn replay_of(session: &Session) -> Replay {
    Replay {
        idempotent: session.req_header().method.is_idempotent(),
        replayable: !session.as_ref().retry_buffer_truncated(),
        answered: session.response_written().is_some(),
    }
}

/// The version as traces and the log name it.
fn protocol(version: http::Version) -> &'static str {
    match version {
        http::Version::HTTP_2 => "2",
        http::Version::HTTP_10 => "1.0",
        _ => "1.1",
    }
}

/// The address at the other end of the connection.
fn peer_of(session: &Session) -> Option<IpAddr> {
    session.client_addr()?.as_inet().map(std::net::SocketAddr::ip)
}

/// The length of a head on the wire in HTTP/1.1.
fn head_length(head: &ResponseHeader) -> usize {
    let reason = head.get_reason_phrase().map_or(0, str::len);
    "HTTP/1.1 200 \r\n\r\n".len() + reason + head.wire_bytes()
}

/// Room for the lines that the edge adds to a head.
const ADDED_LINES: usize = 24;

/// Changes the lines of a head in a plain map. The library keeps how each name was spelt in a second one and reads every name
/// anew, and a line costs four times as much with it. Letter case means nothing in names (RFC 9110, section 5.1), and HTTP/2
/// keeps none. The target is to be set anew afterwards.
fn in_a_plain_map<T>(request: &mut RequestHeader, change: impl FnOnce(&mut HeaderMap) -> T) -> T {
    let (none, ()) = http::Request::new(()).into_parts();
    let mut parts = http::request::Parts::from(std::mem::replace(request, none.into()));
    parts.headers.reserve(ADDED_LINES);
    let changed = change(&mut parts.headers);
    *request = parts.into();
    changed
}

/// As [`in_a_plain_map`], for an answer, whose reason stays.
fn in_a_plain_map_of_an_answer(response: &mut ResponseHeader, change: impl FnOnce(&mut HeaderMap)) {
    let canonical = response.status.canonical_reason();
    let reason = response.get_reason_phrase().filter(|reason| Some(*reason) != canonical);
    let reason = reason.map(str::to_owned);
    let (none, ()) = http::Response::new(()).into_parts();
    let mut parts = http::response::Parts::from(std::mem::replace(response, none.into()));
    parts.headers.reserve(ADDED_LINES);
    change(&mut parts.headers);
    *response = parts.into();
    if reason.is_some() {
        // It was one before.
        let _ = response.set_reason_phrase(reason.as_deref());
    }
}
