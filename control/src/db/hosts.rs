//! Host names of applications: those that were proved (`hosts`), and claims that wait for a proof.

use authsome_core::id::{ApplicationId, UserId, WorkspaceId};
use authsome_db::DbError;
use sqlx::PgConnection;
use time::OffsetDateTime;

/// A host name as its team sees it.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the columns of the tables, documented in their migrations")]
pub struct Host {
    pub host: String,
    pub challenge: String,
    /// When the challenge was found in the DNS; `None` for a claim.
    pub verified_at: Option<OffsetDateTime>,
    /// Since when the record of a verified name is not found any more.
    pub missing_since: Option<OffsetDateTime>,
    pub created_at: OffsetDateTime,
}

/// Who has a proved name.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the columns of the table, documented in its migration")]
pub struct Holder {
    pub application_id: ApplicationId,
    pub workspace_id: WorkspaceId,
    pub challenge: String,
    pub verified: bool,
}

/// Proved names and claims of an application, by name, and how many there are in all. A name has one entry: the proof, where
/// there is one.
pub async fn of_application(
    connection: &mut PgConnection,
    application: ApplicationId,
    limit: i64,
    offset: i64,
) -> Result<(Vec<Host>, i64), DbError> {
    let rows = sqlx::query_as!(
        Host,
        r#"SELECT host AS "host!", challenge AS "challenge!", verified_at, missing_since, created_at AS "created_at!" FROM (
               SELECT host, challenge, verified_at, missing_since, created_at FROM hosts WHERE application_id = $1
               UNION ALL
               SELECT c.host, c.challenge, NULL, NULL, c.created_at FROM host_claims c
               WHERE c.application_id = $1
                 AND NOT EXISTS (SELECT 1 FROM hosts h WHERE h.host = c.host AND h.application_id = $1)) AS all_hosts
           ORDER BY 1 LIMIT $2 OFFSET $3"#,
        application as ApplicationId,
        limit,
        offset,
    )
    .fetch_all(&mut *connection)
    .await?;
    let total = count(connection, application).await?;
    Ok((rows, total))
}

/// How many names an application has or claims.
pub async fn count(connection: &mut PgConnection, application: ApplicationId) -> Result<i64, DbError> {
    Ok(sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM (
               SELECT host FROM hosts WHERE application_id = $1
               UNION SELECT host FROM host_claims WHERE application_id = $1) AS names"#,
        application as ApplicationId,
    )
    .fetch_one(connection)
    .await?)
}

/// The name, proved or claimed, of an application.
pub async fn find(
    connection: &mut PgConnection,
    application: ApplicationId,
    host: &str,
) -> Result<Option<Host>, DbError> {
    Ok(sqlx::query_as!(
        Host,
        r#"SELECT host AS "host!", challenge AS "challenge!", verified_at, missing_since, created_at AS "created_at!" FROM (
               SELECT host, challenge, verified_at, missing_since, created_at FROM hosts WHERE application_id = $1 AND host = $2
               UNION ALL
               SELECT host, challenge, NULL, NULL, created_at FROM host_claims WHERE application_id = $1 AND host = $2) AS names
           ORDER BY 3 NULLS LAST LIMIT 1"#,
        application as ApplicationId,
        host,
    )
    .fetch_optional(connection)
    .await?)
}

/// Who has the name. Nobody else proves, or takes away, the name until the transaction ends.
pub async fn holder(connection: &mut PgConnection, host: &str) -> Result<Option<Holder>, DbError> {
    // The lock that the table's own triggers take.
    sqlx::query!("SELECT pg_advisory_xact_lock(hashtextextended('host:' || $1, 0))", host)
        .execute(&mut *connection)
        .await?;
    Ok(sqlx::query_as!(
        Holder,
        r#"SELECT h.application_id AS "application_id: ApplicationId", a.workspace_id AS "workspace_id: WorkspaceId",
                  h.challenge, h.verified_at IS NOT NULL AS "verified!"
           FROM hosts h JOIN applications a ON a.id = h.application_id WHERE h.host = $1 FOR UPDATE OF h"#,
        host,
    )
    .fetch_optional(connection)
    .await?)
}

/// Writes a claim; one that the application has already stays as it is.
pub async fn claim(
    connection: &mut PgConnection,
    application: ApplicationId,
    host: &str,
    challenge: &str,
    created_by: Option<UserId>,
    at: OffsetDateTime,
) -> Result<bool, DbError> {
    let done = sqlx::query!(
        "INSERT INTO host_claims (application_id, host, challenge, created_by, created_at) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (application_id, host) DO NOTHING",
        application as ApplicationId,
        host,
        challenge,
        created_by as Option<UserId>,
        at,
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// The name leads to the application from now on, wherever it led before.
pub async fn prove(
    connection: &mut PgConnection,
    application: ApplicationId,
    host: &str,
    challenge: &str,
    created_by: UserId,
    at: OffsetDateTime,
) -> Result<(), DbError> {
    sqlx::query!(
        "INSERT INTO hosts (host, application_id, challenge, verified_at, created_by, next_check_at)
         VALUES ($1, $2, $3, $4, $5, $4::timestamptz + interval '1 day')
         ON CONFLICT (host) DO UPDATE SET application_id = excluded.application_id, challenge = excluded.challenge,
             verified_at = excluded.verified_at, created_by = excluded.created_by, missing_since = NULL,
             next_check_at = $4::timestamptz + interval '1 day'",
        host,
        application as ApplicationId,
        challenge,
        at,
        created_by as UserId,
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!(
        "DELETE FROM host_claims WHERE application_id = $1 AND host = $2",
        application as ApplicationId,
        host,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Takes the name, proved or claimed, away from the application; false where it has no such name.
pub async fn remove(connection: &mut PgConnection, application: ApplicationId, host: &str) -> Result<bool, DbError> {
    let proved = sqlx::query!(
        "DELETE FROM hosts WHERE application_id = $1 AND host = $2",
        application as ApplicationId,
        host,
    )
    .execute(&mut *connection)
    .await?;
    let claimed = sqlx::query!(
        "DELETE FROM host_claims WHERE application_id = $1 AND host = $2",
        application as ApplicationId,
        host,
    )
    .execute(connection)
    .await?;
    Ok(proved.rows_affected() + claimed.rows_affected() > 0)
}
