//! The month's requests of applications that may have only so many, and what was told of them.

use authsome_contract::model::Plan;
use authsome_core::id::{ApplicationId, WorkspaceId};
use authsome_db::DbError;
use sqlx::PgConnection;
use time::OffsetDateTime;

/// An application whose requests of a month are limited.
#[derive(Debug)]
#[expect(missing_docs, reason = "the columns of the tables, documented in their migrations")]
pub struct Limited {
    pub application_id: ApplicationId,
    pub workspace_id: WorkspaceId,
    pub requests: i64,
    pub plan: Plan,
    /// As the contract has it, where there is one.
    pub contract: Option<i64>,
}

/// Those of `applications` that are limited by their contract, or by one of `plans`, with their requests of a month.
pub async fn limited(
    connection: &mut PgConnection,
    applications: &[String],
    period: &str,
    plans: &[String],
) -> Result<Vec<Limited>, DbError> {
    let rows = sqlx::query!(
        r#"SELECT a.id AS "id: ApplicationId", a.workspace_id AS "workspace_id: WorkspaceId", u.api_requests, w.plan,
                  (a.edge_limits ->> 'requestsPerMonth')::bigint AS contract
           FROM usage_records u JOIN applications a ON a.id = u.application_id JOIN workspaces w ON w.id = a.workspace_id
           WHERE u.application_id = ANY ($1) AND u.period = $2 AND a.status NOT IN ('deleting', 'purging', 'deleted')
             AND (w.plan = ANY ($3) OR a.edge_limits ? 'requestsPerMonth')"#,
        applications,
        period,
        plans,
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            let plan = row
                .plan
                .parse()
                .map_err(|error| DbError::unknown_name("workspaces", "plan", row.workspace_id, &error))?;
            Ok(Limited {
                application_id: row.id,
                workspace_id: row.workspace_id,
                requests: row.api_requests,
                plan,
                contract: row.contract,
            })
        })
        .collect()
}

/// A threshold that was crossed.
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "the columns of the table, documented in its migration")]
pub struct Crossed<'a> {
    pub application_id: ApplicationId,
    pub period: &'a str,
    pub percent: i32,
    pub requests: i64,
    pub allowed: i64,
}

/// Writes it down; `false` if it was before.
pub async fn cross(connection: &mut PgConnection, crossed: &Crossed<'_>, now: OffsetDateTime) -> Result<bool, DbError> {
    let done = sqlx::query!(
        "INSERT INTO usage_thresholds (application_id, period, percent, requests, allowed, crossed_at)
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
        crossed.application_id as ApplicationId,
        crossed.period,
        crossed.percent,
        crossed.requests,
        crossed.allowed,
        now,
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// What was crossed at a threshold: requests and what is allowed.
pub async fn crossed(
    connection: &mut PgConnection,
    application: ApplicationId,
    period: &str,
    percent: i32,
) -> Result<Option<(i64, i64)>, DbError> {
    let row = sqlx::query!(
        "SELECT requests, allowed FROM usage_thresholds WHERE application_id = $1 AND period = $2 AND percent = $3",
        application as ApplicationId,
        period,
        percent,
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| (row.requests, row.allowed)))
}
