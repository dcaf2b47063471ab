//! The rows of `application_credentials`: generated, sealed, and never changed but by a rotation.

use std::time::Duration;

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
    /// It opens what it is for.
    pub open: bool,
    /// The generation of the intent that made it; 0 is the first of all.
    pub generation: i64,
}

/// All credentials of an application.
pub async fn load(pool: &PgPool, application: ApplicationId) -> Result<Vec<Stored>, DbError> {
    let rows = sqlx::query_as!(
        Stored,
        "SELECT kind, username, sealed, active, open, generation FROM application_credentials WHERE application_id = $1 ORDER BY kind",
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

/// Replaces passwords that instances do not use, for a generation.
pub async fn renew(pool: &PgPool, fence: &Fence, new: &[Stored]) -> Result<(), RecordError> {
    let mut tx = pool.begin().await?;
    lease::hold(&mut tx, fence).await?;
    for credential in new {
        sqlx::query!(
            "UPDATE application_credentials SET sealed = $3, generation = $4, open = true, created_at = now()
             WHERE application_id = $1 AND kind = $2 AND NOT active",
            fence.application_id() as ApplicationId,
            credential.kind,
            credential.sealed,
            credential.generation,
        )
        .execute(&mut *tx)
        .await?;
    }
    Ok(tx.commit().await?)
}

/// Makes these the ones that instances use, in the place of those: `(used from now on, used until now)`.
pub async fn switch(pool: &PgPool, fence: &Fence, pairs: &[(&str, &str)]) -> Result<(), RecordError> {
    let mut tx = pool.begin().await?;
    lease::hold(&mut tx, fence).await?;
    for (next, last) in pairs {
        sqlx::query!(
            "UPDATE application_credentials SET active = (kind = $2) WHERE application_id = $1 AND kind IN ($2, $3)",
            fence.application_id() as ApplicationId,
            *next,
            *last,
        )
        .execute(&mut *tx)
        .await?;
    }
    Ok(tx.commit().await?)
}

/// Records that these open nothing any more.
pub async fn close(pool: &PgPool, fence: &Fence, kinds: &[&str]) -> Result<(), RecordError> {
    let mut tx = pool.begin().await?;
    lease::hold(&mut tx, fence).await?;
    for kind in kinds {
        sqlx::query!(
            "UPDATE application_credentials SET open = false WHERE application_id = $1 AND kind = $2 AND NOT active",
            fence.application_id() as ApplicationId,
            *kind,
        )
        .execute(&mut *tx)
        .await?;
    }
    Ok(tx.commit().await?)
}

/// How long ago a credential was made.
pub async fn age(pool: &PgPool, application: ApplicationId, kind: &str) -> Result<Option<Duration>, DbError> {
    let seconds = sqlx::query_scalar!(
        r#"SELECT extract(epoch FROM now() - created_at)::float8 AS "seconds!" FROM application_credentials
           WHERE application_id = $1 AND kind = $2"#,
        application as ApplicationId,
        kind,
    )
    .fetch_optional(pool)
    .await?;
    Ok(seconds.map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or_default()))
}
