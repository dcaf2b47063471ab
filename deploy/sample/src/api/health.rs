//! Health: whether the instance's database answers.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use crate::db;
use crate::error::ApiError;
use crate::state::Instance;

/// `GET /v1/health`
pub(crate) async fn health(State(instance): State<Arc<Instance>>) -> Result<Json<Value>, ApiError> {
    db::ping(instance.database()?).await?;
    Ok(Json(json!({ "status": "healthy" })))
}
