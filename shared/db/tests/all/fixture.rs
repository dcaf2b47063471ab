//! A migrated database with one workspace, and rows to put into it.

use authsome_core::{
    clock::SystemClock,
    entropy::SystemEntropy,
    id::{ApplicationId, Id, Kind, UserId, WorkspaceId},
};
use authsome_db::MIGRATOR;
use sqlx::PgPool;

pub(crate) fn id<K: Kind>() -> Id<K> {
    Id::generate(&SystemClock, &SystemEntropy::new())
}

pub(crate) struct Tenancy {
    pub(crate) pool: PgPool,
    pub(crate) owner: UserId,
    pub(crate) workspace: WorkspaceId,
}

pub(crate) async fn tenancy() -> Tenancy {
    let database = authsome_testkit::fresh_database(&MIGRATOR).await.unwrap();
    let pool = PgPool::connect(&database.url).await.unwrap();
    let (owner, workspace): (UserId, WorkspaceId) = (id(), id());
    sqlx::query("INSERT INTO users (id, email, name) VALUES ($1, 'Owner@example.com', 'Owner')")
        .bind(owner)
        .execute(&pool)
        .await
        .unwrap();
    sqlx::query("INSERT INTO workspaces (id, name, slug, owner_id) VALUES ($1, 'Acme', 'acme', $2)")
        .bind(workspace)
        .bind(owner)
        .execute(&pool)
        .await
        .unwrap();
    Tenancy { pool, owner, workspace }
}

impl Tenancy {
    pub(crate) async fn application(&self, slug: &str) -> ApplicationId {
        let application: ApplicationId = id();
        sqlx::query(
            "INSERT INTO applications (id, workspace_id, name, slug, environment, region, k8s_namespace, cpu_limit,
                                       memory_limit, storage_limit)
             VALUES ($1, $2, 'Shop', $3, 'production', 'local', 'authsome-app-' || $3, '1', '1Gi', '1Gi')",
        )
        .bind(application)
        .bind(self.workspace)
        .bind(slug)
        .execute(&self.pool)
        .await
        .unwrap();
        application
    }

    pub(crate) async fn secret_key(&self, application: ApplicationId, digest: [u8; 32]) -> authsome_core::id::KeyId {
        let key = id();
        sqlx::query(
            "INSERT INTO api_keys (id, application_id, type, name, digest, masked)
             VALUES ($1, $2, 'secret', 'Server', $3, 'sk_live_…')",
        )
        .bind(key)
        .bind(application)
        .bind(digest.as_slice())
        .execute(&self.pool)
        .await
        .unwrap();
        key
    }

    /// (topic, ref, version) of every outbox row in the order of writing.
    pub(crate) async fn outbox(&self) -> Vec<(String, String, i64)> {
        sqlx::query_as("SELECT topic, ref, version FROM outbox ORDER BY id")
            .fetch_all(&self.pool)
            .await
            .unwrap()
    }
}
