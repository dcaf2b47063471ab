//! Traces: which one a request belongs to, and where its spans go.
//!
//! Owns W3C Trace Context on the way through the edge and the export of spans over OTLP, which is off unless
//! `traces.otlp_endpoint` is set. A collector that is away costs spans, which are counted; a request never waits for it.

mod context;
mod export;
mod span;
mod timeline;

use authsome_core::clock::Clock;
use authsome_core::config::Reader;
use authsome_core::entropy::Entropy;
use authsome_core::id::RequestId;
use authsome_core::secret::SecretUrl;

use crate::filter::lines::Fields;
use crate::filter::name::{Name, name};

/// `traceparent`.
pub static TRACEPARENT: Name = name!("traceparent");
/// `tracestate`.
pub static TRACESTATE: Name = name!("tracestate");

pub use context::{Parent, Ratio, Trace, is_state, parse};
pub use export::{Exporter, ExporterError, Spans, TraceMetrics};
pub use span::{Finished, Upstream};
pub use timeline::Timeline;

/// How the edge traces.
#[derive(Debug, Clone)]
pub struct Tracing {
    /// Which traces that begin here are recorded.
    pub ratio: Ratio,
    /// Where finished requests go.
    pub spans: Spans,
}

impl Tracing {
    /// The trace of a request: that of its `traceparent` if there is exactly one and it is valid, or one of its own.
    pub fn of(&self, headers: &impl Fields, request_id: RequestId, entropy: &dyn Entropy) -> Trace {
        let mut given = headers.all(&TRACEPARENT);
        let parent = match (given.next(), given.next()) {
            (Some(value), None) => parse(value),
            _ => None,
        };
        let spans = [entropy.next_u64(), entropy.next_u64()];
        let is_recording = self.spans.is_enabled();
        Trace::continued(parent, request_id.uuid().as_u128(), spans, |id| {
            is_recording && self.ratio.samples(id)
        })
    }

    /// Hands over a finished request, if it is to be recorded.
    pub fn finished(&self, trace: Option<Trace>, clock: &dyn Clock, describe: impl FnOnce(Trace, i128) -> Finished) {
        if let Some(trace) = trace.filter(|trace| self.records(trace)) {
            self.spans.record(describe(trace, clock.now().unix_timestamp_nanos()));
        }
    }

    /// Is it recorded here?
    pub fn records(&self, trace: &Trace) -> bool {
        trace.is_sampled && self.spans.is_enabled()
    }
}

/// `traces.*`.
#[derive(Debug, Clone)]
pub struct TraceConfig {
    /// `traces.otlp_endpoint`: the collector's base address for OTLP over HTTP; without it nothing is exported.
    pub endpoint: Option<SecretUrl>,
    /// `traces.sample_ratio`: share of the traces that begin at the edge which is recorded.
    pub ratio: Ratio,
}

impl TraceConfig {
    /// Reads the settings.
    pub fn read(reader: &mut Reader) -> Option<Self> {
        let endpoint: Option<SecretUrl> = reader.optional("traces.otlp_endpoint");
        let known = endpoint
            .as_ref()
            .is_none_or(|url| matches!(url.scheme(), "http" | "https"));
        reader.check("traces.otlp_endpoint", known, "must begin with http:// or https://");
        let share = reader.or("traces.sample_ratio", 0.01);
        let ratio = Ratio::new(share);
        reader.check("traces.sample_ratio", ratio.is_some(), "must be 0 to 1");
        Some(Self {
            endpoint,
            ratio: ratio?,
        })
    }
}
