//! Changing a key: name, scopes, lists, end, and whether it may be used.

use authsome_contract::model::Version;
use authsome_core::error::Failure;
use authsome_core::id::{ApplicationId, KeyId};
use authsome_core::key::KeyType;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::NewKey;
use super::settings::validate;
use crate::audit::{self, Deed};
use crate::command::merge_patch::merged;
use crate::db::keys;
use crate::error::{Fields, Outcome, Problem};
use crate::identity::{self, Action, Caller};
use crate::state::App;

/// What of a key can be changed, as a client writes it.
#[derive(Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Settings {
    name: String,
    /// Secret keys only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scopes: Option<Vec<String>>,
    #[serde(default)]
    networks: Vec<String>,
    #[serde(default)]
    origins: Vec<String>,
    #[serde(default = "yes")]
    enabled: bool,
    #[serde(default, with = "time::serde::rfc3339::option")]
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<OffsetDateTime>,
}

/// What a patch of `null` gives.
fn yes() -> bool {
    true
}

/// Merges `patch` into the key's settings (RFC 7396). `if_match` decides by the row's version whether the caller knows what it
/// changes. Revoked keys are gone: they are not found.
pub async fn change(
    app: &App,
    caller: &Caller,
    application: ApplicationId,
    id: KeyId,
    patch: Value,
    if_match: impl FnOnce(Version) -> bool,
) -> Outcome<keys::Key> {
    let mut transaction = app.pool().begin().await?;
    let workspace = identity::application(&mut transaction, caller, application, Action::WriteKeys).await?;
    let found = keys::lock(&mut transaction, application, id).await?;
    let key = found.ok_or_else(|| Failure::not_found("API key not found"))?;
    if !if_match(key.version) {
        return Err(Problem::precondition_failed());
    }
    let before = Settings {
        name: key.name.clone(),
        scopes: (key.key_type == KeyType::Secret).then(|| key.scopes.clone()),
        networks: key.networks.clone(),
        origins: key.origins.clone(),
        enabled: key.enabled,
        expires_at: key.expires_at,
    };
    let mut fields = Fields::new();
    let asked = merged(&before, patch, "", &mut fields)?;
    fields.finish()?;
    let asked = asked.ok_or_else(|| Failure::invalid_request("The change is not understood"))?;
    let input = validate(
        &NewKey {
            name: &asked.name,
            key_type: key.key_type,
            scopes: asked.scopes.as_deref(),
            // One that has passed is no mistake of this request unless it sets it.
            expires_at: asked.expires_at.filter(|_| asked.expires_at != before.expires_at),
            networks: &asked.networks,
            origins: &asked.origins,
        },
        app.clock().now(),
    )?;
    let after = Settings {
        name: input.name,
        scopes: (key.key_type == KeyType::Secret).then_some(input.scopes),
        networks: input.networks,
        origins: input.origins,
        ..asked
    };
    if after == before {
        return Ok(key);
    }
    let row = keys::Change {
        name: &after.name,
        scopes: after.scopes.as_deref().unwrap_or(&key.scopes),
        networks: &after.networks,
        origins: &after.origins,
        enabled: after.enabled,
        expires_at: after.expires_at,
    };
    keys::update(&mut transaction, id, &row).await?;
    let deed = Deed::of_key("key.update", workspace, application, id, difference(&before, &after));
    audit::record(&mut transaction, app, &caller.actor, &deed).await?;
    let changed = keys::find(&mut transaction, application, id).await?;
    transaction.commit().await?;
    changed.ok_or_else(|| Failure::not_found("API key not found").into())
}

/// The fields that differ, as they were and as they are.
fn difference(before: &Settings, after: &Settings) -> Value {
    let (Ok(Value::Object(before)), Ok(Value::Object(after))) =
        (serde_json::to_value(before), serde_json::to_value(after))
    else {
        return json!({});
    };
    let changed: Map<String, Value> = after
        .into_iter()
        .filter(|(name, value)| before.get(name) != Some(value))
        .map(|(name, value)| {
            let change = json!({ "from": before.get(&name), "to": value });
            (name, change)
        })
        .collect();
    Value::Object(changed)
}
