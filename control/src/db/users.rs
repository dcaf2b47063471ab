//! People who may sign in.

use authsome_core::id::UserId;
use authsome_db::DbError;
use secrecy::SecretString;
use sqlx::PgConnection;
use time::OffsetDateTime;

/// A person, as far as signing in needs it.
#[derive(Debug)]
pub struct Account {
    /// Id.
    pub id: UserId,
    /// As it was given, in its own case.
    pub email: String,
    /// To be shown.
    pub name: String,
    /// PHC string; `None` for people who sign in elsewhere.
    pub password_hash: Option<SecretString>,
    /// Neither suspended nor deleted.
    pub active: bool,
}

/// The account with this e-mail address, whatever its case.
pub async fn by_email(connection: &mut PgConnection, email: &str) -> Result<Option<Account>, DbError> {
    let row = sqlx::query!(
        r#"SELECT id AS "id: UserId", email, name, password_hash, status FROM users WHERE lower(email) = lower($1)"#,
        email,
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| Account {
        id: row.id,
        email: row.email,
        name: row.name,
        password_hash: row.password_hash.map(SecretString::from),
        active: row.status == "active",
    }))
}

/// Remembers the time of a sign-in.
pub async fn signed_in(connection: &mut PgConnection, id: UserId, at: OffsetDateTime) -> Result<(), DbError> {
    sqlx::query!("UPDATE users SET last_login_at = $2 WHERE id = $1", id as UserId, at)
        .execute(connection)
        .await?;
    Ok(())
}

/// Writes a new person with a confirmed e-mail address. A taken address is [`DbError::Duplicate`].
pub async fn insert(
    connection: &mut PgConnection,
    id: UserId,
    email: &str,
    name: &str,
    password_hash: &str,
    at: OffsetDateTime,
) -> Result<(), DbError> {
    sqlx::query!(
        "INSERT INTO users (id, email, name, password_hash, email_verified_at) VALUES ($1, $2, $3, $4, $5)",
        id as UserId,
        email,
        name,
        password_hash,
        at,
    )
    .execute(connection)
    .await?;
    Ok(())
}
