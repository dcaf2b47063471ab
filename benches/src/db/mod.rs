//! Rows of the control database: one workspace, its applications and their keys.

pub mod flow;
pub mod tenants;

use authsome_core::clock::SystemClock;
use authsome_core::entropy::SystemEntropy;
use authsome_core::id::{ApplicationId, KeyId, UserId, WorkspaceId};
use authsome_core::key::{ApiKey, Digest, KeyMode, KeyType};
use sqlx::PgConnection;

/// A workspace and an application in it.
pub async fn application(connection: &mut PgConnection) -> ApplicationId {
    let entropy = SystemEntropy::new();
    let owner = UserId::generate(&SystemClock, &entropy);
    let workspace = WorkspaceId::generate(&SystemClock, &entropy);
    let id = ApplicationId::generate(&SystemClock, &entropy);
    let suffix = id.suffix().to_string();
    sqlx::query("INSERT INTO users (id, email, name) VALUES ($1, 'owner@example.com', 'Owner')")
        .bind(owner)
        .execute(&mut *connection)
        .await
        .unwrap();
    sqlx::query("INSERT INTO workspaces (id, name, slug, owner_id) VALUES ($1, 'Acme', 'acme', $2)")
        .bind(workspace)
        .bind(owner)
        .execute(&mut *connection)
        .await
        .unwrap();
    sqlx::query(
        "INSERT INTO applications (id, workspace_id, name, slug, environment, region, status, activated_at, \
         k8s_namespace, endpoints, cpu_limit, memory_limit, storage_limit) \
         VALUES ($1, $2, 'App', $3, 'production', 'local', 'active', now(), $4, '{10.0.0.1:8080}', '1', '1Gi', '1Gi')",
    )
    .bind(id)
    .bind(workspace)
    .bind(format!("app-{suffix}"))
    .bind(format!("authsome-app-{suffix}"))
    .execute(connection)
    .await
    .unwrap();
    id
}

/// So many secret keys of an application.
pub async fn keys(connection: &mut PgConnection, app: ApplicationId, count: usize) -> Vec<Digest> {
    let entropy = SystemEntropy::new();
    let keys: Vec<ApiKey> = (0..count)
        .map(|_| ApiKey::generate(KeyType::Secret, KeyMode::Live, &app, &entropy))
        .collect();
    let ids: Vec<String> = (0..count)
        .map(|_| KeyId::generate(&SystemClock, &entropy).to_string())
        .collect();
    let digests: Vec<Vec<u8>> = keys.iter().map(|key| key.digest().as_bytes().to_vec()).collect();
    let masked: Vec<String> = keys.iter().map(ApiKey::masked).collect();
    sqlx::query(
        "INSERT INTO api_keys (id, application_id, type, name, digest, masked, scopes) \
         SELECT id, $2, 'secret', 'Key', digest, masked, '{*}' \
         FROM unnest($1::text[], $3::bytea[], $4::text[]) AS made (id, digest, masked)",
    )
    .bind(ids)
    .bind(app)
    .bind(digests)
    .bind(masked)
    .execute(connection)
    .await
    .unwrap();
    keys.iter().map(ApiKey::digest).collect()
}

/// Revokes a key, up to the commit, which is the caller's.
pub async fn revoke(connection: &mut PgConnection, digest: &Digest) {
    change(
        connection,
        "UPDATE api_keys SET revoked_at = now() WHERE digest = $1",
        digest,
    )
    .await;
}

/// Changes a key in a way that nobody notices.
pub async fn touch(connection: &mut PgConnection, digest: &Digest) {
    change(
        connection,
        "UPDATE api_keys SET expires_at = now() + interval '1 day' WHERE digest = $1",
        digest,
    )
    .await;
}

async fn change(connection: &mut PgConnection, statement: &'static str, digest: &Digest) {
    let changed = sqlx::query(statement)
        .bind(digest.as_bytes().to_vec())
        .execute(connection)
        .await
        .unwrap();
    assert_eq!(changed.rows_affected(), 1);
}
