//! Requests to write the routing table anew: made by an operator, fulfilled by the relay's leader.

use authsome_db::DbError;
use sqlx::PgConnection;

use super::outbox::Target;

/// A request for one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rebuild {
    /// Names it.
    pub id: i64,
    /// `redis` or `stream`.
    pub target: String,
    /// Records that the attempt under way has written.
    pub records: i64,
    /// Why the last attempt failed.
    pub failure: Option<String>,
    /// The target holds the whole table.
    pub finished: bool,
}

/// Asks for both targets, and wakes the relay at the commit. Returns the ids.
pub async fn request(connection: &mut PgConnection) -> Result<Vec<i64>, DbError> {
    sqlx::query!("DELETE FROM relay_rebuilds WHERE finished_at < now() - interval '30 days'")
        .execute(&mut *connection)
        .await?;
    Ok(
        sqlx::query_scalar!("INSERT INTO relay_rebuilds (target) VALUES ('redis'), ('stream') RETURNING id")
            .fetch_all(connection)
            .await?,
    )
}

/// How far these are.
pub async fn find(connection: &mut PgConnection, ids: &[i64]) -> Result<Vec<Rebuild>, DbError> {
    Ok(sqlx::query_as!(
        Rebuild,
        r#"SELECT id, target, records, failure, finished_at IS NOT NULL AS "finished!"
           FROM relay_rebuilds WHERE id = ANY ($1) ORDER BY id"#,
        ids,
    )
    .fetch_all(connection)
    .await?)
}

/// The attempt that fulfils everything up to `id` has written this many records.
pub async fn progress(connection: &mut PgConnection, target: Target, id: i64, records: i64) -> Result<(), DbError> {
    sqlx::query!(
        "UPDATE relay_rebuilds SET records = $3 WHERE target = $1 AND id <= $2 AND finished_at IS NULL",
        target.as_str(),
        id,
        records,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// An attempt failed; it is tried again.
pub async fn fail(connection: &mut PgConnection, target: Target, why: &str) -> Result<(), DbError> {
    sqlx::query!(
        "UPDATE relay_rebuilds SET failure = $2 WHERE target = $1 AND finished_at IS NULL",
        target.as_str(),
        why,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Everything up to `id` is fulfilled.
pub async fn finish(connection: &mut PgConnection, target: Target, id: i64) -> Result<(), DbError> {
    sqlx::query!(
        "UPDATE relay_rebuilds SET finished_at = now(), failure = NULL
         WHERE target = $1 AND id <= $2 AND finished_at IS NULL",
        target.as_str(),
        id,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Rows of the routing table: applications, keys and hosts.
pub async fn table_size(connection: &mut PgConnection) -> Result<i64, DbError> {
    Ok(sqlx::query_scalar!(
        r#"SELECT (SELECT count(*) FROM applications) + (SELECT count(*) FROM api_keys)
                + (SELECT count(*) FROM edge_hosts) AS "rows!""#
    )
    .fetch_one(connection)
    .await?)
}
