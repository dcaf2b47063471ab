//! Reading what is wanted of applications.

use std::str::FromStr;

use authsome_contract::model::UnknownName;
use authsome_core::id::{ApplicationId, WorkspaceId};
use authsome_db::DbError;
use sqlx::{PgConnection, PgPool};

use crate::plan::{Intent, Sealed};

/// The intent of one application, if there is one.
pub async fn load(connection: &mut PgConnection, id: ApplicationId) -> Result<Option<Intent>, DbError> {
    let row = sqlx::query_as!(
        Row,
        r#"SELECT a.id AS "id: ApplicationId", a.workspace_id AS "workspace_id: WorkspaceId", a.name, a.environment,
                  a.status, a.region, a.generation, a.observed_generation, a.activated_at IS NOT NULL AS "activated!",
                  a.k8s_namespace, a.database_url, a.redis_url, a.internal_url, a.endpoints, a.base_path,
                  a.edge_credentials, a.instance_service, coalesce(a.image, a.fleet_image, f.image) AS image,
                  a.database_strategy, a.redis_strategy, a.origins, a.config, a.cpu_limit, a.memory_limit, a.storage_limit,
                  w.plan, w.status AS workspace_status
           FROM applications a JOIN workspaces w ON w.id = a.workspace_id LEFT JOIN fleet_images f ON f.region = a.region
           WHERE a.id = $1"#,
        id as ApplicationId,
    )
    .fetch_optional(connection)
    .await?;
    row.map(Row::into_intent).transpose()
}

/// Applications of a region that are to be kept as they are, in the order of their ids from the one after `after`, at most
/// `limit`. Whether each is, is for [`Intent::is_kept`] to say: this only leaves out what certainly is not.
pub async fn kept(
    pool: &PgPool,
    region: &str,
    after: Option<ApplicationId>,
    limit: i64,
) -> Result<Vec<Intent>, DbError> {
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT a.id AS "id: ApplicationId", a.workspace_id AS "workspace_id: WorkspaceId", a.name, a.environment,
                  a.status, a.region, a.generation, a.observed_generation, a.activated_at IS NOT NULL AS "activated!",
                  a.k8s_namespace, a.database_url, a.redis_url, a.internal_url, a.endpoints, a.base_path,
                  a.edge_credentials, a.instance_service, coalesce(a.image, a.fleet_image, f.image) AS image,
                  a.database_strategy, a.redis_strategy, a.origins, a.config, a.cpu_limit, a.memory_limit, a.storage_limit,
                  w.plan, w.status AS workspace_status
           FROM applications a JOIN workspaces w ON w.id = a.workspace_id LEFT JOIN fleet_images f ON f.region = a.region
           WHERE a.region = $1 AND (a.status IN ('active', 'updating', 'restarting', 'failed')
               OR (a.status IN ('suspended', 'deleting') AND a.activated_at IS NOT NULL
                   AND a.observed_generation = a.generation))
             AND ($2::text IS NULL OR a.id > $2)
           ORDER BY a.id LIMIT $3"#,
        region,
        after as Option<ApplicationId>,
        limit,
    )
    .fetch_all(pool)
    .await?;
    rows.into_iter().map(Row::into_intent).collect()
}

struct Row {
    id: ApplicationId,
    workspace_id: WorkspaceId,
    name: String,
    environment: String,
    status: String,
    region: String,
    generation: i64,
    observed_generation: i64,
    activated: bool,
    k8s_namespace: String,
    database_url: Option<Vec<u8>>,
    redis_url: Option<Vec<u8>>,
    internal_url: Option<String>,
    endpoints: Vec<String>,
    base_path: String,
    edge_credentials: Option<Vec<u8>>,
    instance_service: Option<String>,
    image: Option<String>,
    database_strategy: Option<String>,
    redis_strategy: Option<String>,
    origins: Vec<String>,
    config: serde_json::Value,
    cpu_limit: String,
    memory_limit: String,
    storage_limit: String,
    plan: String,
    workspace_status: String,
}

impl Row {
    fn into_intent(self) -> Result<Intent, DbError> {
        let (id, workspace) = (self.id, self.workspace_id);
        let unknown = |column| move |error: UnknownName| DbError::unknown_name("applications", column, id, &error);
        let of_workspace =
            |column| move |error: UnknownName| DbError::unknown_name("workspaces", column, workspace, &error);
        let status = self.status.parse().map_err(unknown("status"))?;
        Ok(Intent {
            application_id: id,
            workspace_id: workspace,
            name: self.name,
            environment: self.environment.parse().map_err(unknown("environment"))?,
            plan: self.plan.parse().map_err(of_workspace("plan"))?,
            region: self.region,
            generation: self.generation,
            observed_generation: self.observed_generation,
            status,
            activated: self.activated,
            workspace_status: self.workspace_status.parse().map_err(of_workspace("status"))?,
            desired: Intent::desired(status, self.activated),
            config: self.config,
            origins: self.origins,
            base_path: self.base_path,
            namespace: self.k8s_namespace,
            cpu_limit: self.cpu_limit,
            memory_limit: self.memory_limit,
            storage_limit: self.storage_limit,
            database_url: self.database_url.map(Sealed),
            redis_url: self.redis_url.map(Sealed),
            edge_credentials: self.edge_credentials.map(Sealed),
            internal_url: self.internal_url,
            instance_service: self.instance_service,
            image: self.image,
            database: parsed(self.database_strategy).map_err(unknown("database_strategy"))?,
            redis: parsed(self.redis_strategy).map_err(unknown("redis_strategy"))?,
            endpoints: self.endpoints,
        })
    }
}

fn parsed<T: FromStr>(text: Option<String>) -> Result<Option<T>, T::Err> {
    text.map(|text| text.parse()).transpose()
}
