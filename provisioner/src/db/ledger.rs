//! The rows of `operations` and `provisioning_steps` as work goes on. Every statement that records names the lease.

use authsome_contract::model::{AppStatus, Step};
use authsome_core::id::{ApplicationId, OperationId};
use authsome_db::DbError;
use authsome_db::operation::{OperationStatus, StepRow};
use sqlx::{PgConnection, PgPool};
use std::time::Duration;

use super::RecordError;
use crate::lease::{Fence, Fenced};
use crate::plan::{StepStatus, Verdict};

/// Unfinished operations of a region that nobody works on and that are due: their time has come, or has run out, which ends
/// those that are not tried until they are done ([`crate::plan::is_tried_until_done`]). The longest due first, at most `limit`.
pub async fn due(pool: &PgPool, region: &str, limit: i64) -> Result<Vec<OperationId>, DbError> {
    let ids = sqlx::query_scalar!(
        r#"SELECT o.id AS "id: OperationId"
           FROM operations o
           JOIN applications a ON a.id = o.application_id
           LEFT JOIN application_leases l ON l.application_id = o.application_id AND l.expires_at > clock_timestamp()
           WHERE o.status IN ('queued', 'running') AND a.region = $1 AND l.application_id IS NULL
             AND (o.next_attempt_at <= clock_timestamp()
                  OR (o.deadline_at <= clock_timestamp() AND o.kind NOT IN ('suspend', 'delete', 'purge')))
           ORDER BY o.next_attempt_at LIMIT $2"#,
        region,
        limit,
    )
    .fetch_all(pool)
    .await?;
    Ok(ids)
}

/// How many unfinished operations of a region are due, those under a lease included.
pub async fn count_due(pool: &PgPool, region: &str) -> Result<i64, DbError> {
    let count = sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM operations o JOIN applications a ON a.id = o.application_id
           WHERE o.status IN ('queued', 'running') AND a.region = $1 AND o.next_attempt_at <= clock_timestamp()"#,
        region,
    )
    .fetch_one(pool)
    .await?;
    Ok(count)
}

/// Begins an execution, or goes on with one that was interrupted, and returns its number from 1. Only an execution begun
/// from `queued` counts: what a killed worker left as `running` is the same attempt.
pub async fn begin(pool: &PgPool, fence: &Fence, operation: OperationId) -> Result<i32, RecordError> {
    let attempts = sqlx::query_scalar!(
        "WITH lease AS (
            SELECT 1 FROM application_leases
            WHERE application_id = $2 AND holder = $3 AND epoch = $4 AND expires_at > clock_timestamp() FOR SHARE)
         UPDATE operations
         SET attempts = attempts + (status = 'queued')::integer, status = 'running',
             started_at = coalesce(started_at, now())
         WHERE id = $1 AND status IN ('queued', 'running') AND EXISTS (SELECT 1 FROM lease)
         RETURNING attempts",
        operation as OperationId,
        fence.application_id() as ApplicationId,
        fence.holder(),
        fence.epoch(),
    )
    .fetch_optional(pool)
    .await?;
    attempts.ok_or(RecordError::Fenced(Fenced))
}

/// Adds the steps that the operation was not created with.
pub async fn add_steps(
    pool: &PgPool,
    fence: &Fence,
    operation: OperationId,
    steps: impl Iterator<Item = Step>,
) -> Result<(), RecordError> {
    let (names, ordinals): (Vec<String>, Vec<i32>) =
        steps.map(|step| (step.as_str().to_owned(), step.ordinal())).unzip();
    sqlx::query!(
        "WITH lease AS (
            SELECT 1 FROM application_leases
            WHERE application_id = $2 AND holder = $3 AND epoch = $4 AND expires_at > clock_timestamp() FOR SHARE)
         INSERT INTO provisioning_steps (operation_id, step, ordinal)
         SELECT $1, step, ordinal FROM unnest($5::text[], $6::integer[]) AS s (step, ordinal)
         WHERE EXISTS (SELECT 1 FROM lease)
         ON CONFLICT (operation_id, step) DO NOTHING",
        operation as OperationId,
        fence.application_id() as ApplicationId,
        fence.holder(),
        fence.epoch(),
        &names,
        &ordinals,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// A step begins: `running`, one attempt more.
pub async fn begin_step(pool: &PgPool, fence: &Fence, operation: OperationId, step: Step) -> Result<(), RecordError> {
    let begun = sqlx::query!(
        "WITH lease AS (
            SELECT 1 FROM application_leases
            WHERE application_id = $3 AND holder = $4 AND epoch = $5 AND expires_at > clock_timestamp() FOR SHARE)
         UPDATE provisioning_steps
         SET status = 'running', attempts = attempts + 1, detail = NULL, started_at = now(), finished_at = NULL
         WHERE operation_id = $1 AND step = $2 AND EXISTS (SELECT 1 FROM lease)",
        operation as OperationId,
        step.as_str(),
        fence.application_id() as ApplicationId,
        fence.holder(),
        fence.epoch(),
    )
    .execute(pool)
    .await?;
    announce(pool, operation, begun.rows_affected()).await
}

