//! Applications: what customers want to exist.

use authsome_contract::model::{AppStatus, Environment, UnknownName, plan::Resources};
use authsome_core::id::{ApplicationId, WorkspaceId};
use authsome_db::DbError;
use serde_json::Value;
use sqlx::{PgConnection, Postgres, QueryBuilder};
use time::OffsetDateTime;

/// An application as its team sees it.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the columns of the table, documented in its migration")]
pub struct Application {
    pub id: ApplicationId,
    pub workspace_id: WorkspaceId,
    pub name: String,
    pub slug: String,
    pub environment: Environment,
    pub region: String,
    pub status: AppStatus,
    pub config: Value,
    pub metadata: Value,
    pub staff_suspension: Option<String>,
    pub purge_after: Option<OffsetDateTime>,
    pub cpu_limit: String,
    pub memory_limit: String,
    pub storage_limit: String,
    /// Instances that the edge may send requests to at this moment.
    pub endpoints: i64,
    pub failure_reason: Option<String>,
    pub failure_remediation: Option<String>,
    /// The oldest public key that can still be used.
    pub public_key: Option<String>,
    /// Requests counted in the month that was asked for.
    pub api_requests: i64,
    pub created_at: OffsetDateTime,
    pub updated_at: OffsetDateTime,
}

/// A new application. It starts as `provisioning`.
#[derive(Debug)]
#[expect(missing_docs, reason = "the columns of the table, documented in its migration")]
pub struct NewApplication<'a> {
    pub id: ApplicationId,
    pub workspace_id: WorkspaceId,
    pub name: &'a str,
    pub slug: &'a str,
    pub environment: Environment,
    pub region: &'a str,
    pub config: &'a Value,
    pub namespace: &'a str,
    pub resources: Resources,
    pub deadline: OffsetDateTime,
    pub created_at: OffsetDateTime,
}

/// Which applications of a workspace are asked for.
#[derive(Debug, Clone, Copy)]
pub struct Filter<'a> {
    /// For this environment.
    pub environment: Option<Environment>,
    /// In this status.
    pub status: Option<AppStatus>,
    /// Whose name or slug begins with it, in any case, or whose id it is.
    pub search: Option<&'a str>,
    /// At most so many.
    pub limit: i64,
    /// After so many.
    pub offset: i64,
}

