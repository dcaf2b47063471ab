//! What a team does with an application that exists: restart, rotate credentials, suspend, resume, retry, delete,
//! undelete. Each is a change of
//! intent: a new status and generation, an operation with its job, and an audit event, in one transaction.

use authsome_contract::model::{AppStatus, Step, WorkspaceStatus, status::Event};
use authsome_contract::wire::Job;
use authsome_contract::wire::job::JobKind;
use authsome_core::error::Failure;
use authsome_core::id::{ApplicationId, OperationId, UserId};
use authsome_db::operation::{self, NewOperation};
use authsome_db::outbox;
use serde_json::{Value, json};
use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};

use crate::audit::{self, Deed};
use crate::db::intents::{self, Intent, Moved};
use crate::db::{applications, workspaces};
use crate::error::{Outcome, Problem};
use crate::identity::{self, Action, Caller};
use crate::state::App;

/// How long an operation may take before it is given up.
pub(in crate::command) const OPERATION_DEADLINE: Duration = Duration::minutes(10);

/// For how long a deleted application can be brought back.
pub const GRACE: Duration = Duration::days(7);

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// New instances in place of the present ones.
    Restart,
    /// New passwords in place of the present ones, with new instances that use them.
    RotateCredentials,
    /// Stop; data is kept.
    Suspend,
    /// Start again after a stop.
    Resume,
    /// Try again what failed.
    Retry,
    /// Stop, and destroy after the grace period.
    Delete,
    /// Bring back from the grace period.
    Undelete,
}

impl Verb {
    /// What the audit trail calls it.
    const fn action(self) -> &'static str {
        match self {
            Self::Restart => "application.restart",
            Self::RotateCredentials => "application.rotate_credentials",
            Self::Suspend => "application.suspend",
            Self::Resume => "application.resume",
            Self::Retry => "application.retry",
            Self::Delete => "application.delete",
            Self::Undelete => "application.undelete",
        }
    }

    /// What it means for the status, and which job does it. What served before keeps serving while it is tried again.
    const fn meaning(self, activated: bool) -> (Event, JobKind) {
        match self {
            Self::Restart => (Event::Restart, JobKind::Restart),
            Self::RotateCredentials => (Event::Restart, JobKind::Rotate),
            Self::Suspend => (Event::Suspend, JobKind::Suspend),
            Self::Resume => (Event::Resume, JobKind::Resume),
            Self::Retry if activated => (Event::Update, JobKind::Update),
            Self::Retry => (Event::Retry, JobKind::Provision),
            Self::Delete => (Event::Delete, JobKind::Delete),
            Self::Undelete => (Event::Undelete, JobKind::Undelete),
        }
    }

    /// "cannot be …".
    const fn participle(self) -> &'static str {
        match self {
            Self::Restart => "restarted",
            Self::RotateCredentials => "given new credentials",
            Self::Suspend => "suspended",
            Self::Resume => "resumed",
            Self::Retry => "retried",
            Self::Delete => "deleted",
            Self::Undelete => "brought back",
        }
    }
}

/// What was begun.
#[derive(Debug, Clone, Copy)]
pub struct Begun {
    /// The application.
    pub application: ApplicationId,
    /// Its status from now on.
    pub status: AppStatus,
    /// What to watch; `None` where nothing was left to do.
    pub operation: Option<OperationId>,
}

/// Does it, if the application's status allows it. Suspending, or deleting, what is so already changes nothing.
pub async fn act(app: &App, caller: &Caller, id: ApplicationId, verb: Verb) -> Outcome<Begun> {
    let mut transaction = app.pool().begin().await?;
    let workspace = identity::application(&mut transaction, caller, id, Action::ChangeApplications).await?;
    // The workspace first, as wherever its limits are counted.
    let (plan, standing) = workspaces::lock(&mut transaction, workspace)
        .await?
        .ok_or_else(|| Failure::not_found("Application not found"))?;
    let intent = intents::lock(&mut transaction, id)
        .await?
        .ok_or_else(|| Failure::not_found("Application not found"))?;
    match (verb, intent.status) {
        (Verb::Suspend, AppStatus::Suspended) | (Verb::Delete, AppStatus::Deleting) => {
            return Ok(Begun {
                application: id,
                status: intent.status,
                operation: None,
            });
        }
        // Before the general rule, which would have a stopped application restarted by its configuration.
        (Verb::Retry, status) if status != AppStatus::Failed => return Err(illegal(verb, status)),
        _ => {}
    }
    if !matches!(verb, Verb::Suspend | Verb::Delete) {
        may_run(&intent, standing)?;
    }
    if verb == Verb::Undelete
        && let Some(limit) = plan.application_limit()
        && applications::count_towards_limit(&mut transaction, workspace).await? >= i64::from(limit)
    {
        return Err(super::limit_reached(plan, limit));
    }
    let (event, kind) = verb.meaning(intent.activated);
    let status = intent.status.after(event).map_err(|_| illegal(verb, intent.status))?;
    let begun = begin(&mut transaction, app, Some(caller.user), &intent, (status, kind)).await?;
    let changes = json!({ "from": intent.status, "to": status, "operationId": begun });
    let deed = Deed::of_application(verb.action(), workspace, id, changes);
    audit::record(&mut transaction, app, &caller.actor, &deed).await?;
    transaction.commit().await?;
    Ok(Begun {
        application: id,
        status,
        operation: Some(begun),
    })
}

