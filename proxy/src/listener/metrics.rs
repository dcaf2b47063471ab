//! What is measured of client connections.

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

/// What is spoken on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

impl Protocol {
    const ALL: [Self; 2] = [Self::Http1, Self::Http2];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::Http2 => "http2",
        }
    }
}

/// Why the edge ended a connection of HTTP/2 that its client wanted to keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// Too many requests that the client took back, or that were malformed.
    Abuse,
    /// A ping was not answered.
    Ping,
    /// Nothing was asked for too long.
    Idle,
}

impl Ended {
    const ALL: [Self; 3] = [Self::Abuse, Self::Ping, Self::Idle];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Abuse => "abuse",
            Self::Ping => "ping",
            Self::Idle => "idle",
        }
    }
}

/// The metrics. Clones count together.
#[derive(Debug, Clone)]
pub struct ListenerMetrics {
    open: [IntGauge; 2],
    accepted: [IntCounter; 2],
    ended: [IntCounter; 3],
    accept_failures: IntCounter,
}

/// A connection that is counted as open until this is dropped.
pub(super) struct Open(IntGauge);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl ListenerMetrics {
    /// Registers them.
    ///
    /// # Errors
    /// If a metric of the same name is registered.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let open = IntGaugeVec::new(
            Opts::new("authsome_edge_connections", "Open connections of clients by protocol"),
            &["protocol"],
        )?;
        let accepted = IntCounterVec::new(
            Opts::new(
                "authsome_edge_connections_total",
                "Accepted connections of clients by protocol",
            ),
            &["protocol"],
        )?;
        let ended = IntCounterVec::new(
            Opts::new(
                "authsome_edge_http2_ended_total",
                "HTTP/2 connections that the edge ended, by reason",
            ),
            &["reason"],
        )?;
        let accept_failures = IntCounter::new(
            "authsome_edge_accept_failures_total",
            "Connections that could not be accepted, for want of file descriptors for example",
        )?;
        registry.register(Box::new(open.clone()))?;
        registry.register(Box::new(accepted.clone()))?;
        registry.register(Box::new(ended.clone()))?;
        registry.register(Box::new(accept_failures.clone()))?;
        Ok(Self {
            open: Protocol::ALL.map(|protocol| open.with_label_values(&[protocol.as_str()])),
            accepted: Protocol::ALL.map(|protocol| accepted.with_label_values(&[protocol.as_str()])),
            ended: Ended::ALL.map(|why| ended.with_label_values(&[why.as_str()])),
            accept_failures,
        })
    }

    pub(super) fn opened(&self, protocol: Protocol) -> Open {
        self.accepted[protocol as usize].inc();
        let open = self.open[protocol as usize].clone();
        open.inc();
        Open(open)
    }

    pub(super) fn ended(&self, why: Ended) {
        self.ended[why as usize].inc();
    }

    pub(super) fn accept_failed(&self) {
        self.accept_failures.inc();
    }
}
