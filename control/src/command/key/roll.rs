//! Rolling a key: a new one with the same rights, and an end for the old one, in one transaction.

use authsome_core::error::Failure;
use authsome_core::id::{ApplicationId, KeyId};
use authsome_core::key::{ApiKey, KeyType};
use serde_json::json;
use time::{Duration, OffsetDateTime};

use super::{Created, duplicate, environment};
use crate::audit::{self, Deed};
use crate::db::keys;
use crate::error::{Fields, Outcome};
use crate::identity::{self, Action, Caller};
use crate::state::App;

/// The longest time for which both keys may be used.
pub const ROLL_OVERLAP_MAX: Duration = Duration::days(30);

/// How a key is rolled.
#[derive(Debug, Clone, Copy)]
pub struct Roll {
    /// The id of the new key.
    pub id: KeyId,
    /// For how long the old key goes on.
    pub overlap: Duration,
    /// When the new key ends. Where it is left out: after as long as the old one was given, or never if that had no end.
    pub expires_at: Option<OffsetDateTime>,
}

/// The outcome.
#[derive(Debug)]
pub struct Rolled {
    /// The new key.
    pub created: Created,
    /// Public or secret, as the old one.
    pub key_type: KeyType,
    /// When the old key ends.
    pub old_expires_at: OffsetDateTime,
}

/// Replaces a key that can be used now. The old one ends after the overlap, or at its own end if that comes first.
pub async fn roll(app: &App, caller: &Caller, application: ApplicationId, old: KeyId, roll: Roll) -> Outcome<Rolled> {
    let now = app.clock().now();
    let mut transaction = app.pool().begin().await?;
    let workspace = identity::application(&mut transaction, caller, application, Action::WriteKeys).await?;
    let mut fields = Fields::new();
    fields.require(
        (Duration::ZERO..=ROLL_OVERLAP_MAX).contains(&roll.overlap),
        "overlapSeconds",
        "must be from 0 to 2592000 (30 days)",
    );
    let future = roll.expires_at.is_none_or(|end| end > now);
    fields.require(future, "expiresAt", "must lie in the future");
    fields.finish()?;
    let environment = environment(&mut transaction, application).await?;
    let found = keys::lock(&mut transaction, application, old).await?;
    let key = found.ok_or_else(|| Failure::not_found("API key not found"))?;
    if !key.enabled || key.expires_at.is_some_and(|end| end <= now) {
        return Err(
            Failure::conflict("The key is disabled or has ended; there is nothing to roll. Create a new key")
                .with_reason("not_usable")
                .into(),
        );
    }

    let lifetime = key.expires_at.map(|end| end - key.created_at);
    let expires_at = roll.expires_at.or_else(|| lifetime.map(|lifetime| now + lifetime));
    let mut created = Created {
        id: roll.id,
        name: key.name.clone(),
        key: ApiKey::generate(key.key_type, environment.key_mode(), &application, app.entropy()),
        scopes: key.scopes.clone(),
        networks: key.networks.clone(),
        origins: key.origins.clone(),
        expires_at,
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
        expires_at,
        created_by: caller.user,
        created_at: now,
    };
    let stored = keys::insert(&mut transaction, &row).await.map_err(duplicate)?;
    (created.created_at, created.expires_at) = (stored.created_at, stored.expires_at);
    let end = now + roll.overlap;
    let old_expires_at = key.expires_at.map_or(end, |own| own.min(end));
    let change = keys::Change {
        name: &key.name,
        scopes: &key.scopes,
        networks: &key.networks,
        origins: &key.origins,
        enabled: key.enabled,
        expires_at: Some(old_expires_at),
    };
    keys::update(&mut transaction, old, &change).await?;
    let changes = json!({ "newKeyId": created.id, "expiresAt": old_expires_at.unix_timestamp() });
    let deed = Deed::of_key("key.roll", workspace, application, old, changes);
    audit::record(&mut transaction, app, &caller.actor, &deed).await?;
    transaction.commit().await?;
    Ok(Rolled {
        created,
        key_type: key.key_type,
        old_expires_at,
    })
}
