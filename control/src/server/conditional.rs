//! `If-None-Match`: whoever has an answer already is told so, and is not sent it again.
//!
//! Owns nothing: the answer is made as always, by whoever makes it, and decided about by its `ETag`. What may be seen is thus asked
//! each time, and a tag that a client remembers opens nothing.

use axum::body::Body;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

/// A layer: 304 without a body in place of a 200 that the client has (RFC 9110, sections 13.1.2 and 15.4.5).
pub async fn answer(request: Request, next: Next) -> Response {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let known: Vec<HeaderValue> = request.headers().get_all(IF_NONE_MATCH).iter().cloned().collect();
    let mut response = next.run(request).await;
    if reads && response.status() == StatusCode::OK && is_known(&known, response.headers()) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        *response.body_mut() = Body::empty();
        for name in [CONTENT_TYPE, CONTENT_LENGTH] {
            response.headers_mut().remove(name);
        }
    }
    response
}

/// Is the tag of the answer among these? The comparison is weak: it asks for the same, not for the same bytes.
fn is_known(known: &[HeaderValue], headers: &HeaderMap) -> bool {
    let Some(tag) = headers.get(ETAG).and_then(|tag| tag.to_str().ok()) else {
        return false;
    };
    let opaque = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    known
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|given| given.trim() == "*" || opaque(given) == opaque(tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_known_by_its_name_or_with_every_other() {
        let known = |given: &[&'static str], tag: Option<&'static str>| {
            let given: Vec<_> = given.iter().map(|value| HeaderValue::from_static(value)).collect();
            let mut headers = HeaderMap::new();
            if let Some(tag) = tag {
                headers.insert(ETAG, HeaderValue::from_static(tag));
            }
            is_known(&given, &headers)
        };
        let tag = Some("\"1.7\"");
        assert!(known(&["\"1.7\""], tag));
        assert!(known(&["W/\"1.7\""], tag), "the comparison is weak");
        assert!(known(&["\"1.6\", \"1.7\""], tag) && known(&["\"1.6\"", "\"1.7\""], tag));
        assert!(known(&["*"], tag));
        assert!(!known(&["\"1.6\""], tag) && !known(&["1.7"], tag) && !known(&[""], tag) && !known(&[], tag));
        assert!(!known(&["*"], None), "an answer without a tag is always sent");
    }
}
