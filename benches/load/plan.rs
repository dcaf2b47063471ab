//! How much is measured.

use std::time::Duration;

/// What can be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// CPU for each request and requests a second.
    Requests,
    /// Percentiles at a fixed rate.
    Latency,
    /// WebSockets and large bodies.
    Streams,
    /// Memory over many requests and connections.
    Soak,
    /// Cost as keys, tenants, connections, bodies and threads grow.
    Curves,
    /// Instructions for each request, by valgrind.
    Instructions,
}

impl Part {
    /// As on the command line.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "requests" => Self::Requests,
            "latency" => Self::Latency,
            "streams" => Self::Streams,
            "soak" => Self::Soak,
            "curves" => Self::Curves,
            "instructions" => Self::Instructions,
            _ => return None,
        })
    }
}

/// Sizes of a run.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) name: &'static str,
    pub(crate) parts: Vec<Part>,
    pub(crate) rounds: usize,
    /// Of one measurement, after the warm-up.
    pub(crate) window: Duration,
    pub(crate) warm_up: Duration,
    /// Of one measurement of latencies.
    pub(crate) latency_window: Duration,
    pub(crate) latency_rounds: usize,
    /// Requests a second for the latencies.
    pub(crate) rate: Option<f64>,
    /// Connections of the generator.
    pub(crate) connections: usize,
    pub(crate) keys: usize,
    pub(crate) apps: usize,
    /// One body of the stream scenarios.
    pub(crate) stream_bytes: usize,
    pub(crate) soak: Soak,
    /// How far the curves go.
    pub(crate) curves: Curves,
    /// Requests under valgrind.
    pub(crate) instructions: usize,
}

/// Sizes of the soak.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Soak {
    pub(crate) requests: u64,
    pub(crate) connections: usize,
    /// Whatever is done by then is reported.
    pub(crate) at_most: Duration,
}

/// The points of each curve.
#[derive(Debug, Clone)]
pub(crate) struct Curves {
    pub(crate) keys: Vec<usize>,
    pub(crate) tenants: Vec<usize>,
    pub(crate) connections: Vec<usize>,
    pub(crate) body: Vec<usize>,
}

impl Plan {
    /// Everything.
    pub(crate) fn full() -> Self {
        Self {
            name: "full",
            parts: vec![Part::Requests, Part::Latency, Part::Streams, Part::Soak, Part::Curves],
            rounds: 7,
            window: Duration::from_secs(3),
            warm_up: Duration::from_millis(500),
            latency_window: Duration::from_secs(10),
            latency_rounds: 3,
            rate: None,
            connections: 64,
            keys: 10_000,
            apps: 100,
            stream_bytes: 10 * 1024 * 1024,
            soak: Soak {
                requests: 1_000_000,
                connections: 10_000,
                at_most: Duration::from_mins(2),
            },
            curves: Curves {
                keys: vec![1_000, 10_000, 100_000, 1_000_000],
                tenants: vec![1, 10, 100, 1_000, 10_000],
                connections: vec![1, 10, 100, 1_000, 10_000],
                body: vec![0, 1_024, 10_240, 102_400, 1_048_576, 10_485_760],
            },
            instructions: 3_000,
        }
    }

    /// What fits into two minutes.
    pub(crate) fn quick() -> Self {
        Self {
            name: "quick",
            parts: vec![Part::Requests, Part::Latency, Part::Streams],
            rounds: 3,
            window: Duration::from_millis(700),
            warm_up: Duration::from_millis(150),
            latency_window: Duration::from_secs(2),
            latency_rounds: 1,
            ..Self::full()
        }
    }

    /// Everything, as little of it as there can be.
    pub(crate) fn rehearsal() -> Self {
        Self {
            name: "rehearsal",
            parts: vec![Part::Requests, Part::Latency, Part::Streams, Part::Soak, Part::Curves],
            rounds: 1,
            window: Duration::from_millis(100),
            warm_up: Duration::ZERO,
            latency_window: Duration::from_millis(200),
            latency_rounds: 1,
            rate: Some(100.0),
            connections: 4,
            keys: 50,
            apps: 3,
            stream_bytes: 1024 * 1024,
            soak: Soak {
                requests: 200,
                connections: 20,
                at_most: Duration::from_secs(5),
            },
            curves: Curves {
                keys: vec![10, 100],
                tenants: vec![1, 5],
                connections: vec![1, 8],
                body: vec![0, 1_024, 102_400],
            },
            instructions: 10,
        }
    }

    pub(crate) fn has(&self, part: Part) -> bool {
        self.parts.contains(&part)
    }
}
