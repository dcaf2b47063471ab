//! The life of a process: tasks it cannot do without, signals, and two ways to stop.
//!
//! Owns three moments, each a token that anyone may watch:
//! - **draining**: the process is to end. Readiness goes off; work continues, so that load balancers can look away.
//! - **soft**: accept nothing new, finish what has begun, flush. Follows draining after [`Timing::linger`].
//! - **hard**: drop everything now. Follows soft after [`Timing::deadline`], or a second signal.
//!
//! A critical task that fails, panics or returns while the process is not stopping ends the process: softly, and with
//! failure, so that whoever started it starts it again. If signals cannot be listened for, the process does not start.

mod shutdown;
mod signal;

use std::collections::BTreeMap;
use std::error::Error;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Reader;
use crate::error::Chain;

pub use shutdown::Shutdown;

/// How long tasks may take to be dropped after the hard stop. They are aborted, so only blocking code can exceed it.
const DROP_GRACE: Duration = Duration::from_secs(2);

/// How long stopping may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Between readiness going off and the soft stop: what load balancers need to look away. Zero where there are none.
    pub linger: Duration,
    /// Between the soft and the hard stop.
    pub deadline: Duration,
}

impl Timing {
    /// Reads `shutdown.linger` and `shutdown.deadline`.
    pub fn read(reader: &mut Reader) -> Self {
        let default = Self::default();
        Self {
            linger: reader.or("shutdown.linger", default.linger),
            deadline: reader.or("shutdown.deadline", default.deadline),
        }
    }
}

impl Default for Timing {
    /// No linger, and 30 s for what has begun.
    fn default() -> Self {
        Self {
            linger: Duration::ZERO,
            deadline: Duration::from_secs(30),
        }
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Outcome {
    /// It was asked to stop, and every task finished in time.
    Success,
    /// A critical task failed, or tasks had to be dropped.
    Failure,
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Success => Self::SUCCESS,
            Outcome::Failure => Self::FAILURE,
        }
    }
}

/// Starts the tasks of a process and waits for its end. Needs a tokio runtime.
#[derive(Debug)]
pub struct Lifecycle {
    shutdown: Shutdown,
    timing: Timing,
    tracker: TaskTracker,
    tasks: Arc<Tasks>,
}

/// What is known of the tasks: names of those that run, for the log, and whether one failed.
#[derive(Debug, Default)]
struct Tasks {
    next: AtomicU64,
    running: Mutex<BTreeMap<u64, &'static str>>,
    failed: AtomicBool,
}

impl Tasks {
    fn begin(self: &Arc<Self>, name: &'static str) -> Running {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id, name);
        Running {
            tasks: Arc::clone(self),
            id,
        }
    }

    fn names(&self) -> Vec<&'static str> {
        self.running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .copied()
            .collect()
    }
}

/// Takes the task out of the list when it ends, in whatever way.
struct Running {
    tasks: Arc<Tasks>,
    id: u64,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.tasks
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.id);
    }
}

impl Lifecycle {
    /// A process that is running.
    pub fn new(timing: Timing) -> Self {
        Self {
            shutdown: Shutdown::new(),
            timing,
            tracker: TaskTracker::new(),
            tasks: Arc::new(Tasks::default()),
        }
    }

