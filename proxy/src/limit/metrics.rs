//! What limits have done, for `/metrics`. Looked up once, at start.

use authsome_contract::model::Plan;
use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// The counters.
#[derive(Debug)]
pub struct LimitMetrics {
    key: IntCounter,
    application: IntCounter,
    keyless_address: IntCounter,
    refusals_address: IntCounter,
    month: IntCounter,
    shed: [IntCounter; 4],
    /// Connections that were closed when they were accepted, because their address had as many as it may.
    pub connections_refused: IntCounter,
    pub(super) edges: IntGauge,
    pub(super) leasing: IntGauge,
    pub(super) leases: IntGauge,
    pub(super) failures: IntCounter,
    pub(super) left_out: IntCounter,
}

/// By which limit a request was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Limited {
    Key,
    Application,
    KeylessAddress,
    RefusalsAddress,
    Month,
}

impl LimitMetrics {
    /// Registers them.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let family = |name: &str, help: &str, label: &str| {
            let family = IntCounterVec::new(Opts::new(name, help), &[label])?;
            registry.register(Box::new(family.clone()))?;
            Ok::<_, prometheus::Error>(family)
        };
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let limited = family("authsome_edge_limited_total", "Requests answered with 429", "by")?;
        let shed = family(
            "authsome_edge_shed_total",
            "Requests answered with 503 because too many were under way",
            "plan",
        )?;
        Ok(Self {
            key: limited.with_label_values(&["key"]),
            application: limited.with_label_values(&["application"]),
            keyless_address: limited.with_label_values(&["keyless_address"]),
            refusals_address: limited.with_label_values(&["refusals_address"]),
            month: limited.with_label_values(&["month"]),
            shed: ["unknown", "free", "pro", "enterprise"].map(|plan| shed.with_label_values(&[plan])),
            connections_refused: counter(
                "authsome_edge_connections_refused_total",
                "Connections closed at once because their address had as many as it may",
            )?,
            edges: gauge(
                "authsome_edge_limit_edges",
                "Edges that share the rate limits, as this one knows",
            )?,
            leasing: gauge(
                "authsome_edge_limit_leasing",
                "1 while shares of rate limits can be leased from Redis",
            )?,
            leases: gauge(
                "authsome_edge_limit_leases",
                "Keys and applications whose share is negotiated",
            )?,
            failures: counter(
                "authsome_edge_limit_lease_failures_total",
                "Rounds of negotiation that Redis did not answer",
            )?,
            left_out: counter(
                "authsome_edge_limit_left_out_total",
                "Active keys and applications that found no place in the negotiation",
            )?,
        })
    }

    pub(super) fn limited(&self, by: Limited) {
        match by {
            Limited::Key => &self.key,
            Limited::Application => &self.application,
            Limited::KeylessAddress => &self.keyless_address,
            Limited::RefusalsAddress => &self.refusals_address,
            Limited::Month => &self.month,
        }
        .inc();
    }

    /// A request of this plan (`None`: nobody looked yet) was turned away.
    pub(super) fn shed(&self, plan: Option<Plan>) {
        let index = match plan {
            None => 0,
            Some(Plan::Free) => 1,
            Some(Plan::Pro) => 2,
            Some(Plan::Enterprise) => 3,
        };
        self.shed[index].inc();
    }
}
