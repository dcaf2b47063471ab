//! The report of a leaked key. Whoever has the key may report it, without signing in: scanners of public code, and people
//! who found it. Having it is the proof; it is revoked at once, since others may have it, too.

use authsome_core::key::{KeyType, ParsedKey};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use url::Url;

use crate::audit::{self, Deed};
use crate::db::keys;
use crate::db::members::{self, Told};
use crate::error::{Fields, Outcome};
use crate::identity::Actor;
use crate::mail::{self, Letter};
use crate::state::App;

/// The longest address of a finding, in bytes.
const URL_MAX: usize = 2048;

/// What was found, and where.
#[derive(Debug)]
pub struct Leak<'a> {
    /// The key, whole.
    pub key: SecretString,
    /// Where it can be read.
    pub url: Option<&'a str>,
}

/// What became of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reported {
    /// The key could be used, and cannot any more.
    Revoked,
    /// It is a secret key that cannot be used, or none of this platform.
    Inactive,
    /// It is a public key, which is meant to be read by everybody.
    Public,
}

/// Revokes the key if it is a secret one in use, and tells its team: by mail to owners and admins, by webhook, in the audit trail.
pub async fn report(app: &App, actor: &Actor, leak: Leak<'_>) -> Outcome<Reported> {
    let mut fields = Fields::new();
    let parsed = fields.take(
        "key",
        ParsedKey::parse(leak.key.expose_secret()).map_err(|_| "must be a whole API key of this platform"),
    );
    let http =
        |url: &str| url.len() <= URL_MAX && Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
    fields.require(
        leak.url.is_none_or(http),
        "url",
        "must be an http or https address of at most 2048 bytes",
    );
    fields.finish()?;
    let Some(key) = parsed else {
        return Ok(Reported::Inactive);
    };
    if key.key_type() == KeyType::Public {
        return Ok(Reported::Public);
    }
    let now = app.clock().now();
    let mut transaction = app.pool().begin().await?;
    let owner = keys::owner(&mut transaction, &key.digest(), now).await?;
    let Some(owner) = owner.filter(|owner| owner.usable) else {
        return Ok(Reported::Inactive);
    };
    keys::revoke(&mut transaction, owner.application_id, owner.id, now).await?;
    let deed = Deed::of_key(
        "key.leaked",
        owner.workspace_id,
        owner.application_id,
        owner.id,
        json!({ "revoked": true, "foundAt": leak.url }),
    );
    audit::record(&mut transaction, app, actor, &deed).await?;
    for recipient in members::told(&mut transaction, owner.workspace_id, Told::Security).await? {
        mail::post(&mut transaction, app, &recipient, &Letter::KeyLeaked { key: owner.id }).await?;
    }
    transaction.commit().await?;
    tracing::warn!(key = %owner.id, application = %owner.application_id, "a leaked key was reported and is revoked");
    Ok(Reported::Revoked)
}
