//! Which headers reach the instance, and which reach the client.
//!
//! Owns the reserved names: a client can set none of them towards an instance, an instance none towards a client. Runs after
//! the forwarding path has removed hop-by-hop headers, so that a client cannot have ours removed by naming them in
//! `Connection`. Works on values that were prepared when the record arrived; the only failure is a value that is no header,
//! which leaves that header out.

use std::net::IpAddr;

use authsome_core::id::IdText;
use authsome_core::key::KeyType;
use http::HeaderValue;

use super::cors::Grant;
use super::credential::{self, Places, X_API_KEY, X_PUBLISHABLE_KEY};
use super::lines::{self, Lines};
use super::name::{self, Name, name};
use super::sets::Sets;
use super::shared_host::{Place, confine_cookie, is_document, rewrite_location, rewrite_refresh};
use super::short::of_address;
use crate::limit::Standing;
use crate::routing::{AppHeaders, KeyHeaders};
use crate::trace::{TRACEPARENT, TRACESTATE, Trace, is_state};
use crate::upstream::InstanceCredentials;

static APP_ID: Name = name!("x-authsome-app-id");
static KEY_ID: Name = name!("x-authsome-key-id");
static KEY_TYPE: Name = name!("x-authsome-key-type");
static ENVIRONMENT: Name = name!("x-authsome-environment");
static SCOPES: Name = name!("x-authsome-scopes");
static REQUEST_ID: Name = name!("x-authsome-request-id");
static REGION: Name = name!("x-authsome-region");

static X_REQUEST_ID: Name = name!("x-request-id");
static X_APP_ID: Name = name!("x-app-id");
static X_REAL_IP: Name = name!("x-real-ip");
static X_CONTENT_TYPE_OPTIONS: Name = name!("x-content-type-options");
static X_FORWARDED_FOR: Name = name!("x-forwarded-for");
static X_FORWARDED_PROTO: Name = name!("x-forwarded-proto");
static X_FORWARDED_HOST: Name = name!("x-forwarded-host");
static X_FORWARDED_PREFIX: Name = name!("x-forwarded-prefix");

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
    pub request_id: &'a IdText,
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
    let has_key = forward.keys_in.authorization;
    // All names that are said below, so that those lines can be added without looking for others. What others noted about a
    // trace goes on with it, and with no other.
    let goes_on = forward.trace.is_some_and(|trace| trace.parent.is_some()) && is_state(request.all(&TRACESTATE));
    request.strike_sets(
        Sets::RESERVED
            .and(Sets::CLIENT_MAY_NOT_SET)
            .and(Sets::MISSPELT)
            .and_if(has_key, Sets::AUTHORIZATION)
            .and_if(!goes_on, Sets::TRACESTATE),
    );
    if forward.keys_in.subprotocol {
        let kept = credential::subprotocols_without_keys(request);
        request.strike(&name::SEC_WEBSOCKET_PROTOCOL);
        put(request, &name::SEC_WEBSOCKET_PROTOCOL, kept.as_ref());
    }
    // A page whose address holds a key names it to everything that it loads.
    if let Some(without) = credential::referer_without_keys(request) {
        request.strike(&name::REFERER);
        put(request, &name::REFERER, without.as_ref());
    }

    request.say_ref(&APP_ID, &forward.app.app_id);
    request.say_ref(&ENVIRONMENT, &forward.app.environment);
    if let Some((_, key)) = forward.key {
        request.say(&KEY_ID, key.key_id.as_bytes());
        request.say_ref(&KEY_TYPE, &key.key_type);
        request.say_ref(&SCOPES, &key.scopes);
    }
    if matches!(forward.key, Some((KeyType::Secret, _))) {
        say(request, &X_APP_ID, forward.instance.app_id.as_ref());
        say(request, &X_API_KEY, forward.instance.service_key.as_ref());
    } else {
        say(request, &X_PUBLISHABLE_KEY, forward.instance.publishable_key.as_ref());
    }
    // Always ours: a client that chose it could make two requests look like one.
    request.say(&X_REQUEST_ID, forward.request_id.as_bytes());
    // The edge's span becomes the instance's parent.
    if let Some(trace) = forward.trace {
        request.say(&TRACEPARENT, trace.header().as_bytes());
    }
    forwarded(request, forward);
}