/// Moves the intent to `status` and begins an operation of this kind, within the caller's transaction, which holds the row.
pub(in crate::command) async fn begin(
    connection: &mut PgConnection,
    app: &App,
    user: Option<UserId>,
    intent: &Intent,
    (status, kind): (AppStatus, JobKind),
) -> Outcome<OperationId> {
    let now = app.clock().now();
    let deadline = now + OPERATION_DEADLINE;
    let deleted = status == AppStatus::Deleting;
    let moved = Moved {
        status,
        deadline: status
            .is_transitional()
            .then_some(if deleted { now + GRACE } else { deadline }),
        deleted_at: deleted.then_some(now),
        purge_after: deleted.then(|| now + GRACE),
    };
    let generation = intents::advance(connection, intent.id, &moved).await?;
    enqueue(connection, app, user, intent, (kind, generation, deadline)).await
}

/// Writes the operation of a generation, and hands its job out.
pub(in crate::command) async fn enqueue(
    connection: &mut PgConnection,
    app: &App,
    user: Option<UserId>,
    intent: &Intent,
    (kind, generation, deadline): (JobKind, i64, OffsetDateTime),
) -> Outcome<OperationId> {
    let new = NewOperation {
        id: OperationId::generate(app.clock(), app.entropy()),
        workspace_id: intent.workspace_id,
        application_id: intent.id,
        kind,
        generation,
        requested_by: user,
        deadline_at: deadline,
    };
    operation::insert(connection, &new, Step::of(kind)).await?;
    let job = Job {
        operation_id: new.id,
        application_id: intent.id,
        kind,
        generation,
        region: intent.region.clone(),
    };
    outbox::enqueue_job(connection, &job).await?;
    Ok(new.id)
}

/// May the application run at all?
pub(in crate::command) fn may_run(intent: &Intent, workspace: WorkspaceStatus) -> Outcome<()> {
    if let Some(reason) = &intent.staff_suspension {
        let message = format!("The application was stopped by our staff: {reason}");
        return Err(Failure::forbidden(message).with_reason("suspended_by_staff").into());
    }
    if workspace != WorkspaceStatus::Active {
        return Err(
            Failure::conflict("The workspace is suspended; its applications cannot be started")
                .with_reason("workspace_suspended")
                .into(),
        );
    }
    Ok(())
}

fn illegal(verb: Verb, status: AppStatus) -> Problem {
    let message = format!("An application that is {status} cannot be {}", verb.participle());
    Failure::conflict(message)
        .with_reason("illegal_status")
        .with_details(json!({ "status": status }))
        .into()
}

/// Stops an application in the name of the platform's staff, for a reason that its team reads; or, without a reason, takes
/// that back. It stays suspended then, until its team resumes it.
pub async fn staff(
    connection: &mut PgConnection,
    id: ApplicationId,
    reason: Option<&str>,
    now: OffsetDateTime,
    operation: OperationId,
) -> Outcome<Option<Value>> {
    let intent = intents::lock(connection, id)
        .await?
        .ok_or_else(|| Failure::not_found("Application not found"))?;
    intents::set_staff_suspension(connection, id, reason).await?;
    let stop = reason.is_some() && intent.status != AppStatus::Suspended;
    let Some(status) = stop.then(|| intent.status.after(Event::Suspend).ok()).flatten() else {
        return Ok(None);
    };
    let moved = Moved {
        status,
        deadline: None,
        deleted_at: None,
        purge_after: None,
    };
    let generation = intents::advance(connection, id, &moved).await?;
    let new = NewOperation {
        id: operation,
        workspace_id: intent.workspace_id,
        application_id: id,
        kind: JobKind::Suspend,
        generation,
        requested_by: None,
        deadline_at: now + OPERATION_DEADLINE,
    };
    operation::insert(connection, &new, Step::of(JobKind::Suspend)).await?;
    let job = Job {
        operation_id: operation,
        application_id: id,
        kind: JobKind::Suspend,
        generation,
        region: intent.region,
    };
    outbox::enqueue_job(connection, &job).await?;
    Ok(Some(json!({ "from": intent.status, "to": status })))
}
