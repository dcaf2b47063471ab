//! Rows that the edge serves by.

mod hosts;

use authsome_core::clock::SystemClock;
use authsome_core::entropy::SystemEntropy;
use authsome_core::id::{ApplicationId, KeyId, UserId, WorkspaceId};
use authsome_core::key::{ApiKey, KeyMode, KeyType};
use authsome_testkit::{Database, fresh_database};
use sqlx::{Connection, PgConnection};

/// A migrated database with one workspace.
pub(crate) struct Tenants {
    pub(crate) database: Database,
    workspace: WorkspaceId,
}

/// What a test may change about a new application.
#[derive(Clone)]
pub(crate) struct NewApp {
    pub(crate) endpoints: Vec<String>,
    pub(crate) status: &'static str,
    pub(crate) base_path: &'static str,
    pub(crate) path_policy: &'static str,
    pub(crate) edge_credentials: Option<Vec<u8>>,
    pub(crate) id: ApplicationId,
}

impl NewApp {
    pub(crate) fn at(endpoints: &[String]) -> Self {
        Self {
            endpoints: endpoints.to_vec(),
            status: "active",
            base_path: "",
            path_policy: "[]",
            edge_credentials: None,
            id: ApplicationId::generate(&SystemClock, &SystemEntropy::new()),
        }
    }
}

/// An application with a key of each type.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) id: ApplicationId,
    pub(crate) public: ApiKey,
    pub(crate) secret: ApiKey,
}

impl Tenants {
    pub(crate) async fn new() -> Self {
        let database = fresh_database(&authsome_db::MIGRATOR).await.unwrap();
        let entropy = SystemEntropy::new();
        let workspace = WorkspaceId::generate(&SystemClock, &entropy);
        let tenants = Self { database, workspace };
        let mut connection = tenants.connection().await;
        let owner = UserId::generate(&SystemClock, &entropy);
        sqlx::query("INSERT INTO users (id, email, name) VALUES ($1, 'owner@example.com', 'Owner')")
            .bind(owner)
            .execute(&mut connection)
            .await
            .unwrap();
        sqlx::query("INSERT INTO workspaces (id, name, slug, owner_id) VALUES ($1, 'Acme', 'acme', $2)")
            .bind(workspace)
            .bind(owner)
            .execute(&mut connection)
            .await
            .unwrap();
        tenants
    }

    async fn connection(&self) -> PgConnection {
        PgConnection::connect_with(&self.database.options).await.unwrap()
    }

    pub(crate) async fn app(&self, new: NewApp) -> App {
        let mut connection = self.connection().await;
        let suffix = new.id.suffix().to_string();
        sqlx::query(
            "INSERT INTO applications (id, workspace_id, name, slug, environment, region, status, activated_at, \
             k8s_namespace, endpoints, base_path, path_policy, edge_credentials, cpu_limit, memory_limit, storage_limit, \
             deleted_at) \
             VALUES ($1, $2, 'App', $3, 'production', 'local', $4, now(), $5, $6, $7, $8::jsonb, $9, '1', '1Gi', '1Gi', \
             CASE WHEN $4 IN ('deleting', 'purging', 'deleted') THEN now() END)",
        )
        .bind(new.id)
        .bind(self.workspace)
        .bind(format!("app-{suffix}"))
        .bind(new.status)
        .bind(format!("authsome-app-{suffix}"))
        .bind(&new.endpoints)
        .bind(new.base_path)
        .bind(new.path_policy)
        .bind(new.edge_credentials)
        .execute(&mut connection)
        .await
        .unwrap();
        let public = self.key(new.id, KeyType::Public, &[]).await;
        let secret = self.key(new.id, KeyType::Secret, &["*"]).await;
        App {
            id: new.id,
            public,
            secret,
        }
    }

    pub(crate) async fn key(&self, app: ApplicationId, key_type: KeyType, scopes: &[&str]) -> ApiKey {
        let key = ApiKey::generate(key_type, KeyMode::Live, &app, &SystemEntropy::new());
        self.insert_key(app, &key, scopes).await;
        key
    }

    pub(crate) async fn insert_key(&self, app: ApplicationId, key: &ApiKey, scopes: &[&str]) {
        let key_type = key.parsed().key_type();
        let scopes: Vec<String> = scopes.iter().map(ToString::to_string).collect();
        sqlx::query(
            "INSERT INTO api_keys (id, application_id, type, name, digest, masked, public_key, scopes) \
             VALUES ($1, $2, $3, 'Key', $4, $5, $6, $7)",
        )
        .bind(KeyId::generate(&SystemClock, &SystemEntropy::new()))
        .bind(app)
        .bind(key_type.as_str())
        .bind(key.digest().as_bytes().to_vec())
        .bind(key.masked())
        .bind((key_type == KeyType::Public).then(|| key.expose().to_owned()))
        .bind(scopes)
        .execute(&mut self.connection().await)
        .await
        .unwrap();
    }

    pub(crate) async fn revoke(&self, key: &ApiKey) {
        self.change_key(key, "UPDATE api_keys SET revoked_at = now() WHERE digest = $1")
            .await;
    }

    pub(crate) async fn expire(&self, key: &ApiKey) {
        self.change_key(
            key,
            "UPDATE api_keys SET expires_at = now() - interval '1 s' WHERE digest = $1",
        )
        .await;
    }

    pub(crate) async fn expire_in(&self, key: &ApiKey, seconds: i32) {
        let digest = key.digest().as_bytes().to_vec();
        sqlx::query("UPDATE api_keys SET expires_at = now() + make_interval(secs => $2) WHERE digest = $1")
            .bind(digest)
            .bind(seconds)
            .execute(&mut self.connection().await)
            .await
            .unwrap();
    }

    pub(crate) async fn suspend(&self, app: ApplicationId) {
        sqlx::query("UPDATE applications SET status = 'suspended' WHERE id = $1")
            .bind(app)
            .execute(&mut self.connection().await)
            .await
            .unwrap();
    }

    /// Throws away what the edges keep: `purges` as in the record.
    pub(crate) async fn purge(&self, app: ApplicationId, purges: &'static str) {
        sqlx::query("UPDATE applications SET cache_purges = $2::jsonb WHERE id = $1")
            .bind(app)
            .bind(purges)
            .execute(&mut self.connection().await)
            .await
            .unwrap();
    }

    pub(crate) async fn allow_only_documentation_networks(&self, key: &ApiKey) {
        self.change_key(key, "UPDATE api_keys SET networks = '{192.0.2.0/24}' WHERE digest = $1")
            .await;
    }

    async fn change_key(&self, key: &ApiKey, statement: &'static str) {
        let digest = key.digest().as_bytes().to_vec();
        let changed = sqlx::query(statement)
            .bind(digest)
            .execute(&mut self.connection().await)
            .await
            .unwrap();
        assert_eq!(changed.rows_affected(), 1);
    }
}
