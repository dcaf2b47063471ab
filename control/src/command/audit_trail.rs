//! Looks of operators at the whole audit trail. Nothing is changed.

use authsome_db::DbError;
use sqlx::PgPool;

use crate::audit::verify::{self, Head, Report};

/// Checks the trail as it is at one moment: see [`verify::verify`].
pub async fn report(pool: &PgPool, only: Option<&str>, known: &[Head], trusted: &[Vec<u8>]) -> Result<Report, DbError> {
    let mut transaction = pool.begin().await?;
    crate::db::audit_trail::one_moment(&mut transaction).await?;
    verify::verify(&mut transaction, only, known, trusted).await
}

/// The heads of all chains.
pub async fn heads(pool: &PgPool) -> Result<Vec<Head>, DbError> {
    verify::heads(&mut *pool.acquire().await?).await
}
