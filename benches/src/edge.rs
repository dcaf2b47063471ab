//! A routing table on its own, without Pingora in front of it.

use std::sync::Arc;
use std::time::Duration;

use authsome_core::clock::{Clock, SystemClock};
use authsome_core::entropy::SeededEntropy;
use authsome_proxy::meter::{Meter, MeterMetrics, MeterSettings};
use authsome_proxy::routing::{self, Backend, Routing, RoutingMetrics, RoutingSettings};
use prometheus::Registry;

use crate::records;

/// A table, and what it needs to exist.
#[derive(Debug)]
pub struct Edge {
    /// The side of the requests.
    pub routing: Routing,
    /// The side of the store; `None` once it runs elsewhere.
    pub backend: Option<Backend>,
    _directory: tempfile::TempDir,
}

impl Edge {
    /// With these settings.
    pub fn new(settings: RoutingSettings) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let registry = Registry::new();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let (meter, _) = Meter::open(
            MeterSettings {
                directory: directory.path().to_owned(),
                capacity: 64,
            },
            Arc::clone(&clock),
            Arc::new(SeededEntropy::new(1)),
            MeterMetrics::register(&registry).unwrap(),
        );
        let metrics = RoutingMetrics::register(&registry).unwrap();
        let (routing, backend) = routing::new(settings, meter, clock, &SeededEntropy::new(2), metrics);
        Self {
            routing,
            backend: Some(backend),
            _directory: directory,
        }
    }

    /// A table that nothing leaves and whose entries stay good without a feed.
    pub fn roomy() -> Self {
        Self::new(roomy())
    }

    /// As [`Self::roomy`], with so many keys and applications in it.
    pub fn filled(keys: u64, apps: u64) -> Self {
        let edge = Self::roomy();
        for n in 0..apps {
            edge.routing.install(records::app(n));
        }
        for n in 0..keys {
            edge.routing.install(records::key(n, apps));
        }
        edge
    }
}

/// Settings of a table that nothing leaves and whose entries stay good without a feed.
pub fn roomy() -> RoutingSettings {
    RoutingSettings {
        keys_bytes: 4 << 30,
        apps_bytes: 4 << 30,
        stale_bound: Duration::from_hours(10),
        ..RoutingSettings::default()
    }
}
