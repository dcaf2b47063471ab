//! Sign-ins and their refresh tokens.

use std::net::IpAddr;

use authsome_core::id::{SessionId, UserId};
use authsome_core::key::Digest;
use authsome_db::DbError;
use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::identity::refresh_token::Use;

/// A new sign-in.
#[derive(Debug)]
#[expect(missing_docs, reason = "the columns of the table, documented in its migration")]
pub struct NewSession<'a> {
    pub id: SessionId,
    pub user: UserId,
    pub refresh: Digest,
    pub family: Option<Digest>,
    pub address: Option<IpAddr>,
    pub user_agent: Option<&'a str>,
    pub at: OffsetDateTime,
    pub expires_at: OffsetDateTime,
}

/// A session, locked for a refresh.
#[derive(Debug)]
#[expect(missing_docs, reason = "the columns of the table, documented in its migration")]
pub struct Refreshed {
    pub user: UserId,
    pub email: String,
    pub name: String,
    pub refresh: Vec<u8>,
    pub family: Option<Vec<u8>>,
    pub expires_at: OffsetDateTime,
    /// Neither revoked nor past its end, and its person is active.
    pub good: bool,
}

/// A refresh token that takes the place of another.
#[derive(Debug)]
pub struct Rotation<'a> {
    /// Of the one that was used.
    pub used: Digest,
    /// By which the next was made of it.
    pub salt: &'a [u8],
    /// Of the next one.
    pub next: Digest,
    /// Of the family of the next one.
    pub family: Option<Digest>,
    /// When.
    pub at: OffsetDateTime,
    /// When the session ends without another.
    pub expires_at: OffsetDateTime,
}

/// Whoever is signed in.
#[derive(Debug)]
#[expect(missing_docs, reason = "the columns of the table, documented in its migration")]
pub struct Person {
    pub email: String,
    pub name: String,
    pub email_verified: bool,
}

/// A session as its person sees it.
#[derive(Debug)]
#[expect(missing_docs, reason = "the columns of the table, documented in its migration")]
pub struct Listed {
    pub id: SessionId,
    pub address: Option<String>,
    pub user_agent: Option<String>,
    pub created_at: OffsetDateTime,
    pub last_used_at: OffsetDateTime,
    pub expires_at: OffsetDateTime,
}

