//! Usage counters and the month's records.

use authsome_core::id::ApplicationId;
use authsome_db::DbError;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

/// Advisory lock under which counters are merged ("usage" in ASCII).
const MERGE_LOCK: i64 = 0x75_7361_6765;

/// One application's hour at one writer, as it is reported and as it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counter {
    /// Id of the counter file.
    pub writer: Uuid,
    /// The application.
    pub application_id: ApplicationId,
    /// Start of the hour, UTC.
    pub hour: OffsetDateTime,
    /// Requests answered.
    pub requests: i64,
    /// Of those, with 5xx.
    pub errors: i64,
    /// Bytes received.
    pub bytes_in: i64,
    /// Bytes sent.
    pub bytes_out: i64,
}

/// Raises each counter to what is reported, where that is more, and adds the growth to the month's record. Counters of
/// applications that do not exist are left out; the result holds the others as they now stand.
///
/// `reported` names no (writer, application, hour) twice. One merge at a time: the lock is held until the transaction ends,
/// and is taken in a statement of its own, so that the merge sees what the merge before it committed.
pub async fn merge(connection: &mut PgConnection, reported: &[Counter]) -> Result<Vec<Counter>, DbError> {
    sqlx::query!("SELECT pg_advisory_xact_lock($1)", MERGE_LOCK)
        .execute(&mut *connection)
        .await?;
    let column = |value: fn(&Counter) -> i64| reported.iter().map(value).collect::<Vec<i64>>();
    let rows = sqlx::query_as!(
        Counter,
        r#"WITH reported AS (
               SELECT r.*, a.workspace_id
               FROM unnest($1::uuid[], $2::text[], $3::timestamptz[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[])
                        AS r (writer, application_id, hour, requests, errors, bytes_in, bytes_out)
               JOIN applications a ON a.id = r.application_id),
           merged AS (
               SELECT r.writer, r.application_id, r.hour, r.workspace_id,
                      greatest(r.requests, c.requests) AS requests, coalesce(c.requests, 0) AS had_requests,
                      greatest(r.errors, c.errors) AS errors, coalesce(c.errors, 0) AS had_errors,
                      greatest(r.bytes_in, c.bytes_in) AS bytes_in, coalesce(c.bytes_in, 0) AS had_bytes_in,
                      greatest(r.bytes_out, c.bytes_out) AS bytes_out, coalesce(c.bytes_out, 0) AS had_bytes_out
               FROM reported r LEFT JOIN usage_counters c USING (writer, application_id, hour)),
           written AS (
               INSERT INTO usage_counters AS c (writer, application_id, hour, requests, errors, bytes_in, bytes_out)
               SELECT writer, application_id, hour, requests, errors, bytes_in, bytes_out FROM merged
               ON CONFLICT (writer, application_id, hour) DO UPDATE
               SET requests = excluded.requests, errors = excluded.errors, bytes_in = excluded.bytes_in,
                   bytes_out = excluded.bytes_out, updated_at = now()
               WHERE (c.requests, c.errors, c.bytes_in, c.bytes_out)
                     <> (excluded.requests, excluded.errors, excluded.bytes_in, excluded.bytes_out)),
           growth AS (
               SELECT application_id, workspace_id, to_char(hour AT TIME ZONE 'UTC', 'YYYY-MM') AS period,
                      sum(requests - had_requests)::bigint AS requests, sum(errors - had_errors)::bigint AS errors,
                      sum(bytes_in - had_bytes_in)::bigint AS bytes_in, sum(bytes_out - had_bytes_out)::bigint AS bytes_out
               FROM merged GROUP BY 1, 2, 3),
           added AS (
               INSERT INTO usage_records AS u
                   (application_id, workspace_id, period, api_requests, errors, bytes_in, bandwidth_bytes)
               SELECT application_id, workspace_id, period, requests, errors, bytes_in, bytes_out FROM growth
               WHERE requests + errors + bytes_in + bytes_out > 0
               ON CONFLICT (application_id, period) DO UPDATE
               SET api_requests = u.api_requests + excluded.api_requests, errors = u.errors + excluded.errors,
                   bytes_in = u.bytes_in + excluded.bytes_in,
                   bandwidth_bytes = u.bandwidth_bytes + excluded.bandwidth_bytes)
           SELECT writer AS "writer!", application_id AS "application_id!: ApplicationId", hour AS "hour!",
                  requests AS "requests!", errors AS "errors!", bytes_in AS "bytes_in!", bytes_out AS "bytes_out!"
           FROM merged"#,
        &reported.iter().map(|c| c.writer).collect::<Vec<_>>(),
        &reported.iter().map(|c| c.application_id.to_string()).collect::<Vec<_>>(),
        &reported.iter().map(|c| c.hour).collect::<Vec<_>>(),
        &column(|c| c.requests),
        &column(|c| c.errors),
        &column(|c| c.bytes_in),
        &column(|c| c.bytes_out),
    )
    .fetch_all(connection)
    .await?;
    Ok(rows)
}
