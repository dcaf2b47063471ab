//! Which headers reach the instance, and which reach the client.
//!
//! Owns the reserved names: a client can set none of them towards an instance, an instance none towards a client. Runs after
//! the forwarding path has removed hop-by-hop headers, so that a client cannot have ours removed by naming them in
//! `Connection`. Works on values that were prepared when the record arrived; the only failure is a value that is no header,
//! which leaves that header out.

use std::net::IpAddr;

use authsome_core::id::RequestId;
use authsome_core::key::KeyType;
use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::cors::{self, Grant};
use super::credential::{self, Places, X_API_KEY, X_PUBLISHABLE_KEY};
use super::lines::Lines;
use super::shared_host::{ORIGIN_WIDE, Place, confine_cookie, is_document, rewrite_location, rewrite_refresh};
use crate::limit::Standing;
use crate::routing::{AppHeaders, KeyHeaders};
use crate::trace::{TRACEPARENT, TRACESTATE, Trace, is_state};
use crate::upstream::InstanceCredentials;

/// All names that begin so are ours, in both directions.
const RESERVED: &[u8] = b"x-authsome-";

const APP_ID: HeaderName = HeaderName::from_static("x-authsome-app-id");
const KEY_ID: HeaderName = HeaderName::from_static("x-authsome-key-id");
const KEY_TYPE: HeaderName = HeaderName::from_static("x-authsome-key-type");
const ENVIRONMENT: HeaderName = HeaderName::from_static("x-authsome-environment");
const SCOPES: HeaderName = HeaderName::from_static("x-authsome-scopes");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-authsome-request-id");
const REGION: HeaderName = HeaderName::from_static("x-authsome-region");

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const X_APP_ID: HeaderName = HeaderName::from_static("x-app-id");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
const X_POWERED_BY: HeaderName = HeaderName::from_static("x-powered-by");
const X_CONTENT_TYPE_OPTIONS: HeaderName = HeaderName::from_static("x-content-type-options");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");

/// Names under which a client could pretend to be a proxy of ours, or an instance's own caller. Some are set anew afterwards.
const CLIENT_MAY_NOT_SET: [HeaderName; 14] = [
    X_API_KEY,
    X_PUBLISHABLE_KEY,
    X_APP_ID,
    X_REAL_IP,
    X_FORWARDED_FOR,
    X_FORWARDED_PROTO,
    X_FORWARDED_HOST,
    X_FORWARDED_PREFIX,
    header::FORWARDED,
    // By these some servers take another path or method than the one that was judged.
    HeaderName::from_static("x-original-url"),
    HeaderName::from_static("x-rewrite-url"),
    HeaderName::from_static("x-http-method"),
    HeaderName::from_static("x-http-method-override"),
    HeaderName::from_static("x-method-override"),
];

/// Names that a client may set, or that are set for it, and that must not come a second time in another spelling.
const DISGUISED: [&[u8]; 5] = [
    b"x-forwarded-for",
    b"x-request-id",
    b"content-length",
    b"content-type",
    b"transfer-encoding",
];

/// What one request is forwarded with.
#[derive(Debug, Clone, Copy)]
pub struct Forward<'a> {
    /// The application's values.
    pub app: &'a AppHeaders,
    /// The type and the values of the key, unless nobody asks.
    pub key: Option<(KeyType, &'a KeyHeaders)>,
    /// The application's prefix on the shared host; `None` on a host of its own.
    pub prefix: Option<&'a HeaderValue>,
    /// The instance's own credentials.
    pub instance: &'a InstanceCredentials,
    /// The request's id.
    pub request_id: RequestId,
    /// The trace that it belongs to.
    pub trace: Option<&'a Trace>,
    /// The client's address.
    pub client: Option<IpAddr>,
    /// The scheme that the client used: `http` or `https`.
    pub scheme: &'static str,
    /// Where the keys stood, which are not for the instance.
    pub keys_in: Places,
}

