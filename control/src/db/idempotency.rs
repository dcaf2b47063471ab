//! Requests that were sent with an `Idempotency-Key`, and what was answered.

use authsome_db::DbError;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

/// A request and its key.
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "the columns of the table, documented in its migration")]
pub struct Claim<'a> {
    pub caller: &'a str,
    pub digest: &'a [u8],
    pub fingerprint: &'a [u8],
    pub first_id: Uuid,
    pub now: OffsetDateTime,
    pub locked_until: OffsetDateTime,
    pub expires_at: OffsetDateTime,
}

/// What is known of the key.
#[derive(Debug)]
pub enum Claimed {
    /// The request is to be carried out; what it creates has this id.
    Ours(Uuid),
    /// The same request is under way.
    InFlight,
    /// The key was used for another request.
    Other,
    /// It was answered.
    Answered(Vec<u8>),
}

/// Claims the key for the request, unless it is taken. What lies past its end is taken over, and so is the same request once
/// its time to answer has passed.
pub async fn claim(connection: &mut PgConnection, claim: &Claim<'_>) -> Result<Claimed, DbError> {
    let ours = sqlx::query_scalar!(
        "INSERT INTO idempotency_keys AS known (caller, digest, fingerprint, first_id, locked_until, expires_at)
         VALUES ($1, $2, $3, $4, $6, $7)
         ON CONFLICT (caller, digest) DO UPDATE
             SET first_id = CASE WHEN known.expires_at <= $5 THEN excluded.first_id ELSE known.first_id END,
                 fingerprint = excluded.fingerprint, locked_until = excluded.locked_until, sealed = NULL,
                 expires_at = excluded.expires_at
             WHERE known.expires_at <= $5
                OR (known.sealed IS NULL AND known.locked_until <= $5 AND known.fingerprint = excluded.fingerprint)
         RETURNING first_id",
        claim.caller,
        claim.digest,
        claim.fingerprint,
        claim.first_id,
        claim.now,
        claim.locked_until,
        claim.expires_at,
    )
    .fetch_optional(&mut *connection)
    .await?;
    if let Some(first_id) = ours {
        return Ok(Claimed::Ours(first_id));
    }
    let known = sqlx::query!(
        "SELECT fingerprint, sealed FROM idempotency_keys WHERE caller = $1 AND digest = $2",
        claim.caller,
        claim.digest,
    )
    .fetch_optional(connection)
    .await?;
    Ok(match known {
        Some(known) if known.fingerprint != claim.fingerprint => Claimed::Other,
        Some(known) => known.sealed.map_or(Claimed::InFlight, Claimed::Answered),
        // Released a moment ago; the client tries again.
        None => Claimed::InFlight,
    })
}

/// Keeps the answer.
pub async fn answered(
    connection: &mut PgConnection,
    caller: &str,
    digest: &[u8],
    sealed: &[u8],
) -> Result<(), DbError> {
    sqlx::query!(
        "UPDATE idempotency_keys SET sealed = $3 WHERE caller = $1 AND digest = $2",
        caller,
        digest,
        sealed,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Forgets a request that did nothing, so that it can be sent again.
pub async fn release(connection: &mut PgConnection, caller: &str, digest: &[u8]) -> Result<(), DbError> {
    sqlx::query!(
        "DELETE FROM idempotency_keys WHERE caller = $1 AND digest = $2 AND sealed IS NULL",
        caller,
        digest,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Forgets some of those past their end: a few with every new one, so that the table stays small without a task of its own.
pub async fn forget_some(connection: &mut PgConnection, now: OffsetDateTime) -> Result<(), DbError> {
    sqlx::query!(
        "DELETE FROM idempotency_keys WHERE (caller, digest) IN (
             SELECT caller, digest FROM idempotency_keys WHERE expires_at <= $1 LIMIT 16 FOR UPDATE SKIP LOCKED)",
        now,
    )
    .execute(connection)
    .await?;
    Ok(())
}
