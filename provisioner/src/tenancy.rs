//! Which strategy keeps an application's data apart: what is recorded of the application, or else what the installation
//! chooses for its plan.
//!
//! A choice counts until it is recorded, which is before anything is made. From then on neither another plan nor other
//! settings move data. An application of a strategy that the installation has no more fails with a reason; what it has stays.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;

use authsome_contract::model::{DatabaseChoice, Plan, RedisChoice};

use crate::database::DatabaseStrategy;
use crate::plan::Intent;
use crate::redis::RedisStrategy;

/// An application is kept by a strategy that this installation does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the strategy {0:?} is not set up in this installation")]
pub struct NotSetUp(String);

/// What an installation chooses for new applications.
#[derive(Debug, Clone)]
pub struct Chosen<C> {
    /// For every plan that is not named.
    pub default: C,
    /// By plan.
    pub by_plan: BTreeMap<Plan, C>,
}

impl<C: Copy + PartialEq> Chosen<C> {
    /// The same for every plan.
    pub fn always(choice: C) -> Self {
        Self {
            default: choice,
            by_plan: BTreeMap::new(),
        }
    }

    /// The choice for a new application of a plan.
    pub fn of(&self, plan: Plan) -> C {
        self.by_plan.get(&plan).copied().unwrap_or(self.default)
    }

    /// Is this chosen for any plan?
    pub fn includes(&self, choice: C) -> bool {
        self.default == choice || self.by_plan.values().any(|one| *one == choice)
    }
}

/// The strategies that an installation has, and its choice among them.
pub struct Strategies<S: ?Sized, C> {
    all: Vec<(C, Arc<S>)>,
    chosen: Chosen<C>,
}

/// Of databases.
pub type Databases = Strategies<dyn DatabaseStrategy, DatabaseChoice>;
/// Of Redis.
pub type Caches = Strategies<dyn RedisStrategy, RedisChoice>;

impl<S: ?Sized, C: Copy + PartialEq + Display> Strategies<S, C> {
    /// These, and this choice among them.
    pub fn new(all: Vec<(C, Arc<S>)>, chosen: Chosen<C>) -> Self {
        Self { all, chosen }
    }

    /// One for every application.
    pub fn only(choice: C, strategy: Arc<S>) -> Self {
        Self::new(vec![(choice, strategy)], Chosen::always(choice))
    }

    /// Those that an application may have from the beginning.
    pub fn in_use(&self) -> impl Iterator<Item = &S> {
        let used = self.all.iter().filter(|(choice, _)| self.chosen.includes(*choice));
        used.map(|(_, strategy)| &**strategy)
    }

    /// All that an application may have.
    pub fn all(&self) -> impl Iterator<Item = &S> {
        self.all.iter().map(|(_, strategy)| &**strategy)
    }

    fn pick(&self, choice: C) -> Result<&S, NotSetUp> {
        let found = self.all.iter().find(|(one, _)| *one == choice);
        found
            .map(|(_, strategy)| &**strategy)
            .ok_or_else(|| NotSetUp(choice.to_string()))
    }
}

impl Databases {
    /// The choice for an application.
    pub fn choice(&self, intent: &Intent) -> DatabaseChoice {
        intent.database.unwrap_or_else(|| self.chosen.of(intent.plan))
    }

    /// The strategy of an application.
    ///
    /// # Errors
    /// [`NotSetUp`]
    pub fn of(&self, intent: &Intent) -> Result<&dyn DatabaseStrategy, NotSetUp> {
        self.pick(self.choice(intent))
    }
}

impl Caches {
    /// The choice for an application.
    pub fn choice(&self, intent: &Intent) -> RedisChoice {
        intent.redis.unwrap_or_else(|| self.chosen.of(intent.plan))
    }

    /// The strategy of an application.
    ///
    /// # Errors
    /// [`NotSetUp`]
    pub fn of(&self, intent: &Intent) -> Result<&dyn RedisStrategy, NotSetUp> {
        self.pick(self.choice(intent))
    }
}
