//! The queue of mail.

use authsome_db::DbError;
use serde_json::Value;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

/// A letter that is due.
#[derive(Debug)]
pub struct Due {
    /// Also its `Message-ID`, so that a letter that was sent twice is recognised as one.
    pub id: Uuid,
    /// What it is.
    pub kind: String,
    /// Whom or what it is about.
    pub params: Value,
    /// Where it goes.
    pub recipient: String,
    /// How often sending was begun, this time included.
    pub attempts: i32,
    /// When it was written.
    pub created_at: OffsetDateTime,
}

/// Queues a letter.
pub async fn insert(
    connection: &mut PgConnection,
    id: Uuid,
    kind: &str,
    params: &Value,
    recipient: &str,
    at: OffsetDateTime,
) -> Result<(), DbError> {
    sqlx::query!(
        "INSERT INTO mails (id, kind, params, recipient, next_attempt_at, created_at) VALUES ($1, $2, $3, $4, $5, $5)",
        id,
        kind,
        params,
        recipient,
        at,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// How many letters of this kind were written to the address since `long`, and since `short`.
pub async fn written_since(
    connection: &mut PgConnection,
    recipient: &str,
    kind: &str,
    long: OffsetDateTime,
    short: OffsetDateTime,
) -> Result<(i64, i64), DbError> {
    let row = sqlx::query!(
        r#"SELECT count(*) AS "long!", count(*) FILTER (WHERE created_at > $4) AS "short!" FROM mails
           WHERE lower(recipient) = lower($1) AND kind = $2 AND created_at > $3"#,
        recipient,
        kind,
        long,
        short,
    )
    .fetch_one(connection)
    .await?;
    Ok((row.long, row.short))
}

/// Takes letters that are due, oldest first, and puts their next attempt off until `lease`, so that no other replica sends them
/// meanwhile and a process that dies loses none.
pub async fn claim(
    connection: &mut PgConnection,
    now: OffsetDateTime,
    lease: OffsetDateTime,
    most: i64,
) -> Result<Vec<Due>, DbError> {
    let rows = sqlx::query_as!(
        Due,
        "UPDATE mails SET attempts = attempts + 1, next_attempt_at = $2
         WHERE id IN (SELECT id FROM mails WHERE status = 'queued' AND next_attempt_at <= $1
                      ORDER BY next_attempt_at LIMIT $3 FOR UPDATE SKIP LOCKED)
         RETURNING id, kind, params, recipient, attempts, created_at",
        now,
        lease,
        most,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows)
}

/// Puts a letter off after a failed attempt.
pub async fn put_off(
    connection: &mut PgConnection,
    id: Uuid,
    until: OffsetDateTime,
    error: &str,
) -> Result<(), DbError> {
    sqlx::query!(
        "UPDATE mails SET next_attempt_at = $2, last_error = $3 WHERE id = $1 AND status = 'queued'",
        id,
        until,
        error,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Ends a letter: `sent`, or `dropped` for a reason.
pub async fn end(
    connection: &mut PgConnection,
    id: Uuid,
    status: &'static str,
    reason: Option<&str>,
    at: OffsetDateTime,
) -> Result<(), DbError> {
    sqlx::query!(
        "UPDATE mails SET status = $2, last_error = $3, ended_at = $4 WHERE id = $1 AND status = 'queued'",
        id,
        status,
        reason,
        at,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Forgets letters that ended before `before`, and how many are waiting.
pub async fn forget(connection: &mut PgConnection, before: OffsetDateTime) -> Result<i64, DbError> {
    sqlx::query!("DELETE FROM mails WHERE status <> 'queued' AND ended_at < $1", before)
        .execute(&mut *connection)
        .await?;
    let waiting = sqlx::query_scalar!(r#"SELECT count(*) AS "count!" FROM mails WHERE status = 'queued'"#)
        .fetch_one(connection)
        .await?;
    Ok(waiting)
}
