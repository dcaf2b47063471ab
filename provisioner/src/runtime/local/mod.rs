//! The runtime of one machine: instances are child processes of the provisioner on loopback ports.
//!
//! Owns those processes and their log files. An instance that ends is started again, on its old port where that is free. An
//! instance never outlives the provisioner: it ends when its standard input closes, which the kernel does even for a process
//! that is killed. After a restart of the provisioner nothing runs until [`Runtime::ensure`] is called for each application.
//! Secrets reach an instance through its environment, which holds nothing of the provisioner's own.

mod health;
mod log;
mod process;
mod reader;
mod supervisor;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use authsome_contract::model::Step;
use authsome_contract::wire::LogPage;
use authsome_core::entropy::Entropy;
use authsome_core::id::ApplicationId;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::moves::Moves;
use super::{InstanceState, Placement, Runtime, RuntimeError, Site, Workload};
use crate::instance_logs::LogQuery;
use health::Health;
use supervisor::Supervised;

/// How long an instance of an older generation goes on after the edge was told of the new one.
const LINGER: Duration = Duration::from_secs(2);

/// How instances are run on this machine.
#[derive(Debug, Clone)]
pub struct LocalConfig {
    /// The program: `authsome-sample`.
    pub program: PathBuf,
    /// Where log files go; created if absent, for this user only.
    pub directory: PathBuf,
    /// Instances of each application.
    pub replicas: usize,
    /// What each instance logs: a level or a filter.
    pub log_level: String,
}

/// Child processes on loopback ports. Dropping it ends them.
pub struct LocalRuntime {
    config: Arc<LocalConfig>,
    health: Health,
    entropy: Arc<dyn Entropy>,
    moves: Arc<Moves>,
    instances: Mutex<HashMap<ApplicationId, Vec<Supervised>>>,
    /// Instances that finish their last requests.
    leaving: Arc<Mutex<HashMap<ApplicationId, usize>>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl LocalRuntime {
    /// A runtime with nothing running. Needs a tokio runtime when instances are started.
    pub fn new(config: LocalConfig, entropy: Arc<dyn Entropy>) -> Result<Self, RuntimeError> {
        Ok(Self {
            config: Arc::new(config),
            health: Health::new()?,
            entropy,
            moves: Arc::default(),
            instances: Mutex::default(),
            leaving: Arc::default(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        })
    }

    fn instances(&self) -> std::sync::MutexGuard<'_, HashMap<ApplicationId, Vec<Supervised>>> {
        self.instances.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ports where instances of the application were and where none of ours is now.
    fn free_previous(running: &HashMap<ApplicationId, Vec<Supervised>>, previous: &[SocketAddr]) -> Vec<SocketAddr> {
        let taken: Vec<SocketAddr> = running
            .values()
            .flatten()
            .filter_map(|instance| instance.state().address)
            .collect();
        previous
            .iter()
            .copied()
            .filter(|address| address.ip().is_loopback() && address.port() >= 1024 && !taken.contains(address))
            .collect()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for LocalRuntime {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[async_trait]
impl Runtime for LocalRuntime {
    fn name(&self) -> &'static str {
        "local"
    }

    fn skips(&self, step: Step) -> Option<&'static str> {
        match step {
            Step::Namespace => Some("Not used by the local runtime: instances are processes on this machine."),
            Step::Migrate => Some("The instance prepares its own schema when it starts; its health check proves it."),
            Step::Monitoring => Some("Not used by the local runtime."),
            _ => None,
        }
    }

    fn bootstrap_path(&self) -> Option<&str> {
        Some(health::MANIFEST)
    }

    async fn check(&self) -> Result<(), RuntimeError> {
        process::check_program(&self.config.program)?;
        log::prepare_directory(&self.config.directory)
    }

    async fn observe(&self, application: ApplicationId) -> Result<Placement, RuntimeError> {
        let running = self.instances();
        let instances: Vec<InstanceState> = running
            .get(&application)
            .into_iter()
            .flatten()
            .map(Supervised::state)
            .collect();
        Ok(Placement {
            instances,
            wanted: self.config.replicas,
            ..Placement::default()
        })
    }

    async fn ensure(&self, workload: &Workload) -> Result<(), RuntimeError> {
        self.check().await?;
        let mut running = self.instances();
        if self.stop.is_cancelled() {
            return Err(RuntimeError::Stopping);
        }
        let mut previous = Self::free_previous(&running, &workload.previous).into_iter();
        let instances = running.entry(workload.application).or_default();
        instances.retain(|instance| !instance.is_over());
        let present: Vec<usize> = instances
            .iter()
            .filter(|instance| instance.generation() == workload.generation)
            .map(Supervised::replica)
            .collect();
        for replica in (0..self.config.replicas).filter(|replica| !present.contains(replica)) {
            instances.push(Supervised::start(
                supervisor::Plan {
                    workload: workload.clone(),
                    replica,
                    config: Arc::clone(&self.config),
                    health: self.health.clone(),
                    entropy: Arc::clone(&self.entropy),
                    moves: Arc::clone(&self.moves),
                    preferred: previous.next(),
                },
                self.stop.child_token(),
                &self.tasks,
            ));
        }
        Ok(())
    }

    async fn retire(&self, site: &Site) -> Result<(), RuntimeError> {
        let mut running = self.instances();
        let Some(instances) = running.get_mut(&site.application) else {
            return Ok(());
        };
        let (kept, old) = std::mem::take(instances)
            .into_iter()
            .partition(|one| one.generation() >= site.generation);
        *instances = kept;
        for instance in old {
            let (leaving, application) = (Arc::clone(&self.leaving), site.application);
            *locked(&leaving).entry(application).or_default() += 1;
            // Out of the map it is no longer counted; the tracker still waits for it at shutdown.
            self.tasks.spawn(async move {
                instance.wait(LINGER).await;
                instance.stop().await;
                let mut leaving = locked(&leaving);
                match leaving.get_mut(&application) {
                    Some(count) if *count > 1 => *count -= 1,
                    _ => _ = leaving.remove(&application),
                }
            });
        }
        Ok(())
    }

    async fn former(&self, application: ApplicationId, generation: i64) -> Result<usize, RuntimeError> {
        let placement = self.observe(application).await?;
        let former = placement.instances.iter().filter(|one| one.generation < generation);
        let leaving = locked(&self.leaving).get(&application).copied().unwrap_or(0);
        Ok(former.count() + leaving)
    }

    async fn stop(&self, site: &Site) -> Result<(), RuntimeError> {
        let instances = self.instances().remove(&site.application).unwrap_or_default();
        futures::future::join_all(instances.iter().map(Supervised::stop)).await;
        Ok(())
    }

    async fn remove(&self, site: &Site) -> Result<(), RuntimeError> {
        self.stop(site).await?;
        log::remove(&self.config.directory, site.application)
    }

    async fn logs(&self, application: ApplicationId, query: &LogQuery) -> Result<LogPage, RuntimeError> {
        let (config, query) = (Arc::clone(&self.config), query.clone());
        let reading = tokio::task::spawn_blocking(move || reader::read(&config.directory, application, &query));
        reading.await.map_err(|error| RuntimeError::Io {
            doing: "read logs".to_owned(),
            source: std::io::Error::other(error),
        })?
    }

    async fn moved(&self) -> ApplicationId {
        self.moves.next().await
    }

    async fn shutdown(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.instances().clear();
    }
}