/// How far the step that is under way has come, for people who watch.
pub async fn tell(pool: &PgPool, fence: &Fence, step: Step, detail: &str) -> Result<(), RecordError> {
    let told = sqlx::query_scalar!(
        r#"WITH lease AS (
            SELECT 1 FROM application_leases
            WHERE application_id = $1 AND holder = $2 AND epoch = $3 AND expires_at > clock_timestamp() FOR SHARE)
         UPDATE provisioning_steps s SET detail = $5 FROM operations o
         WHERE o.id = s.operation_id AND o.application_id = $1 AND o.status = 'running'
           AND s.step = $4 AND s.status = 'running' AND EXISTS (SELECT 1 FROM lease)
         RETURNING s.operation_id AS "id: OperationId""#,
        fence.application_id() as ApplicationId,
        fence.holder(),
        fence.epoch(),
        step.as_str(),
        detail,
    )
    .fetch_optional(pool)
    .await?;
    // Outside of an operation (an instance that is brought back) nobody watches.
    match told {
        Some(operation) => announce(pool, operation, 1).await,
        None => Ok(()),
    }
}

/// A step ends with this status and public detail.
pub async fn end_step(
    pool: &PgPool,
    fence: &Fence,
    operation: OperationId,
    step: Step,
    status: StepStatus,
    detail: &str,
) -> Result<(), RecordError> {
    let ended = sqlx::query!(
        "WITH lease AS (
            SELECT 1 FROM application_leases
            WHERE application_id = $3 AND holder = $4 AND epoch = $5 AND expires_at > clock_timestamp() FOR SHARE)
         UPDATE provisioning_steps
         SET status = $6, detail = $7, started_at = coalesce(started_at, now()), finished_at = now()
         WHERE operation_id = $1 AND step = $2 AND EXISTS (SELECT 1 FROM lease)",
        operation as OperationId,
        step.as_str(),
        fence.application_id() as ApplicationId,
        fence.holder(),
        fence.epoch(),
        status.as_str(),
        detail,
    )
    .execute(pool)
    .await?;
    announce(pool, operation, ended.rows_affected()).await
}

/// Wakes those who watch the operation: its row has a trigger for that, its steps have not.
async fn announce(pool: &PgPool, operation: OperationId, recorded: u64) -> Result<(), RecordError> {
    if recorded == 0 {
        return Err(RecordError::Fenced(Fenced));
    }
    let channel = authsome_contract::wire::names::OPERATIONS_CHANNEL;
    sqlx::query!("SELECT pg_notify($1, $2)", channel, operation.to_string())
        .execute(pool)
        .await?;
    Ok(())
}

/// What the ledger says of the steps, in their order.
pub fn statuses(operation: OperationId, rows: &[StepRow]) -> Result<Vec<(Step, StepStatus)>, DbError> {
    rows.iter()
        .map(
            |row| match StepStatus::ALL.iter().find(|status| status.as_str() == row.status) {
                Some(status) => Ok((row.step, *status)),
                None => Err(DbError::Inconsistent {
                    table: "provisioning_steps",
                    column: "status",
                    row: operation.to_string(),
                    detail: format!("{:?} is not a known step status", row.status),
                }),
            },
        )
        .collect()
}

