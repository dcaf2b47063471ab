//! Making and revoking API keys.

use authsome_core::{
    error::Failure,
    id::{Application as ApplicationKind, Key as KeyKind, KeyId},
    key::KeyType,
};
use axum::{
    extract::State,
    response::{IntoResponse, Redirect, Response},
};
use http::StatusCode;
use serde::Deserialize;

use super::{
    applications::{created_before, page},
    form::Form,
    page::{Page, shown_again},
    visitor::Visitor,
};
use crate::{
    command::{
        application::ALREADY_CREATED,
        key::{self, NewKey},
    },
    error::{Outcome, Problem},
    server::extract::{PathId, PathIds},
    state::App,
};

#[derive(Deserialize)]
pub(super) struct NewKeyForm {
    csrf: String,
    /// Made with the form, so that sending it again makes nothing more.
    id: KeyId,
    name: String,
    #[serde(rename = "type")]
    key_type: String,
}

#[derive(Deserialize)]
pub(super) struct RevokeForm {
    csrf: String,
}

pub(super) async fn create(
    State(app): State<App>,
    visitor: Visitor,
    PathId(application): PathId<ApplicationKind>,
    Form(form): Form<NewKeyForm>,
) -> Outcome<Response> {
    visitor.check_form(&form.csrf)?;
    let created = match form.key_type.parse::<KeyType>() {
        Ok(key_type) => {
            let new = NewKey {
                name: &form.name,
                key_type,
                scopes: None,
                expires_at: None,
                networks: &[],
                origins: &[],
            };
            key::create_once(&app, &visitor.caller, application, form.id, new).await
        }
        Err(_) => Err(Problem::from(Failure::invalid_request("Choose a type"))),
    };
    match created {
        Ok(created) => {
            let fresh = vec![(created.name, created.key.expose().to_owned())];
            let page = page(&app, &visitor, application, fresh, None).await?;
            Ok((StatusCode::CREATED, Page(page)).into_response())
        }
        Err(problem) if problem.failure().reason() == Some(ALREADY_CREATED) => Ok(created_before(application)),
        Err(problem) => {
            let (status, error) = shown_again(problem)?;
            Ok((
                status,
                Page(page(&app, &visitor, application, Vec::new(), Some(error)).await?),
            )
                .into_response())
        }
    }
}

/// The address of a page that shows a new key, asked for anew: the key is not shown again.
pub(super) async fn shown(PathId(application): PathId<ApplicationKind>) -> Redirect {
    Redirect::to(&format!("/applications/{application}"))
}

pub(super) async fn revoke(
    State(app): State<App>,
    visitor: Visitor,
    PathIds(application, key): PathIds<ApplicationKind, KeyKind>,
    Form(form): Form<RevokeForm>,
) -> Outcome<Response> {
    visitor.check_form(&form.csrf)?;
    key::revoke(&app, &visitor.caller, application, key).await?;
    Ok(Redirect::to(&format!("/applications/{application}")).into_response())
}
