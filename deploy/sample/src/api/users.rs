//! Users: the caller's own profile, and the listing for servers (whose right to it the platform's edge has proved).

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use serde::Deserialize;
use serde_json::{Value, json};

use super::caller::Caller;
use crate::db::users::{self, User};
use crate::error::ApiError;
use crate::state::Instance;

/// `GET /v1/me`
pub(crate) async fn me(
    State(instance): State<Arc<Instance>>,
    Caller(session): Caller,
) -> Result<Json<Value>, ApiError> {
    Ok(Json(
        json!({ "user": users::get(instance.database()?, &session.user_id).await? }),
    ))
}

/// Which page. Kept as text so that a bad number is refused in the shape of every other error.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Page {
    page: Option<String>,
    page_size: Option<String>,
}

/// `GET /users`
pub(crate) async fn list(
    State(instance): State<Arc<Instance>>,
    Query(query): Query<Page>,
) -> Result<Json<Value>, ApiError> {
    let page = number("page", query.page.as_deref(), 1, 1_000_000)?;
    let page_size = number("pageSize", query.page_size.as_deref(), 20, 100)?;
    let (users, total) = users::page(instance.database()?, (page - 1) * page_size, page_size).await?;
    Ok(Json(
        json!({ "data": users, "total": total, "page": page, "pageSize": page_size }),
    ))
}

/// `GET /users/{id}`
pub(crate) async fn get(State(instance): State<Arc<Instance>>, Path(id): Path<String>) -> Result<Json<User>, ApiError> {
    Ok(Json(users::get(instance.database()?, &id).await?))
}

fn number(name: &str, text: Option<&str>, default: i64, most: i64) -> Result<i64, ApiError> {
    let Some(text) = text else { return Ok(default) };
    let value = text.parse().ok().filter(|value| (1..=most).contains(value));
    value.ok_or_else(|| ApiError::BadRequest(format!("{name} must be a number from 1 to {most}")))
}
