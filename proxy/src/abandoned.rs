//! Requests that end without passing their last phase, because the stream that carries them was taken away: a revoked key's
//! stream of HTTP/2, or a connection whose instance takes no bytes.
//!
//! They are counted and logged like any other, when what is known of them is dropped.

use std::net::IpAddr;
use std::sync::Arc;

use authsome_core::clock::Clock;

use crate::access_log::{AccessLog, Line};
use crate::ctx::Ctx;
use crate::meter::Tally;
use crate::metrics::{self, Metrics};

/// Where requests are counted and logged.
pub(crate) struct Books {
    /// Counters.
    pub(crate) metrics: Arc<Metrics>,
    /// One line for each request.
    pub(crate) access_log: AccessLog,
    /// The time.
    pub(crate) clock: Arc<dyn Clock>,
}

/// What would be lost of a request with its stream.
pub(crate) struct Unsettled {
    /// Where it is counted.
    pub(crate) books: Books,
    /// Its method.
    pub(crate) method: String,
    /// `1.1`, `2`.
    pub(crate) protocol: &'static str,
    /// The client's address.
    pub(crate) peer: Option<IpAddr>,
    /// The status of the answer, once there is one.
    pub(crate) status: Option<u16>,
    /// Of the body of the answer, so far.
    pub(crate) bytes_out: u64,
}

impl std::fmt::Debug for Unsettled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unsettled")
            .field("method", &self.method)
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

impl Unsettled {
    /// Counts and logs the request.
    fn settle(self, ctx: &Ctx) {
        let took = ctx.began.elapsed();
        let body = ctx.forward.as_ref().map_or(0, |forward| forward.body_bytes);
        let bytes_in = ctx.head_bytes as u64 + body;
        self.books.metrics.answered(self.status, took, bytes_in, self.bytes_out);
        if let Some(forward) = &ctx.forward {
            let tally = Tally {
                requests: 0,
                errors: u64::from(self.status.is_some_and(metrics::is_error)),
                bytes_in,
                bytes_out: self.bytes_out,
            };
            forward.admission.app.usage.count(self.books.clock.unix_millis(), tally);
        }
        if self.books.access_log.is_enabled() {
            let key = ctx.forward.as_ref().and_then(|forward| forward.admission.key.as_ref());
            let ended = ctx
                .accepted
                .as_ref()
                .is_some_and(|accepted| accepted.switch.is_thrown());
            let tries = ctx.forward.as_ref().map_or(0, |forward| forward.way.tries());
            self.books.access_log.write(Line {
                request_id: ctx.request_id,
                trace_id: ctx.timeline.trace.map(|trace| trace.trace_id),
                protocol: self.protocol,
                own: ctx.timeline.own(ctx.began, took),
                upstream: ctx
                    .timeline
                    .upstream(ctx.began, took, tries)
                    .map(|upstream| upstream.waited),
                app: ctx.app_id,
                key: key.map(|key| key.record.id),
                method: self.method,
                path: ctx.path.clone(),
                status: self.status,
                refusal: ctx.refusal.map(metrics::label),
                took,
                bytes_in,
                bytes_out: self.bytes_out,
                peer: self.peer,
                tries,
                failure: Some(if ended { "NoLongerAllowed" } else { "Abandoned" }),
            });
        }
    }
}

impl Drop for Ctx {
    fn drop(&mut self) {
        if let Some(unsettled) = self.unsettled.take() {
            unsettled.settle(self);
        }
    }
}
