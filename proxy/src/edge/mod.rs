//! The edge: what its forwarding paths work with, and the path through the forwarding library.
//!
//! Nothing on a warm request waits for anything but the client and the instance.

mod phases;

use std::sync::Arc;

use authsome_core::clock::Clock;
use authsome_core::entropy::Entropy;
use authsome_core::seal::EdgeRing;
use http::{HeaderValue, Version};
use pingora::Result;
use pingora::proxy::Session;

use crate::access_log::AccessLog;
use crate::admin::Probes;
use crate::answer::{self, Connection};
use crate::books::Books;
use crate::cache::ResponseCache;
use crate::config::{Addresses, Limits};
use crate::ctx::Ctx;
use crate::drain::InFlight;
use crate::error::Refusal;
use crate::limit::Limiter;
use crate::live::Live;
use crate::metrics::Metrics;
use crate::routing::Routing;
use crate::trace::Tracing;
use crate::trailers::Trailers;
use crate::upstream::Upstreams;

use phases::question;

/// What the forwarding paths work with. Clones share everything that changes.
#[derive(Clone)]
pub struct Edge {
    /// Who may pass, and where to.
    pub routing: Routing,
    /// Opens the instances' credentials.
    pub seal: Option<Arc<EdgeRing>>,
    /// Bounds on requests.
    pub limits: Limits,
    /// The ways to instances.
    pub upstreams: Arc<Upstreams>,
    /// Bounds on callers.
    pub limiter: Limiter,
    /// Where the edge runs.
    pub region: HeaderValue,
    /// How clients reach the edge.
    pub addresses: Addresses,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// For ids.
    pub entropy: Arc<dyn Entropy>,
    /// Where requests are counted, logged and traced when they are over.
    pub(crate) books: Arc<Books>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// One line for each request.
    pub access_log: AccessLog,
    /// Requests that are being handled.
    pub in_flight: InFlight,
    /// Connections that are closed with their key.
    pub live: Live,
    /// Responses that instances let it keep.
    pub cache: Option<ResponseCache>,
    /// Traces.
    pub tracing: Tracing,
    /// Answers `/health` and `/ready`.
    pub probes: Arc<Probes>,
}

impl Edge {
    async fn refuse(
        &self,
        session: &mut Session,
        ctx: &mut Ctx,
        refusal: Refusal,
        connection: Connection,
    ) -> Result<()> {
        ctx.refusal = Some(refusal);
        self.metrics.refused(refusal);
        answer::refuse(session, refusal, &self.identity(ctx), connection).await
    }

    /// Limits on the connection while this request is on it.
    fn hold(&self, session: &mut Session) {
        session.set_read_timeout(Some(self.limits.client_read));
        session.set_write_timeout(Some(self.limits.client_write));
        if self.probes.is_draining() {
            // The answer says so, and the client opens its next connection elsewhere.
            session.set_keepalive(None);
            return;
        }
        // After the first request the library would wait for the next one without end.
        if session.get_keepalive() == Some(0) {
            session.set_keepalive(Some(self.limits.keepalive.as_secs().max(1)));
        }
    }

    /// An admitted request goes on; true if it was answered instead.
    async fn let_in(&self, session: &mut Session, ctx: &mut Ctx) -> Result<bool> {
        ctx.in_background = session.subrequest_ctx.is_some();
        // In HTTP/2 nothing in the head need say so.
        let has_hidden_body =
            session.req_header().version == Version::HTTP_2 && !session.as_downstream_mut().is_body_done();
        if has_hidden_body {
            self.may_be_abandoned(&question(session), ctx);
        }
        if ctx.forward.as_ref().is_some_and(|forward| forward.way.is_streaming()) {
            // Silent by nature, in both directions.
            session.set_read_timeout(Some(self.upstreams.settings().timeouts.stream_idle));
            if self.list(&question(session), ctx).is_err() {
                // Refused, so neither forwarded nor billed.
                ctx.forward = None;
                self.refuse(session, ctx, Refusal::TooManyStreams, Connection::Keep)
                    .await?;
                return Ok(true);
            }
        }
        if ctx.part.is_none() && !has_hidden_body {
            // With a body the answer may be to that, and be kept for those who send none.
            ctx.part = self.part(&question(session), session.req_header(), ctx);
        }
        if ctx.part.is_none()
            && let (Some(accepted), Some(forward)) = (&ctx.accepted, &mut ctx.forward)
            && let Some(trailers) = Trailers::of(session.req_header())
        {
            accepted.exchange.carry(Arc::clone(&trailers));
            forward.carry(trailers);
        }
        if let Err(refusal) = self.set_out(ctx).await {
            self.refuse(session, ctx, refusal, Connection::Keep).await?;
            return Ok(true);
        }
        Ok(false)
    }
}
