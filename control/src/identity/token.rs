//! Access tokens, and whatever else this program signs for itself: JWT, HS256 only, signed with `ring`.
//!
//! Every token names its key (`kid`), issuer and audience, and lives for a fixed time. The newest secret signs; older ones
//! still verify, so that a secret can be changed without signing everybody out. Written on `ring` because the algorithm is
//! pinned anyway, and the JWT crate would need a process-wide crypto provider for the same few lines.

use std::time::Duration;

use authsome_core::id::{SessionId, UserId};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::{digest, hmac};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

pub(super) const ISSUER: &str = "authsome-cloud";
const AUDIENCE: &str = "authsome-control";

/// Longer than any token that is issued; nothing beyond it is parsed.
const LONGEST: usize = 2048;

/// How far `iat` may lie in the future: clocks of several machines differ.
const SKEW: i64 = 60;

/// The shortest secret, in bytes.
pub const SECRET_MIN: usize = 32;

/// Issues and checks tokens.
#[derive(Debug)]
pub struct Tokens {
    active: Key,
    older: Vec<Key>,
    lifetime: Duration,
}

/// Why a token is refused. For the log and for tests; clients read one text for all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not three parts of base64url JSON, or of absurd length.
    #[error("malformed")]
    Malformed,
    /// Any algorithm but HS256.
    #[error("algorithm is not HS256")]
    Algorithm,
    /// Signed with a secret that is not configured.
    #[error("unknown key")]
    UnknownKey,
    /// The signature does not belong to the token.
    #[error("wrong signature")]
    Signature,
    /// Another issuer, another audience, or issued in the future.
    #[error("not issued for this")]
    Claims,
    /// Too old.
    #[error("expired")]
    Expired,
}

struct Key {
    id: String,
    hmac: hmac::Key,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({})", self.id)
    }
}

impl Key {
    /// The id is derived from the secret, so that it needs no configuration and tells nothing useful of the secret.
    fn of(secret: &SecretString) -> Self {
        let secret = secret.expose_secret().as_bytes();
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(b"authsome.jwt.kid.v1");
        context.update(secret);
        let id = URL_SAFE_NO_PAD.encode(&context.finish().as_ref()[..9]);
        Self {
            id,
            hmac: hmac::Key::new(hmac::HMAC_SHA256, secret),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Header<'a> {
    alg: &'a str,
    kid: &'a str,
    #[serde(default)]
    typ: &'a str,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: UserId,
    /// The sign-in that the token belongs to.
    sid: SessionId,
    iat: i64,
    exp: i64,
}

impl Tokens {
    /// The first secret signs, all verify. Secrets shorter than [`SECRET_MIN`] are refused by the configuration.
    pub fn new(secret: &SecretString, older: &[SecretString], lifetime: Duration) -> Self {
        Self {
            active: Key::of(secret),
            older: older.iter().map(Key::of).collect(),
            lifetime,
        }
    }

    /// A token for a person's session, and when it ends. Whole seconds, as in JWT.
    pub fn issue(&self, user: UserId, session: SessionId, now: OffsetDateTime) -> (SecretString, OffsetDateTime) {
        let iat = now.unix_timestamp();
        let exp = iat.saturating_add(i64::try_from(self.lifetime.as_secs()).unwrap_or(i64::MAX));
        let claims = Claims {
            iss: ISSUER.to_owned(),
            aud: AUDIENCE.to_owned(),
            sub: user,
            sid: session,
            iat,
            exp,
        };
        (
            self.sign(&claims).into(),
            OffsetDateTime::from_unix_timestamp(exp).unwrap_or(now),
        )
    }

    /// Whose token it is, and of which sign-in.
    pub fn verify(&self, token: &str, now: OffsetDateTime) -> Result<(UserId, SessionId), TokenError> {
        let claims: Claims = self.opened(token)?;
        check(&claims.iss, &claims.aud, AUDIENCE)?;
        let now = now.unix_timestamp();
        if claims.iat > now.saturating_add(SKEW) {
            return Err(TokenError::Claims);
        }
        if claims.exp <= now {
            return Err(TokenError::Expired);
        }
        Ok((claims.sub, claims.sid))
    }

    /// Is this one of our own tokens, by its looks? Decides who is asked about it, and nothing else.
    pub fn is_own(&self, token: &str) -> bool {
        token.len() <= LONGEST
            && token.split_once('.').is_some_and(|(header, _)| {
                decode(header).is_ok_and(|header| {
                    serde_json::from_slice::<Header<'_>>(&header).is_ok_and(|header| header.alg == "HS256")
                })
            })
    }

    /// Signs any claims. They must say what they are for: one secret signs all kinds.
    pub(super) fn sign(&self, claims: &impl Serialize) -> String {
        let header = Header {
            alg: "HS256",
            kid: &self.active.id,
            typ: "JWT",
        };
        let mut token = format!("{}.{}", encode(&header), encode(claims));
        let signature = hmac::sign(&self.active.hmac, token.as_bytes());
        token.push('.');
        token.push_str(&URL_SAFE_NO_PAD.encode(signature.as_ref()));
        token
    }

    /// The claims of a text that one of our secrets signed. What they claim is for the caller to check.
    pub(super) fn opened<T: DeserializeOwned>(&self, token: &str) -> Result<T, TokenError> {
        if token.len() > LONGEST {
            return Err(TokenError::Malformed);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(TokenError::Malformed)?;
        let header = decode(header)?;
        let header: Header<'_> = serde_json::from_slice(&header).map_err(|_| TokenError::Malformed)?;
        if header.alg != "HS256" {
            return Err(TokenError::Algorithm);
        }
        let mut keys = std::iter::once(&self.active).chain(&self.older);
        let key = keys.find(|key| key.id == header.kid).ok_or(TokenError::UnknownKey)?;
        hmac::verify(&key.hmac, signed.as_bytes(), &decode(signature)?).map_err(|_| TokenError::Signature)?;
        serde_json::from_slice(&decode(claims)?).map_err(|_| TokenError::Malformed)
    }
}

/// One issuer, and the audience that is meant.
fn check(issuer: &str, audience: &str, meant: &str) -> Result<(), TokenError> {
    if issuer == ISSUER && audience == meant {
        Ok(())
    } else {
        Err(TokenError::Claims)
    }
}

fn encode(part: &impl Serialize) -> String {
    // Strings and numbers always serialise; an empty part would be refused by every verifier.
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(part).unwrap_or_default())
}

fn decode(part: &str) -> Result<Vec<u8>, TokenError> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Malformed)
}

