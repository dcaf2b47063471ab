//! Rows for tests that look below the commands: a workspace, applications and keys, written by SQL.

use authsome_core::{
    clock::SystemClock,
    entropy::SystemEntropy,
    id::{ApplicationId, Id, KeyId, Kind, UserId, WorkspaceId},
    key::Digest,
};
use sqlx::PgPool;

/// A fresh database with a workspace in it.
pub(crate) struct Rows {
    pub(crate) pool: PgPool,
    pub(crate) workspace: WorkspaceId,
}

impl Rows {
    pub(crate) async fn new() -> Self {
        let database = authsome_testkit::fresh_database(&authsome_db::MIGRATOR).await.unwrap();
        Self::on(PgPool::connect_with(database.options).await.unwrap()).await
    }

    pub(crate) async fn on(pool: PgPool) -> Self {
        let (user, workspace): (UserId, WorkspaceId) = (id(), id());
        sqlx::query("INSERT INTO users (id, email, name) VALUES ($1, $1 || '@example.com', 'Somebody')")
            .bind(user)
            .execute(&pool)
            .await
            .unwrap();
        sqlx::query("INSERT INTO workspaces (id, name, slug, owner_id) VALUES ($1, 'Acme', 'acme', $2)")
            .bind(workspace)
            .bind(user)
            .execute(&pool)
            .await
            .unwrap();
        Self { pool, workspace }
    }

    /// An application that is being provisioned, version 1.
    pub(crate) async fn application(&self) -> ApplicationId {
        let id: ApplicationId = id();
        let suffix = id.suffix().to_string();
        sqlx::query(
            "INSERT INTO applications (id, workspace_id, name, slug, environment, region, k8s_namespace, cpu_limit, memory_limit,
                                       storage_limit)
             VALUES ($1, $2, 'Shop', $3, 'production', 'local', 'authsome-app-' || $3, '500m', '512Mi', '5Gi')",
        )
        .bind(id)
        .bind(self.workspace)
        .bind(suffix)
        .execute(&self.pool)
        .await
        .unwrap();
        id
    }

    /// A secret key, version 1.
    pub(crate) async fn key(&self, application: ApplicationId) -> Digest {
        let mut connection = self.pool.acquire().await.unwrap();
        insert_key(&mut connection, application).await
    }

    pub(crate) async fn revoke(&self, digest: &Digest) {
        sqlx::query("UPDATE api_keys SET revoked_at = now() WHERE digest = $1")
            .bind(digest.as_bytes().as_slice())
            .execute(&self.pool)
            .await
            .unwrap();
    }

    /// Raises the version by a change that the edge sees.
    pub(crate) async fn touch(&self, application: ApplicationId) {
        sqlx::query("UPDATE applications SET origins = origins || ARRAY['https://example.com'] WHERE id = $1")
            .bind(application)
            .execute(&self.pool)
            .await
            .unwrap();
    }
}

pub(crate) async fn insert_key(connection: &mut sqlx::PgConnection, application: ApplicationId) -> Digest {
    let key: KeyId = id();
    let digest = Digest::of(key.to_string().as_bytes());
    sqlx::query(
        "INSERT INTO api_keys (id, application_id, type, name, digest, masked) VALUES ($1, $2, 'secret', 'Server', $3, 'sk_live_…')",
    )
    .bind(key)
    .bind(application)
    .bind(digest.as_bytes().as_slice())
    .execute(connection)
    .await
    .unwrap();
    digest
}

pub(crate) fn id<K: Kind>() -> Id<K> {
    Id::generate(&SystemClock, &SystemEntropy::new())
}
