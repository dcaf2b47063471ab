//! The provisioner's own SQL: leases, the ledger of operations and steps, the intent of applications, and generated
//! credentials. What control writes as well is in `authsome-db`.
//!
//! Everything that records progress names the epoch of the lease it was made under, in the statement itself; once another
//! worker has taken over, it changes nothing and says [`RecordError::Fenced`].

pub mod credentials;
pub mod fleet_image;
pub mod intent;
pub mod lease;
pub mod ledger;
pub mod limits;
pub mod placement;
pub mod upgrade;

use authsome_db::DbError;
use authsome_db::application::TransitionError;

use crate::lease::Fenced;

/// Why something was not recorded.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Another worker holds the lease, or it has run out.
    #[error(transparent)]
    Fenced(#[from] Fenced),
    /// The status of the application does not allow what was to be recorded.
    #[error(transparent)]
    Transition(TransitionError),
    /// The database.
    #[error(transparent)]
    Db(#[from] DbError),
}

impl From<sqlx::Error> for RecordError {
    fn from(error: sqlx::Error) -> Self {
        Self::Db(error.into())
    }
}

impl From<TransitionError> for RecordError {
    fn from(error: TransitionError) -> Self {
        match error {
            TransitionError::Db(error) => Self::Db(error),
            error => Self::Transition(error),
        }
    }
}
