//! Redis users of tenants: strategies to keep them apart from each other and from the platform.
//!
//! Owns the name, rules and keys of a tenant's user; the strategies are behind [`RedisStrategy`]. When the server is away or
//! slow, calls end in a [`RedisError`] within their limit, and the next one completes what is missing.

mod acl;
mod rules;
mod session;

use std::time::Duration;

use async_trait::async_trait;
use authsome_core::id::ApplicationId;
use authsome_core::secret::SecretUrl;
use secrecy::SecretString;

use crate::lease::{Fence, Fenced};
use crate::runtime::{RuntimeError, Site};

pub use acl::{AclServer, ServerUrlError};
pub use rules::user;
pub(crate) use rules::{all as rules, hashes};

/// Why a tenant's Redis user is not as it should be. Holds no password.
#[derive(Debug, thiserror::Error)]
pub enum RedisError {
    /// The lease is lost or too short.
    #[error(transparent)]
    Fenced(#[from] Fenced),
    /// The server did not answer in time.
    #[error("tenant Redis server: {what}: no answer within {limit:?}")]
    TimedOut {
        /// What was asked of it.
        what: &'static str,
        /// How long it had.
        limit: Duration,
    },
    /// The server cannot be reached or is not ready.
    #[error("tenant Redis server: {what}")]
    Unavailable {
        /// What was asked of it.
        what: &'static str,
        /// How it failed.
        source: fred::error::Error,
    },
    /// The server refused; asking again will not help.
    #[error("tenant Redis server: {what}")]
    Refused {
        /// What was asked of it.
        what: &'static str,
        /// Why.
        source: fred::error::Error,
    },
    /// The place where a server of the tenant's own runs.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// The server is not what it must be, or answered what it never answers.
    #[error("tenant Redis server: {0}")]
    Unsuitable(String),
}

impl RedisError {
    fn from_fred(what: &'static str, source: fred::error::Error) -> Self {
        use fred::error::ErrorKind as Kind;
        let refused = match source.kind() {
            Kind::Auth | Kind::InvalidCommand | Kind::InvalidArgument | Kind::Config | Kind::Url => true,
            // What the server says in words: these pass by themselves, the rest is a refusal.
            Kind::Unknown => ![
                "LOADING",
                "BUSY",
                "TRYAGAIN",
                "MASTERDOWN",
                "CLUSTERDOWN",
                "READONLY",
                "OOM",
            ]
            .iter()
            .any(|prefix| source.details().starts_with(prefix)),
            _ => false,
        };
        if refused {
            Self::Refused { what, source }
        } else {
            Self::Unavailable { what, source }
        }
    }

    /// May the same call succeed later?
    pub fn is_transient(&self) -> bool {
        match self {
            Self::TimedOut { .. } | Self::Unavailable { .. } => true,
            Self::Runtime(error) => error.is_transient(),
            _ => false,
        }
    }
}

/// A tenant, as its Redis server is to know it.
#[derive(Debug, Clone, Copy)]
pub struct Tenant<'a> {
    /// The application.
    pub id: ApplicationId,
    /// The two passwords of its user; either opens it, so that one can be replaced while the other is in use. One that is
    /// `None` opens it no more.
    pub passwords: [Option<&'a SecretString>; 2],
    /// Its place, for a strategy that puts a server there.
    pub site: Option<&'a Site>,
}

/// A way to give each application a Redis of its own.
#[async_trait]
pub trait RedisStrategy: Send + Sync {
    /// Its name in configuration and logs.
    fn name(&self) -> &'static str;

    /// Can it work: the server answers, can keep users apart, and lets us manage them. Returns what a person should know, for
    /// the log.
    async fn check(&self, fence: &Fence) -> Result<Vec<String>, RedisError>;

    /// Is it known without a call that nothing changed since it was last found right? A strategy whose servers nobody watches
    /// says yes: steps look, and nobody else does.
    fn is_verified(&self, _site: &Site) -> bool {
        true
    }

    /// What is not as it should be; nothing when all is done.
    async fn differences(&self, tenant: &Tenant<'_>, fence: &Fence) -> Result<Vec<String>, RedisError>;

    /// Makes it as it should be.
    async fn ensure(&self, tenant: &Tenant<'_>, fence: &Fence) -> Result<(), RedisError>;

    /// Is there anything left of the tenant's user? (Keys are not counted.)
    async fn is_absent(&self, id: ApplicationId, fence: &Fence) -> Result<bool, RedisError>;

    /// Removes the user and ends its sessions, at once. Nobody can reach its keys any more.
    async fn remove(&self, id: ApplicationId, fence: &Fence) -> Result<(), RedisError>;

    /// Ends the sessions of the tenant's user that began longer ago than `age`: with a password that is no longer good.
    async fn end_sessions(&self, id: ApplicationId, age: Duration, fence: &Fence) -> Result<(), RedisError>;

    /// Removes the keys that a removed user left. Cannot be undone; takes as long as the server has keys of anybody.
    async fn remove_keys(&self, id: ApplicationId, fence: &Fence) -> Result<(), RedisError>;

    /// The address for an instance.
    fn url(&self, id: ApplicationId, password: &SecretString) -> SecretUrl;
}