/// Makes the head that the instance reads out of the one that the client sent.
pub fn to_instance(request: &mut impl Lines, forward: &Forward<'_>) {
    for name in names(request.lines(), |name| is_reserved(name) || is_misspelt(name)) {
        request.strike(&name);
    }
    for name in &CLIENT_MAY_NOT_SET {
        request.strike(name);
    }
    if forward.keys_in.authorization {
        request.strike(&header::AUTHORIZATION);
    }
    if forward.keys_in.subprotocol {
        let kept = credential::subprotocols_without_keys(request.lines());
        request.strike(&header::SEC_WEBSOCKET_PROTOCOL);
        put(request, header::SEC_WEBSOCKET_PROTOCOL, kept);
    }
    // A page whose address holds a key names it to everything that it loads.
    if let Some(without) = credential::referer_without_keys(request.lines()) {
        request.strike(&header::REFERER);
        put(request, header::REFERER, without);
    }

    let request_id = HeaderValue::from_str(&forward.request_id.text()).ok();
    put(request, APP_ID, Some(forward.app.app_id.clone()));
    put(request, ENVIRONMENT, Some(forward.app.environment.clone()));
    if let Some((_, key)) = forward.key {
        put(request, KEY_ID, HeaderValue::from_str(&key.key_id).ok());
        put(request, KEY_TYPE, Some(key.key_type.clone()));
        put(request, SCOPES, Some(key.scopes.clone()));
    }
    if matches!(forward.key, Some((KeyType::Secret, _))) {
        put(request, X_APP_ID, forward.instance.app_id.clone());
        put(request, X_API_KEY, forward.instance.service_key.clone());
    } else {
        put(request, X_PUBLISHABLE_KEY, forward.instance.publishable_key.clone());
    }
    // Always ours: a client that chose it could make two requests look like one.
    request.strike(&X_REQUEST_ID);
    put(request, X_REQUEST_ID, request_id);
    trace(request, forward.trace);
    forwarded(request, forward);
}

fn put(request: &mut impl Lines, name: HeaderName, value: Option<HeaderValue>) {
    if let Some(value) = value {
        request.put(name, value);
    }
}

fn forwarded(request: &mut impl Lines, forward: &Forward<'_>) {
    // The client alone, and not the chain of proxies: an instance that counts hops or skips private addresses to find the
    // client would have to know which proxies the platform has.
    let client = forward
        .client
        .and_then(|client| HeaderValue::from_str(&client.to_canonical().to_string()).ok());
    put(request, X_FORWARDED_FOR, client.clone());
    put(request, X_REAL_IP, client);
    put(
        request,
        X_FORWARDED_PROTO,
        Some(HeaderValue::from_static(forward.scheme)),
    );
    let host = request.lines().get(header::HOST).cloned();
    put(request, X_FORWARDED_HOST, host);
    put(request, X_FORWARDED_PREFIX, forward.prefix.cloned());
}

/// The edge's span becomes the instance's parent. What others noted about a trace goes on with it, and with no other.
fn trace(request: &mut impl Lines, trace: Option<&Trace>) {
    let goes_on = trace.is_some_and(|trace| trace.parent.is_some())
        && is_state(request.lines().get_all(TRACESTATE).iter().map(HeaderValue::as_bytes));
    if !goes_on {
        request.strike(&TRACESTATE);
    }
    request.strike(&TRACEPARENT);
    put(request, TRACEPARENT, trace.and_then(Trace::header));
}

/// What every answer carries, whoever made it.
#[derive(Debug, Clone, Copy)]
pub struct Identity<'a> {
    /// The application's values; `None` before the application is known.
    pub app: Option<&'a AppHeaders>,
    /// The request's id.
    pub request_id: RequestId,
    /// The edge's region.
    pub region: &'a HeaderValue,
    /// What browsers are told.
    pub cors: &'a Grant,
    /// Where the caller stands with its limit; `None` before that is known.
    pub standing: Option<&'a Standing>,
}

/// What an instance's answer is given to the client with.
#[derive(Clone, Copy)]
pub struct Reply<'a> {
    /// What every answer carries.
    pub identity: Identity<'a>,
    /// Where the application stands on the shared host; `None` on a host of its own, where nothing is rewritten.
    pub shared: Option<Place<'a>>,
}

