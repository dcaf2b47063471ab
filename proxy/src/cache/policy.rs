//! What may be kept and for how long: RFC 9111 as a shared cache reads it, and the few documents of an authentication server
//! that everybody asks for all the time.
//!
//! Pure. A request that carries any credential is treated as one with `Authorization` (section 3.5): its response is kept
//! only where the response itself says that shared caches may.

use std::time::{Duration, SystemTime};

use authsome_contract::model::CachePolicy;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use pingora::cache::cache_control::CacheControl;
use pingora::cache::filters::resp_cacheable;
use pingora::cache::{CacheMeta, CacheMetaDefaults, NoCacheReason, RespCacheable};
use pingora::http::ResponseHeader;

use crate::filter::lines::Fields;
use crate::filter::name::{self, Name, name};
use crate::filter::sets::Sets;

/// How a request may use the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// What the path is.
    pub kind: Kind,
    /// Did the request come with a credential?
    pub credentialed: bool,
    /// A HEAD, a range or a condition: something less than the whole.
    pub partial: bool,
    /// `Cache-Control: no-cache` or `max-age=0` (RFC 9111 section 5.2.1): what is kept must be asked for again first.
    pub validate: bool,
}

/// What a path is to the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A document that is the same for everybody: keys, discovery, the clients' configuration.
    Document,
    /// The application gave it a time to live, seconds.
    Ruled(u32),
    /// As the response says.
    Ordinary,
}

/// Documents, relative to the application.
const DOCUMENTS: [&str; 6] = [
    "/.well-known/jwks.json",
    "/.well-known/openid-configuration",
    "/.well-known/oauth-authorization-server",
    "/.well-known/authsome/manifest",
    "/v1/client-config",
    "/v1/oauth/jwks",
];

/// A document that does not say for how long it is fresh is asked for again after this many seconds …
const DOCUMENT_FRESH: Duration = Duration::from_mins(1);
/// … served for as long again while that is under way, …
const DOCUMENT_REVALIDATE: u32 = 60;
/// … and for a day while the instance cannot be asked.
const DOCUMENT_STALE: u32 = 24 * 3600;

/// What a request looks like to the cache.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a, H> {
    /// Its method.
    pub method: &'a Method,
    /// Its path relative to the application.
    pub tail: &'a str,
    /// Its headers.
    pub headers: &'a H,
    /// Did it come with a key of the platform?
    pub has_key: bool,
    /// When it came, milliseconds since the Unix epoch.
    pub now_ms: i64,
}

/// What the request's path is to the cache. `None`: the request passes it by.
pub(super) fn kind<H>(policy: &CachePolicy, asked: &Asked<'_, H>) -> Option<Kind> {
    if !policy.enabled || (asked.method != Method::GET && asked.method != Method::HEAD) {
        return None;
    }
    match policy.rule(asked.tail) {
        Some(rule) if rule.bypass => None,
        Some(rule) => Some(rule.ttl_seconds.map_or(Kind::Ordinary, Kind::Ruled)),
        None if DOCUMENTS.contains(&asked.tail) => Some(Kind::Document),
        None => Some(Kind::Ordinary),
    }
}

/// May this request, for a path of this kind, be answered from the cache, or its response kept? `None`: it passes the cache by.
pub(super) fn usage<H: Fields>(kind: Kind, asked: &Asked<'_, H>) -> Option<Usage> {
    let headers = asked.headers;
    let has_body = headers.has(&name::TRANSFER_ENCODING)
        || headers
            .first(&name::CONTENT_LENGTH)
            .is_some_and(|length| length != b"0");
    if has_body || headers.has(&name::UPGRADE) || names(headers, &name::ACCEPT, b"text/event-stream") {
        return None;
    }
    let control = control(headers);
    if control.as_ref().is_some_and(CacheControl::no_store) {
        return None;
    }
    Some(Usage {
        kind,
        credentialed: asked.has_key || headers.has(&name::AUTHORIZATION) || headers.has(&name::COOKIE),
        partial: asked.method == Method::HEAD || headers.has_any(Sets::PARTIAL),
        validate: control.is_some_and(|control| control.no_cache() || control.max_age().ok().flatten() == Some(0)),
    })
}

/// `Cache-Control`, if it is there.
fn control(headers: &impl Fields) -> Option<CacheControl> {
    if !headers.has(&name::CACHE_CONTROL) {
        return None;
    }
    // The library reads it out of a map only.
    let mut lines = HeaderMap::new();
    for value in headers.all(&name::CACHE_CONTROL) {
        lines.append(header::CACHE_CONTROL, HeaderValue::from_bytes(value).ok()?);
    }
    CacheControl::from_headers_named("cache-control", &lines)
}

/// Is `token` in a header of this name, whatever its case?
fn names(headers: &impl Fields, name: &Name, token: &[u8]) -> bool {
    headers
        .all(name)
        .any(|value| value.windows(token.len()).any(|part| part.eq_ignore_ascii_case(token)))
}

/// Statuses that say something that holds for longer than one request (RFC 9110 section 15.1), and redirects that say for how
/// long. Never a part of something, never an error of the instance.
const fn is_lasting(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::OK
            | StatusCode::NON_AUTHORITATIVE_INFORMATION
            | StatusCode::NO_CONTENT
            | StatusCode::MULTIPLE_CHOICES
            | StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT
            | StatusCode::NOT_FOUND
            | StatusCode::METHOD_NOT_ALLOWED
            | StatusCode::GONE
            | StatusCode::URI_TOO_LONG
    )
}

