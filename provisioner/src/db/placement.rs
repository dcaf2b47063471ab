//! Where an application runs, as written back to its row: sealed URLs and endpoints. Written only under the lease and for
//! the generation that was made real; unchanged values write nothing, so that the edge is told of changes only.

use authsome_contract::model::{DatabaseChoice, RedisChoice};
use authsome_core::id::ApplicationId;
use authsome_db::application_secret;
use sqlx::PgPool;

use super::{RecordError, lease};
use crate::lease::{Fence, Fenced};

/// Records how the application is kept apart; what is recorded already stays as it is.
pub async fn record_strategies(
    pool: &PgPool,
    fence: &Fence,
    database: DatabaseChoice,
    redis: RedisChoice,
) -> Result<(), RecordError> {
    let mut tx = pool.begin().await?;
    lease::hold(&mut tx, fence).await?;
    sqlx::query!(
        "UPDATE applications SET database_strategy = $2, redis_strategy = $3
         WHERE id = $1 AND (database_strategy IS NULL OR redis_strategy IS NULL)",
        fence.application_id() as ApplicationId,
        database.as_str(),
        redis.as_str(),
    )
    .execute(&mut *tx)
    .await?;
    Ok(tx.commit().await?)
}

/// Writes the sealed URLs of the application's own database and Redis user.
pub async fn record_urls(
    pool: &PgPool,
    fence: &Fence,
    database_url: &[u8],
    redis_url: &[u8],
) -> Result<(), RecordError> {
    let mut tx = pool.begin().await?;
    lease::hold(&mut tx, fence).await?;
    sqlx::query!(
        "UPDATE applications SET database_url = $2, redis_url = $3 WHERE id = $1",
        fence.application_id() as ApplicationId,
        database_url,
        redis_url,
    )
    .execute(&mut *tx)
    .await?;
    Ok(tx.commit().await?)
}

/// Removes the sealed URLs, the generated credentials and the application's own secrets: what they open is gone.
pub async fn forget_credentials(pool: &PgPool, fence: &Fence) -> Result<(), RecordError> {
    let mut tx = pool.begin().await?;
    lease::hold(&mut tx, fence).await?;
    let id = fence.application_id();
    sqlx::query!(
        "UPDATE applications SET database_url = NULL, redis_url = NULL WHERE id = $1",
        id as ApplicationId
    )
    .execute(&mut *tx)
    .await?;
    sqlx::query!(
        "DELETE FROM application_credentials WHERE application_id = $1",
        id as ApplicationId
    )
    .execute(&mut *tx)
    .await?;
    application_secret::remove_all(&mut tx, id).await?;
    Ok(tx.commit().await?)
}

/// Writes what the edge shows to the instances, sealed; `None` for nothing. What is written already stays, and tells nobody.
pub async fn record_edge_credentials(pool: &PgPool, fence: &Fence, sealed: Option<&[u8]>) -> Result<(), RecordError> {
    let mut tx = pool.begin().await?;
    lease::hold(&mut tx, fence).await?;
    sqlx::query!(
        "UPDATE applications SET edge_credentials = $2 WHERE id = $1 AND edge_credentials IS DISTINCT FROM $2",
        fence.application_id() as ApplicationId,
        sealed,
    )
    .execute(&mut *tx)
    .await?;
    Ok(tx.commit().await?)
}

/// Where the instances of an application are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Addresses {
    /// `host:port` of each, where the runtime knows them one by one.
    pub endpoints: Vec<String>,
    /// As the platform itself reaches them.
    pub internal_url: Option<String>,
    /// `name:port` of a headless service that the edge follows by itself.
    pub service: Option<String>,
}

/// Writes where the instances of a generation are. If the intent is of another generation by now, nothing is written and the
/// caller is told to stop.
pub async fn record_addresses(
    pool: &PgPool,
    fence: &Fence,
    generation: i64,
    addresses: &Addresses,
) -> Result<(), RecordError> {
    let mut tx = pool.begin().await?;
    lease::hold(&mut tx, fence).await?;
    let written = sqlx::query!(
        "UPDATE applications SET endpoints = $3, internal_url = $4, instance_service = $5
         WHERE id = $1 AND generation = $2",
        fence.application_id() as ApplicationId,
        generation,
        &addresses.endpoints,
        addresses.internal_url,
        addresses.service,
    )
    .execute(&mut *tx)
    .await?;
    if written.rows_affected() == 0 {
        return Err(RecordError::Fenced(Fenced));
    }
    Ok(tx.commit().await?)
}

/// The name of the control database itself.
pub async fn control_database(pool: &PgPool) -> Result<String, RecordError> {
    Ok(sqlx::query_scalar!(r#"SELECT current_database()::text AS "name!""#)
        .fetch_one(pool)
        .await?)
}
