//! One instance and the task that keeps it running.
//!
//! The task starts the process, watches it, and starts it again when it ends or falls silent, ever less often while it does
//! not come up. It ends only when it is told to.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use authsome_core::entropy::Entropy;
use authsome_core::error::Chain;
use authsome_core::retry::Backoff;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::health::{Answer, Health};
use super::log;
use super::process::{self, Process};
use super::{InstanceState, LocalConfig, RuntimeError, Workload};
use crate::redaction::Redaction;
use crate::runtime::Phase;
use crate::runtime::moves::Moves;

/// Between two questions while it starts, and once it is well.
const ASK_STARTING: Duration = Duration::from_millis(50);
const ASK_RUNNING: Duration = Duration::from_secs(1);
/// An instance that is not well after this says why; it is left running, since its database may come back.
const STARTUP: Duration = Duration::from_secs(20);
/// An instance that answered once and then this many times not at all, with two seconds for each, is killed and started
/// again.
const SILENCES: u32 = 4;
/// Between the end of an instance and its next start.
const AGAIN: Backoff = Backoff {
    base: Duration::from_millis(200),
    factor: 2.0,
    max: Duration::from_secs(10),
};
/// Starts in a row without coming up before the instance counts as failing.
const PATIENCE: u32 = 3;
/// An instance that was well for this long begins anew with its backoff.
const SETTLED: Duration = Duration::from_secs(30);

/// What one instance is to be.
pub(super) struct Plan {
    pub(super) workload: Workload,
    pub(super) replica: usize,
    pub(super) config: Arc<LocalConfig>,
    pub(super) health: Health,
    pub(super) entropy: Arc<dyn Entropy>,
    pub(super) moves: Arc<Moves>,
    /// Where it should be, if it can.
    pub(super) preferred: Option<SocketAddr>,
}

/// An instance that is kept running.
pub(super) struct Supervised {
    generation: i64,
    replica: usize,
    state: watch::Receiver<InstanceState>,
    stop: CancellationToken,
}

impl Supervised {
    pub(super) fn start(plan: Plan, stop: CancellationToken, tasks: &TaskTracker) -> Self {
        let (generation, replica) = (plan.workload.generation, plan.replica);
        let (sender, state) = watch::channel(InstanceState {
            generation,
            address: None,
            phase: Phase::Starting,
        });
        let supervisor = Supervisor {
            secrets: Redaction::new()
                .and_url(&plan.workload.database_url)
                .and_url(&plan.workload.redis_url)
                .and_all(plan.workload.secrets.iter().map(|(_, value)| value)),
            plan,
            state: sender,
            stop: stop.clone(),
        };
        tasks.spawn(supervisor.run());
        Self {
            generation,
            replica,
            state,
            stop,
        }
    }

    pub(super) fn generation(&self) -> i64 {
        self.generation
    }

    pub(super) fn replica(&self) -> usize {
        self.replica
    }

    pub(super) fn state(&self) -> InstanceState {
        self.state.borrow().clone()
    }

    /// The task has ended, and nothing will start the instance again.
    pub(super) fn is_over(&self) -> bool {
        self.state.has_changed().is_err()
    }

    /// Waits, but no longer than until it is told to stop.
    pub(super) async fn wait(&self, time: Duration) {
        let _ = tokio::time::timeout(time, self.stop.cancelled()).await;
    }

    /// Ends the instance and waits until it is gone.
    pub(super) async fn stop(&self) {
        self.stop.cancel();
        let mut state = self.state.clone();
        while state.changed().await.is_ok() {}
    }
}

/// How a run of the process came to its end.
enum End {
    /// It was told to.
    Stopped,
    /// By itself, or it fell silent.
    Lost { why: String, well_for: Option<Duration> },
}

struct Supervisor {
    plan: Plan,
    secrets: Redaction,
    state: watch::Sender<InstanceState>,
    stop: CancellationToken,
}

