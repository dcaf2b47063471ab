//! The page behind the link of an invitation. Whoever is not signed in does that first.

use askama::Template;
use axum::{
    extract::State,
    response::{IntoResponse, Redirect, Response},
};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::{
    account::{Linked, refused},
    form::Form,
    page::{Frame, Page},
    visitor::Visitor,
};
use crate::{command::member, error::Outcome, server::extract::Query, state::App};

#[derive(Template)]
#[template(path = "invitation.html")]
struct InvitationPage {
    frame: Frame,
    token: String,
    error: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Acceptance {
    csrf: String,
    token: SecretString,
}

pub(super) async fn form(visitor: Visitor, Query(linked): Query<Linked>) -> Response {
    Page(InvitationPage {
        frame: Frame::of(&visitor),
        token: linked.token,
        error: None,
    })
    .into_response()
}

pub(super) async fn accept(
    State(app): State<App>,
    visitor: Visitor,
    Form(form): Form<Acceptance>,
) -> Outcome<Response> {
    visitor.check_form(&form.csrf)?;
    match member::accept(&app, &visitor.caller, form.token.expose_secret()).await {
        Ok(workspace) => Ok(Redirect::to(&format!("/workspaces/{}", workspace.id)).into_response()),
        Err(problem) => {
            let (status, error) = refused(problem)?;
            let page = InvitationPage {
                frame: Frame::of(&visitor),
                token: String::new(),
                error: Some(error),
            };
            Ok((status, Page(page)).into_response())
        }
    }
}
