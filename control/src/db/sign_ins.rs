//! Attempts to sign in, and where people sign in from.

use authsome_core::id::UserId;
use authsome_core::key::Digest;
use authsome_db::DbError;
use ipnet::IpNet;
use sqlx::PgConnection;
use time::OffsetDateTime;

/// The attempts of one subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the columns of the table, documented in its migration")]
pub struct Attempts {
    pub attempts: i32,
    pub last_at: OffsetDateTime,
    pub next_at: OffsetDateTime,
}

/// The attempts of a subject, locked until the transaction ends. None so far are a row of their own.
pub async fn lock(connection: &mut PgConnection, subject: &Digest, now: OffsetDateTime) -> Result<Attempts, DbError> {
    sqlx::query!(
        "INSERT INTO sign_in_attempts (subject, attempts, last_at, next_at) VALUES ($1, 0, $2, $2) ON CONFLICT DO NOTHING",
        &subject.as_bytes()[..],
        now,
    )
    .execute(&mut *connection)
    .await?;
    let row = sqlx::query_as!(
        Attempts,
        "SELECT attempts, last_at, next_at FROM sign_in_attempts WHERE subject = $1 FOR UPDATE",
        &subject.as_bytes()[..],
    )
    .fetch_one(connection)
    .await?;
    Ok(row)
}

/// Writes them.
pub async fn set(connection: &mut PgConnection, subject: &Digest, attempts: &Attempts) -> Result<(), DbError> {
    sqlx::query!(
        "UPDATE sign_in_attempts SET attempts = $2, last_at = $3, next_at = $4 WHERE subject = $1",
        &subject.as_bytes()[..],
        attempts.attempts,
        attempts.last_at,
        attempts.next_at,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Forgets those of a subject.
pub async fn clear(connection: &mut PgConnection, subject: &Digest) -> Result<(), DbError> {
    sqlx::query!(
        "DELETE FROM sign_in_attempts WHERE subject = $1",
        &subject.as_bytes()[..]
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Whether the account with this e-mail address was used from this network since `since`.
pub async fn is_known_place(
    connection: &mut PgConnection,
    email: &str,
    network: IpNet,
    since: OffsetDateTime,
) -> Result<bool, DbError> {
    let known = sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM sign_in_places p JOIN users u ON u.id = p.user_id
                          WHERE lower(u.email) = lower($1) AND p.network = $2::text::cidr AND p.seen_at > $3) AS "known!""#,
        email,
        network.to_string(),
        since,
    )
    .fetch_one(connection)
    .await?;
    Ok(known)
}

/// Remembers a network of a person, and forgets all but the newest `most`.
pub async fn remember_place(
    connection: &mut PgConnection,
    user: UserId,
    network: IpNet,
    now: OffsetDateTime,
    most: i64,
) -> Result<(), DbError> {
    sqlx::query!(
        "INSERT INTO sign_in_places (user_id, network, seen_at) VALUES ($1, $2::text::cidr, $3)
         ON CONFLICT (user_id, network) DO UPDATE SET seen_at = $3",
        user as UserId,
        network.to_string(),
        now,
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!(
        "DELETE FROM sign_in_places WHERE user_id = $1 AND network NOT IN
             (SELECT network FROM sign_in_places WHERE user_id = $1 ORDER BY seen_at DESC, network LIMIT $2)",
        user as UserId,
        most,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Forgets attempts and places from before.
pub async fn forget(
    connection: &mut PgConnection,
    attempts: OffsetDateTime,
    places: OffsetDateTime,
) -> Result<(), DbError> {
    sqlx::query!("DELETE FROM sign_in_attempts WHERE last_at < $1", attempts)
        .execute(&mut *connection)
        .await?;
    sqlx::query!("DELETE FROM sign_in_places WHERE seen_at < $1", places)
        .execute(connection)
        .await?;
    Ok(())
}
