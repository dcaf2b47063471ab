//! Accounts: sign up, confirm the address, choose another password.

use axum::Json as Answer;
use axum::extract::State;
use http::StatusCode;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::fault::{ErrorEnvelope, Refusals};
use crate::command::account::{self, NewAccount};
use crate::error::Outcome;
use crate::identity::{Actor, Person};
use crate::server::body::Json;
use crate::state::App;

/// A new account.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SignUp {
    #[schema(format = "email", max_length = 254, example = "ada@example.com")]
    email: String,
    #[schema(min_length = 1, max_length = 200, example = "Ada Lovelace")]
    name: String,
    #[schema(value_type = String, format = "password", min_length = 8, max_length = 1024)]
    password: SecretString,
}

/// Whose password is forgotten.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ForgotPassword {
    #[schema(format = "email", max_length = 254, example = "ada@example.com")]
    email: String,
}

/// What the link of a letter holds.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct VerifyEmail {
    #[schema(value_type = String, format = "password", max_length = 2048)]
    token: SecretString,
}

/// What the link of a letter holds, and the new password.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ResetPassword {
    #[schema(value_type = String, format = "password", max_length = 2048)]
    token: SecretString,
    #[schema(value_type = String, format = "password", min_length = 8, max_length = 1024)]
    password: SecretString,
}

/// The present and the new password.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ChangePassword {
    #[schema(value_type = String, format = "password", max_length = 1024)]
    password: SecretString,
    #[schema(value_type = String, format = "password", min_length = 8, max_length = 1024)]
    new_password: SecretString,
}

/// The same, whatever there is at the address.
#[derive(Serialize, ToSchema)]
pub(super) struct Posted {
    /// For people.
    message: &'static str,
}

type Accepted = (StatusCode, Answer<Posted>);

fn posted(message: &'static str) -> Accepted {
    (StatusCode::ACCEPTED, Answer(Posted { message }))
}

/// Signs up
///
/// The answer is the same whether or not the address has an account; a letter to it says more.
#[utoipa::path(post, path = "/auth/signup", tag = "auth", operation_id = "signUp", security(()),
    request_body = SignUp, responses((status = 202, body = Posted), Refusals))]
pub(super) async fn sign_up(State(app): State<App>, actor: Actor, Json(body): Json<SignUp>) -> Outcome<Accepted> {
    let new = NewAccount {
        email: &body.email,
        name: &body.name,
        password: body.password,
    };
    account::sign_up(&app, &actor, new).await?;
    Ok(posted("A letter is on its way to this address; follow its link"))
}

/// Confirms an e-mail address by the link that was sent to it
#[utoipa::path(post, path = "/auth/verify-email", tag = "auth", operation_id = "verifyEmail", security(()),
    request_body = VerifyEmail, responses((status = 204, description = "The address is confirmed"), Refusals))]
pub(super) async fn verify_email(
    State(app): State<App>,
    actor: Actor,
    Json(body): Json<VerifyEmail>,
) -> Outcome<StatusCode> {
    account::confirm(&app, &actor, secrecy::ExposeSecret::expose_secret(&body.token)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Sends the link to confirm the caller's address again
#[utoipa::path(post, path = "/auth/verify-email/resend", tag = "auth", operation_id = "resendVerification",
    security(("bearer" = [])), responses((status = 202, body = Posted), Refusals))]
pub(super) async fn resend(State(app): State<App>, Person(caller): Person) -> Outcome<Accepted> {
    account::send_confirmation(&app, &caller).await?;
    Ok(posted(
        "If the address is not confirmed yet, a letter is on its way to it",
    ))
}

/// Sends a link to choose another password
///
/// The answer is the same whether or not the address has an account.
#[utoipa::path(post, path = "/auth/forgot-password", tag = "auth", operation_id = "forgotPassword", security(()),
    request_body = ForgotPassword, responses((status = 202, body = Posted), Refusals))]
pub(super) async fn forgot_password(
    State(app): State<App>,
    actor: Actor,
    Json(body): Json<ForgotPassword>,
) -> Outcome<Accepted> {
    account::forgotten(&app, &actor, &body.email).await?;
    Ok(posted("If this address has an account, a letter is on its way to it"))
}

/// Chooses another password by the link that was sent
///
/// Every session of the account ends.
#[utoipa::path(post, path = "/auth/reset-password", tag = "auth", operation_id = "resetPassword", security(()),
    request_body = ResetPassword,
    responses((status = 204, description = "The password is the new one, and every session has ended"), Refusals))]
pub(super) async fn reset_password(
    State(app): State<App>,
    actor: Actor,
    Json(body): Json<ResetPassword>,
) -> Outcome<StatusCode> {
    let token = secrecy::ExposeSecret::expose_secret(&body.token);
    account::reset(&app, &actor, token, body.password).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Changes the caller's password
///
/// Every other session of the account ends.
#[utoipa::path(post, path = "/auth/change-password", tag = "auth", operation_id = "changePassword",
    security(("bearer" = [])), request_body = ChangePassword,
    responses((status = 204, description = "The password is the new one, and every other session has ended"), Refusals,
        (status = 403, body = ErrorEnvelope, description = "The present password is not right")))]
pub(super) async fn change_password(
    State(app): State<App>,
    Person(caller): Person,
    Json(body): Json<ChangePassword>,
) -> Outcome<StatusCode> {
    account::change(&app, &caller, body.password, body.new_password).await?;
    Ok(StatusCode::NO_CONTENT)
}
