//! Reflects a request as it arrived, so that a test sees what reached the instance.

use axum::Json;
use axum::body::Bytes;
use axum::extract::OriginalUri;
use axum::http::{HeaderMap, Method};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::error::ApiError;

/// Any method on `/v1/echo` and below. Headers come as lists, in lower case; a body that is not UTF-8 as base64.
pub(crate) async fn echo(
    method: Method,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
    body: Result<Bytes, axum::extract::rejection::BytesRejection>,
) -> Result<Json<Value>, ApiError> {
    let body = body.map_err(|refused| ApiError::BadRequest(refused.body_text()))?;
    let mut seen = Map::new();
    for name in headers.keys() {
        let values = headers
            .get_all(name)
            .iter()
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        seen.insert(name.to_string(), values.collect());
    }
    let (text, base64) = match str::from_utf8(&body) {
        Ok(text) => (Some(text), None),
        Err(_) => (None, Some(STANDARD.encode(&body))),
    };
    Ok(Json(json!({
        "method": method.as_str(),
        "path": uri.path(),
        "query": uri.query(),
        "headers": seen,
        "body": text,
        "bodyBase64": base64,
        "bodyLength": body.len(),
    })))
}
