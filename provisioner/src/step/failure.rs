//! What customers read when a step fails, and what operators read: from the errors of each dependency.

use authsome_db::DbError;

use super::{Cause, StepError};
use crate::credentials::CredentialError;
use crate::database::DatabaseError;
use crate::db::RecordError;
use crate::lease::Fenced;
use crate::redis::RedisError;
use crate::runtime::RuntimeError;
use crate::runtime::kubernetes::{ClusterError, VaultError};
use crate::tenancy::NotSetUp;

const SUPPORT: &str = "Contact support with the operation's id; your data and configuration are unchanged.";

pub(super) fn retry(reason: &str, source: impl Into<Cause>) -> StepError {
    StepError::Retry {
        reason: reason.to_owned(),
        source: source.into(),
    }
}

pub(super) fn fatal(reason: &str, source: impl Into<Cause>) -> StepError {
    StepError::Fatal {
        reason: reason.to_owned(),
        remediation: SUPPORT.to_owned(),
        source: source.into(),
    }
}

impl From<Fenced> for StepError {
    fn from(_: Fenced) -> Self {
        Self::Fenced
    }
}

impl From<NotSetUp> for StepError {
    fn from(error: NotSetUp) -> Self {
        fatal(
            "This region has no servers of the kind that keeps the application's data.",
            error,
        )
    }
}

impl From<DatabaseError> for StepError {
    fn from(error: DatabaseError) -> Self {
        match error {
            DatabaseError::Fenced(_) => Self::Fenced,
            DatabaseError::Runtime(error) => error.into(),
            error if error.is_transient() => retry("The database server cannot be used right now.", error),
            error => fatal("The database server does not allow what is needed.", error),
        }
    }
}

impl From<RedisError> for StepError {
    fn from(error: RedisError) -> Self {
        match error {
            RedisError::Fenced(_) => Self::Fenced,
            RedisError::Runtime(error) => error.into(),
            error if error.is_transient() => retry("The Redis server cannot be used right now.", error),
            error => fatal("The Redis server does not allow what is needed.", error),
        }
    }
}

impl From<RuntimeError> for StepError {
    fn from(error: RuntimeError) -> Self {
        match error {
            RuntimeError::Cluster(ClusterError::Fenced(_)) | RuntimeError::Vault(VaultError::Fenced(_)) => Self::Fenced,
            RuntimeError::Cluster(error) if error.is_transient() => retry(error.public(), error),
            RuntimeError::Cluster(error) => fatal(error.public(), error),
            RuntimeError::Vault(error) if error.is_transient() => {
                retry("The store of secrets cannot be used right now.", error)
            }
            RuntimeError::Vault(error) => fatal("The store of secrets does not allow what is needed.", error),
            RuntimeError::Unfit { public, detail } => fatal(&public, detail),
            RuntimeError::Full { public, detail } | RuntimeError::Remains { public, detail } => retry(&public, detail),
            RuntimeError::Unusable(unusable) => Self::Fatal {
                reason: "The application's limits, image or configuration cannot be used.".to_owned(),
                remediation: "Correct them and try again.".to_owned(),
                source: unusable.into(),
            },
            error if error.is_transient() => retry("Instances cannot be started right now.", error),
            error => fatal("The program of the instance cannot be run.", error),
        }
    }
}

impl From<CredentialError> for StepError {
    fn from(error: CredentialError) -> Self {
        match error {
            CredentialError::Fenced(_) => Self::Fenced,
            CredentialError::Db(error) => error.into(),
            error @ (CredentialError::Sealed { .. } | CredentialError::Missing(_)) => {
                fatal("The application's stored credentials cannot be read.", error)
            }
        }
    }
}

impl From<DbError> for StepError {
    fn from(error: DbError) -> Self {
        retry("The platform's own database cannot be used right now.", error)
    }
}

impl From<RecordError> for StepError {
    fn from(error: RecordError) -> Self {
        match error {
            RecordError::Fenced(_) => Self::Fenced,
            RecordError::Db(error) => error.into(),
            error @ RecordError::Transition(_) => retry("The application has changed meanwhile.", error),
        }
    }
}
