//! The rows of `application_credentials`: generated, sealed, and never changed but by a rotation.

use authsome_core::id::ApplicationId;
use authsome_db::DbError;
use sqlx::PgPool;

use super::{RecordError, lease};
use crate::lease::Fence;

/// A sealed credential as it is stored.
#[derive(Clone)]
pub struct Stored {
    /// What it is for: `database_a` and so on.
    pub kind: String,
    /// Whom it belongs to on its server.
    pub username: String,
    /// The sealed password.
    pub sealed: Vec<u8>,
    /// Instances use this one.
    pub active: bool,
}

/// All credentials of an application.
pub async fn load(pool: &PgPool, application: ApplicationId) -> Result<Vec<Stored>, DbError> {
    let rows = sqlx::query_as!(
        Stored,
        "SELECT kind, username, sealed, active FROM application_credentials WHERE application_id = $1 ORDER BY kind",
        application as ApplicationId,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows)
}

/// Records credentials that are not recorded yet; those that are stay as they are.
pub async fn record(pool: &PgPool, fence: &Fence, new: &[Stored]) -> Result<(), RecordError> {
    let mut tx = pool.begin().await?;
    lease::hold(&mut tx, fence).await?;
    for credential in new {
        sqlx::query!(
            "INSERT INTO application_credentials (application_id, kind, username, sealed, active)
             VALUES ($1, $2, $3, $4, $5) ON CONFLICT (application_id, kind) DO NOTHING",
            fence.application_id() as ApplicationId,
            credential.kind,
            credential.username,
            credential.sealed,
            credential.active,
        )
        .execute(&mut *tx)
        .await?;
    }
    Ok(tx.commit().await?)
}
