//! What the provisioner counts, for Prometheus. Depends on nothing that can fail once it is registered.

mod application;

use std::time::Duration;

use authsome_contract::model::Step;
use authsome_contract::wire::job::JobKind;
use authsome_core::id::ApplicationId;
use authsome_core::telemetry::{self, TelemetryError};
use prometheus::{HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use crate::usage::Measured;
use application::ApplicationGauges;

/// From an observation that finds everything in place to a slow start of an instance, in seconds.
const STEP_BUCKETS: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0];

/// How an execution of an operation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperationOutcome {
    /// It reached its end.
    Succeeded,
    /// It was given up.
    Failed,
    /// It failed and is tried again.
    Retried,
    /// A newer intent took its place.
    Superseded,
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepOutcome {
    /// Applied, or found in place.
    Done,
    /// Not needed here.
    Skipped,
    /// Did not succeed.
    Failed,
}

/// What became of a job message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobOutcome {
    /// Acknowledged: nothing is left to do for it.
    Done,
    /// Given back, to be delivered again.
    Returned,
    /// Not a job; dropped.
    Undecodable,
}

/// The metrics of the process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    operations: IntCounterVec,
    steps: HistogramVec,
    jobs: IntCounterVec,
    due: IntGauge,
    executing: IntGauge,
    leases_lost: IntCounter,
    errors: IntCounterVec,
    instances_started: IntCounterVec,
    consumers: IntCounter,
    connected: IntGauge,
    usage: ApplicationGauges<4>,
    ready: ApplicationGauges<1>,
    upgrade_halted: IntGaugeVec,
}

impl Metrics {
    /// Registers everything, with what every program exports.
    pub fn new() -> Result<Self, TelemetryError> {
        let registry = telemetry::registry("authsome-provisioner", env!("CARGO_PKG_VERSION"))?;
        let counters = |name: &str, help: &str, labels: &[&str]| IntCounterVec::new(Opts::new(name, help), labels);
        let metrics = Self {
            operations: counters(
                "authsome_provisioner_operations_total",
                "Executions of operations by kind and how they ended",
                &["kind", "outcome"],
            )?,
            steps: HistogramVec::new(
                HistogramOpts::new(
                    "authsome_provisioner_step_seconds",
                    "Time a step took, observing included",
                )
                .buckets(STEP_BUCKETS.to_vec()),
                &["step", "outcome"],
            )?,
            jobs: counters(
                "authsome_provisioner_jobs_total",
                "Job messages by what became of them",
                &["outcome"],
            )?,
            due: IntGauge::new(
                "authsome_provisioner_operations_due",
                "Unfinished operations of the region that are due",
            )?,
            executing: IntGauge::new(
                "authsome_provisioner_operations_executing",
                "Operations in this process's hands",
            )?,
            leases_lost: IntCounter::new(
                "authsome_provisioner_leases_lost_total",
                "Executions stopped because their lease was lost or too short",
            )?,
            errors: counters(
                "authsome_provisioner_errors_total",
                "Times that Postgres or NATS kept a part of the program from its work",
                &["part"],
            )?,
            instances_started: counters(
                "authsome_provisioner_instances_recovered_total",
                "Instances found unhealthy outside any operation, by whether they could be started again",
                &["outcome"],
            )?,
            consumers: IntCounter::new(
                "authsome_provisioner_consumers_made_total",
                "Times the JetStream consumer was made or made again",
            )?,
            connected: IntGauge::new(
                "authsome_provisioner_nats_connected",
                "1 while jobs arrive through NATS",
            )?,
            usage: ApplicationGauges::register(
                &registry,
                [
                    (
                        "authsome_application_database_bytes",
                        "Size of an application's database, indexes included",
                    ),
                    (
                        "authsome_application_database_connections",
                        "Sessions on an application's database when it was measured",
                    ),
                    (
                        "authsome_application_storage_limit_bytes",
                        "How large an application's database may become",
                    ),
                    (
                        "authsome_application_connection_limit",
                        "How many sessions an application's database may have",
                    ),
                ],
            )?,
            ready: ApplicationGauges::register(
                &registry,
                [(
                    "authsome_application_ready_instances",
                    "Instances of an application that pass their health check, told of each that ought to serve",
                )],
            )?,
            upgrade_halted: IntGaugeVec::new(
                Opts::new(
                    "authsome_provisioner_image_upgrade_halted",
                    "1 while the region's image upgrade stands because too many applications failed",
                ),
                &["region"],
            )?,
            registry,
        };
        let registry = &metrics.registry;
        registry.register(Box::new(metrics.operations.clone()))?;
        registry.register(Box::new(metrics.steps.clone()))?;
        registry.register(Box::new(metrics.jobs.clone()))?;
        registry.register(Box::new(metrics.due.clone()))?;
        registry.register(Box::new(metrics.executing.clone()))?;
        registry.register(Box::new(metrics.leases_lost.clone()))?;
        registry.register(Box::new(metrics.errors.clone()))?;
        registry.register(Box::new(metrics.instances_started.clone()))?;
        registry.register(Box::new(metrics.consumers.clone()))?;
        registry.register(Box::new(metrics.connected.clone()))?;
        registry.register(Box::new(metrics.upgrade_halted.clone()))?;
        Ok(metrics)
    }

