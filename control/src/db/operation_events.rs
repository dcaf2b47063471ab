//! What became of an operation, event by event.

use authsome_core::id::OperationId;
use authsome_db::DbError;
use serde_json::Value;
use sqlx::PgConnection;
use time::OffsetDateTime;

/// One event.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the columns of the table, documented in its migration")]
pub struct Event {
    pub id: i64,
    /// `operation` or `step`.
    pub kind: String,
    pub data: Value,
    pub created_at: OffsetDateTime,
}

/// Events of an operation after this one, in their order, at most `limit`.
pub async fn after(
    connection: &mut PgConnection,
    operation: OperationId,
    after: i64,
    limit: i64,
) -> Result<Vec<Event>, DbError> {
    Ok(sqlx::query_as!(
        Event,
        "SELECT id, kind, data, created_at FROM operation_events WHERE operation_id = $1 AND id > $2 ORDER BY id LIMIT $3",
        operation as OperationId,
        after,
        limit,
    )
    .fetch_all(connection)
    .await?)
}

/// Ends an operation that has not ended as cancelled; false if it had.
pub async fn cancel(connection: &mut PgConnection, operation: OperationId) -> Result<bool, DbError> {
    let done = sqlx::query!(
        "UPDATE operations SET status = 'cancelled', finished_at = now(), reason = 'Cancelled by the team.'
         WHERE id = $1 AND status IN ('queued', 'running')",
        operation as OperationId,
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Why the application does not run as wanted, after its operation was cancelled.
pub async fn tell_application(
    connection: &mut PgConnection,
    application: authsome_core::id::ApplicationId,
    generation: i64,
) -> Result<(), DbError> {
    sqlx::query!(
        "UPDATE applications SET failure_reason = 'The last operation was cancelled.',
                                 failure_remediation = 'Retry it, or change the application.'
         WHERE id = $1 AND generation = $2",
        application as authsome_core::id::ApplicationId,
        generation,
    )
    .execute(connection)
    .await?;
    Ok(())
}
