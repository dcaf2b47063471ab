//! The caller's own sessions.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::caller::Caller;
use crate::db::sessions;
use crate::error::ApiError;
use crate::state::Instance;

/// `GET /v1/sessions`
pub(crate) async fn list(
    State(instance): State<Arc<Instance>>,
    Caller(current): Caller,
) -> Result<Json<Value>, ApiError> {
    let text = |at: OffsetDateTime| {
        at.format(&Rfc3339)
            .map_err(|error| ApiError::Internal(error.to_string()))
    };
    let sessions = sessions::of_user(instance.database()?, &current.user_id).await?;
    let ids: Vec<&str> = sessions.iter().map(|session| session.id.as_str()).collect();
    let seen = instance.presence.last_seen(&ids).await;
    let mut listed = Vec::with_capacity(sessions.len());
    for (session, seen) in sessions.iter().zip(seen) {
        let seen =
            seen.and_then(|millis| OffsetDateTime::from_unix_timestamp_nanos(i128::from(millis) * 1_000_000).ok());
        listed.push(json!({
            "id": session.id,
            "user_id": session.user_id,
            "current": session.id == current.id,
            "user_agent": session.user_agent,
            "ip_address": session.ip_address,
            "created_at": text(session.created_at)?,
            "expires_at": text(session.expires_at)?,
            "last_seen_at": seen.map(text).transpose()?,
        }));
    }
    Ok(Json(json!({ "sessions": listed })))
}

/// `DELETE /v1/sessions/{id}`
pub(crate) async fn end(
    State(instance): State<Arc<Instance>>,
    Caller(current): Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    if !sessions::delete(instance.database()?, &current.user_id, &id).await? {
        return Err(ApiError::NotFound);
    }
    instance.presence.forget(&id).await;
    Ok(StatusCode::NO_CONTENT)
}
