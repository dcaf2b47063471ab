//! What a team sets of its application at the edge, as the row has it.

use authsome_contract::model::Version;
use authsome_core::id::ApplicationId;
use authsome_db::DbError;
use serde_json::Value;
use sqlx::PgConnection;
use time::OffsetDateTime;

/// The columns.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the columns of the table, documented in its migrations")]
pub struct Stored {
    pub status: String,
    pub version: Version,
    pub origins: Vec<String>,
    pub strict_seconds: Option<i32>,
    pub secret_from_browsers: bool,
    pub path_policy: Value,
    pub cache_policy: Value,
    pub cache_purges: Value,
}

/// The columns that a team changes.
#[derive(Debug)]
#[expect(missing_docs, reason = "the columns of the table, documented in its migrations")]
pub struct Change<'a> {
    pub origins: &'a [String],
    pub strict_seconds: Option<u32>,
    pub secret_from_browsers: bool,
    pub path_policy: &'a Value,
    pub cache_policy: &'a Value,
}

struct Row {
    status: String,
    epoch: i64,
    version: i64,
    origins: Vec<String>,
    strict_seconds: Option<i32>,
    secret_from_browsers: bool,
    path_policy: Value,
    cache_policy: Value,
    cache_purges: Value,
}

impl From<Row> for Stored {
    fn from(row: Row) -> Self {
        Self {
            status: row.status,
            version: Version::from_columns(row.epoch, row.version),
            origins: row.origins,
            strict_seconds: row.strict_seconds,
            secret_from_browsers: row.secret_from_browsers,
            path_policy: row.path_policy,
            cache_policy: row.cache_policy,
            cache_purges: row.cache_purges,
        }
    }
}

/// Of an application that is not gone.
pub async fn find(connection: &mut PgConnection, id: ApplicationId) -> Result<Option<Stored>, DbError> {
    let row = sqlx::query_as!(
        Row,
        "SELECT status, epoch, version, origins, strict_seconds, secret_from_browsers, path_policy, cache_policy,
                cache_purges
         FROM applications WHERE id = $1 AND status <> 'deleted'",
        id as ApplicationId,
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(Stored::from))
}

/// As [`find`], locked against other changes of the row.
pub async fn lock(connection: &mut PgConnection, id: ApplicationId) -> Result<Option<Stored>, DbError> {
    let row = sqlx::query_as!(
        Row,
        "SELECT status, epoch, version, origins, strict_seconds, secret_from_browsers, path_policy, cache_policy,
                cache_purges
         FROM applications WHERE id = $1 AND status <> 'deleted' FOR NO KEY UPDATE",
        id as ApplicationId,
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(Stored::from))
}

/// Writes what a team changes; the trigger of the row sends it to the edges.
pub async fn update(connection: &mut PgConnection, id: ApplicationId, change: &Change<'_>) -> Result<(), DbError> {
    sqlx::query!(
        "UPDATE applications SET origins = $2, strict_seconds = $3, secret_from_browsers = $4, path_policy = $5,
                                 cache_policy = $6
         WHERE id = $1",
        id as ApplicationId,
        change.origins,
        change
            .strict_seconds
            .map(|seconds| i32::try_from(seconds).unwrap_or(i32::MAX)),
        change.secret_from_browsers,
        change.path_policy,
        change.cache_policy,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Writes what was thrown away of the cache.
pub async fn set_purges(connection: &mut PgConnection, id: ApplicationId, purges: &Value) -> Result<(), DbError> {
    sqlx::query!(
        "UPDATE applications SET cache_purges = $2 WHERE id = $1",
        id as ApplicationId,
        purges,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The database's clock, which edges follow.
pub async fn database_time(connection: &mut PgConnection) -> Result<OffsetDateTime, DbError> {
    Ok(sqlx::query_scalar!(r#"SELECT clock_timestamp() AS "now!""#)
        .fetch_one(connection)
        .await?)
}
