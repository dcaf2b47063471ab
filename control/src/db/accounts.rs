//! The accounts of people, as they themselves change them. The rest of the table is in [`super::users`].

use authsome_core::id::UserId;
use authsome_db::DbError;
use secrecy::SecretString;
use sqlx::PgConnection;
use time::OffsetDateTime;

/// An active account.
#[derive(Debug)]
pub struct Account {
    /// As it was given, in its own case.
    pub email: String,
    /// To be shown.
    pub name: String,
    /// PHC string; `None` for people who sign in elsewhere.
    pub password_hash: Option<SecretString>,
    /// Whether they were seen to read the address.
    pub verified: bool,
}

struct Row {
    email: String,
    name: String,
    password_hash: Option<String>,
    verified: bool,
}

impl From<Row> for Account {
    fn from(row: Row) -> Self {
        Self {
            email: row.email,
            name: row.name,
            password_hash: row.password_hash.map(SecretString::from),
            verified: row.verified,
        }
    }
}

/// Writes an account whose address is not confirmed. `false` if the address has one.
pub async fn insert(
    connection: &mut PgConnection,
    id: UserId,
    email: &str,
    name: &str,
    password_hash: &str,
) -> Result<bool, DbError> {
    let done = sqlx::query!(
        "INSERT INTO users (id, email, name, password_hash) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
        id as UserId,
        email,
        name,
        password_hash,
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// An active account.
pub async fn find(connection: &mut PgConnection, id: UserId) -> Result<Option<Account>, DbError> {
    let row = sqlx::query_as!(
        Row,
        r#"SELECT email, name, password_hash, email_verified_at IS NOT NULL AS "verified!" FROM users
           WHERE id = $1 AND status = 'active'"#,
        id as UserId,
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(Account::from))
}

/// An active account, locked until the transaction ends.
pub async fn lock(connection: &mut PgConnection, id: UserId) -> Result<Option<Account>, DbError> {
    let row = sqlx::query_as!(
        Row,
        r#"SELECT email, name, password_hash, email_verified_at IS NOT NULL AS "verified!" FROM users
           WHERE id = $1 AND status = 'active' FOR NO KEY UPDATE"#,
        id as UserId,
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(Account::from))
}

/// The active account with this address, whatever its case.
pub async fn id_of(connection: &mut PgConnection, email: &str) -> Result<Option<UserId>, DbError> {
    let id = sqlx::query_scalar!(
        r#"SELECT id AS "id: UserId" FROM users WHERE lower(email) = lower($1) AND status = 'active'"#,
        email,
    )
    .fetch_optional(connection)
    .await?;
    Ok(id)
}

/// The address of the active account that has it, as it was given when the account was made.
pub async fn address_of(connection: &mut PgConnection, email: &str) -> Result<Option<String>, DbError> {
    let address = sqlx::query_scalar!(
        "SELECT email FROM users WHERE lower(email) = lower($1) AND status = 'active'",
        email,
    )
    .fetch_optional(connection)
    .await?;
    Ok(address)
}

/// Remembers that the person was seen to read the address.
pub async fn confirm(connection: &mut PgConnection, id: UserId, at: OffsetDateTime) -> Result<(), DbError> {
    sqlx::query!(
        "UPDATE users SET email_verified_at = $2 WHERE id = $1 AND email_verified_at IS NULL",
        id as UserId,
        at,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Replaces the password.
pub async fn set_password(connection: &mut PgConnection, id: UserId, hash: &str) -> Result<(), DbError> {
    sqlx::query!("UPDATE users SET password_hash = $2 WHERE id = $1", id as UserId, hash)
        .execute(connection)
        .await?;
    Ok(())
}

/// Replaces the name to show.
pub async fn set_name(connection: &mut PgConnection, id: UserId, name: &str) -> Result<(), DbError> {
    sqlx::query!("UPDATE users SET name = $2 WHERE id = $1", id as UserId, name)
        .execute(connection)
        .await?;
    Ok(())
}
