//! Proofs of host names that are due to be looked at again.

use authsome_core::id::{ApplicationId, WorkspaceId};
use authsome_db::DbError;
use sqlx::PgConnection;
use time::OffsetDateTime;

/// A name whose record is to be looked for.
#[derive(Debug)]
#[expect(missing_docs, reason = "the columns of the tables, documented in their migrations")]
pub struct Due {
    pub host: String,
    pub application_id: ApplicationId,
    pub workspace_id: WorkspaceId,
    pub challenge: String,
    pub missing_since: Option<OffsetDateTime>,
}

/// Takes names that are due, at most `limit`; nobody else gets them before `until`. Applications on their way out keep theirs.
pub async fn take(
    connection: &mut PgConnection,
    now: OffsetDateTime,
    until: OffsetDateTime,
    limit: i64,
) -> Result<Vec<Due>, DbError> {
    Ok(sqlx::query_as!(
        Due,
        r#"UPDATE hosts h SET next_check_at = $2 FROM applications a
           WHERE a.id = h.application_id
             AND h.host IN (SELECT d.host FROM hosts d JOIN applications o ON o.id = d.application_id
                            WHERE d.verified_at IS NOT NULL AND d.next_check_at <= $1
                              AND o.status NOT IN ('deleting', 'purging', 'deleted')
                            ORDER BY d.next_check_at LIMIT $3 FOR UPDATE OF d SKIP LOCKED)
           RETURNING h.host, h.application_id AS "application_id: ApplicationId", a.workspace_id AS "workspace_id: WorkspaceId",
                     h.challenge, h.missing_since"#,
        now,
        until,
        limit,
    )
    .fetch_all(connection)
    .await?)
}

/// Writes what was found, unless the proof is another one by now. Returns whether it was written.
pub async fn found(
    connection: &mut PgConnection,
    due: &Due,
    missing_since: Option<OffsetDateTime>,
    next: OffsetDateTime,
) -> Result<bool, DbError> {
    let done = sqlx::query!(
        "UPDATE hosts SET missing_since = $4, next_check_at = $5
         WHERE host = $1 AND application_id = $2 AND challenge = $3 AND verified_at IS NOT NULL",
        due.host,
        due.application_id as ApplicationId,
        due.challenge,
        missing_since,
        next,
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Ends a proof. Returns whether it was still the same.
pub async fn end(connection: &mut PgConnection, due: &Due) -> Result<bool, DbError> {
    let done = sqlx::query!(
        "DELETE FROM hosts WHERE host = $1 AND application_id = $2 AND challenge = $3",
        due.host,
        due.application_id as ApplicationId,
        due.challenge,
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected() > 0)
}
