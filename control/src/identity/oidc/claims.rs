//! What a token of an issuer says, and whether it says it to us. Pure.

use serde::Deserialize;
use time::OffsetDateTime;

use super::OidcError;

/// How far clocks may differ, in seconds.
const SKEW: i64 = 60;

/// The types of tokens that say who calls: ID tokens, and access tokens as JWT (RFC 9068). Others, such as logout tokens, are signed
/// by the same keys and mean something else.
const TYPES: [&str; 3] = ["jwt", "at+jwt", "application/at+jwt"];

/// The head of a token.
#[derive(Debug, Deserialize)]
pub(super) struct Header {
    /// The algorithm.
    pub(super) alg: String,
    /// Which key.
    pub(super) kid: Option<String>,
    typ: Option<String>,
    crit: Option<serde_json::Value>,
}

impl Header {
    /// Refuses what is no token of a caller, and extensions that must be understood.
    pub(super) fn check(&self) -> Result<(), OidcError> {
        let is_type = |typ: &str| TYPES.iter().any(|known| typ.eq_ignore_ascii_case(known));
        if self.crit.is_some() || !self.typ.as_deref().is_none_or(is_type) {
            return Err(OidcError::Type);
        }
        Ok(())
    }
}

/// What it says.
#[derive(Debug, Deserialize)]
pub struct Claims {
    iss: String,
    /// Whom it is about, in the issuer's words.
    pub sub: String,
    aud: Audience,
    exp: serde_json::Number,
    nbf: Option<serde_json::Number>,
    iat: Option<serde_json::Number>,
    azp: Option<String>,
    client_id: Option<String>,
    /// The person's address, as the issuer knows it.
    pub email: Option<String>,
    email_verified: Option<Flag>,
    /// What people call the person.
    pub name: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

/// Some issuers write it as text.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Flag {
    Bool(bool),
    Text(String),
}

/// For whom a token must be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Meant<'a> {
    /// Exactly as the token has it.
    pub(super) issuer: &'a str,
    /// One of the token's.
    pub(super) audience: &'a str,
    /// Clients that may have asked for the token, beside the audience itself.
    pub(super) parties: &'a [String],
}

impl Claims {
    /// Is it for us, now?
    pub(super) fn check(&self, meant: &Meant<'_>, now: OffsetDateTime) -> Result<(), OidcError> {
        if self.iss != meant.issuer {
            return Err(OidcError::Issuer);
        }
        let several = match &self.aud {
            Audience::One(audience) if audience == meant.audience => false,
            Audience::Many(all) if all.iter().any(|audience| audience == meant.audience) => all.len() > 1,
            _ => return Err(OidcError::Audience),
        };
        // OpenID Connect Core, 3.1.3.7: whom it was given to, where it says so or could have been given to others.
        let party = self.azp.as_deref().or(self.client_id.as_deref());
        let known = |party: &str| party == meant.audience || meant.parties.iter().any(|allowed| allowed == party);
        match party {
            Some(party) if !known(party) => return Err(OidcError::Party),
            None if several || !meant.parties.is_empty() => return Err(OidcError::Party),
            _ => {}
        }
        let now = now.unix_timestamp();
        if seconds(&self.exp)?.saturating_add(SKEW) <= now {
            return Err(OidcError::Expired);
        }
        for begin in [&self.nbf, &self.iat].into_iter().flatten() {
            if seconds(begin)? > now.saturating_add(SKEW) {
                return Err(OidcError::NotYet);
            }
        }
        let length = self.sub.len();
        if !(1..=255).contains(&length) || self.sub.contains('\0') {
            return Err(OidcError::Malformed);
        }
        Ok(())
    }

    /// The address, if the issuer says that the person was seen to read it.
    pub fn verified_email(&self) -> Option<&str> {
        let verified = match &self.email_verified {
            Some(Flag::Bool(verified)) => *verified,
            Some(Flag::Text(text)) => text == "true",
            None => false,
        };
        self.email.as_deref().filter(|_| verified)
    }
}

