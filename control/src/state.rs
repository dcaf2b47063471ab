//! What every handler, command and task shares.

use std::sync::Arc;

use authsome_core::clock::Clock;
use authsome_core::entropy::Entropy;
use authsome_core::seal::PlatformRing;
use sqlx::PgPool;
use time::OffsetDateTime;

use crate::dns::Dns;
use crate::identity::oidc::Issuers;
use crate::identity::{Passwords, Tokens};
use crate::instance_logs::InstanceLogs;
use crate::metrics::Metrics;
use crate::readiness::Readiness;
use crate::server::limiter::Limiter;
use crate::settings::Settings;
use crate::tasks::edges::Edges;
use crate::tasks::operation_feed::OperationFeed;
use crate::time_series::Prometheus;
use crate::webhook::client::WebhookClient;

/// The application. Clones are the same.
#[derive(Clone)]
pub struct App(Arc<Parts>);

/// What an [`App`] is made of.
pub struct Parts {
    /// The control database.
    pub pool: PgPool,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness for ids and keys.
    pub entropy: Arc<dyn Entropy>,
    /// Session tokens.
    pub tokens: Tokens,
    /// Identity providers whose tokens are believed.
    pub issuers: Issuers,
    /// Password hashes.
    pub passwords: Passwords,
    /// What the operator decided and clients may see.
    pub settings: Settings,
    /// Counters.
    pub metrics: Metrics,
    /// Which dependencies are there.
    pub readiness: Readiness,
    /// Which edges there are.
    pub edges: Edges,
    /// What names lead to.
    pub dns: Dns,
    /// Tells of operations.
    pub operation_feed: OperationFeed,
    /// Counts requests.
    pub limiter: Limiter,
    /// Seals secrets of customers, where it is configured.
    pub ring: Option<Arc<PlatformRing>>,
    /// How servers of customers are reached.
    pub webhooks: WebhookClient,
    /// Where logs of instances are asked for.
    pub instance_logs: InstanceLogs,
    /// What measures instances, where one is configured.
    pub prometheus: Option<Prometheus>,
}

impl App {
    /// Puts the parts together.
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    /// The control database.
    pub fn pool(&self) -> &PgPool {
        &self.0.pool
    }

    /// The time, as Postgres keeps it: in whole microseconds, so that what an answer tells is what later ones tell.
    pub fn clock(&self) -> &dyn Clock {
        self
    }

    /// The source of randomness.
    pub fn entropy(&self) -> &dyn Entropy {
        &*self.0.entropy
    }

    /// Session tokens.
    pub fn tokens(&self) -> &Tokens {
        &self.0.tokens
    }

    /// Identity providers whose tokens are believed.
    pub fn issuers(&self) -> &Issuers {
        &self.0.issuers
    }

    /// Password hashes.
    pub fn passwords(&self) -> &Passwords {
        &self.0.passwords
    }

    /// What the operator decided.
    pub fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// Counters.
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// Which edges there are.
    pub fn edges(&self) -> &Edges {
        &self.0.edges
    }

    /// What names lead to.
    pub fn dns(&self) -> &Dns {
        &self.0.dns
    }

    /// Seals secrets of customers, where it is configured.
    pub fn ring(&self) -> Option<&Arc<PlatformRing>> {
        self.0.ring.as_ref()
    }

    /// How servers of customers are reached.
    pub fn webhooks(&self) -> &WebhookClient {
        &self.0.webhooks
    }

    /// What measures instances, where one is configured.
    pub fn prometheus(&self) -> Option<&Prometheus> {
        self.0.prometheus.as_ref()
    }

    /// Where logs of instances are asked for.
    pub fn instance_logs(&self) -> &InstanceLogs {
        &self.0.instance_logs
    }

    /// Counts requests.
    pub fn limiter(&self) -> &Limiter {
        &self.0.limiter
    }

    /// Tells of operations.
    pub fn operation_feed(&self) -> &OperationFeed {
        &self.0.operation_feed
    }

    /// Which dependencies are there.
    pub fn readiness(&self) -> &Readiness {
        &self.0.readiness
    }
}

impl Clock for App {
    fn now(&self) -> OffsetDateTime {
        let now = self.0.clock.now();
        // Of fewer than a thousand million nanoseconds, none is made more.
        now.replace_nanosecond(now.microsecond() * 1_000).unwrap_or(now)
    }
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App")
            .field("settings", &self.0.settings)
            .finish_non_exhaustive()
    }
}
