//! What a team does with an application that exists: restart, suspend, resume, retry, delete, undelete.

use authsome_contract::model::AppStatus;
use authsome_core::id::{Application as ApplicationKind, ApplicationId, OperationId};
use axum::Json as Answer;
use axum::extract::State;
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::fault::{ErrorEnvelope, Refusals};
use crate::command::application::{Begun, Verb, act};
use crate::error::Outcome;
use crate::identity::Caller;
use crate::server::extract::PathId;
use crate::state::App;

/// What was begun.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ActionBegun {
    #[schema(value_type = String, example = "app_01h455vb4pex5vsknk084sn02q")]
    id: ApplicationId,
    #[schema(value_type = crate::names::ApplicationStatus)]
    status: AppStatus,
    /// What to watch: `GET /operations/{operationId}`. `null` where nothing was left to do.
    #[schema(value_type = Option<String>)]
    operation_id: Option<OperationId>,
    message: &'static str,
}

impl ActionBegun {
    fn of(begun: Begun, message: &'static str) -> (StatusCode, Answer<Self>) {
        let answer = Self {
            id: begun.application,
            status: begun.status,
            operation_id: begun.operation,
            message,
        };
        (StatusCode::ACCEPTED, Answer(answer))
    }
}

/// Restarts an application; it goes on serving while new instances take over
#[utoipa::path(post, path = "/applications/{applicationId}/restart", tag = "applications", operation_id = "restartApplication",
    security(("bearer" = [])), params(("applicationId" = String, Path)), responses((status = 202, body = ActionBegun), Refusals,
        (status = 403, body = ErrorEnvelope, description = "The caller's role does not allow it"),
        (status = 404, body = ErrorEnvelope, description = "There is no such application, or the caller is no member"),
        (status = 409, body = ErrorEnvelope, description = "Its status does not allow it")))]
pub(super) async fn restart(
    State(app): State<App>,
    caller: Caller,
    PathId(id): PathId<ApplicationKind>,
) -> Outcome<(StatusCode, Answer<ActionBegun>)> {
    let begun = act(&app, &caller, id, Verb::Restart).await?;
    Ok(ActionBegun::of(
        begun,
        "The application is restarting; it goes on serving",
    ))
}

/// Gives an application new passwords for its database and Redis; it goes on serving
///
/// New instances use them before the old ones end; then the former passwords open nothing. An unfinished rotation is completed.
#[utoipa::path(post, path = "/applications/{applicationId}/credentials/rotate", tag = "applications",
    operation_id = "rotateApplicationCredentials",
    security(("bearer" = [])), params(("applicationId" = String, Path)), responses((status = 202, body = ActionBegun), Refusals,
        (status = 403, body = ErrorEnvelope, description = "The caller's role does not allow it"),
        (status = 404, body = ErrorEnvelope, description = "There is no such application, or the caller is no member"),
        (status = 409, body = ErrorEnvelope, description = "Its status does not allow it")))]
pub(super) async fn rotate_credentials(
    State(app): State<App>,
    caller: Caller,
    PathId(id): PathId<ApplicationKind>,
) -> Outcome<(StatusCode, Answer<ActionBegun>)> {
    let begun = act(&app, &caller, id, Verb::RotateCredentials).await?;
    Ok(ActionBegun::of(
        begun,
        "The application is given new credentials; it goes on serving",
    ))
}

/// Stops an application; its data is kept
#[utoipa::path(post, path = "/applications/{applicationId}/suspend", tag = "applications", operation_id = "suspendApplication",
    security(("bearer" = [])), params(("applicationId" = String, Path)), responses((status = 202, body = ActionBegun), Refusals,
        (status = 403, body = ErrorEnvelope, description = "The caller's role does not allow it"),
        (status = 404, body = ErrorEnvelope, description = "There is no such application, or the caller is no member"),
        (status = 409, body = ErrorEnvelope, description = "Its status does not allow it")))]