/// Issuers may write fractions (RFC 7519, 2).
#[expect(
    clippy::cast_possible_truncation,
    reason = "saturates, and a fraction of a second is none"
)]
fn seconds(number: &serde_json::Number) -> Result<i64, OidcError> {
    number
        .as_i64()
        .or_else(|| number.as_f64().map(|seconds| seconds as i64))
        .ok_or(OidcError::Malformed)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-11-23 12:00 UTC);

    fn check(change: &Value, parties: &[&str]) -> Result<(), OidcError> {
        let now = NOW.unix_timestamp();
        let mut claims = json!({ "iss": "https://issuer/", "sub": "1", "aud": "api", "exp": now + 60, "iat": now });
        for (name, value) in change.as_object().unwrap() {
            claims[name] = value.clone();
        }
        let parties: Vec<String> = parties.iter().map(|party| (*party).to_owned()).collect();
        let meant = Meant {
            issuer: "https://issuer/",
            audience: "api",
            parties: &parties,
        };
        let claims: Claims = serde_json::from_value(claims).map_err(|_| OidcError::Malformed)?;
        claims.check(&meant, NOW)
    }

    #[test]
    fn a_token_is_for_this_audience_from_this_issuer_and_of_now() {
        let now = NOW.unix_timestamp();
        for (change, expected) in [
            (json!({}), Ok(())),
            (json!({ "aud": ["api"] }), Ok(())),
            (json!({ "exp": now - 59 }), Ok(())),
            (json!({ "exp": 1_795_435_260.5 }), Ok(())),
            (json!({ "nbf": now + 59 }), Ok(())),
            (json!({ "azp": "api" }), Ok(())),
            (json!({ "aud": ["api", "userinfo"], "azp": "api" }), Ok(())),
            (json!({ "iss": "https://issuer" }), Err(OidcError::Issuer)),
            (json!({ "iss": "https://ISSUER/" }), Err(OidcError::Issuer)),
            (json!({ "aud": "other" }), Err(OidcError::Audience)),
            (json!({ "aud": [] }), Err(OidcError::Audience)),
            (json!({ "aud": "API" }), Err(OidcError::Audience)),
            (json!({ "aud": null }), Err(OidcError::Malformed)),
            (json!({ "aud": ["api", "other"] }), Err(OidcError::Party)),
            (json!({ "azp": "stranger" }), Err(OidcError::Party)),
            (json!({ "client_id": "stranger" }), Err(OidcError::Party)),
            (json!({ "exp": now - 60 }), Err(OidcError::Expired)),
            (json!({ "exp": "tomorrow" }), Err(OidcError::Malformed)),
            (json!({ "exp": null }), Err(OidcError::Malformed)),
            (json!({ "exp": -1e300 }), Err(OidcError::Expired)),
            (json!({ "nbf": now + 61 }), Err(OidcError::NotYet)),
            (json!({ "iat": now + 61 }), Err(OidcError::NotYet)),
            (json!({ "sub": "" }), Err(OidcError::Malformed)),
            (json!({ "sub": "a\0b" }), Err(OidcError::Malformed)),
            (json!({ "sub": 7 }), Err(OidcError::Malformed)),
            (json!({ "sub": "x".repeat(256) }), Err(OidcError::Malformed)),
        ] {
            assert_eq!(check(&change, &[]), expected, "{change}");
        }
        assert_eq!(check(&json!({ "azp": "web" }), &["web", "cli"]), Ok(()));
        assert_eq!(check(&json!({ "client_id": "cli" }), &["web", "cli"]), Ok(()));
        assert_eq!(check(&json!({ "azp": "other" }), &["web"]), Err(OidcError::Party));
        assert_eq!(check(&json!({}), &["web"]), Err(OidcError::Party));
    }

    #[test]
    fn an_address_counts_only_where_the_issuer_says_that_it_is_the_persons() {
        let email = |verified: Value| {
            let claims =
                json!({ "iss": "i", "sub": "s", "aud": "a", "exp": 1, "email": "a@x.io", "email_verified": verified });
            let claims: Claims = serde_json::from_value(claims).unwrap();
            claims.verified_email().map(str::to_owned)
        };
        assert_eq!(email(json!(true)).as_deref(), Some("a@x.io"));
        assert_eq!(email(json!("true")).as_deref(), Some("a@x.io"));
        for other in [json!(false), json!("false"), json!(null), json!("1"), json!("TRUE")] {
            assert_eq!(email(other.clone()), None, "{other}");
        }
    }

    #[test]
    fn only_tokens_of_callers_are_taken() {
        let check = |header: Value| serde_json::from_value::<Header>(header).unwrap().check();
        for good in [
            json!({ "alg": "RS256" }),
            json!({ "alg": "RS256", "typ": "JWT" }),
            json!({ "alg": "RS256", "typ": "at+jwt" }),
        ] {
            assert_eq!(check(good.clone()), Ok(()), "{good}");
        }
        for bad in [
            json!({ "alg": "RS256", "typ": "logout+jwt" }),
            json!({ "alg": "RS256", "typ": "dpop+jwt" }),
            json!({ "alg": "RS256", "crit": ["b64"], "b64": false }),
        ] {
            assert_eq!(check(bad.clone()), Err(OidcError::Type), "{bad}");
        }
    }
}
