//! Operations: long work and its steps, as it stands.

use authsome_contract::model::Step as StepName;
use authsome_contract::wire::job::JobKind;
use authsome_core::error::Failure;
use authsome_core::id::{Application, ApplicationId, Operation as OperationKind, OperationId};
use authsome_db::operation::{self, OperationStatus, StepRow};
use axum::Json as Answer;
use axum::extract::State;
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::fault::{ErrorEnvelope, Refusals};
use crate::error::Outcome;
use crate::identity::{self, Action, Caller};
use crate::server::extract::PathId;
use crate::state::App;

/// How many operations of an application are listed.
const NEWEST: i64 = 50;

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
    #[schema(value_type = String)]
    kind: JobKind,
    /// `queued`, `running`, `succeeded`, `failed`, `cancelled` or `superseded`.
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
    #[schema(value_type = String, example = "database")]
    name: StepName,
    /// For people.
    title: &'static str,
    /// `pending`, `running`, `done`, `skipped`, `failed` or `undone`.
    status: String,
    detail: Option<String>,
    attempts: i32,
    #[serde(with = "time::serde::rfc3339::option")]
    started_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option")]
    finished_at: Option<OffsetDateTime>,
}

/// The newest operations of an application.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Operations {
    /// Newest first, at most 50.
    data: Vec<Operation>,
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

/// The newest operations of an application
#[utoipa::path(get, path = "/applications/{applicationId}/operations", tag = "operations",
    operation_id = "listOperations", security(("bearer" = [])), params(("applicationId" = String, Path)),
    responses((status = 200, body = Operations), Refusals,
        (status = 404, body = ErrorEnvelope, description = "There is no such application, or the caller is no member")))]
pub(super) async fn of_application(
    State(app): State<App>,
    caller: Caller,
    PathId(id): PathId<Application>,
) -> Outcome<Answer<Operations>> {
    let mut connection = app.pool().acquire().await?;
    identity::application(&mut connection, &caller, id, Action::ReadOperations).await?;
    let rows = operation::of_application(&mut connection, id, NEWEST).await?;
    Ok(Answer(Operations {
        data: rows.into_iter().map(Operation::from).collect(),
    }))
}
