//! Webhook endpoints: create, change, rotate the secret, remove, deliver again.

use authsome_core::error::Failure;
use authsome_core::id::{ApplicationId, WebhookId, WorkspaceId};
use authsome_core::seal::Aad;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::PgConnection;
use time::Duration;
use utoipa::ToSchema;

use crate::audit::{self, Deed};
use crate::command::merge_patch;
use crate::db::webhooks::{self, Endpoint};
use crate::error::{Fields, Outcome, Problem};
use crate::identity::{self, Action, Caller};
use crate::state::App;
use crate::tasks::webhooks::SECRET;
use crate::webhook::{EVENTS, signature};

/// The most endpoints of a workspace.
const ENDPOINTS_MAX: i64 = 50;
/// For how long the old secret signs beside the new one, at most.
const OVERLAP_MAX: Duration = Duration::days(7);

/// What a new endpoint is to be.
#[derive(Debug)]
pub struct NewEndpoint<'a> {
    /// Where requests go.
    pub url: &'a str,
    /// Which events; all of them where it is empty.
    pub events: &'a [String],
    /// Of this application only.
    pub application: Option<ApplicationId>,
    /// The signing secret; made where it is left out.
    pub secret: Option<SecretString>,
}

/// Creates an endpoint, and returns its secret, which is shown this once.
pub async fn create(
    app: &App,
    caller: &Caller,
    workspace: WorkspaceId,
    id: WebhookId,
    new: NewEndpoint<'_>,
) -> Outcome<(Endpoint, SecretString)> {
    let mut transaction = app.pool().begin().await?;
    identity::workspace(&mut transaction, caller, workspace, Action::ChangeApplications).await?;
    let mut fields = Fields::new();
    check(app, new.url, new.events, &mut fields);
    if let Some(secret) = &new.secret {
        fields.require(
            signature::is_secret(secret.expose_secret()),
            "secret",
            "must be whsec_ and 24 to 64 bytes in base64",
        );
    }
    if let Some(application) = new.application {
        let ours = webhooks::may_tell_of(&mut transaction, workspace, application).await?;
        fields.require(ours, "applicationId", "must be an application of this workspace");
    }
    fields.finish()?;
    if webhooks::count(&mut transaction, workspace).await? >= ENDPOINTS_MAX {
        let message = format!("A workspace has at most {ENDPOINTS_MAX} webhook endpoints; remove one first");
        return Err(Failure::forbidden(message).with_reason("endpoint_limit").into());
    }
    let secret = new.secret.unwrap_or_else(|| signature::new_secret(app.entropy()));
    let endpoint = Endpoint {
        id,
        workspace_id: workspace,
        application_id: new.application,
        url: new.url.to_owned(),
        events: once_each(new.events),
        enabled: true,
        disabled_reason: None,
        created_at: app.clock().now(),
    };
    let sealed = seal(app, id, &secret)?;
    webhooks::insert(&mut transaction, &endpoint, &sealed, caller.user).await?;
    let changes = json!({ "url": endpoint.url, "events": endpoint.events, "applicationId": new.application });
    record(&mut transaction, app, caller, &endpoint, "webhook.create", changes).await?;
    transaction.commit().await?;
    Ok((endpoint, secret))
}

/// Merges a patch of `url`, `events`, `enabled` (RFC 7396). `if_match` decides by the endpoint whether the caller knows what it changes.
pub async fn change(
    app: &App,
    caller: &Caller,
    workspace: WorkspaceId,
    id: WebhookId,
    patch: Value,
    if_match: impl FnOnce(&Endpoint) -> bool,
) -> Outcome<Endpoint> {
    let mut transaction = app.pool().begin().await?;
    identity::workspace(&mut transaction, caller, workspace, Action::ChangeApplications).await?;
    let found = webhooks::lock(&mut transaction, workspace, id)
        .await?
        .ok_or_else(missing)?;
    if !if_match(&found) {
        return Err(Problem::precondition_failed());
    }
    let before = Settings {
        url: found.url.clone(),
        events: found.events.clone(),
        enabled: found.enabled,
    };
    let mut fields = Fields::new();
    let asked = merge_patch::merged(&before, patch, "", &mut fields)?;
    if let Some(asked) = &asked {
        check(app, &asked.url, &asked.events, &mut fields);
    }
    fields.finish()?;
    let asked = asked.ok_or_else(|| Failure::invalid_request("The change is not understood"))?;
    let after = Settings {
        events: once_each(&asked.events),
        ..asked
    };
    if after == before {
        return Ok(found);
    }
    webhooks::update(&mut transaction, id, &after.url, &after.events, after.enabled).await?;
    let changes = json!({ "from": before, "to": after });
    record(&mut transaction, app, caller, &found, "webhook.update", changes).await?;
    let changed = webhooks::find(&mut transaction, workspace, id).await?;
    transaction.commit().await?;
    changed.ok_or_else(missing)
}

