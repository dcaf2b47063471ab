//! Sessions. Tokens are kept as digests only; this table alone decides whether a session lives.

use sqlx::PgPool;
use time::OffsetDateTime;

use crate::error::ApiError;

/// How many sessions a user may have; the oldest go first.
const MAX_PER_USER: i64 = 100;

/// A session as it is kept.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct Session {
    pub(crate) id: String,
    pub(crate) user_id: String,
    pub(crate) expires_at: OffsetDateTime,
    pub(crate) created_at: OffsetDateTime,
    pub(crate) user_agent: String,
    pub(crate) ip_address: String,
}

/// A session to be made.
pub(crate) struct NewSession<'a> {
    pub(crate) id: &'a str,
    pub(crate) user_id: &'a str,
    pub(crate) token_hash: &'a [u8],
    pub(crate) refresh_hash: &'a [u8],
    pub(crate) expires_at: OffsetDateTime,
    pub(crate) refresh_expires_at: OffsetDateTime,
    pub(crate) user_agent: &'a str,
    pub(crate) ip_address: &'a str,
}

/// Adds a session, and drops what its user has too many of or what can no longer be refreshed.
pub(crate) async fn insert(pool: &PgPool, new: NewSession<'_>) -> Result<(), ApiError> {
    let mut transaction = pool.begin().await?;
    sqlx::query(
        "INSERT INTO sessions
             (id, user_id, token_hash, refresh_hash, expires_at, refresh_expires_at, user_agent, ip_address)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(new.id)
    .bind(new.user_id)
    .bind(new.token_hash)
    .bind(new.refresh_hash)
    .bind(new.expires_at)
    .bind(new.refresh_expires_at)
    .bind(new.user_agent)
    .bind(new.ip_address)
    .execute(&mut *transaction)
    .await?;
    sqlx::query(
        "DELETE FROM sessions WHERE user_id = $1 AND (refresh_expires_at <= now() OR id IN
             (SELECT id FROM sessions WHERE user_id = $1 ORDER BY created_at DESC, id DESC OFFSET $2))",
    )
    .bind(new.user_id)
    .bind(MAX_PER_USER)
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(())
}

/// The live session with this token.
pub(crate) async fn by_token(pool: &PgPool, token_hash: &[u8]) -> Result<Option<Session>, ApiError> {
    let row = sqlx::query_as(
        "SELECT id, user_id, expires_at, created_at, user_agent, ip_address
         FROM sessions WHERE token_hash = $1 AND expires_at > now()",
    );
    Ok(row.bind(token_hash).fetch_optional(pool).await?)
}

/// Exchanges both tokens of the session that has this refresh token; each refresh token works once.
pub(crate) async fn rotate(
    pool: &PgPool,
    refresh_hash: &[u8],
    new_token_hash: &[u8],
    new_refresh_hash: &[u8],
    expires_at: OffsetDateTime,
    refresh_expires_at: OffsetDateTime,
) -> Result<Option<Session>, ApiError> {
    let row = sqlx::query_as(
        "UPDATE sessions SET token_hash = $2, refresh_hash = $3, expires_at = $4, refresh_expires_at = $5
         WHERE refresh_hash = $1 AND refresh_expires_at > now()
         RETURNING id, user_id, expires_at, created_at, user_agent, ip_address",
    );
    let row = row
        .bind(refresh_hash)
        .bind(new_token_hash)
        .bind(new_refresh_hash)
        .bind(expires_at)
        .bind(refresh_expires_at);
    Ok(row.fetch_optional(pool).await?)
}

/// The sessions of a user that can still be used or refreshed, newest first.
pub(crate) async fn of_user(pool: &PgPool, user_id: &str) -> Result<Vec<Session>, ApiError> {
    let rows = sqlx::query_as(
        "SELECT id, user_id, expires_at, created_at, user_agent, ip_address
         FROM sessions WHERE user_id = $1 AND refresh_expires_at > now() ORDER BY created_at DESC, id DESC LIMIT $2",
    );
    Ok(rows.bind(user_id).bind(MAX_PER_USER).fetch_all(pool).await?)
}

/// Ends a session of this user; `false` when it has none with this id.
pub(crate) async fn delete(pool: &PgPool, user_id: &str, id: &str) -> Result<bool, ApiError> {
    let deleted = sqlx::query("DELETE FROM sessions WHERE user_id = $1 AND id = $2")
        .bind(user_id)
        .bind(id);
    Ok(deleted.execute(pool).await?.rows_affected() > 0)
}
