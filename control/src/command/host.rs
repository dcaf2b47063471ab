//! Host names of an application: claim, prove by a TXT record, give back.
//!
//! A claim blocks nobody. The name goes to whoever publishes the challenge below it. One that leads elsewhere moves only
//! when the other application's challenge is no longer published: whoever controls the name now decides, and two who both
//! prove it keep what they have. When the DNS does not answer nothing changes and the caller gets a 503.

use authsome_contract::model::{AppStatus, host_name};
use authsome_core::entropy;
use authsome_core::error::Failure;
use authsome_core::id::ApplicationId;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use sqlx::PgConnection;
use url::Url;

use crate::audit::{self, Deed};
use crate::db::applications;
use crate::db::hosts::{self, Host};
use crate::dns::{Dns, DnsError};
use crate::error::{Fields, Outcome, Problem};
use crate::identity::{self, Action, Actor, Caller};
use crate::settings::Settings;
use crate::state::App;

/// The most names that an application has or claims.
const NAMES_MAX: i64 = 100;

/// The label below the name at which the challenge is published.
pub const LABEL: &str = "_authsome-challenge";

/// What the TXT record says before the challenge.
pub const PREFIX: &str = "authsome-host-verification=";

/// The name of the record that proves a host name.
pub fn record_name(host: &str) -> String {
    format!("{LABEL}.{host}")
}

/// What the record must say.
pub fn record_value(challenge: &str) -> String {
    format!("{PREFIX}{challenge}")
}

/// Claims a name. Claiming it again gives the same challenge, so that nothing that was published is lost.
pub async fn claim(app: &App, caller: &Caller, application: ApplicationId, host: &str) -> Outcome<(Host, bool)> {
    let mut transaction = app.pool().begin().await?;
    let workspace = identity::application(&mut transaction, caller, application, Action::ChangeApplications).await?;
    let mut fields = Fields::new();
    let host = fields.take("host", read(host, app.settings()));
    fields.finish()?;
    let host = host.unwrap_or_default();
    stays(&mut transaction, application).await?;
    if let Some(known) = hosts::find(&mut transaction, application, &host).await? {
        return Ok((known, false));
    }
    if hosts::count(&mut transaction, application).await? >= NAMES_MAX {
        let message = format!("An application has at most {NAMES_MAX} host names; remove one first");
        return Err(Failure::forbidden(message)
            .with_reason("host_limit")
            .with_details(json!({ "limit": NAMES_MAX }))
            .into());
    }
    let challenge = URL_SAFE_NO_PAD.encode(entropy::bytes::<24>(app.entropy()));
    let now = app.clock().now();
    hosts::claim(&mut transaction, application, &host, &challenge, Some(caller.user), now).await?;
    let deed = Deed::of_application("host.claim", workspace, application, json!({ "host": host }));
    audit::record(&mut transaction, app, &caller.actor, &deed).await?;
    let claimed = hosts::find(&mut transaction, application, &host).await?;
    transaction.commit().await?;
    let claimed = claimed.ok_or_else(missing)?;
    Ok((claimed, true))
}

