//! The secrets that a team gave to its application, opened for the instance that needs them.
//!
//! Read anew each time an instance is started, so that nothing of them is kept here. Without the control database, or
//! without the key that a value is sealed under, no instance is started: one that came up without a secret would look well and
//! fail its users.

use authsome_contract::model::ApplicationSecrets;
use authsome_contract::model::application_secret::{open, seal};
use authsome_core::entropy::Entropy;
use authsome_core::id::ApplicationId;
use authsome_core::seal::PlatformRing;
use authsome_db::{DbError, application_secret};
use sqlx::PgPool;

use crate::credentials::CredentialError;
use crate::db;
use crate::lease::Fence;

/// What is said of a secret that does not open.
const KIND: &str = "of its own";

/// The secrets of the application, as they are now.
///
/// # Errors
/// [`CredentialError::Db`], and [`CredentialError::Sealed`] where a value does not open.
pub async fn load(
    pool: &PgPool,
    ring: &PlatformRing,
    application: ApplicationId,
) -> Result<ApplicationSecrets, CredentialError> {
    let mut connection = pool.acquire().await.map_err(DbError::from)?;
    let rows = application_secret::sealed(&mut connection, application).await?;
    rows.into_iter()
        .map(|row| match open(ring, application, &row.name, &row.sealed) {
            Ok(value) => Ok((row.name, value)),
            Err(source) => Err(CredentialError::Sealed { kind: KIND, source }),
        })
        .collect()
}

/// Is any of them sealed under another key than the present one?
///
/// # Errors
/// [`DbError`]
pub async fn are_stale(pool: &PgPool, ring: &PlatformRing, application: ApplicationId) -> Result<bool, DbError> {
    let mut connection = pool.acquire().await?;
    let rows = application_secret::sealed(&mut connection, application).await?;
    Ok(rows.iter().any(|row| ring.needs_reseal(&row.sealed)))
}

/// Seals under the present key what is sealed under another. A value that its team replaces meanwhile is left alone.
///
/// # Errors
/// [`CredentialError`]
pub async fn reseal(
    pool: &PgPool,
    ring: &PlatformRing,
    fence: &Fence,
    entropy: &dyn Entropy,
) -> Result<(), CredentialError> {
    let application = fence.application_id();
    let mut tx = pool.begin().await.map_err(DbError::from)?;
    db::lease::hold(&mut tx, fence).await?;
    for row in application_secret::sealed(&mut tx, application).await? {
        if ring.needs_reseal(&row.sealed) {
            let value = open(ring, application, &row.name, &row.sealed)
                .map_err(|source| CredentialError::Sealed { kind: KIND, source })?;
            let sealed = seal(ring, application, &row.name, &value, entropy);
            application_secret::reseal(&mut tx, application, &row, &sealed).await?;
        }
    }
    tx.commit().await.map_err(DbError::from)?;
    Ok(())
}
