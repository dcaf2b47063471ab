//! The keys of one issuer as they are now: fetched when they are first needed, again when they are old or a token names one that is
//! not among them, and never more often than every half minute, whatever tokens say.
//!
//! The issuer is away: what was fetched before goes on being believed for a day, since keys seldom change. Without any, tokens of
//! this issuer cannot be judged: 503, and nobody is let in.

use std::sync::{Arc, Mutex, PoisonError};

use authsome_core::clock::Clock;
use authsome_core::error::Chain;
use rustls::ClientConfig;
use serde::Deserialize;
use time::{Duration, OffsetDateTime};
use url::Url;

use super::OidcError;
use super::jwk::{self, Algorithm, Key};
use crate::outbound::{self, GetError};

/// After as long they are fetched again, while the old ones are used.
const FRESH: Duration = Duration::minutes(10);
/// For as long they are believed without the issuer.
const KEPT: Duration = Duration::days(1);
/// Between two fetches.
const APART: Duration = Duration::seconds(30);
/// The same after one that failed while there is no key at all.
const APART_WITHOUT: Duration = Duration::seconds(5);
/// The longest document, in bytes.
const LONGEST: usize = 512 * 1024;

/// Why keys could not be had. For operators.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("discovery: {0}")]
    Discovery(#[source] GetError),
    #[error("the discovery document is none of this issuer")]
    NotDiscovery,
    #[error("keys: {0}")]
    Keys(#[source] GetError),
    #[error("the document is no set of keys, or holds none that can be used")]
    NotKeys,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

/// Where the keys of an issuer are found.
#[derive(Debug, Clone)]
pub(super) enum Place {
    /// The issuer says where (OpenID Connect Discovery 1.0, 4).
    Discovered {
        /// As it must call itself.
        issuer: String,
        /// Where it says so.
        document: Url,
    },
    /// The operator says where.
    Given(Url),
}

#[derive(Default)]
struct State {
    keys: Arc<Vec<Key>>,
    fetched: Option<OffsetDateTime>,
    tried: Option<OffsetDateTime>,
    troubled: bool,
}

/// The keys of an issuer.
pub(super) struct Keys {
    place: Place,
    tls: Arc<ClientConfig>,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    /// One fetch at a time; who waited looks again first.
    turn: tokio::sync::Mutex<()>,
}

impl Keys {
    /// None yet.
    pub(super) fn new(place: Place, tls: Arc<ClientConfig>, clock: Arc<dyn Clock>) -> Self {
        Self {
            place,
            tls,
            clock,
            state: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
        }
    }

    /// The key that a token was signed by: of this name and algorithm; without a name, the only one of the algorithm.
    pub(super) async fn find(self: &Arc<Self>, id: Option<&str>, algorithm: Algorithm) -> Result<Key, OidcError> {
        let (held, age) = self.held();
        let found = pick(&held, id, algorithm);
        match (found, age) {
            (Some(key), Some(age)) if age < FRESH => return Ok(key),
            (Some(key), Some(age)) if age < KEPT => {
                let keys = Arc::clone(self);
                tokio::spawn(async move { keys.refresh().await });
                return Ok(key);
            }
            _ => {}
        }
        self.refresh().await;
        let (held, age) = self.held();
        match age {
            Some(age) if age < KEPT => match pick(&held, id, algorithm) {
                Some(key) => Ok(key),
                None if age < FRESH => Err(OidcError::UnknownKey),
                // It may well be one that we could not learn of.
                None => Err(OidcError::Unavailable),
            },
            _ => Err(OidcError::Unavailable),
        }
    }

    fn held(&self) -> (Arc<Vec<Key>>, Option<Duration>) {
        let now = self.clock.now();
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        (Arc::clone(&state.keys), state.fetched.map(|at| now - at))
    }

    /// Fetches, unless that was done a moment ago.
    async fn refresh(&self) {
        let _turn = self.turn.lock().await;
        let now = self.clock.now();
        {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let apart = if state.fetched.is_some() { APART } else { APART_WITHOUT };
            if state.tried.is_some_and(|at| now - at < apart) {
                return;
            }
            state.tried = Some(now);
        }
        let fetched = self.fetch().await;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match fetched {
            Ok(keys) => {
                if std::mem::take(&mut state.troubled) {
                    tracing::info!(place = %self.place, "the keys of the issuer are there again");
                }
                state.keys = Arc::new(keys);
                state.fetched = Some(now);
            }
            Err(error) => {
                if !std::mem::replace(&mut state.troubled, true) {
                    tracing::warn!(place = %self.place, error = %Chain(&error), "the keys of an issuer cannot be fetched; trying again");
                }
            }
        }
    }

    async fn fetch(&self) -> Result<Vec<Key>, FetchError> {
        let place = match &self.place {
            Place::Given(url) => url.clone(),
            Place::Discovered { issuer, document } => {
                let text = outbound::get(&self.tls, document, LONGEST)
                    .await
                    .map_err(FetchError::Discovery)?;
                let found: Discovery = serde_json::from_slice(&text).map_err(|_| FetchError::NotDiscovery)?;
                if found.issuer != *issuer {
                    return Err(FetchError::NotDiscovery);
                }
                Url::parse(&found.jwks_uri).map_err(|_| FetchError::NotDiscovery)?
            }
        };
        let text = outbound::get(&self.tls, &place, LONGEST)
            .await
            .map_err(FetchError::Keys)?;
        jwk::parse(&text)
            .filter(|keys| !keys.is_empty())
            .ok_or(FetchError::NotKeys)
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Discovered { issuer, .. } => f.write_str(issuer),
            Self::Given(url) => url.fmt(f),
        }
    }
}

fn pick(keys: &[Key], id: Option<&str>, algorithm: Algorithm) -> Option<Key> {
    let mut fitting = keys
        .iter()
        .filter(|key| key.algorithm() == algorithm && id.is_none_or(|id| key.id.as_deref() == Some(id)));
    let first = fitting.next()?;
    // Of several that a token might mean, none is meant.
    (id.is_some() || fitting.next().is_none()).then(|| first.clone())
}