impl Supervisor {
    async fn run(self) {
        let mut address = self.plan.preferred;
        // Where the edge was told that the instance is.
        let mut known = None;
        let mut failures = 0;
        while !self.stop.is_cancelled() {
            let end = match address.map_or_else(process::free_port, Ok) {
                Ok(chosen) => {
                    address = Some(chosen);
                    self.run_once(chosen, failures, &mut known).await
                }
                Err(error) => End::Lost {
                    why: Chain(&error).to_string(),
                    well_for: None,
                },
            };
            let End::Lost { why, well_for } = end else { return };
            // Where it was well it will be again; where it never was, somebody else may have the port.
            address = address.filter(|_| well_for.is_some());
            failures = if well_for.is_some_and(|time| time >= SETTLED) {
                1
            } else {
                failures + 1
            };
            let delay = AGAIN.delay(failures - 1, &*self.plan.entropy);
            tracing::warn!(
                application = %self.plan.workload.application, replica = self.plan.replica, why, retry_in = ?delay,
                "instance lost; starting it again"
            );
            self.tell(
                address,
                if failures < PATIENCE {
                    Phase::Starting
                } else {
                    Phase::Failing(self.explain(&why))
                },
            );
            let _ = tokio::time::timeout(delay, self.stop.cancelled()).await;
        }
    }

    /// Starts the process and watches it until its end.
    async fn run_once(&self, address: SocketAddr, failures: u32, known: &mut Option<SocketAddr>) -> End {
        let Plan {
            workload,
            replica,
            config,
            ..
        } = &self.plan;
        let mut process = match Process::start(config, workload, *replica, address) {
            Ok(process) => process,
            Err(error) => {
                return End::Lost {
                    why: Chain(&error).to_string(),
                    well_for: None,
                };
            }
        };
        tracing::debug!(application = %workload.application, replica, %address, pid = process.id(), "instance started");
        if failures < PATIENCE {
            self.tell(Some(address), Phase::Starting);
        }
        let started = Instant::now();
        let mut well_since: Option<Instant> = None;
        let mut silences = 0;
        loop {
            let pause = if well_since.is_some() {
                ASK_RUNNING
            } else {
                ASK_STARTING
            };
            let answer = tokio::select! {
                biased;
                () = self.stop.cancelled() => {
                    process.end().await;
                    return End::Stopped;
                }
                why = process.ended() => {
                    return End::Lost { why, well_for: well_since.map(|since| since.elapsed()) };
                }
                answer = self.ask_after(pause, address) => answer,
            };
            let problem = match answer {
                Answer::Healthy => {
                    silences = 0;
                    well_since.get_or_insert_with(Instant::now);
                    self.tell(Some(address), Phase::Healthy);
                    if known.replace(address).is_some_and(|before| before != address) {
                        self.plan.moves.add(self.plan.workload.application);
                    }
                    continue;
                }
                Answer::Unhealthy(problem) => {
                    silences = 0;
                    problem
                }
                // Our own process cannot have bound the port; it will say so and end.
                Answer::Stranger => "another program has its port".to_owned(),
                Answer::Silent(problem) => {
                    silences += 1;
                    problem
                }
            };
            if let Some(since) = well_since {
                if silences >= SILENCES {
                    process.kill().await;
                    return End::Lost {
                        why: problem,
                        well_for: Some(since.elapsed()),
                    };
                }
                // One lost answer is no change; a refusal of the instance itself is.
                if silences == 0 {
                    self.tell(Some(address), Phase::Failing(self.explain(&problem)));
                }
            } else if started.elapsed() >= STARTUP {
                self.tell(Some(address), Phase::Failing(self.explain(&problem)));
            }
        }
    }

    async fn ask_after(&self, pause: Duration, address: SocketAddr) -> Answer {
        tokio::time::sleep(pause).await;
        let Workload {
            base_path, application, ..
        } = &self.plan.workload;
        if let Err(error) = self.bound_log() {
            tracing::debug!(error = %Chain(&error), "cannot look at an instance's log");
        }
        self.plan.health.ask(address, base_path, *application).await
    }

    fn log(&self) -> std::path::PathBuf {
        log::path(
            &self.plan.config.directory,
            self.plan.workload.application,
            self.plan.replica,
        )
    }

    fn bound_log(&self) -> Result<(), RuntimeError> {
        log::open(&self.log()).map(|_| ())
    }

    /// What went wrong, with the end of the instance's log.
    fn explain(&self, why: &str) -> String {
        let mut text = why.to_owned();
        let tail = log::tail(&self.log(), &self.secrets);
        if !tail.is_empty() {
            // Writing into a string cannot fail.
            let _ = write!(text, "; its log ends with:\n{tail}");
        }
        text
    }

    fn tell(&self, address: Option<SocketAddr>, phase: Phase) {
        let generation = self.plan.workload.generation;
        let state = InstanceState {
            generation,
            address,
            phase,
        };
        self.state.send_if_modified(|present| {
            let differs = *present != state;
            if differs {
                *present = state;
            }
            differs
        });
    }
}
