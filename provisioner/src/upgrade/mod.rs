//! Upgrading the image of every application of a region, wave by wave.
//!
//! An operator begins it ([`command`]); its state is in Postgres, and whichever provisioner of the region looks next
//! ([`Driver`]) takes it one step further: it begins ordinary update operations, waits until they end, and halts when too many
//! fail. An application that fails gets its former image back at once. What to do next is decided without I/O ([`decision`]).
//! One look is one transaction, so a provisioner may be killed anywhere and another goes on; without Postgres nothing moves, and
//! operations that were begun end as they would anyway.

pub mod command;
pub mod decision;
mod driver;
pub mod line;
pub mod pin;
mod update;
pub mod wave;

use authsome_contract::model::AppStatus;
use authsome_core::id::{ApplicationId, OperationId};
use serde::Serialize;
use time::OffsetDateTime;

pub use driver::Driver;
use wave::Wave;

macro_rules! names {
    ($(#[$doc:meta])* $type:ident, $($(#[$of:meta])* $variant:ident = $name:literal),+ $(,)?) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $type {
            $($(#[$of])* $variant),+
        }

        impl $type {
            /// Name in SQL and JSON.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            /// By its name.
            pub fn named(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

names! {
    /// Where an upgrade is.
    Status,
    /// It goes on.
    Running = "running",
    /// An operator stopped it between two applications.
    Paused = "paused",
    /// Too many applications failed.
    Halted = "halted",
    /// Every application gets its former image back.
    TakingBack = "taking_back",
    /// Every application that can has the image.
    Succeeded = "succeeded",
    /// Every application has its former image.
    TakenBack = "taken_back",
    /// It ended where it stood.
    Aborted = "aborted",
}

names! {
    /// Where an application is in an upgrade.
    State,
    /// Its update is under way.
    Updating = "updating",
    /// It is healthy with the new image.
    Updated = "updated",
    /// It is stopped, and starts with the new image.
    Set = "set",
    /// It keeps its image; the reason says why.
    Left = "left",
    /// It gets its former image back.
    TakingBack = "taking_back",
    /// It has its former image.
    TakenBack = "taken_back",
    /// Neither image runs: somebody must look.
    Stuck = "stuck",
}

/// An upgrade.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the columns of the table, documented in its migration")]
pub struct Upgrade {
    pub id: i64,
    pub region: String,
    pub image: String,
    pub status: Status,
    pub waves: Vec<Wave>,
    pub wave: usize,
    pub settled_at: Option<OffsetDateTime>,
    pub soak: time::Duration,
    pub parallel: u32,
    pub max_failures: u32,
    pub forgiven: u32,
    pub total: u32,
    pub reason: Option<String>,
    pub created_at: OffsetDateTime,
    pub finished_at: Option<OffsetDateTime>,
}

/// An application in an upgrade, and where the application itself is.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the columns of the table, documented in its migration")]
pub struct Member {
    pub application: ApplicationId,
    pub wave: usize,
    pub state: State,
    pub failed: bool,
    pub previous: Option<String>,
    pub generation: i64,
    pub operation: Option<OperationId>,
    pub reason: Option<String>,
    /// The application's own status, generation made real, and the reason of its last failure.
    pub status: AppStatus,
    pub observed_generation: i64,
    pub failure: Option<String>,
}
