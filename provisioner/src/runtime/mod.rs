//! Where instances run, behind one trait.
//!
//! Owns what an instance is given ([`Workload`]) and what is known of it ([`Placement`]). A runtime that cannot be reached
//! answers with a [`RuntimeError`]; instances that run already go on without it.

pub mod kubernetes;
pub mod local;
mod moves;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use authsome_contract::model::{ApplicationSecrets, DatabaseChoice, Environment, Plan, RedisChoice, Step};
use authsome_contract::wire::LogPage;
use authsome_core::id::{ApplicationId, WorkspaceId};
use authsome_core::secret::SecretUrl;

use crate::database::DatabaseStrategy;
use crate::instance_logs::LogQuery;
use crate::lease::Fence;
use crate::plan::Intent;
use crate::redis::RedisStrategy;
use crate::step::Outcome;
use kubernetes::{ClusterError, Unusable, VaultError};

/// An application and its place, and the right to change it. Holds no secret.
#[derive(Debug, Clone)]
pub struct Site {
    /// The application.
    pub application: ApplicationId,
    /// The workspace that owns it.
    pub workspace: WorkspaceId,
    /// What it is for.
    pub environment: Environment,
    /// What its workspace pays for.
    pub plan: Plan,
    /// Its namespace.
    pub namespace: String,
    /// The generation of the intent.
    pub generation: i64,
    /// Prefix of the instance's paths; empty or `/…` without a slash at the end.
    pub base_path: String,
    /// CPU of one instance, as a Kubernetes quantity.
    pub cpu: String,
    /// Memory of one instance, as a Kubernetes quantity.
    pub memory: String,
    /// Storage of its database, as a Kubernetes quantity.
    pub storage: String,
    /// The image that it is pinned to, if it is.
    pub image: Option<String>,
    /// Its database is a server in its own namespace.
    pub own_database: bool,
    /// Its Redis is a server in its own namespace.
    pub own_redis: bool,
    /// The lease under which it may be changed.
    pub fence: Fence,
}

impl Site {
    /// The place that an intent names.
    pub fn of(intent: &Intent, fence: &Fence) -> Self {
        Self {
            application: intent.application_id,
            workspace: intent.workspace_id,
            environment: intent.environment,
            plan: intent.plan,
            namespace: intent.namespace.clone(),
            generation: intent.generation,
            base_path: intent.base_path.clone(),
            cpu: intent.cpu_limit.clone(),
            memory: intent.memory_limit.clone(),
            storage: intent.storage_limit.clone(),
            image: intent.image.clone(),
            own_database: intent.database == Some(DatabaseChoice::Dedicated),
            own_redis: intent.redis == Some(RedisChoice::Dedicated),
            fence: fence.clone(),
        }
    }
}

/// What an instance needs to run. Holds secrets: not for logs.
#[derive(Clone)]
pub struct Workload {
    /// Its place.
    pub site: Site,
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
    /// Its whole configuration, from [`crate::instance_config::effective`]. No secret is in it.
    pub config: serde_json::Value,
    /// What its team gave to it; for its environment only.
    pub secrets: ApplicationSecrets,
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
    /// `name:port` of a headless service whose addresses are the instances, where the runtime has one: the edge follows it
    /// by itself, and the instances' own addresses are not recorded.
    pub service: Option<String>,
    /// What keeps instances from coming up, where the runtime knows.
    pub trouble: Option<Trouble>,
}

/// What keeps instances from coming up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// What the customer reads.
    pub public: String,
    /// For the log.
    pub detail: String,
    /// Whose last lines say more.
    pub last_lines_of: Option<Container>,
    /// What somebody has to do about it, where waiting does not help; `None` where it may pass by itself.
    pub remedy: Option<&'static str>,
}

/// A container of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// The pod.
    pub pod: String,
    /// Its name in the pod.
    pub name: String,
    /// The run before the present one is meant.
    pub previous: bool,
}