    /// All metrics in the text format of Prometheus.
    pub fn encode(&self) -> String {
        telemetry::encode(&self.registry)
    }

    /// An execution of an operation ended.
    pub fn operation(&self, kind: JobKind, outcome: OperationOutcome) {
        let outcome = match outcome {
            OperationOutcome::Succeeded => "succeeded",
            OperationOutcome::Failed => "failed",
            OperationOutcome::Retried => "retried",
            OperationOutcome::Superseded => "superseded",
        };
        self.operations.with_label_values(&[kind.as_str(), outcome]).inc();
    }

    /// A step ended.
    pub fn step(&self, step: Step, outcome: StepOutcome, took: Duration) {
        let outcome = match outcome {
            StepOutcome::Done => "done",
            StepOutcome::Skipped => "skipped",
            StepOutcome::Failed => "failed",
        };
        self.steps
            .with_label_values(&[step.as_str(), outcome])
            .observe(took.as_secs_f64());
    }

    /// A job message was dealt with.
    pub fn job(&self, outcome: JobOutcome) {
        self.jobs.with_label_values(&[job_label(outcome)]).inc();
    }

    /// How many job messages had this outcome so far.
    pub fn jobs(&self, outcome: JobOutcome) -> u64 {
        self.jobs.with_label_values(&[job_label(outcome)]).get()
    }

    /// How many operations are due.
    pub fn due(&self, count: i64) {
        self.due.set(count);
    }

    /// Counts an operation as executing until the result is dropped.
    pub fn executing(&self) -> Executing {
        self.executing.inc();
        Executing(self.executing.clone())
    }

    /// An execution stopped because of its lease.
    pub fn lease_lost(&self) {
        self.leases_lost.inc();
    }

    /// How many executions stopped because of their lease so far.
    pub fn leases_lost(&self) -> u64 {
        self.leases_lost.get()
    }

    /// A part of the program was kept from its work.
    pub fn error(&self, part: &'static str) {
        self.errors.with_label_values(&[part]).inc();
    }

    /// How often a part of the program was kept from its work so far.
    pub fn errors(&self, part: &'static str) -> u64 {
        self.errors.with_label_values(&[part]).get()
    }

    /// An unhealthy instance was, or was not, started again.
    pub fn instance_recovered(&self, recovered: bool) {
        self.instances_started
            .with_label_values(&[if recovered { "started" } else { "failed" }])
            .inc();
    }

    /// The JetStream consumer was made, or made again.
    pub fn consumer_made(&self) {
        self.consumers.inc();
    }

    /// Whether the upgrade of a region was halted.
    pub fn upgrade_halted(&self, region: &str, halted: bool) {
        self.upgrade_halted.with_label_values(&[region]).set(i64::from(halted));
    }

    /// What applications use of their databases. Those that are not among them any more are told no longer.
    pub fn usage(&self, measured: &[Measured]) {
        let values: Vec<_> = measured
            .iter()
            .map(|one| {
                let values = [one.bytes, one.connections, one.storage_limit, one.connection_limit];
                (one.application, values)
            })
            .collect();
        self.usage.set("", &values);
    }

    /// How many instances of the applications of a region that ought to serve are ready. Those that are not among them any more
    /// are told no longer.
    pub fn ready(&self, region: &str, ready: &[(ApplicationId, [i64; 1])]) {
        self.ready.set(region, ready);
    }

    /// Whether jobs arrive through NATS.
    pub fn connected(&self, connected: bool) {
        self.connected.set(i64::from(connected));
    }
}

const fn job_label(outcome: JobOutcome) -> &'static str {
    match outcome {
        JobOutcome::Done => "done",
        JobOutcome::Returned => "returned",
        JobOutcome::Undecodable => "undecodable",
    }
}

/// An operation in this process's hands.
#[derive(Debug)]
pub struct Executing(IntGauge);

impl Drop for Executing {
    fn drop(&mut self) {
        self.0.dec();
    }
}
