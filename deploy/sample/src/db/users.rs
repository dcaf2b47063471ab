//! Users.

use serde::Serialize;
use sqlx::PgPool;
use time::OffsetDateTime;

use crate::error::ApiError;

/// A user as clients see one.
#[derive(Debug, Serialize, sqlx::FromRow)]
pub(crate) struct User {
    pub(crate) id: String,
    pub(crate) email: String,
    pub(crate) name: String,
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) updated_at: OffsetDateTime,
}

/// Adds a user.
///
/// # Errors
/// [`ApiError::EmailTaken`] when there is one with this e-mail.
pub(crate) async fn insert(pool: &PgPool, id: &str, email: &str, name: &str, hash: &str) -> Result<User, ApiError> {
    sqlx::query_as(
        "INSERT INTO users (id, email, name, password_hash) VALUES ($1, $2, $3, $4)
         ON CONFLICT (email) DO NOTHING
         RETURNING id, email, name, created_at, updated_at",
    )
    .bind(id)
    .bind(email)
    .bind(name)
    .bind(hash)
    .fetch_optional(pool)
    .await?
    .ok_or(ApiError::EmailTaken)
}

/// Whether there is a user with this e-mail.
pub(crate) async fn exists(pool: &PgPool, email: &str) -> Result<bool, ApiError> {
    Ok(sqlx::query_scalar("SELECT EXISTS (SELECT FROM users WHERE email = $1)")
        .bind(email)
        .fetch_one(pool)
        .await?)
}

/// The id and password hash of the user with this e-mail.
pub(crate) async fn credentials(pool: &PgPool, email: &str) -> Result<Option<(String, String)>, ApiError> {
    let row = sqlx::query_as("SELECT id, password_hash FROM users WHERE email = $1").bind(email);
    Ok(row.fetch_optional(pool).await?)
}

/// One user.
///
/// # Errors
/// [`ApiError::NotFound`] when there is none.
pub(crate) async fn get(pool: &PgPool, id: &str) -> Result<User, ApiError> {
    sqlx::query_as("SELECT id, email, name, created_at, updated_at FROM users WHERE id = $1")
        .bind(id)
        .fetch_optional(pool)
        .await?
        .ok_or(ApiError::NotFound)
}

/// A page of users, oldest first, and how many there are in all.
pub(crate) async fn page(pool: &PgPool, offset: i64, limit: i64) -> Result<(Vec<User>, i64), ApiError> {
    // Ids begin with the time, so their order is the order of sign-up.
    let users =
        sqlx::query_as("SELECT id, email, name, created_at, updated_at FROM users ORDER BY id OFFSET $1 LIMIT $2")
            .bind(offset)
            .bind(limit)
            .fetch_all(pool)
            .await?;
    let total = sqlx::query_scalar("SELECT count(*) FROM users").fetch_one(pool).await?;
    Ok((users, total))
}
