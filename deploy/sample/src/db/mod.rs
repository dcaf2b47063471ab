//! The instance's own tables. Statements are static text; their schema is the instance's, not the platform's.

pub(crate) mod sessions;
pub(crate) mod signing_keys;
pub(crate) mod users;

use sqlx::PgPool;

use crate::error::ApiError;
use crate::jwk;

/// Any constant does, as long as all replicas use the same: it names the lock under which the tables are made.
const PREPARE_LOCK: i64 = 0x0061_7574_6873_6f6d;

const TABLES: &str = include_str!("tables.sql");

/// Creates what is missing: tables, then the signing key. Safe from several replicas at once and any number of times.
///
/// # Errors
/// [`ApiError::Database`] while the database is away or refuses.
pub(crate) async fn prepare(pool: &PgPool) -> Result<(), ApiError> {
    let mut transaction = pool.begin().await?;
    sqlx::query("SELECT pg_advisory_xact_lock($1)")
        .bind(PREPARE_LOCK)
        .execute(&mut *transaction)
        .await?;
    sqlx::raw_sql(TABLES).execute(&mut *transaction).await?;
    if signing_keys::count(&mut transaction).await? == 0 {
        let (private, public) = jwk::generate()?;
        signing_keys::insert(&mut transaction, &private, &public).await?;
    }
    transaction.commit().await?;
    Ok(())
}

/// Whether the database answers.
///
/// # Errors
/// [`ApiError::Database`] when it does not.
pub(crate) async fn ping(pool: &PgPool) -> Result<(), ApiError> {
    sqlx::query("SELECT 1").execute(pool).await?;
    Ok(())
}
