//! JSON bodies whose refusals have the shape of every other error.

use axum::extract::{FromRequest, Request};
use serde::de::DeserializeOwned;

use crate::error::ApiError;

/// A JSON body.
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let body = axum::Json::from_request(request, state).await;
        body.map(|axum::Json(value)| Self(value))
            .map_err(|refused| ApiError::BadRequest(refused.body_text()))
    }
}
