//! Migrations: embedded in the binary, run by whichever process comes first.

use std::time::Duration;

use sqlx::migrate::Migrate;
use sqlx::{Connection, PgConnection, PgPool};

use crate::DbError;

/// The migrations of the control database.
pub static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!("../../migrations");

/// Key of the advisory lock that a migrating process holds ("authsome" in ASCII).
pub const LOCK: i64 = 0x6175_7468_736f_6d65;

/// Why the schema is not up to date.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The database.
    #[error(transparent)]
    Db(#[from] DbError),
    /// A migration failed, or one that was applied has been edited since.
    #[error("migration: {0}")]
    Migration(#[from] sqlx::migrate::MigrateError),
    /// Another process held the lock for the whole time.
    #[error("another process has been migrating for {0:?}")]
    Locked(Duration),
}

/// Brings the schema up to date. Any number of processes may call it at once: one works, the others wait for at most
/// `patience` and then find nothing to do.
///
/// The lock is tried, not waited for: a waiting session holds a snapshot, and `CREATE INDEX CONCURRENTLY` in a migration would
/// wait for that snapshot for ever.
///
/// Migrations that a later release has applied are let be: during an upgrade both releases run, and a process of the
/// earlier one must be able to restart on the newer schema (migrations expand first and contract a release later).
pub async fn migrate(pool: &PgPool, patience: Duration) -> Result<(), MigrateError> {
    let mut connection = pool.acquire().await.map_err(DbError::from)?.detach();
    // A migration may rewrite a table; the statement timeout is for requests.
    sqlx::query("SET statement_timeout = 0")
        .execute(&mut connection)
        .await
        .map_err(DbError::from)?;
    let outcome = locked(&mut connection, patience).await;
    // Closing the session also releases the lock.
    connection.close().await.map_err(DbError::from)?;
    outcome
}

/// How many migrations of this release the database lacks. For processes that leave migrating to others.
pub async fn pending(pool: &PgPool) -> Result<usize, MigrateError> {
    /// SQLSTATE of a table that does not exist.
    const UNDEFINED_TABLE: &str = "42P01";
    let mut connection = pool.acquire().await.map_err(DbError::from)?;
    let applied = match connection.list_applied_migrations(&MIGRATOR.table_name).await {
        Ok(applied) => applied,
        Err(sqlx::migrate::MigrateError::Execute(sqlx::Error::Database(error)))
            if error.code().as_deref() == Some(UNDEFINED_TABLE) =>
        {
            Vec::new()
        }
        Err(error) => return Err(error.into()),
    };
    let lacks = |version: i64| !applied.iter().any(|migration| migration.version == version);
    Ok(MIGRATOR.iter().filter(|migration| lacks(migration.version)).count())
}

async fn locked(connection: &mut PgConnection, patience: Duration) -> Result<(), MigrateError> {
    let started = tokio::time::Instant::now();
    while !sqlx::query_scalar!(r#"SELECT pg_try_advisory_lock($1) AS "held!""#, LOCK)
        .fetch_one(&mut *connection)
        .await
        .map_err(DbError::from)?
    {
        if started.elapsed() >= patience {
            return Err(MigrateError::Locked(patience));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let unlocked = sqlx::migrate::Migrator {
        migrations: MIGRATOR.migrations.clone(),
        ignore_missing: true,
        locking: false,
        no_tx: MIGRATOR.no_tx,
        ..sqlx::migrate::Migrator::DEFAULT
    };
    // `run` asks for `Acquire`, whose future cannot be spawned ("not general enough").
    unlocked.run_direct(None, connection, false).await?;
    Ok(())
}
