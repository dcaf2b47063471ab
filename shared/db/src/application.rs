//! The status of an application, which control and the provisioner both move.

use authsome_contract::model::{
    AppStatus,
    status::{Event, IllegalTransition},
};
use authsome_core::id::ApplicationId;
use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::DbError;

/// Why a status did not move.
#[derive(Debug, thiserror::Error)]
pub enum TransitionError {
    /// There is no such application.
    #[error("application {0} does not exist")]
    Missing(ApplicationId),
    /// The present status does not allow it.
    #[error(transparent)]
    Illegal(#[from] IllegalTransition),
    /// The database.
    #[error(transparent)]
    Db(#[from] DbError),
}

impl From<sqlx::Error> for TransitionError {
    fn from(error: sqlx::Error) -> Self {
        Self::Db(error.into())
    }
}

/// Moves the status by `event` and returns the new one. The row is locked until the transaction ends, so two events never
/// cross. `deadline` is kept only where the new status is transitional.
pub async fn transition(
    connection: &mut PgConnection,
    id: ApplicationId,
    event: Event,
    deadline: OffsetDateTime,
) -> Result<AppStatus, TransitionError> {
    let row = sqlx::query!(
        "SELECT status FROM applications WHERE id = $1 FOR UPDATE",
        id as ApplicationId
    )
    .fetch_optional(&mut *connection)
    .await?
    .ok_or(TransitionError::Missing(id))?;
    let status: AppStatus = row
        .status
        .parse()
        .map_err(|e| DbError::unknown_name("applications", "status", id, &e))?;
    let next = status.after(event)?;
    let deadline = next.is_transitional().then_some(deadline);
    sqlx::query!(
        "UPDATE applications SET status = $2, status_deadline = $3 WHERE id = $1",
        id as ApplicationId,
        next.as_str(),
        deadline,
    )
    .execute(connection)
    .await?;
    Ok(next)
}
