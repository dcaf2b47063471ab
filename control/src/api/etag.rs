//! Entity tags: the version of the row that an answer shows, and what `If-Match` says of it.

use authsome_contract::model::Version;
use authsome_core::key::Digest;
use http::{HeaderMap, HeaderName, header};
use serde::Serialize;

/// The header of an answer that shows this version.
pub(super) fn etag(version: Version) -> [(HeaderName, String); 1] {
    [(header::ETAG, format!("\"{version}\""))]
}

/// The header of an answer whose row has no version: the digest of what is shown. It is the same again where all that is shown is.
pub(super) fn etag_of(shown: &impl Serialize) -> [(HeaderName, String); 1] {
    [(header::ETAG, digest(shown))]
}

/// Does `If-Match` allow a change of this version (RFC 9110, 13.1.1)? Without the header every change is allowed.
pub(super) fn matches(headers: &HeaderMap, version: Version) -> bool {
    matches_tag(headers, &format!("\"{version}\""))
}

/// Does it allow a change of what is shown so?
pub(super) fn matches_shown(headers: &HeaderMap, shown: &impl Serialize) -> bool {
    matches_tag(headers, &digest(shown))
}

fn digest(shown: &impl Serialize) -> String {
    // What is shown as JSON in the answer itself can be written as JSON.
    format!("\"{}\"", Digest::of(&serde_json::to_vec(shown).unwrap_or_default()))
}

fn matches_tag(headers: &HeaderMap, wanted: &str) -> bool {
    let mut given = headers.get_all(header::IF_MATCH).iter().peekable();
    if given.peek().is_none() {
        return true;
    }
    given
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|tag| tag.trim() == "*" || tag.trim() == wanted)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn if_match_names_the_version_or_any() {
        let version = Version { epoch: 1, row: 7 };
        let allows = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::IF_MATCH, HeaderValue::from_static(value));
            }
            matches(&headers, version)
        };
        assert!(allows(&[]));
        assert!(allows(&["*"]));
        assert!(allows(&["\"1.7\""]));
        assert!(allows(&["\"1.6\", \"1.7\""]));
        assert!(allows(&["\"1.6\"", "\"1.7\""]));
        assert!(!allows(&["\"1.6\""]));
        assert!(!allows(&["1.7"]));
        assert!(!allows(&["W/\"1.7\""]), "weak tags never match");
        assert!(!allows(&[""]));
    }
}
