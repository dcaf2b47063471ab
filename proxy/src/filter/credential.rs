//! Which platform keys a request presents.
//!
//! Owns the places where a key may stand (`X-API-Key`, `X-Publishable-Key`, `Authorization: Bearer`, `?key=`, a WebSocket
//! subprotocol) and its removal before the request is forwarded. Looks only at form and checksum: whether a key is known is asked elsewhere, and only for
//! what passes here. Pure; keeps digests, never keys.

use authsome_core::key::{Digest, KeyError, KeyType, ParsedKey};
use http::{HeaderValue, Method};

use super::leak::{Leaked, LeakedIn};
use super::lines::{self, Fields};
use super::name::{self, Name, name};

/// Carries a key of either type.
pub static X_API_KEY: Name = name!("x-api-key");
/// Carries a publishable key.
pub static X_PUBLISHABLE_KEY: Name = name!("x-publishable-key");

/// The parameter of a query that may carry a publishable key.
const QUERY_PARAMETER: &[u8] = b"key";
/// What stands before a publishable key among the subprotocols of a WebSocket.
const SUBPROTOCOL: &[u8] = b"authsome.key.";
/// What is decoded of a parameter's name or value: more than the longest key. Longer ones are no keys.
const DECODED_MAX: usize = 96;

/// The digests of the keys that a request presents.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Presented {
    /// Of its secret key.
    pub secret: Option<Digest>,
    /// Of its publishable key.
    pub public: Option<Digest>,
    /// Where they stood, apart from the headers that are never passed on.
    pub places: Places,
}

/// Places that must be cleared of keys before a request is forwarded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Places {
    /// `Authorization` holds one, so it is not for the instance.
    pub authorization: bool,
    /// The query holds one.
    pub query: bool,
    /// One of the offered subprotocols is one.
    pub subprotocol: bool,
}

impl Presented {
    /// Is there no key at all?
    pub fn is_empty(&self) -> bool {
        self.secret.is_none() && self.public.is_none()
    }

    fn add(&mut self, key: &ParsedKey<'_>) -> Result<(), BadCredential> {
        let digest = key.digest();
        let place = match key.key_type() {
            KeyType::Secret => &mut self.secret,
            KeyType::Public => &mut self.public,
        };
        if place.replace(digest).is_some_and(|before| before != digest) {
            return Err(BadCredential::Several);
        }
        Ok(())
    }
}

/// Why presented keys are refused without a look-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadCredential {
    /// 401: claims to be a key, or stands where only a key may, and is not of the form of one.
    #[error("malformed key")]
    Malformed,
    /// 401: of the right form with a wrong checksum.
    #[error("key with a wrong checksum")]
    Checksum,
    /// 400: two different keys of the same type.
    #[error("two different keys of one type")]
    Several,
    /// 400: a secret key in the query, where every log on the way has read it.
    #[error("secret key in the query")]
    SecretInQuery,
    /// 400: a secret key as a subprotocol, so in the script of a page.
    #[error("secret key as a subprotocol")]
    SecretInSubprotocol,
    /// 400: a publishable key in the query of a request that could have set a header.
    #[error("key in the query of a request that is not a GET")]
    QueryNotAllowed,
}

impl From<KeyError> for BadCredential {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::NotAKey | KeyError::Malformed => Self::Malformed,
            KeyError::Checksum => Self::Checksum,
        }
    }
}

