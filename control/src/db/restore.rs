//! After a restore of the database to an earlier point: the epoch, and the stamp of it on every row that edges see.

use authsome_db::DbError;
use sqlx::PgConnection;

/// Raises the restore epoch and returns it.
///
/// Not by one: the backup may be older than an earlier restore, whose epoch the caches have seen. The clock is past every
/// epoch that was made so before.
pub async fn raise_epoch(connection: &mut PgConnection) -> Result<i64, DbError> {
    Ok(sqlx::query_scalar!(
        "UPDATE platform SET epoch = greatest(epoch + 1, floor(extract(epoch FROM clock_timestamp()))::bigint),
                             restored_at = now()
         RETURNING epoch"
    )
    .fetch_one(connection)
    .await?)
}

/// Stamps at most `limit` applications that have an older epoch; the trigger of the table does it. Returns how many.
pub async fn stamp_applications(connection: &mut PgConnection, epoch: i64, limit: i64) -> Result<u64, DbError> {
    let done = sqlx::query!(
        "UPDATE applications SET version = version + 1
         WHERE id IN (SELECT id FROM applications WHERE epoch < $1 ORDER BY id LIMIT $2 FOR UPDATE)",
        epoch,
        limit,
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

/// The same for keys.
pub async fn stamp_keys(connection: &mut PgConnection, epoch: i64, limit: i64) -> Result<u64, DbError> {
    let done = sqlx::query!(
        "UPDATE api_keys SET version = version + 1
         WHERE id IN (SELECT id FROM api_keys WHERE epoch < $1 ORDER BY id LIMIT $2 FOR UPDATE)",
        epoch,
        limit,
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

/// The same for hosts.
pub async fn stamp_hosts(connection: &mut PgConnection, epoch: i64, limit: i64) -> Result<u64, DbError> {
    let done = sqlx::query!(
        "UPDATE hosts SET version = version + 1
         WHERE host IN (SELECT host FROM hosts WHERE epoch < $1 ORDER BY host LIMIT $2 FOR UPDATE)",
        epoch,
        limit,
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}
