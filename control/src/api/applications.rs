//! Applications: create, list, get.

use authsome_contract::model::{AppStatus, Environment, Version};
use authsome_core::error::Failure;
use authsome_core::id::{Application as ApplicationKind, ApplicationId, OperationId, Workspace, WorkspaceId};
use axum::Json as Answer;
use axum::extract::State;
use http::{HeaderName, StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::PgConnection;
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};

use super::etag::etag;
use super::fault::{ErrorEnvelope, Refusals};
use super::page::{Listing, Page, PageQuery};
use crate::command::application::config::ApplicationConfig;
use crate::command::application::{self, NewApplication};
use crate::command::edge_policy::{self, EdgeSettings};
use crate::db::applications::{self, Filter};
use crate::error::{Fields, Outcome};
use crate::identity::{self, Action, Caller};
use crate::server::FirstId;
use crate::server::body::Json;
use crate::server::extract::PathId;
use crate::settings::Settings;
use crate::state::App;

/// A new application.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateApplication {
    #[schema(min_length = 1, max_length = 200, example = "Shop")]
    name: String,
    /// Unique in the workspace; made of the name where it is left out.
    #[schema(pattern = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", example = "shop")]
    slug: Option<String>,
    /// Decides whether the keys say `live` or `test`.
    #[schema(value_type = crate::names::Environment)]
    environment: Environment,
    /// The platform's default region where it is left out.
    region: Option<String>,
    /// Settings of the AuthSome instance.
    #[schema(value_type = Option<ApplicationConfig>)]
    config: Option<Value>,
}

/// An application in a list.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Application {
    #[schema(value_type = String, example = "app_01h455vb4pex5vsknk084sn02q")]
    id: ApplicationId,
    #[schema(value_type = String)]
    workspace_id: WorkspaceId,
    name: String,
    slug: String,
    #[schema(value_type = crate::names::Environment)]
    environment: Environment,
    region: String,
    #[schema(value_type = crate::names::ApplicationStatus)]
    status: AppStatus,
    /// The oldest public key that can be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    public_key: Option<String>,
    /// Where SDKs send their requests.
    api_url: String,
    /// Only while the status is `failed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<FailureReport>,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    updated_at: OffsetDateTime,
}

/// Why the last operation failed, and what to do about it.
#[derive(Debug, Serialize, ToSchema)]
struct FailureReport {
    reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    remediation: Option<String>,
}

/// An application with everything that is known of it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ApplicationDetails {
    #[serde(flatten)]
    application: Application,
    dashboard_url: String,
    #[schema(value_type = ApplicationConfig)]
    config: Value,
    /// The team's own notes.
    #[schema(value_type = Object)]
    metadata: Value,
    /// Why our staff stopped it. Its team cannot start it then.
    #[serde(skip_serializing_if = "Option::is_none")]
    staff_suspension: Option<String>,
    /// A deleted application: until when it can be brought back.
    #[serde(with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    purge_after: Option<OffsetDateTime>,
    /// What the edge does for it.
    edge: EdgeSettings,
    resources: Resources,
    metrics: Metrics,
}

/// What an application may use, and how many instances of it serve.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Resources {
    #[schema(example = "500m")]
    cpu_limit: String,
    #[schema(example = "512Mi")]
    memory_limit: String,
    #[schema(example = "5Gi")]
    storage_limit: String,
    /// Instances that requests are sent to at this moment.
    replicas: i64,
}

/// What was measured in the present calendar month (UTC).
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Metrics {
    api_requests: i64,
    /// Monthly active users: `null`, since the platform does not count them.
    mau: Option<i64>,
    /// Milliseconds: `null`, since the edge does not sum them up. `GET …/metrics` has them where they are measured.
    avg_latency: Option<f64>,
    /// Share of the time in which it could be used: `null`, since nobody keeps a record of it.
    uptime: Option<f64>,
}

/// An application that is being built. `secretKey` is shown here and never again.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct CreatedApplication {
    #[serde(flatten)]
    application: Application,
    /// Keep it: it cannot be shown again.
    secret_key: String,
    /// What to watch: `GET /operations/{operationId}`.
    #[schema(value_type = String)]
    operation_id: OperationId,
}

/// Which applications to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListFilter {
    #[param(value_type = Option<crate::names::Environment>, inline)]
    environment: Option<Environment>,
    #[param(value_type = Option<crate::names::ApplicationStatus>, inline)]
    status: Option<AppStatus>,
    /// Whose name or slug begins with it, in any case, or whose id it is.
    #[param(min_length = 1, max_length = 200)]
    search: Option<String>,
}