/// Finds the keys of a request. Allocates nothing.
pub fn present(method: &Method, headers: &impl Fields, query: Option<&str>) -> Result<Presented, BadCredential> {
    let mut presented = Presented::default();
    for name in [&X_API_KEY, &X_PUBLISHABLE_KEY] {
        for value in headers.all(name) {
            presented.add(&parse(value)?)?;
        }
    }
    for value in headers.all(&name::AUTHORIZATION) {
        // Any other token is the end user's session, and none of our business.
        if let Some(token) = bearer(value).filter(|token| claims_to_be_key(token)) {
            presented.add(&parse(token)?)?;
            presented.places.authorization = true;
        }
    }
    for token in offered(headers) {
        if let Some(key) = token.strip_prefix(SUBPROTOCOL) {
            if key.starts_with(b"sk_") {
                return Err(BadCredential::SecretInSubprotocol);
            }
            presented.add(&parse(key)?)?;
            presented.places.subprotocol = true;
        }
    }
    if let Some(query) = query {
        from_query(method, query, &mut presented)?;
    }
    Ok(presented)
}

/// The subprotocols that a WebSocket client offers.
fn offered(headers: &impl Fields) -> impl Iterator<Item = &[u8]> {
    headers
        .all(&name::SEC_WEBSOCKET_PROTOCOL)
        .flat_map(|line| line.split(|b| *b == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|token| !token.is_empty())
}

/// The offered subprotocols without keys, as one line; `None` if nothing is left.
pub fn subprotocols_without_keys(headers: &impl Fields) -> Option<HeaderValue> {
    let kept: Vec<&[u8]> = offered(headers)
        .filter(|token| !token.starts_with(SUBPROTOCOL))
        .collect();
    let kept = kept.join(&b", "[..]);
    (!kept.is_empty())
        .then(|| HeaderValue::from_bytes(&kept).ok())
        .flatten()
}

/// The first offered subprotocol that is a key. If the instance chooses none of the others, this is the one to choose: browsers
/// give up a connection whose offer is not answered.
pub fn key_subprotocol(headers: &impl Fields) -> Option<HeaderValue> {
    let token = offered(headers).find(|token| token.starts_with(SUBPROTOCOL))?;
    HeaderValue::from_bytes(token).ok()
}

/// The secret key because of which a request was refused with [`BadCredential::SecretInQuery`] or
/// [`BadCredential::SecretInSubprotocol`].
pub fn leaked(headers: &impl Fields, query: Option<&str>) -> Option<Leaked> {
    let mut buffer = [0; DECODED_MAX];
    let masked = |key: &[u8]| {
        let text = str::from_utf8(key).ok()?;
        Some(ParsedKey::parse(text).ok()?.masked())
    };
    let subprotocol = offered(headers)
        .filter_map(|token| token.strip_prefix(SUBPROTOCOL))
        .find(|key| key.starts_with(b"sk_"));
    if let Some(key) = subprotocol {
        return Some(Leaked {
            place: LeakedIn::Subprotocol,
            masked: masked(key),
        });
    }
    for parameter in query?.split('&') {
        let (name, value) = split_parameter(parameter);
        let is_ours = decode(name, &mut buffer) == Some(QUERY_PARAMETER);
        let Some(value) = decode(value, &mut buffer).filter(|value| value.starts_with(b"sk_")) else {
            continue;
        };
        let masked = masked(value);
        if is_ours || masked.is_some() {
            return Some(Leaked {
                place: LeakedIn::Query,
                masked,
            });
        }
    }
    None
}

/// `Referer` without the keys in its query; `None` if it may stay as it is.
pub fn referer_without_keys(headers: &impl Fields) -> Option<Option<HeaderValue>> {
    let mut given = headers.all(&name::REFERER);
    let (Some(text), None) = (lines::text(given.next()?), given.next()) else {
        // Several, or something that is no text: no browser sent it.
        return Some(None);
    };
    let (before, query) = text.split_once('?')?;
    let (query, fragment) = query
        .split_once('#')
        .map_or((query, None), |(query, rest)| (query, Some(rest)));
    let kept = query_without(query, |name, value| {
        claims_to_be_key(value) && (name == Some(QUERY_PARAMETER) || parse(value).is_ok())
    });
    if kept.as_deref() == Some(query) || (kept.is_none() && query.is_empty()) {
        return None;
    }
    let mut url = before.to_owned();
    for (mark, part) in [('?', kept.as_deref()), ('#', fragment)] {
        if let Some(part) = part {
            url.push(mark);
            url.push_str(part);
        }
    }
    Some(HeaderValue::from_str(&url).ok())
}

fn parse(bytes: &[u8]) -> Result<ParsedKey<'_>, BadCredential> {
    let text = str::from_utf8(bytes.trim_ascii()).map_err(|_| BadCredential::Malformed)?;
    Ok(ParsedKey::parse(text)?)
}