#[cfg(test)]
mod tests {
    use authsome_core::clock::{Clock, ManualClock};
    use authsome_core::entropy::SeededEntropy;
    use serde_json::json;

    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    fn tokens(secret: &str) -> Tokens {
        Tokens::new(&secret.to_owned().into(), &[], HOUR)
    }

    fn whose(clock: &ManualClock) -> (UserId, SessionId) {
        let entropy = SeededEntropy::new(1);
        (UserId::generate(clock, &entropy), SessionId::generate(clock, &entropy))
    }

    fn forge(secret: &str, header: &serde_json::Value, claims: &serde_json::Value) -> String {
        let signed = format!("{}.{}", encode(header), encode(claims));
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let signature = URL_SAFE_NO_PAD.encode(hmac::sign(&key, signed.as_bytes()).as_ref());
        format!("{signed}.{signature}")
    }

    #[test]
    fn a_token_is_good_until_its_end_and_not_a_second_longer() {
        let clock = ManualClock::default();
        let (user, session) = whose(&clock);
        let tokens = tokens("0123456789abcdef0123456789abcdef");
        let (token, end) = tokens.issue(user, session, clock.now());
        let token = token.expose_secret();
        assert_eq!(end, clock.now() + HOUR);
        assert_eq!(tokens.verify(token, end - time::Duration::SECOND), Ok((user, session)));
        assert_eq!(tokens.verify(token, end), Err(TokenError::Expired));
        assert_eq!(tokens.verify(token, clock.now() - HOUR), Err(TokenError::Claims));
    }

    #[test]
    fn a_changed_secret_keeps_verifying_until_it_is_dropped() {
        let clock = ManualClock::default();
        let (user, session) = whose(&clock);
        let (old, new) = ("old".repeat(11), "new".repeat(11));
        let (token, _) = tokens(&old).issue(user, session, clock.now());
        let both = Tokens::new(&new.clone().into(), &[old.into()], HOUR);
        assert_eq!(both.verify(token.expose_secret(), clock.now()), Ok((user, session)));
        assert_eq!(
            tokens(&new).verify(token.expose_secret(), clock.now()),
            Err(TokenError::UnknownKey)
        );
    }

    #[test]
    fn nothing_but_our_own_hs256_is_believed() {
        let clock = ManualClock::default();
        let (user, session) = whose(&clock);
        let secret = "0123456789abcdef0123456789abcdef";
        let tokens = tokens(secret);
        let kid = tokens.active.id.clone();
        let iat = clock.now().unix_timestamp();
        let claims = json!({"iss": ISSUER, "aud": AUDIENCE, "sub": user, "sid": session, "iat": iat, "exp": iat + 60});
        let verify = |token: &str| tokens.verify(token, clock.now());

        let good = forge(secret, &json!({"alg": "HS256", "kid": kid}), &claims);
        assert_eq!(verify(&good), Ok((user, session)));
        for alg in ["none", "None", "HS512", "RS256", "hs256"] {
            let token = forge(secret, &json!({"alg": alg, "kid": kid}), &claims);
            assert_eq!(verify(&token), Err(TokenError::Algorithm), "{alg}");
        }
        let unsigned = format!("{}.", good.rsplit_once('.').unwrap().0);
        assert_eq!(verify(&unsigned), Err(TokenError::Signature));
        let other = forge(
            "another secret of thirty-two bytes",
            &json!({"alg": "HS256", "kid": kid}),
            &claims,
        );
        assert_eq!(verify(&other), Err(TokenError::Signature));
        for (claim, value) in [("iss", json!("other")), ("aud", json!("other"))] {
            let mut changed = claims.clone();
            changed[claim] = value;
            let token = forge(secret, &json!({"alg": "HS256", "kid": kid}), &changed);
            assert_eq!(verify(&token), Err(TokenError::Claims), "{claim}");
        }
        let mut foreign = claims;
        foreign["sub"] = json!("app_01h455vb4pex5vsknk084sn02q");
        assert_eq!(
            verify(&forge(secret, &json!({"alg": "HS256", "kid": kid}), &foreign)),
            Err(TokenError::Malformed)
        );
        for text in ["", ".", "..", "a.b.c", "....", &"x".repeat(LONGEST + 1)] {
            assert!(verify(text).is_err());
        }
    }
}