/// Writes a new application. A slug taken in the workspace is [`DbError::Duplicate`].
pub async fn insert(connection: &mut PgConnection, new: &NewApplication<'_>) -> Result<(), DbError> {
    sqlx::query!(
        "INSERT INTO applications (id, workspace_id, name, slug, environment, region, config, k8s_namespace, cpu_limit,
                                   memory_limit, storage_limit, status_deadline, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
        new.id as ApplicationId,
        new.workspace_id as WorkspaceId,
        new.name,
        new.slug,
        new.environment.as_str(),
        new.region,
        new.config,
        new.namespace,
        new.resources.cpu,
        new.resources.memory,
        new.resources.storage,
        new.deadline,
        new.created_at,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// How many applications count against the limit of the workspace's plan: all but those on their way out. Exact only
/// while the workspace is locked.
pub async fn count_towards_limit(connection: &mut PgConnection, workspace: WorkspaceId) -> Result<i64, DbError> {
    let count = sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM applications
           WHERE workspace_id = $1 AND status NOT IN ('deleting', 'purging', 'deleted')"#,
        workspace as WorkspaceId,
    )
    .fetch_one(connection)
    .await?;
    Ok(count)
}

/// The environment of an application that may still get keys, its row locked against a change of status.
pub async fn lock_for_keys(
    connection: &mut PgConnection,
    id: ApplicationId,
) -> Result<Option<(Environment, AppStatus)>, DbError> {
    let row = sqlx::query!(
        "SELECT environment, status FROM applications WHERE id = $1 FOR NO KEY UPDATE",
        id as ApplicationId,
    )
    .fetch_optional(connection)
    .await?;
    row.map(|row| {
        Ok((
            known("environment", id, row.environment.parse())?,
            known("status", id, row.status.parse())?,
        ))
    })
    .transpose()
}

/// Where an application lives.
#[derive(Debug, Clone)]
pub struct Whereabouts {
    /// Its region.
    pub region: String,
    /// What its instances are grouped by in Kubernetes, and in what is measured there.
    pub namespace: String,
}

/// Where an application lives, unless it is gone.
pub async fn whereabouts(connection: &mut PgConnection, id: ApplicationId) -> Result<Option<Whereabouts>, DbError> {
    let found = sqlx::query_as!(
        Whereabouts,
        "SELECT region, k8s_namespace AS namespace FROM applications WHERE id = $1 AND status <> 'deleted'",
        id as ApplicationId,
    )
    .fetch_optional(connection)
    .await?;
    Ok(found)
}

/// The application, unless it is gone. `period` is the month (`YYYY-MM`) whose requests are told.
pub async fn get(
    connection: &mut PgConnection,
    id: ApplicationId,
    period: &str,
) -> Result<Option<Application>, DbError> {
    let row = sqlx::query_as!(
        Row,
        r#"SELECT a.id AS "id: ApplicationId", a.workspace_id AS "workspace_id: WorkspaceId", a.name, a.slug,
                  a.environment, a.region, a.status, a.config, a.metadata, a.staff_suspension, a.purge_after, a.cpu_limit, a.memory_limit, a.storage_limit,
                  cardinality(a.endpoints)::bigint AS "endpoints!", a.failure_reason, a.failure_remediation,
                  (SELECT k.public_key FROM api_keys k
                   WHERE k.application_id = a.id AND k.type = 'public' AND k.enabled AND k.revoked_at IS NULL
                     AND (k.expires_at IS NULL OR k.expires_at > now())
                   ORDER BY k.created_at, k.id LIMIT 1) AS public_key,
                  coalesce((SELECT u.api_requests FROM usage_records u
                            WHERE u.application_id = a.id AND u.period = $2), 0) AS "api_requests!",
                  a.created_at, a.updated_at
           FROM applications a WHERE a.id = $1 AND a.status <> 'deleted'"#,
        id as ApplicationId,
        period,
    )
    .fetch_optional(connection)
    .await?;
    row.map(Row::into_application).transpose()
}

/// The name of an application, unless it is gone.
pub async fn name(connection: &mut PgConnection, id: ApplicationId) -> Result<Option<String>, DbError> {
    Ok(sqlx::query_scalar!(
        "SELECT name FROM applications WHERE id = $1 AND status <> 'deleted'",
        id as ApplicationId,
    )
    .fetch_optional(connection)
    .await?)
}

/// The applications of a workspace that are not gone, oldest first, and how many match in all.
pub async fn of_workspace(
    connection: &mut PgConnection,
    workspace: WorkspaceId,
    period: &str,
    filter: Filter<'_>,
) -> Result<(Vec<Application>, i64), DbError> {
    let matching = matching(&mut *connection, workspace, &filter).await?;
    let ids: Vec<String> = matching.iter().map(|found| found.id.clone()).collect();
    let total = match matching.first() {
        Some(found) => found.total,
        None if filter.offset == 0 => 0,
        // A page behind the last one.
        None => {
            let first = Filter {
                offset: 0,
                limit: 1,
                ..filter
            };
            let found = self::matching(&mut *connection, workspace, &first).await?;
            found.first().map_or(0, |found| found.total)
        }
    };
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT a.id AS "id: ApplicationId", a.workspace_id AS "workspace_id: WorkspaceId", a.name, a.slug,
                  a.environment, a.region, a.status, a.config, a.metadata, a.staff_suspension, a.purge_after, a.cpu_limit, a.memory_limit, a.storage_limit,
                  cardinality(a.endpoints)::bigint AS "endpoints!", a.failure_reason, a.failure_remediation,
                  (SELECT k.public_key FROM api_keys k
                   WHERE k.application_id = a.id AND k.type = 'public' AND k.enabled AND k.revoked_at IS NULL
                     AND (k.expires_at IS NULL OR k.expires_at > now())
                   ORDER BY k.created_at, k.id LIMIT 1) AS public_key,
                  coalesce((SELECT u.api_requests FROM usage_records u
                            WHERE u.application_id = a.id AND u.period = $2), 0) AS "api_requests!",
                  a.created_at, a.updated_at
           FROM applications a WHERE a.id = ANY ($1) ORDER BY a.created_at, a.id"#,
        &ids,
        period,
    )
    .fetch_all(connection)
    .await?;
    Ok((
        rows.into_iter().map(Row::into_application).collect::<Result<_, _>>()?,
        total,
    ))
}