/// Makes the head that the client reads out of the one that the instance sent. Returns the number of cookies that could not
/// be confined to the application and were dropped.
pub fn to_client(response: &mut impl Lines, reply: &Reply<'_>) -> usize {
    for name in names(response.lines(), is_reserved) {
        response.strike(&name);
    }
    response.strike(&header::SERVER);
    response.strike(&X_POWERED_BY);
    cors::strike_foreign(response);
    identify(response, &reply.identity);
    reply.shared.map_or(0, |place| on_shared_host(response, &place))
}

/// Says to whom an answer belongs.
pub fn identify(response: &mut impl Lines, identity: &Identity<'_>) {
    if let Some(app) = identity.app {
        response.put(APP_ID, app.app_id.clone());
    }
    if let Ok(request_id) = HeaderValue::from_str(&identity.request_id.text()) {
        response.put(REQUEST_ID, request_id);
    }
    response.put(REGION, identity.region.clone());
    identity.cors.apply(response);
    if let Some(standing) = identity.standing {
        standing.fields(|name, value| response.put(name, value));
    }
}

fn on_shared_host(response: &mut impl Lines, place: &Place<'_>) -> usize {
    for name in &ORIGIN_WIDE {
        response.strike(name);
    }
    let mut dropped = 0;
    if response.lines().contains_key(header::SET_COOKIE) {
        let cookies: Vec<HeaderValue> = response.lines().get_all(header::SET_COOKIE).iter().cloned().collect();
        response.strike(&header::SET_COOKIE);
        for cookie in cookies {
            let confined = cookie.to_str().ok().and_then(|text| confine_cookie(text, place.prefix));
            match confined.and_then(|text| HeaderValue::from_str(&text).ok()) {
                Some(value) => response.add(header::SET_COOKIE, value),
                None => dropped += 1,
            }
        }
    }
    for (name, rewrite) in ADDRESSES {
        let given = response.lines().get(&name).and_then(|value| value.to_str().ok());
        if let Some(rewritten) = given.and_then(|text| rewrite(text, place))
            && let Ok(value) = HeaderValue::from_str(&rewritten)
        {
            response.put(name, value);
        }
    }
    let content_type = response
        .lines()
        .get(header::CONTENT_TYPE)
        .map(|value| value.to_str().unwrap_or_default());
    if is_document(content_type) {
        // Added: a browser obeys every policy, so the instance's own can only be narrowed.
        response.add(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox"));
    }
    response.put(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    dropped
}

/// The headers of an answer that name an address, and how each is rewritten.
type Rewrite = fn(&str, &Place<'_>) -> Option<String>;
const ADDRESSES: [(HeaderName, Rewrite); 3] = [
    (header::LOCATION, rewrite_location),
    (header::CONTENT_LOCATION, rewrite_location),
    (header::REFRESH, rewrite_refresh),
];

/// Some servers read `_` as `-`, so neither spelling may pass.
fn is_reserved(name: &HeaderName) -> bool {
    let name = name.as_str().as_bytes();
    name.len() >= RESERVED.len() && reads_as(&name[..RESERVED.len()], RESERVED)
}

fn reads_as(given: &[u8], ours: &[u8]) -> bool {
    given.len() == ours.len()
        && given
            .iter()
            .zip(ours)
            .all(|(given, ours)| given == ours || (*given == b'_' && *ours == b'-'))
}

/// A protected name with underscores: servers behind CGI or WSGI read both spellings as one.
fn is_misspelt(name: &HeaderName) -> bool {
    let name = name.as_str().as_bytes();
    name.contains(&b'_')
        && (CLIENT_MAY_NOT_SET
            .iter()
            .any(|ours| reads_as(name, ours.as_str().as_bytes()))
            || DISGUISED.iter().any(|ours| reads_as(name, ours)))
}

/// Allocates only if there are any.
fn names(headers: &HeaderMap, are: impl Fn(&HeaderName) -> bool) -> Vec<HeaderName> {
    headers.keys().filter(|name| are(name)).cloned().collect()
}

#[cfg(test)]
mod tests;
