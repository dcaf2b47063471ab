//! Creating and revoking API keys.

use std::net::IpAddr;

use authsome_contract::model::{AppStatus, Scopes};
use authsome_core::error::Failure;
use authsome_core::id::{ApplicationId, KeyId};
use authsome_core::key::{ApiKey, Digest, KeyType};
use authsome_db::DbError;
use ipnet::IpNet;
use serde_json::json;
use sqlx::PgConnection;
use time::OffsetDateTime;
use url::Url;

use super::{application::already_created, name};
use crate::audit::{self, Deed};
use crate::db::applications;
use crate::db::keys::{self, Revoked};
use crate::db::outbox::{self, Place};
use crate::error::{Fields, Outcome, Problem};
use crate::identity::{self, Action, Caller};
use crate::state::App;
use crate::tasks::edges::Target;

/// The most networks, and the most origins, of one key: the edge looks at each of them.
const LIST_MAX: usize = 100;

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
    let found = applications::lock_for_keys(&mut transaction, application).await?;
    let (environment, status) = found.ok_or_else(|| Failure::not_found("Application not found"))?;
    if matches!(status, AppStatus::Deleting | AppStatus::Purging | AppStatus::Deleted) {
        return Err(Failure::conflict("The application is being deleted")
            .with_reason("deleting")
            .into());
    }

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

struct Input {
    name: String,
    scopes: Vec<String>,
    networks: Vec<String>,
    origins: Vec<String>,
}

fn validate(new: &NewKey<'_>, now: OffsetDateTime) -> Outcome<Input> {
    let mut fields = Fields::new();
    let name = fields.take("name", name::name(new.name));
    let scopes = match (new.key_type, new.scopes) {
        (_, None) => vec!["*".to_owned()],
        (KeyType::Public, Some(_)) => {
            fields.refuse(
                "scopes",
                "belong to secret keys; a public key may do what the path class allows",
            );
            Vec::new()
        }
        (KeyType::Secret, Some([])) => {
            fields.refuse("scopes", "must name at least one scope, or be left out for all of them");
            Vec::new()
        }
        (KeyType::Secret, Some(names)) => match Scopes::from_names(names) {
            Ok(scopes) => scopes.names().map(str::to_owned).collect(),
            Err(unknown) => {
                fields.refuse("scopes", format!("has {:?}, which is no scope", unknown.name));
                Vec::new()
            }
        },
    };
    let future = new.expires_at.is_none_or(|end| end > now);
    fields.require(future, "expiresAt", "must lie in the future");
    fields.require(new.networks.len() <= LIST_MAX, "networks", "must be at most 100");
    fields.require(new.origins.len() <= LIST_MAX, "origins", "must be at most 100");
    fields.require(
        new.key_type == KeyType::Public || new.origins.is_empty(),
        "origins",
        "belong to public keys; a secret key never goes into a browser",
    );
    let networks = each(&mut fields, "networks", new.networks, network);
    let origins = each(&mut fields, "origins", new.origins, origin);
    fields.finish()?;
    Ok(Input {
        name: name.unwrap_or_default(),
        scopes,
        networks,
        origins,
    })
}

fn each(
    fields: &mut Fields,
    field: &str,
    texts: &[String],
    read: fn(&str) -> Result<String, &'static str>,
) -> Vec<String> {
    let mut kept = Vec::new();
    for (position, text) in texts.iter().enumerate() {
        if let Some(value) = fields.take(&format!("{field}[{position}]"), read(text))
            && !kept.contains(&value)
        {
            kept.push(value);
        }
    }
    kept
}

/// A CIDR block without host bits; a single address is a block of one.
fn network(text: &str) -> Result<String, &'static str> {
    let network = text
        .parse::<IpNet>()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    let network = network.map_err(|_| "must be an address or a CIDR block such as 203.0.113.0/24")?;
    Ok(network.trunc().to_string())
}

/// An origin exactly as browsers send it: scheme, host, port unless it is the default one.
pub(super) fn origin(text: &str) -> Result<String, &'static str> {
    const EXPECTED: &str = "must be an origin such as https://app.example.com, without path";
    let url = Url::parse(text).map_err(|_| EXPECTED)?;
    let bare = matches!(url.scheme(), "http" | "https")
        && url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    if bare && text.len() <= 253 + 16 {
        Ok(url.origin().ascii_serialization())
    } else {
        Err(EXPECTED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_kept_as_browsers_send_them() {
        assert_eq!(
            origin("https://App.Example.com:443/").as_deref(),
            Ok("https://app.example.com")
        );
        assert_eq!(origin("http://localhost:3000").as_deref(), Ok("http://localhost:3000"));
        for bad in [
            "",
            "*",
            "null",
            "example.com",
            "https://",
            "ftp://a",
            "https://a/b",
            "https://a?b",
            "https://u@a",
            "https://*.a/x",
        ] {
            assert!(origin(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn networks_lose_their_host_bits() {
        assert_eq!(network("203.0.113.7/24").as_deref(), Ok("203.0.113.0/24"));
        assert_eq!(network("203.0.113.7").as_deref(), Ok("203.0.113.7/32"));
        assert_eq!(network("2001:db8::1").as_deref(), Ok("2001:db8::1/128"));
        for bad in ["", "203.0.113.0/33", "300.1.1.1", "example.com", "203.0.113.0/24\0"] {
            assert!(network(bad).is_err(), "{bad:?}");
        }
    }
}
