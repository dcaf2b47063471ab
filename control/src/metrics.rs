//! What Prometheus is told of this program.

use std::time::Duration;

use authsome_core::telemetry::{self, TelemetryError};
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry};
use sqlx::PgPool;

/// Upper bounds in seconds. Most answers take a few milliseconds; a sign-in tens.
const BUCKETS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

/// The registry, and what the API counts.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    durations: HistogramVec,
    connections: IntGaugeVec,
}

impl Metrics {
    /// Registers everything once.
    pub fn new() -> Result<Self, TelemetryError> {
        let registry = telemetry::registry("authsome-control", env!("CARGO_PKG_VERSION"))?;
        let requests = IntCounterVec::new(
            Opts::new(
                "authsome_control_http_requests_total",
                "Requests answered, by route template and class of status",
            ),
            &["route", "method", "status"],
        )?;
        let durations = HistogramVec::new(
            HistogramOpts::new(
                "authsome_control_http_request_duration_seconds",
                "Time until the head of the answer",
            )
            .buckets(BUCKETS.to_vec()),
            &["route", "method"],
        )?;
        let connections = IntGaugeVec::new(
            Opts::new(
                "authsome_control_database_connections",
                "Connections of the pool to the control database",
            ),
            &["state"],
        )?;
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(durations.clone()))?;
        registry.register(Box::new(connections.clone()))?;
        Ok(Self {
            registry,
            requests,
            durations,
            connections,
        })
    }

    /// Where other parts register what they count.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Counts an answer. The route is a template from our own table, never what a client wrote.
    pub fn answered(&self, route: &str, method: &str, status: u16, took: Duration) {
        let class = match status / 100 {
            1 => "1xx",
            2 => "2xx",
            3 => "3xx",
            4 => "4xx",
            _ => "5xx",
        };
        self.requests.with_label_values(&[route, method, class]).inc();
        self.durations
            .with_label_values(&[route, method])
            .observe(took.as_secs_f64());
    }

    /// Everything in Prometheus' text format.
    pub fn encode(&self, pool: &PgPool) -> String {
        let (size, idle) = (
            i64::from(pool.size()),
            i64::try_from(pool.num_idle()).unwrap_or(i64::MAX),
        );
        self.connections.with_label_values(&["idle"]).set(idle);
        self.connections
            .with_label_values(&["used"])
            .set(size.saturating_sub(idle).max(0));
        telemetry::encode(&self.registry)
    }
}