impl Trouble {
    /// Trouble without a log, that may pass.
    pub fn new(public: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            public: public.into(),
            detail: detail.into(),
            last_lines_of: None,
            remedy: None,
        }
    }
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
        let healthy = self
            .of_generation(generation)
            .filter(|instance| instance.phase == Phase::Healthy);
        self.wanted > 0 && healthy.count() >= self.wanted
    }

    /// How many answer, whatever their generation.
    pub fn ready(&self) -> usize {
        let healthy = self.instances.iter().filter(|one| one.phase == Phase::Healthy);
        healthy.count()
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
    /// A cursor that is none of this runtime's.
    #[error("the cursor is not one of this runtime's")]
    Cursor,
    /// The runtime is stopping and starts nothing any more.
    #[error("the runtime is stopping")]
    Stopping,
    /// The cluster.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// Vault.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The application cannot be put into the cluster as it is.
    #[error("the application cannot be put into the cluster: {0}")]
    Unusable(#[from] Unusable),
    /// Something is still there that should be gone by now.
    #[error("{0}")]
    Slow(String),
    /// Something is still there that should be gone by now, for a reason that a customer may read.
    #[error("{public} {detail}")]
    Remains {
        /// What the customer reads.
        public: String,
        /// For the log.
        detail: String,
    },
    /// There is no room for it now, for a reason that a customer may read.
    #[error("{public} {detail}")]
    Full {
        /// What the customer reads.
        public: String,
        /// For the log.
        detail: String,
    },
    /// It cannot work as it is, for a reason that a customer may read.
    #[error("{public} {detail}")]
    Unfit {
        /// What the customer reads.
        public: String,
        /// For the log.
        detail: String,
    },
}

impl RuntimeError {
    /// May the same call succeed later without anybody changing anything?
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Program { .. } | Self::Cursor | Self::Unusable(_) | Self::Unfit { .. } => false,
            Self::Io { .. } | Self::Stopping | Self::Slow(_) | Self::Remains { .. } | Self::Full { .. } => true,
            Self::Cluster(error) => error.is_transient(),
            Self::Vault(error) => error.is_transient(),
        }
    }
}

/// How long a runtime's instances may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Until they answer.
    pub rollout: Duration,
    /// While the same trouble is seen without a break: what they say may date from before their last start, and they are
    /// started again by themselves.
    pub failing: Duration,
    /// Until a namespace that is deleted is gone, with all that is in it.
    pub vanishing: Duration,
    /// Between two looks.
    pub look: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            rollout: Duration::from_mins(1),
            failing: Duration::from_secs(12),
            vanishing: Duration::from_mins(2),
            look: Duration::from_millis(100),
        }
    }
}

/// The strategies by which a runtime runs servers of an application's own.
#[derive(Default)]
pub struct OwnServers {
    /// Postgres.
    pub database: Option<Arc<dyn DatabaseStrategy>>,
    /// Redis.
    pub redis: Option<Arc<dyn RedisStrategy>>,
}

/// A place where instances run. Every method may be called again at any time and does nothing that is done already.
#[async_trait]
pub trait Runtime: Send + Sync {
    /// Its name in configuration and logs.
    fn name(&self) -> &'static str;

    /// The image of an application that has none of its own, where the runtime has images.
    fn image(&self) -> Option<&str> {
        None
    }

    /// Why a step is not taken here, fit for the customer; `None` where it is.
    fn skips(&self, step: Step) -> Option<&'static str>;

    /// Path below an application's base path where its instances may offer credentials of their own. Asked only where
    /// [`Step::Bootstrap`] is not skipped.
    fn bootstrap_path(&self) -> Option<&str> {
        None
    }

    /// What keeps applications apart by servers of their own beside their instances, where it can run such.
    fn own_servers(&self) -> OwnServers {
        OwnServers::default()
    }

    /// Can it run instances at all?
    async fn check(&self) -> Result<(), RuntimeError>;

    /// How long instances may take to come up, and how long they may go on failing before that counts.
    fn patience(&self) -> Patience {
        Patience::default()
    }