/// Is the response to be kept, and for how long?
pub(super) fn keep(usage: &Usage, response: &ResponseHeader) -> RespCacheable {
    match judge(usage, response) {
        RespCacheable::Cacheable(mut meta) => {
            strip_hop_by_hop(meta.response_header_mut());
            RespCacheable::Cacheable(meta)
        }
        uncacheable @ RespCacheable::Uncacheable(_) => uncacheable,
    }
}

/// What belongs to the connection with the instance is not part of what is kept (RFC 9111 section 3.1).
fn strip_hop_by_hop(response: &mut ResponseHeader) {
    let named: Vec<String> = response
        .headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(','))
        .map(|name| name.trim().to_owned())
        .collect();
    for name in named.iter().map(String::as_str).chain(HOP_BY_HOP) {
        response.remove_header(name);
    }
}

const HOP_BY_HOP: [&str; 7] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
];

fn judge(usage: &Usage, response: &ResponseHeader) -> RespCacheable {
    let refuse = |reason| RespCacheable::Uncacheable(NoCacheReason::Custom(reason));
    let headers = &response.headers;
    // After a revalidation the head of what is kept comes here, so 304 does not.
    if !is_lasting(response.status) {
        return refuse("status");
    }
    // Both are for one user only, whatever the rest of the head says.
    if headers.contains_key(header::SET_COOKIE) || headers.contains_key("x-authsome-user-id") {
        return refuse("personal");
    }
    if names(headers, &name::VARY, b"*") {
        return refuse("vary");
    }
    if names(headers, &name::CONTENT_TYPE, b"text/event-stream") {
        return refuse("stream");
    }
    let control = CacheControl::from_resp_headers(response);
    let (defaults, credentialed) = match usage.kind {
        Kind::Document => (&DOCUMENT, false),
        // Whoever writes a rule for a path has said that shared caches may keep it.
        Kind::Ruled(_) | Kind::Ordinary => (&NOTHING, usage.credentialed && usage.kind == Kind::Ordinary),
    };
    // A clone: the library keeps the head that it is given.
    let verdict = resp_cacheable(control.as_ref(), response.clone(), credentialed, defaults);
    match (verdict, usage.kind) {
        (RespCacheable::Cacheable(meta), Kind::Document) => RespCacheable::Cacheable(for_a_day(meta, control.as_ref())),
        (RespCacheable::Cacheable(meta), _) => RespCacheable::Cacheable(minus_age(meta)),
        (RespCacheable::Uncacheable(reason), Kind::Ruled(seconds)) => {
            let forbidden = control
                .as_ref()
                .is_some_and(|control| control.no_store() || control.private() || control.no_cache());
            if forbidden || response.status != StatusCode::OK {
                return RespCacheable::Uncacheable(reason);
            }
            let now = SystemTime::now();
            let fresh_until = now + Duration::from_secs(seconds.into());
            RespCacheable::Cacheable(CacheMeta::new(fresh_until, now, 0, 0, response.clone()))
        }
        (uncacheable, _) => uncacheable,
    }
}

static DOCUMENT: CacheMetaDefaults = CacheMetaDefaults::new(
    |status| matches!(status, StatusCode::OK).then_some(DOCUMENT_FRESH),
    DOCUMENT_REVALIDATE,
    DOCUMENT_STALE,
);
static NOTHING: CacheMetaDefaults = CacheMetaDefaults::new(|_| None, 0, 0);

/// What everybody needs for verifying tokens is served while the instance is away, also where the instance asked for less;
/// unless it forbids stale answers altogether (RFC 9111 section 4.2.4).
fn for_a_day(meta: CacheMeta, control: Option<&CacheControl>) -> CacheMeta {
    let forbidden =
        control.is_some_and(|control| control.must_revalidate() || control.proxy_revalidate() || control.no_cache());
    let meta = minus_age(meta);
    if forbidden {
        return meta;
    }
    CacheMeta::new(
        meta.fresh_until(),
        meta.created(),
        meta.stale_while_revalidate_sec(),
        meta.stale_if_error_sec().max(DOCUMENT_STALE),
        meta.response_header_copy(),
    )
}

/// What another cache has used up of its time already (RFC 9111 section 4.2.3).
fn minus_age(meta: CacheMeta) -> CacheMeta {
    let age = meta.headers().get(header::AGE);
    let age: u64 = age.and_then(|age| age.to_str().ok()?.trim().parse().ok()).unwrap_or(0);
    let Some(fresh_until) = (age > 0)
        .then(|| meta.fresh_until().checked_sub(Duration::from_secs(age)))
        .flatten()
    else {
        return meta;
    };
    let mut aged = CacheMeta::new(
        fresh_until,
        meta.created(),
        meta.stale_while_revalidate_sec(),
        meta.stale_if_error_sec(),
        meta.response_header_copy(),
    );
    if let Some(epoch) = meta.created().checked_sub(Duration::from_secs(age)) {
        aged.set_epoch_override(epoch);
    }
    aged
}

/// Most tags of one response; those past them are as good as not there.
const MOST_TAGS: usize = 16;
/// Longest tag, bytes.
const TAG_BYTES: usize = 128;

/// The tags that a response is thrown away by: `Cache-Tag: a, b`.
pub(super) fn tags(headers: &HeaderMap) -> Vec<Box<str>> {
    headers
        .get_all(CACHE_TAG.header())
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split([',', ' ']))
        .filter(|tag| !tag.is_empty() && tag.len() <= TAG_BYTES)
        .take(MOST_TAGS)
        .map(Box::from)
        .collect()
}

/// Named by the instance, for the edge alone.
pub(crate) static CACHE_TAG: Name = name!("cache-tag");

#[cfg(test)]
mod tests;
