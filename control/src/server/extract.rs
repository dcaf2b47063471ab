//! Extractors that refuse in the platform's own words: which field, what is expected, and nothing of the inside.

use authsome_core::error::Failure;
use authsome_core::id::{Id, Kind};
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, FailedToBufferBody};
use axum::extract::{FromRequest, FromRequestParts, RawPathParams, Request};
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, Uri};
use serde::de::DeserializeOwned;

use crate::error::{Outcome, Problem};
use crate::state::App;

/// The largest body that is read, in bytes.
pub const BODY_LIMIT: usize = 1 << 20;

/// A JSON body.
#[derive(Debug)]
pub struct Json<T>(pub T);

/// The query string.
#[derive(Debug)]
pub struct Query<T>(pub T);

/// The only id of the path. A text that is not an id names nothing, so it is 404.
#[derive(Debug)]
pub struct PathId<K: Kind>(pub Id<K>);

/// The two ids of the path, in their order.
#[derive(Debug)]
pub struct PathIds<K: Kind, L: Kind>(pub Id<K>, pub Id<L>);

/// The id and the name after it in the path. A text that is not an id names nothing, so it is 404.
#[derive(Debug)]
pub struct PathIdName<K: Kind>(pub Id<K>, pub String);

/// The two ids and the name after them in the path.
#[derive(Debug)]
pub struct PathIdsName<K: Kind, L: Kind>(pub Id<K>, pub Id<L>, pub String);

impl<T: DeserializeOwned> FromRequest<App> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Outcome<Self> {
        if !is_json(request.headers()) {
            return Err(Problem::unsupported_media_type("application/json"));
        }
        let body = Bytes::from_request(request, app).await.map_err(unreadable)?;
        if body.is_empty() {
            return Err(Failure::invalid_request("The request body is empty; send a JSON object").into());
        }
        // Structures could be read of lists as well, field by field in their order, which no client means; and the reader would
        // repeat a bare text, which may be a secret.
        if body.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
            let failure = Failure::invalid_request("The request body must be a JSON object");
            return Err(failure
                .with_details(serde_json::json!({ "fields": { "body": "must be a JSON object" } }))
                .into());
        }
        let mut text = serde_json::Deserializer::from_slice(&body);
        let value = serde_path_to_error::deserialize(&mut text).map_err(|error| {
            let parent = error.path().to_string();
            let error = error.into_inner();
            if error.is_syntax() || error.is_eof() {
                let failure = Failure::invalid_request(format!("The request body is not JSON: {error}"));
                return failure.with_details(serde_json::json!({ "fields": { "body": "is not JSON" } }));
            }
            let (path, reason) = fault(&parent, &error.to_string());
            Failure::invalid_request(format!("{path}: {reason}"))
                .with_details(serde_json::json!({ "fields": { path: reason } }))
        })?;
        text.end()
            .map_err(|error| Failure::invalid_request(format!("The request body goes on after its end: {error}")))?;
        Ok(Self(value))
    }
}

/// Which field it is, and what is wrong with it, in the words of the API. A field that is missing, or there twice, is named by the
/// reader's words alone, below `parent`.
fn fault(parent: &str, words: &str) -> (String, String) {
    let words = words.split(" at line ").next().unwrap_or(words);
    let below = |name: &str| match parent {
        "." => name.to_owned(),
        _ => format!("{parent}.{name}"),
    };
    for (said, reason) in [
        ("missing field `", "is required"),
        ("duplicate field `", "is there twice"),
        ("unknown field `", "is not known"),
    ] {
        let name = words.strip_prefix(said).and_then(|rest| rest.split('`').next());
        if let Some(name) = name {
            // The path of an unknown field ends with it already.
            let named = parent == name || parent.ends_with(&format!(".{name}"));
            let path = if named { parent.to_owned() } else { below(name) };
            return (path, reason.to_owned());
        }
    }
    let path = if parent == "." { "body" } else { parent };
    (path.to_owned(), words.to_owned())
}

impl<T: DeserializeOwned> FromRequestParts<App> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Outcome<Self> {
        query(parts.uri.query().unwrap_or_default()).map(Self)
    }
}

/// Reads a query string. What is wrong names its parameter under `details.fields`, where it can be told.
pub fn query<T: DeserializeOwned>(text: &str) -> Outcome<T> {
    // A query that came in a URI, or was written by our own serialiser, fits into one.
    let uri = Uri::try_from(format!("/?{text}")).map_err(|_| Failure::invalid_request("The query cannot be read"))?;
    axum::extract::Query::try_from_uri(&uri)
        .map(|axum::extract::Query(value)| value)
        .map_err(|rejection| {
            let text = rejection.body_text();
            let text = text
                .strip_prefix("Failed to deserialize query string: ")
                .unwrap_or(&text);
            let failure = Failure::invalid_request(format!("The query is not what is expected: {text}"));
            match parameter(text) {
                Some((name, reason)) => failure.with_details(serde_json::json!({ "fields": { name: reason } })),
                None => failure,
            }
            .into()
        })
}

/// The parameter that an error is about: it is named before a colon, or between backquotes.
fn parameter(text: &str) -> Option<(&str, &str)> {
    let is_name = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if let Some((name, reason)) = text.split_once(": ").filter(|(name, _)| is_name(name)) {
        return Some((name, reason));
    }
    let (_, rest) = text.split_once("field `")?;
    let (name, _) = rest.split_once('`')?;
    is_name(name).then_some((name, text))
}

impl<K: Kind> FromRequestParts<App> for PathId<K> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Outcome<Self> {
        let params = raw(parts, app).await?;
        Ok(Self(nth(&params, 0)?))
    }
}

impl<K: Kind, L: Kind> FromRequestParts<App> for PathIds<K, L> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Outcome<Self> {
        let params = raw(parts, app).await?;
        Ok(Self(nth(&params, 0)?, nth(&params, 1)?))
    }
}

impl<K: Kind> FromRequestParts<App> for PathIdName<K> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Outcome<Self> {
        let params = raw(parts, app).await?;
        let name = params.iter().nth(1).map_or("", |(_, value)| value);
        Ok(Self(nth(&params, 0)?, name.to_owned()))
    }
}

impl<K: Kind, L: Kind> FromRequestParts<App> for PathIdsName<K, L> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Outcome<Self> {
        let params = raw(parts, app).await?;
        let name = params.iter().nth(2).map_or("", |(_, value)| value);
        Ok(Self(nth(&params, 0)?, nth(&params, 1)?, name.to_owned()))
    }
}

async fn raw(parts: &mut Parts, app: &App) -> Outcome<RawPathParams> {
    RawPathParams::from_request_parts(parts, app)
        .await
        .map_err(|_| Failure::not_found("Not found").into())
}

fn nth<K: Kind>(params: &RawPathParams, position: usize) -> Outcome<Id<K>> {
    let text = params.iter().nth(position).map_or("", |(_, value)| value);
    text.parse()
        .map_err(|_| Failure::not_found(format!("There is no such id: {} id is expected", K::NOUN)).into())
}

fn is_json(headers: &HeaderMap) -> bool {
    let essence = |value: &str| value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .map(essence)
        .is_some_and(|essence| essence == "application/json" || essence.ends_with("+json"))
}

fn unreadable(rejection: BytesRejection) -> Problem {
    match rejection {
        BytesRejection::FailedToBufferBody(FailedToBufferBody::LengthLimitError(_)) => {
            Failure::payload_too_large("The request body is larger than 1 MiB").into()
        }
        other => Failure::invalid_request("The request body could not be read")
            .with_internal(other)
            .into(),
    }
}
