//! Which pages of the web may call an application, and what their browsers are told (Fetch standard, section 3.2).
//!
//! Owns the comparison of origins and every `Access-Control-*` header; an instance's own are replaced, since it knows neither the
//! shared host nor the application's list. Origins are exact: there is no wildcard, because every answer allows credentials. Pure
//! functions of the request and the records.

use authsome_contract::model::{AppRecord, Environment};
use http::{HeaderValue, Method};

use super::lines::{self, Fields, Lines};
use super::name::{self, Name, name};
use crate::routing::HeldKey;

static SEC_FETCH_SITE: Name = name!("sec-fetch-site");

/// How long a browser may remember the answer to a preflight, seconds: what Chromium remembers at most. Every request is checked
/// anyway.
const MAX_AGE: HeaderValue = HeaderValue::from_static("7200");
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
/// What pages may read besides the headers that every page may.
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "X-AuthSome-App-ID, X-AuthSome-Request-ID, X-AuthSome-Region, X-RateLimit-Limit, X-RateLimit-Remaining, \
     X-RateLimit-Reset, RateLimit, RateLimit-Policy, Retry-After, ETag, Link, Location",
);
/// Of `Access-Control-Request-Headers`; the longest that browsers are seen to send is a tenth of it.
const REQUESTED_BYTES: usize = 4096;

/// The page that a request comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Origin<'a> {
    /// It does not say.
    #[default]
    Unsaid,
    /// `null`, several, or no text: nobody that could be allowed.
    Opaque,
    /// `https://app.example.com`, as it stands there.
    Of(&'a str),
}

/// What a browser says of itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Browser<'a> {
    /// The page that asks.
    pub origin: Origin<'a>,
    /// Is there any mark of a browser: `Origin` or `Sec-Fetch-Site`, which pages cannot remove?
    pub is_one: bool,
    /// The page is of the very host that it calls, which is the application's own.
    pub is_at_home: bool,
}

impl<'a> Browser<'a> {
    /// Reads the marks. `own_host`: scheme and `Host` of the request, if the host is the application's own.
    pub fn of(headers: &'a impl Fields, own_host: Option<(&str, &str)>) -> Self {
        let mut origins = headers.all(&name::ORIGIN);
        let origin = match (origins.next(), origins.next()) {
            (None, _) => Origin::Unsaid,
            (Some(value), None) => match lines::text(value) {
                Some("null" | "") | None => Origin::Opaque,
                Some(text) => Origin::Of(text),
            },
            (Some(_), Some(_)) => Origin::Opaque,
        };
        let is_at_home = match (origin, own_host) {
            (Origin::Of(origin), Some((scheme, host))) => origin
                .strip_prefix(scheme)
                .and_then(|rest| rest.strip_prefix("://"))
                .is_some_and(|authority| authority.eq_ignore_ascii_case(host)),
            _ => false,
        };
        Self {
            origin,
            is_one: origin != Origin::Unsaid || headers.has(&SEC_FETCH_SITE),
            is_at_home,
        }
    }

    /// May this page call the application? A request without a page may.
    pub fn may_call(&self, app: &AppRecord) -> bool {
        match self.origin {
            Origin::Unsaid => true,
            Origin::Opaque => false,
            Origin::Of(origin) => self.is_at_home || lists(&app.origins, origin) || is_local(app.environment, origin),
        }
    }

    /// May this page use the key? A key with origins of its own may be used there and nowhere else.
    pub fn may_use(&self, key: &HeldKey, app: &AppRecord) -> bool {
        match self.origin {
            Origin::Of(origin) if !key.origins().is_empty() => self.is_at_home || lists(key.origins(), origin),
            _ => self.may_call(app),
        }
    }
}

fn lists(origins: &[String], origin: &str) -> bool {
    origins.iter().any(|listed| listed == origin)
}

/// A developer's own machine may call what is not production, on whatever port.
fn is_local(environment: Environment, origin: &str) -> bool {
    let port = |rest: &str| {
        rest.is_empty()
            || rest
                .strip_prefix(':')
                .is_some_and(|port| (1..=5).contains(&port.len()) && port.bytes().all(|b| b.is_ascii_digit()))
    };
    environment != Environment::Production
        && ["http://localhost", "http://127.0.0.1"]
            .iter()
            .any(|local| origin.strip_prefix(local).is_some_and(port))
}

/// What an answer says to browsers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Grant {
    /// Nothing: the application is not known.
    #[default]
    Unknown,
    /// That another page might get another answer.
    Nobody,
    /// That this page may read it.
    To(HeaderValue),
}

impl Grant {
    /// For the page that a request comes from.
    pub fn for_page(browser: &Browser<'_>, allowed: bool) -> Self {
        match browser.origin {
            Origin::Of(origin) if allowed => HeaderValue::from_str(origin).map_or(Self::Nobody, Self::To),
            _ => Self::Nobody,
        }
    }

    /// Adds it to the head of an answer, in which nothing is left of [`Sets::BROWSERS_ARE_TOLD`](super::sets::Sets::BROWSERS_ARE_TOLD).
    pub fn apply(&self, answer: &mut impl Lines) {
        let origin = match self {
            Self::Unknown => return,
            Self::Nobody => return vary(answer, &HeaderValue::from_static("Origin")),
            Self::To(origin) => origin,
        };
        vary(answer, &HeaderValue::from_static("Origin"));
        answer.say_ref(&name::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        answer.say(&name::ACCESS_CONTROL_ALLOW_CREDENTIALS, b"true");
        answer.say_ref(&name::ACCESS_CONTROL_EXPOSE_HEADERS, &EXPOSED);
    }
}

/// Adds to `Vary`, unless it says so already.
fn vary(answer: &mut impl Lines, on: &HeaderValue) {
    let says = |name: &[u8]| {
        answer
            .all(&name::VARY)
            .flat_map(|line| line.split(|b| *b == b','))
            .any(|given| given.trim_ascii() == b"*" || given.trim_ascii().eq_ignore_ascii_case(name))
    };
    if !says(on.as_bytes()) {
        answer.say_ref(&name::VARY, on);
    }
}

/// Is this a browser's question whether it may send another request? Such a question never carries a key.
pub fn is_preflight(method: &Method, headers: &impl Fields) -> bool {
    *method == Method::OPTIONS && headers.has(&name::ORIGIN) && headers.has(&name::ACCESS_CONTROL_REQUEST_METHOD)
}

/// What a preflight is told besides its [`Grant`], if the page is allowed. Any header may be sent: what a client may not say is
/// removed from requests, whoever sends them.
pub fn answer_preflight(answer: &mut impl Lines, asked: &impl Fields) {
    answer.put(&name::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    let mut names = asked.all(&name::ACCESS_CONTROL_REQUEST_HEADERS);
    if let (Some(names), None) = (names.next(), names.next())
        && is_list_of_names(names)
        && let Ok(names) = HeaderValue::from_bytes(names)
    {
        answer.put(&name::ACCESS_CONTROL_ALLOW_HEADERS, names);
    }
    answer.put(&name::ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    vary(answer, &HeaderValue::from_static("Access-Control-Request-Method"));
    vary(answer, &HeaderValue::from_static("Access-Control-Request-Headers"));
}

/// Names of headers between commas, and nothing that a browser could take for `*`.
fn is_list_of_names(list: &[u8]) -> bool {
    let is_token = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'+-.^_`|~".contains(b);
    list.len() <= REQUESTED_BYTES
        && list.split(|b| *b == b',').all(|name| {
            let name = name.trim_ascii();
            !name.is_empty() && name.iter().all(is_token)
        })
}

#[cfg(test)]
mod tests;
