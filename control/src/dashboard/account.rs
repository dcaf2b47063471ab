//! The pages behind the links of letters, and signing up.
//!
//! A link only shows a form: programs that look at links before people do must not use them up.

use askama::Template;
use authsome_core::error::ErrorCode;
use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::{
    form::Form,
    page::{Frame, Page, shown_again},
};
use crate::{
    command::account::{self, NewAccount},
    error::{Outcome, Problem},
    identity::Actor,
    server::extract::Query,
    state::App,
};

#[derive(Template)]
#[template(path = "notice.html")]
struct NoticePage {
    frame: Frame,
    title: &'static str,
    message: &'static str,
    to: &'static str,
    label: &'static str,
}

#[derive(Template)]
#[template(path = "sign_up.html")]
struct SignUpPage {
    frame: Frame,
    name: String,
    email: String,
    error: Option<String>,
}

#[derive(Template)]
#[template(path = "verify_email.html")]
struct VerifyPage {
    frame: Frame,
    token: String,
    error: Option<String>,
}

#[derive(Template)]
#[template(path = "forgot_password.html")]
struct ForgotPage {
    frame: Frame,
    email: String,
    error: Option<String>,
}

#[derive(Template)]
#[template(path = "reset_password.html")]
struct ResetPage {
    frame: Frame,
    token: String,
    error: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Linked {
    #[serde(default)]
    pub(super) token: String,
}

#[derive(Deserialize)]
pub(super) struct SignUp {
    name: String,
    email: String,
    password: SecretString,
}

#[derive(Deserialize)]
pub(super) struct Token {
    token: SecretString,
}

#[derive(Deserialize)]
pub(super) struct Forgotten {
    email: String,
}

#[derive(Deserialize)]
pub(super) struct Reset {
    token: SecretString,
    password: SecretString,
}

fn notice(title: &'static str, message: &'static str) -> Response {
    Page(NoticePage {
        frame: Frame::default(),
        title,
        message,
        to: "/login",
        label: "Sign in",
    })
    .into_response()
}

/// The answer to a form that worked, or the form again with what was wrong.
fn answer<T: Template>(
    outcome: Outcome<()>,
    done: (&'static str, &'static str),
    again: impl FnOnce(String) -> T,
) -> Outcome<Response> {
    match outcome {
        Ok(()) => Ok(notice(done.0, done.1)),
        Err(problem) => {
            let (status, error) = refused(problem)?;
            Ok((status, Page(again(error))).into_response())
        }
    }
}

pub(super) fn refused(problem: Problem) -> Outcome<(http::StatusCode, String)> {
    // What is wrong with a link is said in a sentence of its own, without the name of a field.
    let reason = problem.failure().reason();
    if problem.failure().code() == ErrorCode::InvalidRequest && reason.is_some() {
        return Ok((problem.status(), problem.failure().public_message().to_owned()));
    }
    shown_again(problem)
}

pub(super) async fn sign_up_form() -> Response {
    Page(SignUpPage {
        frame: Frame::default(),
        name: String::new(),
        email: String::new(),
        error: None,
    })
    .into_response()
}

pub(super) async fn sign_up(State(app): State<App>, actor: Actor, Form(form): Form<SignUp>) -> Outcome<Response> {
    let new = NewAccount {
        email: &form.email,
        name: &form.name,
        password: form.password,
    };
    let outcome = account::sign_up(&app, &actor, new).await;
    let done = (
        "Look into your mail",
        "A letter is on its way to this address. Follow its link to confirm the address.",
    );
    answer(outcome, done, |error| SignUpPage {
        frame: Frame::default(),
        name: form.name,
        email: form.email,
        error: Some(error),
    })
}

pub(super) async fn verify_form(Query(linked): Query<Linked>) -> Response {
    Page(VerifyPage {
        frame: Frame::default(),
        token: linked.token,
        error: None,
    })
    .into_response()
}

pub(super) async fn verify(State(app): State<App>, actor: Actor, Form(form): Form<Token>) -> Outcome<Response> {
    let outcome = account::confirm(&app, &actor, form.token.expose_secret()).await;
    let done = ("Address confirmed", "Thank you: this address is confirmed.");
    answer(outcome, done, |error| VerifyPage {
        frame: Frame::default(),
        token: String::new(),
        error: Some(error),
    })
}

pub(super) async fn forgot_form() -> Response {
    Page(ForgotPage {
        frame: Frame::default(),
        email: String::new(),
        error: None,
    })
    .into_response()
}

pub(super) async fn forgot(State(app): State<App>, actor: Actor, Form(form): Form<Forgotten>) -> Outcome<Response> {
    let outcome = account::forgotten(&app, &actor, &form.email).await;
    let done = (
        "Look into your mail",
        "If this address has an account, a letter with a link is on its way to it.",
    );
    answer(outcome, done, |error| ForgotPage {
        frame: Frame::default(),
        email: form.email,
        error: Some(error),
    })
}

pub(super) async fn reset_form(Query(linked): Query<Linked>) -> Response {
    Page(ResetPage {
        frame: Frame::default(),
        token: linked.token,
        error: None,
    })
    .into_response()
}

pub(super) async fn reset(State(app): State<App>, actor: Actor, Form(form): Form<Reset>) -> Outcome<Response> {
    let outcome = account::reset(&app, &actor, form.token.expose_secret(), form.password).await;
    let done = ("Password set", "Sign in with your new password.");
    answer(outcome, done, |error| ResetPage {
        frame: Frame::default(),
        token: form.token.expose_secret().to_owned(),
        error: Some(error),
    })
}
