//! What metering counts of itself. Every series exists from the start.

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

/// Counters of the meter, registered once a process.
#[derive(Debug, Clone)]
pub struct MeterMetrics {
    segments: [IntGauge; 2],
    cells: IntGauge,
    inherited: IntGauge,
    lost: IntCounter,
    reports: [IntCounter; 2],
    freed: IntCounter,
    taken_over: IntCounter,
    corrupt: IntCounter,
}

impl MeterMetrics {
    /// Registers every series. Fails when one of the names is taken.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(format!("authsome_edge_meter_{name}"), help)?;
            registry.register(Box::new(counter.clone())).map(|()| counter)
        };
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(format!("authsome_edge_meter_{name}"), help)?;
            registry.register(Box::new(gauge.clone())).map(|()| gauge)
        };
        let segments = IntGaugeVec::new(
            Opts::new("authsome_edge_meter_segments", "Blocks of counters by where they live"),
            &["backing"],
        )?;
        registry.register(Box::new(segments.clone()))?;
        let reports = IntCounterVec::new(
            Opts::new("authsome_edge_meter_reports_total", "Usage reports by outcome"),
            &["outcome"],
        )?;
        registry.register(Box::new(reports.clone()))?;
        Ok(Self {
            segments: ["file", "memory"].map(|backing| segments.with_label_values(&[backing])),
            cells: gauge(
                "counters",
                "Applications' hours that are counted or wait for confirmation",
            )?,
            inherited: gauge(
                "inherited_counters",
                "Counters of dead writers that wait for confirmation",
            )?,
            lost: counter("lost_requests_total", "Requests that no counter had room for")?,
            reports: ["acknowledged", "failed"].map(|outcome| reports.with_label_values(&[outcome])),
            freed: counter("confirmed_counters_total", "Counters whose final value is in Postgres")?,
            taken_over: counter("inherited_files_total", "Files of dead writers that were taken over")?,
            corrupt: counter("corrupt_files_total", "Counter files that were set aside")?,
        })
    }

    pub(super) fn segment_added(&self, on_disk: bool) {
        self.segments[usize::from(!on_disk)].inc();
    }

    pub(super) fn set_counters(&self, used: usize, inherited: usize) {
        self.cells.set(i64::try_from(used).unwrap_or(i64::MAX));
        self.inherited.set(i64::try_from(inherited).unwrap_or(i64::MAX));
    }

    pub(super) fn lost(&self, requests: u64) {
        self.lost.inc_by(requests);
    }

    pub(super) fn reported(&self, acknowledged: bool) {
        self.reports[usize::from(!acknowledged)].inc();
    }

    pub(super) fn freed(&self, counters: usize) {
        self.freed.inc_by(counters as u64);
    }

    pub(super) fn taken_over(&self, files: usize, corrupt: u64) {
        self.taken_over.inc_by(files as u64);
        self.corrupt.inc_by(corrupt);
    }
}
