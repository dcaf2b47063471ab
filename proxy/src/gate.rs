//! The decision: may this request pass, and as whom?
//!
//! Owns the order of the checks and nothing else. [`decide`] is a pure function of the request, the clock and what is known
//! of the routing table so far; when it needs a record that was not looked up yet it asks for it, so that every forwarding
//! path shares it, whether its look-ups are in memory or awaited. It does not know where records come from.
//!
//! The order is what keeps strangers from learning: a key is proved before anything about the application is told, and an
//! application that does not exist answers like one whose key is wrong.

use std::net::IpAddr;

use authsome_contract::model::path_class::classify;
use authsome_contract::model::{AppRecord, PathClass, Refusal as Unavailability, Serve};
use authsome_core::id::ApplicationId;
use authsome_core::key::{Digest, KeyType};

use crate::error::Refusal;
use crate::filter::cors::Browser;
use crate::routing::HeldKey;

/// What the decision is made about.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The method, upper case.
    pub method: &'a str,
    /// The application that the path or the host names.
    pub app_id: ApplicationId,
    /// The path relative to the application.
    pub tail: &'a str,
    /// Digest of the secret key that came with it.
    pub secret: Option<Digest>,
    /// Digest of the publishable key that came with it.
    pub public: Option<Digest>,
    /// The client's address. `None` (not an internet connection) is in no network.
    pub client: Option<IpAddr>,
    /// What a browser says of itself.
    pub browser: Browser<'a>,
    /// Now, in milliseconds since the Unix epoch.
    pub now_ms: i64,
    /// Age of the heartbeat that last proved the routing table complete, milliseconds. `None`: there was none.
    pub heartbeat_age_ms: Option<i64>,
}

/// What is known of one record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Answer<T> {
    /// Nobody asked yet.
    #[default]
    Unasked,
    /// There is none.
    Absent,
    /// This is it.
    Found(T),
}

impl<T> Answer<T> {
    /// Borrows what was found.
    pub fn as_ref(&self) -> Answer<&T> {
        match self {
            Self::Unasked => Answer::Unasked,
            Self::Absent => Answer::Absent,
            Self::Found(value) => Answer::Found(value),
        }
    }

    /// Changes what was found.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Answer<U> {
        match self {
            Self::Unasked => Answer::Unasked,
            Self::Absent => Answer::Absent,
            Self::Found(value) => Answer::Found(change(value)),
        }
    }
}

/// The records that were looked up so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Known<'a> {
    /// Of the secret key.
    pub secret: Answer<&'a HeldKey>,
    /// Of the publishable key.
    pub public: Answer<&'a HeldKey>,
    /// Of the application.
    pub app: Answer<&'a AppRecord>,
}

/// A record that the decision needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// That of the secret key.
    Secret(Digest),
    /// That of the publishable key.
    Public(Digest),
    /// That of the application.
    App(ApplicationId),
}

/// Where the decision stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Look this up, add it to what is known, and decide again.
    Ask(Ask),
    /// Forward, on behalf of the key of this type; `None` is nobody, on an open path.
    Admit(Option<KeyType>),
    /// Answer this.
    Refuse(Refusal),
}

/// Decides as far as `known` allows. Asks for each record at most once.
pub fn decide(request: &Request<'_>, known: &Known<'_>) -> Step {
    let secret = match proved(request, request.secret, KeyType::Secret, known.secret, Ask::Secret) {
        Ok(record) => record,
        Err(step) => return step,
    };
    let public = match proved(request, request.public, KeyType::Public, known.public, Ask::Public) {
        Ok(record) => record,
        Err(step) => return step,
    };
    let key = secret.or(public);

    let app = match known.app {
        Answer::Unasked => return Step::Ask(Ask::App(request.app_id)),
        Answer::Absent => None,
        Answer::Found(app) if app.id != request.app_id || app.serve == Serve::Refuse(Unavailability::Deleted) => None,
        Answer::Found(app) => Some(app),
    };
    let policy = app.map_or(&[][..], |app| &app.path_policy);
    let class = classify(policy, request.method, request.tail);
    let Some(app) = app else {
        // Gone and never there are answered alike.
        return Step::Refuse(match (key, class) {
            (Some(_), _) => Refusal::InvalidKey,
            (None, PathClass::Open) => Refusal::UnknownApplication,
            (None, _) => Refusal::MissingKey,
        });
    };
    if key.is_none() && class != PathClass::Open {
        return Step::Refuse(Refusal::MissingKey);
    }
    if let Serve::Refuse(reason) = app.serve {
        return Step::Refuse(Refusal::NotServing(reason));
    }
    let Some(key) = key else { return Step::Admit(None) };
    if key.key_type == KeyType::Secret && !is_vouched_for(app, request.heartbeat_age_ms) {
        return Step::Refuse(Refusal::StaleRouting);
    }
    if !may_come_from(key, request.client) {
        return Step::Refuse(Refusal::Address);
    }
    match key.key_type {
        // A page that holds a secret key has given it to everybody who reads the page.
        KeyType::Secret if request.browser.is_one && !app.secret_from_browsers => {
            return Step::Refuse(Refusal::SecretInBrowser);
        }
        KeyType::Public if !request.browser.may_use(key, app) => return Step::Refuse(Refusal::Origin),
        KeyType::Secret | KeyType::Public => {}
    }
    match (class, key.key_type) {
        (PathClass::Secret(_), KeyType::Public) => Step::Refuse(Refusal::SecretKeyNeeded),
        (PathClass::Secret(scope), KeyType::Secret) if !key.scopes.allows(scope) => Step::Refuse(Refusal::MissingScope),
        _ => Step::Admit(Some(key.key_type)),
    }
}

/// The record of a presented key that opens the application now; `None` if no such key was presented.
fn proved<'a>(
    request: &Request<'_>,
    digest: Option<Digest>,
    key_type: KeyType,
    answer: Answer<&'a HeldKey>,
    ask: fn(Digest) -> Ask,
) -> Result<Option<&'a HeldKey>, Step> {
    let Some(digest) = digest else { return Ok(None) };
    match answer {
        Answer::Unasked => Err(Step::Ask(ask(digest))),
        Answer::Found(key)
            if key.digest.same_as(&digest)
                && key.key_type == key_type
                && key.application_id == request.app_id
                && key.is_usable(request.now_ms) =>
        {
            Ok(Some(key))
        }
        Answer::Found(_) | Answer::Absent => Err(Step::Refuse(Refusal::InvalidKey)),
    }
}

/// A strict application would rather be without its secret keys than accept one that was revoked unheard.
pub(crate) fn is_vouched_for(app: &AppRecord, heartbeat_age_ms: Option<i64>) -> bool {
    app.strict_seconds
        .is_none_or(|bound| heartbeat_age_ms.is_some_and(|age| age <= i64::from(bound) * 1000))
}

fn may_come_from(key: &HeldKey, client: Option<IpAddr>) -> bool {
    // `::ffff:192.0.2.1` is how a dual-stack listener shows 192.0.2.1.
    let networks = key.networks();
    networks.is_empty()
        || client.is_some_and(|client| networks.iter().any(|network| network.contains(&client.to_canonical())))
}

#[cfg(test)]
mod tests;
