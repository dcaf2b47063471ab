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
use pingora::http::{RequestHeader, ResponseHeader};

use super::credential::{X_API_KEY, X_PUBLISHABLE_KEY};
use super::shared_host::{ORIGIN_WIDE, Place, confine_cookie, is_document, rewrite_location};
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
    /// The application's prefix on the shared host.
    pub prefix: &'a HeaderValue,
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
    /// Does `Authorization` hold a key of the platform?
    pub key_in_authorization: bool,
}

/// Makes the head that the instance reads out of the one that the client sent.
pub fn to_instance(request: &mut RequestHeader, forward: &Forward<'_>) {
    for name in reserved_names(&request.headers) {
        request.remove_header(&name);
    }
    for name in &CLIENT_MAY_NOT_SET {
        request.remove_header(name);
    }
    if forward.key_in_authorization {
        request.remove_header(&header::AUTHORIZATION);
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
    request.remove_header(&X_REQUEST_ID);
    put(request, X_REQUEST_ID, request_id);
    trace(request, forward.trace);
    forwarded(request, forward);
}

fn put(request: &mut RequestHeader, name: HeaderName, value: Option<HeaderValue>) {
    if let Some(value) = value {
        // Fails only beyond 32,768 headers; a head that long is refused long before.
        let _ = request.insert_header(name, value);
    }
}

fn forwarded(request: &mut RequestHeader, forward: &Forward<'_>) {
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
    let host = request.headers.get(header::HOST).cloned();
    put(request, X_FORWARDED_HOST, host);
    put(request, X_FORWARDED_PREFIX, Some(forward.prefix.clone()));
}

/// The edge's span becomes the instance's parent. What others noted about a trace goes on with it, and with no other.
fn trace(request: &mut RequestHeader, trace: Option<&Trace>) {
    let goes_on = trace.is_some_and(|trace| trace.parent.is_some())
        && is_state(request.headers.get_all(TRACESTATE).iter().map(HeaderValue::as_bytes));
    if !goes_on {
        request.remove_header(&TRACESTATE);
    }
    request.remove_header(&TRACEPARENT);
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
}

/// What an instance's answer is given to the client with.
#[derive(Clone, Copy)]
pub struct Reply<'a> {
    /// What every answer carries.
    pub identity: Identity<'a>,
    /// The application's prefix on the shared host: `/v1/app_…`.
    pub prefix: &'a str,
    /// The application's own prefix path at the instance.
    pub base_path: &'a str,
    /// The host that the client named.
    pub host: &'a str,
    /// Is this authority one of the instance's own addresses?
    pub is_internal: &'a dyn Fn(&str) -> bool,
}

/// Makes the head that the client reads out of the one that the instance sent. Returns the number of cookies that could not
/// be confined to the application and were dropped.
pub fn to_client(response: &mut ResponseHeader, reply: &Reply<'_>) -> usize {
    for name in reserved_names(&response.headers) {
        response.remove_header(&name);
    }
    response.remove_header(&header::SERVER);
    response.remove_header(&X_POWERED_BY);
    identify(response, &reply.identity);
    on_shared_host(response, reply)
}

/// Says to whom an answer belongs.
pub fn identify(response: &mut ResponseHeader, identity: &Identity<'_>) {
    if let Some(app) = identity.app {
        set(response, APP_ID, app.app_id.clone());
    }
    if let Ok(request_id) = HeaderValue::from_str(&identity.request_id.text()) {
        set(response, REQUEST_ID, request_id);
    }
    set(response, REGION, identity.region.clone());
}

fn set(response: &mut ResponseHeader, name: HeaderName, value: HeaderValue) {
    // Fails only beyond 32,768 headers, far above what is read from an instance.
    let _ = response.insert_header(name, value);
}

fn on_shared_host(response: &mut ResponseHeader, reply: &Reply<'_>) -> usize {
    for name in &ORIGIN_WIDE {
        response.remove_header(name);
    }
    let mut dropped = 0;
    if response.headers.contains_key(header::SET_COOKIE) {
        let cookies: Vec<HeaderValue> = response.headers.get_all(header::SET_COOKIE).iter().cloned().collect();
        response.remove_header(&header::SET_COOKIE);
        for cookie in cookies {
            let confined = cookie.to_str().ok().and_then(|text| confine_cookie(text, reply.prefix));
            match confined.and_then(|text| HeaderValue::from_str(&text).ok()) {
                Some(value) => drop(response.append_header(header::SET_COOKIE, value)),
                None => dropped += 1,
            }
        }
    }
    let location = response
        .headers
        .get(header::LOCATION)
        .and_then(|value| value.to_str().ok());
    let place = Place {
        prefix: reply.prefix,
        base_path: reply.base_path,
        host: reply.host,
        is_internal: reply.is_internal,
    };
    if let Some(rewritten) = location.and_then(|text| rewrite_location(text, &place))
        && let Ok(value) = HeaderValue::from_str(&rewritten)
    {
        set(response, header::LOCATION, value);
    }
    let content_type = response
        .headers
        .get(header::CONTENT_TYPE)
        .map(|value| value.to_str().unwrap_or_default());
    if is_document(content_type) {
        let sandbox = HeaderValue::from_static("sandbox");
        // Appended: a browser obeys every policy, so the instance's own can only be narrowed.
        let _ = response.append_header(header::CONTENT_SECURITY_POLICY, sandbox);
    }
    set(response, X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    dropped
}

/// Some servers read `_` as `-`, so neither spelling may pass.
fn is_reserved(name: &HeaderName) -> bool {
    let name = name.as_str().as_bytes();
    let begins = name.len() >= RESERVED.len() && reads_as(&name[..RESERVED.len()], RESERVED);
    begins || is_disguised(name)
}

/// A protected name with underscores: servers behind CGI or WSGI read both spellings as one.
fn is_disguised(name: &[u8]) -> bool {
    name.contains(&b'_')
        && (CLIENT_MAY_NOT_SET
            .iter()
            .any(|ours| reads_as(name, ours.as_str().as_bytes()))
            || DISGUISED.iter().any(|ours| reads_as(name, ours)))
}

fn reads_as(given: &[u8], ours: &[u8]) -> bool {
    given.len() == ours.len()
        && given
            .iter()
            .zip(ours)
            .all(|(given, ours)| given == ours || (*given == b'_' && *ours == b'-'))
}

/// Allocates only if there are any.
fn reserved_names(headers: &HeaderMap) -> Vec<HeaderName> {
    headers.keys().filter(|name| is_reserved(name)).cloned().collect()
}

#[cfg(test)]
mod tests;
