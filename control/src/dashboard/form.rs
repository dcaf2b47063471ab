//! Bodies of HTML forms, with the origin check that every form needs.

use authsome_core::error::Failure;
use axum::extract::{FromRequest, Request};
use serde::de::DeserializeOwned;

use super::visitor::check_origin;
use crate::{
    error::{Outcome, Problem},
    state::App,
};

/// A form that was sent from one of our own pages.
#[derive(Debug)]
pub(super) struct Form<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<App> for Form<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Outcome<Self> {
        check_origin(request.headers(), app)?;
        match axum::extract::Form::from_request(request, app).await {
            Ok(axum::extract::Form(form)) => Ok(Self(form)),
            Err(rejection) => Err(
                Failure::invalid_request("The form could not be read; open the page again")
                    .with_internal(rejection)
                    .into(),
            ),
        }
    }
}
