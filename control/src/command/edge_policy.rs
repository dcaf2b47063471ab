//! What a team sets of its application at the edge: one transaction of the change, its audit event and, by the trigger of
//! the row, its way to the edges.

mod settings;

use authsome_contract::model::{AppStatus, CachePolicy, CachePurges, PathRule, Version, cache_purges};
use authsome_core::error::Failure;
use authsome_core::id::{ApplicationId, WorkspaceId};
use authsome_db::DbError;
use serde_json::{Map, Value, json};
use sqlx::PgConnection;
use time::OffsetDateTime;

use super::merge_patch;
use crate::audit::{self, Deed};
use crate::db::edge_policy::{self, Stored};
use crate::error::{Fields, Outcome, Problem};
use crate::identity::{self, Action, Caller};
use crate::state::App;

pub use settings::{CacheRuleSettings, CacheSettings, Credential, EdgeSettings, PathRuleSettings};

/// Most tags of one purge.
const TAGS_MAX: usize = cache_purges::MOST_TAGS;

/// The settings as they are now, and the version of the row that holds them.
pub async fn current(connection: &mut PgConnection, id: ApplicationId) -> Outcome<(EdgeSettings, Version)> {
    let stored = edge_policy::find(connection, id).await?.ok_or_else(missing)?;
    Ok((read(&stored, id)?, stored.version))
}

/// What a patch makes of the settings.
pub(super) struct Merged {
    before: EdgeSettings,
    after: EdgeSettings,
}

/// Merges `patch` into the settings (RFC 7396) of an application whose row is locked; what is wrong with the outcome stands in `fields`.
/// `if_match` decides by the row's version whether the caller knows what it changes.
pub(super) async fn merge(
    connection: &mut PgConnection,
    id: ApplicationId,
    patch: Option<Value>,
    if_match: impl FnOnce(Version) -> bool,
    fields: &mut Fields,
) -> Outcome<Option<Merged>> {
    let stored = edge_policy::lock(connection, id).await?.ok_or_else(missing)?;
    if !if_match(stored.version) {
        return Err(Problem::precondition_failed());
    }
    let Some(patch) = patch else { return Ok(None) };
    let before = read(&stored, id)?;
    let after = merge_patch::merged(&before, patch, "edge", fields)?;
    let after = after.map(|after| after.checked(fields));
    Ok(after.map(|after| Merged { before, after }))
}

/// Writes what was merged, and returns what differs.
pub(super) async fn write(
    connection: &mut PgConnection,
    id: ApplicationId,
    Merged { before, after }: Merged,
) -> Outcome<Option<Value>> {
    if after == before {
        return Ok(None);
    }
    let policy: Vec<PathRule> = after.path_policy.iter().map(PathRule::from).collect();
    let row = edge_policy::Change {
        origins: &after.origins,
        strict_seconds: after.strict_seconds,
        secret_from_browsers: after.secret_from_browsers,
        path_policy: &json!(policy),
        cache_policy: &json!(CachePolicy::from(&after.cache_policy)),
    };
    edge_policy::update(connection, id, &row).await?;
    Ok(Some(difference(&before, &after)))
}

/// Throws away what the edges' caches hold of the application: what carries one of `tags`, or everything where there are
/// none. Returns the time up to which stored responses are not used, by the database's clock.
pub async fn purge(app: &App, caller: &Caller, id: ApplicationId, tags: Option<&[String]>) -> Outcome<OffsetDateTime> {
    let mut transaction = app.pool().begin().await?;
    let (workspace, stored) = lock(&mut transaction, caller, id).await?;
    if let Some(tags) = tags {
        let mut fields = Fields::new();
        fields.require((1..=TAGS_MAX).contains(&tags.len()), "tags", "must be from 1 to 64");
        for (position, tag) in tags.iter().enumerate() {
            fields.require(
                cache_purges::is_tag(tag),
                &format!("tags[{position}]"),
                "must be 1 to 128 printable ASCII characters without spaces and commas",
            );
        }
        fields.finish()?;
    }
    let mut purges: CachePurges = understood("cache_purges", id, stored.cache_purges)?;
    let now = edge_policy::database_time(&mut transaction).await?;
    let now_ms = i64::try_from(now.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX);
    match tags {
        Some(tags) => tags.iter().for_each(|tag| purges.purge_tag(tag, now_ms)),
        None => purges.purge_all(now_ms),
    }
    edge_policy::set_purges(&mut transaction, id, &json!(purges)).await?;
    let deed = Deed::of_application("application.purge_cache", workspace, id, json!({ "tags": tags }));
    audit::record(&mut transaction, app, &caller.actor, &deed).await?;
    transaction.commit().await?;
    Ok(now)
}

/// The row, locked, if the caller may change it and it is not on its way out.
async fn lock(connection: &mut PgConnection, caller: &Caller, id: ApplicationId) -> Outcome<(WorkspaceId, Stored)> {
    let workspace = identity::application(connection, caller, id, Action::ChangeApplications).await?;
    let stored = edge_policy::lock(connection, id).await?.ok_or_else(missing)?;
    let status: AppStatus = stored
        .status
        .parse()
        .map_err(|error| DbError::unknown_name("applications", "status", id, &error))?;
    if matches!(status, AppStatus::Deleting | AppStatus::Purging | AppStatus::Deleted) {
        return Err(Failure::conflict("The application is being deleted")
            .with_reason("deleting")
            .into());
    }
    Ok((workspace, stored))
}

fn read(stored: &Stored, id: ApplicationId) -> Outcome<EdgeSettings> {
    let policy: Vec<PathRule> = understood("path_policy", id, stored.path_policy.clone())?;
    let cache: CachePolicy = understood("cache_policy", id, stored.cache_policy.clone())?;
    Ok(EdgeSettings {
        origins: stored.origins.clone(),
        strict_seconds: stored.strict_seconds.and_then(|seconds| u32::try_from(seconds).ok()),
        secret_from_browsers: stored.secret_from_browsers,
        path_policy: policy.into_iter().map(PathRuleSettings::from).collect(),
        cache_policy: cache.into(),
    })
}

fn understood<T: serde::de::DeserializeOwned>(column: &'static str, id: ApplicationId, value: Value) -> Outcome<T> {
    serde_json::from_value(value).map_err(|error| {
        DbError::Inconsistent {
            table: "applications",
            column,
            row: id.to_string(),
            detail: error.to_string(),
        }
        .into()
    })
}

/// The fields that differ, as they were and as they are.
fn difference(before: &EdgeSettings, after: &EdgeSettings) -> Value {
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

fn missing() -> Problem {
    Failure::not_found("Application not found").into()
}
