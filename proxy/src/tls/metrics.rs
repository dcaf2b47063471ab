//! What is measured of TLS.

use prometheus::{IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry};

/// How a handshake ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Ok,
    Failed,
    Timeout,
}

/// The metrics. Clones count together.
#[derive(Debug, Clone)]
pub struct TlsMetrics {
    handshakes: [IntCounter; 3],
    unknown_names: IntCounter,
    reloads: [IntCounter; 2],
    not_after: IntGaugeVec,
}

impl TlsMetrics {
    /// Registers them.
    ///
    /// # Errors
    /// If a metric of the same name is registered.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let handshakes = IntCounterVec::new(
            Opts::new("authsome_edge_tls_handshakes_total", "TLS handshakes by outcome"),
            &["outcome"],
        )?;
        let unknown_names = IntCounter::new(
            "authsome_edge_tls_unknown_names_total",
            "TLS handshakes for a name that no certificate has",
        )?;
        let reloads = IntCounterVec::new(
            Opts::new("authsome_edge_tls_reloads_total", "Certificates read by outcome"),
            &["outcome"],
        )?;
        // As many as there are files, which the operator puts there.
        let not_after = IntGaugeVec::new(
            Opts::new(
                "authsome_edge_tls_certificate_not_after_seconds",
                "End of each certificate's life, seconds since the Unix epoch",
            ),
            &["certificate"],
        )?;
        registry.register(Box::new(handshakes.clone()))?;
        registry.register(Box::new(unknown_names.clone()))?;
        registry.register(Box::new(reloads.clone()))?;
        registry.register(Box::new(not_after.clone()))?;
        Ok(Self {
            handshakes: ["ok", "failed", "timeout"].map(|outcome| handshakes.with_label_values(&[outcome])),
            unknown_names,
            reloads: ["ok", "failed"].map(|outcome| reloads.with_label_values(&[outcome])),
            not_after,
        })
    }

    pub(super) fn handshake(&self, outcome: Outcome) {
        self.handshakes[outcome as usize].inc();
    }

    pub(super) fn unknown_name(&self) {
        self.unknown_names.inc();
    }

    pub(super) fn reloaded(&self, usable: bool) {
        self.reloads[usize::from(!usable)].inc();
    }

    pub(super) fn not_after(&self, certificate: &str, seconds: i64) {
        self.not_after.with_label_values(&[certificate]).set(seconds);
    }

    pub(super) fn gone(&self, certificate: &str) {
        // It may never have been set.
        let _ = self.not_after.remove_label_values(&[certificate]);
    }
}
