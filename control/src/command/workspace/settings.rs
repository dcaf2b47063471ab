//! Name, slug and metadata of a workspace.

use authsome_core::error::Failure;
use authsome_core::id::WorkspaceId;
use serde_json::{Map, Value, json};
use sqlx::PgConnection;

use super::{own_slug, slug_taken};
use crate::audit::{self, Deed};
use crate::command::application::config::holds_nul;
use crate::command::{merge_patch, name};
use crate::db::workspaces;
use crate::error::{Fields, Outcome, Problem};
use crate::identity::{self, Action, Caller};
use crate::state::App;

/// The largest metadata, in bytes of JSON.
const METADATA_MAX: usize = 16 * 1024;

/// What to change. What is left out stays.
#[derive(Debug, Clone, Default)]
pub struct Settings<'a> {
    /// What people call it.
    pub name: Option<&'a str>,
    /// Its name in addresses.
    pub slug: Option<&'a str>,
    /// Merged into what there is (RFC 7396); JSON `null` takes everything away.
    pub metadata: Option<Value>,
}

/// Changes a workspace. `if_match` decides by the row's revision whether the caller knows what it changes.
pub async fn update(
    app: &App,
    caller: &Caller,
    id: WorkspaceId,
    change: Settings<'_>,
    if_match: impl FnOnce(i64) -> bool,
) -> Outcome<workspaces::Workspace> {
    let mut transaction = app.pool().begin().await?;
    identity::workspace(&mut transaction, caller, id, Action::UpdateWorkspace).await?;
    workspaces::lock(&mut transaction, id).await?;
    let before = shown(&mut transaction, caller, id).await?;
    if !if_match(before.revision) {
        return Err(Problem::precondition_failed());
    }
    let mut fields = Fields::new();
    let title = match change.name {
        // One that was given before addresses were refused may stay.
        Some(name) if name != before.name => name::title(name),
        _ => Ok(before.name.clone()),
    };
    let title = fields.take("name", title).unwrap_or_default();
    let slug = match change.slug {
        Some(slug) if slug != before.slug => own_slug(slug),
        _ => Ok(before.slug.clone()),
    };
    let slug = fields.take("slug", slug).unwrap_or_default();
    let mut metadata = before.metadata.clone();
    match change.metadata {
        Some(Value::Null) => metadata = json!({}),
        Some(patch) => {
            fields.require(patch.is_object(), "metadata", "must be a JSON object");
            merge_patch::apply(&mut metadata, patch);
        }
        None => {}
    }
    fields.require(
        !holds_nul(&metadata),
        "metadata",
        "must not contain the character U+0000",
    );
    fields.require(
        metadata.to_string().len() <= METADATA_MAX,
        "metadata",
        "must be at most 16 KiB of JSON",
    );
    fields.finish()?;

    let mut changes = Map::new();
    let mut note = |field: &str, from: Value, to: Value| {
        if from != to {
            changes.insert(field.to_owned(), json!({ "from": from, "to": to }));
        }
    };
    note("name", json!(before.name), json!(title));
    note("slug", json!(before.slug), json!(slug));
    note("metadata", before.metadata.clone(), metadata.clone());
    if changes.is_empty() {
        return Ok(before);
    }
    workspaces::update(&mut transaction, id, &title, &slug, &metadata)
        .await
        .map_err(|error| slug_taken(error, &slug))?;
    let deed = Deed::of_workspace("workspace.update", id, Value::Object(changes));
    audit::record(&mut transaction, app, &caller.actor, &deed).await?;
    let after = shown(&mut transaction, caller, id).await?;
    transaction.commit().await?;
    Ok(after)
}

/// Whoever may change a workspace may see what it has become.
pub(super) async fn shown(
    connection: &mut PgConnection,
    caller: &Caller,
    id: WorkspaceId,
) -> Outcome<workspaces::Workspace> {
    let found = match &caller.grant {
        Some(_) => workspaces::find(connection, id).await?,
        None => workspaces::of_member(connection, caller.user, id).await?,
    };
    found.ok_or_else(|| Failure::not_found("Workspace not found").into())
}
