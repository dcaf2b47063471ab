//! What the platform does by itself once a grace period is over, or a workspace was deleted or had back. Each says whether there was
//! anything to do.

use authsome_contract::model::AppStatus;
use authsome_contract::model::status::Event;
use authsome_contract::wire::job::JobKind;
use authsome_core::id::{ApplicationId, WorkspaceId};
use serde_json::json;
use time::Duration;

use super::application::lifecycle::{self, OPERATION_DEADLINE};
use crate::audit::{self, Deed};
use crate::db::{endings, intents, workspaces};
use crate::error::Outcome;
use crate::identity::Actor;
use crate::state::App;

/// When somebody should look why an application is not gone yet. It is tried on all the same.
const PURGE_DEADLINE: Duration = Duration::days(1);

/// Stops an application whose workspace is deleted. It starts again with its workspace.
pub async fn stop(app: &App, id: ApplicationId) -> Outcome<bool> {
    let mut transaction = app.pool().begin().await?;
    let Some(intent) = intents::lock(&mut transaction, id).await? else {
        return Ok(false);
    };
    // Before the database says otherwise: its team may have had the workspace back meanwhile, and then it starts again.
    let Ok(status) = intent.status.after(Event::Suspend) else {
        return Ok(false);
    };
    endings::mark(&mut transaction, id, true).await?;
    let operation = lifecycle::begin(&mut transaction, app, None, &intent, (status, JobKind::Suspend)).await?;
    let changes = json!({ "from": intent.status, "to": status, "operationId": operation, "with": "workspace" });
    let deed = Deed::of_application("application.suspend", intent.workspace_id, id, changes);
    audit::record(&mut transaction, app, &Actor::default(), &deed).await?;
    transaction.commit().await?;
    Ok(true)
}

/// Starts an application that was stopped with its workspace, unless something else keeps it stopped.
pub async fn start(app: &App, id: ApplicationId) -> Outcome<bool> {
    let mut transaction = app.pool().begin().await?;
    let Some(intent) = intents::lock(&mut transaction, id).await? else {
        return Ok(false);
    };
    endings::mark(&mut transaction, id, false).await?;
    if intent.status == AppStatus::Suspended
        && let Some((_, standing)) = workspaces::lock(&mut transaction, intent.workspace_id).await?
        && lifecycle::may_run(&intent, standing).is_ok()
        && let Ok(status) = intent.status.after(Event::Resume)
    {
        let operation = lifecycle::begin(&mut transaction, app, None, &intent, (status, JobKind::Resume)).await?;
        let changes = json!({ "from": intent.status, "to": status, "operationId": operation, "with": "workspace" });
        let deed = Deed::of_application("application.resume", intent.workspace_id, id, changes);
        audit::record(&mut transaction, app, &Actor::default(), &deed).await?;
    }
    transaction.commit().await?;
    Ok(true)
}

/// Begins to destroy an application. There is no way back from here.
pub async fn purge(app: &App, id: ApplicationId) -> Outcome<bool> {
    let now = app.clock().now();
    let mut transaction = app.pool().begin().await?;
    let Some(intent) = intents::lock(&mut transaction, id).await? else {
        return Ok(false);
    };
    let begun = endings::begin_purge(&mut transaction, id, now, now + PURGE_DEADLINE).await?;
    let Some(generation) = begun else { return Ok(false) };
    let deadline = now + PURGE_DEADLINE.max(OPERATION_DEADLINE);
    let operation = lifecycle::enqueue(
        &mut transaction,
        app,
        None,
        &intent,
        (JobKind::Purge, generation, deadline),
    )
    .await?;
    let changes = json!({ "from": intent.status, "to": AppStatus::Purging, "operationId": operation });
    let deed = Deed::of_application("application.purge", intent.workspace_id, id, changes);
    audit::record(&mut transaction, app, &Actor::default(), &deed).await?;
    transaction.commit().await?;
    tracing::info!(application = %id, "the grace period is over: the application is being destroyed");
    Ok(true)
}

/// Takes out of a workspace, whose applications are gone, what is its team's.
pub async fn purge_workspace(app: &App, id: WorkspaceId) -> Outcome<bool> {
    let mut transaction = app.pool().begin().await?;
    let done = endings::purge_workspace(&mut transaction, id, app.clock().now()).await?;
    if done {
        let deed = Deed::of_workspace("workspace.purge", id, json!({}));
        audit::record(&mut transaction, app, &Actor::default(), &deed).await?;
        tracing::info!(workspace = %id, "the grace period is over: the workspace is gone");
    }
    transaction.commit().await?;
    Ok(done)
}
