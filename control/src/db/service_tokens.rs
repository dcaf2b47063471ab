//! Tokens of workspaces, for programs.

use authsome_core::id::{TokenId, UserId, WorkspaceId};
use authsome_core::key::Digest;
use authsome_db::DbError;
use sqlx::PgConnection;
use time::OffsetDateTime;

/// A new token.
#[derive(Debug)]
#[expect(missing_docs, reason = "the columns of the table, documented in its migration")]
pub struct NewToken<'a> {
    pub id: TokenId,
    pub workspace: WorkspaceId,
    pub name: &'a str,
    pub digest: Digest,
    pub masked: &'a str,
    pub scopes: &'a [String],
    pub by: UserId,
    pub expires_at: OffsetDateTime,
    pub at: OffsetDateTime,
}

/// A token as people see it.
#[derive(Debug)]
#[expect(missing_docs, reason = "the columns of the table, documented in its migration")]
pub struct Token {
    pub id: TokenId,
    pub name: String,
    pub masked: String,
    pub scopes: Vec<String>,
    pub created_by: UserId,
    pub last_used_at: Option<OffsetDateTime>,
    pub expires_at: OffsetDateTime,
    pub created_at: OffsetDateTime,
}

/// A token that is good, and on whose behalf it acts.
#[derive(Debug)]
#[expect(missing_docs, reason = "the columns of the table, documented in its migration")]
pub struct Bearer {
    pub id: TokenId,
    pub workspace: WorkspaceId,
    pub scopes: Vec<String>,
    pub user: UserId,
    pub email: String,
    pub name: String,
    /// Its maker was seen to read the address.
    pub email_verified: bool,
    /// More than a minute ago, or never.
    pub stale_use: bool,
}

/// Writes a new token.
pub async fn insert(connection: &mut PgConnection, new: &NewToken<'_>) -> Result<(), DbError> {
    sqlx::query!(
        "INSERT INTO service_tokens (id, workspace_id, name, digest, masked, scopes, created_by, expires_at, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        new.id as TokenId,
        new.workspace as WorkspaceId,
        new.name,
        &new.digest.as_bytes()[..],
        new.masked,
        new.scopes,
        new.by as UserId,
        new.expires_at,
        new.at,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// How many tokens of the workspace are good.
pub async fn count(connection: &mut PgConnection, workspace: WorkspaceId, now: OffsetDateTime) -> Result<i64, DbError> {
    let count = sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM service_tokens
           WHERE workspace_id = $1 AND revoked_at IS NULL AND expires_at > $2"#,
        workspace as WorkspaceId,
        now,
    )
    .fetch_one(connection)
    .await?;
    Ok(count)
}

/// The tokens of a workspace that are not revoked, oldest first, and how many there are.
pub async fn of_workspace(
    connection: &mut PgConnection,
    workspace: WorkspaceId,
    limit: i64,
    offset: i64,
) -> Result<(Vec<Token>, i64), DbError> {
    let rows = sqlx::query_as!(
        Token,
        r#"SELECT id AS "id: TokenId", name, masked, scopes, created_by AS "created_by: UserId", last_used_at, expires_at,
                  created_at
           FROM service_tokens WHERE workspace_id = $1 AND revoked_at IS NULL
           ORDER BY created_at, id LIMIT $2 OFFSET $3"#,
        workspace as WorkspaceId,
        limit,
        offset,
    )
    .fetch_all(&mut *connection)
    .await?;
    let total = sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM service_tokens WHERE workspace_id = $1 AND revoked_at IS NULL"#,
        workspace as WorkspaceId,
    )
    .fetch_one(connection)
    .await?;
    Ok((rows, total))
}

/// A token by its digest, if it is good and its workspace is there.
pub async fn bearer(
    connection: &mut PgConnection,
    digest: &Digest,
    now: OffsetDateTime,
) -> Result<Option<Bearer>, DbError> {
    let row = sqlx::query_as!(
        Bearer,
        r#"SELECT t.id AS "id: TokenId", t.workspace_id AS "workspace: WorkspaceId", t.scopes, u.id AS "user: UserId",
                  u.email, u.name, u.email_verified_at IS NOT NULL AS "email_verified!",
                  (t.last_used_at IS NULL OR t.last_used_at < $2::timestamptz - interval '1 minute') AS "stale_use!"
           FROM service_tokens t JOIN users u ON u.id = t.created_by JOIN workspaces w ON w.id = t.workspace_id
           WHERE t.digest = $1 AND t.revoked_at IS NULL AND t.expires_at > $2 AND w.status <> 'deleted'"#,
        &digest.as_bytes()[..],
        now,
    )
    .fetch_optional(connection)
    .await?;
    Ok(row)
}

/// Remembers the time of a use.
pub async fn used(connection: &mut PgConnection, id: TokenId, at: OffsetDateTime) -> Result<(), DbError> {
    sqlx::query!(
        "UPDATE service_tokens SET last_used_at = $2 WHERE id = $1",
        id as TokenId,
        at,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Ends a token. `None` if the workspace has no such token; otherwise whether it was good until now.
pub async fn revoke(
    connection: &mut PgConnection,
    workspace: WorkspaceId,
    id: TokenId,
    at: OffsetDateTime,
) -> Result<Option<bool>, DbError> {
    let row = sqlx::query!(
        r#"UPDATE service_tokens t SET revoked_at = coalesce(t.revoked_at, $3)
           FROM (SELECT id, revoked_at FROM service_tokens WHERE id = $1 AND workspace_id = $2 FOR UPDATE) before
           WHERE t.id = before.id RETURNING before.revoked_at IS NULL AS "was_good!""#,
        id as TokenId,
        workspace as WorkspaceId,
        at,
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| row.was_good))
}
