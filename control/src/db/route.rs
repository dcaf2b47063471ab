//! The rows that the edge decides by, by reference and in pages.
//!
//! Read from the views `edge_apps`, `edge_keys` and `edge_hosts`, which the edge's own fall-back reads too.

use authsome_contract::model::route::{AppRow, HostRow, KeyRow};
use authsome_core::id::{ApplicationId, KeyId, WorkspaceId};
use authsome_db::DbError;
use sqlx::PgConnection;

/// The applications with these ids, those that exist.
pub async fn apps(connection: &mut PgConnection, ids: &[ApplicationId]) -> Result<Vec<AppRow>, DbError> {
    let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
    Ok(sqlx::query_as!(
        AppRow,
        r#"SELECT id AS "id!: ApplicationId", workspace_id AS "workspace_id!: WorkspaceId", epoch AS "epoch!",
                  version AS "version!", environment AS "environment!", region AS "region!", status AS "status!",
                  activated AS "activated!", endpoints AS "endpoints!", base_path AS "base_path!", edge_credentials,
                  origins AS "origins!", path_policy AS "path_policy!", quota_exhausted AS "quota_exhausted!",
                  plan AS "plan!", workspace_status AS "workspace_status!", strict_seconds,
                  secret_from_browsers AS "secret_from_browsers!", edge_limits, cache_policy AS "cache_policy!",
                  cache_purges AS "cache_purges!", instance_service, instance_tls
           FROM edge_apps WHERE id = ANY ($1)"#,
        &ids,
    )
    .fetch_all(connection)
    .await?)
}

/// The keys with these digests, those that exist.
pub async fn keys(connection: &mut PgConnection, digests: &[Vec<u8>]) -> Result<Vec<KeyRow>, DbError> {
    Ok(sqlx::query_as!(
        KeyRow,
        r#"SELECT digest AS "digest!", id AS "id!: KeyId", application_id AS "application_id!: ApplicationId",
                  type AS "type!", epoch AS "epoch!", version AS "version!", scopes AS "scopes!", networks AS "networks!",
                  origins AS "origins!", enabled AS "enabled!",
                  floor(extract(epoch FROM expires_at) * 1000)::bigint AS expires_at_ms,
                  revoked_at IS NOT NULL AS "revoked!"
           FROM edge_keys WHERE digest = ANY ($1)"#,
        digests,
    )
    .fetch_all(connection)
    .await?)
}

/// The next applications after `after` by id, at most `limit`. Start with an empty text.
pub async fn apps_page(connection: &mut PgConnection, after: &str, limit: i64) -> Result<Vec<AppRow>, DbError> {
    Ok(sqlx::query_as!(
        AppRow,
        r#"SELECT id AS "id!: ApplicationId", workspace_id AS "workspace_id!: WorkspaceId", epoch AS "epoch!",
                  version AS "version!", environment AS "environment!", region AS "region!", status AS "status!",
                  activated AS "activated!", endpoints AS "endpoints!", base_path AS "base_path!", edge_credentials,
                  origins AS "origins!", path_policy AS "path_policy!", quota_exhausted AS "quota_exhausted!",
                  plan AS "plan!", workspace_status AS "workspace_status!", strict_seconds,
                  secret_from_browsers AS "secret_from_browsers!", edge_limits, cache_policy AS "cache_policy!",
                  cache_purges AS "cache_purges!", instance_service, instance_tls
           FROM edge_apps WHERE id > $1 ORDER BY id LIMIT $2"#,
        after,
        limit,
    )
    .fetch_all(connection)
    .await?)
}

/// The next keys after `after` by digest, at most `limit`. Start with no bytes.
pub async fn keys_page(connection: &mut PgConnection, after: &[u8], limit: i64) -> Result<Vec<KeyRow>, DbError> {
    Ok(sqlx::query_as!(
        KeyRow,
        r#"SELECT digest AS "digest!", id AS "id!: KeyId", application_id AS "application_id!: ApplicationId",
                  type AS "type!", epoch AS "epoch!", version AS "version!", scopes AS "scopes!", networks AS "networks!",
                  origins AS "origins!", enabled AS "enabled!",
                  floor(extract(epoch FROM expires_at) * 1000)::bigint AS expires_at_ms,
                  revoked_at IS NOT NULL AS "revoked!"
           FROM edge_keys WHERE digest > $1 ORDER BY digest LIMIT $2"#,
        after,
        limit,
    )
    .fetch_all(connection)
    .await?)
}

/// The hosts with these names, those that lead somewhere.
pub async fn hosts(connection: &mut PgConnection, names: &[String]) -> Result<Vec<HostRow>, DbError> {
    Ok(sqlx::query_as!(
        HostRow,
        r#"SELECT host AS "host!", application_id AS "application_id!: ApplicationId", epoch AS "epoch!",
                  version AS "version!"
           FROM edge_hosts WHERE host = ANY ($1)"#,
        names,
    )
    .fetch_all(connection)
    .await?)
}

/// The next hosts after `after` by name, at most `limit`. Start with an empty text.
pub async fn hosts_page(connection: &mut PgConnection, after: &str, limit: i64) -> Result<Vec<HostRow>, DbError> {
    Ok(sqlx::query_as!(
        HostRow,
        r#"SELECT host AS "host!", application_id AS "application_id!: ApplicationId", epoch AS "epoch!",
                  version AS "version!"
           FROM edge_hosts WHERE host > $1 ORDER BY host LIMIT $2"#,
        after,
        limit,
    )
    .fetch_all(connection)
    .await?)
}
