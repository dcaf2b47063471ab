//! Where instances run, behind one trait.
//!
//! Owns what an instance is given ([`Workload`]) and what is known of it ([`Placement`]). A runtime that cannot be reached
//! answers with a [`RuntimeError`]; instances that run already go on without it.

pub mod local;

use std::net::SocketAddr;

use async_trait::async_trait;
use authsome_contract::model::Step;
use authsome_core::id::ApplicationId;
use authsome_core::secret::SecretUrl;

/// What an instance needs to run. Holds secrets: not for logs.
#[derive(Clone)]
pub struct Workload {
    /// The application.
    pub application: ApplicationId,
    /// The generation of the intent. Instances of another generation are other instances.
    pub generation: i64,
    /// Prefix of the instance's paths; empty or `/…` without a slash at the end.
    pub base_path: String,
    /// Its own database.
    pub database_url: SecretUrl,
    /// Its own Redis user.
    pub redis_url: SecretUrl,
    /// What each of its Redis keys begins with.
    pub redis_prefix: String,
    /// The address under which clients reach it.
    pub public_base_url: String,
    /// Where instances of this application were last, so that they come back there if they can.
    pub previous: Vec<SocketAddr>,
}

/// Where an instance is in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// It has been started and does not answer yet.
    Starting,
    /// It answers its health check.
    Healthy,
    /// It ended or does not answer, again and again; it is started again all the same. The text is for the log.
    Failing(String),
}

/// One instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceState {
    /// The generation it was started for.
    pub generation: i64,
    /// Where it is, once that is known.
    pub address: Option<SocketAddr>,
    /// Where it is in its life.
    pub phase: Phase,
}

/// The instances of one application.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Placement {
    /// All of them, older generations included.
    pub instances: Vec<InstanceState>,
    /// How many there should be of one generation.
    pub wanted: usize,
}

impl Placement {
    /// The instances of one generation.
    pub fn of_generation(&self, generation: i64) -> impl Iterator<Item = &InstanceState> {
        self.instances
            .iter()
            .filter(move |instance| instance.generation == generation)
    }

    /// Are there instances of a generation, all that there should be?
    pub fn is_complete(&self, generation: i64) -> bool {
        self.wanted > 0 && self.of_generation(generation).count() >= self.wanted
    }

    /// Do all that there should be of a generation answer?
    pub fn is_healthy(&self, generation: i64) -> bool {
        self.is_complete(generation)
            && self
                .of_generation(generation)
                .all(|instance| instance.phase == Phase::Healthy)
    }

    /// Where the instances of a generation that answer are, in order.
    pub fn endpoints(&self, generation: i64) -> Vec<SocketAddr> {
        let healthy = self
            .of_generation(generation)
            .filter(|instance| instance.phase == Phase::Healthy);
        let mut endpoints: Vec<_> = healthy.filter_map(|instance| instance.address).collect();
        endpoints.sort();
        endpoints
    }

    /// What the first failing instance of a generation says.
    pub fn failure(&self, generation: i64) -> Option<&str> {
        self.of_generation(generation)
            .find_map(|instance| match &instance.phase {
                Phase::Failing(why) => Some(why.as_str()),
                Phase::Starting | Phase::Healthy => None,
            })
    }
}

/// Why a runtime did not do what it was asked. Holds no secret.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The program that instances run is not there or cannot be executed.
    #[error("cannot run {program}: {detail}")]
    Program {
        /// Its path.
        program: String,
        /// What is wrong with it.
        detail: String,
    },
    /// The operating system refused something.
    #[error("cannot {doing}")]
    Io {
        /// What.
        doing: String,
        /// Its answer.
        source: std::io::Error,
    },
    /// The runtime is stopping and starts nothing any more.
    #[error("the runtime is stopping")]
    Stopping,
}

impl RuntimeError {
    /// May the same call succeed later without anybody changing anything?
    pub fn is_transient(&self) -> bool {
        !matches!(self, Self::Program { .. })
    }
}

/// A place where instances run. Every method may be called again at any time and does nothing that is done already.
#[async_trait]
pub trait Runtime: Send + Sync {
    /// Its name in configuration and logs.
    fn name(&self) -> &'static str;

    /// Why a step is not taken here, fit for the customer; `None` where it is.
    fn skips(&self, step: Step) -> Option<&'static str>;

    /// Can it run instances at all?
    async fn check(&self) -> Result<(), RuntimeError>;

    /// What there is of an application.
    async fn observe(&self, application: ApplicationId) -> Result<Placement, RuntimeError>;

    /// Starts what is missing of the workload's generation, beside older ones. Does not wait until it answers.
    async fn ensure(&self, workload: &Workload) -> Result<(), RuntimeError>;

    /// Stops instances of generations before `generation`, once requests that are under way have had time to end.
    async fn retire(&self, application: ApplicationId, generation: i64) -> Result<(), RuntimeError>;

    /// Stops all instances of an application and waits until they are gone.
    async fn stop(&self, application: ApplicationId) -> Result<(), RuntimeError>;

    /// Removes everything that is left of an application, after a stop.
    async fn remove(&self, application: ApplicationId) -> Result<(), RuntimeError>;

    /// Waits for an application whose instances came up elsewhere than they were, so that the edge must be told. Nothing is
    /// lost when the wait is given up.
    async fn moved(&self) -> ApplicationId;

    /// Stops all instances and waits until they are gone.
    async fn shutdown(&self);
}
