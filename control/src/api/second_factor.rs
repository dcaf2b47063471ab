//! The second factor of the caller's account.

use axum::Json as Answer;
use axum::extract::State;
use http::StatusCode;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::fault::{ErrorEnvelope, Refusals};
use crate::command::account;
use crate::error::Outcome;
use crate::identity::Person;
use crate::server::body::Json;
use crate::state::App;

/// The caller's password.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BeginSecondFactor {
    #[schema(value_type = String, format = "password", max_length = 1024)]
    password: SecretString,
}

/// A code of the authenticator, or a recovery code.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SecondFactorCode {
    #[schema(value_type = String, max_length = 64, example = "123456")]
    code: SecretString,
}

/// For the authenticator. Shown here and never again.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct SecondFactorSecret {
    /// To be typed.
    secret: String,
    /// To be shown as a picture.
    otpauth_url: String,
}

/// For when the device is gone, each good once. Shown here and never again.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct RecoveryCodes {
    recovery_codes: Vec<String>,
}

/// Begins to switch the second factor on
///
/// Time-based codes (RFC 6238). It is asked for once a first code has confirmed it.
#[utoipa::path(post, path = "/auth/second-factor", tag = "auth", operation_id = "beginSecondFactor",
    security(("bearer" = [])), request_body = BeginSecondFactor, responses((status = 200, body = SecondFactorSecret), Refusals,
        (status = 403, body = ErrorEnvelope, description = "The password is wrong, or the address is not confirmed"),
        (status = 409, body = ErrorEnvelope, description = "The second factor is on")))]
pub(super) async fn begin(
    State(app): State<App>,
    Person(caller): Person,
    Json(body): Json<BeginSecondFactor>,
) -> Outcome<Answer<SecondFactorSecret>> {
    let begun = account::second_factor::begin(&app, &caller, body.password).await?;
    Ok(Answer(SecondFactorSecret {
        secret: begun.secret.expose_secret().to_owned(),
        otpauth_url: begun.address.expose_secret().to_owned(),
    }))
}

/// Switches the second factor on by a first code
#[utoipa::path(post, path = "/auth/second-factor/confirm", tag = "auth", operation_id = "confirmSecondFactor",
    security(("bearer" = [])), request_body = SecondFactorCode, responses((status = 200, body = RecoveryCodes), Refusals,
        (status = 403, body = ErrorEnvelope, description = "The code is wrong"),
        (status = 409, body = ErrorEnvelope, description = "It is on, or was not begun"),
        (status = 429, body = ErrorEnvelope, description = "Too many wrong codes")))]
pub(super) async fn confirm(
    State(app): State<App>,
    Person(caller): Person,
    Json(body): Json<SecondFactorCode>,
) -> Outcome<Answer<RecoveryCodes>> {
    let recovery_codes = account::second_factor::confirm(&app, &caller, body.code.expose_secret()).await?;
    Ok(Answer(RecoveryCodes { recovery_codes }))
}

/// Switches the second factor off by a code
#[utoipa::path(post, path = "/auth/second-factor/remove", tag = "auth", operation_id = "removeSecondFactor",
    security(("bearer" = [])), request_body = SecondFactorCode,
    responses((status = 204, description = "A sign-in needs the password alone"), Refusals,
        (status = 403, body = ErrorEnvelope, description = "The code is wrong"),
        (status = 409, body = ErrorEnvelope, description = "The second factor is off"),
        (status = 429, body = ErrorEnvelope, description = "Too many wrong codes")))]
pub(super) async fn remove(
    State(app): State<App>,
    Person(caller): Person,
    Json(body): Json<SecondFactorCode>,
) -> Outcome<StatusCode> {
    account::second_factor::remove(&app, &caller, body.code.expose_secret()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Replaces the recovery codes, by a code
#[utoipa::path(post, path = "/auth/second-factor/recovery-codes", tag = "auth", operation_id = "renewRecoveryCodes",
    security(("bearer" = [])), request_body = SecondFactorCode, responses((status = 200, body = RecoveryCodes), Refusals,
        (status = 403, body = ErrorEnvelope, description = "The code is wrong"),
        (status = 409, body = ErrorEnvelope, description = "The second factor is off"),
        (status = 429, body = ErrorEnvelope, description = "Too many wrong codes")))]
pub(super) async fn renew(
    State(app): State<App>,
    Person(caller): Person,
    Json(body): Json<SecondFactorCode>,
) -> Outcome<Answer<RecoveryCodes>> {
    let recovery_codes = account::second_factor::renew_codes(&app, &caller, body.code.expose_secret()).await?;
    Ok(Answer(RecoveryCodes { recovery_codes }))
}