    /// The tokens, for tasks to watch. Cheap to clone.
    pub fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }

    /// The token of the soft stop: accept nothing new, finish what has begun.
    pub fn soft(&self) -> CancellationToken {
        self.shutdown.soft().clone()
    }

    /// The token of the hard stop: drop everything.
    pub fn hard(&self) -> CancellationToken {
        self.shutdown.hard().clone()
    }

    /// Starts a task that the process cannot do without: it must run until the soft stop and then return `Ok`.
    /// If it fails or panics at any time, or returns earlier, the process stops softly and ends with failure.
    pub fn spawn_critical<F, E>(&self, name: &'static str, task: F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Box<dyn Error + Send + Sync>> + 'static,
    {
        let (shutdown, tasks) = (self.shutdown.clone(), Arc::clone(&self.tasks));
        let running = self.tasks.begin(name);
        // In a task of its own, so that a panic comes back as a value.
        let mut inner = tokio::spawn(async move { task.await.map_err(Into::into) });
        self.tracker.spawn(async move {
            let _running = running;
            let result = tokio::select! {
                result = &mut inner => result,
                () = shutdown.hard().cancelled() => {
                    inner.abort();
                    inner.await
                }
            };
            match result {
                Ok(Ok(())) if shutdown.is_draining() => {
                    tracing::debug!(task = name, "task finished");
                    return;
                }
                Ok(Ok(())) => tracing::error!(task = name, "critical task returned while the process was running"),
                Ok(Err(error)) => tracing::error!(task = name, error = %Chain(&*error), "critical task failed"),
                Err(error) if error.is_cancelled() => {
                    tracing::warn!(task = name, "critical task was dropped before it finished");
                }
                Err(error) => tracing::error!(task = name, %error, "critical task panicked"),
            }
            tasks.failed.store(true, Ordering::SeqCst);
            shutdown.begin();
        });
    }

    /// Starts a task that may end at any time, such as the handling of one connection. The soft stop waits for it and
    /// the hard stop drops it.
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let hard = self.hard();
        let running = self.tasks.begin(name);
        self.tracker.spawn(async move {
            let _running = running;
            let _ = hard.run_until_cancelled_owned(task).await;
        });
    }

    /// Runs until SIGTERM, SIGINT, the failure of a critical task or [`Shutdown::begin`]; then stops as the module says.
    /// A second signal skips to the hard stop.
    pub async fn run(self) -> Outcome {
        match signal::listen() {
            Ok(signals) => self.run_until(signals).await,
            Err(error) => {
                tracing::error!(%error, "cannot listen for signals");
                self.tasks.failed.store(true, Ordering::SeqCst);
                self.shutdown.begin();
                self.run_until(mpsc::channel(1).1).await
            }
        }
    }

    /// As [`Lifecycle::run`], for a process whose signals are received elsewhere: every message names one.
    pub async fn run_until(self, mut signals: mpsc::Receiver<&'static str>) -> Outcome {
        tokio::select! {
            signal = next(&mut signals) => tracing::info!(signal, "stopping"),
            () = self.shutdown.draining().cancelled() => tracing::info!("stopping"),
            () = self.shutdown.soft().cancelled() => {}
            () = self.shutdown.hard().cancelled() => {}
        }
        self.shutdown.begin();
        self.tracker.close();

        let stopping = async {
            tokio::select! {
                () = tokio::time::sleep(self.timing.linger) => {}
                () = self.shutdown.soft().cancelled() => {}
            }
            self.shutdown.stop_softly();
            tokio::time::timeout(self.timing.deadline, self.tracker.wait())
                .await
                .is_ok()
        };
        let finished = tokio::select! {
            finished = stopping => {
                if !finished {
                    tracing::warn!(tasks = ?self.tasks.names(), deadline = ?self.timing.deadline, "not finished in time");
                }
                finished
            }
            signal = next(&mut signals) => {
                tracing::warn!(signal, tasks = ?self.tasks.names(), "dropping what is not finished");
                self.tracker.is_empty()
            }
            () = self.shutdown.hard().cancelled() => self.tracker.is_empty(),
        };
        self.shutdown.stop_hard();
        if tokio::time::timeout(DROP_GRACE, self.tracker.wait()).await.is_err() {
            tracing::error!(tasks = ?self.tasks.names(), "tasks cannot be dropped");
        }

        if finished && !self.tasks.failed.load(Ordering::SeqCst) {
            tracing::info!("stopped");
            Outcome::Success
        } else {
            tracing::error!("stopped with failure");
            Outcome::Failure
        }
    }
}

/// The next signal; never, once nobody can send one.
async fn next(signals: &mut mpsc::Receiver<&'static str>) -> &'static str {
    match signals.recv().await {
        Some(signal) => signal,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