/// The rest of this file runs inside a transaction that holds the lease (`lease::hold`): a step's end without a wake-up,
/// since the operation's own row follows.
pub async fn end_step_within(
    connection: &mut PgConnection,
    operation: OperationId,
    step: Step,
    status: StepStatus,
    detail: &str,
) -> Result<(), RecordError> {
    sqlx::query!(
        "UPDATE provisioning_steps
         SET status = $3, detail = $4, started_at = coalesce(started_at, now()), finished_at = now()
         WHERE operation_id = $1 AND step = $2",
        operation as OperationId,
        step.as_str(),
        status.as_str(),
        detail,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Back to the queue, due after `delay`, with a line for the operators' log, of which the end is kept. `reason` is what is shown
/// beside the operation meanwhile, where it is known.
pub async fn requeue_within(
    connection: &mut PgConnection,
    operation: OperationId,
    delay: Duration,
    log: &str,
    reason: Option<&str>,
) -> Result<(), RecordError> {
    sqlx::query!(
        "UPDATE operations
         SET status = 'queued', next_attempt_at = clock_timestamp() + make_interval(secs => $2),
             error_log = right(concat_ws(E'\n', error_log, $3::text), 65536), reason = coalesce($4, reason)
         WHERE id = $1 AND status = 'running'",
        operation as OperationId,
        delay.as_secs_f64(),
        log,
        reason,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Ends the operation; false if it had ended before. `verdict` and `log` where it failed.
pub async fn finish_within(
    connection: &mut PgConnection,
    operation: OperationId,
    status: OperationStatus,
    verdict: Option<&Verdict>,
    log: Option<&str>,
) -> Result<bool, RecordError> {
    let finished = sqlx::query!(
        "UPDATE operations
         SET status = $2, finished_at = now(), reason = $3, remediation = $4,
             error_log = nullif(concat_ws(E'\n', error_log, $5::text), '')
         WHERE id = $1 AND status IN ('queued', 'running')",
        operation as OperationId,
        status.as_str(),
        verdict.map(|verdict| &verdict.reason),
        verdict.map(|verdict| &verdict.remediation),
        log,
    )
    .execute(connection)
    .await?;
    Ok(finished.rows_affected() == 1)
}

/// The application is as its intent of this generation says; false if the intent is another by now. What edges have kept of the
/// instances before it is not used any more.
pub async fn observed_within(
    connection: &mut PgConnection,
    application: ApplicationId,
    generation: i64,
) -> Result<bool, RecordError> {
    let observed = sqlx::query!(
        "UPDATE applications
         SET observed_generation = $2, activated_at = coalesce(activated_at, now()),
             failure_reason = NULL, failure_remediation = NULL, error_log = NULL,
             -- Above all purges before it, as each must be.
             cache_purges = jsonb_build_object('allMs', greatest(
                 floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint,
                 1 + (cache_purges ->> 'allMs')::bigint,
                 1 + (SELECT max(at::bigint) FROM jsonb_each_text(cache_purges -> 'tags') AS tag(name, at))))
         WHERE id = $1 AND generation = $2",
        application as ApplicationId,
        generation,
    )
    .execute(connection)
    .await?;
    Ok(observed.rows_affected() == 1)
}

/// The application is stopped, as its intent of this generation says; false if the intent is another by now.
pub async fn stopped_within(
    connection: &mut PgConnection,
    application: ApplicationId,
    generation: i64,
    status: AppStatus,
) -> Result<bool, RecordError> {
    let observed = sqlx::query!(
        "UPDATE applications SET observed_generation = $2 WHERE id = $1 AND generation = $2 AND status = $3",
        application as ApplicationId,
        generation,
        status.as_str(),
    )
    .execute(connection)
    .await?;
    Ok(observed.rows_affected() == 1)
}

/// Nothing is left of the application, as its intent of this generation says; false if the intent is another by now.
pub async fn purged_within(
    connection: &mut PgConnection,
    application: ApplicationId,
    generation: i64,
) -> Result<bool, RecordError> {
    let purged = sqlx::query!(
        "UPDATE applications SET observed_generation = $2 WHERE id = $1 AND generation = $2",
        application as ApplicationId,
        generation,
    )
    .execute(connection)
    .await?;
    Ok(purged.rows_affected() == 1)
}

/// Why the application's last operation failed, beside the application.
pub async fn failed_within(
    connection: &mut PgConnection,
    application: ApplicationId,
    operation: OperationId,
    verdict: &Verdict,
) -> Result<(), RecordError> {
    sqlx::query!(
        "UPDATE applications
         SET failure_reason = $2, failure_remediation = $3,
             error_log = (SELECT error_log FROM operations WHERE id = $4)
         WHERE id = $1",
        application as ApplicationId,
        verdict.reason,
        verdict.remediation,
        operation as OperationId,
    )
    .execute(connection)
    .await?;
    Ok(())
}
