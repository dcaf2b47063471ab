//! The steps between intent and a serving instance: each observes, applies and can undo.
//!
//! Owns the contract of a step ([`StepAction`]), what a step is given ([`StepContext`]) and how it fails ([`StepError`]).
//! Every step is idempotent: names derive from the application's id, generated credentials are recorded before they are
//! used, and applying a step that is done changes nothing. A dependency that fails is [`StepError::Retry`] with a reason
//! that the customer may read; the engine decides when to try again. Nothing here retries a whole step by itself.

mod activate;
mod bootstrap;
mod database;
mod failure;
mod instance;
mod migrate;
mod own;
mod preflight;
mod redis;
mod renew;
mod retire;
mod rollout;
mod secrets;
mod tenancy;
mod waiting;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use authsome_contract::model::Step;
use authsome_core::{clock::Clock, entropy::Entropy, seal::EdgeRing, seal::PlatformRing};
use sqlx::PgPool;

use crate::database::DatabaseStrategy;
use crate::db;
use crate::lease::Fence;
use crate::plan::Intent;
use crate::redis::RedisStrategy;
use crate::runtime::Runtime;
use crate::tenancy::{Caches, Databases};

/// The longest that one external call of any step may take. A lease must be renewed well before it has less than this
/// left, or steps stop with [`StepError::Fenced`].
pub const LONGEST_CALL: Duration = Duration::from_secs(20);

/// What a step finds when it looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observed {
    /// Everything that the step would make is there.
    Done,
    /// Something is missing or different; the text says what, for the log.
    Needed(String),
}

/// What a step did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What the customer reads beside the step. Never a secret.
    pub detail: String,
    /// There is nothing to do for this step in this installation; recorded as `skipped`.
    pub skipped: bool,
    /// What the step made is gone; recorded as `undone`.
    pub undone: bool,
}

impl Outcome {
    /// The step did, or found, what it is for.
    pub fn done(detail: impl Into<String>) -> Self {
        Self {
            detail: detail.into(),
            skipped: false,
            undone: false,
        }
    }

    /// What the step made is gone.
    pub fn undone() -> Self {
        Self {
            detail: "Removed.".to_owned(),
            skipped: false,
            undone: true,
        }
    }

    /// The step does not apply here, and why.
    pub fn skipped(detail: impl Into<String>) -> Self {
        Self {
            detail: detail.into(),
            skipped: true,
            undone: false,
        }
    }
}

/// The internal half of a failure: for the operators' log, still without secrets.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why a step did not succeed. The reasons are public; the sources are for operators. Neither holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// It may work later: a dependency is away, slow or busy.
    #[error("{reason}")]
    Retry {
        /// What the customer reads.
        reason: String,
        /// What happened.
        source: Cause,
    },
    /// It will not work by itself.
    #[error("{reason}")]
    Fatal {
        /// What the customer reads.
        reason: String,
        /// What can be done about it.
        remediation: String,
        /// What happened.
        source: Cause,
    },
    /// The lease was lost, is too short for the next call, or the intent has moved on: stop at once and record nothing.
    #[error("the application is no longer this worker's to change")]
    Fenced,
}

/// What steps work with; the same for every application of a provisioner.
pub struct Facilities {
    /// Where tenant databases live.
    pub databases: Databases,
    /// Where tenants keep their sessions.
    pub caches: Caches,
    /// Where instances run.
    pub runtime: Arc<dyn Runtime>,
    /// Seals generated credentials.
    pub ring: Arc<PlatformRing>,
    /// Seals what the edge shows to instances.
    pub edge_ring: Arc<EdgeRing>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness for credentials.
    pub entropy: Arc<dyn Entropy>,
    /// The public address of the edge, without a slash at the end: `https://api.authsome.cloud`.
    pub public_base_url: String,
}

/// What a step is given.
#[derive(Clone, Copy)]
pub struct StepContext<'a> {
    /// What should exist.
    pub intent: &'a Intent,
    /// The lease under which this worker may change it.
    pub fence: &'a Fence,
    /// The control database.
    pub pool: &'a PgPool,
    /// Strategies, runtime, rings, clock, entropy.
    pub facilities: &'a Facilities,
}

impl StepContext<'_> {
    /// The strategy of the application's database.
    pub(super) fn database(&self) -> Result<&dyn DatabaseStrategy, StepError> {
        Ok(self.facilities.databases.of(self.intent)?)
    }

    /// The strategy of the application's Redis.
    pub(super) fn cache(&self) -> Result<&dyn RedisStrategy, StepError> {
        Ok(self.facilities.caches.of(self.intent)?)
    }

    /// Records how the application is kept apart, before anything of it is made.
    async fn record_strategies(&self) -> Result<(), StepError> {
        if self.intent.database.is_none() || self.intent.redis.is_none() {
            let database = self.facilities.databases.choice(self.intent);
            let redis = self.facilities.caches.choice(self.intent);
            db::placement::record_strategies(self.pool, self.fence, database, redis).await?;
        }
        Ok(())
    }
}

/// One step. All methods may be called any number of times, in any state that a crash can leave.
#[async_trait]
pub trait StepAction: Send + Sync {
    /// Which one.
    fn step(&self) -> Step;

    /// Looks without changing anything.
    async fn observe(&self, cx: &StepContext<'_>) -> Result<Observed, StepError>;

    /// Makes it so.
    async fn apply(&self, cx: &StepContext<'_>) -> Result<Outcome, StepError>;

    /// Takes away what the step made. What is already gone is a success.
    async fn undo(&self, cx: &StepContext<'_>) -> Result<(), StepError>;
}

/// The action of a step.
pub fn action(step: Step) -> &'static dyn StepAction {
    match step {
        Step::Preflight => &preflight::Preflight,
        Step::Namespace => &own::Own(Step::Namespace),
        Step::Renew => &renew::Renew,
        Step::Database => &database::Database,
        Step::Redis => &redis::Redis,
        Step::Secrets => &secrets::Secrets,
        Step::Instance => &instance::Instance,
        Step::Rollout => &rollout::Rollout,
        Step::Migrate => &migrate::Migrate,
        Step::Bootstrap => &bootstrap::Bootstrap,
        Step::Monitoring => &own::Own(Step::Monitoring),
        Step::Activate => &activate::Activate,
        Step::Retire => &retire::Retire,
    }
}

/// Done when nothing differs.
fn observed(differences: &[String]) -> Observed {
    if differences.is_empty() {
        Observed::Done
    } else {
        Observed::Needed(differences.join(", "))
    }
}