impl Application {
    fn of(row: applications::Application, settings: &Settings) -> Self {
        let failed = row.status == AppStatus::Failed;
        let failure = row.failure_reason.filter(|_| failed);
        Self {
            api_url: settings.application_url(row.id),
            failure: failure.map(|reason| FailureReport {
                reason,
                remediation: row.failure_remediation,
            }),
            id: row.id,
            workspace_id: row.workspace_id,
            name: row.name,
            slug: row.slug,
            environment: row.environment,
            region: row.region,
            status: row.status,
            public_key: row.public_key,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

/// Creates an application
///
/// It is built in the background: watch the operation until it has succeeded.
#[utoipa::path(post, path = "/workspaces/{workspaceId}/applications", tag = "applications",
    operation_id = "createApplication", security(("bearer" = [])), params(("workspaceId" = String, Path)),
    request_body = CreateApplication, responses(
        (status = 202, body = CreatedApplication, headers(("Location" = String, description = "The application"))), Refusals,
        (status = 403, body = ErrorEnvelope, description = "The caller's role or the workspace's plan does not allow it, or their e-mail address is not confirmed (`email_not_verified`)"),
        (status = 404, body = ErrorEnvelope, description = "There is no such workspace, or the caller is no member"),
        (status = 409, body = ErrorEnvelope, description = "The slug is taken, or the workspace is suspended")))]
pub(super) async fn create(
    State(app): State<App>,
    caller: Caller,
    PathId(workspace): PathId<Workspace>,
    id: FirstId,
    Json(body): Json<CreateApplication>,
) -> Outcome<(StatusCode, [(HeaderName, String); 1], Answer<CreatedApplication>)> {
    let new = NewApplication {
        name: &body.name,
        slug: body.slug.as_deref(),
        environment: body.environment,
        region: body.region.as_deref(),
        config: body.config.as_ref(),
    };
    let created = if id.is_given() {
        application::create_once(&app, &caller, workspace, id.of(&app), new).await?
    } else {
        application::create(&app, &caller, workspace, new).await?
    };
    let location = format!(
        "{}/api/v1/applications/{}",
        app.settings().api_url,
        created.application.id
    );
    let mut application = Application::of(created.application, app.settings());
    application.public_key = Some(created.public_key.expose().to_owned());
    let answer = CreatedApplication {
        application,
        secret_key: created.secret_key.expose().to_owned(),
        operation_id: created.operation,
    };
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, location)], Answer(answer)))
}

/// The applications of a workspace, oldest first
#[utoipa::path(get, path = "/workspaces/{workspaceId}/applications", tag = "applications",
    operation_id = "listApplications", security(("bearer" = [])), params(("workspaceId" = String, Path), ListFilter, PageQuery),
    responses((status = 200, body = Page<Application>), Refusals,
        (status = 404, body = ErrorEnvelope, description = "There is no such workspace, or the caller is no member")))]
pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    PathId(workspace): PathId<Workspace>,
    Listing { filter, window }: Listing<ListFilter>,
) -> Outcome<Answer<Page<Application>>> {
    let mut fields = Fields::new();
    let sensible = |text: &String| (1..=200).contains(&text.chars().count()) && !text.contains('\0');
    fields.require(
        filter.search.as_ref().is_none_or(sensible),
        "search",
        "must be from 1 to 200 characters long, without NUL",
    );
    fields.finish()?;
    let mut connection = app.pool().acquire().await?;
    identity::workspace(&mut connection, &caller, workspace, Action::ReadApplications).await?;
    let filter = Filter {
        search: filter.search.as_deref(),
        environment: filter.environment,
        status: filter.status,
        limit: window.limit(),
        offset: window.offset(),
    };
    let period = crate::period::of(app.clock().now());
    let (rows, total) = applications::of_workspace(&mut connection, workspace, &period, filter).await?;
    let shown: Vec<_> = rows
        .into_iter()
        .map(|row| Application::of(row, app.settings()))
        .collect();
    Ok(Answer(window.of((shown, total))))
}

/// An application
#[utoipa::path(get, path = "/applications/{applicationId}", tag = "applications", operation_id = "getApplication",
    security(("bearer" = [])), params(("applicationId" = String, Path)),
    responses((status = 200, body = ApplicationDetails, headers(("ETag" = String, description = "For `If-Match`"))), Refusals,
        (status = 404, body = ErrorEnvelope, description = "There is none, or the caller is no member of its workspace")))]
pub(super) async fn get(
    State(app): State<App>,
    caller: Caller,
    PathId(id): PathId<ApplicationKind>,
) -> Outcome<([(HeaderName, String); 1], Answer<ApplicationDetails>)> {
    let mut connection = app.pool().acquire().await?;
    identity::application(&mut connection, &caller, id, Action::ReadApplications).await?;
    let (details, version) = details(&app, &mut connection, id).await?;
    Ok((etag(version), Answer(details)))
}

/// The application, and the version of what the edge has of it.
pub(super) async fn details(
    app: &App,
    connection: &mut PgConnection,
    id: ApplicationId,
) -> Outcome<(ApplicationDetails, Version)> {
    // First, so that the version is not newer than what is shown.
    let (edge, version) = edge_policy::current(connection, id).await?;
    let row = applications::get(connection, id, &crate::period::of(app.clock().now())).await?;
    let row = row.ok_or_else(|| Failure::not_found("Application not found"))?;
    let details = ApplicationDetails {
        dashboard_url: app.settings().application_page(id),
        config: row.config.clone(),
        metadata: row.metadata.clone(),
        staff_suspension: row.staff_suspension.clone(),
        purge_after: row.purge_after,
        edge,
        resources: Resources {
            cpu_limit: row.cpu_limit.clone(),
            memory_limit: row.memory_limit.clone(),
            storage_limit: row.storage_limit.clone(),
            replicas: row.endpoints,
        },
        metrics: Metrics {
            api_requests: row.api_requests,
            mau: None,
            avg_latency: None,
            uptime: None,
        },
        application: Application::of(row, app.settings()),
    };
    Ok((details, version))
}
