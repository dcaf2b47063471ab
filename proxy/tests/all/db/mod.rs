//! Rows that the edge serves by.

mod hosts;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use authsome_core::clock::SystemClock;
use authsome_core::entropy::SystemEntropy;
use authsome_core::id::{ApplicationId, KeyId, UserId, WorkspaceId};
use authsome_core::key::{ApiKey, KeyMode, KeyType};
use authsome_testkit::{Database, fresh_database};
use sqlx::{Connection, PgConnection};

/// A migrated database with a workspace of each plan that is used.
#[derive(Clone)]
pub(crate) struct Tenants {
    pub(crate) database: Database,
    owner: UserId,
}

/// A test that asks again and again is quicker than any plan allows on a machine that has nothing else to do.
const ROOMY: Option<&str> = Some(r#"{"requestsPerSecond":1000000}"#);

/// What a test may change about a new application.
#[derive(Clone)]
pub(crate) struct NewApp {
    pub(crate) endpoints: Vec<String>,
    pub(crate) status: &'static str,
    pub(crate) plan: &'static str,
    /// Limits of a contract, as JSON.
    pub(crate) limits: Option<&'static str>,
    pub(crate) base_path: &'static str,
    pub(crate) path_policy: &'static str,
    pub(crate) edge_credentials: Option<Vec<u8>>,
    pub(crate) environment: &'static str,
    pub(crate) origins: &'static [&'static str],
    pub(crate) secret_from_browsers: bool,
    pub(crate) id: ApplicationId,
}

impl NewApp {
    pub(crate) fn at(endpoints: &[String]) -> Self {
        Self {
            endpoints: endpoints.to_vec(),
            status: "active",
            plan: "enterprise",
            limits: ROOMY,
            base_path: "",
            path_policy: "[]",
            edge_credentials: None,
            environment: "production",
            origins: &[],
            secret_from_browsers: false,
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
        let owner = UserId::generate(&SystemClock, &SystemEntropy::new());
        let tenants = Self { database, owner };
        sqlx::query("INSERT INTO users (id, email, name) VALUES ($1, 'owner@example.com', 'Owner')")
            .bind(owner)
            .execute(&mut tenants.connection().await)
            .await
            .unwrap();
        tenants
    }

    async fn workspace(&self, plan: &str) -> WorkspaceId {
        let id = WorkspaceId::generate(&SystemClock, &SystemEntropy::new());
        sqlx::query_scalar(
            "INSERT INTO workspaces (id, name, slug, owner_id, plan) VALUES ($1, 'Acme', 'acme-' || $3, $2, $3) \
             ON CONFLICT (slug) DO UPDATE SET name = 'Acme' RETURNING id",
        )
        .bind(id)
        .bind(self.owner)
        .bind(plan)
        .fetch_one(&mut self.connection().await)
        .await
        .unwrap()
    }

    async fn connection(&self) -> PgConnection {
        PgConnection::connect_with(&self.database.options).await.unwrap()
    }

    pub(crate) async fn app(&self, new: NewApp) -> App {
        let mut connection = self.connection().await;
        let suffix = new.id.suffix().to_string();
        sqlx::query(
            "INSERT INTO applications (id, workspace_id, name, slug, status, activated_at, \
             k8s_namespace, endpoints, base_path, path_policy, edge_credentials, environment, origins, secret_from_browsers, \
             edge_limits, region, cpu_limit, memory_limit, storage_limit, deleted_at) \
             VALUES ($1, $2, 'App', $3, $4, now(), $5, $6, $7, $8::jsonb, $9, $10, $11, $12, $13::jsonb, 'local', '1', '1Gi', \
             '1Gi', CASE WHEN $4 IN ('deleting', 'purging', 'deleted') THEN now() END)",
        )
        .bind(new.id)
        .bind(self.workspace(new.plan).await)
        .bind(format!("app-{suffix}"))
        .bind(new.status)
        .bind(format!("authsome-app-{suffix}"))
        .bind(&new.endpoints)
        .bind(new.base_path)
        .bind(new.path_policy)
        .bind(new.edge_credentials)
        .bind(new.environment)
        .bind(new.origins.iter().map(ToString::to_string).collect::<Vec<_>>())
        .bind(new.secret_from_browsers)
        .bind(new.limits)
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

    /// Changes one column of an application; `value` is cast to the column's type.
    pub(crate) async fn change_app(&self, app: ApplicationId, statement: &'static str, value: &str) {
        let changed = sqlx::query(statement)
            .bind(app)
            .bind(value)
            .execute(&mut self.connection().await)
            .await
            .unwrap();
        assert_eq!(changed.rows_affected(), 1);
    }

    pub(crate) async fn use_up_the_month(&self, app: ApplicationId) {
        sqlx::query("UPDATE applications SET quota_exhausted = true WHERE id = $1")
            .bind(app)
            .execute(&mut self.connection().await)
            .await
            .unwrap();
    }

    /// The most statements of edges that were at work at once, until `over`.
    pub(crate) async fn most_at_once(&self, over: &AtomicBool) -> i64 {
        let mut connection = self.connection().await;
        let mut most = 0;
        while !over.load(Ordering::Relaxed) {
            let now: i64 = sqlx::query_scalar(
                "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND application_name = 'authsome-proxy' \
                 AND datname = current_database()",
            )
            .fetch_one(&mut connection)
            .await
            .unwrap();
            most = most.max(now);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        most
    }

    /// All workspaces: another plan has other limits.
    pub(crate) async fn move_to_plan(&self, plan: &str) {
        sqlx::query("UPDATE workspaces SET plan = $1")
            .bind(plan)
            .execute(&mut self.connection().await)
            .await
            .unwrap();
    }

    pub(crate) async fn set_enabled(&self, key: &ApiKey, enabled: bool) {
        let statement = if enabled {
            "UPDATE api_keys SET enabled = true WHERE digest = $1"
        } else {
            "UPDATE api_keys SET enabled = false WHERE digest = $1"
        };
        self.change_key(key, statement).await;
    }

    /// Gives the application a record of about this many bytes.
    pub(crate) async fn fatten(&self, app: ApplicationId, bytes: i32) {
        sqlx::query(
            "UPDATE applications SET origins = (SELECT array_agg('https://' || n || repeat('x', 1000) || '.example') \
             FROM generate_series(1, $2 / 1000) n) WHERE id = $1",
        )
        .bind(app)
        .bind(bytes)
        .execute(&mut self.connection().await)
        .await
        .unwrap();
    }

    /// The application's secret keys fail closed this long after the last heartbeat.
    pub(crate) async fn make_strict(&self, app: ApplicationId, seconds: i32) {
        sqlx::query("UPDATE applications SET strict_seconds = $2 WHERE id = $1")
            .bind(app)
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

    pub(crate) async fn allow_only_from(&self, key: &ApiKey, origin: &str) {
        let changed = sqlx::query("UPDATE api_keys SET origins = ARRAY[$2] WHERE digest = $1")
            .bind(key.digest().as_bytes().to_vec())
            .bind(origin)
            .execute(&mut self.connection().await)
            .await
            .unwrap();
        assert_eq!(changed.rows_affected(), 1);
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
