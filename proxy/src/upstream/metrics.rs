//! What the way to instances counts. No label names an application or an address.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use super::health::{Change, Outcome};
use super::retry::Next;

const CHANGES: [&str; 3] = ["ejected", "half_opened", "returned"];
const RETRIES: [&str; 3] = ["elsewhere", "fresh", "refused_by_budget"];
const PROBES: [&str; 3] = ["answered", "failed", "unknown"];
const RESOLUTIONS: [&str; 3] = ["answered", "empty", "failed"];
const SHED: [&str; 2] = ["requests", "streams"];

/// The counters.
#[derive(Debug)]
pub struct UpstreamMetrics {
    changes: [IntCounter; 3],
    retries: [IntCounter; 3],
    probes: [IntCounter; 3],
    pub(super) resolutions: [IntCounter; 3],
    pub(super) shed: [IntCounter; 2],
    pub(super) applications: IntGauge,
    pub(super) names: IntGauge,
    pub(super) ejected: IntGauge,
}

impl UpstreamMetrics {
    /// Registers them.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let family = |name: &str, help: &str, label: &str| {
            let family = IntCounterVec::new(Opts::new(name, help), &[label])?;
            registry.register(Box::new(family.clone()))?;
            Ok::<_, prometheus::Error>(family)
        };
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let changes = family(
            "authsome_edge_upstream_changes_total",
            "Endpoints that were left out of the turns, and came back",
            "change",
        )?;
        let retries = family(
            "authsome_edge_upstream_retries_total",
            "Failed attempts that were followed by another, and those that the budget forbade",
            "outcome",
        )?;
        let probes = family(
            "authsome_edge_upstream_probes_total",
            "Probes of ejected endpoints",
            "outcome",
        )?;
        let resolutions = family(
            "authsome_edge_upstream_resolutions_total",
            "Names of services that were resolved",
            "outcome",
        )?;
        let shed = family(
            "authsome_edge_upstream_shed_total",
            "Requests refused because their application had as many as it may",
            "kind",
        )?;
        Ok(Self {
            changes: CHANGES.map(|label| changes.with_label_values(&[label])),
            retries: RETRIES.map(|label| retries.with_label_values(&[label])),
            probes: PROBES.map(|label| probes.with_label_values(&[label])),
            resolutions: RESOLUTIONS.map(|label| resolutions.with_label_values(&[label])),
            shed: SHED.map(|label| shed.with_label_values(&[label])),
            applications: gauge(
                "authsome_edge_upstream_applications",
                "Applications whose endpoints are remembered",
            )?,
            names: gauge("authsome_edge_upstream_names", "Names of services that are followed")?,
            ejected: gauge(
                "authsome_edge_upstream_ejected",
                "Endpoints that are left out of the turns",
            )?,
        })
    }

    pub(super) fn changed(&self, change: Change) {
        self.changes[change as usize].inc();
    }

    pub(super) fn retried(&self, next: Next) {
        let index = match next {
            Next::Elsewhere => 0,
            Next::Fresh => 1,
        };
        self.retries[index].inc();
    }

    pub(super) fn refused_by_budget(&self) {
        self.retries[2].inc();
    }

    pub(super) fn probed(&self, outcome: Outcome) {
        self.probes[outcome as usize].inc();
    }
}
