//! Probes and metrics.
//!
//! Owns the admin port (`/livez`, `/readyz`, `/metrics`, `/stats`) and the two probes on the traffic port (`/health`,
//! `/ready`). Alive is who answers. Ready is who can decide: the whole routing table was loaded once, from whatever source, and
//! the edge is not about to stop. Ready stays on when every source goes away later: the edge serves what it knows.

use std::sync::Arc;

use async_trait::async_trait;
use authsome_core::lifecycle::Shutdown;
use authsome_core::telemetry::{self, METRICS_CONTENT_TYPE};
use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};
use pingora::Result;
use pingora::apps::http_app::ServeHttp;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::http::ServerSession;
use prometheus::Registry;

use crate::drain::InFlight;
use crate::metrics::Metrics;
use crate::routing::Routing;

const ALIVE: &[u8] = b"{\"status\":\"ok\"}";
const READY: &[u8] = b"{\"status\":\"ready\"}";
const STARTING: &[u8] = b"{\"status\":\"starting\"}";
const DRAINING: &[u8] = b"{\"status\":\"draining\"}";

const HEALTH: &[u8] = b"/health";
const READINESS: &[u8] = b"/ready";

/// Is this the target of a probe on the traffic port?
pub(crate) fn is_probe(target: &[u8]) -> bool {
    matches!(target, HEALTH | READINESS)
}

/// What the probes answer.
pub struct Probes {
    shutdown: Shutdown,
    routing: Routing,
}

impl Probes {
    /// Of this process and this table.
    pub fn new(shutdown: Shutdown, routing: Routing) -> Self {
        Self { shutdown, routing }
    }

    /// Is the edge about to stop?
    pub fn is_draining(&self) -> bool {
        self.shutdown.is_draining()
    }

    fn readiness(&self) -> (StatusCode, &'static [u8]) {
        if self.is_draining() {
            return (StatusCode::SERVICE_UNAVAILABLE, DRAINING);
        }
        if self.routing.loaded_from().is_none() {
            return (StatusCode::SERVICE_UNAVAILABLE, STARTING);
        }
        (StatusCode::OK, READY)
    }

    /// The answer to a probe on the traffic port, if this is one.
    pub fn on_traffic_port(&self, request: &RequestHeader) -> Result<Option<(ResponseHeader, Bytes)>> {
        let (status, body) = match request.raw_path() {
            HEALTH => (StatusCode::OK, ALIVE),
            READINESS => self.readiness(),
            _ => return Ok(None),
        };
        if request.method != Method::GET && request.method != Method::HEAD {
            return Ok(None);
        }
        Ok(Some((
            ResponseHeader::build_no_case(status, Some(6))?,
            Bytes::from_static(body),
        )))
    }
}

/// The application on the admin port.
pub struct Admin {
    probes: Arc<Probes>,
    registry: Registry,
    metrics: Arc<Metrics>,
    in_flight: InFlight,
}

impl Admin {
    /// Serves these.
    pub fn new(probes: Arc<Probes>, registry: Registry, metrics: Arc<Metrics>, in_flight: InFlight) -> Self {
        Self {
            probes,
            registry,
            metrics,
            in_flight,
        }
    }

    fn answer(&self, method: &Method, path: &[u8]) -> (StatusCode, &'static str, Vec<u8>) {
        const JSON: &str = "application/json";
        let (status, content_type, body) = match path {
            b"/livez" => (StatusCode::OK, JSON, ALIVE.to_vec()),
            b"/readyz" => {
                let (status, body) = self.probes.readiness();
                (status, JSON, body.to_vec())
            }
            b"/metrics" => {
                self.metrics.observe(self.in_flight.count());
                (
                    StatusCode::OK,
                    METRICS_CONTENT_TYPE,
                    telemetry::encode(&self.registry).into_bytes(),
                )
            }
            b"/stats" => match serde_json::to_vec(&self.probes.routing.stats()) {
                Ok(body) => (StatusCode::OK, JSON, body),
                Err(error) => {
                    tracing::error!(%error, "cannot write the routing statistics");
                    (StatusCode::INTERNAL_SERVER_ERROR, JSON, Vec::new())
                }
            },
            _ => return (StatusCode::NOT_FOUND, JSON, Vec::new()),
        };
        match *method {
            Method::GET => (status, content_type, body),
            Method::HEAD => (status, content_type, Vec::new()),
            _ => (StatusCode::METHOD_NOT_ALLOWED, JSON, Vec::new()),
        }
    }
}

#[async_trait]
impl ServeHttp for Admin {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let request = session.req_header();
        let (status, content_type, body) = self.answer(&request.method, request.raw_path());
        let length = HeaderValue::from(body.len());
        let mut response = Response::new(body);
        *response.status_mut() = status;
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        response.headers_mut().insert(header::CONTENT_LENGTH, length);
        response
    }
}
