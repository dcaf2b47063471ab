//! Spans on their way to a collector: OTLP over HTTP in its JSON form (<https://opentelemetry.io/docs/specs/otlp/>).
//!
//! Owns a bounded queue and the task that empties it. What finds the queue full, and what a collector does not take within the
//! timeout, is dropped and counted; one retry is made where the collector says that it is worth it. Nothing waits for it.

use std::time::Duration;

use authsome_core::secret::SecretUrl;
use http::{HeaderValue, Method, header};
use pingora::connectors::http::v1::Connector;
use pingora::http::RequestHeader;
use pingora::upstreams::peer::HttpPeer;
use prometheus::{IntCounter, IntCounterVec, Opts, Registry};
use serde_json::json;
use tokio::sync::{mpsc, watch};
use url::Url;

use super::span::{Finished, text};

/// Requests whose spans may wait: a few seconds of a busy edge at the default ratio, 4 MiB at most.
const QUEUE: usize = 8_192;
/// Requests in one message.
const BATCH: usize = 512;
/// How long a batch may wait to be filled.
const PAUSE: Duration = Duration::from_secs(1);
/// For one message to the collector, with connecting.
const TIMEOUT: Duration = Duration::from_secs(5);
/// For the last message, when the edge stops.
const LAST: Duration = Duration::from_secs(2);

/// Why the exporter cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum ExporterError {
    /// The endpoint names no host.
    #[error("traces.otlp_endpoint names no host")]
    Endpoint,
}

/// Why a batch was not delivered.
#[derive(Debug, thiserror::Error)]
enum SendError {
    #[error("the collector's name cannot be resolved")]
    Name(#[from] std::io::Error),
    #[error("the collector's name has no address")]
    NoAddress,
    #[error("the collector cannot be reached")]
    Http(#[from] Box<pingora::Error>),
    #[error("the collector did not answer in time")]
    Timeout,
    #[error("the collector answered {0}")]
    Status(u16),
}

impl SendError {
    /// Statuses that OTLP declares as such; and a connection that failed.
    fn is_worth_a_retry(&self) -> bool {
        matches!(self, Self::Status(429 | 502 | 503 | 504) | Self::Http(_))
    }
}

/// What the exporter counts.
#[derive(Debug, Clone)]
pub struct TraceMetrics {
    exported: IntCounter,
    queue_full: IntCounter,
    undelivered: IntCounter,
}

impl TraceMetrics {
    /// Registers them.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let traces = IntCounterVec::new(
            Opts::new(
                "authsome_edge_traces_total",
                "Recorded requests by what became of their spans",
            ),
            &["outcome"],
        )?;
        registry.register(Box::new(traces.clone()))?;
        Ok(Self {
            exported: traces.with_label_values(&["exported"]),
            queue_full: traces.with_label_values(&["queue_full"]),
            undelivered: traces.with_label_values(&["undelivered"]),
        })
    }
}

/// Where finished requests are handed over.
#[derive(Debug, Clone)]
pub struct Spans {
    queue: Option<mpsc::Sender<Finished>>,
    metrics: TraceMetrics,
}

impl Spans {
    /// Nothing is exported.
    pub fn disabled(metrics: TraceMetrics) -> Self {
        Self { queue: None, metrics }
    }

    /// Is a finished request worth describing?
    pub fn is_enabled(&self) -> bool {
        self.queue.is_some()
    }

    /// Hands a request over; never waits.
    pub fn record(&self, finished: Finished) {
        let Some(queue) = &self.queue else { return };
        if queue.try_send(finished).is_err() {
            self.metrics.queue_full.inc();
        }
    }
}

/// Sends spans to a collector.
pub struct Exporter {
    queue: mpsc::Receiver<Finished>,
    collector: Collector,
    metrics: TraceMetrics,
    resource: serde_json::Value,
}

struct Collector {
    connector: Connector,
    host: String,
    port: u16,
    tls: bool,
    path: String,
    authority: String,
}

