//! What applications may use of their databases.

use authsome_contract::model::Plan;
use authsome_core::id::ApplicationId;
use authsome_db::DbError;
use sqlx::PgPool;

use crate::runtime::kubernetes::Quantity;

/// The limits of one application.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    /// The application.
    pub application: ApplicationId,
    /// Bytes of storage; `None` where the column holds no amount.
    pub storage: Option<i64>,
    /// Sessions.
    pub connections: i64,
}

/// The limits of all applications of these regions that are not gone.
pub async fn all(pool: &PgPool, regions: &[String]) -> Result<Vec<Limit>, DbError> {
    let rows = sqlx::query!(
        r#"SELECT a.id AS "id: ApplicationId", a.storage_limit, w.plan
           FROM applications a JOIN workspaces w ON w.id = a.workspace_id
           WHERE a.region = ANY ($1) AND a.status NOT IN ('purging', 'deleted')"#,
        regions,
    )
    .fetch_all(pool)
    .await?;
    rows.into_iter()
        .map(|row| {
            let plan: Plan = row
                .plan
                .parse()
                .map_err(|error| DbError::unknown_name("workspaces", "plan", row.id, &error))?;
            let storage = Quantity::parse(&row.storage_limit).ok();
            Ok(Limit {
                application: row.id,
                storage: storage.and_then(|storage| i64::try_from(storage.units()).ok()),
                connections: i64::from(plan.resources().database_connections),
            })
        })
        .collect()
}