/// Looks for the challenge in the DNS, and gives the name to the application where it is found. Names that are proved
/// already stay so.
pub async fn verify(app: &App, caller: &Caller, application: ApplicationId, host: &str) -> Outcome<Host> {
    let claimed = {
        let mut connection = app.pool().acquire().await?;
        identity::application(&mut connection, caller, application, Action::ChangeApplications).await?;
        hosts::find(&mut connection, application, &spelled(host))
            .await?
            .ok_or_else(missing)?
    };
    if claimed.verified_at.is_some() {
        return Ok(claimed);
    }
    let host = &claimed.host;
    // Before the transaction: a slow name server must not hold a connection.
    let published = published(app.dns(), host).await?;
    if !published.contains(&record_value(&claimed.challenge)) {
        let message = format!(
            "The TXT record {} does not hold {}; new records can take minutes to be seen",
            record_name(host),
            record_value(&claimed.challenge)
        );
        return Err(Failure::conflict(message)
            .with_reason("not_verified")
            .with_details(json!({ "name": record_name(host), "expected": record_value(&claimed.challenge) }))
            .into());
    }

    let now = app.clock().now();
    let mut transaction = app.pool().begin().await?;
    let workspace = identity::application(&mut transaction, caller, application, Action::ChangeApplications).await?;
    stays(&mut transaction, application).await?;
    let holder = hosts::holder(&mut transaction, host).await?;
    let holder = holder.filter(|holder| holder.application_id != application);
    if let Some(holder) = &holder {
        if holder.verified && published.contains(&record_value(&holder.challenge)) {
            let message =
                "The name belongs to another application, whose record is published as well; remove that record first";
            return Err(Failure::conflict(message).with_reason("taken").into());
        }
        // Its team sees that it lost the name, and can prove it again.
        let (id, challenge) = (holder.application_id, &holder.challenge);
        hosts::claim(&mut transaction, id, host, challenge, None, now).await?;
        let deed = Deed::of_application("host.lose", holder.workspace_id, id, json!({ "host": host }));
        audit::record(&mut transaction, app, &Actor::default(), &deed).await?;
    }
    hosts::prove(
        &mut transaction,
        application,
        host,
        &claimed.challenge,
        caller.user,
        now,
    )
    .await?;
    let changes = json!({ "host": host, "movedHere": holder.is_some() });
    let deed = Deed::of_application("host.verify", workspace, application, changes);
    audit::record(&mut transaction, app, &caller.actor, &deed).await?;
    let proved = hosts::find(&mut transaction, application, host).await?;
    transaction.commit().await?;
    proved.ok_or_else(missing)
}

/// Gives a name back, proved or claimed.
pub async fn remove(app: &App, caller: &Caller, application: ApplicationId, host: &str) -> Outcome<()> {
    let host = spelled(host);
    let mut transaction = app.pool().begin().await?;
    let workspace = identity::application(&mut transaction, caller, application, Action::ChangeApplications).await?;
    if !hosts::remove(&mut transaction, application, &host).await? {
        return Err(missing());
    }
    let deed = Deed::of_application("host.remove", workspace, application, json!({ "host": host }));
    audit::record(&mut transaction, app, &caller.actor, &deed).await?;
    transaction.commit().await?;
    Ok(())
}

async fn published(dns: &Dns, host: &str) -> Outcome<Vec<String>> {
    dns.texts(&record_name(host)).await.map_err(|error: DnsError| {
        Failure::unavailable("The name servers did not answer; try again")
            .with_reason("dns")
            .retry_after(5)
            .with_internal(error)
            .into()
    })
}

/// 409 for an application on its way out. Its row is locked.
async fn stays(connection: &mut PgConnection, application: ApplicationId) -> Outcome<()> {
    let found = applications::lock_for_keys(connection, application).await?;
    let (_, status) = found.ok_or_else(|| Failure::not_found("Application not found"))?;
    if matches!(status, AppStatus::Deleting | AppStatus::Purging | AppStatus::Deleted) {
        return Err(Failure::conflict("The application is being deleted")
            .with_reason("deleting")
            .into());
    }
    Ok(())
}

/// The one form in which names are kept: lower case, international names in their ASCII form, no dot at the end.
fn spelled(text: &str) -> String {
    let text = text.trim().trim_end_matches('.');
    match url::Host::parse(text) {
        Ok(url::Host::Domain(name)) => name,
        _ => text.to_ascii_lowercase(),
    }
}

/// The name as it is kept, or what is wrong with it.
fn read(text: &str, settings: &Settings) -> Result<String, &'static str> {
    let name = spelled(text);
    if !host_name::is_domain(&name) || record_name(&name).len() > 253 {
        return Err("must be a host name such as login.example.com, without scheme, port or path");
    }
    let own = [&settings.api_url, &settings.edge_url, &settings.dashboard_url];
    let own = own.iter().filter_map(|url| Url::parse(url).ok());
    let own = own.filter_map(|url| url.host_str().map(str::to_owned));
    let ours = own.chain(settings.apps_domain.as_deref().map(spelled));
    let ours = ours
        .into_iter()
        .any(|own| name == own || name.ends_with(&format!(".{own}")));
    if ours {
        return Err("must not be a name of the platform");
    }
    Ok(name)
}

fn missing() -> Problem {
    Failure::not_found("The application has no such host name").into()
}
