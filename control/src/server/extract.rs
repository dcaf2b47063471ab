//! What handlers take of paths and queries, refused in the platform's own words: which parameter, what is expected, and nothing of the
//! inside. Bodies are read by [`super::body`].

use authsome_core::error::Failure;
use authsome_core::id::{Id, Kind};
use axum::extract::{FromRequestParts, RawPathParams};
use http::Uri;
use http::request::Parts;
use serde::de::DeserializeOwned;

use crate::error::{Outcome, Problem};
use crate::state::App;

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
