//! JSON bodies of requests: which types of content are read, and what is told of a body that cannot be.
//!
//! Everything that is wrong with the form of a body is told at once, in the words of the API and with the path of each field.

use authsome_core::error::Failure;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, FailedToBufferBody};
use axum::extract::{FromRequest, Request};
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::document::Document;
use crate::error::{Outcome, Problem};
use crate::shape;
use crate::state::App;

/// The largest body that is read, in bytes.
pub const BODY_LIMIT: usize = 1 << 20;

const JSON: &str = "application/json";
/// RFC 7396.
const MERGE_PATCH: &str = "application/merge-patch+json";

/// A JSON body.
#[derive(Debug)]
pub struct Json<T>(pub T);

/// The body of a PATCH: what it is by its schema, and the merge patch as it was sent, which tells `null` from what is left out.
#[derive(Debug)]
pub struct Patch<T>(pub T, pub Value);

impl<T: DeserializeOwned + ToSchema> FromRequest<App> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Outcome<Self> {
        let (read, _) = read(request, app, &[JSON]).await?;
        Ok(Self(read))
    }
}

impl<T: DeserializeOwned + ToSchema> FromRequest<App> for Patch<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Outcome<Self> {
        let (read, document) = read(request, app, &[JSON, MERGE_PATCH]).await?;
        Ok(Self(read, document))
    }
}

async fn read<T: DeserializeOwned + ToSchema>(request: Request, app: &App, types: &[&str]) -> Outcome<(T, Value)> {
    if !is_of(request.headers(), types) {
        return Err(Problem::unsupported_media_type(&types.join(" or ")));
    }
    let body = Bytes::from_request(request, app).await.map_err(unreadable)?;
    if body.is_empty() {
        return Err(Failure::invalid_request("The request body is empty; send a JSON object").into());
    }
    let Document { value, mut fields } = Document::read(&body).map_err(|error| {
        Failure::invalid_request(format!("The request body {error}"))
            .with_details(json!({ "fields": { "body": error.to_string() } }))
    })?;
    // Structures could be read of lists as well, field by field in their order, which no client means.
    if !value.is_object() {
        fields.refuse("body", "must be a JSON object");
        fields.finish()?;
        return Err(Failure::invalid_request("The request body must be a JSON object").into());
    }
    let read = shape::take(&value, "", &mut fields);
    fields.finish()?;
    let read = read.ok_or_else(|| Failure::invalid_request("The request body is not understood"))?;
    Ok((read, value))
}

/// Says the one `Content-Type` one of these types, in UTF-8, the only encoding of JSON that is exchanged (RFC 8259, section 8.1)?
fn is_of(headers: &HeaderMap, types: &[&str]) -> bool {
    let mut given = headers.get_all(CONTENT_TYPE).iter();
    let (Some(only), None) = (given.next().and_then(|value| value.to_str().ok()), given.next()) else {
        return false;
    };
    let mut parts = only.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default();
    let mut parameters = parts
        .filter(|part| !part.is_empty())
        .filter_map(|part| part.split_once('='));
    types.iter().any(|known| essence.eq_ignore_ascii_case(known))
        && parameters.all(|(name, value)| {
            !name.trim().eq_ignore_ascii_case("charset") || value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
        })
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

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn json_in_utf_8_is_read_and_nothing_else() {
        let read = |types: &[&str], given: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in given {
                headers.append(CONTENT_TYPE, HeaderValue::from_static(value));
            }
            is_of(&headers, types)
        };
        for good in [
            "application/json",
            "Application/JSON; charset=UTF-8",
            "application/json;charset=\"utf-8\"",
            "application/json; profile=x",
            "application/json;",
        ] {
            assert!(read(&[JSON], &[good]), "{good}");
        }
        for bad in [
            "",
            "text/plain",
            "text/json",
            "application/jsonp",
            "application/json; charset=utf-16",
            "application/json; charset=latin1",
            "application/merge-patch+json",
            "application/problem+json",
            "application/x-www-form-urlencoded",
        ] {
            assert!(!read(&[JSON], &[bad]), "{bad}");
        }
        assert!(!read(&[JSON], &[]) && !read(&[JSON], &[JSON, JSON]));
        assert!(read(&[JSON, MERGE_PATCH], &[MERGE_PATCH]) && read(&[JSON, MERGE_PATCH], &[JSON]));
        assert!(!read(&[JSON, MERGE_PATCH], &["application/json-patch+json"]));
    }
}
