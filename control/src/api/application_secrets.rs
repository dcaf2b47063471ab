//! Secrets of an application: set and removed, listed by name, and never shown.

use authsome_core::id::{Application, OperationId};
use authsome_db::application_secret::{self as rows, Listed};
use axum::Json as Answer;
use axum::extract::State;
use secrecy::SecretString;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::fault::{ErrorEnvelope, Refusals};
use super::page::{Listing, Page, PageQuery};
use crate::command::application::secret;
use crate::error::Outcome;
use crate::identity::{self, Action, Caller};
use crate::server::body::Json;
use crate::server::extract::{PathId, PathIdName};
use crate::state::App;

/// The value of a secret.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SetSecret {
    /// Never shown again. At most 8 KiB, without U+0000.
    #[serde(deserialize_with = "text")]
    #[schema(value_type = String, min_length = 1, max_length = 8192, write_only, example = "re_123456789")]
    value: SecretString,
}

/// What the reader of JSON says of another type repeats it.
fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretString, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::String(text) => Ok(text.into()),
        _ => Err(D::Error::custom("must be a string")),
    }
}

/// A secret without its value.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ApplicationSecret {
    /// The environment variable of the instance.
    #[schema(example = "MAILER_RESEND_API_KEY")]
    name: String,
    /// The end of a long key, by which to know it again; `null` for what is shorter or has spaces.
    #[schema(example = "6789")]
    last_four: Option<String>,
    #[serde(with = "time::serde::rfc3339")]
    set_at: OffsetDateTime,
}

/// A secret that was set.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct SecretAnswer {
    #[serde(flatten)]
    secret: ApplicationSecret,
    /// What brings it to the instances; `null` where none is to run.
    #[schema(value_type = Option<String>)]
    operation_id: Option<OperationId>,
}

/// A secret that was removed.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct SecretRemoved {
    /// What takes it from the instances; `null` where none is to run.
    #[schema(value_type = Option<String>)]
    operation_id: Option<OperationId>,
}

impl From<Listed> for ApplicationSecret {
    fn from(row: Listed) -> Self {
        Self {
            name: row.name,
            last_four: row.last_four,
            set_at: row.set_at,
        }
    }
}

/// The secrets of an application, by name, without their values
#[utoipa::path(get, path = "/applications/{applicationId}/secrets", tag = "secrets", operation_id = "listApplicationSecrets",
    security(("bearer" = [])), params(("applicationId" = String, Path), PageQuery),
    responses((status = 200, body = Page<ApplicationSecret>), Refusals,
        (status = 403, body = ErrorEnvelope, description = "The caller's role does not allow it"),
        (status = 404, body = ErrorEnvelope, description = "There is no such application, or the caller is no member")))]
pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    PathId(application): PathId<Application>,
    Listing { window, .. }: Listing,
) -> Outcome<Answer<Page<ApplicationSecret>>> {
    let mut connection = app.pool().acquire().await?;
    identity::application(&mut connection, &caller, application, Action::ReadSecrets).await?;
    Ok(Answer(window.cut(rows::list(&mut connection, application).await?)))
}

/// Sets a secret of an application
///
/// It is sealed at once and cannot be read again; a value that was there is replaced. The instances get it as an environment
/// variable by a rollout, while the application goes on serving.
#[utoipa::path(put, path = "/applications/{applicationId}/secrets/{secretName}", tag = "secrets",
    operation_id = "setApplicationSecret", security(("bearer" = [])),
    params(("applicationId" = String, Path), ("secretName" = String, Path, description =
        "`MAILER_SMTP_PASSWORD`, `MAILER_RESEND_API_KEY`, `SMS_TWILIO_AUTH_TOKEN`, `SOCIAL_APPLE_PRIVATE_KEY`, \
         `SSO_OIDC_CLIENT_SECRET`, `SSO_SAML_PRIVATE_KEY`, `SOCIAL_…_CLIENT_SECRET` of `APPLE`, `DISCORD`, `FACEBOOK`, `GITHUB`, \
         `GITLAB`, `GOOGLE`, `LINKEDIN`, `MICROSOFT`, `SLACK`, `TWITTER`; or `CUSTOM_` and up to 57 of `A-Z0-9_`",
        example = "MAILER_SMTP_PASSWORD")),
    request_body = SetSecret, responses((status = 200, body = SecretAnswer), Refusals,
        (status = 403, body = ErrorEnvelope, description = "The caller's role does not allow it, or there are 64 already"),
        (status = 404, body = ErrorEnvelope, description = "There is no such application, or the caller is no member"),
        (status = 409, body = ErrorEnvelope, description = "The application is being deleted")))]
pub(super) async fn set(
    State(app): State<App>,
    caller: Caller,
    PathIdName(application, name): PathIdName<Application>,
    Json(body): Json<SetSecret>,
) -> Outcome<Answer<SecretAnswer>> {
    let set = secret::set(&app, &caller, application, &name, &body.value).await?;
    Ok(Answer(SecretAnswer {
        secret: ApplicationSecret {
            name: set.name.to_string(),
            last_four: set.last_four,
            set_at: set.set_at,
        },
        operation_id: set.operation,
    }))
}

/// Removes a secret of an application
#[utoipa::path(delete, path = "/applications/{applicationId}/secrets/{secretName}", tag = "secrets",
    operation_id = "removeApplicationSecret", security(("bearer" = [])),
    params(("applicationId" = String, Path), ("secretName" = String, Path, example = "MAILER_SMTP_PASSWORD")),
    responses((status = 200, body = SecretRemoved), Refusals,
        (status = 403, body = ErrorEnvelope, description = "The caller's role does not allow it"),
        (status = 404, body = ErrorEnvelope, description = "The application has no such secret, or the caller is no member"),
        (status = 409, body = ErrorEnvelope, description = "The application is being deleted")))]
pub(super) async fn remove(
    State(app): State<App>,
    caller: Caller,
    PathIdName(application, name): PathIdName<Application>,
) -> Outcome<Answer<SecretRemoved>> {
    let operation_id = secret::remove(&app, &caller, application, &name).await?;
    Ok(Answer(SecretRemoved { operation_id }))
}
