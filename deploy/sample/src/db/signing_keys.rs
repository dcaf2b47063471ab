//! The instance's signing keys.

use serde_json::Value;
use sqlx::{PgConnection, PgPool};

use crate::error::ApiError;

/// How many there are.
pub(crate) async fn count(connection: &mut PgConnection) -> Result<i64, ApiError> {
    Ok(sqlx::query_scalar("SELECT count(*) FROM signing_keys")
        .fetch_one(connection)
        .await?)
}

/// Keeps a new one.
pub(crate) async fn insert(connection: &mut PgConnection, private: &[u8], public: &Value) -> Result<(), ApiError> {
    let insert = sqlx::query("INSERT INTO signing_keys (private, public) VALUES ($1, $2)");
    insert.bind(private).bind(public).execute(connection).await?;
    Ok(())
}

/// The public halves, newest first.
pub(crate) async fn public(pool: &PgPool) -> Result<Vec<Value>, ApiError> {
    Ok(sqlx::query_scalar("SELECT public FROM signing_keys ORDER BY id DESC")
        .fetch_all(pool)
        .await?)
}
