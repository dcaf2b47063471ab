//! Bearer tokens of identity providers (OpenID Connect): which issuers are believed, and what a token of theirs proves.
//!
//! A token is believed for its signature by a key that the issuer publishes, its audience, its time and the client it was given
//! to; everything else refuses it with one text. Our own tokens are HS256 and never come here, and no key of an issuer is ever used as
//! a secret. An issuer that is away: see `keys`.

mod claims;
mod jwk;
mod keys;

use std::sync::Arc;

use authsome_core::clock::Clock;
use authsome_core::config::{BadValue, FromValue};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::ClientConfig;
use serde::Deserialize;
use url::Url;

use self::claims::{Header, Meant};
use self::jwk::Algorithm;
use self::keys::{Keys, Place};
use crate::outbound;

pub use self::claims::Claims;

/// The longest token, in bytes: some carry many groups.
const LONGEST: usize = 16 * 1024;

/// Why a token is refused. For the log and for tests; clients read one text for all but [`Self::Unavailable`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OidcError {
    /// Not three parts of base64url JSON, of absurd length, or a claim of the wrong type.
    #[error("malformed")]
    Malformed,
    /// `none`, a symmetric one, or one that is not supported.
    #[error("the algorithm is not believed")]
    Algorithm,
    /// A token of another purpose, or with an extension that must be understood.
    #[error("the type is not that of a caller's token")]
    Type,
    /// No such key of the issuer.
    #[error("unknown key")]
    UnknownKey,
    /// The signature does not belong to the token.
    #[error("wrong signature")]
    Signature,
    /// Of another issuer.
    #[error("another issuer")]
    Issuer,
    /// For somebody else.
    #[error("another audience")]
    Audience,
    /// Given to a client that is not allowed.
    #[error("another authorized party")]
    Party,
    /// Too old.
    #[error("expired")]
    Expired,
    /// Too young.
    #[error("not valid yet")]
    NotYet,
    /// The issuer's keys cannot be had.
    #[error("the keys of the issuer cannot be had")]
    Unavailable,
}

/// An issuer as it is configured.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssuerSettings {
    /// Exactly as its tokens have it in `iss`.
    pub issuer: String,
    /// What its tokens must have in `aud`.
    pub audience: String,
    /// Clients that may have asked for a token (`azp`, `client_id`); the audience itself where it is empty.
    #[serde(default)]
    pub authorized_parties: Vec<String>,
    /// Where its keys are; found by discovery where it is left out.
    pub jwks_url: Option<String>,
    /// Domains whose addresses it may vouch for; any where it is empty.
    #[serde(default)]
    pub email_domains: Vec<String>,
    /// Whether it may bring people who have no account.
    #[serde(default = "yes")]
    pub sign_up: bool,
}

fn yes() -> bool {
    true
}

/// The setting `oidc.issuers`: an array of tables in the file, JSON in the variable.
#[derive(Debug, Clone, Default)]
pub struct IssuersSetting(pub Vec<IssuerSettings>);

const EXPECTED: &str = "a list of issuers with `issuer` and `audience`";

impl FromValue for IssuersSetting {
    fn from_text(text: &str) -> Result<Self, BadValue> {
        let issuers: Vec<IssuerSettings> =
            serde_json::from_str(text).map_err(|error| BadValue::Because(format!("is not {EXPECTED}: {error}")))?;
        checked(issuers)
    }

    fn from_toml(value: &toml::Value) -> Result<Self, BadValue> {
        let issuers: Vec<IssuerSettings> = value
            .clone()
            .try_into()
            .map_err(|error: toml::de::Error| BadValue::Because(format!("is not {EXPECTED}: {}", error.message())))?;
        checked(issuers)
    }
}

fn checked(issuers: Vec<IssuerSettings>) -> Result<IssuersSetting, BadValue> {
    for (position, issuer) in issuers.iter().enumerate() {
        let safe = |text: &str| {
            Url::parse(text)
                .ok()
                .filter(|url| outbound::is_safe(url) && url.fragment().is_none())
        };
        let name = safe(&issuer.issuer).is_some_and(|url| url.query().is_none());
        if !name || issuer.jwks_url.as_deref().is_some_and(|url| safe(url).is_none()) {
            let message = format!("[{position}] must have https addresses without user and fragment");
            return Err(BadValue::Because(message));
        }
        if issuer.audience.is_empty() {
            return Err(BadValue::Because(format!("[{position}].audience must not be empty")));
        }
        if issuers[..position].iter().any(|other| other.issuer == issuer.issuer) {
            return Err(BadValue::Because(format!("[{position}].issuer is there twice")));
        }
    }
    Ok(IssuersSetting(issuers))
}

/// An issuer that is believed.
pub struct Issuer {
    settings: IssuerSettings,
    keys: Arc<Keys>,
}

/// All of them.
#[derive(Default)]
pub struct Issuers(Vec<Issuer>);

#[derive(Deserialize)]
struct Unchecked {
    iss: String,
}

impl Issuers {
    /// Asks none of them yet.
    pub fn new(settings: IssuersSetting, tls: &Arc<ClientConfig>, clock: &Arc<dyn Clock>) -> Self {
        let issuer = |settings: IssuerSettings| {
            let place = match &settings.jwks_url {
                Some(url) => Url::parse(url).ok().map(Place::Given),
                None => discovery(&settings.issuer).map(|document| Place::Discovered {
                    issuer: settings.issuer.clone(),
                    document,
                }),
            };
            let keys = Keys::new(place?, Arc::clone(tls), Arc::clone(clock));
            Some(Issuer {
                settings,
                keys: Arc::new(keys),
            })
        };
        Self(settings.0.into_iter().filter_map(issuer).collect())
    }