/// An application of a page, and how many there are on all pages.
#[derive(sqlx::FromRow)]
struct Matching {
    id: String,
    total: i64,
}

/// Made of the filters that are given, and planned for their values: a plan that is good for every filter at once is good for
/// none at a million applications.
async fn matching(
    connection: &mut PgConnection,
    workspace: WorkspaceId,
    filter: &Filter<'_>,
) -> Result<Vec<Matching>, DbError> {
    let mut query = QueryBuilder::<Postgres>::new("");
    let source = match filter.search {
        None => "applications a",
        Some(search) => {
            found(&mut query, workspace, search);
            "found a"
        }
    };
    let conditions = |query: &mut QueryBuilder<Postgres>| {
        query.push(source).push(" WHERE a.workspace_id = ").push_bind(workspace);
        query.push(" AND a.status <> 'deleted'");
        if let Some(environment) = filter.environment {
            query.push(" AND a.environment = ").push_bind(environment.as_str());
        }
        if let Some(status) = filter.status {
            query.push(" AND a.status = ").push_bind(status.as_str());
        }
    };
    query.push("SELECT a.id, (SELECT count(*) FROM ");
    conditions(&mut query);
    query.push(") AS total FROM ");
    conditions(&mut query);
    query
        .push(" ORDER BY a.created_at, a.id LIMIT ")
        .push_bind(filter.limit);
    query.push(" OFFSET ").push_bind(filter.offset);
    let query = query.build_query_as::<Matching>().persistent(false);
    Ok(query.fetch_all(connection).await?)
}

/// Before the rest of a query: `found`, what a search finds. Each way to find something by its own index; a union of them that
/// is planned as a whole would walk through the workspace instead.
fn found(query: &mut QueryBuilder<Postgres>, workspace: WorkspaceId, search: &str) {
    const COLUMNS: &str = "id, workspace_id, environment, status, created_at";
    query.push("WITH found AS MATERIALIZED (");
    // From the text to the text followed by the last of all characters: every text that begins with it.
    for column in [r#"(lower(name)) COLLATE "C""#, r#"slug COLLATE "C""#] {
        query
            .push("SELECT ")
            .push(COLUMNS)
            .push(" FROM applications WHERE workspace_id = ");
        query.push_bind(workspace).push(" AND ").push(column).push(" >= lower(");
        query
            .push_bind(search.to_owned())
            .push(") AND ")
            .push(column)
            .push(" < lower(");
        query.push_bind(search.to_owned()).push(") || chr(1114111) UNION ");
    }
    query
        .push("SELECT ")
        .push(COLUMNS)
        .push(" FROM applications WHERE id = ");
    query.push_bind(search.to_owned()).push(") ");
}

struct Row {
    id: ApplicationId,
    workspace_id: WorkspaceId,
    name: String,
    slug: String,
    environment: String,
    region: String,
    status: String,
    config: Value,
    metadata: Value,
    staff_suspension: Option<String>,
    purge_after: Option<OffsetDateTime>,
    cpu_limit: String,
    memory_limit: String,
    storage_limit: String,
    endpoints: i64,
    failure_reason: Option<String>,
    failure_remediation: Option<String>,
    public_key: Option<String>,
    api_requests: i64,
    created_at: OffsetDateTime,
    updated_at: OffsetDateTime,
}

impl Row {
    fn into_application(self) -> Result<Application, DbError> {
        Ok(Application {
            environment: known("environment", self.id, self.environment.parse())?,
            status: known("status", self.id, self.status.parse())?,
            id: self.id,
            workspace_id: self.workspace_id,
            name: self.name,
            slug: self.slug,
            region: self.region,
            config: self.config,
            metadata: self.metadata,
            staff_suspension: self.staff_suspension,
            purge_after: self.purge_after,
            cpu_limit: self.cpu_limit,
            memory_limit: self.memory_limit,
            storage_limit: self.storage_limit,
            endpoints: self.endpoints,
            failure_reason: self.failure_reason,
            failure_remediation: self.failure_remediation,
            public_key: self.public_key,
            api_requests: self.api_requests,
            created_at: self.created_at,
            updated_at: self.updated_at,
        })
    }
}

fn known<T>(column: &'static str, id: ApplicationId, parsed: Result<T, UnknownName>) -> Result<T, DbError> {
    parsed.map_err(|error| DbError::unknown_name("applications", column, id, &error))
}
