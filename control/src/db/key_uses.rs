//! When keys were last used.

use authsome_core::id::KeyId;
use authsome_db::DbError;
use sqlx::PgConnection;
use time::OffsetDateTime;

/// Raises each key's last use to the given time, where that is later. Rows are locked by id, so that two batches wait for each
/// other instead of deadlocking; keys that are gone are left out. Not a change that edges see.
pub async fn raise(connection: &mut PgConnection, uses: &[(KeyId, OffsetDateTime)]) -> Result<u64, DbError> {
    let raised = sqlx::query!(
        "WITH later AS (
             SELECT k.id, u.at FROM unnest($1::text[], $2::timestamptz[]) AS u (id, at) JOIN api_keys k ON k.id = u.id
             WHERE k.last_used_at IS NULL OR k.last_used_at < u.at
             ORDER BY k.id FOR NO KEY UPDATE OF k)
         UPDATE api_keys k SET last_used_at = greatest(k.last_used_at, later.at) FROM later WHERE k.id = later.id",
        &uses.iter().map(|(id, _)| id.to_string()).collect::<Vec<_>>(),
        &uses.iter().map(|(_, at)| *at).collect::<Vec<_>>(),
    )
    .execute(connection)
    .await?;
    Ok(raised.rows_affected())
}
