//! Many applications and keys at once, for edges that take them from the relay.

use authsome_contract::model::Plan;
use authsome_core::clock::SystemClock;
use authsome_core::entropy::SystemEntropy;
use authsome_core::id::{ApplicationId, KeyId, UserId, WorkspaceId};
use authsome_core::key::ApiKey;
use sqlx::PgConnection;

/// Rows of one statement.
const ROWS: usize = 10_000;

/// An application that serves, with one instance.
#[derive(Debug, Clone)]
pub struct Tenant {
    /// Its id.
    pub id: ApplicationId,
    /// Where its instance listens, `address:port`.
    pub endpoint: String,
    /// Of its workspace.
    pub plan: Plan,
}

impl Tenant {
    /// With the widest limits that a plan has.
    pub fn enterprise(id: ApplicationId, endpoint: String) -> Self {
        Self {
            id,
            endpoint,
            plan: Plan::Enterprise,
        }
    }

    /// With the narrowest.
    pub fn free(id: ApplicationId, endpoint: String) -> Self {
        Self {
            id,
            endpoint,
            plan: Plan::Free,
        }
    }
}

/// These applications, in one workspace for each plan.
pub async fn insert(connection: &mut PgConnection, tenants: &[Tenant]) {
    let entropy = SystemEntropy::new();
    for plan in [Plan::Free, Plan::Pro, Plan::Enterprise] {
        let of_plan: Vec<&Tenant> = tenants.iter().filter(|tenant| tenant.plan == plan).collect();
        if of_plan.is_empty() {
            continue;
        }
        let owner = UserId::generate(&SystemClock, &entropy);
        let workspace = WorkspaceId::generate(&SystemClock, &entropy);
        sqlx::query("INSERT INTO users (id, email, name) VALUES ($1, $2, 'Owner')")
            .bind(owner)
            .bind(format!("{}@example.com", plan.as_str()))
            .execute(&mut *connection)
            .await
            .unwrap();
        sqlx::query("INSERT INTO workspaces (id, name, slug, owner_id, plan) VALUES ($1, 'Acme', $3, $2, $3)")
            .bind(workspace)
            .bind(owner)
            .bind(plan.as_str())
            .execute(&mut *connection)
            .await
            .unwrap();
        for part in of_plan.chunks(ROWS) {
            let ids: Vec<String> = part.iter().map(|tenant| tenant.id.to_string()).collect();
            let names: Vec<String> = part
                .iter()
                .map(|tenant| format!("app-{}", tenant.id.suffix()))
                .collect();
            let endpoints: Vec<&str> = part.iter().map(|tenant| tenant.endpoint.as_str()).collect();
            sqlx::query(
                "INSERT INTO applications (id, workspace_id, name, slug, environment, region, status, activated_at, \
                 k8s_namespace, endpoints, cpu_limit, memory_limit, storage_limit) \
                 SELECT id, $1, 'App', name, 'production', 'local', 'active', now(), 'authsome-' || name, \
                 ARRAY[endpoint], '1', '1Gi', '1Gi' \
                 FROM unnest($2::text[], $3::text[], $4::text[]) AS made (id, name, endpoint)",
            )
            .bind(workspace)
            .bind(ids)
            .bind(names)
            .bind(endpoints)
            .execute(&mut *connection)
            .await
            .unwrap();
        }
    }
}

/// These secret keys, with every scope.
pub async fn insert_keys<'k>(
    connection: &mut PgConnection,
    keys: impl IntoIterator<Item = (ApplicationId, &'k ApiKey)>,
) {
    let entropy = SystemEntropy::new();
    let keys: Vec<(ApplicationId, &ApiKey)> = keys.into_iter().collect();
    for part in keys.chunks(ROWS) {
        let ids: Vec<String> = part
            .iter()
            .map(|_| KeyId::generate(&SystemClock, &entropy).to_string())
            .collect();
        let apps: Vec<String> = part.iter().map(|(app, _)| app.to_string()).collect();
        let digests: Vec<Vec<u8>> = part.iter().map(|(_, key)| key.digest().as_bytes().to_vec()).collect();
        let masked: Vec<String> = part.iter().map(|(_, key)| key.masked()).collect();
        sqlx::query(
            "INSERT INTO api_keys (id, application_id, type, name, digest, masked, scopes) \
             SELECT id, app, 'secret', 'Key', digest, masked, '{*}' \
             FROM unnest($1::text[], $2::text[], $3::bytea[], $4::text[]) AS made (id, app, digest, masked)",
        )
        .bind(ids)
        .bind(apps)
        .bind(digests)
        .bind(masked)
        .execute(&mut *connection)
        .await
        .unwrap();
    }
}
