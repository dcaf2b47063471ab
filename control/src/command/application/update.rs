//! Changing an application: name, slug, metadata, configuration and what the edge does for it, in one transaction. A changed
//! configuration is rolled out while the application goes on serving.

use authsome_contract::model::{AppStatus, Version, WorkspaceStatus, status::Event};
use authsome_contract::wire::job::JobKind;
use authsome_core::error::Failure;
use authsome_core::id::{ApplicationId, OperationId};
use authsome_db::DbError;
use serde_json::{Map, Value, json};

use super::config;
use super::lifecycle::begin;
use crate::audit::{self, Deed};
use crate::command::{edge_policy, merge_patch, name};
use crate::db::intents::{self, Intent};
use crate::db::workspaces;
use crate::error::{Fields, Outcome, Problem};
use crate::identity::{self, Action, Caller};
use crate::state::App;

/// The largest metadata, in bytes of JSON, and the most members of it.
const METADATA_MAX: usize = 16 * 1024;

/// What to change. What is left out stays.
#[derive(Debug, Default)]
pub struct Changes {
    /// What people call it.
    pub name: Option<String>,
    /// Its name within the workspace.
    pub slug: Option<String>,
    /// A merge patch of the configuration.
    pub config: Option<Value>,
    /// A merge patch of the team's own notes.
    pub metadata: Option<Value>,
    /// A merge patch of what the edge does.
    pub edge: Option<Value>,
    /// Refused unless it is the present one.
    pub environment: Option<String>,
    /// Refused unless it is the present one.
    pub region: Option<String>,
}

/// Changes the application, and returns the operation that rolls a changed configuration out. `if_match` decides by the row's
/// version whether the caller knows what it changes.
pub async fn update(
    app: &App,
    caller: &Caller,
    id: ApplicationId,
    mut changes: Changes,
    if_match: impl FnOnce(Version) -> bool,
) -> Outcome<Option<OperationId>> {
    let mut transaction = app.pool().begin().await?;
    let workspace = identity::application(&mut transaction, caller, id, Action::ChangeApplications).await?;
    let standing = workspaces::lock(&mut transaction, workspace).await?;
    let (_, standing) = standing.ok_or_else(missing)?;
    let intent = intents::lock(&mut transaction, id).await?.ok_or_else(missing)?;
    if matches!(
        intent.status,
        AppStatus::Deleting | AppStatus::Purging | AppStatus::Deleted
    ) {
        return Err(Failure::conflict("The application is being deleted")
            .with_reason("deleting")
            .into());
    }
    let mut fields = Fields::new();
    let edge = changes.edge.take();
    let edge = edge_policy::merge(&mut transaction, id, edge, if_match, &mut fields).await?;
    let stays = stays(&changes, &intent);
    let after = validate(changes, &intent, stays, fields)?;
    let edge = match edge {
        Some(merged) => edge_policy::write(&mut transaction, id, merged).await?,
        None => None,
    };

    let mut audited = Map::new();
    let mut differs = |field: &str, from: &Value, to: &Value| {
        if from != to {
            audited.insert(field.to_owned(), json!({ "from": from, "to": to }));
        }
    };
    differs("name", &json!(intent.name), &json!(after.name));
    differs("slug", &json!(intent.slug), &json!(after.slug));
    differs("config", &intent.config, &after.config);
    differs("metadata", &intent.metadata, &after.metadata);
    let own = !audited.is_empty();
    if let Some(edge) = edge {
        audited.insert("edge".to_owned(), edge);
    }
    if audited.is_empty() {
        return Ok(None);
    }
    if own {
        let row = intents::Change {
            name: &after.name,
            slug: &after.slug,
            config: &after.config,
            metadata: &after.metadata,
        };
        intents::update(&mut transaction, id, &row)
            .await
            .map_err(|error| match error {
                DbError::Duplicate { .. } => super::taken(
                    "slug",
                    &format!("The slug {:?} is taken in this workspace; choose another", after.slug),
                ),
                other => other.into(),
            })?;
    }
    let operation = if intent.config == after.config {
        None
    } else {
        roll_out(&mut transaction, app, caller, &intent, standing).await?
    };
    if let Some(operation) = operation {
        audited.insert("operationId".to_owned(), json!(operation));
    }
    let deed = Deed::of_application("application.update", workspace, id, Value::Object(audited));
    audit::record(&mut transaction, app, &caller.actor, &deed).await?;
    transaction.commit().await?;
    Ok(operation)
}

/// Begins what brings the application's instances up to its new intent; nothing where none is to run. A build that is under
/// way begins anew, since what it has read is old.
pub(super) async fn roll_out(
    connection: &mut sqlx::PgConnection,
    app: &App,
    caller: &Caller,
    intent: &Intent,
    workspace: WorkspaceStatus,
) -> Outcome<Option<OperationId>> {
    let Ok(status) = intent.status.after(Event::Update) else {
        return Ok(None);
    };
    // A first build that failed is taken up by a retry; what is stopped gets its configuration when it starts.
    let rests = status == AppStatus::Suspended
        || (intent.status == AppStatus::Failed && !intent.activated)
        || workspace != WorkspaceStatus::Active;
    if rests {
        return Ok(None);
    }
    let kind = if status == AppStatus::Provisioning {
        JobKind::Provision
    } else {
        JobKind::Update
    };
    Ok(Some(
        begin(connection, app, Some(caller.user), intent, (status, kind)).await?,
    ))
}

struct After {
    name: String,
    slug: String,
    config: Value,
    metadata: Value,
}

/// What cannot be changed, and why.
fn stays(changes: &Changes, intent: &Intent) -> Vec<(&'static str, &'static str)> {
    let mut refused = Vec::new();
    if changes.environment.as_ref().is_some_and(|to| *to != intent.environment) {
        refused.push((
            "environment",
            "cannot be changed: the keys of an application say what it is for, and live and test data never mix. \
             Create another application",
        ));
    }
    if changes.region.as_ref().is_some_and(|to| *to != intent.region) {
        refused.push((
            "region",
            "cannot be changed: the data of an application stays where it is. Create another application",
        ));
    }
    refused
}

fn validate(
    changes: Changes,
    intent: &Intent,
    stays: Vec<(&'static str, &'static str)>,
    mut fields: Fields,
) -> Outcome<After> {
    for (field, reason) in stays {
        fields.refuse(field, reason);
    }
    let title = changes.name.map_or(Ok(intent.name.clone()), |text| name::name(&text));
    let title = fields.take("name", title);
    let slug = changes
        .slug
        .map_or(Ok(intent.slug.clone()), |text| name::slug(Some(&text), ""));
    let slug = fields.take("slug", slug);
    let mut config = intent.config.clone();
    if let Some(patch) = changes.config {
        fields.require(patch.is_object(), "config", "must be a JSON object");
        merge_patch::apply(&mut config, patch);
        config::check(&config, &mut fields);
    }
    let mut metadata = intent.metadata.clone();
    if let Some(patch) = changes.metadata {
        fields.require(patch.is_object(), "metadata", "must be a JSON object");
        fields.require(
            !config::holds_nul(&patch),
            "metadata",
            "must not contain the character U+0000",
        );
        merge_patch::apply(&mut metadata, patch);
        fields.require(
            metadata.to_string().len() <= METADATA_MAX,
            "metadata",
            "must be at most 16 KiB of JSON",
        );
    }
    fields.finish()?;
    Ok(After {
        name: title.unwrap_or_default(),
        slug: slug.unwrap_or_default(),
        config,
        metadata,
    })
}

fn missing() -> Problem {
    Failure::not_found("Application not found").into()
}
