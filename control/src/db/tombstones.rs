//! What is left of rows that are gone: name and last version, for as long as an older copy may be somewhere.

use std::time::Duration;

use authsome_db::DbError;
use sqlx::PgConnection;

/// A row that is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tombstone {
    /// `app`, `key` or `host`.
    pub topic: String,
    /// Application id, digest in hex, or host name.
    pub reference: String,
    /// Restore epoch of its version.
    pub epoch: i64,
    /// One above the last version of the row.
    pub version: i64,
}

/// The next tombstones after (`topic`, `reference`), at most `limit`. Start with empty texts.
pub async fn page(
    connection: &mut PgConnection,
    topic: &str,
    reference: &str,
    limit: i64,
) -> Result<Vec<Tombstone>, DbError> {
    Ok(sqlx::query_as!(
        Tombstone,
        "SELECT topic, ref AS reference, epoch, version FROM edge_tombstones
         WHERE (topic, ref) > ($1, $2) ORDER BY topic, ref LIMIT $3",
        topic,
        reference,
        limit,
    )
    .fetch_all(connection)
    .await?)
}

/// At most `limit` that are older than `age` and that Redis and the stream have received, oldest first.
pub async fn outlived(connection: &mut PgConnection, age: Duration, limit: i64) -> Result<Vec<Tombstone>, DbError> {
    Ok(sqlx::query_as!(
        Tombstone,
        "SELECT topic, ref AS reference, epoch, version FROM edge_tombstones
         WHERE buried_at < now() - make_interval(secs => $1)
           AND buried_at < coalesce((SELECT min(created_at) FROM outbox WHERE position IS NULL OR position >
                   (SELECT min(position) FROM relay_cursors WHERE target IN ('redis', 'stream'))), 'infinity')
         ORDER BY buried_at LIMIT $2",
        age.as_secs_f64(),
        limit,
    )
    .fetch_all(connection)
    .await?)
}

/// It is nowhere any more. A later one of the same name stays.
pub async fn forget(connection: &mut PgConnection, tombstone: &Tombstone) -> Result<(), DbError> {
    sqlx::query!(
        "DELETE FROM edge_tombstones WHERE topic = $1 AND ref = $2 AND epoch = $3 AND version = $4",
        tombstone.topic,
        tombstone.reference,
        tombstone.epoch,
        tombstone.version,
    )
    .execute(connection)
    .await?;
    Ok(())
}
