//! Databases of tenants: strategies to keep them apart from each other and from the platform.
//!
//! Owns the names of a tenant's database and roles, and what they look like; the strategies are behind
//! [`DatabaseStrategy`]. When the tenant server is away, slow or full, calls end in a [`DatabaseError`] within their limit and
//! leave something that the next call completes: everything is observed before it is changed.

mod db;
pub mod names;
mod schema;
mod scram;
mod session;
mod shared;

use std::time::Duration;

use async_trait::async_trait;
use authsome_core::id::ApplicationId;
use authsome_core::secret::SecretUrl;
use secrecy::SecretString;

use crate::lease::{Fence, Fenced};
use crate::runtime::{RuntimeError, Site};

pub use db::NameError;
pub use names::Slot;
pub use schema::SharedDatabase;
pub use shared::{ServerUrlError, SharedServer};

/// Why a tenant's database is not as it should be. Holds no password and no statement.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// The lease is lost or too short.
    #[error(transparent)]
    Fenced(#[from] Fenced),
    /// The server did not answer in time.
    #[error("tenant database server: {what}: no answer within {limit:?}")]
    TimedOut {
        /// What was asked of it.
        what: &'static str,
        /// How long it had.
        limit: Duration,
    },
    /// The server cannot be reached, is overloaded or shuts down.
    #[error("tenant database server: {what}")]
    Unavailable {
        /// What was asked of it.
        what: &'static str,
        /// How it failed.
        source: sqlx::Error,
    },
    /// The server refused; asking again will not help.
    #[error("tenant database server: {what}")]
    Refused {
        /// What was asked of it.
        what: &'static str,
        /// Why.
        source: sqlx::Error,
    },
    /// The server or the administrator's rights on it are not what they must be.
    #[error("tenant database server: {0}")]
    Unsuitable(String),
    /// The place where a server of the tenant's own runs.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// A name that cannot be an identifier.
    #[error(transparent)]
    Name(#[from] NameError),
}

impl DatabaseError {
    fn from_sqlx(what: &'static str, source: sqlx::Error) -> Self {
        let transient = match &source {
            sqlx::Error::Database(error) => {
                let code = error.code().unwrap_or_default();
                // Connection, resources, shutdown and timeouts; object in use, lock not available, deadlock; and a catalog row
                // that another session changed at the same moment, which has no code of its own.
                ["08", "53", "57", "55", "40"]
                    .iter()
                    .any(|class| code.starts_with(class))
                    || error.message().contains("concurrently updated")
            }
            sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed => true,
            _ => false,
        };
        if transient {
            Self::Unavailable { what, source }
        } else {
            Self::Refused { what, source }
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

    fn code(&self) -> Option<String> {
        match self {
            Self::Unavailable { source, .. } | Self::Refused { source, .. } => source
                .as_database_error()
                .and_then(sqlx::error::DatabaseError::code)
                .map(Into::into),
            _ => None,
        }
    }
}

/// A tenant, as its database server is to know it.
#[derive(Debug, Clone, Copy)]
pub struct Tenant<'a> {
    /// The application.
    pub id: ApplicationId,
    /// Connections that its instances may open together.
    pub connection_limit: u32,
    /// The passwords of the login roles, in the order of [`Slot::ALL`]; a role without one is closed.
    pub passwords: [Option<&'a SecretString>; 2],
    /// Its place, for a strategy that puts a server there.
    pub site: Option<&'a Site>,
}

/// What a tenant uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// The suffix of the application's id.
    pub suffix: String,
    /// Bytes of storage, indexes included.
    pub bytes: i64,
    /// Sessions.
    pub connections: i64,
}

/// A way to give each application a database of its own.
#[async_trait]
pub trait DatabaseStrategy: Send + Sync {
    /// Its name in configuration and logs.
    fn name(&self) -> &'static str;

    /// Can it work: the server answers, the administrator may do what is needed, and tenants cannot enter what is not theirs.
    /// Closes what it may close. Returns the names of databases that any tenant can still connect to.
    async fn check(&self, fence: &Fence) -> Result<Vec<String>, DatabaseError>;

    /// Is it known without a call that nothing changed since it was last found right? A strategy whose servers nobody watches
    /// says yes: steps look, and nobody else does.
    fn is_verified(&self, _site: &Site) -> bool {
        true
    }

    /// What is not as it should be; nothing when all is done.
    async fn differences(&self, tenant: &Tenant<'_>, fence: &Fence) -> Result<Vec<String>, DatabaseError>;

    /// Makes it as it should be.
    async fn ensure(&self, tenant: &Tenant<'_>, fence: &Fence) -> Result<(), DatabaseError>;

    /// Is there anything left of the tenant?
    async fn is_absent(&self, id: ApplicationId, fence: &Fence) -> Result<bool, DatabaseError>;

    /// Ends the tenant's sessions and removes its data, database and roles. Cannot be undone.
    async fn remove(&self, id: ApplicationId, fence: &Fence) -> Result<(), DatabaseError>;

    /// The address of the tenant's database for an instance.
    fn url(&self, id: ApplicationId, slot: Slot, password: &SecretString) -> SecretUrl;

    /// What each tenant uses, in one question for all of them; nothing where their servers are not one.
    async fn usage(&self, _fence: &Fence) -> Result<Vec<Usage>, DatabaseError> {
        Ok(Vec::new())
    }
}

#[cfg(test)]
mod tests;
