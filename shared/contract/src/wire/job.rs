//! Jobs for the provisioner. They carry ids and a generation only: the intent is read from Postgres, so a job that is late,
//! doubled or lost changes nothing but the time it takes.

use authsome_core::id::{ApplicationId, OperationId};
use serde::{Deserialize, Serialize};

/// What to do with an application.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobKind {
    /// Build it.
    Provision,
    /// Roll out changed configuration.
    Update,
    /// Restart its instances.
    Restart,
    /// Stop it, keeping data.
    Suspend,
    /// Start it again.
    Resume,
    /// Stop it for its grace period.
    Delete,
    /// Bring it back from its grace period.
    Undelete,
    /// Destroy it.
    Purge,
    /// Give it new credentials.
    Rotate,
}

impl JobKind {
    /// Every kind.
    pub const ALL: &'static [Self] = &[
        Self::Provision,
        Self::Update,
        Self::Restart,
        Self::Suspend,
        Self::Resume,
        Self::Delete,
        Self::Undelete,
        Self::Purge,
        Self::Rotate,
    ];

    /// Name in SQL, subjects and metric labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Provision => "provision",
            Self::Update => "update",
            Self::Restart => "restart",
            Self::Suspend => "suspend",
            Self::Resume => "resume",
            Self::Delete => "delete",
            Self::Undelete => "undelete",
            Self::Purge => "purge",
            Self::Rotate => "rotate",
        }
    }
}

/// A job message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Job {
    /// The operation that it carries out.
    pub operation_id: OperationId,
    /// The application it concerns.
    pub application_id: ApplicationId,
    /// What to do.
    pub kind: JobKind,
    /// Generation of the intent when the job was made; an older one is superseded.
    pub generation: i64,
    /// Home region of the application, part of the subject.
    pub region: String,
}

impl Job {
    /// Subject in the `JOBS` stream.
    pub fn subject(&self) -> String {
        super::names::job(self.kind.as_str(), &self.region)
    }
}
