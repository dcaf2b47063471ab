//! Letters to the people of a workspace about what happened in it.

use authsome_core::id::{ApplicationId, KeyId};
use sqlx::PgConnection;

use super::Words;
use super::quote::quoted;
use crate::command::host::{record_name, record_value};
use crate::db::{applications, hosts, keys, usage_thresholds};
use crate::error::Outcome;
use crate::state::App;

/// What was found, and where, is in the audit trail and not here: whoever reports a key must not be able to put an address of
/// their choice into a letter of ours.
pub(super) async fn key_leaked(connection: &mut PgConnection, app: &App, id: KeyId) -> Outcome<Option<Words>> {
    let Some(key) = keys::named(connection, id).await? else {
        return Ok(None);
    };
    let (name, application) = (quoted(&key.name), quoted(&key.application));
    Ok(Some(Words {
        subject: format!("A secret key of {application} was leaked and is revoked"),
        greeting: "Hello,".to_owned(),
        paragraphs: vec![
            format!(
                "somebody found the secret key {} ({}) of the application {} where it should not be, and reported it. It is \
                 revoked: whatever still uses it is refused.",
                name, key.masked, application
            ),
            "Create another key, put it where the old one was used, and see in the audit trail where it was found and what \
             it did lately."
                .to_owned(),
        ],
        action: Some((
            "Open the application",
            app.settings().application_page(key.application_id),
        )),
        note: "You get this letter as an owner or admin of the workspace.",
    }))
}

pub(super) async fn usage(
    connection: &mut PgConnection,
    app: &App,
    application: ApplicationId,
    period: &str,
    percent: i32,
) -> Outcome<Option<Words>> {
    let Some((requests, allowed)) = usage_thresholds::crossed(connection, application, period, percent).await? else {
        return Ok(None);
    };
    let Some(name) = applications::name(connection, application).await? else {
        return Ok(None);
    };
    let name = quoted(&name);
    let (subject, consequence) = if percent >= 100 {
        (
            format!("{name} has used up its requests of the month"),
            "Further requests are answered with 429 until the first of the next month (UTC), or until you choose a larger plan.",
        )
    } else {
        (
            format!("{name} has used {percent} % of its requests of the month"),
            "Once they are used up, further requests are answered with 429 until the first of the next month (UTC).",
        )
    };
    Ok(Some(Words {
        subject,
        greeting: "Hello,".to_owned(),
        paragraphs: vec![format!(
            "the application {name} has had {requests} of the {allowed} requests that it may have in {period}. {consequence}"
        )],
        action: Some(("Open the application", app.settings().application_page(application))),
        note: "You get this letter as somebody who looks after the workspace or its bills.",
    }))
}

pub(super) async fn host_record(
    connection: &mut PgConnection,
    app: &App,
    application: ApplicationId,
    host: &str,
    lost: bool,
) -> Outcome<Option<Words>> {
    let Some(name) = applications::name(connection, application).await? else {
        return Ok(None);
    };
    let name = quoted(&name);
    let Some(found) = hosts::find(connection, application, host).await? else {
        return Ok(None);
    };
    // Whatever was put right while the letter waited needs no letter.
    if lost == found.verified_at.is_some() || (!lost && found.missing_since.is_none()) {
        return Ok(None);
    }
    let (record, value) = (record_name(host), record_value(&found.challenge));
    let (subject, consequence) = if lost {
        (
            format!("{host} no longer leads to {name}"),
            "has been missing for seven days, so requests for the name are refused. Publish it again and verify the name.",
        )
    } else {
        (
            format!("The DNS record of {host} is missing"),
            "is not published any more. Publish it again within seven days; otherwise requests for the name will be refused.",
        )
    };
    Ok(Some(Words {
        subject,
        greeting: "Hello,".to_owned(),
        paragraphs: vec![
            format!("the TXT record that proves that {host} is yours {consequence}"),
            format!("Name: {record}"),
            format!("Value: {value}"),
        ],
        action: Some(("Open the application", app.settings().application_page(application))),
        note: "You get this letter as an owner or admin of the workspace.",
    }))
}
