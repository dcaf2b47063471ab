//! Operations: long work and its steps, as it stands.

use authsome_contract::model::Step as StepName;
use authsome_contract::wire::job::JobKind;
use authsome_core::error::Failure;
use authsome_core::id::{Application, ApplicationId, Operation as OperationKind, OperationId, Workspace};
use authsome_db::operation::{self, Filter, OperationStatus, StepRow};
use axum::Json as Answer;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};

use super::fault::{ErrorEnvelope, Refusals};
use super::page::{Listing, Page, PageQuery, Window};
use crate::db::memberships;
use crate::error::{Fields, Outcome};
use crate::identity::{self, Action, Caller};
use crate::server::extract::PathId;
use crate::state::App;

/// An operation with its steps.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct OperationDetails {
    #[serde(flatten)]
    operation: Operation,
    progress: Progress,
    steps: Vec<Step>,
}

/// An operation.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Operation {
    #[schema(value_type = String, example = "op_01h455vb4pex5vsknk084sn02q")]
    id: OperationId,
    #[schema(value_type = crate::names::OperationKind)]
    kind: JobKind,
    #[schema(value_type = crate::names::OperationStatus)]
    status: &'static str,
    #[schema(value_type = String)]
    application_id: ApplicationId,
    /// Executions begun.
    attempts: i32,
    /// Why it failed.
    reason: Option<String>,
    /// What to do about it.
    remediation: Option<String>,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    started_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option")]
    finished_at: Option<OffsetDateTime>,
    /// When it is given up.
    #[serde(with = "time::serde::rfc3339")]
    deadline_at: OffsetDateTime,
}

/// How far it has come.
#[derive(Debug, Serialize, ToSchema)]
struct Progress {
    /// Steps done or skipped.
    done: usize,
    total: usize,
}

/// One step.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Step {
    #[schema(value_type = crate::names::StepName)]
    name: StepName,
    /// For people.
    title: &'static str,
    #[schema(value_type = crate::names::StepStatus)]
    status: String,
    detail: Option<String>,
    attempts: i32,
    #[serde(with = "time::serde::rfc3339::option")]
    started_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option")]
    finished_at: Option<OffsetDateTime>,
}

/// Which operations to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListFilter {
    #[param(value_type = Option<crate::names::OperationKind>, inline)]
    kind: Option<JobKind>,
    #[param(value_type = Option<crate::names::OperationStatus>, inline)]
    status: Option<String>,
}

/// Which operations of a workspace to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct WorkspaceFilter {
    /// Id of an application.
    application: Option<String>,
    #[param(value_type = Option<crate::names::OperationKind>, inline)]
    kind: Option<JobKind>,
    #[param(value_type = Option<crate::names::OperationStatus>, inline)]
    status: Option<String>,
}

/// The filter of the table.
fn filter(kind: Option<JobKind>, status: Option<&str>, window: Window) -> Outcome<Filter> {
    let mut fields = Fields::new();
    let status = status.and_then(|status| fields.take("status", status.parse()));
    fields.finish()?;
    Ok(Filter {
        kind,
        status,
        limit: window.limit(),
        offset: window.offset(),
    })
}

impl From<operation::Operation> for Operation {
    fn from(row: operation::Operation) -> Self {
        let failed = row.status == OperationStatus::Failed;
        Self {
            id: row.id,
            kind: row.kind,
            status: row.status.as_str(),
            application_id: row.application_id,
            attempts: row.attempts,
            reason: row.reason,
            remediation: row.remediation.filter(|_| failed),
            created_at: row.created_at,
            started_at: row.started_at,
            finished_at: row.finished_at,
            deadline_at: row.deadline_at,
        }
    }
}

impl From<StepRow> for Step {
    fn from(row: StepRow) -> Self {
        Self {
            name: row.step,
            title: row.step.title(),
            status: row.status,
            detail: row.detail,
            attempts: row.attempts,
            started_at: row.started_at,
            finished_at: row.finished_at,
        }
    }
}

/// An operation with its steps
#[utoipa::path(get, path = "/operations/{operationId}", tag = "operations", operation_id = "getOperation",
    security(("bearer" = [])), params(("operationId" = String, Path)),
    responses((status = 200, body = OperationDetails), Refusals,
        (status = 404, body = ErrorEnvelope, description = "There is none, or the caller is no member of its workspace")))]
pub(super) async fn get(
    State(app): State<App>,
    caller: Caller,
    PathId(id): PathId<OperationKind>,
) -> Outcome<Answer<OperationDetails>> {
    let mut connection = app.pool().acquire().await?;
    identity::operation(&mut connection, &caller, id, Action::ReadOperations).await?;
    let row = operation::get(&mut connection, id)
        .await?
        .ok_or_else(|| Failure::not_found("Operation not found"))?;
    let steps: Vec<Step> = operation::steps(&mut connection, id)
        .await?
        .into_iter()
        .map(Step::from)
        .collect();
    let done = steps
        .iter()
        .filter(|step| matches!(step.status.as_str(), "done" | "skipped"))
        .count();
    let progress = Progress {
        done,
        total: steps.len(),
    };
    Ok(Answer(OperationDetails {
        operation: row.into(),
        progress,
        steps,
    }))
}

/// The operations of an application, newest first
#[utoipa::path(get, path = "/applications/{applicationId}/operations", tag = "operations",
    operation_id = "listOperations", security(("bearer" = [])), params(("applicationId" = String, Path), ListFilter, PageQuery),
    responses((status = 200, body = Page<Operation>), Refusals,
        (status = 404, body = ErrorEnvelope, description = "There is no such application, or the caller is no member")))]
pub(super) async fn of_application(
    State(app): State<App>,
    caller: Caller,
    PathId(id): PathId<Application>,
    Listing { filter: asked, window }: Listing<ListFilter>,
) -> Outcome<Answer<Page<Operation>>> {
    let filter = filter(asked.kind, asked.status.as_deref(), window)?;
    let mut connection = app.pool().acquire().await?;
    identity::application(&mut connection, &caller, id, Action::ReadOperations).await?;
    let rows = operation::of_application(&mut connection, id, filter).await?;
    Ok(Answer(window.of(rows)))
}

/// The operations of all applications of a workspace, newest first
#[utoipa::path(get, path = "/workspaces/{workspaceId}/operations", tag = "operations",
    operation_id = "listWorkspaceOperations", security(("bearer" = [])),
    params(("workspaceId" = String, Path), WorkspaceFilter, PageQuery),
    responses((status = 200, body = Page<Operation>), Refusals,
        (status = 404, body = ErrorEnvelope, description = "There is no such workspace, or the caller is no member")))]
pub(super) async fn of_workspace(
    State(app): State<App>,
    caller: Caller,
    PathId(id): PathId<Workspace>,
    Listing { filter: asked, window }: Listing<WorkspaceFilter>,
) -> Outcome<Answer<Page<Operation>>> {
    let filter = filter(asked.kind, asked.status.as_deref(), window)?;
    let mut connection = app.pool().acquire().await?;
    identity::workspace(&mut connection, &caller, id, Action::ReadOperations).await?;
    let rows = match asked.application {
        None => operation::of_workspace(&mut connection, id, filter).await?,
        // What is no application of this workspace has no operations in it.
        Some(text) => match text.parse::<ApplicationId>() {
            Ok(application)
                if memberships::workspace_of_application(&mut connection, application).await? == Some(id) =>
            {
                operation::of_application(&mut connection, application, filter).await?
            }
            _ => (Vec::new(), 0),
        },
    };
    Ok(Answer(window.of(rows)))
}
