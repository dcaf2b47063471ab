//! Second factors of people.

use authsome_core::id::UserId;
use authsome_core::key::Digest;
use authsome_db::DbError;
use sqlx::PgConnection;
use time::OffsetDateTime;

/// A second factor, locked until the transaction ends.
#[derive(Debug)]
#[expect(missing_docs, reason = "the columns of the table, documented in its migration")]
pub struct Factor {
    pub secret: Vec<u8>,
    pub confirmed: bool,
    pub last_step: i64,
    pub failures: i32,
    pub locked_until: Option<OffsetDateTime>,
}

/// Begins a second factor, or begins it anew if it was never confirmed. `false` if there is a confirmed one.
pub async fn begin(
    connection: &mut PgConnection,
    user: UserId,
    secret: &[u8],
    at: OffsetDateTime,
) -> Result<bool, DbError> {
    let done = sqlx::query!(
        "INSERT INTO second_factors (user_id, secret, created_at) VALUES ($1, $2, $3)
         ON CONFLICT (user_id) DO UPDATE SET secret = $2, created_at = $3, failures = 0, locked_until = NULL
         WHERE second_factors.confirmed_at IS NULL",
        user as UserId,
        secret,
        at,
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// The second factor of a person.
pub async fn lock(connection: &mut PgConnection, user: UserId) -> Result<Option<Factor>, DbError> {
    let row = sqlx::query_as!(
        Factor,
        r#"SELECT secret, confirmed_at IS NOT NULL AS "confirmed!", last_step, failures, locked_until
           FROM second_factors WHERE user_id = $1 FOR UPDATE"#,
        user as UserId,
    )
    .fetch_optional(connection)
    .await?;
    Ok(row)
}

/// Whether a person has a confirmed second factor.
pub async fn is_on(connection: &mut PgConnection, user: UserId) -> Result<bool, DbError> {
    let on = sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM second_factors WHERE user_id = $1 AND confirmed_at IS NOT NULL) AS "on!""#,
        user as UserId,
    )
    .fetch_one(connection)
    .await?;
    Ok(on)
}

/// A code was right: nothing up to its step is taken again.
pub async fn passed(connection: &mut PgConnection, user: UserId, step: i64, at: OffsetDateTime) -> Result<(), DbError> {
    sqlx::query!(
        "UPDATE second_factors SET last_step = greatest(last_step, $2), failures = 0, locked_until = NULL,
                                   confirmed_at = coalesce(confirmed_at, $3)
         WHERE user_id = $1",
        user as UserId,
        step,
        at,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// A code was wrong.
pub async fn failed(
    connection: &mut PgConnection,
    user: UserId,
    failures: i32,
    locked_until: Option<OffsetDateTime>,
) -> Result<(), DbError> {
    sqlx::query!(
        "UPDATE second_factors SET failures = $2, locked_until = $3 WHERE user_id = $1",
        user as UserId,
        failures,
        locked_until,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Takes the second factor away, recovery codes included.
pub async fn remove(connection: &mut PgConnection, user: UserId) -> Result<(), DbError> {
    sqlx::query!("DELETE FROM second_factors WHERE user_id = $1", user as UserId)
        .execute(connection)
        .await?;
    Ok(())
}

/// Replaces the recovery codes.
pub async fn replace_codes(connection: &mut PgConnection, user: UserId, digests: &[Digest]) -> Result<(), DbError> {
    sqlx::query!("DELETE FROM recovery_codes WHERE user_id = $1", user as UserId)
        .execute(&mut *connection)
        .await?;
    let digests: Vec<Vec<u8>> = digests.iter().map(|digest| digest.as_bytes().to_vec()).collect();
    sqlx::query!(
        "INSERT INTO recovery_codes (user_id, digest) SELECT $1, unnest($2::bytea[])",
        user as UserId,
        &digests,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Uses a recovery code up. `false` if there is no such code, or it was used.
pub async fn use_code(
    connection: &mut PgConnection,
    user: UserId,
    digest: &Digest,
    at: OffsetDateTime,
) -> Result<bool, DbError> {
    let done = sqlx::query!(
        "UPDATE recovery_codes SET used_at = $3 WHERE user_id = $1 AND digest = $2 AND used_at IS NULL",
        user as UserId,
        &digest.as_bytes()[..],
        at,
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected() > 0)
}