pub(super) async fn suspend(
    State(app): State<App>,
    caller: Caller,
    PathId(id): PathId<ApplicationKind>,
) -> Outcome<(StatusCode, Answer<ActionBegun>)> {
    let begun = act(&app, &caller, id, Verb::Suspend).await?;
    Ok(ActionBegun::of(begun, "The application is suspended; its data is kept"))
}

/// Starts an application again after it was suspended
#[utoipa::path(post, path = "/applications/{applicationId}/resume", tag = "applications", operation_id = "resumeApplication",
    security(("bearer" = [])), params(("applicationId" = String, Path)), responses((status = 202, body = ActionBegun), Refusals,
        (status = 403, body = ErrorEnvelope, description = "The caller's role does not allow it, or staff stopped the application"),
        (status = 404, body = ErrorEnvelope, description = "There is no such application, or the caller is no member"),
        (status = 409, body = ErrorEnvelope, description = "Its status, or its workspace's, does not allow it")))]
pub(super) async fn resume(
    State(app): State<App>,
    caller: Caller,
    PathId(id): PathId<ApplicationKind>,
) -> Outcome<(StatusCode, Answer<ActionBegun>)> {
    let begun = act(&app, &caller, id, Verb::Resume).await?;
    Ok(ActionBegun::of(begun, "The application is starting"))
}

/// Tries again what failed
#[utoipa::path(post, path = "/applications/{applicationId}/retry", tag = "applications", operation_id = "retryApplication",
    security(("bearer" = [])), params(("applicationId" = String, Path)), responses((status = 202, body = ActionBegun), Refusals,
        (status = 403, body = ErrorEnvelope, description = "The caller's role does not allow it"),
        (status = 404, body = ErrorEnvelope, description = "There is no such application, or the caller is no member"),
        (status = 409, body = ErrorEnvelope, description = "It has not failed")))]
pub(super) async fn retry(
    State(app): State<App>,
    caller: Caller,
    PathId(id): PathId<ApplicationKind>,
) -> Outcome<(StatusCode, Answer<ActionBegun>)> {
    let begun = act(&app, &caller, id, Verb::Retry).await?;
    Ok(ActionBegun::of(begun, "The last operation is tried again"))
}

/// Deletes an application
///
/// Its keys are dead at once. For seven days it can be brought back by `undelete`; then it is destroyed.
#[utoipa::path(delete, path = "/applications/{applicationId}", tag = "applications", operation_id = "deleteApplication",
    security(("bearer" = [])), params(("applicationId" = String, Path)),
    responses((status = 204, description = "It is being deleted"), Refusals,
        (status = 403, body = ErrorEnvelope, description = "The caller's role does not allow it"),
        (status = 404, body = ErrorEnvelope, description = "There is no such application, or the caller is no member"),
        (status = 409, body = ErrorEnvelope, description = "It is being destroyed already")))]
pub(super) async fn delete(
    State(app): State<App>,
    caller: Caller,
    PathId(id): PathId<ApplicationKind>,
) -> Outcome<StatusCode> {
    act(&app, &caller, id, Verb::Delete).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Brings a deleted application back, within seven days
#[utoipa::path(post, path = "/applications/{applicationId}/undelete", tag = "applications", operation_id = "undeleteApplication",
    security(("bearer" = [])), params(("applicationId" = String, Path)), responses((status = 202, body = ActionBegun), Refusals,
        (status = 403, body = ErrorEnvelope, description = "The caller's role, or the plan's limit, does not allow it"),
        (status = 404, body = ErrorEnvelope, description = "There is no such application, or the caller is no member"),
        (status = 409, body = ErrorEnvelope, description = "It is not deleted, or is being destroyed")))]
pub(super) async fn undelete(
    State(app): State<App>,
    caller: Caller,
    PathId(id): PathId<ApplicationKind>,
) -> Outcome<(StatusCode, Answer<ActionBegun>)> {
    let begun = act(&app, &caller, id, Verb::Undelete).await?;
    Ok(ActionBegun::of(begun, "The application is coming back"))
}