/// Writes a new session.
pub async fn insert(connection: &mut PgConnection, new: &NewSession<'_>) -> Result<(), DbError> {
    let address = new.address.map(|address| address.to_string());
    sqlx::query!(
        "INSERT INTO sessions (id, user_id, refresh_digest, address, user_agent, created_at, last_used_at, expires_at,
                               family_digest)
         VALUES ($1, $2, $3, $4::text::inet, $5, $6, $6, $7, $8)",
        new.id as SessionId,
        new.user as UserId,
        &new.refresh.as_bytes()[..],
        address,
        new.user_agent,
        new.at,
        new.expires_at,
        new.family.as_ref().map(|family| &family.as_bytes()[..]),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The person of a session, if the session lives and the person may use the platform.
pub async fn person(connection: &mut PgConnection, id: SessionId, user: UserId) -> Result<Option<Person>, DbError> {
    let row = sqlx::query_as!(
        Person,
        r#"SELECT u.email, u.name, u.email_verified_at IS NOT NULL AS "email_verified!" FROM sessions s JOIN users u ON u.id = s.user_id
         WHERE s.id = $1 AND s.user_id = $2 AND s.revoked_at IS NULL AND u.status = 'active'"#,
        id as SessionId,
        user as UserId,
    )
    .fetch_optional(connection)
    .await?;
    Ok(row)
}

/// The session with its person, locked until the transaction ends.
pub async fn lock(
    connection: &mut PgConnection,
    id: SessionId,
    now: OffsetDateTime,
) -> Result<Option<Refreshed>, DbError> {
    let row = sqlx::query_as!(
        Refreshed,
        r#"SELECT s.user_id AS "user: UserId", u.email, u.name, s.refresh_digest AS refresh,
                  s.family_digest AS family, s.expires_at,
                  (s.revoked_at IS NULL AND s.expires_at > $2 AND u.status = 'active') AS "good!"
           FROM sessions s JOIN users u ON u.id = s.user_id WHERE s.id = $1 FOR UPDATE OF s"#,
        id as SessionId,
        now,
    )
    .fetch_optional(connection)
    .await?;
    Ok(row)
}

/// The refresh tokens of a session that were used lately, oldest first.
pub async fn uses(connection: &mut PgConnection, id: SessionId) -> Result<Vec<Use>, DbError> {
    let rows = sqlx::query_as!(
        Use,
        "SELECT digest, salt, used_at FROM refresh_uses WHERE session_id = $1 ORDER BY turn",
        id as SessionId,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows)
}

/// Replaces the refresh token, and remembers the one that was used.
pub async fn rotate(connection: &mut PgConnection, id: SessionId, rotation: &Rotation<'_>) -> Result<(), DbError> {
    // `previous_digest` and `rotated_at` are for replicas of the release before.
    sqlx::query!(
        "UPDATE sessions SET previous_digest = refresh_digest, refresh_digest = $2, rotated_at = $3, last_used_at = $3,
                             expires_at = $4, family_digest = $5
         WHERE id = $1",
        id as SessionId,
        &rotation.next.as_bytes()[..],
        rotation.at,
        rotation.expires_at,
        rotation.family.as_ref().map(|family| &family.as_bytes()[..]),
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!(
        "INSERT INTO refresh_uses (session_id, digest, salt, used_at) VALUES ($1, $2, $3, $4)",
        id as SessionId,
        &rotation.used.as_bytes()[..],
        rotation.salt,
        rotation.at,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Forgets the uses of before `before`, and all but the newest `most`.
pub async fn forget_uses(
    connection: &mut PgConnection,
    id: SessionId,
    before: OffsetDateTime,
    most: i64,
) -> Result<(), DbError> {
    sqlx::query!(
        "DELETE FROM refresh_uses WHERE session_id = $1 AND (used_at < $2 OR turn NOT IN
            (SELECT turn FROM refresh_uses WHERE session_id = $1 ORDER BY turn DESC LIMIT $3))",
        id as SessionId,
        before,
        most,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Ends one session of a person. `false` if there is no such session that lives.
pub async fn revoke(
    connection: &mut PgConnection,
    user: UserId,
    id: SessionId,
    at: OffsetDateTime,
) -> Result<bool, DbError> {
    let done = sqlx::query!(
        "UPDATE sessions SET revoked_at = $3 WHERE id = $1 AND user_id = $2 AND revoked_at IS NULL",
        id as SessionId,
        user as UserId,
        at,
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Ends all sessions of a person but `except`, and says how many.
pub async fn revoke_all(
    connection: &mut PgConnection,
    user: UserId,
    except: Option<SessionId>,
    at: OffsetDateTime,
) -> Result<u64, DbError> {
    let done = sqlx::query!(
        "UPDATE sessions SET revoked_at = $3
         WHERE user_id = $1 AND revoked_at IS NULL AND ($2::text IS NULL OR id <> $2)",
        user as UserId,
        except as Option<SessionId>,
        at,
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

/// The living sessions of a person, newest first, and how many there are.
pub async fn of_user(
    connection: &mut PgConnection,
    user: UserId,
    now: OffsetDateTime,
    limit: i64,
    offset: i64,
) -> Result<(Vec<Listed>, i64), DbError> {
    let rows = sqlx::query_as!(
        Listed,
        r#"SELECT id AS "id: SessionId", host(address) AS address, user_agent, created_at, last_used_at, expires_at
           FROM sessions WHERE user_id = $1 AND revoked_at IS NULL AND expires_at > $2
           ORDER BY created_at DESC, id DESC LIMIT $3 OFFSET $4"#,
        user as UserId,
        now,
        limit,
        offset,
    )
    .fetch_all(&mut *connection)
    .await?;
    let total = sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM sessions WHERE user_id = $1 AND revoked_at IS NULL AND expires_at > $2"#,
        user as UserId,
        now,
    )
    .fetch_one(connection)
    .await?;
    Ok((rows, total))
}

/// Forgets sessions that ended before `before`.
pub async fn forget(connection: &mut PgConnection, before: OffsetDateTime) -> Result<(), DbError> {
    sqlx::query!("DELETE FROM sessions WHERE expires_at < $1", before)
        .execute(connection)
        .await?;
    Ok(())
}
