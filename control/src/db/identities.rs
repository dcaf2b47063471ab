//! Who people are to identity providers.

use authsome_core::id::UserId;
use authsome_db::DbError;
use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::identity::IdentityId;

/// The person behind an identity.
#[derive(Debug)]
#[expect(missing_docs, reason = "the columns of the tables, documented in their migrations")]
pub struct Person {
    pub user: UserId,
    pub email: String,
    pub name: String,
    pub email_verified: bool,
    pub active: bool,
}

/// The person of an issuer's subject.
pub async fn person(connection: &mut PgConnection, issuer: &str, subject: &str) -> Result<Option<Person>, DbError> {
    Ok(sqlx::query_as!(
        Person,
        r#"SELECT u.id AS "user: UserId", u.email, u.name, u.email_verified_at IS NOT NULL AS "email_verified!",
                  u.status = 'active' AS "active!"
           FROM identities i JOIN users u ON u.id = i.user_id WHERE i.issuer = $1 AND i.subject = $2"#,
        issuer,
        subject,
    )
    .fetch_optional(connection)
    .await?)
}

/// An account that an identity may be linked to, locked until the transaction ends.
#[derive(Debug)]
#[expect(missing_docs, reason = "the columns of the tables, documented in their migrations")]
pub struct Candidate {
    pub user: UserId,
    pub email: String,
    pub verified: bool,
    pub active: bool,
    pub second_factor: bool,
}

/// The account with this address, whatever its case.
pub async fn candidate(connection: &mut PgConnection, email: &str) -> Result<Option<Candidate>, DbError> {
    Ok(sqlx::query_as!(
        Candidate,
        r#"SELECT u.id AS "user: UserId", u.email, u.email_verified_at IS NOT NULL AS "verified!", u.status = 'active' AS "active!",
                  EXISTS (SELECT FROM second_factors f WHERE f.user_id = u.id AND f.confirmed_at IS NOT NULL) AS "second_factor!"
           FROM users u WHERE lower(u.email) = lower($1) FOR NO KEY UPDATE OF u"#,
        email,
    )
    .fetch_optional(connection)
    .await?)
}

/// Writes an account of somebody who signs in elsewhere, with an address that was confirmed there. `false` if the address has one.
pub async fn insert_account(
    connection: &mut PgConnection,
    id: UserId,
    email: &str,
    name: &str,
    now: OffsetDateTime,
) -> Result<bool, DbError> {
    let done = sqlx::query!(
        "INSERT INTO users (id, email, name, email_verified_at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
        id as UserId,
        email,
        name,
        now,
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Takes away from an account whatever somebody put there who was never seen to read its address: password and second factor.
pub async fn disown(connection: &mut PgConnection, user: UserId) -> Result<(), DbError> {
    sqlx::query!("UPDATE users SET password_hash = NULL WHERE id = $1", user as UserId)
        .execute(&mut *connection)
        .await?;
    sqlx::query!("DELETE FROM second_factors WHERE user_id = $1", user as UserId)
        .execute(connection)
        .await?;
    Ok(())
}

/// An identity.
#[derive(Debug)]
#[expect(missing_docs, reason = "the columns of the table, documented in its migration")]
pub struct Identity {
    pub id: IdentityId,
    pub issuer: String,
    pub subject: String,
    pub email: Option<String>,
    pub linked_at: OffsetDateTime,
}

/// Links an identity to an account. `false` if it is linked already, to whomever.
pub async fn insert(connection: &mut PgConnection, user: UserId, identity: &Identity) -> Result<bool, DbError> {
    let done = sqlx::query!(
        "INSERT INTO identities (id, issuer, subject, user_id, email, linked_at) VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT DO NOTHING",
        identity.id as IdentityId,
        identity.issuer,
        identity.subject,
        user as UserId,
        identity.email,
        identity.linked_at,
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// The identities of a person, oldest first, and how many there are.
pub async fn of_user(
    connection: &mut PgConnection,
    user: UserId,
    limit: i64,
    offset: i64,
) -> Result<(Vec<Identity>, i64), DbError> {
    let rows = sqlx::query_as!(
        Identity,
        r#"SELECT id AS "id: IdentityId", issuer, subject, email, linked_at FROM identities
           WHERE user_id = $1 ORDER BY linked_at, id LIMIT $2 OFFSET $3"#,
        user as UserId,
        limit,
        offset,
    )
    .fetch_all(&mut *connection)
    .await?;
    let total = sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM identities WHERE user_id = $1"#,
        user as UserId,
    )
    .fetch_one(connection)
    .await?;
    Ok((rows, total))
}

/// Takes an identity from a person.
pub async fn remove(connection: &mut PgConnection, user: UserId, id: IdentityId) -> Result<Option<Identity>, DbError> {
    Ok(sqlx::query_as!(
        Identity,
        r#"DELETE FROM identities WHERE id = $1 AND user_id = $2
           RETURNING id AS "id: IdentityId", issuer, subject, email, linked_at"#,
        id as IdentityId,
        user as UserId,
    )
    .fetch_optional(connection)
    .await?)
}