fn say(request: &mut impl Lines, name: &Name, value: Option<&HeaderValue>) {
    if let Some(value) = value {
        request.say_ref(name, value);
    }
}

fn put(request: &mut impl Lines, name: &Name, value: Option<&HeaderValue>) {
    if let Some(value) = value {
        request.put_ref(name, value);
    }
}

fn forwarded(request: &mut impl Lines, forward: &Forward<'_>) {
    // The client alone, and not the chain of proxies: an instance that counts hops or skips private addresses to find the
    // client would have to know which proxies the platform has.
    if let Some(client) = forward.client {
        let address = of_address(client);
        request.say(&X_FORWARDED_FOR, address.as_bytes());
        request.say(&X_REAL_IP, address.as_bytes());
    }
    request.say(&X_FORWARDED_PROTO, forward.scheme.as_bytes());
    request.put_copy(&X_FORWARDED_HOST, &name::HOST);
    say(request, &X_FORWARDED_PREFIX, forward.prefix);
}

/// What every answer carries, whoever made it.
#[derive(Debug, Clone, Copy)]
pub struct Identity<'a> {
    /// The application's values; `None` before the application is known.
    pub app: Option<&'a AppHeaders>,
    /// The request's id.
    pub request_id: &'a IdText,
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
    let (is_shared, is_judged) = (reply.shared.is_some(), reply.identity.standing.is_some());
    response.strike_sets(
        Sets::RESERVED
            .and(Sets::NOT_FOR_CLIENTS)
            .and(Sets::BROWSERS_ARE_TOLD)
            .and_if(is_judged, Sets::STANDING)
            .and_if(is_shared, Sets::ORIGIN_WIDE),
    );
    say_whose(response, &reply.identity);
    reply.shared.map_or(0, |place| on_shared_host(response, &place))
}

/// Says to whom an answer belongs that is not an instance's own, or not its last.
pub fn identify(response: &mut impl Lines, identity: &Identity<'_>) {
    let is_judged = identity.standing.is_some();
    response.strike_sets(
        Sets::RESERVED
            .and(Sets::BROWSERS_ARE_TOLD)
            .and_if(is_judged, Sets::STANDING),
    );
    say_whose(response, identity);
}

/// None of the names is left in the head.
fn say_whose(response: &mut impl Lines, identity: &Identity<'_>) {
    if let Some(app) = identity.app {
        response.say_ref(&APP_ID, &app.app_id);
    }
    response.say(&REQUEST_ID, identity.request_id.as_bytes());
    response.say_ref(&REGION, identity.region);
    identity.cors.apply(response);
    if let Some(standing) = identity.standing {
        standing.tell(response);
    }
}

fn on_shared_host(response: &mut impl Lines, place: &Place<'_>) -> usize {
    let mut dropped = 0;
    if response.has(&name::SET_COOKIE) {
        let cookies: Vec<Option<String>> = response
            .all(&name::SET_COOKIE)
            .map(|cookie| confine_cookie(lines::text(cookie)?, place.prefix))
            .collect();
        response.strike(&name::SET_COOKIE);
        for cookie in cookies {
            match cookie.and_then(|text| HeaderValue::from_str(&text).ok()) {
                Some(value) => response.add(&name::SET_COOKIE, value),
                None => dropped += 1,
            }
        }
    }
    for (name, rewrite) in &ADDRESSES {
        let given = response.text(name);
        if let Some(rewritten) = given.and_then(|text| rewrite(text, place))
            && let Ok(value) = HeaderValue::from_str(&rewritten)
        {
            response.put(name, value);
        }
    }
    let content_type = response.first(&name::CONTENT_TYPE);
    if is_document(content_type) {
        // Added: a browser obeys every policy, so the instance's own can only be narrowed.
        response.add(&name::CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox"));
    }
    response.say(&X_CONTENT_TYPE_OPTIONS, b"nosniff");
    dropped
}

/// The headers of an answer that name an address, and how each is rewritten.
type Rewrite = fn(&str, &Place<'_>) -> Option<String>;
static ADDRESSES: [(&Name, Rewrite); 3] = [
    (&name::LOCATION, rewrite_location),
    (&name::CONTENT_LOCATION, rewrite_location),
    (&name::REFRESH, rewrite_refresh),
];

#[cfg(test)]
mod tests;