    /// Whose token it says it is, if that is one of them. Decides who is asked about it, and nothing else.
    pub fn of(&self, token: &str) -> Option<&Issuer> {
        if self.0.is_empty() || token.len() > LONGEST {
            return None;
        }
        let mut parts = token.split('.');
        let (_, claims) = (parts.next()?, parts.next()?);
        let unchecked: Unchecked = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
        self.0.iter().find(|issuer| issuer.settings.issuer == unchecked.iss)
    }
}

/// Beneath the issuer's own path, whether or not that ends with a slash (OpenID Connect Discovery 1.0, 4.1).
fn discovery(issuer: &str) -> Option<Url> {
    Url::parse(&format!(
        "{}/.well-known/openid-configuration",
        issuer.trim_end_matches('/')
    ))
    .ok()
}

impl Issuer {
    /// How it is configured.
    pub fn settings(&self) -> &IssuerSettings {
        &self.settings
    }

    /// What the token proves at this moment.
    pub async fn verify(&self, token: &str, now: time::OffsetDateTime) -> Result<Claims, OidcError> {
        let mut parts = token.split('.');
        let (Some(header), Some(body), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(OidcError::Malformed);
        };
        let signed = &token[..header.len() + 1 + body.len()];
        let header: Header = serde_json::from_slice(&decode(header)?).map_err(|_| OidcError::Malformed)?;
        let algorithm = Algorithm::of(&header.alg).ok_or(OidcError::Algorithm)?;
        header.check()?;
        // Nothing is fetched for a token that could not be good anyway.
        let claims: Claims = serde_json::from_slice(&decode(body)?).map_err(|_| OidcError::Malformed)?;
        let meant = Meant {
            issuer: &self.settings.issuer,
            audience: &self.settings.audience,
            parties: &self.settings.authorized_parties,
        };
        claims.check(&meant, now)?;
        let key = self.keys.find(header.kid.as_deref(), algorithm).await?;
        if !key.verifies(signed.as_bytes(), &decode(signature)?) {
            return Err(OidcError::Signature);
        }
        Ok(claims)
    }

    /// May it vouch for this address?
    pub fn vouches_for(&self, email: &str) -> bool {
        let domains = &self.settings.email_domains;
        let domain = email.rsplit_once('@').map(|(_, domain)| domain).unwrap_or_default();
        domains.is_empty() || domains.iter().any(|allowed| allowed.eq_ignore_ascii_case(domain))
    }
}

impl std::fmt::Debug for Issuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Issuer").field(&self.settings.issuer).finish()
    }
}

impl std::fmt::Debug for Issuers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

fn decode(part: &str) -> Result<Vec<u8>, OidcError> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| OidcError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn discovery_lies_beneath_the_issuers_own_path() {
        for (issuer, document) in [
            (
                "https://a.example.com",
                "https://a.example.com/.well-known/openid-configuration",
            ),
            (
                "https://a.example.com/",
                "https://a.example.com/.well-known/openid-configuration",
            ),
            (
                "https://a.example.com/realms/x",
                "https://a.example.com/realms/x/.well-known/openid-configuration",
            ),
        ] {
            assert_eq!(discovery(issuer).unwrap().as_str(), document);
        }
    }

    #[test]
    fn issuers_are_configured_whole_or_refused_with_the_reason() {
        let good = r#"[{"issuer": "https://a.example.com/", "audience": "api", "email_domains": ["acme.com"], "sign_up": false}]"#;
        let read = IssuersSetting::from_text(good).unwrap().0;
        assert_eq!((read.len(), read[0].sign_up), (1, false));
        let table: toml::Value =
            toml::from_str("issuers = [{ issuer = \"http://127.0.0.1:1\", audience = \"a\" }]").unwrap();
        assert!(IssuersSetting::from_toml(&table["issuers"]).unwrap().0[0].sign_up);
        for bad in [
            "{}",
            r#"[{"issuer": "https://a.example.com/"}]"#,
            r#"[{"issuer": "https://a.example.com/", "audience": ""}]"#,
            r#"[{"issuer": "http://a.example.com/", "audience": "a"}]"#,
            r#"[{"issuer": "https://a.example.com/?x", "audience": "a"}]"#,
            r#"[{"issuer": "https://a.example.com/", "audience": "a", "jwks_url": "http://a.example.com/"}]"#,
            r#"[{"issuer": "https://a.example.com/", "audience": "a", "audiences": []}]"#,
            r#"[{"issuer": "https://a.example.com/", "audience": "a"}, {"issuer": "https://a.example.com/", "audience": "b"}]"#,
        ] {
            assert!(IssuersSetting::from_text(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_issuer_vouches_for_its_own_domains_only() {
        let settings = IssuersSetting::from_text(
            r#"[{"issuer": "https://a.example.com/", "audience": "a", "email_domains": ["acme.com"]}]"#,
        );
        let clock: Arc<dyn Clock> = Arc::new(authsome_core::clock::ManualClock::default());
        let tls = outbound::Roots::default().tls();
        let issuers = Issuers::new(settings.unwrap(), &tls, &clock);
        let issuer = &issuers.0[0];
        assert!(issuer.vouches_for("a@acme.com") && issuer.vouches_for("a@ACME.com"));
        for other in [
            "a@evil.com",
            "a@acme.com.evil.com",
            "a@notacme.com",
            "acme.com",
            "a@x@evil.com",
            "",
        ] {
            assert!(!issuer.vouches_for(other), "{other}");
        }
    }
}