impl Exporter {
    /// To this collector, in the name of this edge.
    pub fn new(
        endpoint: &SecretUrl,
        edge: &str,
        region: &str,
        metrics: TraceMetrics,
    ) -> Result<(Spans, Self), ExporterError> {
        let url = Url::parse(endpoint.expose()).map_err(|_| ExporterError::Endpoint)?;
        let host = url.host_str().ok_or(ExporterError::Endpoint)?.to_owned();
        let port = url.port_or_known_default().ok_or(ExporterError::Endpoint)?;
        let collector = Collector {
            connector: Connector::new(None),
            path: format!("{}/v1/traces", url.path().trim_end_matches('/')),
            authority: format!("{host}:{port}"),
            tls: url.scheme() == "https",
            // Brackets belong to the URL, not to the address.
            host: host.trim_matches(['[', ']']).to_owned(),
            port,
        };
        let resource = json!({"attributes": [
            text("service.name", "authsome-proxy"),
            text("service.version", env!("CARGO_PKG_VERSION")),
            text("service.instance.id", edge),
            text("cloud.region", region),
        ]});
        let (sender, queue) = mpsc::channel(QUEUE);
        let spans = Spans {
            queue: Some(sender),
            metrics: metrics.clone(),
        };
        let exporter = Self {
            queue,
            collector,
            metrics,
            resource,
        };
        Ok((spans, exporter))
    }

    /// Sends until `stop`, and then what is left.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut batch = Vec::with_capacity(BATCH);
        let mut is_away = false;
        loop {
            let stopping = tokio::select! {
                _ = stop.wait_for(|stop| *stop) => true,
                () = fill(&mut self.queue, &mut batch) => false,
            };
            if stopping {
                while batch.len() < BATCH
                    && let Ok(finished) = self.queue.try_recv()
                {
                    batch.push(finished);
                }
            }
            if !batch.is_empty() {
                let limit = if stopping { LAST } else { TIMEOUT };
                self.deliver(&mut batch, limit, &mut is_away).await;
            }
            if stopping {
                return;
            }
        }
    }

    async fn deliver(&self, batch: &mut Vec<Finished>, limit: Duration, is_away: &mut bool) {
        let count = batch.len() as u64;
        let spans: Vec<_> = batch.drain(..).flat_map(|finished| finished.spans()).collect();
        let message = json!({"resourceSpans": [{
            "resource": self.resource,
            "scopeSpans": [{"scope": {"name": "authsome-proxy"}, "spans": spans}],
        }]});
        let body = message.to_string();
        let mut sent = self.collector.post(body.as_bytes(), limit).await;
        if sent.as_ref().is_err_and(SendError::is_worth_a_retry) {
            sent = self.collector.post(body.as_bytes(), limit).await;
        }
        match sent {
            Ok(()) => {
                self.metrics.exported.inc_by(count);
                if std::mem::take(is_away) {
                    tracing::info!("the collector takes spans again");
                }
            }
            Err(error) => {
                self.metrics.undelivered.inc_by(count);
                // Once, not for every batch.
                if !std::mem::replace(is_away, true) {
                    tracing::warn!(%error, "spans are lost: the collector does not take them");
                }
            }
        }
    }
}

/// Waits for a first request, and then a moment for others.
async fn fill(queue: &mut mpsc::Receiver<Finished>, batch: &mut Vec<Finished>) {
    if queue.recv_many(batch, BATCH).await == 0 {
        // Nobody records any more; only the stop is awaited.
        std::future::pending::<()>().await;
    }
    let more = async {
        while batch.len() < BATCH {
            let room = BATCH - batch.len();
            if queue.recv_many(batch, room).await == 0 {
                return;
            }
        }
    };
    // However it ends, what is there is sent.
    let _ = tokio::time::timeout(PAUSE, more).await;
}

impl Collector {
    async fn post(&self, body: &[u8], limit: Duration) -> Result<(), SendError> {
        tokio::time::timeout(limit, self.exchange(body))
            .await
            .map_err(|_| SendError::Timeout)?
    }

    async fn exchange(&self, body: &[u8]) -> Result<(), SendError> {
        let address = tokio::net::lookup_host((self.host.as_str(), self.port))
            .await?
            .next()
            .ok_or(SendError::NoAddress)?;
        let peer = HttpPeer::new(address, self.tls, self.host.clone());
        let mut request = RequestHeader::build(Method::POST, self.path.as_bytes(), Some(4))?;
        request.insert_header(header::HOST, self.authority.as_str())?;
        request.insert_header(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))?;
        request.insert_header(header::CONTENT_LENGTH, body.len())?;
        let (mut session, _reused) = self.connector.get_http_session(&peer).await?;
        session.write_request_header(Box::new(request)).await?;
        session.write_body(body).await?;
        session.finish_body().await?;
        session.read_response().await?;
        let status = session.get_status().map_or(0, |status| status.as_u16());
        while session.read_body_ref().await?.is_some() {}
        self.connector.release_http_session(session, &peer, Some(TIMEOUT)).await;
        if (200..300).contains(&status) {
            Ok(())
        } else {
            Err(SendError::Status(status))
        }
    }
}