/// Gives an endpoint a new secret; the old one signs beside it for the overlap.
pub async fn rotate(
    app: &App,
    caller: &Caller,
    workspace: WorkspaceId,
    id: WebhookId,
    overlap: Duration,
) -> Outcome<SecretString> {
    let mut transaction = app.pool().begin().await?;
    identity::workspace(&mut transaction, caller, workspace, Action::ChangeApplications).await?;
    let mut fields = Fields::new();
    fields.require(
        (Duration::ZERO..=OVERLAP_MAX).contains(&overlap),
        "overlapSeconds",
        "must be from 0 to 604800 (7 days)",
    );
    fields.finish()?;
    let endpoint = webhooks::lock(&mut transaction, workspace, id)
        .await?
        .ok_or_else(missing)?;
    let secret = signature::new_secret(app.entropy());
    let sealed = seal(app, id, &secret)?;
    webhooks::rotate(&mut transaction, id, &sealed, app.clock().now() + overlap).await?;
    record(
        &mut transaction,
        app,
        caller,
        &endpoint,
        "webhook.rotate_secret",
        json!({}),
    )
    .await?;
    transaction.commit().await?;
    Ok(secret)
}

/// Takes an endpoint away.
pub async fn remove(app: &App, caller: &Caller, workspace: WorkspaceId, id: WebhookId) -> Outcome<()> {
    let mut transaction = app.pool().begin().await?;
    identity::workspace(&mut transaction, caller, workspace, Action::ChangeApplications).await?;
    let endpoint = webhooks::lock(&mut transaction, workspace, id)
        .await?
        .ok_or_else(missing)?;
    webhooks::remove(&mut transaction, workspace, id).await?;
    let changes = json!({ "url": endpoint.url });
    record(&mut transaction, app, caller, &endpoint, "webhook.remove", changes).await?;
    transaction.commit().await?;
    Ok(())
}

/// Delivers a message once more, and returns the new delivery.
pub async fn replay(app: &App, caller: &Caller, workspace: WorkspaceId, id: WebhookId, delivery: i64) -> Outcome<i64> {
    let mut transaction = app.pool().begin().await?;
    identity::workspace(&mut transaction, caller, workspace, Action::ChangeApplications).await?;
    let endpoint = webhooks::lock(&mut transaction, workspace, id)
        .await?
        .ok_or_else(missing)?;
    let replayed = webhooks::replay(&mut transaction, id, delivery, app.clock().now()).await?;
    let replayed = replayed.ok_or_else(|| Failure::not_found("The endpoint has no such delivery"))?;
    let changes = json!({ "delivery": delivery });
    record(&mut transaction, app, caller, &endpoint, "webhook.replay", changes).await?;
    transaction.commit().await?;
    Ok(replayed)
}

/// What a team changes of an endpoint.
#[derive(Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Settings {
    url: String,
    #[serde(default)]
    events: Vec<String>,
    #[serde(default = "yes")]
    enabled: bool,
}

fn yes() -> bool {
    true
}

fn check(app: &App, url: &str, events: &[String], fields: &mut Fields) {
    fields.take("url", app.webhooks().accepts(url));
    for (position, event) in events.iter().enumerate() {
        let known = EVENTS.contains(&event.as_str());
        let expected = format!("must be one of {}", EVENTS.join(", "));
        fields.require(known, &format!("events[{position}]"), &expected);
    }
}

/// An event that is named twice is sent once.
fn once_each(events: &[String]) -> Vec<String> {
    let mut kept: Vec<String> = Vec::new();
    for event in events {
        if !kept.contains(event) {
            kept.push(event.clone());
        }
    }
    kept
}

fn seal(app: &App, id: WebhookId, secret: &SecretString) -> Outcome<Vec<u8>> {
    let ring = app
        .ring()
        .ok_or_else(|| Problem::busy("Webhooks need encryption.key, which is not configured", "encryption"))?;
    let row = id.to_string();
    let aad = Aad {
        table_column: SECRET,
        row: &row,
    };
    Ok(ring.seal(aad, secret.expose_secret().as_bytes(), app.entropy()))
}

async fn record(
    connection: &mut PgConnection,
    app: &App,
    caller: &Caller,
    endpoint: &Endpoint,
    action: &'static str,
    changes: Value,
) -> Outcome<()> {
    let deed = Deed::of_webhook(
        action,
        endpoint.workspace_id,
        endpoint.application_id,
        endpoint.id,
        changes,
    );
    audit::record(connection, app, &caller.actor, &deed).await
}

fn missing() -> Problem {
    Failure::not_found("Webhook endpoint not found").into()
}
