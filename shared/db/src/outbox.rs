//! Writing to the outbox. Route changes write themselves (triggers on `applications` and `api_keys`); jobs are written here.

use authsome_contract::wire::Job;
use sqlx::PgConnection;

use crate::DbError;

/// Puts a job into the outbox, in the transaction that made it necessary. The relay publishes it after the commit.
pub async fn enqueue_job(connection: &mut PgConnection, job: &Job) -> Result<(), DbError> {
    let payload = serde_json::to_value(job).map_err(|error| DbError::Statement(sqlx::Error::Encode(error.into())))?;
    sqlx::query!(
        "INSERT INTO outbox (topic, ref, epoch, version, payload)
         SELECT 'job', $1, epoch, $2, $3 FROM platform",
        job.operation_id.to_string(),
        job.generation,
        payload,
    )
    .execute(connection)
    .await?;
    Ok(())
}
