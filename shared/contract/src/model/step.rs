//! The steps of provisioning, in their order.

use super::closed::closed_set;
use crate::wire::job::JobKind;

closed_set! {
    /// One step between intent and a serving instance. The order of the variants is the order of execution.
    Step, "provisioning step" {
        /// Can it work at all: reachable servers, permissions, quota, valid configuration.
        Preflight = "preflight",
        /// The place where the instance lives, with its limits and network policies.
        Namespace = "namespace",
        /// New passwords, beside those in use.
        Renew = "renew",
        /// Its own database and roles.
        Database = "database",
        /// Its own Redis user and key prefix.
        Redis = "redis",
        /// Credentials where the instance reads them.
        Secrets = "secrets",
        /// The instance itself.
        Instance = "instance",
        /// Wait until it answers its health check.
        Rollout = "rollout",
        /// Its database schema.
        Migrate = "migrate",
        /// Its own application id, credentials and addresses.
        Bootstrap = "bootstrap",
        /// Scraping, alerts, dashboard.
        Monitoring = "monitoring",
        /// The edge may send requests.
        Activate = "activate",
        /// What the new passwords replaced opens nothing any more.
        Retire = "retire",
    }
}

impl Step {
    /// Position in the order of execution, from 0.
    pub fn ordinal(self) -> i32 {
        self as i32
    }

    /// The steps that build an application.
    pub const PROVISION: &'static [Self] = &[
        Self::Preflight,
        Self::Namespace,
        Self::Database,
        Self::Redis,
        Self::Secrets,
        Self::Instance,
        Self::Rollout,
        Self::Migrate,
        Self::Bootstrap,
        Self::Monitoring,
        Self::Activate,
    ];

    /// The steps of a kind of operation in their order. A purge undoes them. Whatever leaves the application running goes
    /// through all that build it, but a restart and a rotation: each finds what is there, and does what is missing.
    pub const fn of(kind: JobKind) -> &'static [Self] {
        match kind {
            JobKind::Provision | JobKind::Update | JobKind::Resume | JobKind::Undelete => Self::PROVISION,
            JobKind::Restart => &[Self::Preflight, Self::Instance, Self::Rollout, Self::Activate],
            // Both passwords are good from `Database` on, until nobody uses the older one any more.
            JobKind::Rotate => &[
                Self::Preflight,
                Self::Renew,
                Self::Database,
                Self::Redis,
                Self::Secrets,
                Self::Instance,
                Self::Rollout,
                Self::Activate,
                Self::Retire,
            ],
            // The edge refuses by the status, before a step is taken.
            JobKind::Suspend | JobKind::Delete => &[Self::Instance, Self::Activate],
            // In reverse: what serves goes before what it needs. Nothing has to be there for it.
            JobKind::Purge => &[
                Self::Activate,
                Self::Monitoring,
                Self::Bootstrap,
                Self::Migrate,
                Self::Rollout,
                Self::Instance,
                Self::Secrets,
                Self::Redis,
                Self::Database,
                Self::Namespace,
            ],
        }
    }

    /// What the step does, for people who watch it.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Preflight => "Check that everything needed is there",
            Self::Namespace => "Create the isolated namespace",
            Self::Renew => "Make new credentials",
            Self::Database => "Create the database and its roles",
            Self::Redis => "Create the Redis user",
            Self::Secrets => "Store the credentials",
            Self::Instance => "Start the instance",
            Self::Rollout => "Wait for the instance to become healthy",
            Self::Migrate => "Prepare the database schema",
            Self::Bootstrap => "Read the instance's own credentials",
            Self::Monitoring => "Set up monitoring",
            Self::Activate => "Open the application for requests",
            Self::Retire => "Take the old credentials away",
        }
    }
}
