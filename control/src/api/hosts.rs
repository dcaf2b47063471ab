//! Host names of an application.

use authsome_core::id::Application;
use axum::Json as Answer;
use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::fault::{ErrorEnvelope, Refusals};
use super::page::{Listing, Page, PageQuery};
use crate::command::host;
use crate::db::hosts;
use crate::error::Outcome;
use crate::identity::{self, Action, Caller};
use crate::server::body::Json;
use crate::server::extract::{PathId, PathIdName};
use crate::state::App;
use crate::tasks::host_checks::GRACE;

/// A host name to lead to the application.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AddHost {
    /// Without scheme, port and path.
    #[schema(min_length = 3, max_length = 253, example = "login.example.com")]
    host: String,
}

/// A host name of an application.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_field_names, reason = "the names of the API")]
pub(super) struct Host {
    #[schema(example = "login.example.com")]
    host: String,
    /// `pending`: the record was not found yet. `verified`: requests for the name go to the application.
    #[schema(value_type = crate::names::HostStatus)]
    status: &'static str,
    record: ChallengeRecord,
    #[serde(with = "time::serde::rfc3339::option")]
    verified_at: Option<OffsetDateTime>,
    /// Since when the record of a verified name is not found any more.
    #[serde(with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    record_missing_since: Option<OffsetDateTime>,
    /// When the name stops leading to the application, unless the record is published again before.
    #[serde(with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    stops_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
}

/// What to publish in the DNS to prove that the name is yours.
#[derive(Debug, Serialize, ToSchema)]
struct ChallengeRecord {
    #[serde(rename = "type")]
    #[schema(example = "TXT")]
    record_type: &'static str,
    #[schema(example = "_authsome-challenge.login.example.com")]
    name: String,
    #[schema(example = "authsome-host-verification=m2xDwnqNGD0nVbWm3CBVdDmCLuyWQjJF")]
    value: String,
}

impl From<hosts::Host> for Host {
    fn from(row: hosts::Host) -> Self {
        Self {
            status: if row.verified_at.is_some() {
                "verified"
            } else {
                "pending"
            },
            record: ChallengeRecord {
                record_type: "TXT",
                name: host::record_name(&row.host),
                value: host::record_value(&row.challenge),
            },
            host: row.host,
            verified_at: row.verified_at,
            record_missing_since: row.missing_since,
            stops_at: row.missing_since.map(|since| since + GRACE),
            created_at: row.created_at,
        }
    }
}

/// Claims a host name for an application
///
/// Publish the TXT record of the answer, then verify the name. Claiming a name again answers 200 with the same record.
#[utoipa::path(post, path = "/applications/{applicationId}/hosts", tag = "hosts", operation_id = "addHost",
    security(("bearer" = [])), params(("applicationId" = String, Path)), request_body = AddHost,
    responses((status = 201, body = Host), (status = 200, body = Host, description = "The application has or claims it already"),
        Refusals,
        (status = 403, body = ErrorEnvelope, description = "The caller's role does not allow it, or there are too many names"),
        (status = 404, body = ErrorEnvelope, description = "There is no such application, or the caller is no member"),
        (status = 409, body = ErrorEnvelope, description = "The application is being deleted")))]
pub(super) async fn add(
    State(app): State<App>,
    caller: Caller,
    PathId(application): PathId<Application>,
    Json(body): Json<AddHost>,
) -> Outcome<(StatusCode, Answer<Host>)> {
    let (claimed, new) = host::claim(&app, &caller, application, &body.host).await?;
    let status = if new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Answer(claimed.into())))
}

/// The host names of an application, by name
#[utoipa::path(get, path = "/applications/{applicationId}/hosts", tag = "hosts", operation_id = "listHosts",
    security(("bearer" = [])), params(("applicationId" = String, Path), PageQuery),
    responses((status = 200, body = Page<Host>), Refusals,
        (status = 404, body = ErrorEnvelope, description = "There is no such application, or the caller is no member")))]
pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    PathId(application): PathId<Application>,
    Listing { window, .. }: Listing,
) -> Outcome<Answer<Page<Host>>> {
    let mut connection = app.pool().acquire().await?;
    identity::application(&mut connection, &caller, application, Action::ReadApplications).await?;
    let rows = hosts::of_application(&mut connection, application, window.limit(), window.offset()).await?;
    Ok(Answer(window.of(rows)))
}

/// Looks for the record in the DNS, and leads the name to the application where it is found
#[utoipa::path(post, path = "/applications/{applicationId}/hosts/{host}/verify", tag = "hosts", operation_id = "verifyHost",
    security(("bearer" = [])), params(("applicationId" = String, Path), ("host" = String, Path)),
    responses((status = 200, body = Host), Refusals,
        (status = 403, body = ErrorEnvelope, description = "The caller's role does not allow it"),
        (status = 404, body = ErrorEnvelope, description = "The application has no such name, or the caller is no member"),
        (status = 409, body = ErrorEnvelope, description =
            "The record was not found (`not_verified`), another application proves the name as well (`taken`), or the \
             application is being deleted")))]
pub(super) async fn verify(
    State(app): State<App>,
    caller: Caller,
    PathIdName(application, name): PathIdName<Application>,
) -> Outcome<Answer<Host>> {
    Ok(Answer(host::verify(&app, &caller, application, &name).await?.into()))
}

/// Gives a host name back
#[utoipa::path(delete, path = "/applications/{applicationId}/hosts/{host}", tag = "hosts", operation_id = "removeHost",
    security(("bearer" = [])), params(("applicationId" = String, Path), ("host" = String, Path)),
    responses((status = 204, description = "Requests for the name no longer go to the application"), Refusals,
        (status = 403, body = ErrorEnvelope, description = "The caller's role does not allow it"),
        (status = 404, body = ErrorEnvelope, description = "The application has no such name, or the caller is no member")))]
pub(super) async fn remove(
    State(app): State<App>,
    caller: Caller,
    PathIdName(application, name): PathIdName<Application>,
) -> Outcome<StatusCode> {
    host::remove(&app, &caller, application, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}
