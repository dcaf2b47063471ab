//! The last thing that happens to a request: it is counted, logged and traced, whoever forwarded it and however it ended.
//!
//! Nothing here waits or fails; what the log or the collector cannot take is lost and counted there.

use std::sync::Arc;
use std::time::Instant;

use authsome_core::clock::Clock;

use crate::access_log::{AccessLog, Line};
use crate::ctx::Ctx;
use crate::meter::Tally;
use crate::metrics::{self, By, Metrics};
use crate::trace::{Finished, Tracing};

/// Of a method, in the log.
const METHOD_SHOWN: usize = 16;

/// Where requests are counted, logged and traced.
pub(crate) struct Books {
    /// Counters.
    pub(crate) metrics: Arc<Metrics>,
    /// One line for each request.
    pub(crate) access_log: AccessLog,
    /// The time.
    pub(crate) clock: Arc<dyn Clock>,
    /// Traces.
    pub(crate) tracing: Tracing,
}

/// How a request ended.
#[derive(Debug)]
pub(crate) struct Closing<'a> {
    /// Its method.
    pub(crate) method: &'a str,
    /// `1.1`, `2`.
    pub(crate) protocol: &'static str,
    /// The status of the answer; `None` if there was none.
    pub(crate) status: Option<u16>,
    /// Head and body from the client.
    pub(crate) bytes_in: u64,
    /// Head and body to the client.
    pub(crate) bytes_out: u64,
    /// What failed.
    pub(crate) failure: Option<&'static str>,
}

impl Books {
    /// Counts, logs and traces a request that ended then. To be called once for each.
    pub(crate) fn close(&self, ctx: &Ctx, closing: &Closing<'_>, by: By, ended: Instant) {
        let &Closing {
            protocol,
            status,
            bytes_in,
            bytes_out,
            failure,
            ..
        } = closing;
        let took = ended.saturating_duration_since(ctx.began);
        self.metrics.handled(by);
        self.metrics.answered(status, took, bytes_in, bytes_out);
        let own = ctx.timeline.own(ctx.began, took);
        let tries = ctx.forward.as_ref().map_or(0, |forward| forward.way.tries());
        let upstream = ctx.timeline.upstream(ctx.began, took, tries);
        self.metrics.split(own, upstream.as_ref());
        if let Some(forward) = &ctx.forward {
            // The request itself was counted when it was admitted.
            let tally = Tally {
                requests: 0,
                errors: u64::from(status.is_some_and(metrics::is_error)),
                bytes_in,
                bytes_out,
            };
            forward.admission.app.usage.count(ctx.unix_ms_at(ended), tally);
        }
        let key = ctx.forward.as_ref().and_then(|forward| forward.admission.key.as_ref());
        let key = key.map(|key| key.record.id);
        let method = || closing.method.chars().take(METHOD_SHOWN).collect();
        self.tracing
            .finished(ctx.timeline.trace, &*self.clock, |trace, ended_ns| Finished {
                trace,
                ended_ns,
                took,
                request_id: ctx.request_id,
                app: ctx.app_id,
                key,
                method: method(),
                path: ctx.path.clone(),
                protocol,
                status,
                error: failure.or(ctx.refusal.map(metrics::label)),
                client: ctx.client.address,
                upstream,
            });
        if self.access_log.is_enabled() {
            self.access_log.write(Line {
                request_id: ctx.request_id,
                trace_id: ctx.timeline.trace.map(|trace| trace.trace_id),
                app: ctx.app_id,
                key,
                method: method(),
                protocol,
                path: ctx.path.clone(),
                status,
                refusal: ctx.refusal.map(metrics::label),
                took,
                own,
                upstream: upstream.map(|upstream| upstream.waited),
                bytes_in,
                bytes_out,
                peer: ctx.client.address,
                tries,
                failure,
            });
        }
    }
}