/// The token of `Bearer <token>`; the scheme in any case, as HTTP has it.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.trim_ascii().split_at_checked("bearer".len())?;
    let blank = token.first().is_some_and(u8::is_ascii_whitespace);
    (blank && scheme.eq_ignore_ascii_case(b"bearer")).then(|| token.trim_ascii())
}

fn claims_to_be_key(token: &[u8]) -> bool {
    token.starts_with(b"pk_") || token.starts_with(b"sk_")
}

fn from_query(method: &Method, query: &str, presented: &mut Presented) -> Result<(), BadCredential> {
    let (mut name_buffer, mut value_buffer) = ([0; DECODED_MAX], [0; DECODED_MAX]);
    for parameter in query.split('&') {
        let (name, value) = split_parameter(parameter);
        let Some(value) = decode(value, &mut value_buffer) else {
            continue;
        };
        if !claims_to_be_key(value) {
            continue;
        }
        let is_ours = decode(name, &mut name_buffer) == Some(QUERY_PARAMETER);
        let key = parse(value);
        let is_secret = value.starts_with(b"sk_");
        // A secret key under any name has leaked; something of our own name need not even be a whole key.
        if is_secret && (is_ours || key.is_ok()) {
            return Err(BadCredential::SecretInQuery);
        }
        if is_ours {
            if method != Method::GET {
                return Err(BadCredential::QueryNotAllowed);
            }
            presented.add(&key?)?;
            presented.places.query = true;
        }
    }
    Ok(())
}

/// The query without its keys; `None` if nothing is left of it. Other parameters keep their bytes and their order.
pub fn query_without_keys(query: &str) -> Option<String> {
    query_without(query, |name, value| {
        name == Some(QUERY_PARAMETER) && claims_to_be_key(value)
    })
}

fn query_without(query: &str, is_key: impl Fn(Option<&[u8]>, &[u8]) -> bool) -> Option<String> {
    let (mut name_buffer, mut value_buffer) = ([0; DECODED_MAX], [0; DECODED_MAX]);
    let mut kept = String::with_capacity(query.len());
    for parameter in query.split('&') {
        let (name, value) = split_parameter(parameter);
        let name = decode(name, &mut name_buffer);
        if !decode(value, &mut value_buffer).is_some_and(|value| is_key(name, value)) {
            if !kept.is_empty() {
                kept.push('&');
            }
            kept.push_str(parameter);
        }
    }
    (!kept.is_empty()).then_some(kept)
}

fn split_parameter(parameter: &str) -> (&str, &str) {
    parameter.split_once('=').unwrap_or((parameter, ""))
}

/// Undoes percent-encoding into `buffer`; `None` if it does not fit or an escape is broken.
fn decode<'a>(text: &str, buffer: &'a mut [u8; DECODED_MAX]) -> Option<&'a [u8]> {
    let mut bytes = text.bytes();
    let mut length = 0;
    while let Some(byte) = bytes.next() {
        let decoded = if byte == b'%' {
            let high = char::from(bytes.next()?).to_digit(16)?;
            let low = char::from(bytes.next()?).to_digit(16)?;
            u8::try_from(high * 16 + low).ok()?
        } else {
            byte
        };
        *buffer.get_mut(length)? = decoded;
        length += 1;
    }
    Some(&buffer[..length])
}

#[cfg(test)]
mod tests;
