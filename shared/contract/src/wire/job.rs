//! Jobs for the provisioner. They carry ids and a generation only: the intent is read from Postgres, so a job that is late,
//! doubled or lost changes nothing but the time it takes.

use authsome_core::id::{ApplicationId, OperationId};
use serde::{Deserialize, Serialize};

use crate::model::closed::closed_set;

closed_set! {
    /// What to do with an application.
    JobKind, "job kind" {
        /// Build it.
        Provision = "provision",
        /// Roll out changed configuration.
        Update = "update",
        /// Restart its instances.
        Restart = "restart",
        /// Stop it, keeping data.
        Suspend = "suspend",
        /// Start it again.
        Resume = "resume",
        /// Stop it for its grace period.
        Delete = "delete",
        /// Bring it back from its grace period.
        Undelete = "undelete",
        /// Destroy it.
        Purge = "purge",
        /// Give it new credentials.
        Rotate = "rotate",
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
