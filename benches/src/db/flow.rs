//! How far what flows through the control database has come.

use sqlx::PgConnection;

/// Changes that Redis and the stream both have.
pub async fn relayed(connection: &mut PgConnection) -> i64 {
    sqlx::query_scalar("SELECT min(position) FROM relay_cursors WHERE target IN ('redis', 'stream')")
        .fetch_one(connection)
        .await
        .unwrap()
}

/// Changes that wait in the outbox or have been there.
pub async fn written(connection: &mut PgConnection) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM outbox WHERE topic <> 'job'")
        .fetch_one(connection)
        .await
        .unwrap()
}

/// Requests that all usage counters hold together.
pub async fn counted(connection: &mut PgConnection) -> i64 {
    sqlx::query_scalar("SELECT coalesce(sum(requests), 0)::bigint FROM usage_counters")
        .fetch_one(connection)
        .await
        .unwrap()
}
