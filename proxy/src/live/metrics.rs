//! What is measured of live connections.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// Why live connections were closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The key is revoked, disabled or gone.
    Key,
    /// The key is past its time.
    Expired,
    /// The application does not serve any more.
    Application,
    /// The application is strict, and the edge went too long without word from control.
    Unvouched,
    /// The edge stops.
    Stopping,
}

impl Ended {
    const ALL: [Self; 5] = [
        Self::Key,
        Self::Expired,
        Self::Application,
        Self::Unvouched,
        Self::Stopping,
    ];

    /// In metrics and log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Expired => "expired",
            Self::Application => "application",
            Self::Unvouched => "unvouched",
            Self::Stopping => "stopping",
        }
    }
}

/// The metrics. Clones count together.
#[derive(Debug, Clone)]
pub struct LiveMetrics {
    connections: IntGauge,
    closed: [IntCounter; 5],
    refused: IntCounter,
}

impl LiveMetrics {
    /// Registers them.
    ///
    /// # Errors
    /// If a metric of the same name is registered.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let connections = IntGauge::new(
            "authsome_edge_live_connections",
            "Upgraded connections and event streams that are open",
        )?;
        let closed = IntCounterVec::new(
            Opts::new(
                "authsome_edge_live_closed_total",
                "Live connections closed because their key or application no longer lets them in",
            ),
            &["reason"],
        )?;
        let refused = IntCounter::new(
            "authsome_edge_live_refused_total",
            "Upgrades and event streams refused because too many were open",
        )?;
        registry.register(Box::new(connections.clone()))?;
        registry.register(Box::new(closed.clone()))?;
        registry.register(Box::new(refused.clone()))?;
        Ok(Self {
            connections,
            closed: Ended::ALL.map(|why| closed.with_label_values(&[why.as_str()])),
            refused,
        })
    }

    pub(super) fn count(&self, now: usize) {
        self.connections.set(i64::try_from(now).unwrap_or(i64::MAX));
    }

    #[cfg(test)]
    pub(super) fn connections(&self) -> i64 {
        self.connections.get()
    }

    pub(super) fn ended(&self, why: Ended, connections: usize) {
        self.closed[why as usize].inc_by(connections as u64);
    }

    pub(super) fn refused(&self) {
        self.refused.inc();
    }
}
