//! API keys: create and revoke here; change, roll and the report of a leaked one each in a file.

mod change;
mod leak;
mod roll;
mod settings;

use authsome_contract::model::{AppStatus, Environment};
use authsome_core::error::Failure;
use authsome_core::id::{ApplicationId, KeyId};
use authsome_core::key::{ApiKey, Digest, KeyType};
use authsome_db::DbError;
use serde_json::json;
use sqlx::PgConnection;
use time::OffsetDateTime;

use super::application::already_created;
use crate::audit::{self, Deed};
use crate::db::applications;
use crate::db::keys::{self, Revoked};
use crate::db::outbox::{self, Place};
use crate::error::{Outcome, Problem};
use crate::identity::{self, Action, Caller};
use crate::state::App;
use crate::tasks::edges::Target;

pub use change::change;
pub use leak::{Leak, Reported, report};
pub use roll::{ROLL_OVERLAP_MAX, Roll, Rolled, roll};
pub(in crate::command) use settings::origin;
use settings::validate;

/// What a new key is to be.
#[derive(Debug, Clone, Copy)]
pub struct NewKey<'a> {
    /// What people call it.
    pub name: &'a str,
    /// Public or secret.
    pub key_type: KeyType,
    /// Secret keys: what it may do; everything where it is left out.
    pub scopes: Option<&'a [String]>,
    /// When it ends; never where it is left out.
    pub expires_at: Option<OffsetDateTime>,
    /// Addresses or CIDR blocks that may use it; any where it is empty.
    pub networks: &'a [String],
    /// Public keys: browser origins that may use it; those of the application where it is empty.
    pub origins: &'a [String],
}

/// A key that was just made. This is the only time a secret one is seen.
#[derive(Debug)]
pub struct Created {
    /// Its id.
    pub id: KeyId,
    /// Its name, as kept.
    pub name: String,
    /// The key itself.
    pub key: ApiKey,
    /// As kept.
    pub scopes: Vec<String>,
    /// As kept.
    pub networks: Vec<String>,
    /// As kept.
    pub origins: Vec<String>,
    /// When it ends.
    pub expires_at: Option<OffsetDateTime>,
    /// When it was made.
    pub created_at: OffsetDateTime,
}

/// Creates a key of an application that is not on its way out.
pub async fn create(app: &App, caller: &Caller, application: ApplicationId, new: NewKey<'_>) -> Outcome<Created> {
    let id = KeyId::generate(app.clock(), app.entropy());
    create_once(app, caller, application, id, new).await
}

/// As [`create`], under an id that was made when the form was shown: however often the form is sent, it creates one key.
/// Every time but the first is a conflict with the reason [`ALREADY_CREATED`](super::application::ALREADY_CREATED).
pub async fn create_once(
    app: &App,
    caller: &Caller,
    application: ApplicationId,
    id: KeyId,
    new: NewKey<'_>,
) -> Outcome<Created> {
    let now = app.clock().now();
    let mut transaction = app.pool().begin().await?;
    let workspace = identity::application(&mut transaction, caller, application, Action::WriteKeys).await?;
    let input = validate(&new, now)?;
    let environment = environment(&mut transaction, application).await?;

    let mut created = Created {
        id,
        name: input.name,
        key: ApiKey::generate(new.key_type, environment.key_mode(), &application, app.entropy()),
        scopes: input.scopes,
        networks: input.networks,
        origins: input.origins,
        expires_at: new.expires_at,
        created_at: now,
    };
    let row = keys::NewKey {
        id: created.id,
        application_id: application,
        name: &created.name,
        key: &created.key,
        scopes: &created.scopes,
        networks: &created.networks,
        origins: &created.origins,
        expires_at: created.expires_at,
        created_by: caller.user,
        created_at: now,
    };
    let stored = keys::insert(&mut transaction, &row).await.map_err(duplicate)?;
    (created.created_at, created.expires_at) = (stored.created_at, stored.expires_at);
    let changes = json!({
        "name": created.name, "type": new.key_type, "scopes": created.scopes, "networks": created.networks,
        "origins": created.origins, "expiresAt": created.expires_at.map(OffsetDateTime::unix_timestamp),
    });
    let deed = Deed::of_key("key.create", workspace, application, created.id, changes);
    audit::record(&mut transaction, app, &caller.actor, &deed).await?;
    transaction.commit().await?;
    Ok(created)
}

/// Revokes a key for good. Revoking it again changes nothing. Returns what edges must have to know of it.
pub async fn revoke(app: &App, caller: &Caller, application: ApplicationId, key: KeyId) -> Outcome<Target> {
    let mut transaction = app.pool().begin().await?;
    let workspace = identity::application(&mut transaction, caller, application, Action::WriteKeys).await?;
    match keys::revoke(&mut transaction, application, key, app.clock().now()).await? {
        Revoked::Missing => Err(Failure::not_found("API key not found").into()),
        Revoked::Before(digest) => Ok(announced(&mut transaction, &digest).await?),
        Revoked::Now(digest) => {
            let target = announced(&mut transaction, &digest).await?;
            let deed = Deed::of_key("key.revoke", workspace, application, key, json!({}));
            audit::record(&mut transaction, app, &caller.actor, &deed).await?;
            transaction.commit().await?;
            Ok(target)
        }
    }
}

/// The environment of an application that may still get keys; its row is locked against a change of status.
async fn environment(connection: &mut PgConnection, application: ApplicationId) -> Outcome<Environment> {
    let found = applications::lock_for_keys(connection, application).await?;
    let (environment, status) = found.ok_or_else(|| Failure::not_found("Application not found"))?;
    if matches!(status, AppStatus::Deleting | AppStatus::Purging | AppStatus::Deleted) {
        return Err(Failure::conflict("The application is being deleted")
            .with_reason("deleting")
            .into());
    }
    Ok(environment)
}

/// By what an edge shows that it has the key as it now is.
async fn announced(connection: &mut PgConnection, digest: &Digest) -> Outcome<Target> {
    if let Some(entry) = outbox::unplaced_key(connection, &digest.to_string()).await? {
        return Ok(Target::Entry(entry));
    }
    let pulse = outbox::pulse(connection).await?;
    Ok(Target::Position(Place {
        epoch: pulse.epoch,
        position: pulse.last,
    }))
}

fn duplicate(error: DbError) -> Problem {
    match error {
        DbError::Duplicate { constraint } if constraint == "api_keys_pkey" => already_created(),
        other => other.into(),
    }
}