    /// Is there room for all that the application may grow to? What the customer may read of the answer, where it was looked at;
    /// [`RuntimeError::Unfit`] or [`RuntimeError::Full`] where there is none. Asked before anything is made.
    async fn room(&self, _site: &Site) -> Result<Option<&'static str>, RuntimeError> {
        Ok(None)
    }

    /// Can instances be given at all what is asked for the application: its image, its limits, its configuration as they read it?
    /// [`RuntimeError`] with the reason where they cannot. Asked before anything is made; nothing is called for it.
    fn accepts(&self, _site: &Site, _config: &serde_json::Value) -> Result<(), RuntimeError> {
        Ok(())
    }

    /// What keeps that from coming up which a step waits for beside the instances (servers of the application's own, a
    /// migration), where the runtime knows. Instances' own trouble is in their [`Placement`].
    async fn hindrance(&self, _step: Step, _site: &Site) -> Option<Trouble> {
        None
    }

    /// What an instance in trouble wrote last, secrets included: the caller takes them out. `None` where nothing is known.
    async fn last_lines(&self, _application: ApplicationId, _trouble: &Trouble) -> Option<String> {
        None
    }

    /// Is what one of the runtime's own steps makes known to be as it should be? An answer without any call: most looks end
    /// here. What is not known is asked of [`Self::lacks`].
    fn is_verified(&self, _step: Step, _site: &Site) -> bool {
        true
    }

    /// What is missing or different of what a step makes that only the runtime can take.
    async fn lacks(&self, _step: Step, _site: &Site) -> Result<Vec<String>, RuntimeError> {
        Ok(Vec::new())
    }

    /// Takes such a step.
    async fn settle(&self, step: Step, _site: &Site) -> Result<Outcome, RuntimeError> {
        Ok(Outcome::skipped(self.skips(step).unwrap_or_default()))
    }

    /// Takes away what such a step made.
    async fn unsettle(&self, _step: Step, _site: &Site) -> Result<(), RuntimeError> {
        Ok(())
    }

    /// What is missing or different of the instances' own objects, their number and health aside.
    async fn differences(&self, _workload: &Workload) -> Result<Vec<String>, RuntimeError> {
        Ok(Vec::new())
    }

    /// Prepares the database's schema, where the image does not do that when it starts.
    async fn migrate(&self, _workload: &Workload) -> Result<Outcome, RuntimeError> {
        Ok(Outcome::skipped(self.skips(Step::Migrate).unwrap_or_default()))
    }

    /// What there is of an application.
    async fn observe(&self, application: ApplicationId) -> Result<Placement, RuntimeError>;

    /// Starts what is missing of the workload's generation, beside older ones. Does not wait until it answers.
    async fn ensure(&self, workload: &Workload) -> Result<(), RuntimeError>;

    /// Stops instances of generations before the site's, once requests that are under way have had time to end.
    async fn retire(&self, site: &Site) -> Result<(), RuntimeError>;

    /// How many instances of generations before this one have not ended, those that finish their last requests included.
    async fn former(&self, application: ApplicationId, generation: i64) -> Result<usize, RuntimeError> {
        let placement = self.observe(application).await?;
        let former = placement.instances.iter().filter(|one| one.generation < generation);
        Ok(former.count())
    }

    /// Stops all instances of an application and waits until they are gone.
    async fn stop(&self, site: &Site) -> Result<(), RuntimeError>;

    /// Removes everything that is left of an application, after a stop.
    async fn remove(&self, site: &Site) -> Result<(), RuntimeError>;

    /// What the instances of an application wrote, secrets included: the caller takes them out. Bounded in work and in size,
    /// whatever there is; nothing where nothing is kept. [`RuntimeError::Cursor`] where the cursor is none of its own.
    async fn logs(&self, application: ApplicationId, query: &LogQuery) -> Result<LogPage, RuntimeError>;

    /// Waits for an application whose instances came up elsewhere than they were, so that the edge must be told. Nothing is
    /// lost when the wait is given up.
    async fn moved(&self) -> ApplicationId;

    /// Stops all instances and waits until they are gone.
    async fn shutdown(&self);
}
