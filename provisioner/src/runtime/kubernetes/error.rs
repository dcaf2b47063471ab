//! Why a cluster did not do what it was asked.

use std::time::Duration;

use crate::lease::{CallError, Fenced};

/// One call that failed. Holds no secret: what an API server says of an object names fields, not values of a Secret.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The lease is lost or too short; nothing was asked.
    #[error(transparent)]
    Fenced(#[from] Fenced),
    /// The API server did not answer in time.
    #[error("{what}: no answer within {limit:?}")]
    TimedOut {
        /// What was asked.
        what: String,
        /// How long it had.
        limit: Duration,
    },
    /// It cannot be reached, or is overloaded.
    #[error("{what}")]
    Unavailable {
        /// What was asked.
        what: String,
        /// How it failed.
        source: Box<kube::Error>,
    },
    /// It refused; asking again does not help until something changes.
    #[error("{what}: {message}")]
    Refused {
        /// What was asked.
        what: String,
        /// Status code.
        code: u16,
        /// What it said.
        message: String,
    },
    /// The address or credentials of the cluster are not usable.
    #[error("cannot use the kubeconfig: {0}")]
    Config(String),
    /// The watch has not seen everything yet.
    #[error("what is in the cluster is not known yet")]
    Warming,
}

impl ClusterError {
    pub(super) fn from_call(what: String, error: CallError) -> Self {
        match error {
            CallError::Fenced(fenced) => Self::Fenced(fenced),
            CallError::TimedOut(limit) => Self::TimedOut { what, limit },
        }
    }

    pub(super) fn from_kube(what: String, error: kube::Error) -> Self {
        match error {
            // Too many requests, and everything that a server says of itself.
            kube::Error::Api(status) if status.code != 429 && status.code < 500 => Self::Refused {
                what,
                code: status.code,
                message: status.message,
            },
            error => Self::Unavailable {
                what,
                source: Box::new(error),
            },
        }
    }

    /// May the same call succeed later without anybody changing anything?
    pub fn is_transient(&self) -> bool {
        match self {
            Self::TimedOut { .. } | Self::Unavailable { .. } | Self::Warming => true,
            // A namespace that is being deleted refuses what is put into it, and a conflict passes.
            Self::Refused { code, message, .. } => *code == 409 || message.contains("being terminated"),
            Self::Fenced(_) | Self::Config(_) => false,
        }
    }

    /// Does it say that there is no such object, or no such kind?
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Refused { code: 404, .. })
    }

    /// Does it say that we may not?
    pub fn is_forbidden(&self) -> bool {
        matches!(self, Self::Refused { code: 403, .. })
    }

    /// What a customer may read.
    pub fn public(&self) -> &'static str {
        match self {
            Self::Refused { code: 403, message, .. } if message.contains("exceeded quota") => {
                "The application has reached the limits of its plan in the cluster."
            }
            Self::Refused { code: 401 | 403, .. } => "The platform lacks a permission in the cluster.",
            Self::Refused { code: 400 | 422, .. } => "The cluster does not accept the application's configuration.",
            Self::Config(_) => "The cluster of this region is not set up.",
            _ => "The cluster of this region cannot be used right now.",
        }
    }
}
