//! The secrets that a team gives to its application's instance: set and removed, each time with a rollout, and never read.
//!
//! Setting the same value again is a rollout too: to compare would tell whoever may write what they may not read.

use authsome_contract::model::application_secret::{self, COUNT_MAX, check_value, last_four};
use authsome_contract::model::{AppStatus, SecretName};
use authsome_core::error::Failure;
use authsome_core::id::{ApplicationId, OperationId};
use authsome_db::application_secret::{self as rows, Stored};
use secrecy::SecretString;
use serde_json::{Value, json};
use sqlx::PgConnection;
use time::OffsetDateTime;

use super::update::roll_out;
use crate::audit::{self, Deed};
use crate::db::intents::{self, Intent};
use crate::db::workspaces;
use crate::error::{Fields, Outcome, Problem};
use crate::identity::{self, Action, Caller};
use crate::state::App;

/// A secret that was set.
#[derive(Debug)]
pub struct SecretSet {
    /// Its name.
    pub name: SecretName,
    /// Its end, where that tells little.
    pub last_four: Option<String>,
    /// When.
    pub set_at: OffsetDateTime,
    /// What brings it to the instances; `None` where none is to run.
    pub operation: Option<OperationId>,
}

/// Sets a secret, in the place of the one before.
pub async fn set(
    app: &App,
    caller: &Caller,
    id: ApplicationId,
    name: &str,
    value: &SecretString,
) -> Outcome<SecretSet> {
    let mut transaction = app.pool().begin().await?;
    let writing = Writing::begin(&mut transaction, caller, id).await?;
    let mut fields = Fields::new();
    let name: Option<SecretName> = fields.take("secretName", name.parse());
    fields.take("value", check_value(value));
    fields.finish()?;
    let name = name.ok_or_else(missing)?;
    let present = rows::list(&mut transaction, id).await?;
    if present.len() >= COUNT_MAX && !present.iter().any(|secret| secret.name == name.as_str()) {
        let message = format!("An application has at most {COUNT_MAX} secrets; remove one first");
        return Err(Failure::forbidden(message).with_reason("secret_limit").into());
    }
    let ring = app
        .ring()
        .ok_or_else(|| Problem::busy("Secrets need encryption.key, which is not configured", "encryption"))?;
    let row = Stored {
        sealed: application_secret::seal(ring, id, &name, value, app.entropy()),
        name,
    };
    let (shown, set_at) = (last_four(value), app.clock().now());
    rows::put(&mut transaction, id, &row, shown, set_at).await?;
    let shown = shown.map(str::to_owned);
    let changes = json!({ "name": row.name.as_str(), "value": "redacted" });
    let operation = writing
        .finish(&mut transaction, app, caller, "secret.set", changes)
        .await?;
    transaction.commit().await?;
    Ok(SecretSet {
        name: row.name,
        last_four: shown,
        set_at,
        operation,
    })
}

/// Takes a secret away from the application.
pub async fn remove(app: &App, caller: &Caller, id: ApplicationId, name: &str) -> Outcome<Option<OperationId>> {
    let mut transaction = app.pool().begin().await?;
    let writing = Writing::begin(&mut transaction, caller, id).await?;
    let name: SecretName = name.parse().map_err(|_| missing())?;
    if !rows::remove(&mut transaction, id, &name).await? {
        return Err(missing());
    }
    let changes = json!({ "name": name.as_str() });
    let operation = writing
        .finish(&mut transaction, app, caller, "secret.remove", changes)
        .await?;
    transaction.commit().await?;
    Ok(operation)
}

/// A change of secrets under way: the application's row is locked.
struct Writing {
    intent: Intent,
    workspace: authsome_contract::model::WorkspaceStatus,
}

impl Writing {
    async fn begin(connection: &mut PgConnection, caller: &Caller, id: ApplicationId) -> Outcome<Self> {
        let workspace = identity::application(connection, caller, id, Action::WriteSecrets).await?;
        let gone = || Failure::not_found("Application not found");
        let (_, workspace) = workspaces::lock(connection, workspace).await?.ok_or_else(gone)?;
        let intent = intents::lock(connection, id).await?.ok_or_else(gone)?;
        if matches!(
            intent.status,
            AppStatus::Deleting | AppStatus::Purging | AppStatus::Deleted
        ) {
            let failure = Failure::conflict("The application is being deleted");
            return Err(failure.with_reason("deleting").into());
        }
        Ok(Self { intent, workspace })
    }

    async fn finish(
        self,
        connection: &mut PgConnection,
        app: &App,
        caller: &Caller,
        action: &'static str,
        mut changes: Value,
    ) -> Outcome<Option<OperationId>> {
        let operation = roll_out(connection, app, caller, &self.intent, self.workspace).await?;
        if let Some(operation) = operation {
            changes["operationId"] = json!(operation);
        }
        let deed = Deed::of_application(action, self.intent.workspace_id, self.intent.id, changes);
        audit::record(connection, app, &caller.actor, &deed).await?;
        Ok(operation)
    }
}

fn missing() -> Problem {
    Failure::not_found("The application has no such secret").into()
}
