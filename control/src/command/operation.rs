//! Cancelling an operation that has not ended.

use authsome_contract::model::status::Event;
use authsome_contract::wire::job::JobKind;
use authsome_core::error::Failure;
use authsome_core::id::OperationId;
use authsome_db::application::{TransitionError, transition};
use authsome_db::operation::{self, Operation};
use serde_json::json;

use crate::audit::{self, Deed};
use crate::db::{intents, operation_events};
use crate::error::{Outcome, Problem};
use crate::identity::{self, Action, Caller};
use crate::state::App;

/// Takes an operation back: whoever works on it stops before its next step. What it has built stays, and the application
/// counts as failed: one that served before goes on serving as it was. Stopping and deleting are taken back by their opposites.
pub async fn cancel(app: &App, caller: &Caller, id: OperationId) -> Outcome<Operation> {
    let mut transaction = app.pool().begin().await?;
    let workspace = identity::operation(&mut transaction, caller, id, Action::ChangeApplications).await?;
    let found = operation::get(&mut transaction, id).await?.ok_or_else(missing)?;
    if matches!(found.kind, JobKind::Suspend | JobKind::Delete | JobKind::Purge) {
        let message = format!(
            "A {} operation cannot be cancelled; resume or undelete the application",
            found.kind
        );
        return Err(Failure::conflict(message).with_reason("not_cancellable").into());
    }
    // The application's row first, as everywhere.
    intents::lock(&mut transaction, found.application_id)
        .await?
        .ok_or_else(missing)?;
    if !operation_events::cancel(&mut transaction, id).await? {
        return Err(Failure::conflict("The operation has ended")
            .with_reason("finished")
            .into());
    }
    match transition(&mut transaction, found.application_id, Event::Failed, found.deadline_at).await {
        Ok(_) => operation_events::tell_application(&mut transaction, found.application_id, found.generation).await?,
        // It has moved on; another operation decides.
        Err(TransitionError::Illegal(_) | TransitionError::Missing(_)) => {}
        Err(TransitionError::Db(error)) => return Err(error.into()),
    }
    let changes = json!({ "operationId": id, "kind": found.kind });
    let deed = Deed::of_application("operation.cancel", workspace, found.application_id, changes);
    audit::record(&mut transaction, app, &caller.actor, &deed).await?;
    let cancelled = operation::get(&mut transaction, id).await?;
    transaction.commit().await?;
    cancelled.ok_or_else(missing)
}

fn missing() -> Problem {
    Failure::not_found("Operation not found").into()
}
